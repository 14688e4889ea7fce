from __future__ import annotations

from dataclasses import replace

import pytest

from tokensieve.methods import all_methods, get_method
from tokensieve.report.causes import causes, words_of
from tokensieve.report.facts import score_in_words
from tokensieve.report.terms import terms_in
from tokensieve.runs.view import load_run
from tokensieve.select.selection import Selection

HELD = ("base.loss", "base.entropy", "reference.loss", "pool.loss", "unsafe.loss", "utility.loss")


@pytest.fixture
def selection(demo):
    """Return a function that gives the selection of a method."""
    own = load_run(demo.folder).row("token-cleaning").selection
    assert own is not None

    def of(name: str, **parameters) -> Selection:
        return replace(own, identity=replace(own.identity, method=name, parameters=parameters))

    return of


@pytest.mark.parametrize(
    ("method", "values", "words"),
    [
        ("token-cleaning", ["reference.loss", "base.loss"], ["the reference model", "the base model"]),
        ("rho-1", ["reference.loss", "base.loss"], ["the reference model", "the base model"]),
        ("toss", ["unsafe.loss", "utility.loss"], ["the unsafe model", "the useful model"]),
    ],
)
def test_two_losses_are_compared(selection, method, values, words):
    assert causes(selection(method), HELD) == [{"kind": "compare", "values": values, "words": words}]


def test_a_method_that_decides_on_spans_tells_of_the_span_too(selection):
    compared, span = causes(selection("span-ratio"), HELD)
    values, models = ["reference.loss", "pool.loss"], ["the reference model", "the model of the pool"]
    assert compared == {"kind": "compare", "values": values, "words": models}
    assert span == {"kind": "span", "values": values, "words": [*models, "noise"], "margin": 0.25}
    assert {"nats", "reference model", "model of the pool", "odds"} <= terms_in(words_of([compared, span])).keys()


def test_one_loss_is_told_and_the_model_in_training_is_the_base_before_the_first_step(selection):
    (cause,) = causes(selection("profit"), HELD)
    assert cause == {"kind": "loss", "values": ["base.loss"], "words": ["the model in training"]}


def test_every_method_has_a_cause_and_says_what_its_score_means(selection):
    for name in all_methods():
        assert causes(selection(name), HELD)
        assert score_in_words(selection(name)).endswith(".")


def test_a_method_that_says_nothing_of_its_score_has_its_formula(selection, monkeypatch):
    monkeypatch.setattr(type(get_method("loss")), "meaning", "")
    assert score_in_words(selection("loss")).startswith(
        "The score is loss_base, or its negative; a token with a higher"
    )


def test_a_method_that_is_not_installed_is_told_so(selection):
    (cause,) = causes(selection("of-another-package"), HELD)
    assert cause["words"] == [
        "What the score of of-another-package means is not known here: its package is not installed."
    ]
