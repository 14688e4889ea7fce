"""The page in a real browser: what it shows, how it is used, what it loads, and how fast it is."""

from __future__ import annotations

import itertools
import json
import re
import threading
from pathlib import Path

import numpy as np
import pytest
import yaml
from browser_tabs import Tab
from manifests import record_again

from tokensieve.containers import Statistics
from tokensieve.data.decoding import visible
from tokensieve.ops.ragged import offsets
from tokensieve.ops.rules import TopFraction
from tokensieve.report.analysis.sweep import Levels
from tokensieve.report.heatmap import Scale, styled_runs
from tokensieve.report.html.page import Report
from tokensieve.report.html.serve import make_server
from tokensieve.runs.view import load_run
from tokensieve.store.atomic import read_json, write_json
from tokensieve.store.sealed import write_sealed

AXE = Path(__file__).parent / "vendor" / "axe.min.js"
VIEWS = ("overview", "selection", "examples", "run")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1240, 390])
def test_every_view_is_accessible_and_fits(open_tab, scheme, width):
    if not AXE.is_file():
        pytest.skip("needs tests/report/vendor/axe.min.js: make vendor")
    tab = open_tab(scheme=scheme, width=width)
    tab.page.evaluate(AXE.read_text(encoding="utf-8"))
    for view in VIEWS:
        tab.page.evaluate(f"location.hash = '{view}'")
        tab.page.wait_for_selector(f"#view-{view}", state="visible")
        if view == "examples":
            tab.page.select_option("#other", "rho-1")
            tab.page.hover(".tokens .kept")
        found = tab.page.evaluate("async () => (await axe.run()).violations")
        serious = [one for one in found if one["impact"] in ("serious", "critical")]
        assert not serious, json.dumps(
            [(one["id"], [node["html"] for node in one["nodes"]]) for one in serious], indent=1
        )
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= width


def test_charts_are_drawn(open_tab):
    tab = open_tab("selection")
    assert tab.page.locator("#histograms svg.plot").count() == 3
    assert tab.page.locator("#groups svg.plot").count() == 3
    assert "token-cleaning and xtf" in tab.page.get_attribute("#agreement svg.plot", "aria-label")
    assert tab.page.locator("#scatter circle").count() > 100
    tab.page.click("#groups details >> nth=0 >> summary")
    tab.page.wait_for_selector("#groups details >> nth=0 >> text=code/code.jsonl")
    tab.page.evaluate("location.hash = 'overview'")
    assert tab.page.locator("#result-charts svg.plot").count() == 4


@pytest.mark.parametrize("setting", [0, 17, 50, 88, 100])
def test_the_slider_selects_as_the_rule_does(open_tab, demo_source, setting):
    tab = open_tab("examples")
    tab.set_ratio(setting)
    sweep = Levels(load_run(demo_source.folder), "token-cleaning").sweep
    labels = [np.array(one) for one in demo_source.labels]
    scores = np.concatenate([np.array(one, dtype=np.float32) for one in demo_source.scores])
    statistics = Statistics(offsets([len(one) for one in labels]), np.concatenate(labels))
    scores = np.where(statistics.trainable, scores, np.float32(0))
    kept = TopFraction(sweep.values[setting]).keep(scores, statistics)
    total = f"{int(kept.sum())} of {int(statistics.trainable.sum())} tokens"
    assert total in tab.text("#kept-count")
    start = len(labels[0])
    assert f"keeps {int(kept[:start].sum())} of" in tab.text(".map h4")
    tab.go_to(4)  # it has one token a piece
    place = sum(map(len, labels[:4]))
    mine = slice(place, place + len(labels[4]))
    wanted = np.where(statistics.trainable, np.where(kept, "kept", "dropped"), "prompt")[mine].tolist()
    assert tab.fates() == wanted
    tab.page.evaluate("location.hash = 'selection'")
    tab.page.click("#groups details >> nth=2 >> summary")
    cells = "document.querySelectorAll('#groups figure:nth-of-type(3) tbody td:nth-of-type(1)')"
    total = f"(total) => d3.sum({cells}, (cell) => Number(cell.innerText)) === total"
    tab.page.wait_for_function(total, arg=int(kept.sum()))


