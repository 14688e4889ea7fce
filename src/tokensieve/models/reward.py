"""Rewards of tokens, between 0 and 1: a head on the last hidden states of a model, and the tap that reads it.

The reward of a token comes from the state at that token itself, which has seen it; a loss comes from the state before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from tokensieve.containers import StatisticSpec
from tokensieve.errors import TokensieveError
from tokensieve.models.transformers_private import decoder
from tokensieve.store.mirror import fetched

HEAD_FILE = "reward_head.safetensors"
_SCORED = ("ForTokenClassification", "ForSequenceClassification", "ForProcessRewardModel")
"""Ends of the names of classes that score hidden states, those of process reward models' own code included."""


class RewardHead(nn.Module):
    """Two linear layers with a sigmoid: the reward of a token from its hidden state.

    Args:
        size: of a hidden state.
        width: numbers between the layers.
    """

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(size, width), nn.Linear(width, 1)

    def forward(self, states: Tensor) -> Tensor:
        """Return float32 ``[...]`` in (0, 1), the reward of each of the states ``[..., size]``."""
        return self.outer(self.inner(states.float()).relu()).squeeze(-1).sigmoid()

    def save(self, folder: Path) -> None:
        """Write the head into a folder."""
        from safetensors.torch import save_file

        save_file({name: value.cpu().contiguous() for name, value in self.state_dict().items()}, folder / HEAD_FILE)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read the head that `save` wrote.

        Raises:
            TokensieveError: there is none in the folder, or one of other tensors.
        """
        from safetensors.torch import load_file

        path = fetched(Path(folder).expanduser()) / HEAD_FILE
        if not path.is_file():
            raise TokensieveError(
                f"no {HEAD_FILE} in this folder",
                where=str(folder),
                hint="have one made with models.reward: {preferences: FILE}; a run names the folder that it wrote",
            )
        weights = load_file(path)
        try:
            width, size = weights["inner.weight"].shape
            head = cls(size, width)
            head.load_state_dict(weights)
        except (KeyError, ValueError, RuntimeError) as error:
            raise TokensieveError(
                f"not a reward head: {error}", where=str(path), hint="delete its folder and have it made again"
            ) from error
        return head


def head_for(model: Any, folder: str | Path) -> RewardHead:
    """Read a head, and put it where a model is.

    Raises:
        TokensieveError: no head, or one for hidden states of another size.
    """
    head, size = RewardHead.load(folder), model.config.get_text_config().hidden_size
    if head.inner.in_features != size:
        raise TokensieveError(
            f"the reward head reads {head.inner.in_features} numbers a token, the model gives {size}",
            where=str(folder),
            hint="load the model that the head was trained on",
        )
    return head.to(model.device).eval().requires_grad_(False)


def add_reward_head(model: Any, folder: str | Path) -> Any:
    """Return a loaded causal language model with a reward head, for the role ``reward``.

    Args:
        model: the model whose hidden states the head was trained on.
        folder: where the head is (`reward_head.safetensors`).

    Raises:
        TokensieveError: no head, or one for hidden states of another size.
    """
    model.reward_head = head_for(model, folder)
    return model


@contextmanager
def reading_with(model: Any, head: nn.Module) -> Iterator[None]:
    """Let `RewardTap` read the hidden states of a model through a head, while the block lasts."""
    model.reward_head = head
    try:
        yield
    finally:
        del model.reward_head


def _reader(model: Any) -> Callable[[Tensor], Tensor]:
    """Return what turns hidden states ``[..., size]`` into rewards ``[...]``.

    Raises:
        TokensieveError: a model without a head that scores tokens.
    """
    if (head := getattr(model, "reward_head", None)) is not None:
        return head
    score = getattr(model, "score", None)  # of decoders: encoders, which see later tokens, call it otherwise
    outputs = getattr(score[-1] if isinstance(score, nn.Sequential) else score, "out_features", None)
    if type(model).__name__.endswith(_SCORED) and score is not None and outputs == 1:
        return lambda states: score(states).squeeze(-1).float().sigmoid()
    if type(model).__name__.endswith(_SCORED) and score is not None and outputs == 2:
        return lambda states: score(states).float().softmax(-1)[..., 1]
    raise TokensieveError(
        f"{type(model).__name__} gives no reward for each token",
        hint="give a decoder with one or two labels for each token (AutoModelForTokenClassification, or a process "
        "reward model with trust_remote_code: true), or have a head trained with models.reward: {preferences: FILE}",
    )


class RewardTap:
    """Reads the rewards of tokens from forward passes while the block lasts; for several threads at once.

    Args:
        model: a decoder of `transformers` with a head that gives rewards.
        specs: the statistic ``reward``.

    Raises:
        TokensieveError: a model without such a head.
    """

    def __init__(self, model: Any, specs: Sequence[StatisticSpec]) -> None:
        self._decoder, self._read = decoder(model), _reader(model)
        self._keys = [spec.key for spec in specs]
        self._thread = threading.local()

    def __enter__(self) -> Self:
        self._hook = self._decoder.register_forward_hook(self._caught)
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()

    @contextmanager
    def record(self, prompt: Tensor, lengths: Tensor) -> Iterator[dict[str, Tensor]]:
        """Take the rewards of this thread's next forward pass; `measure.statistics.Tap` has the arguments.

        Yields:
            Filled by the pass: float32 ``[B, S]`` by the key of each statistic.
        """
        del prompt, lengths
        found: dict[str, Tensor] = {}
        self._thread.found = found
        try:
            yield found
        finally:
            del self._thread.found

    def _caught(self, _module: nn.Module, _arguments: Any, output: Any) -> None:
        found = getattr(self._thread, "found", None)
        if found is not None:
            with torch.no_grad():
                found.update(dict.fromkeys(self._keys, self._read(output.last_hidden_state)))
