from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from tokensieve.containers import IGNORE_INDEX, LOSS, StatisticSpec
from tokensieve.data.example_store import ExampleStore
from tokensieve.engines.local import Local
from tokensieve.errors import TokensieveError
from tokensieve.measure import measure as module
from tokensieve.measure import worker
from tokensieve.measure.forward import Forward, measure_shard
from tokensieve.measure.measure import measure
from tokensieve.measure.measurement import Measurement, file_name
from tokensieve.measure.settings import MeasureSettings
from tokensieve.measure.worker import Job, Worker
from tokensieve.models import head
from tokensieve.models import pool as pools
from tokensieve.models.identity import model_identity, same_model
from tokensieve.models.loading import check_model
from tokensieve.models.pool import ModelPool
from tokensieve.models.settings import ModelSettings
from tokensieve.store.manifest import open_manifest, write_manifest

NAMES = ("entropy", "loss", "top1")
ODD_LENGTHS = [2, 3, 253, 17, 2, 64, 31, 7, 128, 5]
CPU = "cpu"


def run(examples: ExampleStore, model: ModelSettings, store: Path, budget: int = 512, names=NAMES) -> Measurement:
    settings, specs = MeasureSettings(token_budget=budget), [StatisticSpec(name) for name in names]
    return measure(examples, model, specs, settings, store, ModelPool(CPU), Local(), lambda _: None)


