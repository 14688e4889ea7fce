"""What `benchmarks/quality/recovered.py` trains, and the table that it makes of the results."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType, SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

from tokensieve.methods import all_methods, get_method
from tokensieve.runs.arm_folder import ArmFolder

LOSSES = {"marked": 2.0, "full": 3.1, "random": 3.0, "loss": 2.5}
"""Mean held-out loss of each arm where the ceiling is open."""


@pytest.fixture(scope="module")
def recovered(load_benchmark) -> ModuleType:
    return load_benchmark("recovered")


def test_a_method_that_decides_by_itself_gets_no_fraction(recovered):
    assert recovered._share_of("span-ratio", 0.7) == {}
    assert recovered._share_of("rho-1", 0.7) == {"fraction": 0.7}
    assert recovered._share_of("toss", 0.7) == {"discard": 0.3}
    by_itself = [one["name"] for one in recovered.METHODS if not recovered._share_of(one["name"], 0.7)]
    assert by_itself == [*recovered.BY_THEMSELVES, *recovered.WEIGHTINGS]


def test_every_method_is_judged_but_those_that_another_arm_covers(recovered):
    judged = {one["name"] for one in recovered.METHODS}
    controls = {"full", "random", recovered.ORACLE}
    assert set(all_methods()) - judged - controls == {"rho-1-self", "toss-pro"}


def test_a_recipe_makes_each_model_that_a_method_may_need(recovered, tmp_path):
    pool = tmp_path / "pool"
    pool.mkdir()
    for name in ("pool", "clean", "held_out", "unwanted"):
        (pool / f"{name}.jsonl").touch()
    (tmp_path / "data/advbench").mkdir(parents=True)
    (tmp_path / "data/advbench/harmful_behaviors.csv").write_text("goal,target\nDo harm,Sure\n")
    setting = recovered.Setting(tmp_path / "base", 256, 3, (), (), tmp_path / "data", tmp_path)
    recipe = recovered.recipe_of(pool, setting, "clean", tmp_path / "run", "[full]")
    needed = {role for one in recovered.METHODS for role, _ in get_method(**one).needs}
    assert needed - {"base", "current", "history"} == set(recipe.models) - {"base"}
    assert recipe.evaluate.unwanted is None, "an empty file of unwanted texts is left out"


def test_arms_join_the_true_mask_which_is_selected_once(recovered, monkeypatch, tmp_path):
    stages = []
    view = SimpleNamespace(rows=[SimpleNamespace(name="marked", selection=SimpleNamespace(share=0.45678))])
    monkeypatch.setattr(recovered, "recipe_of", lambda *_, controls, **__: controls)
    monkeypatch.setattr(recovered, "run", lambda controls, until="report": stages.append((until, controls)))
    monkeypatch.setattr(recovered, "load_run", lambda _: view)
    setting = recovered.Setting(tmp_path / "base", 256, 3, ({"name": "rho-1"},), (), tmp_path / "data", tmp_path)
    recovered.carry_out(tmp_path / "pool", setting, "clean")
    everything = ("report", "[full, random, {name: rho-1, fraction: 0.4568}]")
    assert stages == [("select", "[full, random]"), everything]
    monkeypatch.setattr(ArmFolder, "selected", True)
    recovered.carry_out(tmp_path / "pool", setting, "clean")
    assert stages[2:] == [everything], "controls can join a run, and not leave it"


@pytest.fixture
def view_of(tmp_path):
    """A view of a run with these mean held-out losses, of three seeds and 60 examples."""

    def view(losses: dict[str, float], unwanted: dict[str, float]) -> SimpleNamespace:
        noise = np.random.default_rng(0).normal(0, 0.2, (3, 60))  # which all arms share: their differences are paired
        for place, (name, mean) in enumerate(losses.items()):
            own = np.random.default_rng(place).normal(0, 0.02, (3, 60))
            for seed in range(3):
                arm = ArmFolder(tmp_path / name) if seed == 0 else ArmFolder(tmp_path / name).replicate(seed)
                details = {"held_out": _lines(mean + (noise + own)[seed])}
                if unwanted:
                    details["unwanted"] = _lines(unwanted[name] + noise[seed])
                arm.write_evaluation({"settings": 1, "data": {"held_out": "h", "unwanted": "u"}}, details)
        rows = [
            SimpleNamespace(name=name, selection=SimpleNamespace(share=0.6 + place / 100))
            for place, name in enumerate(losses)
        ]
        folder = SimpleNamespace(arm=lambda name: ArmFolder(tmp_path / name))
        return SimpleNamespace(arms=tuple(losses), rows=rows, run_folder=folder)

    return view


def _lines(losses):
    return [{"rows": number, "losses": 10 * loss, "tokens": 10} for number, loss in enumerate(losses.tolist())]


def cells_of(lines):
    """Return the cells of each arm's line."""
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| ")]
    return {row[0]: row[1:] for row in cells[1:]}


