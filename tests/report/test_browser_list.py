"""The list of examples beside the map in a real browser: order, filters, and clicks on charts that lead to it."""

from __future__ import annotations

import re
import threading

import numpy as np
import pytest
from browser_tabs import Tab

from tokensieve.data.decoding import TokenDecoder
from tokensieve.report.html.page import Report
from tokensieve.report.html.serve import make_server


def wait_for_place(tab: Tab, text: str) -> None:
    tab.page.wait_for_function("(text) => document.getElementById('place').innerText === text", arg=text)


def listed(tab: Tab) -> list[int]:
    return [int(number) for number in tab.page.locator("#rows .number").all_inner_texts()]


def hits(tab: Tab) -> list[str]:
    return tab.page.locator(".tokens [data-hit]").all_inner_texts()


def test_the_list_tells_what_is_kept_of_each_example_and_goes_there(open_tab, demo_source):
    tab = open_tab("examples")
    assert listed(tab) == list(range(6))
    assert tab.text("#rows li >> nth=3 >> .notes").endswith("disputed · news.jsonl")
    scores = [score for score in demo_source.scores[3] if score < 1e8]
    found = re.search(r"score (\S+)", tab.text("#rows li >> nth=3 >> .notes"))
    assert found is not None
    assert float(found[1].replace("\N{MINUS SIGN}", "-")) == pytest.approx(np.mean(scores), rel=1e-3)
    tab.page.click("#rows li >> nth=3")
    tab.page.wait_for_selector(".example h3:has-text('Example 3 ')")
    assert tab.page.get_attribute("#rows li >> nth=3 >> button", "aria-current") == "true"
    share = re.search(r"\((.*)\)", tab.text(".map h4"))
    assert share is not None
    assert tab.text("#rows li >> nth=3 >> .share") == share[1]


def test_the_list_follows_the_slider(open_tab):
    tab = open_tab("examples")
    tab.set_ratio(100)
    shares = "() => [...document.querySelectorAll('#rows .share')].every((share) => share.innerText === '100.0 %')"
    tab.page.wait_for_function(shares)


@pytest.mark.parametrize(
    ("order", "first"), [("highest mean score", 5), ("lowest mean score", 0), ("by source", 0), ("least dropped", 2)]
)
def test_the_list_is_sorted(open_tab, order, first):
    tab = open_tab("examples")
    tab.page.select_option("#order", order)
    tab.page.wait_for_function("(n) => document.querySelector('#rows .number').innerText === n", arg=str(first))
    assert sorted(listed(tab)) == list(range(6))


def test_the_list_is_filtered_and_the_address_holds_the_filters(open_tab, demo_source):
    means = [np.mean([score for score in scores if score < 1e8]) for scores in demo_source.scores]
    wanted = [number for number, mean in enumerate(means) if 0 <= mean <= 60]
    assert 0 < len(wanted) < 6
    tab = open_tab("examples")
    for field, text in (("#score-from", "0"), ("#score-to", "60")):
        tab.page.fill(field, text)
        tab.page.press(field, "Enter")
    wait_for_place(tab, f"1 of {len(wanted)}")
    assert listed(tab) == wanted
    linked = open_tab(tab.page.evaluate("location.hash").removeprefix("#"))
    wait_for_place(linked, f"1 of {len(wanted)}")
    linked.page.click("#clear")
    linked.page.wait_for_function("() => document.getElementById('place').innerText.endsWith('of 6')")
    assert "scoreRange" not in linked.page.evaluate("location.hash")


def test_the_list_is_filtered_by_the_kept_share(open_tab):
    tab = open_tab("examples")
    shares = [float(share.split()[0]) for share in tab.page.locator("#rows .share").all_inner_texts()]
    tab.page.fill("#kept-to", "60")
    tab.page.press("#kept-to", "Enter")
    wanted = [number for number, share in enumerate(shares) if share <= 60]
    assert 0 < len(wanted) < 6
    wait_for_place(tab, f"1 of {len(wanted)}")
    assert listed(tab) == wanted


def test_only_disputed_examples(open_tab, take_apart, file):
    index = take_apart(file.read_text(encoding="utf-8")).payload["index"]
    wanted = sum(count > 0 for count in index["disputed"])
    tab = open_tab("examples")
    tab.page.check("#disputed")
    wait_for_place(tab, f"1 of {wanted}")


def test_go_to_an_example_by_its_number(open_tab):
    tab = open_tab("examples?search=tab+and")
    wait_for_place(tab, "1 of 1")
    tab.page.fill("#goto", "5")
    tab.page.press("#goto", "Enter")
    wait_for_place(tab, "6 of 6")
    tab.page.fill("#goto", "77")
    tab.page.press("#goto", "Enter")
    message = tab.page.eval_on_selector("#goto", "(field) => field.validationMessage")
    assert message == "The page does not hold an example 77."
    assert tab.text("#place") == "6 of 6"


