"""What a person who has never seen the page finds without scrolling: what was dropped, why, and whether it paid."""

from __future__ import annotations

import functools
import re
from collections import Counter

import pytest
from browser_tabs import Tab

from tokensieve.report.html.page import Report
from tokensieve.report.verdict import run_verdict
from tokensieve.runs.view import load_run

SIZES = [(1440, 900), (390, 844)]


@pytest.fixture
def open_judged(judged, open_run):
    """Return a function that opens the page of the judged run in a window of some size."""
    return functools.partial(open_run, judged)


def seen(tab: Tab, selector: str) -> bool:
    """Whether the first element that matches lies in the window as a whole, with nothing above it."""
    script = """(one) => {
        const { top, left, bottom, right } = one.getBoundingClientRect();
        const shown = document.elementFromPoint((left + right) / 2, (top + bottom) / 2);
        return top >= 0 && left >= 0 && bottom <= innerHeight && right <= innerWidth && one.contains(shown);
    }"""
    return tab.page.eval_on_selector(selector, script)


def dropped_words(demo) -> Counter[int]:
    pairs = [
        (token, kept)
        for ids, labels, fates in zip(demo.ids, demo.labels, demo.kept, strict=True)
        for token, label, kept in zip(ids, labels, fates, strict=True)
        if label != -100
    ]
    return Counter(token for token, kept in pairs if not kept)


@pytest.mark.parametrize(("width", "height", "listed"), [(*SIZES[0], 8), (*SIZES[1], 4)])
def test_whether_it_paid_what_went_most_and_why_are_seen_at_once(open_judged, demo, judged, width, height, listed):
    tab = open_judged(width, height)
    assert tab.text("#verdict") == run_verdict(load_run(judged)).sentence
    counts = [int(text) for text in tab.page.locator("#most-dropped tbody td:nth-of-type(1)").all_inner_texts()]
    words = dropped_words(demo)
    assert counts == [times for _, times in words.most_common(listed)]
    assert tab.text("#most-dropped p:last-child") == f"{listed} of {len(words)} frequent tokens · show all"
    assert tab.text("#most-dropped tbody th >> nth=0") == "⟨bytes⟩"
    assert tab.text(".verdict .kind") == "Did token-cleaning pay?"
    cause = r"Dropped\. The reference model finds this token less likely than the base model: [\d.]+ against [\d.]+"
    assert re.match(cause, tab.text("#reason .why"))
    for answer in (
        ".verdict .kind",
        "#verdict",
        "#most-dropped tbody tr",
        "#most-dropped p button",
        "#reason h4",
        "#reason .why",
    ):
        assert seen(tab, answer), answer
    assert tab.page.locator(".glance .picked.dropped").count() == 1


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_why_a_token_of_the_list_is_dropped_is_one_click_away(open_judged, width, height):
    tab = open_judged(width, height)
    tab.page.click("#most-dropped tbody button >> nth=0")
    tab.page.wait_for_selector("#detail .why")
    assert tab.text("#detail h4") == tab.text(".tokens .picked")
    assert tab.text("#detail .why").startswith("Dropped. The reference model finds this token less likely")
    for answer in ("#detail h4", "#detail .why", ".tokens .picked"):
        assert seen(tab, answer), answer
    assert tab.page.locator(".tokens .picked.dropped[data-hit]").count() == 1


def test_a_pointer_that_rests_on_the_answer_of_a_click_changes_nothing(open_judged):
    tab = open_judged()
    tab.page.click("#most-dropped tbody button >> nth=0")
    tab.page.wait_for_selector("#detail .why")
    name = tab.text("#detail h4")
    box = tab.page.locator(".tokens .prompt >> nth=0").bounding_box()
    tab.page.evaluate("location.hash = 'overview'")
    tab.page.mouse.move(box["x"] + 3, box["y"] + 5)
    tab.page.go_back()
    tab.page.wait_for_selector(".tokens", state="visible")
    tab.page.wait_for_timeout(300)  # the browser tells of the element that has come under the pointer
    assert tab.text("#detail h4") == name


def test_the_answer_tells_the_cause_of_each_token_by_click_and_by_key(open_judged):
    tab = open_judged()
    tab.page.click(".glance .kept >> nth=0")
    assert tab.text("#reason .why").startswith("Kept.")
    assert "threshold" not in tab.text("#reason"), "the cause alone"
    tab.page.focus(".glance")
    texts = []
    for key in ("Home", "ArrowRight"):
        tab.page.keyboard.press(key)
        texts.append(tab.text("#reason h4"))
    assert texts == tab.page.locator(".glance [data-piece]").all_inner_texts()[:2]
    tab.page.click(".glance-key button")
    tab.page.wait_for_selector(".tokens .picked")
    assert tab.text("#detail h4") == texts[1]


def test_the_card_is_of_the_runs_own_setting_whatever_the_address_holds(open_judged):
    card = "#most-dropped"
    plain, moved = open_judged(), open_judged(hash="overview?at.token-cleaning=0.1")
    assert moved.text(card) == plain.text(card)
    assert moved.text("#reason") == plain.text("#reason")


def test_the_answers_of_several_turns_stand_apart(open_tab, make_large, tmp_path):
    large = make_large(examples=4, tokens=130, prompt=[*range(100), *range(110, 115)])
    path = tmp_path / "turns.html"
    path.write_text(Report(load_run(large.folder), 4).render(), encoding="utf-8")
    tab = open_tab(url=path.as_uri())
    tab.page.wait_for_selector(".glance .turn")
    assert tab.page.locator(".glance .turn").count() == 2
    assert not tab.page.locator(".glance .prompt").count()
