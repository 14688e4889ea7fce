"""Loaded models, shared by those who use them in turn."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from tokensieve.models.loading import load_model, local_folder, pick_device
from tokensieve.models.reward import head_for, reading_with
from tokensieve.models.settings import ModelSettings
from tokensieve.store import fingerprint


class ModelPool:
    """Loaded models: models that differ by an adapter share one loaded base.

    One base is held at a time, since two seldom fit. A pool that is sent to another process is empty there, and finds
    the device there.

    Args:
        device: name of the device, such as ``auto``.

    Attributes:
        device: where models are loaded.
    """

    def __init__(self, device: str) -> None:
        self._name, self.device = device, pick_device(device)
        self._held: ModelSettings | None = None
        self._model: Any = None
        self._peft: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        return ModelPool, (self._name,)

    @contextmanager
    def use(self, model: ModelSettings, *, merge: bool = False) -> Iterator[Any]:
        """Give the `transformers` model with its adapter active, or with none, and with its reward head if it has one.

        Args:
            model: which.
            merge: add a float32 LoRA adapter to the weights first, so that a pass costs no more than one of the base;
                the next use then loads the base again, as taking it out again would leave rounding errors. In half
                precision the sum would lose the adapter's small numbers: there it stays separate.
        """
        with ExitStack() as stack:
            loaded = stack.enter_context(self._adapted(model, merge))
            if model.reward_head is not None:
                stack.enter_context(reading_with(loaded, head_for(loaded, model.reward_head)))
            yield loaded

    @contextmanager
    def _adapted(self, model: ModelSettings, merge: bool) -> Iterator[Any]:
        """Give the model of `use` without its reward head."""
        bare = dataclasses.replace(model, adapter=None, reward_head=None)
        if self._held != bare:
            self._model = self._peft = None
            self._model, self._held = load_model(bare, self.device), bare
        if model.adapter is not None:
            name = self._activate(model.adapter)
            if merge and self._model.dtype == torch.float32 and self._peft.peft_config[name].peft_type == "LORA":
                self._held = None
                self._peft.merge_adapter([name])
            yield self._model
        elif self._peft is not None:
            with self._peft.disable_adapter():
                yield self._model
        else:
            yield self._model

    def _activate(self, adapter: str) -> str:
        """Make an adapter the active one, and return its name."""
        from peft import PeftModel

        name = fingerprint.of_value(adapter)[:16]
        folder = str(local_folder(adapter, weights=True))
        if self._peft is None:
            self._peft = PeftModel.from_pretrained(self._model, folder, adapter_name=name)
        elif name not in self._peft.peft_config:
            self._peft.load_adapter(folder, name)
        self._peft.set_adapter(name)
        self._peft.eval().requires_grad_(False)
        return name
