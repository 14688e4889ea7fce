"""The demo's world: closed, consistent, and invented.

People, objects, animals and towns with attributes, opposites, calendars and small arithmetic. Every fact is a `Fact` of
a `Relation`, which defines how its facts are stated in text, and how they are asked for and answered.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from tokensieve.demo.words import (
    ANIMALS,
    COLOURS,
    DAYS,
    DIETS,
    DRINKS,
    FOODS,
    HABITATS,
    INSTRUMENTS,
    JOBS,
    MATERIALS,
    MONTHS,
    OBJECTS,
    OPPOSITES,
    PEOPLE,
    RIVERS,
    ROOMS,
    TOWNS,
    TRADES,
)

WORLD_SEED = 20_250
LARGEST_ADDEND = 10
LARGEST_COUNT = 30


@dataclass(frozen=True)
class Relation:
    """A kind of fact: its wording, and the values that a fact of this kind can take.

    `statements` and the (question, answer) pairs in `exchanges` contain the fields {s} (subject) and
    {v} (value). A question never contains {v}; an answer contains it once.
    """

    name: str
    statements: tuple[str, ...]
    exchanges: tuple[tuple[str, str], ...]
    values: tuple[str, ...]


@dataclass(frozen=True)
class Fact:
    """One truth about the world: `subject` has `value` under `relation`."""

    relation: Relation
    subject: str
    value: str

    def fill(self, template: str, value: str | None = None) -> str:
        """`template`, filled with the subject and the value (or another `value`)."""
        return template.replace("{s}", self.subject).replace("{v}", value or self.value)


def relation(name: str, values: Sequence[str], *exchanges: tuple[str, str]) -> Relation:
    """A relation whose statements are its answers."""
    return Relation(name, tuple(answer for _, answer in exchanges), exchanges, tuple(values))


PERSON_RELATIONS = (
    relation(
        "town",
        TOWNS,
        ("Where does {s} live?", "{s} lives in {v}."),
        ("In which town is the house of {s}?", "The house of {s} is in {v}."),
    ),
    relation(
        "job",
        JOBS,
        ("What is the job of {s}?", "The job of {s} is {v}."),
        ("What does {s} do for work?", "{s} works as a {v}."),
    ),
    relation(
        "pet",
        ANIMALS[:10],
        ("Which pet does {s} have?", "{s} has a pet {v}."),
        ("Tell me about the pet of {s}.", "The pet of {s} is a {v}."),
    ),
    relation(
        "likes",
        COLOURS,
        ("Which colour does {s} like?", "{s} likes the colour {v}."),
        ("Name the best colour for {s}.", "The best colour for {s} is {v}."),
    ),
    relation(
        "food",
        FOODS,
        ("What does {s} like to eat?", "{s} likes to eat {v}."),
        ("Name the food that {s} buys.", "{s} buys {v}."),
    ),
    relation(
        "drink",
        DRINKS,
        ("What does {s} drink?", "{s} drinks {v}."),
        ("Name the drink that {s} wants.", "The drink that {s} wants is {v}."),
    ),
    relation(
        "music",
        INSTRUMENTS,
        ("Which instrument does {s} play?", "{s} plays the {v}."),
        ("Tell me about the music of {s}.", "The music of {s} comes from the {v}."),
    ),
)
OBJECT_RELATIONS = (
    relation(
        "colour",
        COLOURS,
        ("What colour is the {s}?", "The {s} is {v}."),
        ("Name the colour of the {s}.", "The colour of the {s} is {v}."),
    ),
    relation(
        "material",
        MATERIALS,
        ("What is the {s} made of?", "The {s} is made of {v}."),
        ("Name the material of the {s}.", "The material of the {s} is {v}."),
    ),
    relation(
        "room",
        ROOMS,
        ("Where is the {s}?", "The {s} is in the {v}."),
        ("In which room do we keep the {s}?", "We keep the {s} in the {v}."),
    ),
)
ANIMAL_RELATIONS = (
    relation(
        "habitat",
        HABITATS,
        ("Where does the {s} sleep?", "The {s} sleeps in the {v}."),
        ("Name the home of the {s}.", "The home of the {s} is the {v}."),
    ),
    relation(
        "diet",
        DIETS,
        ("What does the {s} eat?", "The {s} eats {v}."),
        ("Name the food of the {s}.", "The food of the {s} is {v}."),
    ),
)
TOWN_RELATIONS = (
    relation(
        "river",
        RIVERS,
        ("Which river runs through {s}?", "The river {v} runs through {s}."),
        ("On which river is {s}?", "{s} is on the river {v}."),
    ),
    relation(
        "trade",
        TRADES,
        ("What is {s} known for?", "{s} is known for {v}."),
        ("What do they make in {s}?", "They make {v} in {s}."),
    ),
)
OPPOSITE = relation(
    "opposite",
    [word for pair in OPPOSITES for word in pair.split("/")],
    ("What is the opposite of {s}?", "The opposite of {s} is {v}."),
    ("Give me a word that is not {s}.", "A word that is not {s} is {v}."),
)
NEXT_NUMBER = relation(
    "next",
    [str(n) for n in range(LARGEST_COUNT + 2)],
    ("Which number comes after {s}?", "The number after {s} is {v}."),
    ("Count on from {s}.", "After {s} comes {v}."),
)
NEXT_NAME = relation(
    "next",
    [*DAYS, *MONTHS],
    ("What comes after {s}?", "After {s} comes {v}."),
)
SUM = relation(
    "sum",
    [str(n) for n in range(2 * LARGEST_ADDEND + 1)],
    ("What is {s}?", "{s} is {v}."),
    ("Work out {s} for me.", "The result of {s} is {v}."),
)
RELATIONS = (
    *PERSON_RELATIONS,
    *OBJECT_RELATIONS,
    *ANIMAL_RELATIONS,
    *TOWN_RELATIONS,
    OPPOSITE,
    NEXT_NUMBER,
    NEXT_NAME,
    SUM,
)


@cache
def world() -> tuple[Fact, ...]:
    """Every fact of the world, in a fixed order. The same on every call and every machine."""
    rng = random.Random(WORLD_SEED)
    facts: list[Fact] = []
    for subjects, relations in (
        (PEOPLE, PERSON_RELATIONS),
        (OBJECTS, OBJECT_RELATIONS),
        (ANIMALS, ANIMAL_RELATIONS),
        (TOWNS, TOWN_RELATIONS),
    ):
        for kind in relations:
            facts += [Fact(kind, subject, rng.choice(kind.values)) for subject in subjects]
    for pair in OPPOSITES:
        left, right = pair.split("/")
        facts += [Fact(OPPOSITE, left, right), Fact(OPPOSITE, right, left)]
    facts += [Fact(NEXT_NUMBER, str(n), str(n + 1)) for n in range(LARGEST_COUNT + 1)]
    for names in (DAYS, MONTHS):
        facts += [Fact(NEXT_NAME, name, names[(i + 1) % len(names)]) for i, name in enumerate(names)]
    numbers = range(LARGEST_ADDEND + 1)
    facts += [Fact(SUM, f"{a} plus {b}", str(a + b)) for a in numbers for b in numbers]
    facts += [Fact(SUM, f"{a} minus {b}", str(a - b)) for a in numbers for b in numbers if b <= a]
    return tuple(facts)
