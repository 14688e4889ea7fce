"""What a store that other versions of the libraries filled is still good for."""

from __future__ import annotations

from tokensieve.runs.view import load_run
from tokensieve.store import fingerprint

REFERENCE = ("method=token-cleaning", "models.reference.warm_up={rows: 6, train: {learning_rate: 5e-2}}")


def test_finished_statistics_are_used_with_a_warning_and_models_are_made_again(run, trained, monkeypatch):
    assert not [one for one in load_run(run("before", *REFERENCE, until="select")).warnings if "libraries" in one]
    assert len(trained) == 1
    here = fingerprint.versions()
    monkeypatch.setattr(fingerprint, "versions", lambda: {**here, "torch": "9.9.9"})
    warnings = load_run(run("after", *REFERENCE, until="select")).warnings
    assert len(trained) == 2, "the reference, as an arm would be"
    told = [one for one in warnings if "other libraries" in one]
    assert [one.partition(":")[0] for one in told] == ["measure base", "measure reference"], "it has the same weights"
    assert all(f"torch: {here['torch']!r} there, '9.9.9' here" in one for one in told)
