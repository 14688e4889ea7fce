"""Helpers that several commands share."""

from __future__ import annotations

import json
import warnings
from typing import Annotated, Any

import tyro

Json = Annotated[bool, tyro.conf.arg(name="json", help="print JSON.")]


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def quiet() -> None:
    """Silence the progress bars and messages of the libraries; tokensieve shows its own."""
    # transformers renames gradient checkpointing; TRL and PEFT still use the old name.
    warnings.filterwarnings("ignore", message="`(is_)?gradient_checkpointing` is deprecated", category=FutureWarning)
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
