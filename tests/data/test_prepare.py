from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from tokensieve.containers import segments
from tokensieve.data import prepare as prepare_module
from tokensieve.data.chunk_worker import Worker
from tokensieve.data.example_store import open_examples
from tokensieve.data.prepare import prepare
from tokensieve.data.settings import DataSettings
from tokensieve.data.tokenize import load_encoder
from tokensieve.errors import TokensieveError
from tokensieve.store.atomic import locked, read_json, write_json
from tokensieve.store.manifest import open_manifest, write_manifest
from tokensieve.store.shards import shard_name
from tokensieve.store.waiting import waiting_at_most

ROWS = [{"question": f"How many apples are {n} apples?", "answer": f"The answer is {n}."} for n in range(20)]


def ignore(rows: int) -> None:
    """Progress that nobody watches."""


def settings_of(*paths, **options):
    return DataSettings(files=tuple(map(str, paths)), **options)


def examples_of(store):
    return [
        (int(row), shard.input_ids[span].tolist(), shard.labels[span].tolist())
        for shard in store
        for row, span in zip(shard.rows, segments(shard.cu_seqlens), strict=True)
    ]


def snapshot(folder: Path):
    return {p.relative_to(folder): (p.stat().st_mtime_ns, p.stat().st_ino) for p in folder.rglob("*")}


def test_examples_on_disk_are_the_rows(tmp_path, write_jsonl, tiny_encoder):
    seen = []
    store = prepare(settings_of(write_jsonl(*ROWS)), tiny_encoder, tmp_path / "store", seen.append)
    examples = examples_of(store)
    assert [row for row, _, _ in examples] == list(range(20))
    for (_, ids, labels), row in zip(examples, ROWS, strict=True):
        assert tiny_encoder.tokenizer.decode(ids) == (
            f"<|user|>{row['question']}<|end|><|assistant|>{row['answer']}<|end|>"
        )
        trained = [token for token, label in zip(ids, labels, strict=True) if label != -100]
        assert tiny_encoder.tokenizer.decode(trained) == row["answer"] + "<|end|>"
    assert sum(seen) == 20
    counts = store.counts
    assert (counts.rows, counts.examples) == (20, 20)
    assert counts.tokens == sum(len(ids) for _, ids, _ in examples)
    assert counts.trainable_tokens == sum(label != -100 for _, _, labels in examples for label in labels)
    assert counts.largest_id == max(token for _, ids, _ in examples for token in ids)
    assert counts.lengths["1"] == max(len(ids) for _, ids, _ in examples)
    assert counts.lengths["0"] == min(len(ids) for _, ids, _ in examples)
    assert (counts.turns, counts.turns_ended, counts.turn_ends_untrained) == (20, 20, 0)
    assert counts.warnings() == []
    assert load_encoder(str(store.folder / "tokenizer")).template == tiny_encoder.template


def test_a_second_call_reuses_the_first(tmp_path, write_jsonl, tiny_encoder):
    settings = settings_of(write_jsonl(*ROWS))
    first = prepare(settings, tiny_encoder, tmp_path / "store", ignore)
    before = snapshot(first.folder)
    again = prepare(settings, tiny_encoder, tmp_path / "store", lambda _: pytest.fail("tokenised again"))
    assert snapshot(first.folder) == before
    assert again == first == open_examples(first.folder)


def test_the_fingerprint_depends_on_content_but_not_on_shards_or_path(tmp_path, write_jsonl, tiny_encoder, monkeypatch):
    first = prepare(settings_of(write_jsonl(*ROWS)), tiny_encoder, tmp_path / "one", ignore)
    monkeypatch.setattr(prepare_module, "SHARD_TOKENS", 50)
    elsewhere = settings_of(write_jsonl(*ROWS, name="other.jsonl"))
    second = prepare(elsewhere, tiny_encoder, tmp_path / "two", ignore)
    assert first.shards == 1 < second.shards
    assert second.fingerprint == first.fingerprint
    assert second.folder.name != first.folder.name  # the cut is in the identity
    assert examples_of(second) == examples_of(first)
    swapped = prepare(settings_of(write_jsonl(*ROWS[::-1])), tiny_encoder, tmp_path / "one", ignore)
    assert swapped.fingerprint != first.fingerprint


