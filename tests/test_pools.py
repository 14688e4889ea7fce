"""The pools of `benchmarks/quality/pools.py`: what is marked is exactly what was added."""

from __future__ import annotations

import json
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokensieve import json_text


@pytest.fixture(scope="module")
def pools(load_benchmark) -> ModuleType:
    return load_benchmark("pools")


ANSWERS = ["It is red. So is this. And that!", "No end here", "Why? Because. It is so."]


@given(st.integers(0, 1000), st.sampled_from(["append", "insert"]), st.floats(0.05, 0.6))
@settings(deadline=None)
def test_an_answer_without_what_is_marked_is_the_clean_one(pools, seed, place, share):
    rows = [{"prompt": str(number), "response": answer} for number, answer in enumerate(ANSWERS * 4)]
    texts = [f"Noise number {number} stands here." for number in range(60)]
    made = pools.plant(rows, texts, share, place, np.random.default_rng(seed))
    assert [row["corrected"] for row in made] == [row["response"] for row in rows]
    marked = words = 0
    for row in made:
        clean = row["response"]
        for start, stop in reversed(row["spans"]):
            assert clean[start:stop] in texts
            clean = clean[: start - 1] + clean[stop:]
        assert clean == row["corrected"]
        found = pools._words(row)
        marked, words = marked + found[0], words + found[1]
    longest = 5 / words  # one text more or less
    assert abs(marked / words - share) <= longest


def test_too_few_texts_are_refused(pools):
    rows = [{"prompt": "", "response": ANSWERS[0]}] * 4
    with pytest.raises(ValueError, match=r"1 texts are too few for a share of 0\.5 of 4 answers"):
        pools.plant(rows, ["Noise."], 0.5, "append", np.random.default_rng(0))


@given(st.integers(0, 1000), st.sampled_from(["append", "insert"]))
@settings(deadline=None)
def test_each_text_is_used_once_and_stays_whole(pools, seed, place):
    rows = [{"prompt": str(number), "response": answer} for number, answer in enumerate(ANSWERS * 4)]
    # A row gets several texts, and each offers a place between two sentences to the next.
    texts = [f"Noise {number} stands. Here! So?" for number in range(200)]
    made = pools.plant(rows, texts, 0.8, place, np.random.default_rng(seed))
    found = []
    for row in made:
        assert row["spans"] == sorted(row["spans"])
        assert all(before[1] < after[0] for before, after in zip(row["spans"], row["spans"][1:], strict=False))
        found += [row["response"][start:stop] for start, stop in row["spans"]]
    assert set(found) <= set(texts)
    assert len(found) == len(set(found)) > len(rows)


def test_inserted_noise_stands_between_sentences_where_there_are_several(pools):
    rows = [{"prompt": "", "response": "One. Two. Three."}] * 40
    made = pools.plant(rows, [f"Noise{number}" for number in range(40)], 0.1, "insert", np.random.default_rng(0))
    shapes = {row["response"].split("Noise")[0] for row in made if row["spans"]}
    assert shapes == {"One. ", "One. Two. "}


@pytest.fixture
def data(tmp_path):
    """A folder of data with enough instructions and comments, and too few German sentences."""
    files = {
        "alpaca_subsets/random/random_9k.json": json.dumps(
            [
                {
                    "instruction": f"Question {n}",
                    "input": "x" * (n % 2),
                    "output": f"Answer {n}. It has " + "words " * 9,
                }
                for n in range(1100)
            ]
        ),
        "alpaca_subsets/filtered/dolly_3k.json": json.dumps(
            [{"instruction": f"Other {n}", "input": "", "output": f"Other answer {n} " + "word " * 9} for n in range(9)]
        ),
        "marked/toxic_spans.jsonl": "".join(
            json.dumps({"response": f"Note {n}\u2028" + "noise " * 40}, ensure_ascii=False) + "\n" for n in range(900)
        ),
        "marked/german_sentences.txt": "".join(f"Das ist Satz {n} mit einigen Worten.\n" for n in range(15)),
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_pool_that_cannot_be_built_is_left_out_with_its_reason(pools, data, capsys):
    built = pools.build_pools(data, data / "pools", ["german", "comments"], [0.2, 0.45], "append", 60, 20)
    assert [(path.name, facts.kind) for path, facts in built] == [
        ("comments-append-0.2-60", "comments"),
        ("comments-append-0.45-60", "comments"),
    ]
    assert [facts.word_share for _, facts in built] == pytest.approx([0.2, 0.45], abs=0.05)
    assert capsys.readouterr().out.splitlines() == [
        "german-append-0.2-60 is left out: 3 texts are too few for a share of 0.2 of 60 answers",
        "german-append-0.45-60 is left out: 3 texts are too few for a share of 0.45 of 60 answers",
    ]


def test_no_document_is_in_two_files_of_a_pool(pools, data):
    ((pool, facts),) = pools.build_pools(data, data / "pools", ["comments"], [0.3], "append", 60, 20)
    files = {path.stem: json_text.parse_lines(path.read_bytes()) for path in pool.glob("*.jsonl")}
    assert {name: len(rows) for name, rows in files.items() if "off" not in name} == {
        "pool": 60,
        "held_out": 20,
        "unwanted": 20,
        **{f"reference_{size}_{kind}": size for size in (150, 500) for kind in ("clean", "noisy")},
    }
    apart = ("pool", "held_out", "reference_500_clean", "reference_500_noisy")
    prompts = [row["prompt"].split()[1] for name in apart for row in files[name]]
    assert len(prompts) == len(set(prompts)) == 1080
    texts = [row["text"] for row in files["unwanted"]]
    noise = [row["response"][start:stop] for row in files["pool"] for start, stop in row["spans"]]
    answers = [row["response"] for row in files["reference_500_noisy"]]
    assert len(noise) == facts.noisy_rows > 0
    assert not any(text in answer for text in {*texts, *noise} for answer in answers)
    assert not set(texts) & set(noise)
    assert all(row["response"].startswith("Answer") and "noise" not in row["response"] for row in files["held_out"])
