"""The probes of a search: runs that are carried out as far as they are not done, and the table that they fill."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tokensieve.containers import Int64
from tokensieve.errors import TokensieveError
from tokensieve.pipeline.search_work import AGAIN, SearchWork
from tokensieve.pipeline.stages import run as run_recipe
from tokensieve.progress import StageProgress
from tokensieve.runs.folder import RunFolder
from tokensieve.runs.outcomes import Outcomes, read_outcomes
from tokensieve.search.halving import Candidate
from tokensieve.search.report import SearchReport
from tokensieve.search.search import Entry, Probe
from tokensieve.store.atomic import write_json


class Table:
    """The table of a search as it fills, and what fills it.

    Args:
        work: the search.
        report: its plan.
        progress: where each line is shown.
    """

    def __init__(self, work: SearchWork, report: SearchReport, progress: StageProgress) -> None:
        self._work, self._progress = work, progress
        self.report = dataclasses.replace(report, entries=())

    def probe(self, label: str, candidate: Candidate, steps: int, seeds: Sequence[int], /) -> Probe:
        """Train and evaluate a candidate with its controls, as far as that is not done."""
        folder = RunFolder(self._work.folder / "probes" / label.replace(" ", "-") / candidate.name)
        if (found := self._read(folder, candidate, seeds)) is not None:
            return found
        # In a rung all methods share one random control at a fraction; what is confirmed, or decides by itself how much
        # it keeps, has one of exactly its size.
        exact = not label.startswith("rung") or candidate.fraction is None
        random = {"name": "random"} if exact else {"name": "random", "fraction": candidate.fraction}
        recipe = self._work.probe_recipe(folder.path, self._work.choice(candidate), steps, seeds)
        recipe = dataclasses.replace(recipe, controls=({"name": "full"}, random))
        try:
            run_recipe(recipe, "evaluate", progress=False)
        except TokensieveError as error:
            raise TokensieveError(
                error.what, where=f"{label}, {candidate.name}; {error.where}".removesuffix("; "), hint=error.hint
            ) from error
        found = self._read(folder, candidate, seeds)
        assert found is not None
        return found

    def add(self, entry: Entry) -> None:
        """Add a line to the table, write it and show it."""
        self.report = dataclasses.replace(self.report, entries=(*self.report.entries, entry))
        write_json(self._work.file, self.report.to_json())
        self._progress.note(
            f"{entry.stage}, {entry.candidate.name}: {self.report.measure} {entry.own:.4f}, full {entry.full:.4f}, "
            f"random {entry.random:.4f} ({entry.steps:,} steps, {len(entry.seeds)} seed"
            f"{'s' if len(entry.seeds) > 1 else ''})"
        )

    def _read(self, folder: RunFolder, candidate: Candidate, seeds: Sequence[int]) -> Probe | None:
        """Return the results of a probe; None where it is not finished."""
        name = str(self._work.choice(candidate)["name"])
        arms: list[Outcomes] = []
        for arm in (name, "full", "random"):
            found = read_outcomes(folder.arm(arm), self._work.recipe.search.measure, seeds[0])
            if found is None or set(found.seeds) != set(seeds):
                return None
            arms.append(found)
        own, full, random = (one.sums for one in arms)
        counts: Int64 = arms[0].counts
        if len(counts) != len(self._work.rows.confirming) or len({one.identity for one in arms}) > 1:
            raise TokensieveError(
                "a probe was evaluated on other rows than those of the search", where=str(folder.path), hint=AGAIN
            )
        return Probe(own, full, random, counts)