def test_labels_alone_change_the_fingerprint(tmp_path, write_jsonl, tiny_encoder):
    rows = [{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}, {"input_ids": [5, 6, 7], "labels": [-100, -100, 7]}]
    stores = [
        prepare(settings_of(write_jsonl(row, name=f"{n}.jsonl")), tiny_encoder, tmp_path, ignore)
        for n, row in enumerate(rows)
    ]
    assert stores[0].fingerprint != stores[1].fingerprint


def test_where_one_example_ends_changes_the_fingerprint(tmp_path, write_jsonl, tiny_encoder):
    split = [{"input_ids": [5, 6, 7, 8, 9], "labels": [-100, 6, -100, 8, 9]}]
    other = [{"input_ids": ids, "labels": [-100, *ids[1:]]} for ids in ([5, 6], [7, 8, 9])]
    stores = [
        prepare(settings_of(write_jsonl(*rows, name=f"{len(rows)}.jsonl")), tiny_encoder, tmp_path, ignore)
        for rows in (split, other)
    ]
    assert stores[0].fingerprint != stores[1].fingerprint


@pytest.mark.parametrize("change", ["max_length", "truncation", "template", "eos", "stop"])
def test_whatever_changes_the_tokens_is_prepared_apart(change, tmp_path, write_jsonl, make_tokenizer):
    path = write_jsonl({"prompt": "How many?", "completion": " The answer is 2, the sum is 72."})
    folder, other = make_tokenizer(eos="<|end|>"), make_tokenizer(eos="<|endoftext|>")
    if change == "eos":  # alone: a model stops at both
        for each in (folder, other):
            (each / "generation_config.json").write_text('{"eos_token_id": [0, 4]}')
    encoder, settings = load_encoder(str(folder)), settings_of(path)
    first = prepare(settings, encoder, tmp_path / "store", ignore)
    if change == "max_length":
        settings = dataclasses.replace(settings, max_length=8)
    elif change == "truncation":
        settings = dataclasses.replace(settings, truncation="keep-end")
    elif change == "template":
        encoder = load_encoder(str(folder), "{% for m in messages %}{{ m['content'] }}{% endfor %}")
    elif change == "eos":
        encoder = load_encoder(str(other))
    else:
        (folder / "generation_config.json").write_text('{"eos_token_id": [0, 4]}')
        encoder = load_encoder(str(folder))
    second = prepare(settings, encoder, tmp_path / "store", ignore)
    assert second.folder != first.folder
    if change == "eos":
        assert first.turn_end_ids == second.turn_end_ids
        assert [ids[-1] for _, ids, _ in examples_of(first)] == [4]
        assert [ids[-1] for _, ids, _ in examples_of(second)] == [0]
    if change == "stop":
        assert second.turn_end_ids == (0, 4)


TOKENISED = {"input_ids": list(range(10, 20)), "labels": [-100, -100, 12, 13, -100, 15, 16, 17, 18, 19]}


@pytest.mark.parametrize(
    ("truncation", "ids", "labels", "trainable_cut"),
    [
        ("keep-start", [10, 11, 12, 13], [-100, -100, 12, 13], 5),
        ("keep-end", [16, 17, 18, 19], [-100, 17, 18, 19], 4),
    ],
)
def test_truncation_and_what_it_counts(truncation, ids, labels, trainable_cut, tmp_path, write_jsonl, tiny_encoder):
    settings = settings_of(write_jsonl(TOKENISED), max_length=4, truncation=truncation)
    store = prepare(settings, tiny_encoder, tmp_path, ignore)
    assert examples_of(store) == [(0, ids, labels)]
    counts = store.counts
    assert (counts.truncated_examples, counts.tokens_cut, counts.trainable_tokens_cut) == (1, 6, trainable_cut)
    assert (counts.tokens, counts.trainable_tokens) == (4, 7 - trainable_cut)
    assert any("6 tokens cut" in warning for warning in counts.warnings())


def test_an_example_of_just_max_length_is_whole(tmp_path, write_jsonl, tiny_encoder):
    store = prepare(settings_of(write_jsonl(TOKENISED), max_length=10), tiny_encoder, tmp_path, ignore)
    assert store.counts.truncated_examples == 0
    assert store.counts.turns == 2