def test_the_slider_goes_by_key_and_back_to_the_runs_own(open_tab):
    tab = open_tab("selection")
    own = tab.text("#kept-count")
    assert tab.page.is_disabled("#own")
    tab.page.focus("#ratio")
    for key in ("ArrowLeft", "ArrowLeft", "PageDown"):
        tab.page.keyboard.press(key)
    tab.page.wait_for_function("(own) => document.getElementById('kept-count').innerText !== own", arg=own)
    tab.page.click("#own")
    tab.page.wait_for_function("(own) => document.getElementById('kept-count').innerText === own", arg=own)
    tab.page.keyboard.press("]")
    tab.page.wait_for_function("(own) => document.getElementById('kept-count').innerText !== own", arg=own)


def test_the_recipe_line_is_yaml(open_tab):
    tab = open_tab("selection")
    tab.set_ratio(24)
    assert yaml.safe_load(tab.text("#recipe")) == {"method": {"name": "token-cleaning", "fraction": 0.25}}
    tab.page.select_option("#arm", "xtf")
    tab.set_ratio(2)
    assert yaml.safe_load(tab.text("#recipe")) == {"method": {"name": "xtf"}, "select": {"threshold": -2}}
    tab.page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    tab.page.click("#copy")
    assert tab.page.evaluate("window.copied") == tab.text("#recipe")


def test_an_arm_without_a_ratio_says_why(open_tab):
    tab = open_tab("selection")
    tab.page.select_option("#arm", "full")
    assert tab.page.is_disabled("#ratio")
    assert "Slider disabled: a ratio cannot reproduce this selection." in tab.text("#control-note")


def test_menus_change_method_colour_and_order(open_tab, demo_source):
    tab = open_tab("examples")
    assert "token-cleaning" in tab.text(".map h4")
    assert "score" in tab.text("#scale-name")
    assert tab.page.locator("#ramp .p8").count() == 1  # the score has negative values: a diverging scale
    tab.page.select_option("#value", "base.loss")
    assert tab.page.locator("#ramp .p8").count() == 0
    assert tab.page.locator("#ramp .s8").count() == 1
    tab.page.select_option("#value", "")
    assert not tab.page.is_visible("#ramp")
    tab.page.select_option("#arm", "xtf")
    assert "xtf" in tab.text(".map h4")
    tab.page.select_option("#order", "most disputed")
    tab.page.select_option("#source", label="news.jsonl")
    assert tab.text("#place") == "1 of 4"
    tab.page.select_option("#arm", "token-cleaning")
    tab.page.select_option("#order", "most dropped")
    assert tab.text(".example h3").startswith("Example 0")


def test_two_methods_side_by_side(open_tab):
    tab = open_tab("examples")
    tab.page.select_option("#other", "rho-1")
    assert [text.split()[0] for text in tab.page.locator(".map h4").all_inner_texts()] == ["token-cleaning", "rho-1"]
    first, second = tab.fates(0), tab.fates(1)
    differ = sum(a != b for a, b in zip(first, second, strict=True))
    marked = "(maps) => maps[0].querySelectorAll('.differs').length"
    assert tab.page.eval_on_selector_all(".tokens", marked) == differ > 0
    only_first, only_second = map(int, re.findall(r"keeps (\d+) tokens that", tab.text("#difference")))
    assert only_first == sum(a == "kept" and b == "dropped" for a, b in zip(first, second, strict=True))
    assert only_second == sum(b == "kept" and a == "dropped" for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    ("query", "examples"),
    [("the WORLD", [0]), ("two lines", [3]), ("中文🙂", [1]), ('alert("x")', [2]), ("nowhere", []), ("   ", [0])],
)
def test_search_finds_text(open_tab, query, examples):
    tab = open_tab("examples")
    tab.page.fill("#search", query)
    tab.page.keyboard.press("Enter")
    wanted = f"1 of {len(examples) if query.strip() else 6}" if examples else "none"
    tab.page.wait_for_function("(text) => document.getElementById('place').innerText === text", arg=wanted)
    if examples:
        tab.page.wait_for_function(
            "(text) => document.querySelector('.example h3').innerText.startsWith(text)", arg=f"Example {examples[0]}"
        )
    else:
        assert "No example matches" in tab.text("#example")


def test_everything_goes_by_key(open_tab):
    tab = open_tab()
    press = tab.page.keyboard.press
    press("3")
    tab.page.wait_for_selector(".example")
    press("n")
    tab.page.wait_for_function("() => document.getElementById('place').innerText === '2 of 6'")
    press("p")
    tab.page.wait_for_function("() => document.getElementById('place').innerText === '1 of 6'")
    tab.page.focus(".tokens")
    for key in ("End", "ArrowLeft", "ArrowRight", "ArrowRight"):
        press(key)
    assert "<|end|>" in tab.text("#detail h4")
    assert "<|end|>" in tab.page.text_content("#said")
    press("/")
    tab.page.wait_for_function("() => document.activeElement.id === 'search'")
    tab.page.keyboard.type("2n")
    assert tab.page.input_value("#search") == "2n"
    assert tab.page.is_visible("#view-examples")