def plain(examples: ExampleStore, folder: Path, dtype: torch.dtype = torch.float32) -> dict[str, np.ndarray]:
    """Return the specs of one example at a time, through the model's own logits."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    specs: dict[str, list[np.ndarray]] = {name: [] for name in NAMES}
    for shard in examples:
        for start, stop in zip(shard.cu_seqlens[:-1], shard.cu_seqlens[1:], strict=True):
            ids = torch.from_numpy(shard.input_ids[start:stop].astype(np.int64))
            with torch.no_grad():
                logits = model(ids[None]).logits[0, :-1].double()
            log_p = logits.log_softmax(-1)
            mask = shard.labels[start + 1 : stop] != IGNORE_INDEX
            found = {
                "loss": -log_p.gather(-1, ids[1:, None])[:, 0],
                "entropy": -(log_p.exp() * log_p).sum(-1),
                "top1": (logits.argmax(-1) == ids[1:]).double(),
            }
            for name, value in found.items():
                specs[name].append(np.concatenate([[0.0], np.where(mask, value.numpy(), 0.0)]))
    return {name: np.concatenate(parts) for name, parts in specs.items()}


def read(measurement: Measurement, name: str) -> np.ndarray:
    return np.concatenate(
        [measurement.read(StatisticSpec(name), number) for number in range(measurement.examples.shards)]
    )


@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt2", "gpt_neox", "gemma2"])
def test_equals_a_plain_forward_with_full_logits(name, model_folder, example_store, tmp_path):
    folder, examples = model_folder(name), example_store(ODD_LENGTHS)
    measured = run(examples, ModelSettings(str(folder)), tmp_path)
    expected = plain(examples, folder)
    assert expected["loss"].max() > 1
    for statistic in NAMES:
        np.testing.assert_allclose(read(measured, statistic), expected[statistic], rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt2", "gpt_neox", "gemma2"])
@pytest.mark.parametrize("layer", [0, -1])
def test_attention_equals_that_of_the_eager_implementation(name, layer, model_folder, example_store, tmp_path):
    folder, examples = model_folder(name), example_store(ODD_LENGTHS)
    options = {"layer": layer, "heads": "mean"}
    specs = [
        StatisticSpec.of(name, options) for name in ("attention_to_prompt", "attention_received", "attention_row_mean")
    ]
    settings = MeasureSettings(token_budget=300)
    measured = measure(
        examples,
        ModelSettings(str(folder)),
        [*specs, LOSS],
        settings,
        tmp_path,
        ModelPool(CPU),
        Local(),
        lambda _: None,
    )
    np.testing.assert_allclose(measured.read(LOSS, 0), plain(examples, folder)["loss"], rtol=1e-5, atol=2e-5)
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    window = getattr(model.config, "sliding_window", None) if name == "gemma2" and layer == 0 else None
    shard = examples.read(0)
    found = [measured.read(spec, 0) for spec in specs]
    for start, stop in zip(shard.cu_seqlens[:-1], shard.cu_seqlens[1:], strict=True):
        ids = torch.from_numpy(shard.input_ids[start:stop].astype(np.int64))
        with torch.no_grad():
            share = model(ids[None], output_attentions=True).attentions[layer][0].mean(0).numpy()
        prompt = shard.labels[start:stop] == IGNORE_INDEX
        seers = np.array([min(stop - start - t, window or stop) for t in range(stop - start)])
        expected = (share[:, prompt].sum(1), share.sum(0) / seers, share.mean(1))
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours[start:stop], np.where(prompt, 0, theirs), rtol=0, atol=1e-5)


@pytest.mark.parametrize("layer", [2, -3])
def test_a_layer_that_the_model_does_not_have_is_named(layer, model_folder, example_store, tmp_path):
    spec = StatisticSpec.of("attention_to_prompt", {"layer": layer})
    model, settings = ModelSettings(str(model_folder("llama"))), MeasureSettings()
    with pytest.raises(TokensieveError, match=f"there is no layer {layer}: the model has 2"):
        measure(example_store([5]), model, [spec], settings, tmp_path, ModelPool(CPU), Local(), lambda _: None)


def test_relevance_is_that_of_the_ids(tmp_path, tiny_model_folder, tiny_encoder, write_jsonl):
    from tokensieve.data.prepare import prepare
    from tokensieve.data.settings import DataSettings
    from tokensieve.measure.relevance import relevance_table, words_to_ids

    rows = write_jsonl({"prompt": "How many apples are left?", "completion": "She has two apples left."})
    examples = prepare(DataSettings(files=(str(rows),)), tiny_encoder, tmp_path, lambda _: None)
    folder = tiny_model_folder("llama")
    spec = StatisticSpec.of("relevance", {"vector": "hidden", "domain_words": ("apples",)})
    settings = MeasureSettings()
    measured = measure(
        examples, ModelSettings(str(folder)), [spec], settings, tmp_path, ModelPool(CPU), Local(), lambda _: None
    )
    ids = words_to_ids(tiny_encoder.tokenizer, ["apples"])
    table = relevance_table(AutoModelForCausalLM.from_pretrained(folder), ids, "hidden", 400)
    shard, found = examples.read(0), measured.read(spec, 0)
    trainable = shard.labels != IGNORE_INDEX
    np.testing.assert_allclose(found[trainable], table[shard.input_ids[trainable]], rtol=1e-5)
    assert not found[~trainable].any()
    assert trainable.any()


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_does_not_depend_on_batches_or_shards(name, model_folder, example_store, tmp_path):
    model = ModelSettings(str(model_folder(name)))
    examples = example_store(ODD_LENGTHS)
    reference = run(examples, model, tmp_path / "a", budget=10_000)
    for shards, budget in ((1, 1), (1, 300), (3, 512)):
        other = run(
            example_store(ODD_LENGTHS, shards, 0) if shards > 1 else examples,
            model,
            tmp_path / f"{shards}-{budget}",
            budget,
        )
        for statistic in NAMES:
            np.testing.assert_allclose(read(other, statistic), read(reference, statistic), rtol=1e-5, atol=1e-5)


def test_does_not_depend_on_the_number_of_threads(model_folder, example_store, tmp_path):
    """Byte for byte: batches run on one core each, however many cores there are."""
    model, examples = ModelSettings(str(model_folder("llama"))), example_store(ODD_LENGTHS * 4)
    before, found = torch.get_num_threads(), []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        found.append(read(run(examples, model, tmp_path / str(threads), budget=64), "loss"))
    torch.set_num_threads(before)
    np.testing.assert_array_equal(*found)


def test_does_not_depend_on_the_order_of_examples(model_folder, tmp_path, example_store):
    model, examples = ModelSettings(str(model_folder("llama"))), example_store(ODD_LENGTHS)
    shard = examples.read(0)
    order = np.random.default_rng(1).permutation(len(shard))
    measured = read(run(examples, model, tmp_path), "loss")

    class Shuffled:
        folder, fingerprint, counts, shards, starts = examples.folder, "shuffled", examples.counts, 1, examples.starts
        cut = examples.cut

        def read(self, _):
            from tokensieve.containers import Examples
            from tokensieve.ops.ragged import gather_segments, offsets

            ids, labels = (gather_segments(v, shard.cu_seqlens, order) for v in (shard.input_ids, shard.labels))
            return Examples(ids, labels, offsets(shard.lengths[order]), shard.rows[order])

    from tokensieve.ops.ragged import gather_segments

    shuffled = run(Shuffled(), model, tmp_path)  # pyright: ignore[reportArgumentType]
    expected = gather_segments(measured, shard.cu_seqlens, order)
    np.testing.assert_allclose(shuffled.read(LOSS, 0), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["llama", "gpt_neox"])
def test_bfloat16_errs_no_more_than_the_plain_forward_in_bfloat16(name, model_folder, example_store, tmp_path):
    """Three ways: ours in bf16 and the model's own logits in bf16, both against float64 truth."""
    folder, examples = model_folder(name), example_store(ODD_LENGTHS)
    truth = plain(examples, folder, torch.float64)["loss"]
    naive = np.abs(plain(examples, folder, torch.bfloat16)["loss"] - truth)
    ours = np.abs(read(run(examples, ModelSettings(str(folder), dtype="bfloat16"), tmp_path), "loss") - truth)
    assert naive.max() > 1e-3
    assert ours.mean() <= naive.mean() * 1.1 + 1e-6
    assert ours.max() <= naive.max() * 1.5


