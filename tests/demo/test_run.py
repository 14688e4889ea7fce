"""The demo as a user runs it, to the end."""

from __future__ import annotations

from tokensieve.cli import main
from tokensieve.store.atomic import read_json


def test_the_cleaned_model_beats_both_controls(tmp_path, capsys):
    output = tmp_path / "runs" / "demo"
    main(["demo", "--output", str(output)])
    printed = capsys.readouterr().out
    assert "token-cleaning" in printed
    assert "tokensieve run output=runs/mine" in printed
    assert "of what the true mask" in printed
    arms = ("full", "random", "token-cleaning")
    noise = {arm: read_json(output / "arms" / arm / "selection.json")["marks"] for arm in arms}
    figures = {arm: read_json(output / "arms" / arm / "evaluation.json") for arm in noise}
    clean = figures["token-cleaning"]
    for control in ("full", "random"):
        assert clean["exact_match"]["low"] > figures[control]["exact_match"]["high"]
        assert clean["held_out"]["high"] < figures[control]["held_out"]["low"]
    share = {arm: count["removed"] / count["marked"] for arm, count in noise.items()}
    assert share["full"] == 0
    assert share["token-cleaning"] > 0.7 > share["random"]
    assert noise["token-cleaning"]["auroc"] > 0.8
    assert abs(noise["random"]["auroc"] - 0.5) < 0.05
    assert (output / "report.html").stat().st_size > 10_000
    main(["show", str(output), "--example", "3"])
    by_number = capsys.readouterr().out
    main(["show", str(output), "--row", "3"])
    assert capsys.readouterr().out == by_number
