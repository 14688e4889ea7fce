"""What the page explains in words, in a real browser: terms, spans that are decided together, lists that are cut."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from browser_tabs import Tab
from manifests import change

from tokensieve.report.terms import TERMS

SIZES = [(1440, 900), (390, 844)]
AXE = Path(__file__).parent / "vendor" / "axe.min.js"


def is_within_the_window(tab: Tab, selector: str) -> bool:
    box, window = tab.page.locator(selector).bounding_box(), tab.page.viewport_size
    return box["x"] >= 0 and box["y"] >= 0 and box["x"] + box["width"] <= window["width"]


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_term_is_explained_where_it_stands_by_a_click_a_touch_and_keys(open_run, judged, width, height):
    tab = open_run(judged, width, height)
    definition = tab.page.locator("#definition")
    assert not definition.is_visible()
    for place, term in (("#verdict", "nats"), ("#verdict", "95 % interval"), ("#reason .why", "reference model")):
        button = tab.page.locator(f"{place} .term:text-is('{term}')")
        if width < 600:
            button.tap()
        else:
            button.click()
        assert definition.inner_text() == f"{term}: {TERMS[term]}"
        assert is_within_the_window(tab, "#definition")
        assert tab.text("#said") == definition.inner_text()
        tab.page.keyboard.press("Escape")
        assert not definition.is_visible()
    tab.page.focus("#reason .term >> nth=1")
    tab.page.keyboard.press("Enter")
    assert definition.inner_text() == f"base model: {TERMS['base model']}"
    tab.page.keyboard.press("Enter")
    assert not definition.is_visible()


def test_the_terms_of_the_card_stand_below_it_too_and_each_is_a_button_once(open_run, judged):
    tab = open_run(judged, *SIZES[0])
    terms = tab.page.locator("#terms dt").all_inner_texts()
    assert terms == [name for name in TERMS if name in terms]
    assert {"nats", "95 % interval", "random tokens", "full training", "base model", "reference model"} <= {*terms}
    buttons = tab.page.locator(".verdict > :is(h2, p) .term").all_inner_texts()
    assert len(buttons) == len(set(buttons))
    box = tab.page.locator("#terms").bounding_box()
    assert box["y"] + box["height"] <= SIZES[0][1], "on a wide screen, all are in the first view"


def test_a_definition_is_accessible(open_run, judged):
    if not AXE.is_file():
        pytest.skip("needs tests/report/vendor/axe.min.js: make vendor")
    tab = open_run(judged, *SIZES[1])
    tab.page.click("#verdict .term >> nth=0")
    tab.page.evaluate(AXE.read_text(encoding="utf-8"))
    found = tab.page.evaluate("async () => (await axe.run()).violations")
    serious = [one for one in found if one["impact"] in ("serious", "critical")]
    assert not serious, json.dumps([(one["id"], one["nodes"][0]["html"]) for one in serious], indent=1)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_why_of_a_span_has_the_figures_of_the_token_and_of_the_span(open_run, spanned, demo, width, height):
    tab = open_run(spanned, width, height)
    assert " Its span decides, " in tab.text("#reason .why")
    box = tab.page.locator("#reason .why >> nth=0").bounding_box()
    assert box["y"] + box["height"] <= height, "the cause is in the first view"
    tab.page.evaluate("location.hash = 'examples?example=1&token=9'")
    tab.page.wait_for_selector("#detail .why")
    scores = [score for score in demo.scores[1] if score < 1e8]
    first = len(demo.scores[1]) - len(scores)
    span = sum(score < 0 for score in scores)
    assert 1 < span < len(scores)
    assert first <= 9 < first + span
    own, total = -demo.scores[1][9], -sum(scores[:span])
    assert own > 10
    why = tab.text("#detail .why")
    assert why.startswith(
        f"Dropped. The reference model finds this token less likely than the model of the pool: {2 * own:g} against "
        f"{own:g} nats of loss. Its span decides, the {span} tokens from "
    )
    assert f": {2 * total:.4g} against {total:.4g} nats in all, odds of noise over 10,000 to 1." in why
    tab.page.click(".tokens .kept >> nth=0")
    kept = tab.text("#detail .why")
    assert "odds against noise" in kept
    assert "within the margin of" not in kept, "the reference loses much more here"


def test_a_kept_span_that_the_reference_finds_a_little_less_likely_lies_within_the_margin(open_run, spanned, demo):
    parameters = {"margin": 1000.0, "switch": 0.01}
    change(spanned / "arms/token-cleaning/selection.json", parameters=parameters)
    tab = open_run(spanned, *SIZES[0], hash="examples?example=5")
    tab.page.click(".tokens .kept >> nth=0")
    total = sum(score for score in demo.scores[5] if score < 1e8)
    assert (
        f"{2 * total:.4g} against {total:.4g} nats in all, within the margin of 1000 a token, odds against noise"
        in (tab.text("#detail .why"))
    )


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_tokens_dropped_most_are_all_shown_on_request(open_run, judged, width, height):
    tab = open_run(judged, width, height)
    rows = tab.page.locator("#most-dropped tbody tr")
    few = rows.count()
    button = tab.page.locator("#most-dropped p button")
    button.click()
    assert rows.count() > few
    assert tab.text("#most-dropped p:last-child") == f"{rows.count()} of {rows.count()} frequent tokens · show fewer"
    assert tab.page.evaluate("document.activeElement.textContent") == "show fewer"
    button.click()
    assert rows.count() == few


def test_the_lists_of_the_selection_are_all_shown_on_request_and_the_slider_keeps_them(open_run, judged):
    tab = open_run(judged, *SIZES[1], hash="selection")
    card = tab.page.locator("#vocabulary .card:has(h4:text('Dropped most often'))")
    assert card.locator("tbody tr").count() == 15
    card.locator("p button").click()
    assert card.locator("tbody tr").count() > 15
    tab.set_ratio(10)
    assert card.locator("p button").inner_text() == "show fewer"


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_list_of_examples_says_how_many_the_page_does_not_hold(open_run, judged, width, height):
    tab = open_run(judged, width, height, hash="examples", examples=4)
    assert tab.text("#listed") == "4 of 4 (6 in all)"
    if width < 600:
        tab.page.click("#list summary")
    assert "To see all, run tokensieve serve." in tab.text("#sample-note")