def test_base_and_adapter_share_one_loaded_base(model_folder, example_store, tmp_path, monkeypatch):
    from peft import LoraConfig, PeftModel, get_peft_model

    folder, examples = model_folder("llama"), example_store(ODD_LENGTHS)
    torch.manual_seed(1)
    tuned = get_peft_model(
        AutoModelForCausalLM.from_pretrained(folder), LoraConfig(target_modules="all-linear", init_lora_weights=False)
    )
    tuned.save_pretrained(tmp_path / "adapter")
    loads = []
    load = pools.load_model
    monkeypatch.setattr(pools, "load_model", lambda *arguments: loads.append(arguments) or load(*arguments))
    pool, settings = ModelPool(CPU), MeasureSettings(token_budget=512)
    bare = ModelSettings(str(folder))
    adapted = ModelSettings(str(folder), str(tmp_path / "adapter"))
    losses = {}
    for key, model in (("base", bare), ("reference", adapted)):
        losses[key] = read(
            measure(examples, model, [LOSS], settings, tmp_path / "s", pool, Local(), lambda _: None), "loss"
        )
    assert len(loads) == 1
    again = read(measure(examples, bare, [LOSS], settings, tmp_path / "t", pool, Local(), lambda _: None), "loss")
    np.testing.assert_array_equal(again, losses["base"])  # nothing of the adapter is left in the weights
    with pool.use(adapted) as apart, Forward(apart, [LOSS]) as forward:
        shard = examples.read(0)
        unmerged = measure_shard(forward, shard, 512, lambda _: None)[LOSS.key]
    np.testing.assert_allclose(losses["reference"][: len(unmerged)], unmerged, rtol=1e-5, atol=2e-5)
    merged = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), tmp_path / "adapter")
    merged.merge_and_unload().save_pretrained(tmp_path / "merged")
    np.testing.assert_allclose(losses["base"], plain(examples, folder)["loss"], rtol=1e-5, atol=2e-5)
    np.testing.assert_allclose(losses["reference"], plain(examples, tmp_path / "merged")["loss"], rtol=1e-4, atol=1e-4)
    assert np.abs(losses["base"] - losses["reference"]).max() > 0.1


@pytest.mark.parametrize(("dtype", "merges"), [("float32", True), ("bfloat16", False)])
def test_an_adapter_is_merged_where_the_sum_loses_nothing(dtype, merges, model_folder, tmp_path):
    from peft import LoraConfig, get_peft_model

    folder = model_folder("llama")
    lora = LoraConfig(target_modules="all-linear", init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(folder), lora).save_pretrained(tmp_path)
    pool = ModelPool(CPU)
    with pool.use(ModelSettings(str(folder), str(tmp_path), dtype=dtype), merge=True) as model:
        layers = [module for module in model.modules() if hasattr(module, "merged")]
        assert layers
        assert all(layer.merged == merges for layer in layers)


