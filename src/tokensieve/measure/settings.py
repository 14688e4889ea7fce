"""Settings of the measuring stage."""

from __future__ import annotations

from dataclasses import dataclass

from tokensieve.setting_types import Count, Names, known_keys_only


@known_keys_only
@dataclass(frozen=True)
class MeasureSettings:
    """How statistics are measured. None of these changes a statistic beyond rounding.

    Attributes:
        token_budget: tokens of one batch at most, padding included; a longer example goes alone. When not
            given, 1,024 on a CPU, where activations then stay in cache, and 16,384 elsewhere.
        device: `auto` is CUDA where there is a device, else the CPU.
        statistics: measure these too, for every role, whether the method needs them or not.
    """

    token_budget: Count | None = None
    device: str = "auto"
    statistics: Names = ()

    def batch_tokens(self, device_type: str) -> int:
        """Return the token budget on a kind of device, such as ``cpu``."""
        return self.token_budget or (1024 if device_type == "cpu" else 16_384)
