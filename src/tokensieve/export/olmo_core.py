"""OLMo-core: raw arrays of token ids and masks, without headers.

``token_ids_part_XXXXX.npy`` holds the ids of all documents in the smallest unsigned type that fits the vocabulary,
``labels_mask_part_XXXXX.npy`` one bool per token (True = trained), and ``token_ids_part_XXXXX.csv.gz`` the start and
end of each document. Despite the suffix, the arrays are not in the format of `numpy.save`. For remote data, OLMo-core
reads the boundaries from the table; for local data, it looks for the EOS token of its configuration, so every document
must end with that token and not contain it before. In most chat templates the EOS token ends each turn. In that case
the export appends another special token to each document, untrained, and names it in the configuration. (OLMo-core,
``data/utils.py``, ``iter_document_indices``.)
"""

from __future__ import annotations

import gzip
import itertools
from pathlib import Path
from typing import Any

import numpy as np

from tokensieve.errors import TokensieveError
from tokensieve.export._base import Facts, Shards, Snippet, Target, quoted
from tokensieve.ops.ragged import offsets

_PART_TOKENS = 2**28  # OLMo-core packs each part separately, so parts should be large; positions in it are uint32
_DTYPES = (np.uint8, np.uint16, np.uint32)


def token_dtype(vocab_size: int) -> type[np.unsignedinteger[Any]]:
    """Return the type in which OLMo-core reads token ids."""
    return next(dtype for dtype in _DTYPES if vocab_size - 1 <= np.iinfo(dtype).max)


def _write(shards: Shards, folder: Path, facts: Facts) -> tuple[str, ...]:
    tokenizer = _tokenizer(facts)
    dtype = token_dtype(_vocab_size(tokenizer, facts))
    end_id = _document_end(shards, tokenizer, facts)
    data = folder / "data"
    data.mkdir()
    part = position = appended = 0
    for shard in shards:
        if position >= _PART_TOKENS:
            part, position = part + 1, 0
        ends = shard.cu_seqlens[1:]
        open_ended = shard.input_ids[ends - 1] != end_id
        ids = np.insert(shard.input_ids, ends[open_ended], end_id).astype(dtype)
        mask = np.insert(shard.trained, ends[open_ended], False)
        bounds = position + offsets(np.diff(shard.cu_seqlens) + open_ended)
        for name, values in (("token_ids", ids), ("labels_mask", mask)):
            with (data / f"{name}_part_{part:05d}.npy").open("ab") as handle:
                values.tofile(handle)
        table = "".join(f"{start},{end}\n" for start, end in itertools.pairwise(bounds))
        with (data / f"token_ids_part_{part:05d}.csv.gz").open("ab") as handle:
            handle.write(gzip.compress(table.encode(), mtime=0))
        position += len(ids)
        appended += int(open_ended.sum())
    if not appended:
        return ()
    token = tokenizer.convert_ids_to_tokens(end_id)
    return (f"the untrained token {token}, which marks the end of a document, was appended to {appended:,} examples",)


def _document_end(shards: Shards, tokenizer: Any, facts: Facts) -> int:
    """Return the EOS id, or the id of the first special token that no example contains before its end."""
    inside = np.zeros(_vocab_size(tokenizer, facts), dtype=bool)
    for shard in shards:
        within = np.ones(len(shard.input_ids), dtype=bool)
        within[shard.cu_seqlens[1:] - 1] = False
        inside[shard.input_ids[within]] = True
    for token in (tokenizer.eos_token_id, *sorted(tokenizer.added_tokens_decoder)):
        if token is not None and not inside[token]:
            return token
    raise TokensieveError(
        "OLMo-core finds the end of a document by a special token, and the examples contain every special token of the "
        "tokenizer before their end",
        where=str(facts.tokenizer),
        hint="add a special token that the chat template does not use to the tokenizer",
    )


def _tokenizer(facts: Facts) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(facts.tokenizer)


def _vocab_size(tokenizer: Any, facts: Facts) -> int:
    return max(len(tokenizer), facts.largest_id + 1)


def _config(facts: Facts) -> tuple[Snippet, ...]:
    tokenizer, data = _tokenizer(facts), facts.folder / "data"
    vocab_size = _vocab_size(tokenizer, facts)
    dtype = token_dtype(vocab_size)
    # Every document ends with this token.
    end_id = int(np.memmap(data / "token_ids_part_00000.npy", dtype=dtype, mode="r")[-1])
    # If it were also the padding token, every padding token would be a document.
    pads = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0, 1)
    pad_id = next(token for token in pads if token not in (None, end_id))
    length = 1 << facts.max_length.bit_length()  # longer than the longest example plus the appended token
    names = "LongDocStrategy, NumpyDatasetDType, NumpyPackedFSLDatasetConfig, TokenizerConfig"
    text = (
        f"from olmo_core.data import {names}\n\n"
        "dataset = NumpyPackedFSLDatasetConfig(\n"
        f"    tokenizer=TokenizerConfig(vocab_size={vocab_size}, eos_token_id={end_id}, pad_token_id={pad_id}),\n"
        f"    dtype=NumpyDatasetDType.{np.dtype(dtype).name},\n"
        f"    paths=[{quoted(data / 'token_ids_part_*.npy')}],\n"
        f"    label_mask_paths=[{quoted(data / 'labels_mask_part_*.npy')}],\n"
        "    expand_glob=True,\n"
        "    generate_doc_lengths=True,\n"
        "    long_doc_strategy=LongDocStrategy.truncate,\n"
        f"    sequence_length={length},\n"
        '    work_dir="olmo-core-work",\n'
        ")\n"
    )
    return (Snippet("the training script, in place of its dataset", "python", text),)


TARGETS = (
    Target(
        "olmo-core",
        _write,
        _config,
        "In `data/`, raw arrays without headers: `token_ids_part_*.npy`, `labels_mask_part_*.npy` (bool, 1 if the "
        "token is trained), and the start and end of each document in `token_ids_part_*.csv.gz`.",
        note="any sequence_length above the longest example works; a longer one packs better",
    ),
)
