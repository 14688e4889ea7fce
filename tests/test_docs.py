"""README and docs say what the code does; `tests/docs` runs their blocks."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from tokensieve.methods import all_methods

ROOT = Path(__file__).parents[1]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def test_the_exit_codes_are_the_same_everywhere():
    pages = [
        (ROOT / name).read_text() for name in ("docs/cli.md", "docs/ecosystem.md", "src/tokensieve/cli/__init__.py")
    ]
    codes = set(re.findall(r"^\| (\d+) \|", pages[1], re.MULTILINE))
    assert codes == {"0", "1", "2", "130", "143"}
    for page in (pages[0], pages[2]):
        (line,) = re.findall(r"Exit codes: (.*)", page)
        assert set(re.findall(r"\d+", line)) == codes


def test_the_reference_pages_are_those_of_the_code():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    for name, page in generate.PAGES.items():
        assert (ROOT / "docs" / name).read_text() == page(), f"run python docs/generate.py: {name}"


def test_the_default_template_of_the_docs_is_the_one_in_use():
    from transformers.utils.chat_template_utils import render_jinja_template

    from tokensieve.data.tokenize import DEFAULT_CHAT_TEMPLATE

    (documented,) = blocks("docs/data.md", "jinja")
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    texts = [
        render_jinja_template([messages], chat_template=template, eos_token="</s>", bos_token="")[0]
        for template in (documented, DEFAULT_CHAT_TEMPLATE)
    ]
    assert texts[0][0].strip() == texts[1][0].strip()


def test_links_within_the_docs_lead_somewhere():
    links = [
        (page, target)
        for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text())
        if "://" not in target
    ]
    assert len(links) > 50
    assert [f"{page.name}: {target}" for page, target in links if not (page.parent / target).exists()] == []


def test_the_home_page_begins_with_the_picture_of_the_product_how_to_install_it_and_a_result():
    text = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    parts = ("(images/page-overview.png)", "$ pip install", "nats of held-out loss", "| you want to")
    places = [text.index(part) for part in parts]
    assert places == sorted(places)


def test_the_tests_that_promises_name_exist():
    pages = [*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md")]
    named = {name for page in pages for name in re.findall(r"`(tests/[\w./]+)`", page.read_text(encoding="utf-8"))}
    assert len(named) > 30
    of_readers = {"tests/methods/test_calm.py"}  # a file that the reader of a page writes
    assert {name for name in named - of_readers if not (ROOT / name).exists()} == set()


def test_the_map_of_the_contributor_has_every_folder():
    rows = "\n".join(re.findall(r"^\| (`.*?) \|", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE))
    inside = (path for path in (ROOT / "src/tokensieve").iterdir() if path.is_dir())
    folders = {path.name for path in inside if path.name != "__pycache__"}
    assert set(re.findall(r"`(\w+)/`", rows)) == folders
    assert all((ROOT / "src/tokensieve" / name).is_file() for name in re.findall(r"`(\w+\.py)`", rows))


def test_the_methods_page_says_of_each_method_what_it_assumes_and_whether_it_beat_its_control():
    page = (ROOT / "docs/methods.md").read_text(encoding="utf-8")
    groups = re.split(r"^\*\*(.+)\*\*$", page.partition("\n## ")[0], flags=re.MULTILINE)[1:]
    found = {
        name: (title.split()[0], cells.split(" | ")[-1])
        for title, table in zip(groups[::2], groups[1::2], strict=True)
        for name, cells in re.findall(r"^\| \[`([\w-]+)`\](.*) \|$", table, re.MULTILINE)
    }
    assert found.keys() == all_methods().keys()
    assert found["span-ratio"] == ("Clean", "yes")
    assert found["self-evolving"] == ("Nothing", "no")
    assert found["forgetting"] == ("Clean", "no")
    assert found["preference-guided"] == ("Preferences", "no"), "`sequence-mean` does better"
    assert found["sequence-mean"] == ("Nothing", "yes"), "against training on everything"
    assert found["dft"] == ("Nothing", "no"), "against training on everything"
    assert found["xtf"] == ("Nothing", "-"), "it decides how much it keeps, and was not tried against as many"
    assert (found["toss-pro"][0], found["marked"][0]) == ("Harmful", "Marks")
