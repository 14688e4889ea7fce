"""The processes of one training: all of them train, and the main one decides and writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from tokensieve.store.atomic import atomic_folder, locked

Value = TypeVar("Value")
Context = TypeVar("Context")


@dataclass(frozen=True)
class Processes:
    """The processes that `accelerate launch` or `torchrun` started, as one of them sees them.

    Attributes:
        number: of this process, from 0; the main one is 0.
        count: how many there are.
    """

    number: int = 0
    count: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process decides and writes."""
        return self.number == 0

    @contextmanager
    def connected(self, device: torch.device) -> Iterator[None]:
        """Connect the processes while the block lasts, by what accelerate makes of the environment."""
        if self.count == 1:
            yield
            return
        from accelerate import PartialState

        state = PartialState(cpu=device.type == "cpu")
        try:
            yield
        finally:
            state.destroy_process_group()

    def agree(self, value: Value) -> Value:
        """Return the value of the main process in all of them; each has to call it."""
        if self.count == 1:
            return value
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.count > 1:
            from accelerate.utils import wait_for_everyone

            wait_for_everyone()

    def in_main(self, context: AbstractContextManager[Context]) -> AbstractContextManager[Context | None]:
        """Return the context in the main process, and an empty one in the others."""
        return context if self.is_main else nullcontext()

    def locked(self, path: Path) -> AbstractContextManager[None]:
        """Let the main process hold a path for all of them; see `store.atomic.locked`."""
        return self.in_main(locked(path))

    @contextmanager
    def writing(self, folder: Path) -> Iterator[Path | None]:
        """Give the main process an unfinished folder; when the block ends in it, the folder is there for all.

        See `store.atomic.atomic_folder`. The others are given None.
        """
        with self.in_main(atomic_folder(folder)) as partial:
            yield partial
        self.wait()


ALONE = Processes()
"""One process."""
