"""The first view in a real browser: the verdict, and what must not mislead."""

from __future__ import annotations

import colorsys
import re
import shutil

import numpy as np
import pytest
from browser_tabs import Tab

from tokensieve.report.html.page import Report
from tokensieve.report.verdict import run_verdict
from tokensieve.runs.view import load_run
from tokensieve.store.atomic import read_json
from tokensieve.store.sealed import write_sealed


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
        r"against as many random tokens 0\.0\d+, from .* worse; against full training .* Lower is better", chart
    )
    said = tab.page.locator("#differences svg text", has_text="against").all_text_contents()
    assert said[0] == "against as many random tokens: worse"
    assert said[1].startswith("against full training: ")
    assert "lower is better; bars are 95 % intervals" in tab.text("#differences")
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


def test_the_lines_of_many_arms_differ_and_stand_before_their_names(judged, browser, tmp_path):
    arms = judged / "arms"
    names = [f"method-{number}" for number in range(10)]
    for name in names:
        shutil.copytree(arms / "random", arms / name)
    run = read_json(judged / "run.json")
    write_sealed(judged / "run.json", {**run, "arms": [*run["arms"], *names]})
    path = tmp_path / "report.html"
    path.write_text(Report(load_run(judged), 2).render(), encoding="utf-8")
    tab = Tab(browser, path.as_uri(), hash="run")
    looks = """(lines) => lines.map((line) => {
      const { stroke, strokeDasharray } = getComputedStyle(line);
      return [stroke, strokeDasharray].join();
    })"""
    samples = tab.page.eval_on_selector_all("#training .sample-line", looks)
    curves = tab.page.eval_on_selector_all(
        "#training path[fill=none][stroke-width='2'], #training g[stroke-width='2'] path", looks
    )
    axis = tab.page.eval_on_selector("#training svg.plot", "(svg) => svg.scale('y').domain[0]")
    texts = "#training svg.plot text[font-weight], #training g[font-weight] text"
    ends = "(texts) => Math.max(...texts.map((text) => text.getBoundingClientRect().bottom))"
    last = tab.page.eval_on_selector_all(texts, ends)
    bottom = tab.page.eval_on_selector("#training svg.plot", "(svg) => svg.getBoundingClientRect().bottom")
    tab.page.evaluate("location.hash = 'selection'")
    tab.page.wait_for_selector("#agreement svg.plot")
    fits = "(scroll) => scroll.scrollWidth <= scroll.clientWidth"
    assert tab.page.eval_on_selector("#agreement .scroll", fits), "the matrix has a row of its own"
    tab.page.close()
    assert tab.said == []
    assert axis >= 40, "the axis begins where the losses do, however many names stand there"
    assert last < bottom
    assert len(samples) == len(set(samples)) == 13
    assert set(samples) == set(curves)


def test_kept_and_dropped_look_the_same_everywhere_and_a_statistic_has_other_hues(tab):
    tab.page.evaluate("location.hash = 'examples'")
    tab.page.wait_for_selector("#example .kept, #example .dropped")
    tab.page.evaluate("location.hash = 'selection'")
    tab.page.wait_for_selector("#histograms svg.plot rect")
    found = tab.page.evaluate("""() => {
      const colour = (selector, name) => getComputedStyle(document.querySelector(selector))[name];
      const ramp = [...document.querySelectorAll("#ramp span")].map((one) => getComputedStyle(one).backgroundColor);
      return {
        kept: [colour(".legend .kept", "textDecorationColor"), colour("#typical .kept", "textDecorationColor"),
               colour(".kept-swatch", "backgroundColor"), colour("#groups [fill='var(--kept)']", "fill")],
        dropped: [colour(".legend .dropped", "textDecorationColor"), colour("#typical .dropped", "textDecorationColor"),
                  colour(".dropped-swatch", "borderTopColor"), colour("#groups [stroke='var(--dropped)']", "stroke")],
        ramp,
      };
    }""")
    kept, dropped = set(found["kept"]), set(found["dropped"])
    assert len(kept) == len(dropped) == 1
    for fate in (kept, dropped):
        assert all(abs(hue(*fate) - hue(colour)) > 30 for colour in found["ramp"] if grey(colour) is False)


def channels(colour: str) -> list[float]:
    return [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]


def grey(colour: str) -> bool:
    return max(channels(colour)) - min(channels(colour)) < 0.02


def hue(colour: str) -> float:
    red, green, blue = channels(colour)
    return 360 * colorsys.rgb_to_hls(red, green, blue)[0]


