"""Each export is read back as its trainer reads it, and holds exactly the trained positions and their weights."""

from __future__ import annotations

import gzip
import json
import re
import shlex
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import get_args

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from shuffled import Shuffled
from trained_examples import MODEL, Example, trained_examples

from tokensieve.engines import local
from tokensieve.errors import TokensieveError
from tokensieve.export import olmo_core, write
from tokensieve.export.arm import ArmData
from tokensieve.export.megatron_bridge import pack
from tokensieve.export.settings import TargetName
from tokensieve.export.targets import TARGETS
from tokensieve.export.write import Export, export_arm
from tokensieve.methods import get_method

ARM, WEIGHTED = "loss", "dft"


def load(folder: Path, cache: Path) -> list[dict]:
    return list(datasets.load_dataset(str(folder), split="train", cache_dir=str(cache)))  # type: ignore[arg-type]


def by_labels(rows: list[dict]) -> list[Example]:
    """The rule of `transformers`: a label of its own id at each trained position, unshifted; weights beside it."""
    found = []
    for row in rows:
        ids, labels = row["input_ids"], row["labels"]
        assert row["attention_mask"] == [1] * len(ids) == [1] * len(labels)
        assert all(label in (-100, token) for label, token in zip(labels, ids, strict=True))
        weights = row.get("weights", [1.0] * len(ids))
        found.append((tuple(ids), tuple((t, weights[t]) for t, label in enumerate(labels) if label != -100)))
    return found


def read_labels(export: Export, cache: Path) -> list[Example]:
    return by_labels(load(export.folder, cache))


def read_axolotl(export: Export, cache: Path) -> list[Example]:
    (entry,) = yaml.safe_load(export.snippets[0].text)["datasets"]
    assert entry["type"] is None
    rows = load(Path(entry["path"]), cache)
    assert list(rows[0]) == ["input_ids", "attention_mask", "labels"]
    return by_labels(rows)


def read_llama_factory(export: Export, cache: Path) -> list[Example]:
    config = yaml.safe_load(export.snippets[0].text)
    assert config["dataset"]
    loaded = datasets.load_from_disk(config["tokenized_path"])
    assert isinstance(loaded, datasets.DatasetDict)
    assert loaded["train"].column_names == ["input_ids", "attention_mask", "labels"]
    # What versions before 4 read: they know no type `List`.
    assert "List" not in (export.folder / "train" / "dataset_info.json").read_text()
    return by_labels(list(loaded["train"]))  # type: ignore[arg-type]


def read_open_instruct(export: Export, cache: Path) -> list[Example]:
    words = shlex.split(export.snippets[0].text)
    cache_folder, name = (words[words.index(f"--{n}") + 1] for n in ("dataset_local_cache_dir", "dataset_config_hash"))
    return by_labels(list(datasets.Dataset.load_from_disk(str(Path(cache_folder) / name), keep_in_memory=True)))  # type: ignore[arg-type]


def read_ms_swift(export: Export, cache: Path) -> list[Example]:
    """Every token of the one message is a context of its own with its scale; no suffix where `add_eos` is false."""
    words = shlex.split(export.snippets[0].text)
    assert words[words.index("--remove_unused_columns") + 1] == words[words.index("--use_chat_template") + 1] == "false"
    found = []
    for line in Path(words[words.index("--dataset") + 1]).read_text().splitlines():
        row = json.loads(line)
        (message,) = row["messages"]
        assert (message["role"], row["add_eos"]) == ("assistant", False)
        content = message["content"]
        scales = enumerate(content["loss_scale"])
        found.append((tuple(content["token_ids"]), tuple((t, scale) for t, scale in scales if scale > 0)))
    return found


def read_torchtune(export: Export, cache: Path) -> list[Example]:
    """`mask` is True where the label becomes -100."""
    return [
        (tuple(row["tokens"]), tuple((t, 1.0) for t, ignored in enumerate(row["mask"]) if not ignored))
        for row in load(export.folder, cache)
    ]


def read_tinker(export: Export, cache: Path) -> list[Example]:
    """Position t predicts `target_tokens[t]`, which is token t + 1."""
    found = []
    for row in load(export.folder, cache):
        ids, targets = row["input_ids"], row["target_tokens"]
        assert ids[1:] == targets[:-1]
        trained = tuple((t + 1, weight) for t, weight in enumerate(row["weights"]) if weight)
        found.append(((*ids, targets[-1]), trained))
    return found


def read_megatron_bridge(export: Export, cache: Path) -> list[Example]:
    """Of each example of a pack, tokens [:-1] predict tokens [1:] where `loss_mask` [:-1] is 1."""
    text = export.snippets[0].text
    size = int(re.findall(r"packed_sequence_size=(\d+)", text)[0])
    found = []
    for row in load(export.folder, cache):
        ids, mask, starts = row["input_ids"], row["loss_mask"], row["seq_start_id"]
        assert starts[0] == 0
        assert len(ids) == len(mask) <= size
        for start, stop in zip(starts, [*starts[1:], len(ids)], strict=True):
            targets = [t + 1 for t, value in enumerate(mask[start : stop - 1]) if value]
            assert mask[stop - 1] == 0
            found.append((tuple(ids[start:stop]), tuple((t, 1.0) for t in targets)))
    return sorted(found)