def click_bar(tab: Tab, chart: str, x: float, y: float) -> None:
    """Click at a point of a chart's drawing."""
    box = tab.page.locator(chart).bounding_box()
    assert box is not None
    width = tab.page.eval_on_selector(chart, "(svg) => svg.viewBox.baseVal.width")
    tab.page.click(chart, position={"x": x * box["width"] / width, "y": y * box["width"] / width})
    tab.page.wait_for_selector("#view-examples", state="visible")
    tab.page.wait_for_selector(".tokens")


def test_a_click_on_a_bar_shows_the_examples_with_its_tokens(open_tab):
    tab = open_tab("selection")
    axis = "(svg) => [svg.scale('x').apply(60), d3.min(svg.scale('y').range)]"
    x, _ = tab.page.eval_on_selector("#histograms svg.plot >> nth=0", axis)
    click_bar(tab, "#histograms svg.plot >> nth=0", x, 100)
    assert "score:token-cleaning from" in tab.text("#hits")
    tab.page.wait_for_selector(".tokens [data-hit]")
    tab.page.hover(".tokens [data-hit] >> nth=0")
    found = re.search(r"from (\S+) to (\S+)", tab.text("#hits"))
    assert found is not None
    scores = [float(score) for score in re.findall(r"token-cleaning score\s+(\d+)", tab.text("#detail"))]
    assert any(float(found[1]) <= score <= float(found[2]) for score in scores)
    tab.page.go_back()
    tab.page.wait_for_selector("#view-selection", state="visible")


def test_a_click_on_a_group_or_a_word_shows_its_examples(open_tab, demo_source):
    tab = open_tab("selection")
    rows = "(svg) => [200, svg.scale('y').apply(svg.scale('y').domain[0]) + 5]"
    tab.page.wait_for_selector("#groups svg.plot >> nth=2")  # charts out of view are drawn when the page is idle
    click_bar(tab, "#groups svg.plot >> nth=2", *tab.page.eval_on_selector("#groups svg.plot >> nth=2", rows))
    assert tab.text("#hits") == "with words"
    assert "·the" in hits(tab)
    tab.page.evaluate("location.hash = 'selection'")
    click_bar(tab, "#groups svg.plot >> nth=0", *tab.page.eval_on_selector("#groups svg.plot >> nth=0", rows))
    wait_for_place(tab, "1 of 4")
    tab.page.evaluate("location.hash = 'selection'")
    tab.page.click("#vocabulary .link:has-text('·the') >> nth=0")
    wait_for_place(tab, "1 of 2")
    assert tab.text("#hits") == "with token “·the”"
    assert hits(tab) == ["·the"] * 2
    assert listed(tab) == [0, 4]


def test_a_click_on_a_dot_shows_its_token(open_tab, take_apart, file):
    points = take_apart(file.read_text(encoding="utf-8")).payload["points"]
    tab = open_tab("selection")
    tab.page.wait_for_selector("#scatter circle")
    tab.page.eval_on_selector_all(
        "#scatter circle", "(dots) => dots[50].dispatchEvent(new MouseEvent('click', { bubbles: true }))"
    )
    tab.page.wait_for_selector(f".example h3:has-text('Example {points['examples'][50]} ')")
    assert tab.page.is_visible(".tokens .picked")
    value = points["values"]["base.loss"][50]
    assert re.search(rf"base\.loss\s+{value:g}\b", tab.text("#detail"))


@pytest.mark.parametrize(("query", "found"), [("THE  world", ["·the", "·world"]), ("tab and", None)])
def test_a_search_highlights_what_it_finds(open_tab, query, found):
    tab = open_tab(f"examples?search={query.replace(' ', '+')}")
    wait_for_place(tab, "1 of 1")
    if found is None:
        assert "".join(hits(tab)) == "tab→and"
    else:
        assert hits(tab) == found


def test_a_served_page_finds_hits_too(open_tab, joined):
    with make_server(joined, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        tab = open_tab("selection", url=f"http://127.0.0.1:{server.server_port}/")
        tab.page.click("#vocabulary .link:has-text('·world') >> nth=0")
        wait_for_place(tab, "1 of 2")
        tab.page.wait_for_selector(".tokens [data-hit]")
        assert set(hits(tab)) == {"·world"}
        tab.page.close()
        server.shutdown()


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (390, 844)])
def test_of_many_examples_only_those_in_view_have_a_row(browser, make_large, tmp_path, width, height):
    path = tmp_path / "many.html"
    path.write_text(Report(make_large(examples=400, tokens=110), 400).render(), encoding="utf-8")
    tab = Tab(browser, path.as_uri(), hash="examples", width=width)
    tab.page.set_viewport_size({"width": width, "height": height})
    tab.page.wait_for_selector(".tokens")
    tab.page.evaluate("document.getElementById('list').open = true")
    tab.page.wait_for_selector("#rows li")
    assert tab.page.locator("#rows li").count() < 40
    assert 100 < tab.page.evaluate("document.querySelector('#rows').clientHeight") < height
    tab.page.fill("#goto", "390")
    tab.page.keyboard.press("Enter")
    tab.page.wait_for_selector("#rows button[aria-current] .number:text-is('390')")
    assert tab.page.locator("#rows li").count() < 40
    tab.page.close()
    assert tab.said == []