def test_tokens_dropped_most_are_listed_by_count_with_their_share(tab):
    tab.page.evaluate("location.hash = 'selection'")
    tab.page.select_option("#arm", "token-cleaning")
    tab.set_ratio(10)
    for title, fate in (("Kept most often", "kept"), ("Dropped most often", "dropped")):
        card = tab.page.locator(f"#vocabulary .card:has(h4:text('{title}'))")
        assert [text.lower() for text in card.locator("thead th").all_inner_texts()] == [
            "token",
            fate,
            f"share {fate}",
            "seen",
        ]
        counts = [int(text) for text in card.locator("tbody td:nth-of-type(1)").all_inner_texts()]
        assert counts == sorted(counts, reverse=True)
        assert counts


def test_tokens_dropped_most_are_put_in_order_by_any_column_which_the_slider_keeps(tab):
    tab.page.evaluate("location.hash = 'selection'")
    card = tab.page.locator("#vocabulary .card:has(h4:text('Dropped most often'))")
    for name, column in (("share dropped", 2), ("seen", 3)):
        card.locator(f"th button:text-is('{name}')").click()
        tab.set_ratio(80)
        cells = card.locator(f"tbody td:nth-of-type({column})").all_inner_texts()
        figures = [float(text.split()[0].replace(",", "")) for text in cells]
        assert figures == sorted(figures, reverse=True)
        assert len(set(figures)) > 1
        assert card.locator("th[aria-sort=descending]").inner_text() == name


def test_end_bars_that_hold_what_lies_beyond_are_marked_and_the_legend_ends_where_the_score_does(tab, judged):
    tab.page.evaluate("location.hash = 'selection'")
    tab.page.wait_for_selector("#histograms svg.plot")
    figure = tab.page.locator("#histograms figure >> nth=0")
    signs = [text for text in figure.locator("svg text").all_text_contents() if text in ("≤", "≥")]
    assert signs == ["≤", "≥"]
    assert re.search(r"end bars \(≤, ≥\) hold all up to \N{MINUS SIGN}40 and 115", figure.inner_text())
    tab.page.evaluate("location.hash = 'examples'")
    tab.page.wait_for_selector("#example h3")
    values = np.concatenate([shard.scores["token-cleaning"][shard.trainable] for shard in load_run(judged).shards()])
    low, high = (float(re.sub(r"[^\d.]", "", tab.text(end))) for end in ("#scale-low", "#scale-high"))
    assert -values.min() - 2 < low <= -values.min()
    assert values.max() - 3 < high <= values.max()
    assert not tab.page.locator("#ramp .n8").count()
    assert tab.page.locator("#ramp .p8").count() == 1


def test_a_control_shows_no_fraction_that_it_does_not_have(tab):
    tab.page.evaluate("location.hash = 'selection'")
    tab.page.select_option("#arm", "random")
    assert not re.search(r"fraction: ?0|0\.\d", tab.text("#ratio-value") + tab.text("#recipe"))
    tab.page.evaluate("location.hash = 'run'")
    card = tab.page.locator("#view-run .card:has(h3:text-is('random'))").inner_text()
    assert "fraction" not in card
    assert "TopCount" in card


def test_where_nothing_was_trained_nothing_says_trained_on(judged, browser, tmp_path):
    for path in [*judged.glob("arms/*/evaluation.json"), *judged.glob("arms/*/model/training.json")]:
        path.unlink()
    page = tmp_path / "bare.html"
    page.write_text(Report(load_run(judged), 10).render(), encoding="utf-8")
    tab = Tab(browser, page.as_uri())
    for view in ("overview", "selection", "examples", "run"):
        tab.page.evaluate(f"location.hash = '{view}'")
        tab.page.wait_for_selector(f"#view-{view}", state="visible")
        assert "trained on" not in tab.text("main")
    tab.page.evaluate("location.hash = 'overview'")
    assert tab.text("#verdict") == "Nothing was trained: whether it pays is not known."
    assert tab.said == []
    tab.page.close()


def test_why_gives_the_cause_in_words(tab):
    tab.page.evaluate("location.hash = 'examples'")
    tab.page.hover("#example .dropped")
    cause = "The reference model finds this token less likely than the base model: 80 against 40 nats of loss."
    assert cause in tab.text("#detail")
    tab.page.select_option("#arm", "random")
    tab.page.hover("#example .kept")
    assert "The score is a random number and says nothing about the token." in tab.text("#detail")
