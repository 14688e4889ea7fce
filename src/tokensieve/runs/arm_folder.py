"""The folder of one arm of a run: every path in it, and what reads and writes each file; `runs.folder` has the rest."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokensieve import json_text
from tokensieve.errors import TokensieveError
from tokensieve.select.selection import Selection
from tokensieve.store import checksum
from tokensieve.store.atomic import write_text
from tokensieve.store.mirror import fetched, is_there
from tokensieve.store.sealed import read_sealed, write_sealed
from tokensieve.train.record import read_record

_FILES = "files"
"""The checksums of what lies beside an evaluation, by name."""


@dataclass(frozen=True)
class ArmFolder:
    """The folder of one arm, or of a model that is evaluated beside the arms.

    Attributes:
        path: of the folder.
    """

    path: Path

    @property
    def name(self) -> str:
        """Name of the arm."""
        return self.path.name

    @property
    def scores(self) -> Path:
        """Scores and decisions, by shard."""
        return self.path / "scores"

    @property
    def cleaned(self) -> Path:
        """Cleaned data."""
        return self.path / "cleaned"

    @property
    def training(self) -> Path:
        """Data of a trainer that selects or weights tokens while it trains."""
        return self.path / "training"

    @property
    def rounds(self) -> Path:
        """Rounds of an arm that selects with the model that it trains."""
        return self.path / "rounds"

    @property
    def model(self) -> Path:
        """The fine-tuned adapter or model."""
        return self.path / "model"

    @property
    def selection_file(self) -> Path:
        """What the arm selected."""
        return self.path / "selection.json"

    @property
    def evaluation_file(self) -> Path:
        """What its model was evaluated to."""
        return self.path / "evaluation.json"

    @property
    def selected(self) -> bool:
        """Whether its tokens are selected."""
        return self.selection_file.is_file()

    @property
    def trained(self) -> bool:
        """Whether its model is there."""
        return read_record(self.model) is not None

    @property
    def has_results(self) -> bool:
        """Whether anything is here that took a selection, a training or an evaluation to make."""
        made = (self.selection_file, self.rounds, self.model, self.evaluation_file)
        return any(path.exists() for path in made)

    def replicate(self, seed: int) -> ArmFolder:
        """Return the folder of a seed after the first."""
        return ArmFolder(self.path / "seeds" / str(seed))

    def replicates(self) -> dict[int, ArmFolder]:
        """Return the folders of the seeds after the first, by seed."""
        folders = (path for path in (self.path / "seeds").glob("*") if path.name.isdecimal())
        found = {int(path.name): ArmFolder(path) for path in folders}
        return dict(sorted(found.items()))

    def selection(self) -> Selection:
        """Read what the arm selected.

        Raises:
            TokensieveError: its tokens are not selected yet, or the file cannot be read.
        """
        return Selection.read(self.selection_file)

    def training_record(self) -> dict[str, Any]:
        """Return metrics and loss curve of the training; empty where it is not trained."""
        return read_record(self.model) or {}

    def evaluation(self) -> dict[str, Any]:
        """Return the evaluation with what it was made from; empty where there is none."""
        found = self._evaluation()
        found.pop(_FILES, None)
        return found

    def _evaluation(self) -> dict[str, Any]:
        path = self.evaluation_file
        return read_sealed(path, "", self.evaluate_again) if path.is_file() else {}

    def write_evaluation(self, results: Mapping[str, Any], details: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Write an evaluation.

        Args:
            results: the figures, with what they were made from.
            details: rows behind them, one for each example, such as ``held_out`` or ``predictions``.
        """
        files = {}
        for what, rows in details.items():
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            write_text(path := self._details_file(what), lines)
            files[path.name] = checksum.of_bytes(lines.encode())
        write_sealed(self.evaluation_file, {**results, _FILES: files})

    def evaluation_details(self, what: str) -> list[dict[str, Any]] | None:
        """Read the rows behind an evaluation, such as ``held_out`` or ``predictions``; None where there are none.

        Raises:
            TokensieveError: a file that is damaged, or a line that is not a JSON object.
        """
        path = self._details_file(what)
        recorded = self._evaluation().get(_FILES, {}).get(path.name)
        if recorded is None or not is_there(path):  # what an earlier evaluation left belongs to no figure
            return None
        data = fetched(path).read_bytes()
        if recorded != checksum.of_bytes(data):
            raise TokensieveError(
                "the file is damaged: its checksum is wrong", where=str(path), hint=self.evaluate_again
            )
        try:
            rows = json_text.parse_lines(data)
        except json_text.JsonError as error:
            raise TokensieveError(f"not JSON lines: {error}", where=str(path), hint=self.evaluate_again) from error
        if not all(isinstance(row, dict) for row in rows):
            raise TokensieveError("not a JSON object in every line", where=str(path), hint=self.evaluate_again)
        return rows

    @property
    def evaluate_again(self) -> str:
        """How to make damaged evaluation files again."""
        return f"delete {self.evaluation_file} and run `tokensieve evaluate` with the recipe of the run"

    def _details_file(self, what: str) -> Path:
        return self.path / f"{what}.jsonl"