def test_a_token_tells_its_figures_and_why(open_tab):
    tab = open_tab("examples")
    tab.page.hover(".tokens .dropped")
    detail = tab.text("#detail")
    assert not re.search(r"\bmarked\b", detail)
    assert "Dropped." in detail
    assert "below the threshold 0" in detail
    assert "It is kept if the fraction is at least" in detail
    assert re.search(r"base\.loss\s+40\s+reference\.loss\s+80\s+token-cleaning score\s+\N{MINUS SIGN}40", detail)
    assert re.search(r"rank in the example\s+5 of 5", detail)
    tab.page.hover(".tokens .prompt")
    assert "not trained on" in tab.text("#detail")
    tab.page.select_option("#arm", "xtf")
    tab.page.hover(".tokens .dropped")
    assert re.search(r"Reasons to drop it: (low reasoning importance|off task)", tab.text("#detail"))


def test_characters_are_whole_and_whitespace_is_visible(open_tab):
    tab = open_tab("examples")
    texts = []
    for number in range(6):
        tab.go_to(number)
        texts.append(tab.page.text_content(".tokens"))
    text = "".join(texts)
    shown = (
        "中文",
        "🙂",
        "👨‍👩‍👧",
        "é",
        "🇩🇪",
        "two¶\n·lines",
        "tab→and␣more",
        "end⟨U+202E⟩",
        "<|end|>",
        '<script>alert("x")</script>',
    )
    for part in shown:
        assert part in text
    assert not re.search("[Ġ\ufffd\x01\x02]", text)


