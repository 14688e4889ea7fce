"""The card of a data set: its header, what it tells, and what it does not."""

from __future__ import annotations

import re
from pathlib import Path

import datasets
import pytest
import yaml
from trained_examples import MODEL

from tokensieve.export.write import export_arm
from tokensieve.runs.card import cleaned_card, dataset_card
from tokensieve.runs.view import load_run
from tokensieve.select.selection import LAYOUT, Selection

RECIPE = {
    "data": {"files": ["/home/me/secret/pool.jsonl", "you/data"], "tokenizer": None, "max_length": 256},
    "models": {
        "base": {"path": "/home/me/model", "adapter": None, "warm_up": None},
        "reference": {"path": None, "adapter": None, "warm_up": {"rows": 1000, "files": []}},
        "unsafe": {"path": "you/model", "adapter": "/home/me/unsafe", "warm_up": None},
    },
}
SELECTION = {
    "layout": LAYOUT,
    "examples": 1400,
    "method": "token-cleaning",
    "parameters": {"fraction": 0.6, "scope": "dataset", "rounding": "floor", "strength": 2},
    "fitted": None,
    "rule": {"name": "TopFraction", "fraction": 0.6, "scope": "dataset", "rounding": "floor"},
    "keep_turn_end": True,
    "statistics": {"base.loss": "b", "reference.loss": "r", "unsafe.loss": "u"},
    "data": "f" * 64,
    "cut": "c" * 64,
    "online": False,
    "kept": 12001,
    "trainable": 20002,
    "examples_without_kept": 3,
    "examples_written": 1397,
    "source_rows": 1400,
}


def selection(**changes) -> Selection:
    return Selection.from_json({**SELECTION, **changes}, "here")


def card(recipe=RECIPE, **changes) -> str:
    return dataset_card(recipe, selection(**changes), layout="Rows.", loads_with_datasets=True)


def header(text: str) -> dict:
    return yaml.safe_load(text.split("---\n")[1])


def test_header():
    assert header(card()) == {
        "license": "unknown",
        "pretty_name": "Tokens chosen by token-cleaning",
        "task_categories": ["text-generation"],
        "tags": ["tokensieve", "token-selection", "supervised-fine-tuning"],
        "size_categories": ["1K<n<10K"],
    }
    licensed = {**RECIPE, "data": {**RECIPE["data"], "license": "apache-2.0"}}
    assert header(card(licensed))["license"] == "apache-2.0"


@pytest.mark.parametrize(
    ("examples", "size"), [(1, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (10**6, "1M<n<10M"), (10**10, "n>1B")]
)
def test_sizes(examples, size):
    assert header(card(examples_written=examples))["size_categories"] == [size]


def test_it_tells_the_method_its_parameters_the_counts_and_the_models_and_no_path():
    text = card()
    for row in (
        "| method | token-cleaning |",
        "| parameters | strength 2 |",
        "| rule | top 0.6 of the data set, rounded down |",
        "| ends of turns | kept whatever their score |",
        "| trained tokens | 12,001 of 20,002 (60.0 %) |",
        "| examples | 1,397 |",
        "| examples without a kept token | 3, left out |",
        "| source | pool.jsonl, you/data |",
        f"| fingerprint of token ids, labels and lengths | {'f' * 64} |",
        "| base model | model |",
        "| reference model | model, fine-tuned on 1,000 rows of this data |",
        "| unsafe model | you/model with the adapter unsafe |",
    ):
        assert row in text
    assert "/home" not in text
    assert "before the first" not in text
    assert "what it would choose before the first" in card(online=True)


def test_it_names_the_models_that_the_choice_used_alone():
    assert not re.search(r"\| \w+ model \|", card(statistics={}))
    text = card(statistics={"unsafe.loss": "u"})
    assert "| unsafe model |" in text
    assert "| base model |" not in text
    assert "| reference model |" not in text
    for read in ({"online": True, "statistics": {}}, {"statistics": {"history.loss": "h"}}):
        assert "| base model | model |" in card(**read)


def test_the_rule_is_the_one_that_was_applied():
    text = card(
        method="random",
        parameters={"fraction": 0.6, "scope": "dataset", "rounding": "floor", "seed": 0},
        rule={"name": "DropFraction", "fraction": 0.1, "scope": "example", "rounding": "ceil"},
        keep_turn_end=False,
    )
    assert "| rule | all but the lowest 0.1 of each example, rounded up |" in text
    assert "| parameters | seed 0 |" in text
    assert "| ends of turns | as other tokens |" in text
    # There the fraction is no share that a ranking keeps.
    text = card(method="rho-1-self", parameters={"fraction": 0.7}, rule={"name": "Threshold", "value": -0.7})
    assert "| parameters | fraction 0.7 |" in text
    assert "| rule | score of at least -0.7 |" in text


def test_it_tells_what_was_found_in_the_data():
    fitted = {"tau": 0.25, "floor": 0.1}
    text = card(method="talr", parameters={"tau": None, "floor": 0.1}, fitted=fitted)
    assert "| found in the data | tau 0.25 |" in text
    assert "found in the data" not in card()


def test_it_says_a_part_only_where_it_is_one():
    assert "Only a part of the answers' tokens is trained on" in card()
    whole = card(kept=20002)
    assert "Every token of the answers is trained on." in whole
    assert "Only a part" not in whole


def test_cleaned_data_of_a_method_that_weighs_says_what_it_lacks(weighted, finished):
    text = (weighted / "arms/dft/cleaned/README.md").read_text()
    assert "these rows carry no weights: train with `tokensieve train`, or export to a target that takes w" in text
    assert "carry no weights" not in Path(export_arm(weighted, "tinker").folder / "README.md").read_text()
    assert "carry no weights" not in (finished / "arms/loss/cleaned/README.md").read_text()
    forgetting = selection(method="forgetting", parameters={})
    assert "train with `tokensieve train`." in cleaned_card(RECIPE, forgetting)


def test_data_cannot_break_the_table():
    assert "| a\\|b &lt;script> c |" in card(method="a|b <script>\nc")


def test_every_arm_has_one_beside_its_cleaned_data(finished, tmp_path):
    view = load_run(finished)
    for arm in view.arms:
        cleaned = finished / "arms" / arm / "cleaned"
        text = (cleaned / "README.md").read_text()
        selection = view.row(arm).selection
        assert selection is not None
        assert f"| trained tokens | {selection.kept:,} of {selection.trainable:,} (" in text
        assert str(finished) not in text
        assert str(MODEL.parent) not in text
        # One cache for all arms: `datasets` must not take one for another.
        whole = datasets.load_dataset(str(cleaned), split="train", cache_dir=str(tmp_path / "a"))
        plain = datasets.load_dataset(str(cleaned / "data"), split="train", cache_dir=str(tmp_path / "b"))
        assert whole["labels"] == plain["labels"]  # type: ignore[index]


def test_the_licence_of_the_recipe(make_run, tmp_path):
    run = make_run(tmp_path / "run", "method=loss", "controls=[]", "data.license=cc-by-4.0")
    for folder in (run / "arms/loss/cleaned", export_arm(run, "axolotl").folder):
        text = Path(folder / "README.md").read_text()
        assert header(text)["license"] == "cc-by-4.0"
    assert "axolotl" in header(text)["tags"]


def test_equal_runs_have_equal_cards(make_run, finished, tmp_path):
    again = make_run(tmp_path / "again", "method={name: loss, fraction: 0.06}", "select.keep_turn_end=false")
    one, other = (folder / "arms/loss/cleaned/README.md" for folder in (finished, again))
    assert one.read_bytes() == other.read_bytes()
