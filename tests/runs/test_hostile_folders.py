"""Run folders that somebody else made: names that lead out of the folder, fields of other types, links."""

from __future__ import annotations

import json

import pytest

from tokensieve.errors import TokensieveError
from tokensieve.runs.folder import RunFolder
from tokensieve.store.sealed import write_sealed

ALLOWED = {"name": ["x"], "examples": ["x"], "method": ["x"], "seeds": [[1]]}
STATE = {"name": "run", "examples": "../x", "statistics": {}, "arms": ["full"], "method": "loss"}


@pytest.mark.parametrize("name", ["../../evil", "/etc", "..", ".", "", "a/b", "a\\b", "a\0b", "x" * 256, "a\nb"])
@pytest.mark.parametrize("field", ["arms", "method"])
def test_an_arm_whose_name_leads_out_of_the_folder_is_refused(tmp_path, name, field):
    given = {**STATE, field: [name] if field == "arms" else name}
    write_sealed(tmp_path / "run.json", given)
    with pytest.raises(TokensieveError, match="is no name of an arm, and no run wrote it"):
        RunFolder(tmp_path).state()


@pytest.mark.parametrize("value", [None, 5, "x", [1], {"a": []}, 1e999])
@pytest.mark.parametrize("field", [*STATE, "tokens", "versions", "seeds", "warnings"])
def test_a_field_of_another_type_is_one_error_or_none(tmp_path, field, value):
    write_sealed(tmp_path / "run.json", {**STATE, field: value})
    if value not in ALLOWED.get(field, []):
        with pytest.raises(TokensieveError, match=r"a field is missing or garbled|is no name of an arm") as refused:
            RunFolder(tmp_path).state()
        assert refused.value.where == str(tmp_path / "run.json")
    else:
        assert getattr(RunFolder(tmp_path).state(), field) == value


def test_what_a_run_writes_is_read_back(tmp_path):
    write_sealed(tmp_path / "run.json", {**STATE, "tokens": {"measure": 15}, "seeds": [3, 4]})
    state = RunFolder(tmp_path).state()
    assert (state.name, list(state.seeds), dict(state.tokens)) == ("run", [3, 4], {"measure": 15})


@pytest.mark.parametrize("value", [[], None, {"a": None}, {"a": {}}])
def test_times_that_are_none_are_one_error(tmp_path, value):
    (tmp_path / "times.json").write_text(json.dumps(value))
    with pytest.raises(TokensieveError, match=r"not a number of seconds|not a JSON object") as refused:
        RunFolder(tmp_path).seconds()
    assert refused.value.where == str(tmp_path / "times.json")
    assert "delete it" in refused.value.hint
