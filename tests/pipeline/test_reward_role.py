"""The role `reward` in a run: a head trained on preferences, learnable or not, or a model that scores tokens."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForTokenClassification, AutoTokenizer, LlamaConfig

from tokensieve.containers import StatisticSpec
from tokensieve.data.example_store import open_examples
from tokensieve.errors import TokensieveError
from tokensieve.models.loading import load_config
from tokensieve.models.size import model_size
from tokensieve.pipeline import reward as reward_module
from tokensieve.pipeline.dry_run import dry_run
from tokensieve.pipeline.forecast.estimate import Estimates
from tokensieve.pipeline.forecast.hardware import Hardware
from tokensieve.pipeline.forecast.rates import SharesOfRate, TimedHere
from tokensieve.pipeline.inputs import prepare_inputs
from tokensieve.pipeline.plan import make_plan
from tokensieve.pipeline.recipe import load_recipe
from tokensieve.pipeline.reward import Preferences
from tokensieve.progress import StageProgress
from tokensieve.runs.folder import RunFolder
from tokensieve.store.manifest import open_manifest

DEVICE = Hardware("ANY", 1, "cuda", {"float32": 1e12, "bfloat16": 1e12}, 10**10, 1e9)
METHOD = "method=preference-guided"
SETTINGS = ["models.reward.preferences.epochs=20", "models.reward.preferences.learning_rate=1e-2"]
GOOD, BAD = ["sea", "wide", "cold"], ["apples", "left", "three"]


def answers(generator, words) -> str:
    return " ".join(generator.choice([*words, "the", "is", "and"], 8))


def write_preferences(path: Path, learnable: bool, rows: int = 150) -> Path:
    """Write preferences for answers with some words over answers with others; or for one or the other by chance."""
    generator = np.random.default_rng(0)
    with path.open("w") as file:
        for number in range(rows):
            both = [answers(generator, words) for words in (GOOD, BAD)]
            if not learnable and generator.random() < 0.5:
                both.reverse()
            prompt = [{"role": "user", "content": f"say {number}"}]
            chosen, rejected = ([{"role": "assistant", "content": text}] for text in both)
            file.write(json.dumps({"prompt": prompt, "chosen": chosen, "rejected": rejected}) + "\n")
    return path


def heads(folder: Path) -> list[Path]:
    return [file.parents[1] for file in (folder / "store/models").rglob("reward_head.safetensors")]


def test_a_head_is_trained_once_and_weighs_the_tokens_that_make_answers_good(data, run, monkeypatch, capsys):
    preferences = write_preferences(data / "preferences.jsonl", learnable=True)
    given = [METHOD, f"models.reward.preferences={preferences}", *SETTINGS]
    folder = run("a", *given, until="train")
    assert "make reward: held-out pair accuracy 100.0% (95 % interval 88.6% to 100.0%)" in capsys.readouterr().err
    [made] = heads(data)
    result = open_manifest(made).about["result"]
    assert (result["held_out"], result["trained"], result["accuracy"]) == (30, 120, 1)
    rewards = rewards_of_words(RunFolder(folder))
    good, bad = (np.mean([reward for word, reward in rewards if word in few]) for few in (GOOD, BAD))
    assert good > bad + 0.2
    card = (RunFolder(folder).arm("preference-guided").cleaned / "README.md").read_text()
    assert "with a head trained on the preferences of preferences.jsonl" in card
    monkeypatch.setattr(reward_module, "train_reward_head", lambda *_: pytest.fail("trained again"))
    run("b", *given, "seed=3", until="select")
    assert "held-out pair accuracy 100.0%" in capsys.readouterr().err


def rewards_of_words(folder: RunFolder) -> list[tuple[str, float]]:
    """Return the trained words of a run's pool, each with the reward of its last token."""
    state = folder.state()
    examples = open_examples(folder.place_of(state.examples))
    shard = examples.read(0)
    column = open_manifest(folder.place_of(state.statistics["reward"])).column("reward/shard-00000.arrow", "reward")
    tokenizer = AutoTokenizer.from_pretrained(examples.folder / "tokenizer")
    trained = shard.labels != -100
    words = [tokenizer.decode([one]).strip() for one in shard.input_ids[trained]]
    assert not column[~trained].any()
    return list(zip(words, column[trained].tolist(), strict=True))


def test_preferences_by_chance_are_refused_and_no_head_is_kept(data, run):
    preferences = write_preferences(data / "preferences.jsonl", learnable=False)
    with pytest.raises(TokensieveError, match="no better than chance: held-out pair accuracy") as error:
        run("a", METHOD, f"models.reward.preferences={preferences}", until="select")
    assert error.value.where == "recipe: models.reward.preferences"
    assert heads(data) == []


