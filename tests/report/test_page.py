from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from tokensieve.report.chart import draw
from tokensieve.report.heatmap import LEVELS
from tokensieve.report.page import render_page, write_page
from tokensieve.report.palette import DARK, LIGHT, contrast
from tokensieve.report.summary import BINS, Histogram
from tokensieve.report.view import load_run
from tokensieve.store.atomic import read_json, write_json


class Page(HTMLParser):
    """Tags with their attributes, and the text of every token element."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tokens: list[tuple[str, str, str]] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append((tag, found))
        if tag == "span" and "title" in found:
            self.tokens.append((found["class"] or "", found["title"] or "", ""))
            self._open.append("token")
        elif tag == "span":
            self._open.append("")

    def handle_endtag(self, tag):
        if tag == "span":
            self._open.pop()

    def handle_data(self, data):
        if self._open and self._open[-1] == "token":
            kind, title, text = self.tokens[-1]
            self.tokens[-1] = (kind, title, text + data)


@pytest.fixture
def page(demo) -> Page:
    return Page(render_page(load_run(demo.folder), 12))


def test_data_is_never_markup(demo):
    run = demo.folder / "run.json"
    evil = "\"><script>alert(1)</script><img src=x onerror=alert(1)>'"
    write_json(run, {**read_json(run), "name": evil, "seconds": {evil: 1.0}, "versions": {evil: evil}})
    selection = demo.folder / "arms" / "token-cleaning" / "selection.json"
    write_json(selection, {**read_json(selection), "parameters": {evil: evil}, "rule": {evil: evil}, "method": evil})
    evaluation = demo.folder / "arms" / "full" / "evaluation.json"
    write_json(evaluation, {"tasks": {evil: {evil: 1.0}}})
    html = render_page(load_run(demo.folder), 12)
    page = Page(html)
    assert html.count("<script>") == 1
    assert not [tag for tag, _ in page.tags if tag == "img"]
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]


def test_names_of_arms_are_escaped(demo):
    name = 'a"<script>'
    (demo.folder / "arms" / "random").rename(demo.folder / "arms" / name)
    run = demo.folder / "run.json"
    write_json(run, {**read_json(run), "arms": ["token-cleaning", name]})
    html = render_page(load_run(demo.folder), 12)
    assert html.count("<script>") == 1
    assert "a&#34;&lt;script&gt;" in html


def test_tokens_that_look_like_a_script_are_text(page):
    assert '<script>alert("x")</script>&\'' in "".join(text for _, _, text in page.tokens)


def test_the_page_runs_no_other_script_and_loads_nothing(page):
    policy = next(a["content"] or "" for tag, a in page.tags if tag == "meta" and "http-equiv" in a)
    assert "default-src 'none'" in policy
    assert re.search(r"script-src 'sha256-[^' ]+'", policy)
    assert "unsafe" not in policy
    links = [a[name] or "" for _, a in page.tags for name in ("src", "href") if name in a]
    assert all(link.startswith(("#", "data:")) for link in links)
    assert not [a for _, a in page.tags if "style" in a]


def test_characters_are_whole_and_whitespace_is_visible(page):
    text = "".join(text for _, _, text in page.tokens)
    for shown in (
        "中文",
        "🙂",
        "👨‍👩‍👧",
        "é",
        "🇩🇪",
        "two¶\n·lines",
        "tab→and␣more",
        "end⟨U+202E⟩",
        "<|end|>",
    ):
        assert shown in text
    assert "Ġ" not in text
    assert "�" not in text


def test_tokens_tell_their_figures(page):
    titles = "\n".join(title for _, title, _ in page.tokens)
    assert re.search(
        r"“·the” · token \d+ · id \d+ · dropped · score \u221240 · base\.loss 40 · reference\.loss 80", titles
    )
    assert "prompt, not trained on" in titles


def test_decisions_are_shown_without_colour_too(page):
    classes = [set(kind.split()) for kind, _, _ in page.tokens]
    assert {"kept", "dropped", "prompt", "mixed"} & set().union(*classes) >= {"kept", "dropped", "prompt"}
    assert all(len(kind & {"kept", "dropped", "prompt", "mixed"}) == 1 for kind in classes)


def test_results_have_intervals_and_noise(demo):
    html = render_page(load_run(demo.folder), 0)
    for shown in (
        "1.300 to 1.500",
        "5.0 to 70.0 %",
        "75.0 %",
        "30 of 40",
        "5 of 100",
        "before fine-tuning",
        "boolq acc",
    ):
        assert shown in html
    assert 'id="examples"' not in html


def test_a_run_without_evaluation_has_a_page(demo, tmp_path):
    for path in [*demo.folder.glob("arms/*/evaluation.json"), demo.folder / "planted_noise.json"]:
        path.unlink()
    write_page(load_run(demo.folder), tmp_path / "report.html", 3)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "tokens kept" in html
    assert "held-out loss" not in html


def test_the_same_run_gives_the_same_page(demo):
    assert render_page(load_run(demo.folder), 5) == render_page(load_run(demo.folder), 5)


@pytest.mark.parametrize("palette", [LIGHT, DARK])
@pytest.mark.parametrize("signed", [True, False])
def test_every_colour_carries_text(palette, signed):
    for level in range(-LEVELS if signed else 0, LEVELS + 1):
        assert contrast(palette.text, palette.background(level, signed)) >= 4.5


def histogram(low, high):
    counts = np.arange(BINS)
    return Histogram("score", np.linspace(low, high, BINS + 1), counts, counts[::-1])


def test_bars_are_stacked_on_the_axis():
    chart = draw(histogram(-1.0, 1.0), 0.0)
    for bar in chart.bars:
        assert bar.kept_y + bar.kept_height == pytest.approx(chart.axis_y, abs=0.02)
        assert bar.dropped_y + bar.dropped_height == pytest.approx(bar.kept_y, abs=0.02)
        assert bar.dropped_y >= 0
    assert chart.threshold is not None
    assert chart.threshold.x == pytest.approx(180)
    assert "780 kept and 780 dropped" in chart.description


@pytest.mark.parametrize("threshold", [None, 5.0])
def test_a_threshold_out_of_view_is_not_drawn(threshold):
    assert draw(histogram(-1.0, 1.0), threshold).threshold is None
