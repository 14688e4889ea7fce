"""`tokensieve search` with real runs of a tiny model: two methods, one fraction, two rows of steps."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console
from weightless import refuse_models

import tokensieve
from tokensieve.cli import main
from tokensieve.errors import TokensieveError
from tokensieve.models import pool
from tokensieve.pipeline import disk, probes, search_work, training_bench
from tokensieve.pipeline import search as searching
from tokensieve.pipeline.candidates import candidates, searched_methods
from tokensieve.pipeline.recipe import load_recipe
from tokensieve.pipeline.stages import run
from tokensieve.progress import StageProgress
from tokensieve.report.terminal.search import print_search
from tokensieve.runs.folder import RunFolder
from tokensieve.runs.outcomes import read_outcomes
from tokensieve.runs.view import load_run
from tokensieve.search.search import confirms
from tokensieve.store.atomic import read_json

SILENT = StageProgress(shown=False)
SEARCH = "search={methods: [entropy, loss], fractions: [0.5], probes: 30, seeds: 2}"
WORDS = ["the", "sea", "is", "wide", "and", "cold", "two", "apples", "are", "left", "of", "three", "give", "one", "to"]


@pytest.fixture(scope="module")
def held_out(tmp_path_factory):
    """Forty different rows."""
    path, generator = tmp_path_factory.mktemp("held-out") / "rows.jsonl", np.random.default_rng(1)
    with path.open("w") as file:
        for row in range(40):
            answer = {"role": "assistant", "content": " ".join(generator.choice(WORDS, 4))}
            file.write(json.dumps({"messages": [{"role": "user", "content": f"row {row}"}, answer]}) + "\n")
    return path


@pytest.fixture(scope="module")
def arguments(module_arguments, held_out):
    """Return the overrides of a small search; all of them share a store."""
    return lambda output, *more: module_arguments(output, f"evaluate.held_out=[{held_out}]", SEARCH, *more)


@pytest.fixture(scope="module")
def recipe(arguments):
    """Return the recipe of a small search."""
    return lambda output, *more: load_recipe(None, arguments(output, *more))


@pytest.fixture(scope="module")
def found(recipe):
    """A search that has ended."""
    return search(recipe("found"))


def search(recipe):
    return searching.search(recipe, StageProgress(shown=False))


def file_of(recipe):
    return searching.RunFolder(searching.Path(recipe.output)).search / "search.json"


def test_a_search_writes_its_table_and_every_probe_is_a_run(recipe, found):
    small = recipe("found")
    assert [(one.stage, one.candidate.name, one.steps) for one in found.entries[:2]] == [
        ("rung 1", "entropy-0.5", 2),
        ("rung 1", "loss-0.5", 2),
    ]
    assert read_json(file_of(small)) == json.loads(json.dumps(found.to_json()))
    probe = file_of(small).parent / "probes/rung-1/loss-0.5"
    assert load_run(probe).arms == ("full", "random", "loss")
    rows = searching.prepare_search(small, StageProgress(shown=False)).inputs.held_out
    assert rows is not None
    hashes = rows.hashes
    losses = [json.loads(line) for line in (probe / "arms/loss/held_out.jsonl").read_text().splitlines()]
    seen = [row for row, confirming in zip(losses, confirms(hashes), strict=True) if not confirming]
    mean = sum(row["losses"] for row in seen) / sum(row["tokens"] for row in seen)
    assert found.entries[1].own == pytest.approx(mean), "the rungs see the rows that choose"
    printed = io.StringIO()
    print_search(found, Console(file=printed, width=80))
    assert "entropy-0.5" in printed.getvalue()
    assert "method:" in printed.getvalue()


def test_a_search_that_is_killed_goes_on_to_the_same_table(recipe, monkeypatch):
    train, calls = training_bench.train, []

    def killed(*given, **more):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return train(*given, **more)

    monkeypatch.setattr(training_bench, "train", killed)
    small = recipe("killed", "seed=5")
    with pytest.raises(KeyboardInterrupt):
        search(small)
    assert [row["candidate"]["method"] for row in read_json(file_of(small))["table"]] == ["entropy"]
    resumed = search(small).to_json()
    assert len(resumed["table"]) >= 2
    assert len(calls) <= resumed["plan"]["trainings"] + 1, "what was trained before is not trained again"
    monkeypatch.setattr(training_bench, "train", lambda *_, **__: pytest.fail("trained again"))
    assert search(recipe("whole", "seed=5")).to_json() == resumed
    monkeypatch.setattr(probes, "run_recipe", lambda *_, **__: pytest.fail("a finished search runs nothing"))
    assert search(small).to_json() == resumed


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    """Twelve rows to train on, of which ten are marked."""
    path = tmp_path_factory.mktemp("marked") / "rows.jsonl"
    rows = [
        {"question": f"row {n}", "answer": "three apples are left of the sea", "spans": [[0, 12]] if n < 10 else []}
        for n in range(12)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_where_rows_are_marked_the_answer_has_the_ceiling(recipe, marked, monkeypatch):
    data = f"data.files=[{marked}]"
    lines = searching.search_lines(recipe("marked", data), StageProgress(shown=False))
    assert "ceiling: the true mask and as many random tokens, 2 steps, 2 seeds: 4 trainings" in lines
    assert "in all: 14 trainings at most" in lines
    train, calls = training_bench.train, []

    def killed(setup, files, output, **more):
        calls.append(1)
        if len(calls) == 5:  # four of the rung; the next is of the confirmation or the ceiling
            raise KeyboardInterrupt
        return train(setup, files, output, **more)

    monkeypatch.setattr(training_bench, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        search(recipe("marked", data))
    found = search(recipe("marked", data))
    assert len(calls) <= 14 + 1
    entry = found.entries[-1]
    assert (entry.stage, entry.candidate.method, entry.seeds) == ("ceiling", "marked", (1, 2))
    probe = load_run(file_of(recipe("marked")).parent / "probes/ceiling" / entry.candidate.name)
    mask, random = (probe.row(arm).selection for arm in ("marked", "random"))
    assert mask is not None
    assert random is not None
    assert mask.kept == random.kept < mask.trainable
    assert mask.share == pytest.approx(entry.candidate.fraction, abs=0.01)
    told = found.to_json()
    assert told["result"]["ceiling"]["against_random"]["seeds"] == 2
    assert told["marked"] == {"rows": 10, "of": 12}
    (note,) = (
        note
        for note in found.notes
        if note.startswith("the true mask (10 of 12 rows are marked, and 200 are enough to try)")
    )
    assert "against as many random tokens" in note
    printed = io.StringIO()
    print_search(found, Console(file=printed, width=80))
    assert note.split(":")[0] in " ".join(printed.getvalue().split())
    monkeypatch.setattr(training_bench, "train", lambda *_, **__: pytest.fail("trained again"))
    assert search(recipe("marked-whole", data)).to_json() == told
    with pytest.raises(TokensieveError, match="needs 10 probes"):
        search(recipe("marked-small", data, "search.probes=9"))
    small = searching.search_lines(recipe("marked-small", data, "search.probes=13"), StageProgress(shown=False))
    assert "the data has marks, and the budget does not pay for training the true mask" in small


def test_another_search_in_the_same_folder_is_refused(recipe, found):
    with pytest.raises(TokensieveError, match="seeds: 2 there, 3 here") as error:
        search(recipe("found", "search.seeds=3"))
    assert "delete this folder" in str(error.value)
    assert search(recipe("found", "report.examples=3", "method=loss", "data.license=mit")) == found


def test_a_budget_in_minutes_is_planned_by_a_training(recipe, found, monkeypatch):
    prices = []
    plan = search_work.plan_search
    monkeypatch.setattr(search_work, "plan_search", lambda *given: prices.append(given[4:6]) or plan(*given))
    again = search(recipe("minutes", "search.probes=null", "search.minutes=30"))
    ((price, budget),) = prices
    assert 0 < price.step < 30
    assert 0 <= price.fixed < 60
    assert 1700 < budget < 1800, "what measuring took is spent"
    assert again.entries == found.entries, "the steps, and so the models, are those of the other search"
    with pytest.raises(TokensieveError, match=r"needs .* minutes, and the budget is 0 minutes"):
        search(recipe("short", "search.probes=null", "search.minutes=0.0001"))


def test_the_time_of_a_training_is_never_that_of_one_in_the_store(recipe, trained):
    for searches in (1, 2):
        with pytest.raises(TokensieveError, match=r"needs .* minutes"):
            search(recipe("timed", "search.probes=null", "search.minutes=0.0001"))
        assert len(trained) == searches


def test_a_reference_is_made_once_whatever_the_steps_and_seeds_of_a_probe(recipe, trained, module_run, arguments):
    reference = ("models.reference.warm_up={rows: 6, train: {learning_rate: 5e-2}}", "search.methods=token-cleaning")
    work = searching.prepare_search(recipe("made", *reference), StageProgress(shown=False))
    for steps, seed in ((1, 0), (2, 0), (2, 7)):
        folder = work.folder / f"probe-{steps}-{seed}"
        probe = work.probe_recipe(folder, {"name": "token-cleaning"}, steps, [seed])
        searching.run_recipe(probe, "measure", progress=False)
        assert probe.train is not None
        assert probe.train.arguments["max_steps"] == steps
    assert len(trained) == 1
    module_run("ordinary", *reference, until="measure")
    assert len(trained) == 1, "an ordinary run finds it"


def test_an_automatic_fraction_is_searched_first_and_the_run_says_what_came_out(recipe, trained):
    small = recipe("auto", "method={name: entropy, fraction: auto}", "search={fractions: [0.4], probes: 9, seeds: 2}")
    folder = tokensieve.run(small, "evaluate", progress=False)
    view = load_run(folder)
    selection = view.row("entropy").selection
    assert selection is not None
    assert selection.parameters["fraction"] == 0.4
    result = read_json(file_of(small))["result"]
    assert any(result["sentence"] in warning for warning in view.warnings) is (result["recommended"] is None)
    begun = len(trained)
    assert tokensieve.run(small, "evaluate", progress=False) == folder
    assert len(trained) == begun
    assert read_json(file_of(small))["plan"]["candidates"] == [{"method": "entropy", "fraction": 0.4}]


def test_the_recipe_of_an_automatic_run_has_the_fraction(recipe, monkeypatch):
    dry = searching.search_lines(recipe("lines"), StageProgress(shown=False))
    assert dry[0] == "candidates: entropy-0.5, loss-0.5"
    assert dry[-1] == "ok: everything but the weights was checked"
    with pytest.raises(TokensieveError, match="a search decides the fraction of `method` alone"):
        searching.run_recipe(recipe("other", "controls=[{name: entropy, fraction: auto}]"), progress=False)


def test_a_disk_that_cannot_hold_the_probes_is_refused_at_the_start(recipe, held_out, monkeypatch):
    full = ("train.lora=null", "search.seeds=9", "search.probes=40")
    (line,) = (one for one in searching.search_lines(recipe("room", *full), SILENT) if one.startswith("disk:"))
    assert "GB at most in " in line
    monkeypatch.setattr(disk, "_weights", lambda _: 10**9)
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: SimpleNamespace(free=20 * 10**9))
    monkeypatch.setattr(pool, "load_model", lambda *_: pytest.fail("a model was loaded"))
    for begin in (search, lambda given: searching.search_lines(given, SILENT)):
        with pytest.raises(TokensieveError, match=r"the search needs about 37\.0 GB, 20\.0 GB are free") as error:
            begin(recipe("room", *full))
        assert "a smaller budget" in str(error.value)
    minutes = searching.search_lines(recipe("room", *full[:2], "search.probes=null", "search.minutes=9"), SILENT)
    assert any("about 37.0 GB at most" in line for line in minutes), "it depends on the minutes what is trained"


def test_a_method_that_is_only_measured_takes_no_room_of_a_trained_arm(recipe, monkeypatch):
    methods = ", ".join(f"{{name: stm, perplexity: {perplexity}}}" for perplexity in range(2, 22))
    given = ("train.lora=null", f"search.methods=[{methods}]", "search.probes=11")
    monkeypatch.setattr(disk, "_weights", lambda _: 10**9)
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: SimpleNamespace(free=18 * 10**9))
    work = searching.prepare_search(recipe("narrow", *given), SILENT)
    assert len(work.inputs.plan.arms) == 20
    run(work.everything, "measure", progress=False)
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: SimpleNamespace(free=13 * 10**9))
    with pytest.raises(TokensieveError, match=r"the search needs about 17\.0 GB, 13\.0 GB are free"):
        searching.prepare_search(recipe("narrow", *given), SILENT)


def test_methods_are_those_whose_models_the_recipe_has(arguments):
    own = load_recipe(None, arguments("a", "search.methods=[]", "method={name: loss, keep: bottom, fraction: 0.2}"))
    own_first = [
        ("loss", {"name": "loss", "keep": "bottom"}),
        *((name, {"name": name}) for name in ("entropy", "t-shirt")),
    ]
    assert list(searched_methods(own).items()) == own_first
    more = load_recipe(None, arguments("a", "search.methods=[]", "models.reference=x", "models.current=y"))
    assert {"token-cleaning", "rho-1", "sstoken", "forgetting"} <= searched_methods(more).keys()
    assert not {"random", "self-evolving", "toss", "dft", "full"} & searched_methods(more).keys()
    alike = load_recipe(None, arguments("a", "search.methods=[]", "method=sequence-mean"))
    assert "sequence-mean" not in searched_methods(alike)
    both = load_recipe(None, arguments("a", "search.methods=[entropy, {name: entropy, keep: bottom}]"))
    labels = searched_methods(both)
    assert labels["entropy-2"] == {"name": "entropy", "keep": "bottom"}
    assert [one.name for one in candidates(labels, (0.5, 0.7))] == [
        "entropy-0.5",
        "entropy-2-0.5",
        "entropy-0.7",
        "entropy-2-0.7",
    ]


def test_a_method_that_decides_by_itself_is_tried_once_against_as_many_random_tokens(recipe):
    given = recipe("by-itself", "search.methods=[entropy, {name: stm, perplexity: 16}]", "search.fractions=[0.5, 0.7]")
    assert [one.name for one in candidates(searched_methods(given), (0.5, 0.7))] == [
        "entropy-0.5",
        "stm",
        "entropy-0.7",
    ]
    own = recipe("own", "search.methods=[]", "method=stm")
    assert next(iter(searched_methods(own).items())) == ("stm", {"name": "stm"})

    found = search(given)
    first = RunFolder(searching.Path(given.output)).search / "probes/rung-1"
    view = load_run(first / "stm")
    kept, random = (view.row(name).selection for name in ("stm", "random"))
    assert kept is not None
    assert random is not None
    assert 0 < kept.kept == random.kept < kept.trainable
    assert [one.candidate.name for one in found.entries[:3]] == ["entropy-0.5", "stm", "entropy-0.7"]
    assert found.plan.rungs[0].fractions == 3
    assert read_json(file_of(given))["plan"]["candidates"][1] == {"method": "stm", "fraction": None}
    assert search(given) == found


def test_an_automatic_fraction_needs_a_method_that_has_one(recipe):
    with pytest.raises(TokensieveError, match="method 'stm' has no fraction to search"):
        tokensieve.run(recipe("no-fraction", "method={name: stm, fraction: auto}"), progress=False)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["search.probes=3"], r"2 candidates .* needs 10 probes, and the budget is 3 probes"),
        (["search.methods=[entropie]"], r"unknown method 'entropie'; did you mean 'entropy'"),
        (["search.methods=[token-cleaning]"], "needs a model in the role 'reference', and the recipe names none"),
        (["search.methods=[dft]"], "'dft' selects while the model trains and has no fraction"),
        (["search.methods=[full]"], "full keeps every token"),
        (["search.methods=[sequence-mean]"], "sequence-mean trains on every token"),
        (["search.methods=[marked]"], "marked is the true mask"),
        (["search.methods=[random]"], "random is the control of every candidate"),
        (["search.methods=[{name: entropy, fraction: 0.5}]"], "search.fractions says which are tried"),
        (["search.methods=[self-evolving]", "models.reference.warm_up={rows: 4}"], "'self-evolving' trains in rounds"),
        (["search.measure=exact_match"], r"the recipe has no evaluate\.exact_match"),
        (["search.measure=loss"], "a search cannot decide by 'loss'"),
        (["evaluate.held_out.files=[]"], r"the recipe has no evaluate\.held_out"),
        (["evaluate.held_out.limit=39"], "there are 39 different ones"),
        (["train=null"], "train is null"),
        (["select.threshold=0.5"], "a threshold decides in place of every fraction"),
    ],
)
def test_what_cannot_be_searched_is_one_error_before_a_model_is_loaded(recipe, changes, told, monkeypatch):
    refuse_models(monkeypatch)
    given = recipe("bad", *changes)
    with pytest.raises(TokensieveError, match=told) as error:
        search(given)
    assert "hint:" in str(error.value)
    assert not file_of(given).exists()


def test_held_out_rows_that_are_trained_on_are_refused(recipe, held_out, tmp_path):
    (tmp_path / "pool.jsonl").write_text(held_out.read_text().splitlines(keepends=True)[3])
    with pytest.raises(TokensieveError, match=r"1 of 40 held-out examples are in data\.files too.*rows.jsonl:4"):
        search(recipe("overlap", f"data.files=[{tmp_path / 'pool.jsonl'}]"))


def test_exact_match_can_decide(recipe, held_out, tmp_path):
    match = f"evaluate.exact_match={{files: [{held_out}], max_new_tokens: 2}}"
    given = recipe("match", match, "search.measure=exact_match")
    work = searching.prepare_search(given, StageProgress(shown=False))
    assert not work.measure.lower_is_better
    assert len(work.rows.confirming) == 40
    probe = work.probe_recipe(tmp_path / "probe", {"name": "loss"}, 2, [5, 6])
    assert probe.evaluate.held_out.files == ()
    assert probe.evaluate.exact_match == given.evaluate.exact_match
    answer = search(given)
    assert [entry.own for entry in answer.entries] == [0, 0], "an untrained model has no answer right"
    assert answer.sentence.startswith("Train on everything: no candidate was better than both")


@pytest.mark.parametrize(
    ("measure", "section", "lines"),
    [
        ("unwanted", "unwanted", "unwanted"),
        ("stop", "unwanted", "stop"),
        ("unwanted_answers", "unwanted", "unwanted_answers"),
        ("margin", "corrected", "preference"),
    ],
)
def test_other_measures_can_decide(recipe, tmp_path, measure, section, lines):
    """The rows are parted in the order in which an evaluation has their results."""
    file = tmp_path / "rows.jsonl"
    rows = [
        {"text": f" No {number} sea"}
        if lines in ("unwanted", "stop")
        else {"question": f"Why {number}?", "answer": f"It is {number}.", "corrected": f"No {number}."}
        for number in range(44)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    cut = ", max_new_tokens: 2" if section == "unwanted" else ""
    given = recipe(measure, f"evaluate.{section}={{files: [{file}]{cut}}}", f"search.measure={measure}")
    work = searching.prepare_search(given, StageProgress(shown=False))
    assert len(work.rows.confirming) == 44
    probe = work.probe_recipe(tmp_path / "probe", {"name": "loss"}, 2, [5])
    folder = RunFolder(run(probe, "evaluate", progress=False))
    found = read_outcomes(folder.arm("loss"), measure, 5)
    assert found is not None
    assert found.sums.shape == (1, 44)
    assert len(folder.arm("loss").evaluation_details(lines) or []) == 44


def test_the_command_prints_the_answer(arguments, found, capsys):
    main(["search", *arguments("found"), "--probes", "30", "--json"])
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(found.to_json()))
    main(["search", *arguments("found"), "--probes=30"])
    printed = " ".join(capsys.readouterr().out.split())
    assert f" {found.sentence} " in printed
    main(["search", *arguments("command"), "--dry-run", "--minutes", "5"])
    assert "at most that, as far as 5 minutes pay for it" in capsys.readouterr().out