FAULTS = {
    "the base": ([METHOD, "models.reward={}"], "the base gives no rewards", "recipe: models.reward"),
    "no model": ([METHOD], "needs reward of a model in the role 'reward', and none is given", "recipe: models.reward"),
    "a warm-up": (
        [METHOD, "models.reward.warm_up={rows: 4}"],
        "a warm-up makes a language model",
        "recipe: models.reward.warm_up",
    ),
    "another role": (
        ["models.reference={preferences: x.jsonl}"],
        "preferences make a reward model, and models.reference is none",
        "recipe: models.reference.preferences",
    ),
    "a measured reward": (
        ["measure.statistics=[reward]"],
        "only a model in the role 'reward' gives rewards",
        "recipe: measure.statistics",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_recipe_that_gives_no_rewards_is_refused(fault, arguments):
    more, what, where = FAULTS[fault]
    with pytest.raises(TokensieveError, match=what) as error:
        make_plan(load_recipe(None, arguments("a", *more)))
    assert error.value.where == where
    assert "preferences: FILE}" in error.value.hint


def test_bad_preferences_are_refused_before_a_model_is_loaded(data, run, arguments, monkeypatch):
    monkeypatch.setattr("tokensieve.models.pool.load_model", lambda *_: pytest.fail("a model was loaded"))
    path = data / "preferences.jsonl"
    for row, what in (
        ({"prompt": "a"}, "ranks no answers"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "all preferences are of one prompt"),
    ):
        path.write_text(json.dumps(row) + "\n")
        with pytest.raises(TokensieveError, match=what):
            run("a", METHOD, f"models.reward.preferences={path}", until="select")
    with pytest.raises(TokensieveError, match="this language model gives no rewards") as error:
        run("a", METHOD, f"models.reward={arguments('a')[2].partition('=')[2]}", until="select")
    assert "AutoModelForTokenClassification" in error.value.hint


def test_a_dry_run_says_what_it_would_do(data, arguments):
    preferences = write_preferences(data / "preferences.jsonl", learnable=True, rows=9)
    asked, answered = json.loads((data / "held_out.jsonl").read_text().splitlines()[0])["messages"]
    with preferences.open("a") as file:
        rejected = [{"role": "assistant", "content": "no"}]
        file.write(json.dumps({"prompt": [asked], "chosen": [answered], "rejected": rejected}) + "\n")
    recipe = load_recipe(None, arguments("a", METHOD, f"models.reward={{preferences: {preferences}}}"))
    progress = StageProgress(shown=False)
    lines = dry_run(recipe, progress)
    assert "1 of 6 held-out examples are in models.reward.preferences.files too" in "".join(progress.warnings)
    assert "measure reward: reward, of a model to be made" in lines
    assert any(line.startswith("models.reward.preferences: 10 rankings of 20 answers") for line in lines)
    assert lines[-1] == "ok: everything but the weights was checked"


@pytest.fixture
def scorer(tmp_path) -> Path:
    """Return the folder of a model that scores tokens."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=2000,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=4096,
    )
    config.num_labels = 1
    AutoModelForTokenClassification.from_config(config).save_pretrained(tmp_path / "scorer")
    return tmp_path / "scorer"


def test_a_model_that_scores_tokens_takes_the_role(run, scorer):
    folder = RunFolder(run("a", METHOD, f"models.reward={scorer}", until="select"))
    state = folder.state()
    shard = open_examples(folder.place_of(state.examples)).read(0)
    column = open_manifest(folder.place_of(state.statistics["reward"])).column("reward/shard-00000.arrow", "reward")
    model = AutoModelForTokenClassification.from_pretrained(scorer).eval()
    ids = torch.from_numpy(shard.input_ids[: shard.cu_seqlens[1]].astype(np.int64))[None]
    with torch.no_grad():
        expected = model(ids).logits[0, :, 0].sigmoid().numpy()
    trained = shard.labels[: shard.cu_seqlens[1]] != -100
    assert np.allclose(column[: shard.cu_seqlens[1]][trained], expected[trained], atol=1e-5)


def test_a_model_that_scores_tokens_is_no_base(run, arguments, scorer):
    tokenizer = arguments("a")[2].partition("=")[2]
    with pytest.raises(TokensieveError, match="scores tokens and has no language-model head") as error:
        run("a", f"models.base={scorer}", f"data.tokenizer={tokenizer}", until="measure")
    assert error.value.where == f"{scorer} (models.base)"


def test_the_room_and_the_time_of_hidden_states_are_counted(data, arguments, monkeypatch):
    preferences = write_preferences(data / "preferences.jsonl", learnable=True, rows=10)
    recipe = load_recipe(None, arguments("a", METHOD, f"models.reward.preferences={preferences}"))
    inputs = prepare_inputs(make_plan(recipe), StageProgress(shown=False))
    assert inputs.preferences is not None
    need = inputs.preferences.bytes_of_states(inputs.models["reward"])
    width = load_config(inputs.models["reward"]).hidden_size
    assert need == 4 * width * inputs.preferences.examples.counts.trainable_tokens
    stages = {stage.name: stage for stage in Estimates(inputs, DEVICE, SharesOfRate(DEVICE)).stages()}
    assert list(stages)[1:3] == ["make reward", "measure reward"]
    assert stages["make reward"].disk == need
    assert stages["make reward"].work.tokens == inputs.preferences.examples.counts.tokens
    backbone = inputs.models["reward"]
    assert TimedHere(DEVICE, inputs).measuring(backbone, model_size(backbone), [StatisticSpec("reward")]) > 0
    monkeypatch.setattr(Preferences, "bytes_of_states", lambda *_: 10**18)
    with pytest.raises(TokensieveError, match="the run needs about 1000000000"):
        prepare_inputs(make_plan(recipe), StageProgress(shown=False))
