"""Greedy answers of a model to prompts, whatever they are batched with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tokensieve.data.tokenize import Encoder
from tokensieve.errors import TokensieveError
from tokensieve.models.memory import free_unused, out_of_memory

_PROBE_TOKENS = 8


def max_prompt_tokens(model: Any, max_new_tokens: int, section: str) -> int:
    """Return how many tokens a prompt may have beside an answer of ``max_new_tokens``.

    Args:
        model: a `transformers` model.
        max_new_tokens: tokens of the longest answer.
        section: of the recipe that sets it, for messages.

    Raises:
        TokensieveError: the answer alone fills the model's context.
    """
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if not context:
        return 2**62
    if max_new_tokens >= context:
        raise TokensieveError(
            f"answers of {max_new_tokens} tokens leave no room for a prompt in the model's context of {context}",
            where=f"recipe: {section}.max_new_tokens",
            hint=f"{section}.max_new_tokens: at most {context // 2}, say",
        )
    return context - max_new_tokens


@torch.inference_mode()
def greedy_answers(
    model: Any,
    encoder: Encoder,
    prompts: Sequence[list[int]],
    max_new_tokens: int,
    batch_size: int,
    on_prompts: Callable[[int], None],
) -> list[str]:
    """Return the text of each greedy answer, without the token that ends it.

    Prompts of similar length are padded on the left to be generated together. A model that does not heed
    the attention mask (a recurrent one, say) would read the padding, so it gets prompts of one length.

    Args:
        model: a loaded `transformers` model.
        encoder: tokenizer; its turn-end ids stop an answer.
        prompts: token ids, at least one each, that fit into the model's context.
        max_new_tokens: tokens of the longest answer.
        batch_size: prompts generated together.
        on_prompts: told the number of prompts after each batch.

    Raises:
        TokensieveError: one prompt alone does not fit into memory.
    """
    lengths = np.array([len(prompt) for prompt in prompts], dtype=np.int64)
    answers = [""] * len(prompts)
    with _greedy(model, encoder.turn_end_ids, max_new_tokens):
        padded = heeds_padding(model, prompts[int(lengths.argmin())])
        for numbers in _batches(lengths, batch_size, padded):
            texts = _answers(model, encoder, [prompts[number] for number in numbers], padded)
            for number, text in zip(numbers.tolist(), texts, strict=True):
                answers[number] = text
            on_prompts(len(numbers))
    return answers


@torch.inference_mode()
def heeds_padding(model: Any, prompt: list[int]) -> bool:
    """Return whether padding on the left, with a mask, leaves the logits after a prompt as they are."""
    start = prompt[:_PROBE_TOKENS]
    try:
        alone, padded = (_next_logits(model, start, len(start) + padding) for padding in (0, _PROBE_TOKENS))
    except ValueError as error:
        if "attention_mask" in str(error):  # an argument that the model does not take
            return False
        raise
    tolerance = 1e-3 if next(model.parameters()).dtype == torch.float32 else 0.05
    # NaN weights pass: padding does not make them worse.
    return torch.allclose(alone, padded, tolerance, tolerance, equal_nan=True)


def _next_logits(model: Any, prompt: list[int], length: int) -> Tensor:
    inputs = _left_padded([prompt], length, model, masked=True)
    found = model.generate(**inputs, max_new_tokens=1, output_logits=True, return_dict_in_generate=True)
    return found.logits[0].float()


def _batches(lengths: NDArray[np.int64], batch_size: int, padded: bool) -> Iterator[NDArray[np.int64]]:
    """Yield prompt numbers, longest first; of one length alone unless they may be padded."""
    order = np.argsort(-lengths, kind="stable")
    groups = [order] if padded else np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1)
    for group in groups:
        for start in range(0, len(group), batch_size):
            yield group[start : start + batch_size]


def _answers(model: Any, encoder: Encoder, prompts: list[list[int]], padded: bool) -> list[str]:
    """Generate together; a batch that does not fit into memory is halved until it does."""
    longest, generated = max(map(len, prompts)), None
    try:
        generated = model.generate(**_left_padded(prompts, longest, model, padded))[:, longest:].tolist()
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        if len(prompts) == 1:
            raise TokensieveError(
                f"a prompt of {longest} tokens and its answer do not fit into memory",
                hint="shorten the prompt, or use dtype: bfloat16",
            ) from error
    if generated is None:
        free_unused()
        half = len(prompts) // 2
        return [t for part in (prompts[:half], prompts[half:]) for t in _answers(model, encoder, part, padded)]
    stops = encoder.turn_end_ids
    ends = (next((at for at, token in enumerate(row) if token in stops), len(row)) for row in generated)
    return [
        encoder.tokenizer.decode(row[:end], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        for row, end in zip(generated, ends, strict=True)
    ]


def _left_padded(prompts: list[list[int]], length: int, model: Any, masked: bool) -> dict[str, Tensor]:
    ids = torch.zeros(len(prompts), length, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, length - len(prompt) :] = torch.tensor(prompt)
        mask[row, length - len(prompt) :] = 1
    inputs = {"input_ids": ids, "attention_mask": mask} if masked else {"input_ids": ids}
    device = next(model.parameters()).device
    return {name: value.to(device) for name, value in inputs.items()}


@contextmanager
def _greedy(model: Any, stops: tuple[int, ...], max_new_tokens: int) -> Iterator[None]:
    """Put the model's own generation settings aside.

    `generate` takes from them whatever it is not told, so that a repetition penalty that came with the
    model would take part in the answers.
    """
    from transformers import GenerationConfig

    own = model.generation_config
    model.generation_config = GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_new_tokens=max_new_tokens,
        eos_token_id=list(stops) or None,
        pad_token_id=stops[0] if stops else None,  # it comes after a stop, and is cut off with it
    )
    try:
        yield
    finally:
        model.generation_config = own
