"""Queries and keys to per-token sums of attention, block by block.

The attention matrix never exists as a whole: a block of rows is multiplied with the keys that it can see,
turned into probabilities, summed and dropped. Memory grows with the length of the batch, not with its square.

Sources: `attention_to_prompt` is the attention score of ssToken (arXiv 2510.18250); `attention_received` and
`attention_row_mean` are the corrected and the published reasoning importance of XTF (arXiv 2602.14536).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypedDict

import torch
from torch import Tensor, nn

from tokensieve.errors import TokensieveError

ATTENTION_STATISTICS = ("attention_to_prompt", "attention_received", "attention_row_mean")
"""What `attention_mass` computes from queries and keys."""

# Rows of a block: the part of it above the diagonal is wasted work, so a block must stay small.
_ROWS = 128
# Scores of a block, over the batch and all heads, where this leaves fewer rows: they should stay in a CPU's
# cache, while a GPU needs enough work for a launch.
_SCORES = {"cpu": 2**20, "cuda": 2**25}


class AttentionSettings(TypedDict):
    """How a layer turns queries and keys into attention; keyword arguments of `attention_mass`."""

    scale: float
    window: int | None
    softcap: float | None
    sinks: Tensor | None


def attention_mass(
    query: Tensor,
    key: Tensor,
    prompt: Tensor,
    *,
    lengths: Tensor,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    names: Iterable[str] = ("attention_to_prompt", "attention_received"),
    heads: Literal["mean", "max"] = "mean",
) -> dict[str, Tensor]:
    """Compute sums of the causal attention of a right-padded batch.

    Args:
        query: ``[B, H, S, D]``, after the rotary embedding, any float dtype.
        key: ``[B, Hkv, S, D]``, likewise; Hkv divides H, and consecutive query heads share a key head.
        prompt: bool ``[B, S]``, the tokens that `attention_to_prompt` counts: those that are not trained on.
        lengths: int64 ``[B]``, real tokens of each row.
        scale: of the scores.
        window: row ``r`` sees the keys ``r - window < k <= r``; all ``k <= r`` if None.
        softcap: scaled scores become ``softcap * tanh(score / softcap)``.
        sinks: ``[H]``, a logit per head that takes part in the softmax and belongs to no key.
        names: which of `ATTENTION_STATISTICS` to compute.
        heads: how the values of the heads are reduced to one.

    Returns:
        float32 ``[B, S]`` per name, 0 at padding. ``attention_to_prompt``: the attention that row ``t`` pays to
        the prompt tokens it can see, of which it is one if it is a prompt token. ``attention_received``: the mean
        of the attention that the real rows which can see token ``t``, itself among them, pay to it.
        ``attention_row_mean``: the mean over all tokens of its example of the attention that row ``t`` pays, which
        is one over their number where there are no sinks.

    Raises:
        TokensieveError: if a name is unknown or the query heads are no multiple of the key heads.
    """
    names = tuple(names)
    if unknown := set(names) - set(ATTENTION_STATISTICS):
        raise TokensieveError(
            f"no attention statistic is called {sorted(unknown)[0]!r}",
            hint=f"one or more of: {', '.join(ATTENTION_STATISTICS)}",
        )
    batch, head_count, size, _ = query.shape
    key_heads = key.shape[1]
    if head_count % key_heads:
        raise TokensieveError(
            f"{head_count} query heads are no multiple of {key_heads} key heads",
            hint="give queries and keys of one layer",
        )
    query, key = query.detach(), key.detach()
    position = torch.arange(size, device=query.device)
    real = position < lengths[:, None]
    longest = int(lengths.max()) if batch else 0
    # Padding may hold anything, and a NaN would spread through a product with 0.
    keys = key.masked_fill(~real[:, None, :, None], 0).flatten(0, 1)
    # Sums over the keys of a row are one product with these columns, in the order of `wanted`.
    columns = {"attention_to_prompt": prompt, "attention_row_mean": real}
    wanted = [name for name in columns if name in names]
    counted = torch.stack([columns[name].float() for name in wanted], dim=-1) if wanted else None
    sums = query.new_zeros((batch, head_count, size, len(wanted)), dtype=torch.float32)
    received = query.new_zeros((batch, head_count, size), dtype=torch.float32)

    budget = _SCORES.get(query.device.type, _SCORES["cpu"]) // max(1, batch * head_count * longest)
    rows = min(_ROWS, max(16, budget))
    for start in range(0, longest, rows):
        stop = min(start + rows, longest)
        first = 0 if window is None else max(0, start - window + 1)
        visible = _visible(position[start:stop], position[first:stop], window)
        seen = keys[:, first:stop]
        asking = query[:, :, start:stop].masked_fill(~real[:, None, start:stop, None], 0)
        share = _softmax(asking, seen, visible, scale, softcap, sinks)
        if counted is not None:
            flat = share.view(batch, -1, stop - first) @ counted[:, first:stop]
            sums[:, :, start:stop] = flat.view(batch, head_count, stop - start, len(wanted))
        if "attention_received" in names:
            received[:, :, first:stop] += (real[:, None, None, start:stop].float() @ share).squeeze(2)

    result = dict(zip(wanted, sums.unbind(-1), strict=True))
    if "attention_row_mean" in result:
        result["attention_row_mean"] /= lengths[:, None, None]
    if "attention_received" in names:
        seers = (lengths[:, None] - position).clamp(min=1, max=window)
        result["attention_received"] = received / seers[:, None]
    reduced = {name: result[name].amax(1) if heads == "max" else result[name].mean(1) for name in names}
    return {name: value.masked_fill(~real, 0) for name, value in reduced.items()}


def _visible(rows: Tensor, keys: Tensor, window: int | None) -> Tensor:
    """Return bool ``[rows, keys]``: which keys a row sees."""
    distance = rows[:, None] - keys
    visible = distance >= 0
    return visible if window is None else visible & (distance < window)


def _softmax(
    query: Tensor, keys: Tensor, visible: Tensor, scale: float, softcap: float | None, sinks: Tensor | None
) -> Tensor:
    """Compute the attention of ``[B, H, r, D]`` queries to ``[B * Hkv, k, D]`` keys: float32 ``[B, H, r, k]``."""
    batch, heads, rows, width = query.shape
    # The query heads that share a key head are more rows of one product: the keys are not repeated.
    grouped = query.reshape(len(keys), -1, width)
    scores = query.new_empty((len(keys), grouped.shape[1], keys.shape[1]))
    # scaled within the product, before it is rounded
    scores = torch.baddbmm(scores, grouped, keys.transpose(1, 2), beta=0, alpha=scale)
    scores = scores.view(batch, heads, rows, keys.shape[1])
    if softcap is not None:
        scores = scores.float().div_(softcap).tanh_().mul_(softcap)
    scores.masked_fill_(~visible, float("-inf"))
    if sinks is None:
        return scores.softmax(-1, dtype=torch.float32)
    column = sinks.detach().to(scores).view(1, heads, 1, 1).expand(batch, heads, rows, 1)
    return torch.cat([scores, column], dim=-1).softmax(-1, dtype=torch.float32)[..., :-1].contiguous()


def attention_settings(module: nn.Module, query: Tensor, keywords: Mapping[str, Any]) -> AttentionSettings:
    """Read how a layer attends from a call of its attention function.

    The call is that of a function of ``transformers.modeling_utils.ALL_ATTENTION_FUNCTIONS``. Architectures
    differ in what they pass to it and what they leave to the mask or to an attribute of the module.

    Args:
        module: the attention module, its first argument.
        query: ``[B, H, S, D]``, its second argument.
        keywords: its keyword arguments.

    Returns:
        Keyword arguments of `attention_mass`.

    Raises:
        TokensieveError: if the layer is not causal, attends within chunks or adds a bias to its scores.
    """
    kind = _layer_type(module)
    causal = keywords.get("is_causal")
    if not (getattr(module, "is_causal", True) if causal is None else causal):
        raise _unsupported(module, "looks ahead")
    if kind == "chunked_attention":
        raise _unsupported(module, "attends within chunks")
    if keywords.get("position_bias") is not None:
        raise _unsupported(module, "adds a position bias to its scores")
    scale = keywords.get("scaling")
    if "sliding_window" in keywords:
        window = keywords["sliding_window"]
    else:
        # Some leave the window to the mask; a module may then hold one that its layer does not use.
        window = getattr(module, "sliding_window", None) if kind in (None, "sliding_attention") else None
    return AttentionSettings(
        # what every attention function of transformers falls back on
        scale=query.shape[-1] ** -0.5 if scale is None else float(scale),
        window=window or None,
        softcap=keywords.get("softcap"),
        sinks=keywords.get("s_aux"),
    )


def _layer_type(module: nn.Module) -> str | None:
    """Return which of its configuration's ``layer_types`` an attention module is."""
    types = getattr(getattr(module, "config", None), "layer_types", None)
    index = getattr(module, "layer_idx", None)
    return types[index] if types and index is not None else None


def _unsupported(module: nn.Module, does: str) -> TokensieveError:
    return TokensieveError(
        f"attention cannot be measured on this architecture: {type(module).__name__} {does}",
        hint="choose a method that needs no attention, or another layer",
    )