def test_a_finished_measurement_is_reused_and_a_new_statistic_is_added(
    model_folder, example_store, tmp_path, monkeypatch
):
    model, examples = ModelSettings(str(model_folder("llama"))), example_store(ODD_LENGTHS, shards=3)
    first = run(examples, model, tmp_path, names=("loss",))
    stamps = {path: path.stat().st_mtime_ns for path in first.folder.rglob("*.arrow")}
    assert len(stamps) == 3
    added = run(examples, model, tmp_path, names=("entropy", "loss"))
    assert added.folder == first.folder
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    monkeypatch.setattr(worker, "Forward", lambda *_: pytest.fail("a finished measurement was measured again"))
    run(examples, model, tmp_path, names=("entropy",))


def test_another_precision_is_another_measurement(model_folder, example_store, tmp_path):
    folder, examples = str(model_folder("llama")), example_store([5, 9])
    single = run(examples, ModelSettings(folder), tmp_path)
    half = run(examples, ModelSettings(folder, dtype="bfloat16"), tmp_path)
    assert single.folder != half.folder
    assert run(examples, ModelSettings(folder, dtype="float32"), tmp_path).folder == single.folder


def test_identity_follows_weights_not_the_path(model_folder, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(model_folder("llama"), copy)
    here = model_identity(ModelSettings(str(model_folder("llama"))))
    assert model_identity(ModelSettings(str(copy))) == here
    assert model_identity(ModelSettings(str(model_folder("llama", seed=1)))) != here


def test_one_folder_in_two_roles_is_the_same_model(model_folder):
    folder = str(model_folder("llama"))
    assert same_model(ModelSettings(folder), ModelSettings(f"{folder}/.", dtype="float32"))
    assert not same_model(ModelSettings(folder), ModelSettings(folder, dtype="bfloat16"))
    assert not same_model(ModelSettings(folder), ModelSettings(str(model_folder("llama", seed=1))))


def test_nan_losses_name_the_rows_and_write_nothing(model_folder, example_store, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(model_folder("llama"))
    with torch.no_grad():
        model.get_parameter("model.embed_tokens.weight")[7] = float("nan")
    model.save_pretrained(tmp_path / "broken")
    examples = example_store(ODD_LENGTHS)
    shard = examples.read(0)
    hit = [
        str(row)
        for row, (a, b) in enumerate(zip(shard.cu_seqlens[:-1], shard.cu_seqlens[1:], strict=True))
        if (shard.input_ids[a : b - 1] == 7).any()
    ]
    with pytest.raises(TokensieveError, match="NaN or infinite") as error:
        run(examples, ModelSettings(str(tmp_path / "broken")), tmp_path / "s")
    assert ", ".join(hit) in str(error.value)
    assert not list((tmp_path / "s").rglob("*.arrow"))


OUT_OF_MEMORY = {
    "device": torch.OutOfMemoryError("CUDA out of memory"),
    "host": MemoryError("Unable to allocate 9 GiB"),
    "allocator": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
}


@pytest.mark.parametrize("error", OUT_OF_MEMORY.values(), ids=list(OUT_OF_MEMORY))
@pytest.mark.parametrize("most", [40, 20])
def test_out_of_memory_halves_the_batch(model_folder, example_store, tmp_path, monkeypatch, error, most):
    from tokensieve.measure.forward import Forward

    model, examples = ModelSettings(str(model_folder("llama"))), example_store([20, 9, 8, 7, 6])
    expected = read(run(examples, model, tmp_path / "a", budget=1), "loss")
    original, sizes = Forward._hidden, []

    def small_memory(self, input_ids):
        sizes.append(input_ids.numel())
        if input_ids.numel() > most:
            raise error
        return original(self, input_ids)

    monkeypatch.setattr(Forward, "_hidden", small_memory)
    with pytest.warns(UserWarning, match="does not fit into memory and is halved"):
        halved = read(run(examples, model, tmp_path / "b", budget=1000), "loss")
    np.testing.assert_allclose(halved, expected, rtol=1e-5, atol=1e-5)
    assert max(sizes) > most
    most = 10  # the longest alone does not fit
    with (
        pytest.warns(UserWarning, match="halved"),
        pytest.raises(TokensieveError, match="row 0 with 20 tokens does not"),
    ):
        run(examples, model, tmp_path / "c", budget=1000)


def test_another_error_of_a_model_is_no_lack_of_memory(model_folder, example_store, tmp_path, monkeypatch):
    from tokensieve.measure.forward import Forward

    calls = []

    def broken(self, sequences, targets):
        calls.append(len(sequences))
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(Forward, "statistics", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        run(example_store([9, 8]), ModelSettings(str(model_folder("llama"))), tmp_path / "a", budget=1000)
    assert calls == [2]


def test_an_architecture_with_unknown_logits_is_refused(model_folder, example_store, tmp_path, monkeypatch):
    monkeypatch.setattr(head, "_after_head", lambda _: lambda logits: logits)  # forgets Gemma's soft cap
    with pytest.raises(TokensieveError, match="not those of its head"):
        run(example_store([5]), ModelSettings(str(model_folder("gemma2"))), tmp_path)


def test_an_unknown_statistic_is_not_measured_as_zeros(model_folder, example_store, tmp_path):
    with pytest.raises(TokensieveError, match="unknown statistic 'surprise'"):
        run(example_store([5]), ModelSettings(str(model_folder("llama"))), tmp_path, names=("loss", "surprise"))
    assert not list(tmp_path.rglob("surprise"))


def test_a_worker_is_made_from_plain_data_in_another_process(model_folder, example_store, tmp_path):
    """What an engine sends around is small, and a worker made from it alone writes the same bytes."""
    model, examples = ModelSettings(str(model_folder("llama"))), example_store(ODD_LENGTHS, shards=3)
    here = run(examples, model, tmp_path / "here")
    there = Measurement(tmp_path / "there", examples)
    specs = tuple(StatisticSpec(name) for name in NAMES)
    pool = ModelPool(CPU)
    with pool.use(model):
        job = Job(there, model, specs, MeasureSettings(token_budget=512), module.fingerprint.versions())
        sent = pickle.dumps(partial(Worker, job, pool))
    assert len(sent) < 10_000, "the model itself must not travel"
    (tmp_path / "sent").write_bytes(sent)
    code = (
        "import pathlib, pickle, sys\n"
        "make = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())\n"
        "with make() as worker:\n"
        "    for shard in (2, 0, 1):\n"
        "        print(worker.do(shard, lambda _: None))\n"
        "    worker._forward = None  # done twice is done once\n"
        "    print(worker.do(2, lambda _: None))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "sent")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.count("FileRecord") for line in lines] == [3, 3, 3, 3]
    assert lines[3] == lines[0], "what is there is recorded as it was"
    for number in range(3):
        for spec in specs:
            assert (there.folder / file_name(spec, number)).read_bytes() == (
                here.folder / file_name(spec, number)
            ).read_bytes()


def test_a_worker_of_other_versions_measures_nothing(model_folder, example_store, tmp_path):
    model, here = ModelSettings(str(model_folder("llama"))), module.fingerprint.versions()
    job = Job(
        Measurement(tmp_path / "m", example_store([5])), model, (LOSS,), MeasureSettings(), {**here, "torch": "9.9.9"}
    )
    with pytest.raises(TokensieveError, match=r"torch: '9\.9\.9' there"), Worker(job, ModelPool(CPU)):
        pass


def test_tokens_are_told_once_also_those_of_shards_that_were_there(model_folder, example_store, tmp_path):
    model, examples = ModelSettings(str(model_folder("llama"))), example_store(ODD_LENGTHS, shards=3)
    settings, told = MeasureSettings(token_budget=512), []
    done = measure(examples, model, [LOSS], settings, tmp_path, ModelPool(CPU), Local(), told.append)
    assert sum(told) == sum(ODD_LENGTHS)
    (done.folder / file_name(LOSS, 1)).unlink()
    told.clear()
    measure(examples, model, [LOSS], settings, tmp_path, ModelPool(CPU), Local(), told.append)
    assert sum(told) == sum(ODD_LENGTHS)
    assert len(told) > 1


def test_an_engine_that_leaves_out_a_shard_is_an_error(model_folder, example_store, tmp_path, monkeypatch):
    class Lazy(Local):
        def map(self, make, shards, on_tokens):
            return super().map(make, shards[:-1], on_tokens)

    monkeypatch.setattr("test_measure.Local", Lazy)
    with pytest.raises(TokensieveError, match=r"left out 1 of 3 shards: \[2\]"):
        run(example_store(ODD_LENGTHS, shards=3), ModelSettings(str(model_folder("llama"))), tmp_path)


def test_half_done_with_other_versions_is_refused(model_folder, example_store, tmp_path, monkeypatch):
    model, examples = ModelSettings(str(model_folder("llama"))), example_store(ODD_LENGTHS, shards=2)
    done = run(examples, model, tmp_path, names=("loss",))
    (done.folder / file_name(LOSS, 1)).unlink()
    here = module.fingerprint.versions()
    monkeypatch.setattr(module.fingerprint, "versions", lambda: {**here, "torch": "9.9.9"})
    with pytest.raises(TokensieveError, match=f"torch: '{here['torch']}' there, '9.9.9' here".replace("+", r"\+")):
        run(examples, model, tmp_path, names=("loss",))


def test_models_are_checked_without_loading_weights(model_folder, tmp_path, monkeypatch):
    folder = model_folder("llama")
    check_model(ModelSettings(str(folder)), 100, "a.jsonl:1", 256)
    with pytest.raises(TokensieveError, match="token id 101 is beyond the model's embedding of 101 rows") as error:
        check_model(ModelSettings(str(folder)), 101, "a.jsonl:7", 10)
    assert "a.jsonl:7" in str(error.value)
    with pytest.raises(TokensieveError, match="longest example has 257 tokens, the model's context is 256"):
        check_model(ModelSettings(str(folder)), 5, "", 257)
    with pytest.raises(TokensieveError, match="no such model folder"):
        check_model(ModelSettings("./nowhere"), 5, "", 5)
    (tmp_path / "empty").mkdir()
    with pytest.raises(TokensieveError, match=r"no config\.json"):
        check_model(ModelSettings(str(tmp_path / "empty")), 5, "", 5)
    with pytest.raises(TokensieveError, match=r"no adapter_config\.json"):
        check_model(ModelSettings(str(folder), str(tmp_path / "empty")), 5, "", 5)


def test_another_cut_of_the_same_examples_is_another_measurement(model_folder, example_store, tmp_path):
    model, whole = ModelSettings(str(model_folder("llama"))), example_store(ODD_LENGTHS, shards=1)
    cut = dataclasses.replace(example_store(ODD_LENGTHS, shards=3), fingerprint=whole.fingerprint)
    measured = [run(examples, model, tmp_path, names=("loss",)) for examples in (whole, cut)]
    assert measured[0].folder != measured[1].folder
    for examples, one in zip((whole, cut), measured, strict=True):
        found = [len(one.read(LOSS, number)) for number in range(examples.shards)]
        assert found == np.diff(examples.starts).tolist()


def test_a_shard_whose_record_a_kill_prevented_is_not_measured_again(
    model_folder, example_store, tmp_path, monkeypatch
):
    model, examples = ModelSettings(str(model_folder("llama"))), example_store(ODD_LENGTHS, shards=3)
    done = run(examples, model, tmp_path, names=("loss",))
    manifest = open_manifest(done.folder)
    known = {name: one for name, one in manifest.files.items() if name != file_name(LOSS, 1)}
    write_manifest(done.folder, known, manifest.about)
    assert done.missing([LOSS], 1) == [LOSS]
    monkeypatch.setattr(worker, "Forward", lambda *_: pytest.fail("measured again"))
    again = run(examples, model, tmp_path, names=("loss",))
    assert open_manifest(again.folder).files == manifest.files
    assert again.complete([LOSS])


def test_a_damaged_shard_is_named_and_made_again_once_it_is_deleted(model_folder, example_store, tmp_path):
    model, examples = ModelSettings(str(model_folder("llama"))), example_store(ODD_LENGTHS, shards=3)
    done = run(examples, model, tmp_path, names=("loss",))
    path = done.folder / file_name(LOSS, 1)
    whole = path.read_bytes()
    path.write_bytes(whole[:600] + bytes([whole[600] ^ 4]) + whole[601:])
    with pytest.raises(TokensieveError, match="damaged") as error:
        done.read(LOSS, 1)
    assert error.value.where == str(path)
    path.unlink()
    run(examples, model, tmp_path, names=("loss",))
    assert path.read_bytes() == whole