@pytest.fixture
def search(open_tab, joined, monkeypatch):
    """Return a function that types a word into a served page whose texts come when they are let go, and that gate."""
    go_on, texts = threading.Event(), TokenDecoder.texts

    def waiting(decoder, sequences):
        assert len(sequences) == 4 or go_on.wait(30)
        return texts(decoder, sequences)

    monkeypatch.setattr(TokenDecoder, "texts", waiting)
    with make_server(joined, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        tab = open_tab("examples", url=f"http://127.0.0.1:{server.server_port}/")
        yield tab, go_on
        go_on.set()
        tab.page.close()
        server.shutdown()


def test_a_search_shows_its_first_hits_before_it_ends(search):
    tab, go_on = search
    tab.page.fill("#search", "world")
    tab.page.wait_for_function("() => document.getElementById('listed').innerText === '1 of 6, searching …'")
    go_on.set()
    tab.page.wait_for_function("() => !document.getElementById('listed').innerText.includes('searching')")
    assert tab.text("#listed") == "2 of 6"
    assert tab.text("#place") == "1 of 2"


def test_typing_a_word_is_one_search_and_another_word_ends_it(search):
    tab, go_on = search

    def asked(word):
        return [url for url in tab.asked if f"/search?q={word}&" in url]

    tab.page.type("#search", "world", delay=30)
    tab.page.wait_for_function("() => document.getElementById('listed').innerText === '1 of 6, searching …'")
    assert {url.partition("?")[2].partition("&")[0] for url in tab.asked if "/search" in url} == {"q=world"}
    tab.page.fill("#search", "token")
    tab.page.wait_for_function("() => document.getElementById('listed').innerText.endsWith('searching …')")
    tab.page.wait_for_timeout(500)
    before = len(asked("world"))
    go_on.set()
    wait_for_place(tab, "1 of 1")
    assert len(asked("world")) == before, "nobody asks for more of what is not wanted"


def test_a_search_that_fails_says_so(open_tab, joined, monkeypatch):
    def fail(*_):
        raise OSError("the disk is gone")

    monkeypatch.setattr(TokenDecoder, "texts", fail)
    with make_server(joined, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        tab = open_tab("examples?search=world", url=f"http://127.0.0.1:{server.server_port}/")
        tab.page.wait_for_selector("text=The search failed: error: the disk is gone")
        assert tab.said == [
            "Failed to load resource: the server responded with a status of 500 (Internal Server Error)"
        ]
        tab.said.clear()
        tab.page.close()
        server.shutdown()


@pytest.mark.parametrize(("width", "height", "least", "lines"), [(1440, 900, 360, 1), (390, 844, 560, 2)])
def test_the_slider_and_the_text_are_seen_together(open_tab, width, height, least, lines):
    tab = open_tab("examples", width=width)
    tab.page.set_viewport_size({"width": width, "height": height})
    top = "(selector) => document.querySelector(selector).getBoundingClientRect().top"
    assert tab.page.evaluate(top, ".tokens") < least
    assert 0 <= tab.page.evaluate(top, "#ratio") < tab.page.evaluate(top, ".tokens")
    assert tab.page.evaluate("document.querySelector('#controls').getBoundingClientRect().height") < 8 + 51 * lines
    tab.go_to(4)
    tab.page.evaluate("document.querySelector('.tokens').scrollIntoView({ block: 'end' })")
    assert 0 <= tab.page.evaluate(top, "#ratio") < height


def test_a_print_has_every_section_whole(open_tab):
    tab = open_tab("examples")
    tab.page.wait_for_selector(".tokens")
    tab.page.wait_for_selector("#reason .why", state="attached")
    tab.page.emulate_media(media="print")
    tab.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    for view in ("overview", "selection", "examples", "run"):
        assert tab.page.is_visible(f"#view-{view}")
    assert tab.page.locator("#groups svg.plot").count() == 3
    assert tab.page.locator("#result-charts svg.plot").count() == 4
    assert tab.page.inner_text("#vocabulary h4 >> nth=1").startswith("Dropped most often")
    assert tab.page.is_visible("#most-dropped td >> nth=0")
    assert tab.page.is_visible("#reason .why")
    assert not tab.page.is_visible("#controls")
    clipped = """() => [...document.querySelectorAll(".scroll, .detail, .tokens")].filter(
        (one) => one.checkVisibility() && getComputedStyle(one).overflowY !== "visible").length"""
    assert tab.page.evaluate(clipped) == 0
