"""The results of every example and seed of an arm, and that only results on the same examples are paired."""

from __future__ import annotations

import numpy as np
import pytest

from tokensieve.errors import TokensieveError
from tokensieve.evaluate.differences import paired_difference
from tokensieve.runs.arm_folder import ArmFolder
from tokensieve.runs.outcomes import MEASURES, paired_outcomes, read_outcomes

LOSSES = {3: [2.0, 6.0, 5.0], 0: [3.0, 6.0, 4.0], 7: [1.0, 6.0, 5.5]}
TOKENS = [2, 4, 3]


def evaluated(folder, losses=LOSSES, data="x", settings=1) -> ArmFolder:
    """Write an arm whose first seed is the first of ``losses``."""
    arm = ArmFolder(folder)
    first = next(iter(losses))
    for seed, of_seed in losses.items():
        rows = [
            {"rows": n, "losses": one, "tokens": tokens}
            for n, (one, tokens) in enumerate(zip(of_seed, TOKENS, strict=False))
        ]
        one = arm if seed == first else arm.replicate(seed)
        one.write_evaluation({"settings": settings, "data": {"held_out": data}}, {"held_out": rows})
    return arm


def test_every_seed_is_read_the_first_of_the_run_first(tmp_path):
    found = read_outcomes(evaluated(tmp_path / "a"), "held_out", 3)
    assert found is not None
    assert found.seeds == (3, 0, 7)
    np.testing.assert_array_equal(found.sums, list(LOSSES.values()))
    np.testing.assert_array_equal(found.counts, TOKENS)
    np.testing.assert_allclose(found.means, [13 / 9, 13 / 9, 12.5 / 9])
    assert read_outcomes(ArmFolder(tmp_path / "a"), "exact_match", 3) is None
    assert read_outcomes(ArmFolder(tmp_path / "none"), "held_out", 3) is None


def test_a_seed_on_other_data_or_without_details_is_left_out(tmp_path):
    arm = evaluated(tmp_path / "a")
    arm.replicate(0).write_evaluation({"settings": 1, "data": {"held_out": "other"}}, {})
    (arm.replicate(7).path / "held_out.jsonl").unlink()
    found = read_outcomes(arm, "held_out", 3)
    assert found is not None
    assert found.seeds == (3,)
    (arm.path / "held_out.jsonl").unlink()
    assert read_outcomes(arm, "held_out", 3) is None


def test_a_file_of_the_desktop_among_the_seeds_is_no_seed(tmp_path):
    (tmp_path / "seeds/3").mkdir(parents=True)
    (tmp_path / "seeds/.DS_Store").touch()
    assert list(ArmFolder(tmp_path).replicates()) == [3]


def test_seeds_are_paired_with_themselves(tmp_path):
    mine = read_outcomes(evaluated(tmp_path / "a"), "held_out", 3)
    others = {0: [1.0, 1.0, 1.0], 5: [9.0, 9.0, 9.0], 3: [2.0, 2.0, 2.0]}
    theirs = read_outcomes(evaluated(tmp_path / "b", others), "held_out", 0)
    wanted = paired_difference(
        np.array([LOSSES[3], LOSSES[0]]), np.array([others[3], others[0]]), np.array(TOKENS, dtype=np.int64)
    )
    assert paired_outcomes(mine, theirs) == wanted


def test_without_a_common_seed_they_are_paired_in_order(tmp_path):
    mine = read_outcomes(evaluated(tmp_path / "a"), "held_out", 3)
    theirs = read_outcomes(evaluated(tmp_path / "b", {8: [1.0, 1.0, 2.0]}), "held_out", 8)
    found = paired_outcomes(mine, theirs)
    assert found is not None
    assert (found.seeds, found.value) == (1, pytest.approx((13 - 4) / 9))


@pytest.mark.parametrize("change", [{"data": "y"}, {"losses": {3: [2.0, 6.0]}}])
def test_other_examples_are_not_paired(tmp_path, change):
    mine = read_outcomes(evaluated(tmp_path / "a"), "held_out", 3)
    theirs = read_outcomes(evaluated(tmp_path / "b", **change), "held_out", 3)
    assert mine is not None
    assert theirs is not None
    assert paired_outcomes(mine, theirs) is None
    assert paired_outcomes(mine, None) is None


def test_a_single_result_cannot_be_compared(tmp_path):
    one = read_outcomes(evaluated(tmp_path / "a", {3: [2.0]}), "held_out", 3)
    assert paired_outcomes(one, one) is None


def test_a_line_that_lacks_a_column_names_the_arm(tmp_path):
    arm = evaluated(tmp_path / "a")
    arm.write_evaluation(arm.evaluation(), {"held_out": [{"rows": 1, "losses": 2.0}]})
    with pytest.raises(TokensieveError, match=r"(?s)'a' cannot be read.*tokens.*evaluate"):
        read_outcomes(arm, "held_out", 3)


def test_what_an_earlier_evaluation_left_belongs_to_no_figure(tmp_path):
    arm = evaluated(tmp_path / "a")
    arm.write_evaluation({"unwanted": {}}, {"unwanted": [{"row": 1}]})
    assert arm.evaluation_details("unwanted") == [{"row": 1}]
    arm.write_evaluation({"exact_match": {}}, {"predictions": [{"row": 2}]})
    assert arm.evaluation_details("unwanted") is None
    (arm.path / "predictions.jsonl").write_text('{"row": 3}\n')
    with pytest.raises(TokensieveError, match=r"(?s)the file is damaged.*predictions\.jsonl.*tokensieve evaluate"):
        arm.evaluation_details("predictions")


def test_a_text_may_hold_any_separator_of_lines(tmp_path):
    arm, rows = evaluated(tmp_path / "a"), [{"answer": "one\u2028two\u2029three\x85four\nfive"}, {"answer": ""}]
    arm.write_evaluation({"exact_match": {}}, {"predictions": rows, "held_out": []})
    assert arm.evaluation_details("predictions") == rows
    assert arm.evaluation_details("held_out") == []


def test_measures_name_files_and_columns_of_their_own():
    places = [(one.details, one.sums) for one in MEASURES.values()]
    assert len(set(places)) == len(places)
    assert len({one.title for one in MEASURES.values()}) == len(MEASURES)
