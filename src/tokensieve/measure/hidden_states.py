"""The hidden states of the last layer at every trainable token, stored once, shard by shard, to train heads on.

``store/.hidden_states/<id>/shard-00000.npy`` holds float32 ``[tokens, size]`` of a shard; where a token is not
trainable, nothing is written, which takes no room where the file system knows holes.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from tokensieve.containers import IGNORE_INDEX, StatisticSpec, check_finite
from tokensieve.data.example_store import ExampleStore
from tokensieve.engines import Done, Engine, OnTokens
from tokensieve.engines.local import LOCAL
from tokensieve.measure.forward import Forward, measure_into
from tokensieve.measure.settings import MeasureSettings
from tokensieve.models.identity import model_identity
from tokensieve.models.pool import ModelPool
from tokensieve.models.reward import reading_with
from tokensieve.models.settings import ModelSettings
from tokensieve.store import fingerprint
from tokensieve.store.atomic import atomic_file, locked
from tokensieve.store.mirror import is_mirrored

_REWARD = StatisticSpec("reward")


@dataclass(frozen=True)
class HiddenStates:
    """Hidden states of a model over examples.

    Attributes:
        folder: where they are.
        examples: what they belong to.
    """

    folder: Path
    examples: ExampleStore

    def file(self, shard: int) -> Path:
        """Return the file of a shard."""
        return self.folder / f"shard-{shard:05d}.npy"

    def read(self, shard: int) -> NDArray[np.float32]:
        """Return float32 ``[tokens, size]`` of a shard, mapped into memory."""
        return np.load(self.file(shard), mmap_mode="r", allow_pickle=False)

    @property
    def lacking(self) -> list[int]:
        """The shards that are not there yet."""
        return [number for number in range(self.examples.shards) if not self.file(number).is_file()]


def store_hidden_states(
    examples: ExampleStore,
    model: ModelSettings,
    settings: MeasureSettings,
    store: Path,
    pool: ModelPool,
    engine: Engine,
    on_tokens: OnTokens,
) -> HiddenStates:
    """Store the hidden states that are missing; the arguments are those of `measure.measure`.

    Raises:
        TokensieveError: hidden states that are NaN or infinite, or a model that cannot be loaded.
    """
    identity = {"examples": examples.fingerprint, "cut": examples.cut, "model": model_identity(model)}
    identity["versions"] = fingerprint.versions()
    # A store of objects does not get what has a dot before its name.
    states = HiddenStates(store / ".hidden_states" / fingerprint.of_value(identity)[:16], examples)
    if is_mirrored(states.folder):  # no other machine's states would come here
        engine = LOCAL
    with locked(states.folder):
        on_tokens(examples.counts.tokens - sum(int(np.diff(examples.starts)[number]) for number in states.lacking))
        if todo := states.lacking:
            for _ in engine.map(partial(_Worker, states, model, settings, pool), todo, on_tokens):
                pass
    return states


class _Worker:
    """Stores the hidden states of shards with a model, which it holds while the block lasts."""

    def __init__(self, states: HiddenStates, model: ModelSettings, settings: MeasureSettings, pool: ModelPool) -> None:
        self._states, self._model, self._settings, self._pool = states, model, settings, pool

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            model = stack.enter_context(self._pool.use(self._model, merge=True))
            stack.enter_context(reading_with(model, _AsTheyAre()))
            self._forward = stack.enter_context(Forward(model, [_REWARD]))
            self._size = model.config.get_text_config().hidden_size
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def do(self, shard: int, on_tokens: OnTokens) -> Done:
        """Store the states of a shard."""
        examples, budget = self._states.examples.read(shard), self._settings.batch_tokens(self._pool.device.type)
        shape = len(examples.input_ids), self._size
        with atomic_file(self._states.file(shard)) as partial_file:
            out = np.lib.format.open_memmap(partial_file, "w+", np.float32, shape)
            measure_into({_REWARD.key: out}, self._forward, examples, budget, on_tokens)
            # A sum is not finite where one of its numbers is not.
            check_finite(out.sum(-1), examples.labels != IGNORE_INDEX, examples.cu_seqlens, "hidden states")
            out.flush()
        return Done(shard, len(examples.input_ids), {})


class _AsTheyAre(nn.Module):
    """In place of a head that is not trained yet: passes hidden states on, in float32."""

    def forward(self, states: Tensor) -> Tensor:
        return states.float()
