from __future__ import annotations

import dataclasses
import re
import shlex

import numpy as np
import pytest
from manifests import record_again

from tokensieve.cli import main
from tokensieve.errors import TokensieveError
from tokensieve.report.analysis.summary import Index
from tokensieve.report.heatmap import LEVELS
from tokensieve.report.html.page import Report, write_page
from tokensieve.report.html.payload import _finite, typical
from tokensieve.report.palette import DARK, LIGHT, contrast
from tokensieve.runs.view import load_run
from tokensieve.store.atomic import read_json, write_json
from tokensieve.store.sealed import write_sealed

OWN = 3  # scripts that run: two libraries and the page's own


def render(demo, examples=12) -> str:
    return Report(load_run(demo.folder), examples).render()


@pytest.fixture
def page(demo, take_apart):
    return take_apart(render(demo))


def running(page) -> list[str]:
    return [text for attributes, text in page.scripts if "type" not in attributes]


def test_data_is_never_markup(demo, take_apart):
    run = demo.folder / "run.json"
    evil = "\"><script>alert(1)</script><img src=x onerror=alert(1)>'\u2028"
    write_sealed(run, {**read_json(run), "name": evil, "versions": {evil: evil}})
    write_json(demo.folder / "times.json", {evil: 1.0})
    selection = demo.folder / "arms" / "token-cleaning" / "selection.json"
    write_sealed(selection, {**read_json(selection), "parameters": {evil: evil}, "method": evil})
    evaluation = demo.folder / "arms" / "full" / "evaluation.json"
    write_sealed(evaluation, {"tasks": {evil: {evil: 1.0}}})
    record_again(load_run(demo.folder).store.folder, sources=[evil, "b"])
    page = take_apart(render(demo))
    assert len(running(page)) == OWN
    assert not any("alert(1)" in text for text in running(page))
    assert not [tag for tag, _ in page.tags if tag == "img"]
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]


def test_names_of_arms_are_escaped(demo, take_apart):
    name = 'a"<script>'
    (demo.folder / "arms" / "random").rename(demo.folder / "arms" / name)
    run = demo.folder / "run.json"
    write_sealed(run, {**read_json(run), "arms": ["token-cleaning", name]})
    html = render(demo)
    page = take_apart(html)
    assert len(running(page)) == OWN
    assert "a&#34;&lt;script&gt;" in html
    assert [arm["name"] for arm in page.payload["arms"]] == [name, "token-cleaning"]


def test_the_page_runs_no_other_script_and_loads_nothing(page):
    policy = next(a["content"] or "" for tag, a in page.tags if tag == "meta" and "http-equiv" in a)
    assert "default-src 'none'" in policy
    assert "connect-src 'none'" in policy
    assert len(re.findall(r"'sha256-[^' ]+'", policy)) == OWN + 1
    assert "unsafe" not in policy
    links = [a[name] or "" for _, a in page.tags for name in ("src", "href") if name in a]
    assert all(link.startswith(("#", "data:")) for link in links)
    assert not [a for _, a in page.tags if "style" in a]


def test_the_payload_counts_every_trainable_token(demo, page):
    payload = page.payload
    trainable = sum(label != -100 for example in demo.labels for label in example)
    kept = sum(sum(example) for example in demo.kept)
    arms = {arm["name"]: arm for arm in payload["arms"]}
    own = arms["token-cleaning"]["sweep"]["own"]
    for kind in ("source", "position", "class"):
        table = payload["tables"][kind]["token-cleaning"]
        assert sum(map(sum, table)) == trainable
        assert sum(sum(row[: own + 1]) for row in table) == kept
    assert sum(payload["blocks"]) == len(payload["index"]["rows"]) == 6
    assert payload["index"]["rows"] == [10, 11, 12, 13, 14, 15]
    assert arms["full"]["sweep"]["parameter"] is None
    assert arms["token-cleaning"]["recipe"]["name"] == "token-cleaning"


