"""Scores, labels and masks made elsewhere become an arm; what does not fit is refused by its row."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from trained_examples import trained_examples

from tokensieve.cli import main
from tokensieve.data import prepare
from tokensieve.data.formats import Tokenised, convert
from tokensieve.errors import TokensieveError
from tokensieve.export.write import export_arm
from tokensieve.pipeline.imported import import_arm
from tokensieve.pipeline.imported_spans import import_spans
from tokensieve.pipeline.recipe import load_recipe
from tokensieve.pipeline.stages import run as carry_out
from tokensieve.report.analysis.sweep import Levels
from tokensieve.report.html.page import write_page
from tokensieve.runs.joined import load_runs
from tokensieve.runs.view import load_run
from tokensieve.select.streaming import read_selection
from tokensieve.store.atomic import read_json

Row = dict[str, Any]


def rows_of(run: Path, arm: str = "loss") -> list[Row]:
    """Return one row an example with everything that can be said of it."""
    view, found = load_run(run), []
    for number, examples in enumerate(view.store):
        scores, kept = read_selection(run / "arms" / arm / "scores", number)
        for example, row in enumerate(examples.rows.tolist()):
            span = slice(*examples.cu_seqlens[example : example + 2].tolist())
            ids, chosen = examples.input_ids[span].tolist(), kept[span].tolist()
            labels = [token if is_kept else -100 for token, is_kept in zip(ids, chosen, strict=True)]
            found.append(
                {"row": row, "input_ids": ids, "scores": scores[span].tolist(), "labels": labels, "kept": chosen}
            )
    return found


def only(rows: list[Row], *names: str) -> list[Row]:
    return [{name: row[name] for name in names} for row in rows]


@pytest.fixture
def write_rows(tmp_path) -> Callable[..., Path]:
    def write(rows: list[Row], name: str = "theirs.jsonl") -> Path:
        path = tmp_path / name
        if name.endswith(".parquet"):
            pq.write_table(pa.Table.from_pylist(rows), path)
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


def files(run: Path, arm: str) -> dict[str, bytes]:
    """Return the files of an arm that hold tokens, scores and decisions."""
    folder = run / "arms" / arm
    found = [path for part in ("scores", "cleaned/data", "cleaned/jsonl") for path in (folder / part).rglob("*.*")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.mark.parametrize("keys", [("row",), ("input_ids",), ("row", "input_ids")])
@pytest.mark.parametrize("name", ["theirs.jsonl", "theirs.parquet"])
def test_the_scores_of_a_method_give_its_own_arm(keys, name, run, write_rows):
    rows = only(rows_of(run), *keys, "scores")
    random.Random(0).shuffle(rows)
    arm = import_arm(run, write_rows(rows, name), "theirs", fraction=0.06)
    assert files(run, "theirs") == files(run, "loss")
    own = read_json(run / "arms/loss/selection.json")
    for field in ("trainable", "kept", "examples", "examples_without_kept", "threshold", "examples_written", "rule"):
        assert arm.selection.to_json()[field] == own[field]


def test_turn_ends_are_kept_as_the_recipe_says(make_run, write_rows, tmp_path):
    run = make_run(tmp_path / "run", "method={name: loss, fraction: 0.3}", "controls=[]")
    import_arm(run, write_rows(only(rows_of(run), "row", "scores")), "theirs", fraction=0.3)
    assert files(run, "theirs") == files(run, "loss")
    import_arm(run, write_rows(only(rows_of(run), "row", "kept"), "kept.jsonl"), "masks")
    assert trained_examples(run, "masks") == trained_examples(run, "loss")


@pytest.mark.parametrize(
    ("columns", "name"),
    [
        (("row", "labels"), "theirs.jsonl"),
        (("input_ids", "labels"), "theirs.jsonl"),  # a tokenised data set, as the authors of methods publish them
        (("row", "kept"), "theirs.parquet"),
    ],
)
def test_labels_and_masks_are_taken_as_they_are(columns, name, run, write_rows):
    arm = import_arm(run, write_rows(only(rows_of(run), *columns), name), "theirs")
    assert trained_examples(run, "theirs") == trained_examples(run, "loss")
    assert arm.selection.kept == read_json(run / "arms/loss/selection.json")["kept"]
    assert not arm.selection.identity.keep_turn_end


def test_cleaned_data_comes_back_and_examples_it_lacks_keep_nothing(run, capsys):
    (cleaned, *others) = sorted((run / "arms/loss/cleaned/jsonl").iterdir())
    assert not others
    main(["import", str(run), str(cleaned), "--name", "again"])
    assert trained_examples(run, "again") == trained_examples(run, "loss")
    absent = 40 - len(trained_examples(run, "loss"))
    printed = capsys.readouterr().out
    assert f"note: {absent} examples are not in the file, so none of their tokens are kept" in printed
    assert f"again: {read_json(run / 'arms/loss/selection.json')['kept']} of" in printed


def test_labels_of_the_last_shard_alone_are_an_arm(run, write_rows):
    rows = only(rows_of(run, "full"), "row", "labels")[-2:]
    import_arm(run, write_rows(rows), "theirs")
    assert trained_examples(run, "theirs") == trained_examples(run, "full")[-2:]
    assert len((run / "arms/theirs/cleaned/jsonl/train.jsonl").read_text().splitlines()) == 2


def test_scores_shards_of_a_run_can_be_imported(run, write_rows):
    shards = sorted((run / "arms/loss/scores").glob("shard-*.arrow"))
    rows = [row for shard in shards for row in pa.ipc.open_file(shard).read_all().to_pylist()]
    import_arm(run, write_rows(only(rows, "row", "score")), "theirs", fraction=0.06)
    assert files(run, "theirs") == files(run, "loss")


def test_it_is_an_arm_like_any_other(run, write_rows, capsys):
    import_arm(run, write_rows(only(rows_of(run, "random"), "row", "labels")), "theirs")
    view = load_run(run)
    assert view.arms == ("full", "random", "theirs", "loss")
    selection = view.row("theirs").selection
    assert selection is not None
    assert (selection.method, selection.parameters["file"]) == ("imported", "theirs.jsonl")
    main(["show", str(run), "--example", "0", "--arm", "theirs"])
    assert "theirs" in capsys.readouterr().out
    write_page(view, run / "report.html", 2)
    assert "theirs" in (run / "report.html").read_text()
    exported = export_arm(run, "axolotl", "theirs").folder
    other = export_arm(run, "axolotl", "random").folder
    name = next((other / "data").iterdir()).name
    assert (exported / "data" / name).read_bytes() == (other / "data" / name).read_bytes()
    assert "Tokens chosen by imported" in (run / "arms/theirs/cleaned/README.md").read_text()


@pytest.mark.parametrize(
    ("columns", "fraction", "parameter"), [(("scores",), 0.06, "fraction"), (("labels",), None, None)]
)
def test_its_ratio_can_be_set_on_the_page_where_it_has_scores(columns, fraction, parameter, run, write_rows):
    import_arm(run, write_rows(only(rows_of(run), "row", *columns)), "theirs", fraction=fraction)
    view = load_runs([run])
    levels, own = Levels(view, "theirs"), Levels(view, "loss")
    assert levels.sweep.parameter == parameter
    if parameter:
        assert levels.sweep == own.sweep
        assert all((levels.shard(number) == own.shard(number)).all() for number in range(view.store.shards))


def test_it_is_compared_with_arms_of_another_run(run, make_run, write_rows, tmp_path, capsys):
    import_arm(run, write_rows(only(rows_of(run, "loss"), "row", "labels")), "theirs")
    other = make_run(tmp_path / "other", "method={name: loss, fraction: 0.3}")
    main(["compare", str(run), str(other), "--json"])
    agreement = json.loads(capsys.readouterr().out)["agreement"]
    pair = next(one for one in agreement if {one["arm"], one["other"]} == {"run:loss", "run:theirs"})
    assert pair["jaccard"] == 1.0


def test_a_later_run_of_the_recipe_leaves_it_alone(run, write_rows, monkeypatch):
    monkeypatch.setattr(prepare, "SHARD_TOKENS", 300)  # as the run was cut
    import_arm(run, write_rows(only(rows_of(run, "random"), "row", "labels")), "theirs")
    before = {path: path.read_bytes() for path in (run / "arms/theirs").rglob("*.*") if path.is_file()}
    recipe = load_recipe(run / "recipe.yaml", [f"output={run}"])
    carry_out(recipe, "select")
    assert load_run(run).arms == ("full", "random", "theirs", "loss")
    assert {path: path.read_bytes() for path in before} == before


def test_the_same_import_twice_and_another_of_the_same_name(run, write_rows):
    rows = only(rows_of(run), "row", "scores")
    path = write_rows(rows)
    first = import_arm(run, path, "theirs", 0.06)
    stamp = (first.folder / "selection.json").stat().st_mtime_ns
    assert import_arm(run, path, "theirs", 0.06) == first
    assert (first.folder / "selection.json").stat().st_mtime_ns == stamp
    with pytest.raises(TokensieveError, match=r"rule\.fraction: 0\.06 there, 0\.5 here"):
        import_arm(run, path, "theirs", 0.5)
    with pytest.raises(TokensieveError, match="sha256"):
        import_arm(run, write_rows(rows[::-1]), "theirs", 0.06)


def changed(rows: list[Row], number: int, **values: Any) -> list[Row]:
    return [{**row, **values} if position == number else row for position, row in enumerate(rows)]


def with_nan(row: Row) -> Row:
    """A score of null where a token is trained."""
    trained = next(t for t, score in enumerate(row["scores"]) if score)
    return {"scores": [None if t == trained else score for t, score in enumerate(row["scores"])]}


BAD: list[tuple[str, float | None, Callable[[list[Row]], list[Row]], str, str]] = [
    ("length", 0.5, lambda r: changed(only(r, "row", "scores"), 7, scores=[1.0]), "1 scores for the", "jsonl:8"),
    ("no such row", 0.5, lambda r: changed(only(r, "row", "scores"), 3, row=99), "of source row 99", "jsonl:4"),
    ("row twice", 0.5, lambda r: changed(only(r, "row", "scores"), 3, row=2), "source row 2 came before", "jsonl:4"),
    ("row of text", 0.5, lambda r: changed(only(r, "row", "scores"), 3, row="a"), "'row' is missing, or", "jsonl:4"),
    ("missing", 0.5, lambda r: only(r[:-2], "row", "scores"), "2 of 40 examples have no scores: those of", "38, 39"),
    ("no key", 0.5, lambda r: only(r, "scores"), "do not say which example", "jsonl:1"),
    ("no figures", 0.5, lambda r: only(r, "row", "labels"), "with --fraction scores are read", "jsonl:1"),
    ("scores alone", None, lambda r: only(r, "row", "scores"), "without --fraction labels", "jsonl:1"),
    ("text", 0.5, lambda r: changed(only(r, "row", "scores"), 1, scores="x"), "'scores' is no list of", "jsonl:2"),
    ("null", 0.5, lambda r: changed(only(r, "row", "scores"), 5, **with_nan(r[5])), "no finite float32 score", "row 5"),
    ("other ids", None, lambda r: changed(only(r, "row", "input_ids", "labels"), 4, input_ids=[1, 2]), "token ids are "
     "not those of source row 4", "jsonl:5"),
    ("unknown ids", None, lambda r: changed(only(r, "input_ids", "labels"), 4, input_ids=[1, 2]), "is of these token "
     "ids", "jsonl:5"),
    ("prompts", None, lambda r: changed(only(r, "row", "labels"), 6, labels=r[6]["input_ids"]), "it trains what the "
     "run does not: token 0 of source row 6", "theirs.jsonl"),
    ("shifted", None, lambda r: changed(only(r, "row", "labels"), 6, labels=[*r[6]["input_ids"][1:], -100]), "neither "
     "-100 nor the id of token 0 of source row 6", "theirs.jsonl"),
    ("constant scores", 0.5, lambda r: [{"row": one["row"], "scores": [1.0] * len(one["scores"])} for one in r],
     "the same score, so the order of the file would decide", "theirs.jsonl"),
    ("nothing", None, lambda r: [{"row": row["row"], "kept": [0] * len(row["kept"])} for row in r], "the "
     "selection keeps no token", "hint"),
    ("gap in a mask", None, lambda r: changed(only(r, "row", "kept"), 6, kept=[None, *r[6]["kept"][1:]]), "'kept' is "
     "no list of numbers: [None", "jsonl:7"),
    ("NaN in a mask", None, lambda r: changed(only(r, "row", "kept"), 6, kept=[float("nan"), *r[6]["kept"][1:]]),
     "'kept' holds NaN", "jsonl:7"),
    ("mask of text", None, lambda r: changed(only(r, "row", "kept"), 6, kept=["1"] * len(r[6]["kept"])), "'kept' is no "
     "list of numbers: ['1'", "jsonl:7"),
    ("huge score", 0.5, lambda r: changed(only(r, "row", "scores"), 1, scores=[10**400]), "a number beyond", "jsonl:2"),
    ("too large for float32", 0.5, lambda r: changed(only(r, "row", "scores"), 1, scores=[1e300] * len(r[1]["scores"])),
     "no finite float32 score for token", "row 1"),
    ("broken ids", None, lambda r: changed(only(r, "input_ids", "labels"), 4, input_ids=[17.4]), "'input_ids' is no "
     "list of token ids: [17.4]", "jsonl:5"),
    ("large ids", None, lambda r: changed(only(r, "row", "input_ids", "labels"), 4, input_ids=[2**31]), "'input_ids' "
     "is no list of token ids: [2147483648]", "jsonl:5"),
    ("row of truth", None, lambda r: changed(only(r, "row", "labels"), 1, row=True), "'row' is missing, or", "jsonl:2"),
    ("huge row", None, lambda r: changed(only(r, "row", "labels"), 1, row=10**30), "no example of the run", "jsonl:2"),
    ("mask", None, lambda r: changed(only(r, "row", "kept"), 6, kept=[2] * len(r[6]["kept"])), "neither 0 nor 1 for "
     "token 0 of source row 6", "theirs.jsonl"),
]  # fmt: skip


@pytest.mark.parametrize(("fraction", "change", "says", "where"), [case[1:] for case in BAD], ids=[c[0] for c in BAD])
def test_what_does_not_fit_is_refused_and_nothing_is_written(fraction, change, says, where, run, write_rows, capsys):
    before = sorted((run / "arms").rglob("*"))
    arguments = ["import", str(run), str(write_rows(change(rows_of(run)))), "--name", "theirs"]
    with pytest.raises(SystemExit) as stop:
        main([*arguments, *([] if fraction is None else ["--fraction", str(fraction)])])
    assert stop.value.code == 2
    printed = capsys.readouterr().err
    assert printed.count("error: ") == 1
    assert says in printed
    assert where in printed
    assert sorted((run / "arms").rglob("*")) == before


def test_scores_that_float32_cannot_tell_apart_are_warned_of(run, write_rows):
    rows = only(rows_of(run), "row", "scores")
    near = [{**row, "scores": [1 - 1e-9 * (10 - score) if score > 1 else 0 for score in row["scores"]]} for row in rows]
    with pytest.warns(UserWarning, match=r"^the scores of \d+ tokens at the cut-off differ by less than float32"):
        import_arm(run, write_rows(near, "near.jsonl"), "near", fraction=0.06)
    # Scores that collide away from the cut-off change nothing.
    apart = [{**row, "scores": [score if score > 1 else 1e-9 * score for score in row["scores"]]} for row in rows]
    import_arm(run, write_rows(apart, "apart.jsonl"), "apart", fraction=0.06)


@pytest.mark.parametrize("name", ["loss", "random", "base", "reference", "../out", "a b", "", "n" * 300])
def test_names_that_cannot_be_used(name, run, write_rows):
    with pytest.raises(TokensieveError, match=r"has '|is no name of an arm"):
        import_arm(run, write_rows(only(rows_of(run), "row", "labels")), name)


def test_files_and_fractions_that_cannot_be_used(run, write_rows, tmp_path):
    path = write_rows(only(rows_of(run), "row", "scores"))
    with pytest.raises(TokensieveError, match=r"fraction is 1\.5"):
        import_arm(run, path, "theirs", 1.5)
    with pytest.raises(TokensieveError, match="no such file"):
        import_arm(run, tmp_path / "nowhere.jsonl", "theirs", 0.5)
    with pytest.raises(TokensieveError, match="a folder, not a file"):
        import_arm(run, tmp_path, "theirs", 0.5)
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(TokensieveError, match="the file is empty"):
        import_arm(run, tmp_path / "empty.jsonl", "theirs", 0.5)
    with pytest.raises(TokensieveError, match="holds no run"):
        import_arm(tmp_path, path, "theirs", 0.5)
    odd = tmp_path / "odd[1]*.jsonl"
    odd.write_bytes(path.read_bytes())
    assert import_arm(run, odd, "odd", 0.5).selection.kept > 0


def test_examples_alike_are_taken_in_their_order(make_run, tmp_path, write_rows):
    data = tmp_path / "twice.jsonl"
    data.write_text('{"prompt": "Who?", "completion": " Ann and Ben."}\n' * 3)
    run = make_run(tmp_path / "run", "method={name: random, fraction: 0.5}", "controls=[]", f"data.files=[{data}]")
    rows = rows_of(run, "random")
    assert len({tuple(row["input_ids"]) for row in rows}) == 1
    assert len({tuple(row["labels"]) for row in rows}) > 1
    import_arm(run, write_rows(only(rows, "input_ids", "labels")), "theirs")
    assert trained_examples(run, "theirs") == trained_examples(run, "random")
    with pytest.raises(TokensieveError, match="these token ids came before, more often than in the run"):
        import_arm(run, write_rows(only([*rows, rows[0]], "input_ids", "labels"), "more.jsonl"), "more")


@pytest.fixture
def answers(run, demo_pool) -> dict[int, str]:
    """Return the answers of rows that have one, by the number of the row."""
    rows = [json.loads(line)["messages"] for line in demo_pool.read_text().splitlines()[:40]]
    return {number: turns[1]["content"] for number, turns in enumerate(rows) if len(turns) == 2}


def dropped_text(run: Path, arm: str, row: int) -> str:
    """Return the text of the tokens of a source row that an arm drops."""
    view = load_run(run)
    example = view.example(view.number_of_row(row))
    dropped = example.trainable & ~example.kept(arm)
    ids = [token for token, gone in zip(example.token_ids, dropped.tolist(), strict=True) if gone]
    return "".join(view.decoder.texts([ids])).strip()


def test_spans_and_bad_steps_are_dropped(run, answers, write_rows, capsys):
    (one, first), (two, second) = list(answers.items())[:2]
    three = list(answers)[2]
    words = second.split()
    steps = [words[0], " ".join(words[1:])]
    given = [
        {"row": one, "spans": [[0, len(first.split()[0]), "wrong"]]},
        {"row": two, "steps": steps, "verdicts": [True, False]},
        {"row": three, "spans": []},
    ]
    main(["import", str(run), str(write_rows(given)), "--spans", "--name", "judged"])
    assert "judged: " in capsys.readouterr().out
    assert dropped_text(run, "judged", one) == first.split()[0]
    assert dropped_text(run, "judged", two) == steps[1]
    assert dropped_text(run, "judged", three) == ""
    selection = load_run(run).row("judged").selection
    assert selection is not None
    assert selection.examples_without_kept == 0


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"spans": [[0, 1]]}, "'row' is None"),
        ({"row": 10_000, "spans": [[0, 1]]}, "no example came from source row 10000"),
        ({"row": "one", "spans": [[0, 10_000]]}, "lies outside the answer"),
        ({"row": "one"}, "neither spans nor steps"),
        (
            {"row": "one", "steps": ["no such step"], "verdicts": [0]},
            "the answer does not have the step 'no such step'",
        ),
        ({"row": "several", "spans": [[0, 1]]}, "has not one answer"),
    ],
)
def test_spans_that_do_not_fit_are_refused(row, says, run, answers, write_rows):
    several = min(set(range(40)) - answers.keys())
    named = {"one": min(answers), "several": several}
    given = {**row, **({"row": named[row["row"]]} if row.get("row") in named else {})}
    with pytest.raises(TokensieveError, match=says) as error:
        import_spans(run, write_rows([given]), "judged")
    assert "theirs.jsonl:1" in error.value.where
    assert not (run / "arms" / "judged").exists()


def test_spans_of_data_that_changed_since_the_run_are_refused(make_run, answers, demo_pool, tmp_path, write_rows):
    data = tmp_path / "pool.jsonl"
    rows = demo_pool.read_text().splitlines()[:40]
    data.write_text("\n".join(rows))
    made = make_run(tmp_path / "mine", "method=loss", f"data.files=[{data}]")
    row = next(number for number, text in answers.items() if re.search(r"\d", text))
    other = rows[row].translate(str.maketrans("0123456789", "1234567890"))
    data.write_text("\n".join([*rows[:row], other, *rows[row + 1 :]]))
    with pytest.raises(TokensieveError, match="the data changed since") as error:
        import_spans(made, write_rows([{"row": row, "spans": [[0, 1]]}]), "judged")
    assert error.value.where == f"{data}:{row + 1}"


def test_json_lines_have_the_marks_that_are_trained_on_and_are_read_back(run):
    folder = export_arm(run, "jsonl", "full").folder
    rows = [json.loads(line) for line in (folder / "data" / "train.jsonl").read_text().splitlines()]
    assert any(row["spans"] for row in rows)
    found = [convert(row) for row in rows]
    for row, converted in zip(rows, found, strict=True):
        assert isinstance(converted, Tokenised)
        spans = [{"start": one.start, "end": one.stop, "type": one.type} for one in converted.spans]
        assert spans == row["spans"]
    marked = sum(span["end"] - span["start"] for row in rows for span in row["spans"])
    assert marked == load_run(run).store.counts.marked["tokens"]
