"""Trains a head that gives each token a reward, from rankings of answers (Yang et al., 2023, arXiv 2306.00398).

The reward of an answer is the mean of its tokens' rewards. The loss is that of `ops.list_mle` on the rewards of the
answers of a prompt, times the mean number of tokens of these answers, as the authors scale it: rewards lie between 0
and 1, and without a factor no ranking could become likely.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tokensieve.data.preferences import Ranking
from tokensieve.models.reward import RewardHead
from tokensieve.ops.list_mle import list_mle
from tokensieve.train.settings import PreferenceSettings

States = Callable[[int], NDArray[np.float32]]
"""Gives float32 ``[tokens, size]``, the hidden states of a shard."""

_RANKINGS_AT_ONCE = 32
_WEIGHT_DECAY = 0.01


def split_rankings(rankings: Sequence[Ranking], held_out: float, seed: int) -> tuple[list[Ranking], list[Ranking]]:
    """Return the rankings to train on and those held out; rankings of one prompt stay together.

    Args:
        rankings: all of them.
        held_out: share of the prompts that are held out; rounded, and at least one of two or more.
        seed: of the choice.
    """
    prompts = sorted({one.prompt for one in rankings})
    count = min(max(1, round(held_out * len(prompts))), len(prompts) - 1)
    chosen = np.random.default_rng(seed).permutation(len(prompts))[:count]
    out = {prompts[number] for number in chosen}
    return [one for one in rankings if one.prompt not in out], [one for one in rankings if one.prompt in out]


def train_reward_head(
    states: States,
    rankings: Sequence[Ranking],
    settings: PreferenceSettings,
    device: torch.device,
) -> RewardHead:
    """Return a head that was trained to rank answers.

    Args:
        states: the hidden states of each shard.
        rankings: what to train on.
        settings: epochs and so on.
        device: where to train.
    """
    size = states(rankings[0].answers[0].shard).shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        head = RewardHead(size, settings.width).to(device)
    optimizer = torch.optim.AdamW(head.parameters(), settings.learning_rate, weight_decay=_WEIGHT_DECAY)
    generator = np.random.default_rng(settings.seed)
    for _ in range(settings.epochs):
        for batch in _batches([rankings[number] for number in generator.permutation(len(rankings))]):
            scores, there, lengths = _answer_rewards(head, states, batch, device)
            loss = list_mle(scores * (lengths.sum(-1) / there.sum(-1))[:, None], there).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return head.eval().requires_grad_(False)


@torch.inference_mode()
def pairs_in_order(
    head: RewardHead, states: States, rankings: Sequence[Ranking], device: torch.device
) -> NDArray[np.float64]:
    """Return float64 ``[rankings]``: the share of each ranking's pairs that a head orders as it does; ties half."""
    found = []
    for batch in _batches(rankings):
        scores, there, _ = _answer_rewards(head, states, batch, device)
        pairs = (there[:, :, None] & there[:, None, :]).triu(1).double()
        ahead = (scores[:, :, None] - scores[:, None, :]).double().sign() / 2 + 0.5
        found.append(((ahead * pairs).sum((1, 2)) / pairs.sum((1, 2))).cpu().numpy())
    return np.concatenate(found)


def _batches(rankings: Sequence[Ranking]) -> Iterator[Sequence[Ranking]]:
    return (rankings[start : start + _RANKINGS_AT_ONCE] for start in range(0, len(rankings), _RANKINGS_AT_ONCE))


def _answer_rewards(
    head: RewardHead, states: States, rankings: Sequence[Ranking], device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the reward of each answer, which answers there are, and their lengths: ``[rankings, answers]`` each."""
    answers = [answer for one in rankings for answer in one.answers]
    flat = np.concatenate([states(answer.shard)[answer.places] for answer in answers])
    lengths = torch.tensor([len(answer.places) for answer in answers], device=device)
    means = torch.segment_reduce(head(torch.from_numpy(flat).to(device)), "mean", lengths=lengths)
    counts = torch.tensor([len(one.answers) for one in rankings], device=device)
    there = torch.arange(int(counts.max()), device=device) < counts[:, None]
    blank = means.new_zeros(there.shape)
    return blank.masked_scatter(there, means), there, blank.masked_scatter(there, lengths.to(means.dtype))