def test_results_have_intervals_and_what_became_of_marks(demo):
    html = render(demo, 0)
    for shown in (
        "1.300 to 1.500",
        "5.0 to 70.0 %",
        "75.0 %",
        "30 of 40",
        "5 of 100",
        "0.75",
        "before fine-tuning",
        "boolq acc",
    ):
        assert shown in html
    assert 'id="block-0"' not in html


def test_numbers_of_the_payload_are_rounded_as_text_would_be_and_null_where_they_are_not_finite():
    generator = np.random.default_rng(0)
    values = generator.normal(size=5000) * 10.0 ** generator.integers(-9, 13, 5000)
    values = np.concatenate([values, [0.0, -1.0, 99999.5]]).astype(np.float32).astype(np.float64)
    for digits in (5, 9):
        assert _finite(values, digits) == [float(f"{value:.{digits}g}") for value in values]
    assert _finite([np.nan, np.inf, -np.inf, 2.5]) == [None, None, None, 2.5]
    assert _finite(()) == []


def test_a_run_without_evaluation_has_a_page(demo, tmp_path):
    for path in demo.folder.glob("arms/*/evaluation.json"):
        path.unlink()
    write_page(load_run(demo.folder), tmp_path / "report.html", 3)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "tokens kept" in html
    assert "held-out loss" not in html


def test_the_answer_at_a_glance_is_like_those_that_most_dropped_tokens_are_of():
    kept = np.array([190, 180, 90, 91, 95, 20, 95, 21, 100, 22, 0])
    scores = np.array([2, 2, 2, 2, 2, 0.1, 2, -9, 2, -9, np.nan])
    trainable = np.array([200, 200, *[100] * 8, 0])
    nothing = np.zeros_like(kept)
    every = Index(nothing, nothing, trainable, trainable, {"a": kept}, {"a": scores}, nothing)
    assert typical(every, every, "a") in (7, 9), "neither one of the many that lose little, nor one of another score"
    assert typical(every, every.take(np.array([3, 9])), "a") == 1
    assert typical(every, every.take(np.array([], dtype=np.int64)), "a") is None
    full = dataclasses.replace(every, kept={"a": trainable})
    assert typical(full, full, "a") is not None


def test_the_parameters_of_an_arm_are_words_not_python(demo):
    selection = demo.folder / "arms/token-cleaning/selection.json"
    parameters = {"warm_up": None, "domain_words": [], "on": ["a", "b"], "exact": True, "fraction": 0.6}
    write_sealed(selection, {**read_json(selection), "parameters": parameters})
    html = render(demo, 1)
    for name, told in (
        ("warm_up", "unset"),
        ("domain_words", "unset"),
        ("on", "a, b"),
        ("exact", "true"),
        ("fraction", "0.6"),
    ):
        assert f"<dt>{name}</dt><dd>{told}</dd>" in html


def test_a_negative_number_of_examples_is_refused(demo, tmp_path):
    with pytest.raises(TokensieveError, match="examples is -5"):
        write_page(load_run(demo.folder), tmp_path / "report.html", -5)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(("large", "told"), [(10**9, False), (10**3, True)])
def test_a_large_page_is_written_with_the_advice_to_serve_the_run(demo, tmp_path, monkeypatch, capsys, large, told):
    monkeypatch.setattr("tokensieve.cli.views._LARGE_PAGE", large)
    page = tmp_path / "x.html"
    main(["report", str(demo.folder), "--output", str(page)])
    shown = capsys.readouterr()
    assert shown.out == f"{page}\n"
    assert re.search(r"read the run: [\d,]+ tokens in .*\nwrite the page: begins\n", shown.err)
    command = re.escape(f"tokensieve serve {shlex.quote(str(demo.folder))}")
    advice = rf"note: the page has \S+ [kM]B; `{command}` shows every example"
    assert (re.search(advice, shown.err) is not None) is told


def test_the_same_run_gives_the_same_page(demo):
    assert render(demo, 5) == render(demo, 5)


@pytest.mark.parametrize("palette", [LIGHT, DARK])
@pytest.mark.parametrize("signed", [True, False])
def test_every_colour_carries_text(palette, signed):
    for level in range(-LEVELS if signed else 0, LEVELS + 1):
        assert contrast(palette.text, palette.background(level, signed)) >= 4.5
