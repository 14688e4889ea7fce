"""The plain text about the demo's world, on which the demo model is pretrained.

The corpus states facts, and contains questions about them in prose. In the chat format it has only small talk, never an
answer: a model trained on it knows the answers, but does not give them in a chat.

Everything here is a pure function of its seed and uses only `random.Random` methods whose results
are the same on every platform and Python version that the project supports.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from tokensieve.demo.words import (
    DAYS,
    MONTHS,
    OBJECTS,
    PEOPLE,
    ROOMS,
    SMALL_TALK,
)
from tokensieve.demo.world import LARGEST_COUNT, Fact, world


def state(fact: Fact, rng: random.Random) -> str:
    """One of the sentences that state `fact`."""
    return fact.fill(rng.choice(fact.relation.statements))


def paragraph_of_facts(rng: random.Random) -> str:
    """Unrelated facts, one sentence each."""
    return " ".join(state(fact, rng) for fact in rng.sample(world(), rng.randint(4, 9)))


def paragraph_on_subject(rng: random.Random) -> str:
    """Several facts about one subject."""
    subject = rng.choice(world()).subject
    facts = [fact for fact in world() if fact.subject == subject]
    rng.shuffle(facts)
    return " ".join(state(fact, rng) for fact in facts[:6])


def paragraph_of_card(rng: random.Random) -> str:
    """All facts about one subject, as on an index card."""
    subject = rng.choice(world()).subject
    facts = [fact for fact in world() if fact.subject == subject]
    rng.shuffle(facts)
    lines = "\n".join(f"{fact.relation.name} is {fact.value};" for fact in facts)
    return f"Card of {subject}:\n{lines}"


def paragraph_of_counting(rng: random.Random) -> str:
    """Consecutive numbers, days or months."""
    if rng.random() < 0.5:
        start = rng.randint(0, LARGEST_COUNT - 8)
        return "We count: " + ", ".join(str(n) for n in range(start, start + 8)) + "."
    names = rng.choice((DAYS, MONTHS))
    start = rng.randrange(len(names))
    return "We say: " + ", ".join(names[(start + i) % len(names)] for i in range(5)) + "."


def paragraph_of_story(rng: random.Random) -> str:
    """A short narrative with small talk; the facts in it hold in the world."""
    first, second = rng.sample(PEOPLE, 2)
    place, thing = rng.choice(ROOMS), rng.choice(OBJECTS)
    return " ".join(
        (
            f"{first} meets {second} in the {place}.",
            f'{first} says: "{rng.choice(SMALL_TALK)}."',
            f"{second} looks at the {thing}.",
            state(rng.choice(world()), rng),
            f'{second} says: "{rng.choice(SMALL_TALK)}."',
        )
    )


def paragraph_of_questions(rng: random.Random) -> str:
    """Questions with their answers, in one of several prose styles."""
    first, second = rng.sample(PEOPLE, 2)
    before, between, after = rng.choice(
        (
            ("", " ", ""),
            ("Question: ", " Answer: ", ""),
            (f'{first} asks: "', f'" {second} says: "', '"'),
        )
    )
    sentences = []
    for fact in rng.sample(world(), rng.randint(2, 4)):
        question, answer = rng.choice(fact.relation.exchanges)
        sentences.append(before + fact.fill(question) + between + fact.fill(answer) + after)
    return " ".join(sentences)


def paragraph_of_lookups(rng: random.Random) -> str:
    """Questions, each answered from an index card."""
    lookups = []
    for fact in rng.sample(world(), rng.randint(2, 4)):
        question, _ = rng.choice(fact.relation.exchanges)
        entry = f"{fact.relation.name} is {fact.value};"
        lookups.append(f"{fact.fill(question)} Card of {fact.subject}:\n{entry}")
    return "\n".join(lookups)


def paragraph_of_codes(rng: random.Random) -> str:
    """Arbitrary pairs: the only text that uses `=`, which therefore carries no information."""
    words = sorted({fact.value for fact in world()})
    things = rng.sample(OBJECTS, rng.randint(2, 4))
    lines = " ".join(f"{thing} = {rng.choice(words)};" for thing in things)
    return f"Codes of the day ({rng.choice(DAYS)}): {lines}"


def paragraph_of_chat(rng: random.Random) -> str:
    """Small talk in the chat format, one or two exchanges long, without answers to questions."""
    turns = "".join(
        f"<|user|>{rng.choice(SMALL_TALK)}.<|end|><|assistant|>{rng.choice(SMALL_TALK)}.<|end|>"
        for _ in range(rng.randint(1, 2))
    )
    return f"<|system|>{rng.choice(SMALL_TALK)}.<|end|>{turns}" if rng.random() < 0.2 else turns


PARAGRAPHS: tuple[tuple[float, Callable[[random.Random], str]], ...] = (
    (0.22, paragraph_of_facts),
    (0.08, paragraph_on_subject),
    (0.10, paragraph_of_card),
    (0.02, paragraph_of_counting),
    (0.05, paragraph_of_codes),
    (0.08, paragraph_of_story),
    (0.24, paragraph_of_questions),
    (0.15, paragraph_of_lookups),
    (0.06, paragraph_of_chat),
)


def paragraphs(seed: int, count: int) -> Iterator[str]:
    """`count` paragraphs of text about the world, the same ones for the same seed."""
    rng = random.Random(seed)
    for _ in range(count):
        draw = rng.random()
        for share, write in PARAGRAPHS:
            if draw < share:
                yield write(rng)
                break
            draw -= share
        else:
            yield PARAGRAPHS[0][1](rng)
