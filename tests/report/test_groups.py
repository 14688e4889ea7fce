from __future__ import annotations

import numpy as np
import pytest

from tokensieve.report.analysis.groups import CLASSES, POSITIONS, TokenClasses, answer_places, source_names, text_class


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (" the", "words"),
        ("n't", "words"),
        ("中文", "words"),
        ("42", "digits"),
        ("3.5", "digits"),
        (", ", "punctuation"),
        ("。", "punctuation"),
        ("()", "punctuation"),
        (" +=", "code and symbols"),
        ("snake_case", "code and symbols"),
        ("🙂", "code and symbols"),
        ("\n\n", "whitespace"),
        ("", "whitespace"),
        ("v2", "other"),
    ],
)
def test_the_class_of_a_text(text, kind):
    assert text_class(text) == kind
    assert kind in CLASSES


def test_classes_of_ids_know_control_tokens(tokenizer, decoder):
    classes = TokenClasses(decoder)
    ids = np.array(tokenizer.encode("hello world<|end|>", add_special_tokens=False), dtype=np.int32)
    assert [CLASSES[place] for place in classes.of(ids)] == ["words", "words", "special"]
    assert np.array_equal(classes.of(ids[::-1]), classes.of(ids)[::-1])
    assert classes.of(ids[:0]).tolist() == []


def test_places_count_from_the_start_of_each_answer():
    trainable = np.array([0, 1, 1, 0, 1, 1, 1, 1, 1], dtype=bool)
    places = answer_places(trainable, np.array([0, 5, 9]))
    # Two tokens, then one up to the end of the example, then four of the next example.
    assert [POSITIONS[place] for place in places] == ["1", "2 to 3", "1", "1", "2 to 3", "2 to 3", "4 to 7"]


def test_places_of_empty_examples_and_of_none():
    assert answer_places(np.array([True]), np.array([0, 0, 1, 1])).tolist() == [0]
    assert answer_places(np.zeros(0, dtype=bool), np.array([0])).tolist() == []


def test_sources_lose_the_folders_that_they_share():
    assert source_names(["/a/b/c.jsonl", "/a/d.jsonl", "web"]) == ["b/c.jsonl", "d.jsonl", "web"]
    assert source_names(["/a/b/c.jsonl"]) == ["c.jsonl"]
    assert source_names([]) == []