def read_olmo_core(export: Export, cache: Path) -> list[Example]:
    """Documents end with the EOS id of the configuration; the mask is that of the predicted token itself."""
    text = export.snippets[0].text
    eos, vocab_size, length = (
        int(re.findall(rf"{name}=(\d+)", text)[0]) for name in ("eos_token_id", "vocab_size", "sequence_length")
    )
    dtype = np.uint16 if vocab_size <= 2**16 else np.uint32
    assert f"NumpyDatasetDType.{np.dtype(dtype).name}" in text
    found = []
    for path in sorted((export.folder / "data").glob("token_ids_part_*.npy")):
        ids = np.memmap(path, dtype=dtype, mode="r")
        mask = np.memmap(path.with_name(path.name.replace("token_ids", "labels_mask")), dtype=np.bool_, mode="r")
        assert len(mask) == len(ids)
        stops = (np.flatnonzero(ids == eos) + 1).tolist()
        bounds = list(zip([0, *stops[:-1]], stops, strict=True))
        with gzip.open(path.with_suffix(".csv.gz"), "rt") as table:
            assert [tuple(map(int, line.split(","))) for line in table] == bounds
        for start, stop in bounds:
            assert stop - start <= length
            positions = np.flatnonzero(mask[start:stop]).tolist()
            found.append((tuple(ids[start : stop - 1].tolist()), tuple((t, 1.0) for t in positions)))
    return found


READERS: dict[str, Callable[[Export, Path], list[Example]]] = {
    "trl": read_labels,
    "unsloth": read_labels,
    "jsonl": read_labels,
    "parquet": read_labels,
    "axolotl": read_axolotl,
    "llama-factory": read_llama_factory,
    "open-instruct": read_open_instruct,
    "ms-swift": read_ms_swift,
    "torchtune": read_torchtune,
    "tinker": read_tinker,
    "megatron-bridge": read_megatron_bridge,
    "olmo-core": read_olmo_core,
}
CARRIERS: list[TargetName] = ["ms-swift", "tinker", "jsonl", "parquet"]


def test_every_target_is_in_the_table_and_read_here():
    assert set(TARGETS) == set(get_args(TargetName)) == set(READERS)
    assert [name for name in TARGETS if TARGETS[name].carries_weights] == ["tinker", "jsonl", "parquet", "ms-swift"]


@pytest.mark.parametrize("to", READERS)
def test_the_trainer_finds_exactly_the_trained_positions(to, finished, tmp_path):
    expected = trained_examples(finished, ARM)
    assert len(expected) < 40, "no example was dropped whole"
    found = READERS[to](export_arm(finished, to, ARM, tmp_path / "out"), tmp_path / "cache")
    assert found == (sorted(expected) if to == "megatron-bridge" else expected)


