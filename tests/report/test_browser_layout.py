"""How the page is laid out in a real browser: what must not overlap, and what names the arms and seeds it is of."""

from __future__ import annotations

import itertools

import pytest

from tokensieve.report.html.page import Report
from tokensieve.runs.arm_folder import ArmFolder
from tokensieve.runs.view import load_run


@pytest.mark.parametrize("view", ["selection", "examples"])
@pytest.mark.parametrize("width", [390, 768])
def test_controls_with_long_names_do_not_overlap(open_tab, view, width):
    tab = open_tab(view, width=width)
    if view == "examples":
        tab.page.select_option("#other", "rho-1")
    for menu in ("#arm", "#other"):
        tab.page.eval_on_selector_all(
            f"{menu} option", "(all) => all.forEach((one) => (one.textContent += ' (second)'))"
        )
    selector = "#controls :is(label, output, .figure, button), #arm, #example-bar :is(button, label), #other"
    script = """(all) => all.filter((one) => one.checkVisibility()).map((one) => {
        const { left, top, right, bottom } = one.getBoundingClientRect();
        return { id: one.id, inside: [...one.children].map((child) => child.id), left, top, right, bottom };
    })"""
    boxes = tab.page.eval_on_selector_all(selector, script)
    assert len(boxes) > 4
    for a, b in itertools.combinations(boxes, 2):
        if b["id"] in a["inside"]:
            continue
        apart = a["right"] <= b["left"] or b["right"] <= a["left"] or a["bottom"] <= b["top"] or b["bottom"] <= a["top"]
        assert apart, (a, b)
    assert all(box["left"] >= 0 and box["right"] <= width for box in boxes)


def test_loss_curves_of_several_seeds_say_which_seed_they_are_of(judged, browser, tmp_path):
    for arm in ("full", "random", "token-cleaning"):
        folder = ArmFolder(judged / "arms" / arm)
        folder.replicate(1).path.mkdir(parents=True)
        folder.replicate(1).write_evaluation(folder.evaluation(), {})
    path = tmp_path / "report.html"
    path.write_text(Report(load_run(judged), 2).render(), encoding="utf-8")
    page = browser.new_page()
    page.goto(f"{path.as_uri()}#run")
    page.wait_for_selector("#training svg.plot")
    assert page.inner_text("#training figcaption") == "Training loss of the first of 2 seeds"
    page.close()


def test_arms_that_keep_the_same_tokens_of_an_example_are_said_to(open_tab):
    tab = open_tab("examples?arm=full&other=random")
    tab.page.wait_for_selector("#difference")
    assert tab.text("#difference") == "full and random keep the same tokens of it."