def test_rows_with_nothing_to_train_are_dropped_and_counted(tmp_path, write_jsonl, tiny_encoder):
    nothing = {"input_ids": [5, 6, 7], "labels": [-100] * 3}
    first_alone = {"input_ids": [5, 6, 7], "labels": [5, -100, -100]}
    cut = {"input_ids": [5, 6, 7, 8, 9], "labels": [-100, -100, -100, -100, 9]}
    path = write_jsonl(nothing, {"input_ids": [5, 6], "labels": [-100, 6]}, first_alone, cut)
    store = prepare(settings_of(path, max_length=4), tiny_encoder, tmp_path, ignore)
    assert examples_of(store) == [(1, [5, 6], [-100, 6])]
    assert (store.counts.rows, store.counts.examples) == (4, 1)
    assert (store.counts.rows_without_trainable, store.counts.rows_cut_empty) == (2, 1)
    assert "2 of 4 rows have nothing to train on" in store.counts.warnings()[0]
    assert "1 of 4 rows have all that is trainable beyond data.max_length" in store.counts.warnings()[1]


@pytest.mark.parametrize("max_length", [2, 2048])
def test_nothing_to_train_at_all_is_an_error(max_length, tmp_path, write_jsonl, tiny_encoder):
    row = {"input_ids": [5, 6, 7], "labels": [-100, -100, 7 if max_length == 2 else -100]}
    settings = settings_of(write_jsonl(row, row), max_length=max_length)
    with pytest.raises(TokensieveError, match="every label is -100: none of 2 rows") as error:
        prepare(settings, tiny_encoder, tmp_path / "store", ignore)
    assert ("after truncation to 2 tokens" in error.value.what) == (max_length == 2)
    assert left_behind(tmp_path / "store") == []


def left_behind(store: Path) -> list[str]:
    return [path.name for path in store.rglob("*") if not path.name.endswith(".lock") and path.name != "examples"]


@pytest.mark.parametrize(
    ("line", "message"),
    [("not JSON", "not JSON"), ('{"foo": 1}', "of no known form"), ('{"messages": []}', "without messages")],
)
def test_a_bad_row_is_named_and_nothing_is_written(line, message, tmp_path, tiny_encoder, monkeypatch):
    monkeypatch.setattr(prepare_module, "SHARD_TOKENS", 50)
    monkeypatch.setattr(prepare_module, "CHUNK_ROWS", 4)
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS) + line + "\n")
    with pytest.raises(TokensieveError, match=message) as error:
        prepare(settings_of(path), tiny_encoder, tmp_path / "store", ignore)
    assert error.value.where == f"{path}:21"
    assert left_behind(tmp_path / "store") == []


KILLED = """
import os, signal, sys
from pathlib import Path
from tokensieve.data import prepare as module
from tokensieve.data.settings import DataSettings
from tokensieve.data.tokenize import load_encoder
module.SHARD_TOKENS, module.CHUNK_ROWS = 50, 4
source, tokenizer, store = sys.argv[1:]
def stop(rows, done=[0]):
    done[0] += rows
    if done[0] >= 12:
        os.kill(os.getpid(), signal.SIGKILL)
module.prepare(DataSettings(files=(source,)), load_encoder(tokenizer), Path(store), stop)
"""


