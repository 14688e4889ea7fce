from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from tokensieve.containers import StatisticSpec
from tokensieve.errors import TokensieveError
from tokensieve.measure import statistics
from tokensieve.measure.forward import Forward
from tokensieve.measure.statistics import FAMILIES, MEASURABLE, Family, Taps, check_measurable, in_training, of_a_pass
from tokensieve.methods import all_methods


def test_every_statistic_is_of_one_family():
    names = [name for family in FAMILIES for name in family.names]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("name", "measurable", "passes", "trains"),
    [
        ("entropy_top20", True, True, True),
        ("attention_received", True, True, True),
        ("loss_without_prompt", True, True, False),
        ("relevance", True, False, False),
        ("diversity", False, False, True),
        ("surprise", False, False, False),
    ],
)
def test_the_table_says_when_a_statistic_can_be_measured(name, measurable, passes, trains):
    assert (name in MEASURABLE, of_a_pass(name), in_training(name)) == (measurable, passes, trains)


def test_every_need_of_every_method_can_be_met():
    for name, cls in all_methods().items():
        for role, statistic in cls().needs:
            met = in_training(statistic) if role == "current" else statistic in MEASURABLE
            assert met or statistic in MEASURABLE, f"{name}: {role}.{statistic}"


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(TokensieveError, match="unknown statistic 'los'; did you mean 'loss'") as error:
        check_measurable("los", "recipe: measure.statistics")
    assert error.value.hint == f"one or more of: {', '.join(MEASURABLE)}"
    with pytest.raises(TokensieveError, match="'diversity' exists only while a model trains"):
        check_measurable("diversity", "here")


@pytest.mark.parametrize("name", ["surprise", "relevance", "nuclear_norm"])
def test_a_pass_refuses_what_it_does_not_yield(name, model_folder):
    model = AutoModelForCausalLM.from_pretrained(model_folder("llama"))
    with pytest.raises(TokensieveError, match=f"'{name}' is not measured by a pass"):
        Forward(model, [StatisticSpec(name)])


class NormTap:
    """The length of what leaves the last layer."""

    def __init__(self, model, specs):
        self.norm, self.specs, self.found = model.model.norm, specs, []

    def __enter__(self):
        self.handle = self.norm.register_forward_hook(lambda _m, _a, out: self.found.append(out.norm(dim=-1)))
        return self

    def __exit__(self, *_):
        self.handle.remove()

    def record(self, prompt, lengths):
        return _Recording(self, prompt)


class _Recording:
    def __init__(self, tap, prompt):
        self.tap, self.shape, self.values = tap, prompt.shape, {}

    def __enter__(self):
        self.tap.found.clear()
        return self.values

    def __exit__(self, *_):
        (norm,) = self.tap.found
        assert norm.shape == self.shape
        self.values.update({spec.key: norm for spec in self.tap.specs})


def test_a_new_family_is_a_row_of_the_table(model_folder, monkeypatch):
    """What reads statistics from a pass is opened by measuring and training alike, beside the others."""
    family = Family(("hidden_norm",), "pass", tap=NormTap)
    monkeypatch.setattr(statistics, "FAMILIES", (*FAMILIES, family))
    monkeypatch.setitem(statistics._FAMILY_OF, "hidden_norm", family)
    model = AutoModelForCausalLM.from_pretrained(model_folder("llama")).eval()
    specs = [StatisticSpec("hidden_norm"), StatisticSpec("attention_to_prompt"), StatisticSpec("loss")]
    ids = torch.tensor([5, 6, 7, 8], dtype=torch.int32).numpy()
    with Forward(model, specs) as forward:
        (found,) = forward.statistics([ids], [torch.tensor([2, 3]).numpy()])
    assert found.keys() == {"hidden_norm", "attention_to_prompt", "loss"}
    with torch.no_grad():
        hidden = model.model(torch.tensor([[5, 6, 7, 8]])).last_hidden_state
    torch.testing.assert_close(torch.from_numpy(found["hidden_norm"]), hidden.norm(dim=-1)[0, 2:])
    assert not Taps(model, [StatisticSpec("loss")])
