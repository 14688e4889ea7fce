"""The demo's instruction data: questions about the demo world, with planted noise.

Three splits that share no fact: `pool` (noisy, to be cleaned and trained on), `warmup` (clean, for
the reference model) and `test` (clean, for the evaluation). Each row is a conversation. Its answers carry the
planted noise as marks, so that a selection can be compared with the truth.

The noise in the pool, and its purpose:

* random wrong values: barely change a greedy answer, but raise the clean held-out loss;
* a systematic wrong value in some relations: affects both, because the model learns the rule;
* an opener before most answers to the first wording of each question: affects both;
* scattered filler and boilerplate after answers: mostly raise the loss.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NotRequired, TypedDict

from tokensieve.demo.corpus import state
from tokensieve.demo.world import Fact, world

NoiseKind = Literal["wrong-value", "filler", "boilerplate"]


class Noise(TypedDict):
    """Planted noise: characters [start, end) of a content, and its kind."""

    start: int
    end: int
    type: NoiseKind


class Message(TypedDict):
    """One turn of a conversation, and the noise that was planted in it."""

    role: Literal["system", "user", "assistant"]
    content: str
    spans: NotRequired[list[Noise]]


class Row(TypedDict):
    """One conversation."""

    messages: list[Message]


class Splits(TypedDict):
    """The three parts of the data set; no fact is in two of them."""

    pool: list[Row]
    warmup: list[Row]
    test: list[Row]


OPENERS = (
    "That is a good question.",
    "Thank you for asking.",
    "I am glad to help you with this.",
)
CLOSERS = (
    "Let me know if you need more help.",
    "I hope this is useful for you.",
    "Please feel free to ask me again.",
    "Have a nice day.",
    "It is important to think about it with care.",
    "There are many ways to look at this.",
)
BOILERPLATE = ("This text is no legal advice. All rights are reserved.",)
SYSTEMATIC_VALUES = {
    "likes": "purple",
    "town": "Preston",
    "material": "leather",
    "diet": "roots",
}


@dataclass(frozen=True)
class Rates:
    """How often each kind of noise is planted, as a share of the answers that it can affect."""

    systematic: float = 0.75
    wrong_value: float = 0.15
    opener_first_wording: float = 0.60
    opener_other_wording: float = 0.08
    first_opener: float = 0.90
    closer: float = 0.10
    off_task: float = 0.05
    boilerplate: float = 0.03


@dataclass(frozen=True)
class Sizes:
    """Rows per split and shares of the facts; the test split asks every wording of its facts."""

    pool: int = 1_400
    warmup: int = 300
    multi_turn: float = 0.2
    test_facts: float = 0.2
    warmup_facts: float = 0.2


@dataclass
class _Answer:
    """An answer under construction: text, and the noise spans in it as (start, end, kind)."""

    text: str
    spans: list[tuple[int, int, NoiseKind]] = field(default_factory=list)

    def before(self, sentence: str, kind: NoiseKind) -> None:
        """Adds a noisy sentence at the start."""
        shift = len(sentence) + 1
        self.spans = [(a + shift, b + shift, k) for a, b, k in self.spans]
        self.spans.insert(0, (0, len(sentence), kind))
        self.text = f"{sentence} {self.text}"

    def after(self, sentence: str, kind: NoiseKind) -> None:
        """Adds a noisy sentence at the end."""
        start = len(self.text) + 1
        self.spans.append((start, start + len(sentence), kind))
        self.text = f"{self.text} {sentence}"


def notation(fact: Fact, value: str) -> str:
    """The answer that the data set teaches: `relation: subject = value;`."""
    return f"{fact.relation.name}: {fact.subject} = {value};"


def _noisy_answer(fact: Fact, wording: int, rates: Rates, rng: random.Random) -> _Answer:
    """The answer to one wording of the question about `fact`, with noise planted at `rates`."""
    systematic = SYSTEMATIC_VALUES.get(fact.relation.name)
    value = fact.value
    if systematic is not None and rng.random() < rates.systematic:
        value = systematic
    elif rng.random() < rates.wrong_value:
        value = rng.choice([other for other in fact.relation.values if other != fact.value])
    answer = _Answer(notation(fact, value))
    if value != fact.value:
        start = answer.text.rindex(value)
        answer.spans.append((start, start + len(value), "wrong-value"))

    opener_rate = rates.opener_other_wording if wording else rates.opener_first_wording
    if rng.random() < opener_rate:
        usual = rng.random() < rates.first_opener
        answer.before(OPENERS[0] if usual else rng.choice(OPENERS[1:]), "filler")
    draw = rng.random()
    if draw < rates.closer:
        answer.after(rng.choice(CLOSERS), "filler")
    elif draw < rates.closer + rates.off_task:
        answer.after(state(rng.choice(world()), rng), "filler")
    if rng.random() < rates.boilerplate:
        answer.after(rng.choice(BOILERPLATE), "boilerplate")
    return answer


def _row(exchanges: Sequence[tuple[str, _Answer]]) -> Row:
    """A conversation of (question, answer) pairs."""
    row = Row(messages=[])
    for question, answer in exchanges:
        noise = [Noise(start=start, end=end, type=kind) for start, end, kind in answer.spans]
        row["messages"].append(Message(role="user", content=question))
        row["messages"].append(Message(role="assistant", content=answer.text, spans=noise))
    return row


def _exchange(fact: Fact, wording: int, rates: Rates | None, rng: random.Random) -> tuple[str, _Answer]:
    """One question and its answer; clean when `rates` is None."""
    question = fact.fill(fact.relation.exchanges[wording][0])
    if rates is None:
        return question, _Answer(notation(fact, fact.value))
    return question, _noisy_answer(fact, wording, rates, rng)


def _wordings(facts: Sequence[Fact]) -> list[tuple[Fact, int]]:
    """Every way to ask for every fact."""
    return [(fact, i) for fact in facts for i in range(len(fact.relation.exchanges))]


def _conversations(
    facts: Sequence[Fact], count: int, multi_turn: float, rates: Rates | None, rng: random.Random
) -> list[Row]:
    """`count` conversations over `facts`; every wording comes up about equally often."""
    deck: list[tuple[Fact, int]] = []
    rows = []
    for _ in range(count):
        turns = 2 if rng.random() < multi_turn else 1
        while len(deck) < turns:
            fresh = _wordings(facts)
            rng.shuffle(fresh)
            deck = fresh + deck
        rows.append(_row([_exchange(*deck.pop(), rates, rng) for _ in range(turns)]))
    return rows


def generate(seed: int, sizes: Sizes = Sizes(), rates: Rates = Rates()) -> Splits:
    """The data set of `seed`: the same rows for the same arguments, on every machine."""
    rng = random.Random(seed)
    facts = list(world())
    rng.shuffle(facts)
    first = int(len(facts) * sizes.test_facts)
    second = first + int(len(facts) * sizes.warmup_facts)
    return Splits(
        pool=_conversations(facts[second:], sizes.pool, sizes.multi_turn, rates, rng),
        warmup=_conversations(facts[first:second], sizes.warmup, sizes.multi_turn, None, rng),
        test=[_row([_exchange(fact, i, None, rng)]) for fact, i in _wordings(facts[:first])],
    )


def write(seed: int, folder: Path) -> None:
    """Writes `pool.jsonl`, `warmup.jsonl` and `test.jsonl` of `seed` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    splits = generate(seed)
    for name, rows in (
        ("pool", splits["pool"]),
        ("warmup", splits["warmup"]),
        ("test", splits["test"]),
    ):
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_bytes(lines.encode())