@pytest.mark.parametrize("to", READERS)
def test_an_engine_that_does_shards_in_any_order_leaves_the_same_files(to, finished, tmp_path, monkeypatch):
    export_arm(finished, to, ARM, tmp_path / "local")
    monkeypatch.setattr(write, "start_engine", lambda _: nullcontext(Shuffled()))
    export_arm(finished, to, ARM, tmp_path / "shuffled")
    local, shuffled = (
        {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (tmp_path / "local", tmp_path / "shuffled")
    )
    assert local == shuffled
    assert not [name for name in local if "piece" in name or name.endswith(".partial")]


@pytest.mark.parametrize("to", READERS)
def test_weights_are_carried_or_refused(to, weighted, tmp_path):
    if to not in CARRIERS:
        with pytest.raises(TokensieveError, match="takes only labels") as error:
            export_arm(weighted, to, WEIGHTED, tmp_path / "out")
        assert all(name in error.value.hint for name in CARRIERS)
        assert not (tmp_path / "out").exists()
        return
    expected = trained_examples(weighted, WEIGHTED)
    weights = [weight for _, trained in expected for _, weight in trained]
    assert 0 < min(weights) < max(weights) <= 1
    export = export_arm(weighted, to, WEIGHTED, tmp_path / "out")
    found = READERS[to](export, tmp_path / "cache")
    assert [ids for ids, _ in found] == [ids for ids, _ in expected]
    for (_, left), (_, right) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(left, right)
    assert ("--is_binary_loss_scale false" in export.snippets[0].text) == (to == "ms-swift")


def test_what_is_not_trained_has_no_weight_whatever_the_method_says(make_run, tmp_path, monkeypatch):
    def everywhere(method, statistics, kept, progress):
        return np.full(len(kept), 0.5, dtype=np.float32)

    monkeypatch.setattr(type(get_method(WEIGHTED)), "weights", everywhere)
    run = make_run(tmp_path / "run", f"method={WEIGHTED}", f"models.current={MODEL}", "controls=[]")
    expected = trained_examples(run, WEIGHTED)
    for to in CARRIERS:
        assert READERS[to](export_arm(run, to), tmp_path / "cache") == expected
    (rows, *_) = sorted((run / f"exports/{WEIGHTED}-parquet/data").iterdir())
    for row in pq.read_table(rows).to_pylist():
        assert all(weight == 0 for weight, kept in zip(row["weights"], row["assistant_masks"], strict=True) if not kept)


@pytest.mark.parametrize("packing", [False, True])
def test_trl_itself_trains_exactly_these_positions(packing, finished, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    export = export_arm(finished, "trl", ARM, tmp_path / "out")
    options = f'output_dir={str(tmp_path)!r}, bf16=False, use_cpu=True, report_to="none", packing={packing}'
    names: dict = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(export.snippets[0].text.replace('output_dir="output"', options), names)
        found = sorted(example for batch in names["trainer"].get_train_dataloader() for example in in_batch(batch))
    assert found == sorted(trained_examples(finished, ARM))


def in_batch(batch) -> Iterator[Example]:
    """Split a batch of TRL into examples: by `position_ids` where rows are packed, by the mask elsewhere."""
    for number, (ids, labels) in enumerate(zip(batch["input_ids"], batch["labels"], strict=True)):
        starts = [0]
        stop = len(ids) if "attention_mask" not in batch else int(batch["attention_mask"][number].sum())
        if "position_ids" in batch:
            starts = (batch["position_ids"][number] == 0).nonzero().flatten().tolist()
        for first, last in zip(starts, [*starts[1:], stop], strict=True):
            positions = (labels[first:last] != -100).nonzero().flatten().tolist()
            if positions:  # padding of a pack has none
                yield tuple(ids[first:last].tolist()), tuple((t, 1.0) for t in positions)


@pytest.mark.parametrize("to", READERS)
def test_config_lines_are_valid_and_name_what_is_there(to, finished, tmp_path):
    export = export_arm(finished, to, ARM, tmp_path / "out 'put'")
    for snippet in export.snippets:
        if snippet.language == "python":
            compile(snippet.text, to, "exec")
            continue
        text = snippet.text
        words = shlex.split(text) if snippet.language == "console" else re.findall(r"/.*", yaml_paths(text))
        paths = [word for word in words if word.startswith("/")]
        assert paths or "_component_" in text
        assert all(Path(path).exists() for path in paths)
    text = "".join(snippet.text for snippet in export.snippets)
    assert "256" in text or to in ("torchtune", "tinker", "jsonl", "parquet", "olmo-core")


def yaml_paths(text: str) -> str:
    """Return all strings in a YAML document, one a line."""

    def strings(value) -> Iterator[str]:
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]:
            yield from [item] if isinstance(item, str) else strings(item) if isinstance(item, dict | list) else []

    return "\n".join(strings(yaml.safe_load(text)))


@pytest.mark.parametrize("to", READERS)
def test_memory_holds_a_shard_a_thread(to, finished, tmp_path, monkeypatch):
    alive: weakref.WeakSet = weakref.WeakSet()
    most, shards = 0, 0
    original = ArmData.shard

    def counted(self, number):
        nonlocal most, shards
        if (shard := original(self, number)) is not None:
            alive.add(shard)
            most, shards = max(most, len(alive)), shards + 1
        return shard

    monkeypatch.setattr(ArmData, "shard", counted)
    monkeypatch.setattr(local, "threads", lambda: 2)
    export_arm(finished, to, ARM, tmp_path / "out")
    assert shards > 3
    assert most <= 3  # one a thread, and one that is handed over


def test_packs_are_full_where_they_can_be():
    lengths = np.array([5, 9, 3, 4, 1, 6, 12])
    packs = pack(lengths, 10)
    assert sorted(example for examples in packs for example in examples) == list(range(7))
    totals = [int(lengths[examples].sum()) for examples in packs]
    assert totals == [12, 10, 10, 8]  # the one that fits nowhere goes alone; 9 + 1, 6 + 4, 5 + 3


def test_olmo_core_ends_documents_with_a_token_that_stands_nowhere_else(finished, tmp_path, monkeypatch):
    export = export_arm(finished, "olmo-core", ARM, tmp_path / "out")
    # The demo's template ends every turn with its EOS token, id 0.
    assert "eos_token_id=1, pad_token_id=0" in export.snippets[0].text
    assert any("token <|pad|>, which marks the end of a document, was appended" in note for note in export.notes)
    monkeypatch.setattr(olmo_core, "_PART_TOKENS", 500)
    parts = export_arm(finished, "olmo-core", ARM, tmp_path / "parts")
    assert len(list((parts.folder / "data").glob("token_ids_part_*.npy"))) > 1
    assert read_olmo_core(parts, tmp_path) == trained_examples(finished, ARM)


def test_token_types_of_olmo_core():
    sizes = (256, 257, 2**16, 2**16 + 1)
    assert [olmo_core.token_dtype(size) for size in sizes] == [np.uint8, np.uint16, np.uint16, np.uint32]


def test_the_model_of_the_config_lines_is_the_base(finished, tmp_path):
    for to in ("trl", "axolotl", "llama-factory", "ms-swift", "open-instruct", "unsloth"):
        assert str(MODEL) in export_arm(finished, to, ARM, tmp_path / to).snippets[0].text
