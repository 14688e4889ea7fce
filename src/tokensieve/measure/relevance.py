"""How much each id of the vocabulary belongs to the task: a cosine to the mean vector of the task's words.

Relevance depends on the id alone, whatever stands before the token, so that one pass over the vocabulary gives that
of every token of any data. Source: the task relevance of XTF (arXiv 2602.14536). Its authors choose the words by hand;
where the user gives none, the ids are taken that the task uses far more often than text in general does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoTokenizer

from tokensieve.containers import Float32, Int64, StatisticSpec
from tokensieve.data.example_store import ExampleStore
from tokensieve.errors import TokensieveError
from tokensieve.models.transformers_private import decoder

VectorKind = Literal["hidden", "embedding"]

_BATCH = 1024
_ZIPF_SHIFT = 256  # the ids of single bytes, whose order says nothing


@dataclass(frozen=True, eq=False)
class VocabularyTable:
    """A statistic that depends on the id of a token alone.

    Attributes:
        values: float32 ``[vocabulary]``, for each id.
        records: JSON values by file name, to be kept beside the statistic: what it was measured from.
    """

    values: Float32
    records: Mapping[str, Any]


def relevance_of_ids(model: Any, examples: ExampleStore, spec: StatisticSpec) -> VocabularyTable:
    """Measure the relevance of every id to the task; errors as for `task_ids` and `relevance_table`.

    Args:
        model: a `transformers` causal language model.
        examples: the data of the task.
        spec: with the options ``vector`` (see `context_free_vectors`) and ``domain_words`` (see `task_ids`).
    """
    ids, words = task_ids(examples, spec)
    table = relevance_table(model, ids, spec.option("vector", "hidden"), examples.counts.largest_id + 1)
    return VocabularyTable(table, {"domain_words.json": words})


@torch.inference_mode()
def context_free_vectors(model: Any, ids: NDArray[np.integer], kind: VectorKind) -> Tensor:
    """Return a vector of each id that no context has touched.

    Args:
        model: a `transformers` causal language model, adapters included.
        ids: ``[n]``, ids of the vocabulary.
        kind: ``hidden`` is the last hidden state of a sequence of this one token, which is what enters the head;
            ``embedding`` the row of the input embedding.

    Returns:
        float32 ``[n, hidden]`` on the model's device.

    Raises:
        TokensieveError: an id that the model has no row for.
    """
    embedding = model.get_input_embeddings()
    rows = int(embedding.weight.shape[0])
    ids = np.asarray(ids, dtype=np.int64)
    if len(beyond := ids[(ids < 0) | (ids >= rows)]):
        raise TokensieveError(
            f"token id {beyond[0]} is beyond the model's embedding of {rows} rows",
            hint="use the tokenizer that belongs to the model, or resize its embedding",
        )
    wanted = torch.as_tensor(ids, device=embedding.weight.device)
    if kind == "embedding":
        # the rows themselves: some architectures scale what their embedding module gives
        return embedding.weight[wanted].float()
    states = decoder(model)
    parts = [states(input_ids=part[:, None], use_cache=False).last_hidden_state[:, 0] for part in wanted.split(_BATCH)]
    return torch.cat(parts).float()


@torch.inference_mode()
def relevance_table(model: Any, domain_ids: NDArray[np.integer], kind: VectorKind, vocabulary: int) -> Float32:
    """Return float32 ``[vocabulary]``: the cosine of each id's vector and the mean vector of the domain ids.

    A vector of zeros, such as the row of a padding token, has relevance 0.

    Args:
        model: a `transformers` causal language model.
        domain_ids: ``[n]``, ids of the words of the task, each counted once.
        kind: see `context_free_vectors`.
        vocabulary: number of ids to cover, from 0.

    Raises:
        TokensieveError: no domain ids, ids beyond the embedding, or a mean vector that is zero, NaN or infinite.
    """
    if len(domain_ids) == 0:
        raise TokensieveError("there are no domain words to compare with", hint="give some as method.domain_words")
    domain = context_free_vectors(model, np.unique(domain_ids), kind).mean(dim=0)
    length = float(domain.norm())
    if not 0 < length < float("inf"):
        raise TokensieveError(
            f"the mean {kind} vector of the {len(domain_ids)} domain ids has length {length}",
            hint="a half-precision model may overflow: try dtype: float32",
        )
    table = np.empty(vocabulary, dtype=np.float32)
    for start in range(0, vocabulary, _BATCH):  # the vectors of all ids at once may be gigabytes
        stop = min(start + _BATCH, vocabulary)
        vectors = context_free_vectors(model, np.arange(start, stop), kind)
        norms = vectors.norm(dim=1).clamp(min=torch.finfo(torch.float32).tiny)
        table[start:stop] = ((vectors @ (domain / length)) / norms).cpu().numpy()
    return table


def derive_domain_ids(
    counts: NDArray[np.integer],
    background: NDArray[np.number] | None = None,
    *,
    excluded: Sequence[int] = (),
    size: int = 200,
) -> Int64:
    """Return the ids that the task uses most beyond what is usual, by smoothed log-odds.

    The task's share of an id is ``(count + V * q) / (total + V)``, where ``q`` is its usual share and ``V`` the size of
    the vocabulary: one token per id is added, distributed as usual, so that an id seen once is not taken for a domain
    word. Ids that do not occur are never returned.

    Args:
        counts: ``[V]``, tokens of each id in the prompts and answers of the task.
        background: ``[V]``, tokens of each id in text at large, or its shares times any number; one is added to each.
            None takes Zipf's law over the ids, ``q ~ 1 / (id + 256)``: a BPE vocabulary is in the order of its merges,
            which is about the order of frequency, behind the 256 bytes. A uniform prior would call the most frequent
            words of the language the domain.
        excluded: ids that are no words: special tokens.
        size: how many at most.

    Returns:
        int64 ``[at most size]``, highest log-odds first; of equal ones the lower id first.

    Raises:
        TokensieveError: no id occurs but excluded ones, or counts and background of different lengths.
    """
    task = np.array(counts, dtype=np.float64)
    vocabulary = len(task)
    if background is None:
        usual = 1 / (np.arange(vocabulary) + float(_ZIPF_SHIFT))
    else:
        usual = np.asarray(background, dtype=np.float64) + 1
    if usual.shape != task.shape:
        raise TokensieveError(
            f"the background counts {len(usual)} ids, the data {vocabulary}",
            hint="one count for each id of the vocabulary",
        )
    words = task > 0
    words[np.asarray(excluded, dtype=np.int64)] = False
    if not words.any():
        raise TokensieveError(
            "domain words cannot be derived: no token of the data is a word",
            hint="give some as method.domain_words",
        )
    usual = np.where(words, usual, 0) / usual.sum()
    share = (task + vocabulary * usual) / (task.sum() + vocabulary)
    odds = np.full(vocabulary, -np.inf)
    odds[words] = _logit(share[words]) - _logit(usual[words])
    return np.argsort(-odds, kind="stable")[: min(size, int(words.sum()))]


def words_to_ids(tokenizer: Any, words: Sequence[str]) -> Int64:
    """Return the ids of words, each with and without a space before it, all its pieces; rising, each once.

    Args:
        tokenizer: a `transformers` tokenizer.
        words: words or short phrases.

    Returns:
        int64 ``[ids]``, without special ids and blanks.

    Raises:
        TokensieveError: no words, or words of which the tokenizer knows nothing.
    """
    found: set[int] = set()
    for word in filter(None, map(str.strip, words)):
        for text in (word, f" {word}"):
            found.update(tokenizer.encode(text, add_special_tokens=False))
    # A tokenizer that splits the space off gives a piece that is in every text.
    found = {piece for piece in found - set(tokenizer.all_special_ids) if tokenizer.decode([piece]).strip()}
    if not found:
        raise TokensieveError(
            f"no domain word is left: {list(words)[:10]}",
            where="method.domain_words",
            hint="give words that the tokenizer knows, or leave the list empty to derive them from the data",
        )
    return np.array(sorted(found), dtype=np.int64)


def task_ids(examples: ExampleStore, spec: StatisticSpec) -> tuple[Int64, list[str]]:
    """Return the ids of the task's words and their text: the words in the options, or those of the data."""
    tokenizer = AutoTokenizer.from_pretrained(examples.tokenizer)
    if words := spec.option("domain_words", ()):
        ids = words_to_ids(tokenizer, words)
    else:
        vocabulary = max(len(tokenizer), examples.counts.largest_id + 1)
        counts = sum(np.bincount(shard.input_ids, minlength=vocabulary) for shard in examples)
        ids = derive_domain_ids(np.asarray(counts), excluded=tokenizer.all_special_ids)
    return ids, [tokenizer.decode([number]) for number in ids.tolist()]


def _logit(share: NDArray[np.float64]) -> NDArray[np.float64]:
    share = np.clip(share, None, 1 - 1e-12)  # all of the data, or of the vocabulary, may be one word
    return np.log(share) - np.log1p(-share)
