from __future__ import annotations

import re
from html import unescape

import numpy as np
import pytest

from tokensieve.containers import Statistics
from tokensieve.errors import TokensieveError
from tokensieve.report.heatmap import percentile_scale, styled_runs, value_ends
from tokensieve.report.html.notebook import load_run


def spans(html: str) -> list[tuple[str, str]]:
    return [(style, unescape(text)) for style, text in re.findall(r'<span style="([^"]*)">([^<]*)</span>', html)]


def test_an_example_is_its_heat_map(demo):
    view = load_run(demo.folder)
    example = view.example(0)
    html = example._repr_html_()
    values = example.value("token-cleaning", "score")
    scale = percentile_scale(*value_ends(example.shard.value("token-cleaning", "score"), example.shard.trainable))
    pieces = view.decoder.pieces(example.token_ids)
    runs = styled_runs(pieces, example.trainable, example.kept("token-cleaning"), values, scale, marks=example.marks)
    assert [run.pieces[0].text for run in runs if run.style.marked] == [" world", " token"]
    assert html.count("2px dotted") == 2
    found = spans(html)
    assert len(found) == len(runs)
    assert "".join(text for _, text in found) == "ask·hello·the·world·the·token<|end|>"
    dropped = [text for style, text in found if "line-through" in style]
    assert dropped
    assert "keeps 0 of 5 tokens (0.0 %)" in html


def test_examples_show_any_arm_and_value(demo):
    example = load_run(demo.folder).example(3)
    assert "base.loss from" in example.html("full", "base.loss")
    assert "line-through" not in example.html("full", "base.loss")
    with pytest.raises(TokensieveError, match="no arm"):
        example.html("nobody")


def test_text_of_an_example_is_never_markup(demo):
    html = load_run(demo.folder).example(2)._repr_html_()
    assert "<script" not in html
    assert "".join(text for _, text in spans(html)).startswith('q<script>alert("x")</script>')
    assert "¶\n·lines" in unescape(load_run(demo.folder).example(3)._repr_html_())


def test_a_run_is_its_table_of_results(demo):
    html = load_run(demo.folder)._repr_html_()
    for shown in ("token-cleaning", "1.300 to 1.500", "boolq acc", "before fine-tuning", "6 examples"):
        assert shown in html
    assert "night &lt;b&gt;" in html
    assert "<b>" not in html


def test_statistics_are_a_table_of_quantiles():
    values = {("base", "<loss>"): np.array([9, 1, 2, 3], dtype=np.float32)}
    html = Statistics(np.array([0, 4]), np.array([-100, 5, 6, 7]), values)._repr_html_()
    assert "1 examples, 4 tokens, 3 trainable" in html
    assert "base.&lt;loss&gt;" in html
    assert re.findall(r"<td>([^<]*)</td>", html)[::3] == ["1", "2", "3"]


def test_statistics_without_a_trainable_token_have_a_table():
    html = Statistics(
        np.array([0, 1]), np.array([-100]), {("base", "loss"): np.zeros(1, dtype=np.float32)}
    )._repr_html_()
    assert "0 trainable" in html


def test_a_folder_may_be_text(demo):
    assert load_run(str(demo.folder)).folder == load_run(demo.folder).folder
