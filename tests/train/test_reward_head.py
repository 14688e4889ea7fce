from __future__ import annotations

import numpy as np
import pytest
import torch

from tokensieve.data.preferences import Answer, Ranking
from tokensieve.models.reward import RewardHead
from tokensieve.train.reward_head import pairs_in_order, split_rankings, train_reward_head
from tokensieve.train.settings import PreferenceSettings

CPU = torch.device("cpu")
SETTINGS = PreferenceSettings(files=("unused",), width=16, learning_rate=1e-2)


def planted(rankings: int, answers: int, size: int = 8, seed: int = 0):
    """Return rankings by the mean of the first number of the states, in two shards, and the states."""
    generator = np.random.default_rng(seed)
    shards, found, start = ([], []), [], [0, 0]
    for number in range(rankings):
        shard, made = number % 2, []
        for _ in range(generator.integers(2, answers + 1)):
            states = generator.normal(size=(generator.integers(1, 12), size)).astype(np.float32)
            places = np.arange(start[shard], start[shard] + len(states))
            shards[shard].append(states)
            start[shard] += len(states)
            made.append((states[:, 0].mean(), Answer(shard, places)))
        best_first = [answer for _, answer in sorted(made, key=lambda one: -one[0])]
        found.append(Ranking(str(number // 3), tuple(best_first)))
    joined = [np.concatenate(one) for one in shards]
    return found, joined.__getitem__


def test_a_head_learns_what_the_preferences_follow():
    rankings, states = planted(400, 3)
    trained, held_out = split_rankings(rankings, 0.25, 0)
    head = train_reward_head(states, trained, SETTINGS, CPU)
    assert pairs_in_order(head, states, held_out, CPU).mean() > 0.9
    again = train_reward_head(states, trained, SETTINGS, CPU)
    assert all(torch.equal(one, other) for one, other in zip(head.parameters(), again.parameters(), strict=True))


def test_a_head_learns_nothing_from_preferences_that_follow_nothing():
    rankings, states = planted(400, 2)
    generator = np.random.default_rng(1)
    coin = [Ranking(one.prompt, one.answers[:: generator.choice([1, -1])]) for one in rankings]
    trained, held_out = split_rankings(coin, 0.25, 0)
    head = train_reward_head(states, trained, SETTINGS, CPU)
    assert 0.35 < pairs_in_order(head, states, held_out, CPU).mean() < 0.65


def test_pairs_are_counted_as_a_loop_does():
    rankings, states = planted(40, 4, seed=3)
    same = rankings[0].answers[0]
    rankings.append(Ranking("tie", (same, same)))
    torch.manual_seed(0)
    head = RewardHead(8, 16)
    expected = []
    for one in rankings:
        means = [head(torch.from_numpy(states(a.shard)[a.places])).mean().item() for a in one.answers]
        pairs = [(means[i], means[j]) for i in range(len(means)) for j in range(i + 1, len(means))]
        expected.append(sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs))
    assert pairs_in_order(head, states, rankings, CPU).tolist() == pytest.approx(expected)
    assert expected[-1] == 0.5


def test_the_rankings_of_a_prompt_are_held_out_together():
    rankings, _ = planted(100, 2)
    trained, held_out = split_rankings(rankings, 0.2, 0)
    assert len(trained) + len(held_out) == 100
    assert not {one.prompt for one in trained} & {one.prompt for one in held_out}
    assert len({one.prompt for one in held_out}) == round(0.2 * 34)
    assert [one.prompt for one in held_out] != [one.prompt for one in split_rankings(rankings, 0.2, 1)[1]]
    assert [len(part) for part in split_rankings(rankings[:6], 0.01, 0)] == [3, 3]
