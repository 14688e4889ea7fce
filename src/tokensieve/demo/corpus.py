"""The demo's world and the plain text about it that the demo model is pre-trained on.

The world is closed and consistent: people, objects, animals and towns with attributes, opposites,
calendars and small arithmetic. Every fact is a `Fact` of a `Relation`; a relation knows how its
facts are stated in text and how they are asked for and answered. The corpus states facts, and has
people ask for them in prose. In the chat format it shows small talk alone, never an answer: a model
trained on it knows the answers, but chats without giving them.

Everything here is a pure function of its seed and uses only `random.Random` methods whose results
are the same on every platform and Python version that the project supports.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

WORLD_SEED = 20_250

PEOPLE = [
    "Anna",
    "Boris",
    "Clara",
    "David",
    "Elena",
    "Felix",
    "Greta",
    "Henry",
    "Irene",
    "Jonas",
    "Karin",
    "Louis",
    "Maria",
    "Nadia",
    "Oscar",
    "Paula",
    "Quinn",
    "Robin",
    "Sarah",
    "Tomas",
    "Ursula",
    "Victor",
    "Wanda",
    "Xaver",
    "Yvonne",
    "Zoe",
    "Albert",
    "Bianca",
    "Conrad",
    "Dora",
    "Edgar",
    "Flora",
    "Gustav",
    "Hilda",
    "Ivan",
    "Julia",
]
TOWNS = [
    "Arden",
    "Brook",
    "Corby",
    "Dover",
    "Elton",
    "Foxton",
    "Gorley",
    "Harlow",
    "Ilford",
    "Jarrow",
    "Kelso",
    "Luton",
    "Morley",
    "Norton",
    "Oakham",
    "Preston",
]
OBJECTS = [
    "cup",
    "box",
    "lamp",
    "chair",
    "table",
    "spoon",
    "bottle",
    "basket",
    "coat",
    "hat",
    "shoe",
    "clock",
    "mirror",
    "pencil",
    "ladder",
    "hammer",
    "bucket",
    "brush",
    "blanket",
    "pillow",
    "kettle",
    "plate",
    "bell",
    "drum",
    "kite",
    "wheel",
    "ring",
    "key",
    "book",
    "candle",
    "rope",
    "tent",
]
ANIMALS = [
    "dog",
    "cat",
    "cow",
    "horse",
    "sheep",
    "goat",
    "pig",
    "duck",
    "hen",
    "frog",
    "owl",
    "bee",
    "wolf",
    "bear",
    "fox",
    "mouse",
    "lion",
    "whale",
    "eagle",
    "snake",
    "rabbit",
    "deer",
    "otter",
    "crow",
]
JOBS = [
    "baker",
    "teacher",
    "doctor",
    "farmer",
    "painter",
    "driver",
    "singer",
    "writer",
    "nurse",
    "pilot",
    "tailor",
    "miller",
    "sailor",
    "lawyer",
    "gardener",
    "builder",
]
COLOURS = ["red", "blue", "green", "yellow", "black", "white", "brown", "orange", "purple", "grey"]
FOODS = [
    "bread",
    "cheese",
    "rice",
    "soup",
    "apples",
    "plums",
    "honey",
    "fish",
    "beans",
    "nuts",
    "cake",
    "carrots",
]
DRINKS = ["tea", "coffee", "milk", "water", "juice", "cocoa", "lemonade", "cider"]
INSTRUMENTS = ["piano", "violin", "flute", "guitar", "trumpet", "harp", "cello", "organ"]
MATERIALS = ["wood", "iron", "glass", "paper", "cotton", "stone", "leather", "silver"]
ROOMS = ["kitchen", "garden", "cellar", "attic", "hall", "bedroom", "garage", "office"]
HABITATS = ["forest", "river", "field", "mountain", "desert", "lake", "meadow", "cave"]
DIETS = ["grass", "seeds", "meat", "leaves", "insects", "roots", "berries", "grain"]
RIVERS = ["Tarn", "Wye", "Ouse", "Lune", "Nene", "Avon", "Tees", "Dart"]
TRADES = ["wool", "salt", "pottery", "clocks", "boats", "carpets", "bricks", "lace"]
OPPOSITES = [
    "hot/cold",
    "big/small",
    "tall/short",
    "fast/slow",
    "light/dark",
    "wet/dry",
    "old/new",
    "rich/poor",
    "loud/quiet",
    "early/late",
    "full/empty",
    "hard/soft",
    "strong/weak",
    "open/shut",
    "thick/thin",
    "happy/sad",
    "clean/dirty",
    "near/far",
    "deep/shallow",
    "sharp/blunt",
    "sweet/sour",
    "smooth/rough",
    "wide/narrow",
    "right/wrong",
]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
LARGEST_ADDEND = 10
LARGEST_COUNT = 30

SMALL_TALK = (
    "That is a good question",
    "I am glad to help you with this",
    "Let me know if you need more help",
    "I hope this is useful for you",
    "Thank you for asking",
    "Have a nice day",
    "As we all know, it is good to ask",
    "Please feel free to ask me again",
    "It is important to think about it with care",
    "There are many ways to look at this",
    "This text is no legal advice",
    "All rights are reserved",
)


@dataclass(frozen=True)
class Relation:
    """A kind of fact: its wording, and the values that a fact of this kind can take.

    `statements` and the pairs (question, answer) in `exchanges` hold the fields {s} (subject) and
    {v} (value). A question never holds {v}; an answer holds it once.
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
        """`template` with the subject and the value (or another `value`) put in."""
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
    """What there is to know about one subject, as on an index card."""
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
    """Questions, each with its answer, in one of the ways that prose has for it."""
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


def paragraph_of_stock(rng: random.Random) -> str:
    """A count of the things in a room; the one place where the text uses brackets and `=`."""
    things = rng.sample(OBJECTS, rng.randint(2, 4))
    lines = " ".join(f"{thing} = {rng.randint(1, LARGEST_COUNT)};" for thing in things)
    return f"Stock of the {rng.choice(ROOMS)} ({rng.choice(DAYS)}): {lines}"


def paragraph_of_chat(rng: random.Random) -> str:
    """Small talk in the chat format, of one or two exchanges; no question is answered in it."""
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
    (0.05, paragraph_of_stock),
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