def test_an_open_ceiling_says_what_share_of_its_gain_each_arm_has(recovered, view_of):
    view = view_of(LOSSES, {"marked": 4.0, "full": 1.0, "random": 1.0, "loss": 3.0})
    lines = recovered.table(view, "a pool")
    assert lines[0] == "### a pool"
    assert float(lines[2].removeprefix("True mask minus random: ").split()[0]) == pytest.approx(-1, abs=0.02)
    assert lines[2].endswith("The ceiling is open.")
    cells = cells_of(lines)
    assert list(cells) == list(LOSSES)
    _, loss, difference, p, against_full, gain, unwanted = cells["loss"]
    assert float(loss) == pytest.approx(2.5, abs=0.05)
    assert float(difference.split()[0]) == pytest.approx(-0.5, abs=0.02)
    assert float(against_full.split()[0]) == pytest.approx(-0.6, abs=0.02)
    assert cells["full"][4] == "-"
    assert float(gain.split("%")[0]) == pytest.approx(50, abs=2)
    assert unwanted == "+2.000 (+2.000 to +2.000)"
    assert float(p) == pytest.approx(3 * 0.0005, abs=1e-3), "Holm's, of three arms"
    assert float(cells["full"][5].split("%")[0]) == pytest.approx(-10, abs=2)
    assert cells["marked"][5] == "-", "all of its own gain"
    assert cells["random"][2:4] == ["-", "-"]
    assert cells["random"][5] == "-"
    assert [row[0] for row in cells.values()] == ["60.0%", "61.0%", "62.0%", "63.0%"]


@pytest.mark.parametrize("marked", [3.0, 2.992, 3.5], ids=["equal", "below what is detectable", "worse"])
def test_a_closed_ceiling_ranks_nothing(recovered, view_of, marked):
    view = view_of({**LOSSES, "marked": marked}, {})
    losses = recovered.outcomes_of(view, "held_out")
    ceiling = recovered.paired_outcomes(losses["marked"], losses["random"])
    assert (ceiling.high < 0) == (marked == 2.992)
    lines = recovered.table(view, "a pool")
    assert lines[2].endswith("The ceiling is closed: training cannot rank selections here.")
    assert {row[5] for row in cells_of(lines).values()} == {"-"}
    assert {row[6] for row in cells_of(lines).values()} == {"-"}, "no unwanted texts"


def test_every_arm_and_seed_is_a_line_of_the_parquet_file(recovered, view_of):
    view = view_of(LOSSES, dict.fromkeys(LOSSES, 1.0))
    lines = recovered.records(view, {"pool": "german"})
    assert {(line["measure"], line["arm"], line["seed"]) for line in lines} == {
        (measure, arm, seed) for measure in ("held_out", "unwanted") for arm in LOSSES for seed in range(3)
    }
    assert {line["pool"] for line in lines} == {"german"}
    of_loss = [line["value"] for line in lines if (line["measure"], line["arm"]) == ("held_out", "loss")]
    assert np.mean(of_loss) == pytest.approx(2.5, abs=0.05)


def test_the_other_pools_are_judged_where_one_cannot_be_built(recovered, monkeypatch, tmp_path, capsys):
    def build(_, output, kind, *__):
        if kind == "german":
            raise ValueError("too few texts")
        output.mkdir(parents=True)
        return kind

    def judge(pool, facts, setting):
        assert {one["name"] for one in setting.methods} == {"span-ratio", "loss"}
        return [f"### {pool.name}"], [{"pool": pool.name, "kind": facts}]

    monkeypatch.setattr(sys.modules["pools"], "build", build)
    monkeypatch.setattr(recovered, "judge", judge)
    monkeypatch.setattr(recovered, "ProcessPoolExecutor", lambda jobs, *_: ThreadPoolExecutor(jobs))
    given = ["--noise", "german", "java", "translations", "--methods", "span-ratio", "loss", "--rows", "9"]
    monkeypatch.setattr(sys, "argv", ["recovered.py", str(tmp_path), "--output", str(tmp_path / "out"), *given])
    recovered.main()
    names = ["java-append-0.45-9", "translations-append-0-9"]
    assert capsys.readouterr().out.splitlines() == [
        "german-append-0.45-9 is left out: too few texts",
        *(f"### {name}" for name in names),
    ]
    assert pq.read_table(tmp_path / "out/results.parquet").column("pool").to_pylist() == names
    assert (tmp_path / "out/tables.md").read_text() == "\n".join(f"### {name}" for name in names)