def test_the_slider_changes_only_the_pieces_whose_fate_changes(open_tab):
    tab = open_tab("examples")
    before = tab.fates()
    tab.page.evaluate("""() => {
        window.changed = new Set();
        const note = (changes) => changes.forEach((change) => window.changed.add(change.target));
        new MutationObserver(note).observe(document.querySelector(".tokens"), { attributes: true, subtree: true });
    }""")
    tab.page.focus("#ratio")
    tab.page.keyboard.press("End")
    tab.page.wait_for_function("() => window.changed.size")
    tab.page.wait_for_timeout(100)
    changed = tab.page.evaluate("[...window.changed].map((piece) => Number(piece.dataset.piece))")
    after = tab.fates()
    assert sorted(changed) == [i for i, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    assert "dropped" in before
    assert set(after) == {"prompt", "kept"}


@pytest.mark.parametrize("setting", [2, 5, 9])
def test_the_order_by_dropped_tokens_follows_the_slider(open_tab, setting):
    tab = open_tab("examples")
    tab.page.select_option("#arm", "rho-1")
    tab.page.select_option("#order", "most dropped")
    tab.page.wait_for_selector(".map h4:has-text('rho-1')")
    heading = tab.text(".example h3")
    tab.set_ratio(setting)
    tab.page.wait_for_timeout(100)
    assert tab.text(".example h3") == heading, "the example in view stays"
    while tab.page.is_enabled("#previous"):
        step(tab, "#previous")
    shares = [kept_share(tab)]
    while tab.page.is_enabled("#next"):
        step(tab, "#next")
        shares.append(kept_share(tab))
    assert len(shares) == 6
    assert shares == sorted(shares)


def step(tab: Tab, button: str) -> None:
    before = tab.text(".example h3")
    tab.page.click(button)
    tab.page.wait_for_function("(h) => document.querySelector('.example h3').innerText !== h", arg=before)


def kept_share(tab: Tab) -> float:
    found = re.search(r"\(([\d.]+) %\)", tab.text(".map h4"))
    assert found is not None
    return float(found[1])


def test_the_slider_moves_where_no_example_matches(open_tab):
    tab = open_tab("examples")
    tab.page.fill("#search", "nowhere")
    tab.page.wait_for_function("() => document.getElementById('place').innerText === 'none'")
    tab.page.focus("#ratio")
    tab.page.keyboard.press("Home")
    tab.page.wait_for_timeout(100)
    assert "No example matches" in tab.text("#example")


@pytest.mark.parametrize("number", range(6))
def test_the_page_draws_what_the_terminal_and_notebooks_draw(open_tab, joined, take_apart, file, number):
    tab = open_tab("examples")
    tab.go_to(number)
    pieces = """(pieces) => pieces.map((piece) => [piece.className.replace(" special", ""), piece.textContent])"""
    drawn = itertools.groupby(tab.page.eval_on_selector_all(".tokens [data-piece]", pieces), lambda piece: piece[0])
    found = [f"{style}|{''.join(text for _, text in same)}" for style, same in drawn]
    scale = Scale(**take_apart(file.read_text(encoding="utf-8")).payload["scales"]["score:token-cleaning"])
    example = joined.example(number)
    pieces = joined.decoder.pieces(example.token_ids)
    values, kept = example.value("token-cleaning", "score"), example.kept("token-cleaning")
    expected = []
    for look, same in itertools.groupby(
        styled_runs(pieces, example.trainable, kept, values, scale, marks=example.marks),
        lambda run: (run.style.state, run.style.level, run.style.marked),
    ):
        state, level, marked = look
        colour = "z" if level == 0 else f"{'s' if not scale.signed else 'p' if level > 0 else 'n'}{abs(level)}"
        text = "".join(part for run in same for piece in run.pieces for part, _ in visible(piece.text))
        outline = " marked" if marked else ""
        expected.append(f"{state if state == 'prompt' else f'{state} {colour}{outline}'}|{text}")
    assert found == expected


def test_names_from_files_never_run(demo, browser, tmp_path):
    evil = "</script><img src=x onerror='window.hacked=1'><script>window.hacked=1</script>\u2028"
    run = demo.folder / "run.json"
    arm = "<img src=x onerror=window.hacked=1>"
    (demo.folder / "arms" / "random").rename(demo.folder / "arms" / arm)
    write_sealed(run, {**read_json(run), "name": evil, "arms": ["token-cleaning", arm]})
    write_json(demo.folder / "times.json", {evil: 1.0})
    record_again(load_run(demo.folder).store.folder, sources=[evil, "b"])
    path = tmp_path / "evil.html"
    path.write_text(Report(load_run(demo.folder), 10).render(), encoding="utf-8")
    tab = Tab(browser, path.as_uri())
    for view in VIEWS:
        tab.page.evaluate(f"location.hash = '{view}'")
        tab.page.wait_for_selector(f"#view-{view}", state="visible")
        if view in ("selection", "examples"):
            tab.page.select_option("#arm", arm)
            tab.set_ratio(3)
    tab.page.evaluate("location.hash = 'examples'")
    tab.page.select_option("#source", "0")
    tab.page.wait_for_function("() => document.getElementById('place').innerText === '1 of 4'")
    assert evil.strip() in tab.page.text_content(".example h3") + "\u2028"
    assert tab.page.evaluate("window.hacked") is None
    assert tab.page.locator("img").count() == 0
    assert tab.said == []
    tab.page.close()


def test_served_examples_come_in_pieces(open_tab, joined):
    with make_server(joined, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        tab = open_tab("examples", url=f"http://127.0.0.1:{server.server_port}/")
        tab.page.fill("#search", "tab and")
        tab.page.wait_for_function("() => document.getElementById('place').innerText === '1 of 1'")
        tab.page.wait_for_selector("text=tab→and␣more")
        tab.page.fill("#search", "")
        tab.page.wait_for_function("() => document.getElementById('place').innerText === '4 of 6'")
        tab.page.click("#next")
        tab.page.wait_for_selector("h3:has-text('Example 4')")
        assert sum("/blocks/" in url for url in tab.asked) == 2
        tab.page.close()
        assert tab.said == []
        server.shutdown()


def test_a_marked_token_has_an_outline_and_the_type_of_its_mark(open_tab):
    tab = open_tab("examples")
    marked = """(pieces) => pieces.map((piece) => [piece.textContent, getComputedStyle(piece).outlineStyle])"""
    found = tab.page.eval_on_selector_all(".tokens .marked", marked)
    assert [text for text, _ in found] == ["·world", "·token"]
    assert {style for _, style in found} == {"dotted"}
    tab.page.hover(".tokens .marked >> nth=0")
    assert re.search(r"marked\s+odd <b>", tab.text("#detail"))


def test_a_reload_or_a_link_shows_the_same(open_tab):
    tab = open_tab("examples")
    tab.page.select_option("#arm", "xtf")
    tab.set_ratio(2)
    tab.page.select_option("#value", "base.loss")
    tab.page.select_option("#other", "rho-1")
    tab.page.select_option("#order", "most disputed")
    tab.page.select_option("#source", label="news.jsonl")
    tab.page.check("#only")
    step(tab, "#next")
    script = """() => [document.body.dataset.view,
        ...["arm", "ratio", "value", "other", "order", "source", "search"].map(
        (id) => document.getElementById(id).value),
        document.getElementById("only").checked,
        document.getElementById("place").innerText, document.querySelector(".example h3").innerText,
        document.querySelector(".map h4").innerText]"""
    before, address = tab.page.evaluate(script), tab.page.evaluate("location.hash")
    assert before[:3] == ["examples", "xtf", "2"]
    tab.page.reload()
    tab.page.wait_for_selector(".example h3")
    assert tab.page.evaluate(script) == before
    linked = open_tab(address.removeprefix("#"))
    linked.page.wait_for_selector(".example h3")
    assert linked.page.evaluate(script) == before
    linked.page.click("nav a[data-view=run]")
    linked.page.wait_for_selector("#view-run", state="visible")
    assert "arm=xtf" in linked.page.evaluate("location.hash")
    linked.page.go_back()
    linked.page.wait_for_selector(".example h3", state="visible")
    linked.page.fill("#search", "world")
    linked.page.wait_for_function("() => location.hash.includes('search=world')")


@pytest.mark.parametrize("height", [850, 900])
def test_the_details_of_a_comparison_are_docked_and_say_how_the_arms_differ(open_tab, height):
    tab = open_tab("examples", width=1440)
    tab.page.set_viewport_size({"width": 1440, "height": height})
    tab.page.select_option("#other", "rho-1")
    for number in range(6):
        tab.go_to(number)
        if not tab.page.locator(".tokens .differs").count():
            continue
        tab.page.hover(".tokens .differs >> nth=0")
        box = tab.page.locator("#detail .why >> nth=0").bounding_box()
        assert box is not None
        assert box["y"] + box["height"] < height
        said = tab.text("#detail .other-fate >> nth=0")
        assert re.fullmatch(r"token-cleaning (keeps|drops) it; rho-1 (keeps|drops) it\.", said)
    assert tab.page.locator(".legend:visible").count() == tab.page.locator("#detail:visible").count() == 1
    lines = "(one) => getComputedStyle(one).textDecorationLine"
    same = ".tokens .kept:not(.differs), .tokens .dropped:not(.differs)"
    tab.page.check("#only")
    assert tab.page.eval_on_selector(same, lines) == "none"
    assert tab.page.eval_on_selector(".tokens .differs", lines) != "none"
    tab.page.select_option("#other", "")
    assert not tab.page.is_visible("#only")
    assert tab.page.eval_on_selector(".tokens .kept, .tokens .dropped", lines) != "none"


def test_turns_are_blocks_that_run_in_the_direction_of_their_text_and_tokens_have_borders(open_tab):
    found = """(map) => [...map.querySelectorAll(".turn")].map((turn) => {
        const style = getComputedStyle(turn);
        return [style.display, style.direction, turn.querySelector(".prompt") !== null];
    })"""
    tab = open_tab("examples")
    tab.page.wait_for_selector(".tokens .turn")
    assert tab.page.eval_on_selector(".tokens", found) == [["block", "ltr", True], ["block", "ltr", False]]
    border = "(piece) => getComputedStyle(piece).boxShadow"
    assert tab.page.eval_on_selector(".tokens [data-piece]", border) != "none"
    tab.page.evaluate("""() => {
        const turn = document.querySelector(".tokens .turn:last-child");
        turn.querySelector("[data-piece]").textContent = "\u05e9\u05dc\u05d5\u05dd";
    }""")
    assert [direction for _, direction, _ in tab.page.eval_on_selector(".tokens", found)] == ["ltr", "rtl"]


def test_a_long_prompt_folds_and_unfolds_by_click_and_by_key(open_tab, make_large, tmp_path):
    large = make_large(examples=20, tokens=1000, prompt=range(600))
    path = tmp_path / "long.html"
    path.write_text(Report(load_run(large.folder), 4).render(), encoding="utf-8")
    tab = open_tab("examples", url=path.as_uri())
    tab.page.wait_for_selector(".unfold")
    assert re.fullmatch(r"show \d+ more tokens of the prompt", tab.text(".unfold"))
    assert tab.page.locator(".tokens .prompt:visible").count() == 200
    tab.page.click(".unfold")
    assert tab.page.locator(".tokens .prompt:visible").count() > 400
    assert not tab.page.locator(".unfold").count()
    keys = open_tab("examples", url=path.as_uri())
    keys.page.focus(".tokens")
    for key in ("Home", *["ArrowRight"] * 101):
        keys.page.keyboard.press(key)
    assert keys.page.is_visible(".tokens .picked")
    assert not keys.page.locator(".unfold").count()
