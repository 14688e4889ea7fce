"""Whether two tokenizers give the same ids on the data at hand.

Base and reference must agree on ids, not on the size of their embeddings: padded embeddings are fine.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokensieve.data.bad_rows import raise_error
from tokensieve.data.encode import converted_rows
from tokensieve.data.formats import Tokenised
from tokensieve.data.readers.items import OnError
from tokensieve.data.settings import DataSettings
from tokensieve.data.token_places import Text
from tokensieve.data.tokenize import Encoder, load_encoder, tokenizer_fingerprint
from tokensieve.errors import TokensieveError

_HINT = "base and reference must share a tokenizer; an adapter of the base always does"
_BEFORE, _SHOWN = 2, 6


def check_same_ids(settings: DataSettings, encoder: Encoder, other: str, on_error: OnError = raise_error) -> None:
    """Tokenise the text of every row with another tokenizer and compare.

    The text is the one that ``encoder`` renders. Special tokens that a tokenizer puts around it, and
    rows that are token ids already, are compared by the text of these tokens.

    Args:
        settings: the data.
        encoder: the tokenizer in use.
        other: folder of the tokenizer that must agree.
        on_error: called with the error of each row that cannot be used.

    Raises:
        TokensieveError: the first row whose ids differ, with both sides.
    """
    second = load_encoder(other, encoder.template)
    if tokenizer_fingerprint(second) == tokenizer_fingerprint(encoder):
        return
    seen = {encoder.tokenizer.bos_token_id, encoder.tokenizer.eos_token_id, *encoder.turn_end_ids} - {None}
    for batch, _ in converted_rows(settings, on_error):
        texts: list[tuple[str, str]] = []
        for row, converted in batch:
            if isinstance(converted, Tokenised):
                seen.update(converted.input_ids)
            elif isinstance(text := encoder.text(converted), Text):
                texts.append((row.where, text.text))
            else:
                on_error(row.bad(text))
        _check_texts(texts, encoder, second, other)
    _check_tokens(sorted(seen), encoder, second, other)


def _check_texts(texts: list[tuple[str, str]], encoder: Encoder, second: Encoder, other: str) -> None:
    if not texts:
        return
    sides = [e.tokenizer([text for _, text in texts], add_special_tokens=False).input_ids for e in (encoder, second)]
    for (where, _), ours, theirs in zip(texts, *sides, strict=True):
        if ours != theirs:
            differing = (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b)
            at = next(differing, min(len(ours), len(theirs)))
            part = slice(max(0, at - _BEFORE), at + _SHOWN)
            raise TokensieveError(
                f"two tokenizers give different ids: {ours[part]} and {theirs[part]} around position {at}",
                where=f"{where}; tokenizer {other}",
                hint=_HINT,
            )


def _check_tokens(tokens: Iterable[int], encoder: Encoder, second: Encoder, other: str) -> None:
    for token in tokens:
        ours, theirs = (e.tokenizer.convert_ids_to_tokens(token) for e in (encoder, second))
        if ours != theirs:
            raise TokensieveError(
                f"token id {token} is {ours!r} in one tokenizer and {theirs!r} in the other",
                where=f"tokenizer {other}",
                hint=_HINT,
            )
