"""Exports one arm of a run for one trainer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokensieve.engines import start_engine
from tokensieve.engines.settings import EngineSettings
from tokensieve.errors import TokensieveError
from tokensieve.export._base import Facts, Snippet
from tokensieve.export.arm import ArmData, ArmShards, open_arm
from tokensieve.export.settings import TargetName
from tokensieve.export.targets import TARGETS
from tokensieve.outputs import output_place
from tokensieve.places import remote_of
from tokensieve.runs.card import dataset_card
from tokensieve.runs.view import RunView, load_run
from tokensieve.store import fingerprint
from tokensieve.store.atomic import atomic_folder, locked, write_text
from tokensieve.store.manifest import open_manifest
from tokensieve.store.paths import check_folder_path
from tokensieve.store.sealed import read_sealed, write_sealed

_COPY = "where the trainer cannot read from the object store, copy the export to its machine and give the paths there"
_LOCAL = EngineSettings()
_LAYOUT = 1  # of the files of an export; raised when they change


@dataclass(frozen=True)
class Export:
    """A finished export.

    Attributes:
        folder: folder of the export.
        snippets: lines to paste into the trainer's config.
        notes: notes for the user, one line each.
    """

    folder: Path
    snippets: tuple[Snippet, ...]
    notes: tuple[str, ...]


def export_arm(
    run: Path,
    to: TargetName,
    arm: str | None = None,
    output: Path | None = None,
    engine: EngineSettings = _LOCAL,
) -> Export:
    """Write the selection of an arm in a trainer's format, unless an earlier call did.

    Memory holds one shard at a time. The folder appears complete or not at all.

    Args:
        run: the run folder.
        to: the trainer.
        arm: the arm; the method if not given.
        output: the folder to write; ``exports/ARM-TO`` in the run folder if not given.
        engine: where work on shards runs.

    Raises:
        TokensieveError: the run or arm does not exist, its selection cannot be exported to this trainer, or the folder
            has other content.
    """
    view, target = load_run(run), TARGETS[to]
    data = open_arm(view, arm or view.method)
    if data.weights and not target.carries_weights:
        carriers = ", ".join(name for name, other in TARGETS.items() if other.carries_weights)
        raise TokensieveError(
            f"arm '{data.name}' gives every token a weight, and {to} takes only labels",
            where="--to",
            hint=f"one of: {carriers}; or train it with `tokensieve train`",
        )
    folder = output_place(output or view.run_folder.export(data.name, to)).absolute()
    check_folder_path(folder, "--output")
    recipe, selection = view.run_folder.recipe(), view.folders[data.name].selection()
    facts = _facts(view, data, recipe["models"]["base"]["path"], folder)
    identity = {
        "layout": _LAYOUT,
        "target": to,
        "arm": data.name,
        "selection": fingerprint.of_value(selection.to_json()),
    }
    identity |= {"license": recipe["data"].get("license")}
    with locked(folder):
        manifest = folder / "export.json"
        _check_folder(folder, identity)
        if not manifest.is_file():
            with atomic_folder(folder) as partial:
                with start_engine(engine) as started:
                    notes = target.write(ArmShards(data, started), partial, facts)
                card = dataset_card(
                    recipe, selection, layout=target.layout, loads_with_datasets=target.loads_with_datasets, tags=(to,)
                )
                write_text(partial / "README.md", card)
                write_sealed(partial / "export.json", {**identity, "notes": list(notes)})
        notes = _read(manifest)["notes"]
    notes = [*notes, data.note, target.note, _COPY if remote_of(folder) is not None else ""]
    return Export(folder, target.config(facts), tuple(filter(None, notes)))


def _facts(view: RunView, data: ArmData, model: str, folder: Path) -> Facts:
    counts = view.store.counts
    longest = open_manifest(view.store.folder).about["settings"]["max_length"]
    return Facts(
        folder,
        longest or counts.lengths["1"],
        model,
        view.store.tokenizer,
        counts.largest_id,
        bool(data.weights),
    )


def _read(manifest: Path) -> dict[str, Any]:
    return read_sealed(manifest, "the export lacks its record", "use another --output, or delete the folder")


def _check_folder(folder: Path, identity: dict) -> None:
    """Refuse a folder with any content other than this export."""
    manifest = folder / "export.json"
    if manifest.is_file():
        found = _read(manifest)
        fingerprint.check_same(
            {name: found.get(name) for name in identity},
            identity,
            where=str(manifest),
            hint="use another --output, or delete the folder",
        )
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise TokensieveError(
            "the output folder is not empty and not an export", where=str(folder), hint="use another --output"
        )
