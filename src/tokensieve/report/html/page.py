"""The page of one or more runs: one HTML file that needs no network and opens from disk.

Everything from data is in the payload and the blocks, gzip in base64, and reaches the page only as text. Whatever is
written into the page itself goes through Jinja's escaping. The page's content security policy runs only the scripts
whose hashes it lists, and loads nothing.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import importlib.resources
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tokensieve.containers import Int64
from tokensieve.ops.rules import check_range
from tokensieve.outputs import output_place
from tokensieve.report.analysis.summary import Summary, pick_examples, summarise
from tokensieve.report.analysis.sweep import Levels
from tokensieve.report.causes import words_of
from tokensieve.report.cells import spelled
from tokensieve.report.differences import run_differences
from tokensieve.report.facts import run_facts, score_in_words, used_parameters
from tokensieve.report.heatmap import LEVELS
from tokensieve.report.html.pack import Packer, plan_blocks
from tokensieve.report.html.payload import payload
from tokensieve.report.palette import DARK, LIGHT, Palette, css
from tokensieve.report.table import result_table
from tokensieve.report.terms import terms_in
from tokensieve.report.verdict import method_verdict
from tokensieve.runs.view import RunView
from tokensieve.select.streaming import Stage, unseen
from tokensieve.store.atomic import write_text

if TYPE_CHECKING:
    from jinja2 import Environment

    from tokensieve.progress import ProgressCallback

_SCRIPTS = (
    "data",
    "selection",
    "charts",
    "terms",
    "overview",
    "verdict",
    "heatmap",
    "hits",
    "choice",
    "filters",
    "rows",
    "reasons",
    "details",
    "examples",
    "keyboard",
    "address",
    "main",
)
_VENDORED = ("d3.min.js", "plot.umd.min.js")


def _nowhere(amount: int, /, *, total: int | None = None, note: str | None = None) -> None:
    """Show no progress."""


class Report:
    """A run with the data that its page shows.

    Args:
        view: one run, or several joined (`joined.load_runs`).
        examples: maximum number of heat maps; None shows all.
        advance: moves the bar of a stage on by the tokens that were counted.

    Raises:
        TokensieveError: scores or examples that cannot be read.
    """

    def __init__(self, view: RunView, examples: int | None, advance: ProgressCallback = _nowhere) -> None:
        self.view = view
        self.levels: dict[str, Levels] = {}
        tokens = int(view.store.starts[-1])
        advance(0, total=tokens * (len(view.arms) + 1))
        for arm in view.arms:
            self.levels[arm] = Levels(view, arm)
            advance(tokens)
        self.summary: Summary = summarise(view, self.levels)
        advance(tokens)
        index = self.summary.index
        self.numbers: Int64 = pick_examples(index, view.method, len(index.rows) if examples is None else examples)
        self.blocks = plan_blocks(self.numbers, index.tokens[self.numbers], view.starts)
        self.packer = Packer(view, self.levels)

    def render(self, *, remote: bool = False, advance: ProgressCallback = _nowhere) -> str:
        """Return the page; with ``remote`` it fetches the examples from ``blocks/NUMBER`` instead of embedding them.

        Args:
            remote: whether it comes from `tokensieve serve`.
            advance: moves the bar of a stage on by the tokens that were written.
        """
        view = self.view
        differences = run_differences(view)
        verdict = method_verdict(view, view.method, differences)
        sizes = [len(block) for block in self.blocks]
        found = payload(view, self.levels, self.summary, self.numbers, sizes, verdict.findings)
        packed = json.dumps({**found, "remote": remote}, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        selection = view.row(view.method).selection
        assert selection is not None
        meaning = score_in_words(selection)
        own = next(arm for arm in found["arms"] if arm["name"] == view.method)
        said = [*verdict.texts, meaning, *words_of(own["causes"])]
        return (
            _environment()
            .get_template("page.html.j2")
            .render(
                view=view,
                joined=len({arm.path.parent for arm in view.folders.values()}) > 1,
                arms=[row for row in view.rows if row.selection is not None],
                selection=selection,
                verdict=verdict,
                meaning=meaning,
                terms=terms_in(said),
                facts=run_facts(view),
                table=result_table(view, differences),
                payload=_base64(gzip.compress(packed.encode("utf-8", "replace"), mtime=0)),
                blocks=[] if remote else list(self._embedded(advance)),
                style=_style(),
                scripts=_scripts(),
                policy=self.policy(remote=remote),
            )
        )

    def _embedded(self, advance: ProgressCallback) -> Iterator[str]:
        lengths = self.summary.index.tokens
        advance(0, total=int(lengths[self.numbers].sum()))
        for block in self.blocks:
            yield _base64(self.packer.block(block))
            advance(int(lengths[block].sum()))

    def policy(self, *, remote: bool) -> str:
        """Return the content security policy of the page; it may ask where it came from for examples if ``remote``."""
        return _policy(_style(), _scripts(), "'self'" if remote else "'none'")


def write_page(view: RunView, path: str | Path, examples: int, stage: Stage = unseen) -> None:
    """Write the page of a run.

    Args:
        view: the run, or several joined.
        path: the HTML file.
        examples: maximum number of heat maps.
        stage: opens a progress bar.

    Raises:
        TokensieveError: scores or examples that cannot be read, or a negative number of heat maps.
    """
    check_range("examples", examples, 0, math.inf, whole=True)
    with stage("read the run") as advance:
        report = Report(view, examples, advance)
    with stage("write the page") as advance:
        write_text(output_place(path), report.render(advance=advance))


def _style() -> str:
    return _asset("page.css") + _level_rules()


def _scripts() -> list[str]:
    return [_vendored(name) for name in _VENDORED] + [_own_script()]


def _policy(style: str, scripts: Sequence[str], connect: str) -> str:
    hashes = " ".join(f"'{_hash(script)}'" for script in scripts)
    return (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src {hashes}; connect-src {connect}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("tokensieve.report.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["spelled"] = spelled
    environment.filters["used"] = used_parameters
    return environment


def _own_script() -> str:
    """Return the page's scripts as one script, in a scope of their own."""
    return '"use strict";\n(() => {\n' + "\n".join(_asset(f"js/{name}.js") for name in _SCRIPTS) + "})();\n"


def _asset(name: str) -> str:
    return importlib.resources.files("tokensieve.report.html").joinpath("templates", name).read_text(encoding="utf-8")


def _vendored(name: str) -> str:
    return importlib.resources.files("tokensieve.report.html").joinpath("vendor", name).read_text(encoding="utf-8")


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _hash(text: str) -> str:
    return "sha256-" + _base64(hashlib.sha256(text.encode()).digest())


def _level_rules() -> str:
    """Return the CSS of the heat map colours, for light and dark."""

    def rules(palette: Palette) -> Iterator[str]:
        yield f":root{{--token:{css(palette.text)};--token-middle:{css(palette.middle)}}}"
        for signed in (False, True):
            for level in range(-LEVELS if signed else 1, LEVELS + 1):
                if level:
                    name = f"{'s' if not signed else 'p' if level > 0 else 'n'}{abs(level)}"
                    yield f".{name}{{background:{css(palette.background(level, signed))}}}"

    return "".join(rules(LIGHT)) + "@media (prefers-color-scheme:dark){" + "".join(rules(DARK)) + "}\n"
