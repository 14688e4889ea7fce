"""What the words in which results are told mean: the page explains them where they stand, the terminal below."""

from __future__ import annotations

import re
from collections.abc import Iterable

TERMS = {
    "nats": (
        "The unit of loss, the negative natural logarithm of the probability that a model gives a token: 0.1 nats "
        "stand for a probability of 90 %, 1 for 37 %, 5 for 0.7 %."
    ),
    "95 % interval": "A range found in a way that covers the true value in 95 of 100 repetitions.",
    "random tokens": "A control: the same training on as many tokens, picked at random.",
    "full training": "A control: the same training on every token.",
    "held-out": "Examples that no model was trained on.",
    "exact match": "The share of questions that a model answers with the expected text.",
    "smallest visible": "Of true differences as large as this, 80 % would be found.",
    "Holm's adjustment": "Makes up for testing several differences at once, of which some look real by chance.",
    "base model": "The model before training.",
    "reference model": "A model that knows better than the base, such as the base after training on clean rows.",
    "model of the pool": "The base after training on the pool: the data that tokens are selected from, noise included.",
    "model in training": "The model while it trains; before the first step it is the base.",
    "earlier model": "The model in an earlier state of its training.",
    "unsafe model": "The base after training on harmful rows.",
    "useful model": "The base after training on useful rows.",
    "reward model": "A model that scores the tokens of an answer.",
    "entropy": "How uncertain a model is of what stands at a place: 0 where it gives one token all probability.",
    "odds": "The probability of one case divided by that of the other: 9 to 1 are 90 % against 10 %.",
}
"""By the word or words, as texts have them."""


def terms_in(texts: Iterable[str]) -> dict[str, str]:
    """Return the terms that occur in texts, with what they mean."""
    text = " ".join(texts)
    return {term: meaning for term, meaning in TERMS.items() if re.search(rf"\b{re.escape(term)}\b", text)}
