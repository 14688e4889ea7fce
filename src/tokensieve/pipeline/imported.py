"""Scores, labels or masks from a file, as another arm of a run.

The arm has the files of any other (`pipeline`), so that the page, `show` and `export` treat it as one. The recipe does
not name it: a later `tokensieve run` leaves its selection in place, and trains and evaluates it beside the others.
"""

from __future__ import annotations

import dataclasses
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tokensieve.containers import Float32, Int64, Needs, Statistics
from tokensieve.errors import TokensieveError
from tokensieve.methods._base import Method
from tokensieve.ops.rules import Rule, Threshold, TopFraction, forced_tokens, in_words
from tokensieve.pipeline.imported_values import ImportedValues
from tokensieve.runs.arm_folder import ArmFolder
from tokensieve.runs.card import cleaned_card
from tokensieve.runs.results import POINTS_OF_REFERENCE
from tokensieve.runs.view import RunView, load_run
from tokensieve.select.cleaned import write_cleaned
from tokensieve.select.marked_tokens import marked_tokens
from tokensieve.select.selection import IMPORTED, Selection, SelectionIdentity
from tokensieve.select.streaming import LoadStatistics, read_selection, refuse_ties, select_shards
from tokensieve.store import fingerprint
from tokensieve.store.atomic import atomic_folder, locked, write_text
from tokensieve.store.manifest import is_complete

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Imported(Method):
    """Ranks tokens by the values in a file."""

    name: ClassVar[str] = IMPORTED
    summary: ClassVar[str] = "scores, labels or masks from a file"
    formula: ClassVar[str] = ""

    @property
    def needs(self) -> Needs:
        """Nothing that a model measures."""
        return frozenset()

    @property
    def rule(self) -> TopFraction:
        """Every token."""
        return TopFraction(1.0)

    def score(self, statistics: Statistics) -> Float32:
        """Return float32 ``[tokens]``, the values in the file."""
        return statistics.values[IMPORTED, "value"]


@dataclass(frozen=True)
class ImportedArm:
    """What was imported.

    Attributes:
        folder: of the arm.
        selection: what it selected.
    """

    folder: Path
    selection: Selection


def import_arm(run: Path, file: Path, name: str, fraction: float | None = None) -> ImportedArm:
    """Make an arm of what a file says, or find that an earlier call did.

    Memory holds a few bytes for each example of the run, and its tokens a shard at a time.

    Args:
        run: the run folder.
        file: JSON lines or Parquet, in any order. A row has ``row``, the number of the source row, or ``input_ids``, or
            both; and ``scores`` (a number a token, higher = keep), ``labels`` (-100 where a token is not trained,
            unshifted) or ``kept`` (1 where it is).
        name: of the arm.
        fraction: share of the trainable tokens to keep by their scores; None takes labels or masks as they are.

    Raises:
        TokensieveError: a name that cannot be used, or a row that does not fit the examples of the run.
    """
    view = load_run(run)
    _check_name(view, name)
    if not file.is_file():
        what = "a folder, not a file" if file.is_dir() else "no such file"
        raise TokensieveError(what, where=str(file), hint="give one file of JSON lines or Parquet")
    rule: Rule = Threshold(0.5) if fraction is None else TopFraction(fraction)
    select = view.run_folder.recipe()["select"]
    keep_turn_end = fraction is not None and select["keep_turn_end"]
    identity = SelectionIdentity(
        data=view.store.fingerprint,
        cut=view.store.cut,
        method=IMPORTED,
        parameters={"file": file.name, "sha256": fingerprint.of_files([file])},
        rule=SelectionIdentity.rule_fields(rule),
        keep_turn_end=keep_turn_end,
    )
    arm = view.run_folder.arm(name)
    with locked(view.folder):
        if arm.selected:
            found = arm.selection()
            found.check_same(
                identity,
                where=arm.selection_file,
                hint="give another --name, or delete the folder of the arm",
            )
            if is_complete(arm.scores) and is_complete(arm.cleaned):
                return ImportedArm(arm.path, found)
        with atomic_folder(arm.path) as partial:
            _write_arm(view, identity, rule, file, ArmFolder(partial), jsonl=select["jsonl"])
    return ImportedArm(arm.path, arm.selection())


def _write_arm(
    view: RunView, identity: SelectionIdentity, rule: Rule, file: Path, arm: ArmFolder, *, jsonl: bool
) -> None:
    """Write everything that an arm has into an empty folder."""
    spill = arm.path / "values"
    values = ImportedValues(view.store, file, scores=isinstance(rule, TopFraction), spill=spill)

    def load(number: int) -> tuple[Statistics, Int64]:
        examples = view.store.read(number)
        given: dict[tuple[str, str], Any] = {(IMPORTED, "value"): values.read(number, examples)}
        statistics = view.store.statistics(examples, given, 0)
        return statistics if identity.keep_turn_end else dataclasses.replace(statistics, turn_end=None), examples.rows

    counts = select_shards(Imported(), rule, load, view.store.shards, arm.scores)
    dropped = counts["trainable"] - counts["kept"]
    refuse_ties(file.name, rule, counts["scores_tie"], dropped, str(file), "give ranks, or scores further apart")
    if counts["threshold"] is not None:
        _warn_of_ties(values, load, view.store.shards, arm.scores, counts["threshold"])
    spill.unlink()
    selection = Selection(
        identity,
        **counts,
        examples_written=write_cleaned(view.store, arm.scores, arm.cleaned, jsonl=jsonl),
        source_rows=view.store.counts.rows,
        share_reason=in_words(rule) if isinstance(rule, TopFraction) else "as the file says",
        examples_absent=values.absent,
    )
    if (marks := marked_tokens(view.store, arm.scores)) is not None:
        selection = dataclasses.replace(selection, marks=dataclasses.asdict(marks))
    write_text(arm.cleaned / "README.md", cleaned_card(view.run_folder.recipe(), selection))
    selection.write(arm.selection_file)


def _warn_of_ties(values: ImportedValues, load: LoadStatistics, shards: int, scores: Path, cutoff: float) -> None:
    """Warn where float32 made equals of scores on both sides of the cut-off, so that position chose among them."""
    tied, least_kept, most_dropped = 0, np.inf, -np.inf
    for number in range(shards):
        (statistics, _), (rounded, kept) = load(number), read_selection(scores, number)
        at_cutoff = statistics.trainable & ~forced_tokens(statistics) & (rounded == cutoff)
        given = values.given(number, len(kept))
        tied += int(at_cutoff.sum())
        least_kept = given[at_cutoff & kept].min(initial=least_kept)
        most_dropped = given[at_cutoff & ~kept].max(initial=most_dropped)
    if least_kept < most_dropped:
        warnings.warn(
            f"the scores of {tied} tokens at the cut-off differ by less than float32 can tell, and the first of these "
            "tokens are kept: give ranks, or scores further apart",
            stacklevel=3,
        )


def _check_name(view: RunView, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise TokensieveError(
            f"'{name}' is no name of an arm",
            where="--name",
            hint="at most 100 letters, digits, dots, hyphens and underscores",
        )
    if name in POINTS_OF_REFERENCE or (name in view.arms and not view.folders[name].selection().imported):
        raise TokensieveError(f"the run has '{name}' already", where="--name", hint="give another --name")
