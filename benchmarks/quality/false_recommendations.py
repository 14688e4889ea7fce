"""How often `tokensieve search` recommends a selection where none pays, and how often it finds one that does.

    python benchmarks/quality/false_recommendations.py [--trials 200] [--seed 0]

Every trial is a complete search, by the code of the product: rungs, halving, confirmation. Only the trainings are
replaced, by draws from recorded ones. `probe_losses.npz` has them: english-3M, trained for 25 steps of 8 rows on 400
short rows of Alpaca with `full`, `random`, `token-cleaning`, `entropy` and `rho-1` at a fraction of 0.7 and ten seeds;
the loss of each of 200 held-out rows. Every arm is shifted to the mean of `full`, so that no selection pays; what
differs by row and by seed stays. A trial draws the rows and, for each training, the seed, with replacement.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tokensieve.evaluate.intervals import wilson
from tokensieve.search.halving import ONE_A_PROBE, Candidate, SearchPlan, plan_search
from tokensieve.search.search import Probe, SearchResult, confirm, confirms, run_search

RECORDED = Path(__file__).with_name("probe_losses.npz")
METHODS = ("token-cleaning", "entropy", "rho-1")
FRACTIONS = (0.5, 0.7, 0.3, 0.9)


@dataclass(frozen=True, eq=False)
class World:
    """Recorded trainings in which every arm has the mean of `full`.

    Attributes:
        full: float64 ``[seeds, examples]``, summed loss of each example.
        differences: by arm, float64 ``[seeds, examples]``, the arm minus `full`, with a token-weighted mean of 0.
        tokens: int64 ``[examples]``.
    """

    full: NDArray[np.float64]
    differences: dict[str, NDArray[np.float64]]
    tokens: NDArray[np.int64]


def load_world(path: Path = RECORDED) -> World:
    """Read the recorded losses and take the effects of the arms out of them."""
    with np.load(path, allow_pickle=False) as found:
        losses, tokens, arms = (found[name] for name in ("losses", "tokens", "arms"))
    losses, tokens = losses.astype(np.float64), tokens.astype(np.int64)
    by_arm = dict(zip(arms.tolist(), losses, strict=True))
    full = by_arm.pop("full")
    return World(_spread(full), {arm: _without_effect(one - full, tokens) for arm, one in by_arm.items()}, tokens)


def _spread(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values whose draws vary by seed as much as those that they are a sample of."""
    mean = values.mean(axis=0)
    return mean + (values - mean) * np.sqrt(len(values) / (len(values) - 1))


def _without_effect(differences: NDArray[np.float64], tokens: NDArray[np.int64]) -> NDArray[np.float64]:
    effect = differences.mean(axis=0).sum() / tokens.sum()
    return _spread(differences - effect * tokens)


class Trial:
    """One search in a world: draws trainings in place of carrying them out.

    Args:
        world: what is drawn from.
        seed: of the draws.
        rows: held-out rows of the search.
        gains: how much lower the loss of a candidate is than that of `full`, in nats; 0 for those that are not there.
    """

    def __init__(self, world: World, seed: int, rows: int, gains: dict[Candidate, float] | None = None) -> None:
        self._world, self._gains = world, gains or {}
        self._generator = np.random.default_rng(seed)
        self._rows = self._generator.integers(0, len(world.tokens), rows)
        self._drawn: dict[tuple[object, ...], NDArray[np.float64]] = {}
        self.confirming = confirms(self._generator.integers(0, 2**63, rows).astype(np.uint64))

    def __call__(self, label: str, candidate: Candidate, steps: int, seeds: Sequence[int], /) -> Probe:
        """Return a candidate and its controls; what several candidates share in a rung is drawn once."""
        world, tokens = self._world, self._world.tokens
        full = np.stack([self._draw((label, seed), world.full) for seed in seeds])

        def arm(recorded: str, name: object, gain: float = 0.0) -> NDArray[np.float64]:
            differences = [self._draw((label, seed, name), world.differences[recorded]) for seed in seeds]
            return (full + np.stack(differences) - gain * tokens)[:, self._rows]

        own = arm(candidate.method, candidate, self._gains.get(candidate, 0.0))
        return Probe(own, full[:, self._rows], arm("random", candidate.fraction), tokens[self._rows])

    def _draw(self, key: tuple[object, ...], recorded: NDArray[np.float64]) -> NDArray[np.float64]:
        if key not in self._drawn:
            self._drawn[key] = recorded[self._generator.integers(len(recorded))]
        return self._drawn[key]


def plan() -> SearchPlan:
    """Return the plan of a search with the defaults, over the recorded methods."""
    candidates = [Candidate(method, fraction) for fraction in FRACTIONS for method in METHODS]
    return plan_search(candidates, 3, 5, 100, ONE_A_PROBE, np.inf, str)


def search(trial: Trial) -> SearchResult:
    """Return the result of a complete search."""
    return run_search(plan(), 0, trial.confirming, True, trial, lambda _: None)


def detectable(world: World, rows: int, trials: int = 20) -> float:
    """Return the smallest effect that a confirmation finds, in nats: the median over trials without an effect."""
    fresh = plan().fresh_seeds(0)
    probes = [
        (one := Trial(world, seed, rows))("", Candidate("entropy", 0.7), 0, fresh).on(one.confirming)
        for seed in range(trials)
    ]
    return float(np.median([confirm(probe, True).detectable for probe in probes]))


def main() -> None:
    """Print how often a search without an effect recommends one, and how often a planted one is found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--rows", type=int, default=200, help="held-out rows of each search")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    world, seeds = load_world(), range(given.seed, given.seed + given.trials)
    found = [search(Trial(world, seed, given.rows)) for seed in seeds]
    false = sum(one.recommended is not None for one in found)
    confirmed = sum(one.confirmation is not None for one in found)
    low, high = wilson(false, given.trials)
    print(f"{given.trials} searches without an effect: {confirmed} reach the confirmation, {false} recommend")
    print(f"  a selection: {false / given.trials:.1%} (95 % interval {low:.1%} to {high:.1%})")
    smallest = detectable(world, given.rows)
    for times in (1, 2, 3):
        planted = Candidate("entropy", 0.7)
        hits = [search(Trial(world, seed, given.rows, {planted: times * smallest})).recommended for seed in seeds]
        right, wrong = hits.count(planted), sum(one not in (planted, None) for one in hits)
        low, high = wilson(right, given.trials)
        print(f"{times} x the detectable effect ({times * smallest:.4f} nats) for {planted.name}: recommended in")
        print(
            f"  {right / given.trials:.1%} of searches (95 % interval {low:.1%} to {high:.1%}), another one in {wrong}"
        )


if __name__ == "__main__":
    main()
