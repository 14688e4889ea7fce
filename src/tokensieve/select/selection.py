"""What an arm selected, as its ``selection.json`` holds it: what it was made from, and what came out."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError

from tokensieve.errors import TokensieveError
from tokensieve.ops.rules import DropFraction, Rule, Threshold, TopCount, TopExamples, TopFraction
from tokensieve.store import fingerprint
from tokensieve.store.manifest import LAYOUT, check_layout
from tokensieve.store.sealed import read_sealed, write_sealed

IMPORTED = "imported"
"""The method of an arm whose scores, labels or masks were read from a file."""
_MOSTLY = 0.9
_RULES: dict[str, Any] = {rule.__name__: rule for rule in (TopFraction, DropFraction, TopCount, Threshold, TopExamples)}


@dataclass(frozen=True)
class SelectionIdentity:
    """What a selection is made from; one that was made from anything else is never used in its place.

    Attributes:
        data: fingerprint of the examples.
        cut: fingerprint of where they are cut into shards.
        method: name of the method.
        parameters: its hyper-parameters.
        rule: the selection rule: ``name`` of its class and its fields.
        online: whether tokens are selected as the model trains; what is stored is then the selection before the first
            step.
        keep_turn_end: whether the ends of turns are kept whatever their score.
        statistics: the identity of what the method reads, by ``role.statistic``.
        package: the package that the method comes from, with its version; None for tokensieve's own.
        layout: version of the files.
    """

    data: str
    cut: str
    method: str
    parameters: Mapping[str, Any]
    rule: Mapping[str, Any]
    online: bool = False
    keep_turn_end: bool = False
    statistics: Mapping[str, str] = field(default_factory=dict)
    package: str | None = None
    layout: int = LAYOUT

    @staticmethod
    def rule_fields(rule: Rule) -> dict[str, Any]:
        """Return a rule as `rule` holds it."""
        return {"name": type(rule).__name__, **dataclasses.asdict(rule)}


@dataclass(frozen=True)
class Selection:
    """What an arm selected.

    Attributes:
        identity: what it was made from.
        trainable: tokens to select from.
        kept: tokens selected. For an arm that selects as the model trains, `runs` replaces both counts with those of
            the whole training.
        examples: examples to select from.
        examples_without_kept: those of which nothing was kept.
        examples_written: examples of the cleaned data.
        source_rows: rows of the data that the examples came from.
        threshold: lowest score that was kept by rank; None where no single one exists.
        scores_tie: whether all scores of tokens that need not be kept are the same, so that only positions rank them.
        share_reason: how many tokens are kept and why, in words.
        as_many_as: the arm that it keeps as many tokens as, where it is the random control of one.
        fitted: hyper-parameters that were derived from the data, None where there are none.
        reasons: names of the reasons to drop a token, by bit.
        kept_turn_ends: kept tokens that are kept because they end a turn.
        rounds: what each round selected, where selecting and training took turns.
        examples_absent: examples that an imported file does not have.
        marks: what became of the marked tokens, the fields of `MarkedTokens`; None where no token is marked.
    """

    identity: SelectionIdentity
    trainable: int
    kept: int
    examples: int
    examples_without_kept: int
    examples_written: int
    source_rows: int
    threshold: float | None = None
    scores_tie: bool = False
    share_reason: str = ""
    as_many_as: str | None = None
    fitted: Mapping[str, Any] | None = None
    reasons: Sequence[str] = ()
    rounds: Sequence[Mapping[str, Any]] = ()
    examples_absent: int = 0
    kept_turn_ends: int = 0
    marks: Mapping[str, Any] | None = None

    @property
    def method(self) -> str:
        """Name of the method."""
        return self.identity.method

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Hyper-parameters of the method."""
        return self.identity.parameters

    @property
    def online(self) -> bool:
        """Whether tokens are selected as the model trains."""
        return self.identity.online

    @property
    def imported(self) -> bool:
        """Whether it was read from a file."""
        return self.identity.method == IMPORTED

    @property
    def share(self) -> float:
        """Kept share of the trainable tokens."""
        return self.kept / self.trainable if self.trainable else 0.0

    def warnings(self) -> list[str]:
        """Return what a user should know before training on it."""
        if self.kept_turn_ends < _MOSTLY * max(1, self.kept):
            return []
        return [
            f"{self.kept_turn_ends:,} of the {self.kept:,} tokens that '{self.method}' keeps are turn ends, which are "
            "kept whatever their score, so its scores decide on next to nothing: keep a greater share, or set "
            "select.keep_turn_end: false"
        ]

    @property
    def rule(self) -> Rule:
        """The selection rule."""
        values = dict(self.identity.rule)
        return _RULES[values.pop("name")](**values)

    @classmethod
    def from_json(cls, found: Mapping[str, Any], where: str) -> Self:
        """Return what `to_json` gave.

        Args:
            found: the JSON object; fields that have a default may be missing.
            where: what to call the place in an error.

        Raises:
            TokensieveError: an object of another version, or one that lacks a field or has one too many.
        """
        check_layout(found.get("layout"), Path(where))
        names = {one.name for one in fields(SelectionIdentity)}
        try:
            identity = SelectionIdentity(**{name: value for name, value in found.items() if name in names})
            selection = cls(identity, **{name: value for name, value in found.items() if name not in names})
            _types().validate_json(json.dumps(dataclasses.asdict(selection)), strict=True)
            _ = selection.rule, selection.share
        except (KeyError, TypeError, ValidationError) as error:
            first = error.errors()[0] if isinstance(error, ValidationError) else None
            told = f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first else str(error)
            raise TokensieveError(
                f"a field of the selection is missing or garbled: {told}",
                where=where,
                hint="delete the folder of the arm and run `tokensieve select` with the recipe of the run",
            ) from error
        return selection

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a ``selection.json``.

        Raises:
            TokensieveError: no such file, one that is damaged, or what `from_json` refuses.
        """
        missing = f"the tokens of arm '{path.parent.name}' are not selected yet"
        again = "run `tokensieve select` with the recipe of the run"
        found = read_sealed(path, missing, f"delete the folder of the arm and {again}" if path.is_file() else again)
        return cls.from_json(found, str(path))

    def write(self, path: Path) -> None:
        """Write a ``selection.json``, atomically."""
        write_sealed(path, self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Return everything as one flat JSON object."""
        values = dataclasses.asdict(self)
        return fingerprint.jsonable({**values.pop("identity"), **values})

    def check_same(self, wanted: SelectionIdentity, *, where: Path, hint: str) -> None:
        """Refuse to be used in the place of another selection.

        Raises:
            TokensieveError: it was made from something else; names every difference.
        """
        pair = (fingerprint.jsonable(dataclasses.asdict(one)) for one in (self.identity, wanted))
        fingerprint.check_same(*pair, where=str(where), hint=hint)


@functools.cache
def _types() -> TypeAdapter[Selection]:
    return TypeAdapter(Selection)
