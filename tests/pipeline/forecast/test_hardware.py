"""Hardware by name, from data sheets, and this machine, measured."""

from __future__ import annotations

import os

import pytest
import torch

from tokensieve.errors import TokensieveError
from tokensieve.pipeline.forecast.hardware import DATA_SHEETS, THIS, named_hardware, product_rates, this_machine


@pytest.mark.parametrize(
    ("text", "name", "devices"),
    [
        ("H100", "H100", 1),
        ("8xH100", "H100", 8),
        ("16 x a100-80gb", "A100-80GB", 16),
        ("4*rtx 4090", "RTX-4090", 4),
        ("2xL40s", "L40S", 2),
    ],
)
def test_hardware_is_named_with_a_number_of_devices(text, name, devices):
    found = named_hardware(text)
    assert (found.name, found.devices, found.kind) == (name, devices, "cuda")
    assert found == DATA_SHEETS[name](name, devices)


def test_figures_are_those_of_the_data_sheets():
    found = named_hardware("H100")
    assert (found.rate("bfloat16"), found.rate("float32")) == (989e12, 67e12)
    assert (found.memory, found.usable, found.bandwidth) == (80 * 10**9, 72 * 10**9, 3.35e12)
    for name in DATA_SHEETS:
        one = named_hardware(name)
        assert one.rate("float32") < one.rate("bfloat16") < 1e16


@pytest.mark.parametrize(
    ("text", "says"),
    [("8xH1000", "did you mean 'H100'?"), ("0xH100", "unknown hardware '0xH100'"), ("", "''"), ("A100", "A100-")],
)
def test_an_unknown_name_is_refused_with_the_list(text, says):
    with pytest.raises(TokensieveError, match=r"^unknown hardware") as error:
        named_hardware(text)
    assert says in str(error.value)
    assert "A10G, A100-40GB, A100-80GB, B200, H100" in error.value.hint
    assert error.value.where == "command line: --hardware"


def test_this_machine_is_measured():
    found = this_machine("cpu", {"float32"})
    assert (found.name, found.devices, found.kind) == (THIS, 1, "cpu")
    assert found.memory == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 1e8 < found.rate("float32") < 1e15
    assert 1e7 < found.bandwidth < 1e14


def test_each_product_is_timed_alone():
    assert len(product_rates(torch.float32, torch.device("cpu"), 3)) == 3
