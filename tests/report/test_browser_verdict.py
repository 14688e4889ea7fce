"""The first view in a real browser: the verdict, and what must not mislead."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from browser_tabs import Tab

from tokensieve.report.html.page import Report
from tokensieve.report.verdict import run_verdict
from tokensieve.runs.view import load_run
from tokensieve.store.atomic import read_json, write_json


@pytest.fixture
def judged(demo) -> Path:
    """A run whose method is worse than both controls in held-out loss, by example, and whose arms have loss curves."""
    arms, generator = demo.folder / "arms", np.random.default_rng(0)
    chosen = read_json(arms / "token-cleaning/selection.json")["kept"]
    fields = {"kept": chosen, "as_many_as": "token-cleaning", "rule": {"name": "TopCount", "tokens": chosen}}
    write_json(arms / "random/selection.json", read_json(arms / "random/selection.json") | fields)
    for place, arm in enumerate(("full", "random", "token-cleaning")):
        losses = 2 + (arm == "token-cleaning") / 10 + 0.02 * generator.standard_normal(60)
        rows = [{"rows": n, "losses": value, "tokens": 1} for n, value in enumerate(losses)]
        (arms / arm / "held_out.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        write_json(arms / arm / "evaluation.json", {"held_out": {"loss": losses.mean(), "low": 1.0, "high": 3.0}})
        (arms / arm / "model").mkdir()
        end = (40.0, 40.1, 43.0)[place]
        log = [{"step": step, "loss": end + (4 - step) / 10} for step in range(5)]
        write_json(arms / arm / "model" / "training.json", {"metrics": {}, "log": log})
    return demo.folder


@pytest.fixture
def tab(judged, browser, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(Report(load_run(judged), 10).render(), encoding="utf-8")
    tab = Tab(browser, path.as_uri())
    yield tab
    assert tab.said == []
    tab.page.close()


def test_the_first_thing_on_the_page_is_the_verdict(tab, judged):
    sentence = run_verdict(load_run(judged)).sentence
    assert sentence.startswith("Worse than as many random tokens: +0.0")
    assert tab.text("main h2 >> nth=0") == sentence
    assert tab.page.locator("#verdict").bounding_box()["y"] < 250
    chart = tab.page.get_attribute("#differences svg", "aria-label")
    assert re.search(
        r"minus as many random tokens 0\.0\d+, from .* worse; minus full training .* Lower is better", chart
    )
    assert "lower is better" in tab.text("#differences")
    assert tab.page.locator("#typical .glance .kept").count()
    assert tab.page.locator("#typical .glance .dropped").count()
    assert not tab.page.locator("#typical .glance .prompt").count()
    assert "by how many nats the reference model predicts the token better" in tab.text("#meaning")
    assert re.search(r"date\s+20\d\d-\d\d-\d\d", tab.text("#facts"))
    assert "token-cleaning" in tab.text("#facts")


def test_labels_of_training_loss_stand_beside_their_curves_in_their_colours(tab):
    tab.page.evaluate("location.hash = 'run'")
    tab.page.wait_for_selector("#training svg.plot text:text('token-cleaning')")
    labels = """(svg) => {
      const lines = [...svg.querySelectorAll("path[stroke-width='2'], g[stroke-width='2'] path")];
      const ends = lines.map((line) =>
        line.getPointAtLength(line.getTotalLength()).matrixTransform(line.getScreenCTM()).y);
      const strokes = lines.map((line) => getComputedStyle(line).stroke);
      const names = ["random", "full", "token-cleaning"];
      const texts = [...svg.querySelectorAll("text")].filter((one) => names.includes(one.textContent));
      return texts.map((text) => {
        const box = text.getBoundingClientRect();
        const i = strokes.indexOf(getComputedStyle(text).fill);
        return [text.textContent, i, Math.abs(box.y + box.height / 2 - ends[i])];
      });
    }"""
    found = tab.page.eval_on_selector("#training svg.plot", labels)
    assert sorted(name for name, _, _ in found) == ["full", "random", "token-cleaning"]
    assert len({place for _, place, _ in found}) == 3
    assert -1 not in {place for _, place, _ in found}
    assert all(off < 14 for _, _, off in found), found
