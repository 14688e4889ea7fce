"""The demo's data: deterministic, split by fact, and noisy exactly where it says so."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tokensieve.containers import segments
from tokensieve.data.prepare import prepare
from tokensieve.data.settings import DataSettings
from tokensieve.data.tokenize import load_encoder
from tokensieve.demo import dataset
from tokensieve.demo.dataset import (
    Noise,
    Rates,
    Row,
    Sizes,
    Splits,
    generate,
    notation,
    write,
)
from tokensieve.demo.world import Fact, world

MODEL = Path(dataset.__file__).parent / "model"
NO_NOISE = Rates(
    systematic=0,
    wrong_value=0,
    opener_first_wording=0,
    opener_other_wording=0,
    closer=0,
    off_task=0,
    boilerplate=0,
)


@pytest.fixture(scope="module")
def splits() -> Splits:
    return generate(3)


def exchanges(rows: list[Row]) -> list[tuple[str, str, list[Noise]]]:
    """(question, answer, noise in the answer) of every pair of turns."""
    return [
        (
            row["messages"][index - 1]["content"],
            row["messages"][index]["content"],
            row["messages"][index].get("spans", []),
        )
        for row in rows
        for index in range(1, len(row["messages"]), 2)
    ]


def facts_by_question() -> dict[str, Fact]:
    """The fact that each question of the world asks for."""
    return {fact.fill(question): fact for fact in world() for question, _ in fact.relation.exchanges}


def clean_answer(fact: Fact) -> str:
    """The answer that the data set teaches."""
    return notation(fact, fact.value)


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    for folder, seed in (("a", 5), ("b", 5), ("c", 6)):
        write(seed, tmp_path / folder)
    for name in ("pool.jsonl", "warmup.jsonl", "test.jsonl"):
        first, second, other = ((tmp_path / x / name).read_bytes() for x in "abc")
        assert first == second
        assert first != other


def test_the_generators_have_not_drifted() -> None:
    """The published figures belong to exactly this data; the text is tied to the weights in `test_model`."""
    rows = json.dumps(generate(0))
    assert hashlib.sha256(rows.encode()).hexdigest()[:16] == "0cde6b60d4396e29"


def test_written_files_hold_the_generated_rows(tmp_path: Path, splits: Splits) -> None:
    write(3, tmp_path)
    for name, rows in splits.items():
        lines = (tmp_path / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line) for line in lines] == rows


def test_rows_alternate_and_some_have_two_turns(splits: Splits) -> None:
    for rows in (splits["pool"], splits["warmup"], splits["test"]):
        for row in rows:
            roles = [message["role"] for message in row["messages"]]
            assert roles == ["user", "assistant"] * (len(roles) // 2)
    lengths = Counter(len(row["messages"]) for row in splits["pool"])
    assert set(lengths) == {2, 4}
    assert 0.1 < lengths[4] / len(splits["pool"]) < 0.3


def test_the_world_has_one_answer_per_question() -> None:
    answers: dict[str, set[str]] = {}
    for fact in world():
        for question, answer in fact.relation.exchanges:
            assert "{v}" not in question
            assert answer.count("{v}") == 1
            answers.setdefault(fact.fill(question), set()).add(fact.fill(answer))
    assert {question: found for question, found in answers.items() if len(found) > 1} == {}


def test_clean_splits_are_clean_and_true(splits: Splits) -> None:
    truth = facts_by_question()
    for rows in (splits["warmup"], splits["test"]):
        assert not any(noise for *_, noise in exchanges(rows))
        for question, answer, _ in exchanges(rows):
            assert answer == clean_answer(truth[question])


def test_no_fact_is_in_two_splits(splits: Splits) -> None:
    truth = facts_by_question()
    facts = [
        {truth[question] for question, _, _ in exchanges(rows)}
        for rows in (splits["pool"], splits["warmup"], splits["test"])
    ]
    assert all(facts)
    assert not facts[0] & facts[1]
    assert not facts[0] & facts[2]
    assert not facts[1] & facts[2]


def test_spans_point_to_the_planted_text(splits: Splits) -> None:
    """Mending every span, and nothing else, gives back the clean answer."""
    truth = facts_by_question()
    kinds: Counter[str] = Counter()
    for question, answer, noise in exchanges(splits["pool"]):
        fact = truth[question]
        restored = answer
        for span in sorted(noise, key=lambda span: -span["start"]):
            text = answer[span["start"] : span["end"]]
            if span["type"] == "wrong-value":
                assert text in fact.relation.values
                assert text != fact.value
            else:
                assert text.endswith(".")
            assert (span["type"] == "boilerplate") == (text in dataset.BOILERPLATE)
            hint = fact.value if span["type"] == "wrong-value" else ""
            restored = restored[: span["start"]] + hint + restored[span["end"] :]
            kinds[span["type"]] += 1
        assert restored.strip() == clean_answer(fact)
    assert set(kinds) == {"wrong-value", "filler", "boilerplate"}


def test_spans_are_inside_and_disjoint(splits: Splits) -> None:
    for row in splits["pool"]:
        for message in row["messages"]:
            spans = sorted((span["start"], span["end"]) for span in message.get("spans", ()))
            if not spans:
                continue
            assert message["role"] == "assistant"
            assert spans[0][0] >= 0
            assert spans[-1][1] <= len(message["content"])
            assert all(end > start for start, end in spans)
            assert all(a[1] <= b[0] for a, b in pairwise(spans))


def test_both_sorts_of_noise_are_planted(splits: Splits) -> None:
    truth = facts_by_question()
    opened, wrong, systematic = [], [], []
    for question, answer, noise in exchanges(splits["pool"]):
        fact = truth[question]
        if question == fact.fill(fact.relation.exchanges[0][0]):
            opened.append(answer.startswith(dataset.OPENERS))
        values = [answer[span["start"] : span["end"]] for span in noise if span["type"] == "wrong-value"]
        target = dataset.SYSTEMATIC_VALUES.get(fact.relation.name)
        if target is None:
            wrong.append(bool(values))
        elif fact.value != target:
            systematic.append(values == [target])
    assert 0.5 < np.mean(opened) < 0.7
    assert 0.1 < np.mean(wrong) < 0.2
    assert np.mean(systematic) > 0.6


def test_systematic_values_are_values_of_their_relations() -> None:
    values = {fact.relation.name: fact.relation.values for fact in world()}
    assert all(value in values[name] for name, value in dataset.SYSTEMATIC_VALUES.items())


def test_rates_of_zero_plant_nothing() -> None:
    pool = generate(1, Sizes(pool=50), NO_NOISE)["pool"]
    assert not any(noise for *_, noise in exchanges(pool))


def test_noise_is_what_is_marked_of_the_tokens(splits: Splits, tmp_path: Path) -> None:
    write(3, tmp_path)
    settings = DataSettings(files=(str(tmp_path / "pool.jsonl"),))
    encoder = load_encoder(str(MODEL))
    store = prepare(settings, encoder, tmp_path / "store", lambda _: None)
    assert set(store.mark_types) == {"wrong-value", "filler", "boilerplate"}
    marked = trainable = 0
    for number, shard in enumerate(store):
        marks = store.marks(number)
        marked, trainable = marked + int((marks > 0).sum()), trainable + int((shard.labels != -100).sum())
        assert not marks[shard.labels == -100].any()
        assert not marks[np.isin(shard.input_ids, store.turn_end_ids)].any()
        for row, tokens in zip(shard.rows[:100], segments(shard.cu_seqlens), strict=False):
            answers = [(answer, noise) for _, answer, noise in exchanges([splits["pool"][row]])]
            planted = [answer[span["start"] : span["end"]] for answer, noise in answers for span in noise]
            text = encoder.tokenizer.decode(shard.input_ids[tokens][marks[tokens] > 0].tolist())
            assert "".join(text.split()) == "".join("".join(planted).split())
    assert 0.3 < marked / trainable < 0.4  # a minority that the default fraction can drop
