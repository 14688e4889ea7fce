"""What a plan is made for: a machine by the figures of its data sheets, or this one, measured."""

from __future__ import annotations

import os
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from tokensieve.errors import TokensieveError, did_you_mean
from tokensieve.models.loading import pick_device

THIS = "this"
USABLE_MEMORY = 0.9
"""Share of a device's memory that a stage can have; the rest is the driver's and the allocator's."""
MEASURING_SHARE, TRAINING_SHARE = 0.6, 0.35
"""Shares of the matrix-product rate that measuring and training reach (docs/benchmarks.md, on a CPU)."""
_PRODUCTS = 11
_READ = 2**28
"""Bytes that are read to time it: more than any cache holds."""
_SIZE = {"cpu": 1024, "cuda": 8192}
"""Rows and columns of a matrix that a device works on at its full rate."""


@dataclass(frozen=True)
class Hardware:
    """Devices of one kind.

    Attributes:
        name: of the device, or `THIS`.
        devices: how many.
        kind: ``cuda`` or ``cpu``.
        rates: operations a second of matrix products of one device, by the name of the precision.
        memory: bytes of one device.
        bandwidth: bytes a second that one device reads.
    """

    name: str
    devices: int
    kind: str
    rates: dict[str, float]
    memory: int
    bandwidth: float

    @property
    def usable(self) -> int:
        """Bytes of one device that a stage can have."""
        return int(USABLE_MEMORY * self.memory)

    def rate(self, dtype: str) -> float:
        """Return the operations a second of one device in a precision."""
        return self.rates[dtype]


def _sheet(half: float, single: float, memory: int, bandwidth: float) -> Callable[[str, int], Hardware]:
    """Return what makes hardware of a data sheet's teraFLOP/s in half and single precision, GB, and TB/s."""
    rates = {"bfloat16": half * 1e12, "float16": half * 1e12, "float32": single * 1e12}
    return lambda name, devices: Hardware(name, devices, "cuda", rates, memory * 10**9, bandwidth * 1e12)


DATA_SHEETS = {
    "A10G": _sheet(70, 31.5, 24, 0.6),
    "A100-40GB": _sheet(312, 19.5, 40, 1.555),
    "A100-80GB": _sheet(312, 19.5, 80, 2.039),
    "B200": _sheet(2250, 75, 180, 7.7),
    "H100": _sheet(989, 67, 80, 3.35),
    "H200": _sheet(989, 67, 141, 4.8),
    "L4": _sheet(121, 30.3, 24, 0.3),
    "L40S": _sheet(362, 91.6, 48, 0.864),
    "RTX-4090": _sheet(165, 82.6, 24, 1.008),
}
"""Dense rates without sparsity, of the SXM form where there are several; float32 without TF32, as torch computes it."""


def named_hardware(text: str) -> Hardware:
    """Return the hardware that a text such as ``H100`` or ``8xH100`` names; capitals, spaces and hyphens do not count.

    Raises:
        TokensieveError: a name that is not in the table, or a number of devices below 1.
    """
    number, name = re.fullmatch(r"\s*(?:(\d+)\s*[x*]\s*)?(.*?)\s*", text, re.IGNORECASE | re.DOTALL).groups()  # type: ignore[union-attr]
    known = {_bare(one): one for one in DATA_SHEETS}
    if _bare(name) not in known or number == "0" or int(number or 1) < 1:
        raise TokensieveError(
            f"unknown hardware '{text}'{did_you_mean(name, DATA_SHEETS)}",
            where="command line: --hardware",
            hint=f"this, or [N x] one of: {', '.join(DATA_SHEETS)}, such as 8xH100",
        )
    found = known[_bare(name)]
    return DATA_SHEETS[found](found, int(number or 1))


def this_machine(device: str, dtypes: set[str]) -> Hardware:
    """Measure the devices of this machine.

    Args:
        device: of a recipe, such as ``auto`` or ``cuda:1``.
        dtypes: names of the precisions whose rate is measured.
    """
    picked = pick_device(device)
    bandwidth = statistics.median(_read_rates(picked))
    rates = {name: statistics.median(product_rates(getattr(torch, name), picked)) for name in sorted(dtypes)}
    if picked.type == "cuda":
        devices = torch.cuda.device_count() if device == "auto" else 1
        memory = torch.cuda.get_device_properties(picked).total_memory
        return Hardware(THIS, devices, "cuda", rates, memory, bandwidth)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Hardware(THIS, 1, "cpu", rates, memory, bandwidth)


def product_rates(dtype: torch.dtype, device: torch.device, products: int = _PRODUCTS) -> list[float]:
    """Return the operations a second of large matrix products, one after the other, after one that does not count."""
    size = _SIZE[device.type]
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))

    def product() -> object:
        return torch.mm(a, b)

    return [2 * size**3 / seconds for seconds in _timed(product, device, products)]


def _read_rates(device: torch.device) -> list[float]:
    """Return the bytes a second of reading memory, as often as products are timed."""
    numbers = torch.ones(_READ // 4, device=device)
    return [_READ / seconds for seconds in _timed(numbers.sum, device, _PRODUCTS)]


def _timed(work: Callable[[], object], device: torch.device, times: int) -> list[float]:
    """Return the seconds of each call, after one that does not count."""

    def seconds() -> float:
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    return [seconds() for _ in range(times + 1)][1:]


def _bare(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).upper()