def test_a_kill_leaves_nothing_that_looks_finished_and_the_next_run_is_the_same(
    tmp_path, write_jsonl, tiny_tokenizer_folder, tiny_encoder, monkeypatch
):
    path = write_jsonl(*ROWS)
    store = tmp_path / "store"
    command = [sys.executable, "-c", KILLED, str(path), str(tiny_tokenizer_folder), str(store)]
    killed = subprocess.run(command, capture_output=True, check=False, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    kept = {p: p.stat().st_mtime_ns for p in store.glob("examples/.*.chunks/chunk-*/examples.arrow")}
    assert len(kept) == 2  # the third chunk was in the middle
    assert not list(store.glob("examples/*/manifest.json"))
    assert not list(store.rglob("shard-*.arrow"))
    monkeypatch.setattr(prepare_module, "SHARD_TOKENS", 50)
    monkeypatch.setattr(prepare_module, "CHUNK_ROWS", 4)
    again, seen = [], []
    write = Worker._write
    monkeypatch.setattr(Worker, "_write", lambda self, chunk, *more: again.append(chunk) or write(self, chunk, *more))
    after = prepare(settings_of(path), tiny_encoder, store, seen.append)
    assert len(again) == 3, "what was tokenised before is not tokenised again"
    assert seen == [4] * 5
    assert not list(store.glob("examples/.*.chunks"))
    whole = prepare(settings_of(path), tiny_encoder, tmp_path / "undisturbed", ignore)
    assert not list(store.rglob("*.partial"))
    names = {p.name for p in whole.folder.iterdir()}
    assert {p.name for p in after.folder.iterdir()} == names
    for name in names - {"tokenizer"}:
        assert (after.folder / name).read_bytes() == (whole.folder / name).read_bytes()


def test_who_does_not_wait_for_the_shards_of_another_leaves_it_the_chunks(tmp_path, write_jsonl, tiny_encoder):
    settings = settings_of(write_jsonl(*ROWS))
    name = prepare(settings, tiny_encoder, tmp_path / "elsewhere", ignore).folder.name
    folder = tmp_path / "store/examples" / name
    with ExitStack() as stack, waiting_at_most(0):
        with pytest.raises(TokensieveError, match="is in use"):
            prepare(settings, tiny_encoder, tmp_path / "store", lambda _: stack.enter_context(locked(folder)))
        assert len(list(folder.parent.glob(f".{name}.*.chunks/chunk-*"))) == 1
    assert len(examples_of(prepare(settings, tiny_encoder, tmp_path / "store", ignore))) == len(ROWS)


def test_a_turn_end_that_is_never_trained_is_a_warning_with_the_mend(tmp_path, write_jsonl, make_tokenizer):
    template = (
        "{% for m in messages %}<|{{ m['role'] }}|>{% if m['role'] == 'assistant' %}{% generation %}"
        "{{ m['content'] }}{% endgeneration %}{% else %}{{ m['content'] }}{% endif %}<|end|>{% endfor %}"
    )
    encoder = load_encoder(str(make_tokenizer(chat_template=template)))
    store = prepare(settings_of(write_jsonl(*ROWS)), encoder, tmp_path, ignore)
    assert store.counts.turn_ends_untrained == store.counts.turns == 20
    (warning,) = store.counts.warnings()
    assert "turn-end token after 20 of 20 answers is never trained" in warning
    assert "inside {% generation %}" in warning


def test_answers_without_any_turn_end_are_a_warning(tmp_path, write_jsonl, tiny_encoder):
    store = prepare(settings_of(write_jsonl(TOKENISED)), tiny_encoder, tmp_path, ignore)
    (warning,) = store.counts.warnings()
    assert "no answer ends with a turn-end token" in warning


def test_an_answer_that_is_cut_off_is_not_taken_for_one_without_a_turn_end(tmp_path, write_jsonl, tiny_encoder):
    store = prepare(settings_of(write_jsonl(*ROWS), max_length=16), tiny_encoder, tmp_path, ignore)
    assert store.counts.truncated_examples == 20
    assert store.counts.turns == 0
    assert not any("turn-end" in warning for warning in store.counts.warnings())


def test_tools_that_the_template_does_not_render_are_a_warning(tmp_path, write_jsonl, tiny_encoder):
    rows = [{**ROWS[0], "tools": [{"name": "f"}]}, {**ROWS[1], "tools": []}, ROWS[2]]
    store = prepare(settings_of(write_jsonl(*rows)), tiny_encoder, tmp_path, ignore)
    (warning,) = store.counts.warnings()
    assert warning.startswith("1 rows have tools and the chat template does not render any")


def test_tokens_across_a_boundary_are_counted(tmp_path, write_jsonl, tiny_encoder):
    path = write_jsonl({"prompt": "What is the ", "completion": "capital"})
    store = prepare(settings_of(path), tiny_encoder, tmp_path, ignore)
    assert store.counts.straddling_tokens == 1
    assert any("1 tokens join the end of a prompt" in warning for warning in store.counts.warnings())


def test_statistics_know_labels_turn_ends_and_the_first_token(tmp_path, write_jsonl, tiny_encoder):
    store = prepare(settings_of(write_jsonl(*ROWS)), tiny_encoder, tmp_path, ignore)
    shard = store.read(0)
    statistics = store.statistics(shard, {("base", "loss"): np.zeros(len(shard.labels))}, first_token=7)
    assert statistics.first_token == 7
    assert statistics.turn_end is not None
    ends = np.flatnonzero(statistics.turn_end)
    assert np.array_equal(ends, shard.cu_seqlens[1:] - 1)
    assert (shard.input_ids[ends] == 4).all()


def test_opening_what_was_never_prepared(tmp_path):
    with pytest.raises(TokensieveError, match="this folder lacks its manifest"):
        open_examples(tmp_path)


def test_the_manifest_tells_where_it_came_from(tmp_path, write_jsonl, tiny_encoder):
    settings = settings_of(write_jsonl(*ROWS), limit=3)
    manifest = read_json(prepare(settings, tiny_encoder, tmp_path, ignore).folder / "manifest.json")
    assert manifest["settings"]["limit"] == 3
    assert {"source", "tokenizer", "max_length"} <= manifest["identity"].keys()
    assert {"tokensieve", "transformers"} <= manifest["versions"].keys()


SHARED = [
    "data/gsm8k/test.jsonl",
    "data/fastchat/data/dummy_conversation.json",
    "data/llamafactory_demo/v1_sft_demo.jsonl",
    "data/llamafactory_demo/glaive_toolcall_en_demo.json",
]


@pytest.mark.parametrize("tokenizer", ["models/english-3M", "tokenizers/qwen2.5"])
def test_real_data(tokenizer, shared, tmp_path):
    encoder = load_encoder(str(shared / tokenizer))
    for file in SHARED:
        settings = settings_of(shared / file, limit=150)
        if "toolcall" in file and "english" in tokenizer:
            with pytest.raises(TokensieveError, match="leaves out the tool calls of message 3"):
                prepare(settings, encoder, tmp_path, ignore)
            continue
        store = prepare(settings, encoder, tmp_path, ignore)
        counts = store.counts
        assert counts.rows == 150, file
        assert counts.examples == 150
        assert counts.turns_ended == counts.turns > 0
        assert counts.straddling_tokens == 0
        assert counts.rows_with_unused_tools == 0


def test_real_conversations_train_on_the_assistant_alone(shared, tmp_path):
    file = shared / "data/fastchat/data/dummy_conversation.json"
    rows = [row["conversations"] for row in json.loads(file.read_text())][:50]
    for name, end in (("models/english-3M", "<|end|>"), ("tokenizers/qwen2.5", "<|im_end|>")):
        encoder = load_encoder(str(shared / name))
        store = prepare(settings_of(file, limit=50), encoder, tmp_path, ignore)
        for (_, ids, labels), turns in zip(examples_of(store), rows, strict=True):
            trained = encoder.tokenizer.decode([i for i, label in zip(ids, labels, strict=True) if label != -100])
            assert trained == "".join(turn["value"] + end for turn in turns if turn["from"] == "gpt")


def test_examples_know_their_source(tmp_path, write_jsonl, tiny_encoder):
    named = {"prompt": "q", "completion": "a", "source": "forum"}
    first = write_jsonl(named, {"prompt": "q", "completion": "b"}, name="first.jsonl")
    second = write_jsonl({"prompt": "q", "completion": "c", "source": ""}, named, name="second.jsonl")
    settings = DataSettings(files=(str(first), str(second)))
    store = prepare(settings, tiny_encoder, tmp_path / "store", lambda rows: None)
    assert store.sources == ("forum", str(first), str(second))
    assert store.source_numbers(0).tolist() == [0, 1, 2, 0]


def test_a_source_that_every_row_has_its_own_of_is_no_grouping(tmp_path, write_jsonl, tiny_encoder):
    rows = [{"prompt": "q", "completion": "a", "source": f"page {number}"} for number in range(300)]
    settings = DataSettings(files=(str(write_jsonl(*rows)),))
    store = prepare(settings, tiny_encoder, tmp_path / "store", lambda rows: None)
    assert len(store.sources) == 257
    assert store.sources[-1] == "other sources"
    assert (store.source_numbers(0) == 256).sum() == 44


def test_another_cut_has_the_same_fingerprint_and_another_identity(tmp_path, write_jsonl, tiny_encoder, monkeypatch):
    settings = settings_of(write_jsonl(*ROWS))
    whole = prepare(settings, tiny_encoder, tmp_path / "store", ignore)
    monkeypatch.setattr(prepare_module, "SHARD_TOKENS", 50)
    cut = prepare(settings, tiny_encoder, tmp_path / "store", ignore)
    assert cut.folder != whole.folder
    assert cut.shards > whole.shards == 1
    assert cut.fingerprint == whole.fingerprint
    assert cut.cut != whole.cut
    assert cut.starts[-1] == whole.starts[-1] == whole.counts.tokens
    assert cut.first_examples.tolist() == np.cumsum([0, *map(len, cut)]).tolist()


def test_a_deleted_shard_is_made_again_and_a_damaged_one_named(tmp_path, write_jsonl, tiny_encoder, monkeypatch):
    monkeypatch.setattr(prepare_module, "SHARD_TOKENS", 50)
    settings = settings_of(write_jsonl(*ROWS))
    store = prepare(settings, tiny_encoder, tmp_path / "store", ignore)
    path = store.folder / shard_name(1)
    whole = path.read_bytes()
    path.write_bytes(whole[:-9] + b"X" + whole[-8:])
    with pytest.raises(TokensieveError, match="damaged") as error:
        prepare(settings, tiny_encoder, tmp_path / "store", ignore).read(1)
    assert (error.value.where, "delete the file" in error.value.hint) == (str(path), True)
    path.unlink()
    prepare(settings, tiny_encoder, tmp_path / "store", ignore).read(1)
    assert path.read_bytes() == whole


def test_an_old_store_is_refused_with_the_way_out(tmp_path, write_jsonl, tiny_encoder):
    write_json(tmp_path / "store/examples/0123/manifest.json", {"fingerprint": "f", "shards": 1})
    with pytest.raises(TokensieveError, match="another version of tokensieve") as error:
        prepare(settings_of(write_jsonl(*ROWS)), tiny_encoder, tmp_path / "store", ignore)
    assert error.value.where == str(tmp_path / "store")
    assert "give another output and store" in error.value.hint


def test_a_store_from_before_there_were_marks_opens(write_jsonl, tiny_encoder, tmp_path):
    row = {"question": "Two?", "answer": "Two apples."}
    store = prepare(DataSettings(files=(str(write_jsonl(row)),)), tiny_encoder, tmp_path / "store", lambda _: None)
    manifest = open_manifest(store.folder)
    about = {key: value for key, value in manifest.about.items() if key != "mark_types"}
    write_manifest(store.folder, manifest.files, about)
    assert open_examples(store.folder).mark_types == ()


@pytest.mark.parametrize("change", ["appended", "replaced", "added"])
def test_data_that_changes_while_it_is_read_is_refused(change, tmp_path, write_jsonl, tiny_encoder):
    """It would be kept under the fingerprint of what it was before."""
    path = write_jsonl(*ROWS)
    settings, row = settings_of(path.parent), json.dumps(ROWS[0]) + "\n"

    def while_reading(_: int) -> None:
        if change == "appended":
            with path.open("a") as file:
                file.write(row)
        elif change == "replaced":
            text = path.read_text()
            path.with_name("new").write_text(text)
            path.with_name("new").replace(path)
        else:
            path.with_name("another.jsonl").write_text(row)

    with pytest.raises(TokensieveError, match="the data changed while it was read") as error:
        prepare(settings, tiny_encoder, tmp_path / "store", while_reading)
    assert error.value.where == str(path.with_name("another.jsonl") if change == "added" else path)
    assert not list((tmp_path / "store/examples").glob("[!.]*")), "it was kept"
    again = prepare(settings, tiny_encoder, tmp_path / "store", ignore)
    assert again.counts.rows == len(ROWS) + (change != "replaced")
