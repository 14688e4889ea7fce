"""All targets, by name."""

from __future__ import annotations

from tokensieve.export import arrow, megatron_bridge, ms_swift, olmo_core, rows
from tokensieve.export._base import Target

_FAMILIES = (rows, arrow, olmo_core, megatron_bridge, ms_swift)

TARGETS: dict[str, Target] = {target.name: target for family in _FAMILIES for target in family.TARGETS}
