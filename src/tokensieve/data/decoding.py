"""Token ids back to text, as people read it.

Tokens are decoded in context, so that words keep their spaces, and tokens that hold a fragment of a character are
shown together as that character.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from tokenizers import Tokenizer

from tokensieve.errors import TokensieveError

_FRAGMENT = "\ufffd"
_LONGEST_GROUP = 16  # tokens that may share characters in a chain before they are taken for broken text
_MARKS = {" ": "·", "\n": "¶\n", "\t": "→", "\u00a0": "␣", "\u3000": "□"}
_PAIRS = 2**17  # of a token and what stands before it; a text has far fewer than tokens
_FIRST_MARK = "\u0300"  # no character before it joins another
_JOINERS = "\u200c\u200d"


class Piece(NamedTuple):
    """Neighbouring tokens that can only be shown together; almost always one token.

    Attributes:
        start: position of the first token.
        stop: position after the last token.
        text: what the tokens decode to; empty where they decode to nothing.
        special: whether it is a control token of the tokenizer, such as the end of a turn.
    """

    start: int
    stop: int
    text: str
    special: bool = False


class TokenDecoder:
    """Turns token ids into the text that each of them contributes.

    Args:
        tokenizer: a fast tokenizer (``PreTrainedTokenizerFast.backend_tokenizer``).
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder()
        self._special = {number for number, token in added.items() if token.special}
        self._text_after = lru_cache(_PAIRS)(self._decode_after)

    def pieces(self, token_ids: Sequence[int]) -> list[Piece]:
        """Split token ids into pieces that cover every position once, in order.

        A piece holds more than one token only where a character (or an emoji made of several) spans them.
        """
        found: list[Piece] = []
        start = 0
        while start < len(token_ids):
            # A word's first space is only decoded when something stands before it. A broken piece is no
            # context: its bytes could join what follows.
            context = found[-1].start if found and _FRAGMENT not in found[-1].text else start
            stop, text = self._next(token_ids, context, start)
            piece = Piece(start, stop, text, token_ids[start] in self._special)
            if found and _joins(found[-1], piece):
                piece = Piece(found[-1].start, stop, found[-1].text + text)
                found.pop()
            found.append(piece)
            start = stop
        return found

    def name(self, token_id: int) -> str:
        """Return a token's text by itself, or its name in the vocabulary where it has none."""
        return self._decode([token_id]) or self._tokenizer.id_to_token(token_id) or f"⟨id={token_id}⟩"

    def vocabulary_name(self, token_id: int) -> str:
        """Return a token's name in the vocabulary; an empty text where there is none."""
        return self._tokenizer.id_to_token(token_id) or ""

    def is_fragment(self, token_id: int) -> bool:
        """Whether a token by itself is no text: some of its bytes are a part of a character."""
        return _FRAGMENT in self._decode([token_id])

    def is_special(self, token_id: int) -> bool:
        """Whether an id is a control token of the tokenizer."""
        return token_id in self._special

    def texts(self, sequences: Sequence[Sequence[int]]) -> list[str]:
        """Return the whole text of several sequences."""
        return self._tokenizer.decode_batch([list(ids) for ids in sequences], skip_special_tokens=False)

    def names(self, token_ids: Sequence[int], pieces: Sequence[Piece]) -> list[str]:
        """Return each token's text on one line; a part of a character is that character, numbered."""
        names: list[str] = []
        for piece in pieces:
            count = piece.stop - piece.start
            text = visible_text(piece.text or self.name(token_ids[piece.start]))
            names += [text] if count == 1 else [f"{text} ({part} of {count})" for part in range(1, count + 1)]
        return names

    def _next(self, token_ids: Sequence[int], context: int, start: int) -> tuple[int, str]:
        """Return where the piece at ``start`` ends, and its text."""
        before = tuple(token_ids[context:start])
        first = self._text_after(before, (token_ids[start],))
        if not first.endswith(_FRAGMENT):
            return start + 1, first
        for stop in range(start + 2, min(start + _LONGEST_GROUP, len(token_ids)) + 1):
            text = self._text_after(before, tuple(token_ids[start:stop]))
            if not text.endswith(_FRAGMENT):
                return (start + 1, first) if _FRAGMENT in text else (stop, text)
        return start + 1, first

    def _decode_after(self, before: tuple[int, ...], token_ids: tuple[int, ...]) -> str:
        """Return what token ids add to the text before them."""
        context = self._decode(before)
        text = self._decode((*before, *token_ids))
        return text[len(context) :] if text.startswith(context) else self._decode(token_ids)

    def _decode(self, token_ids: Sequence[int]) -> str:
        return self._tokenizer.decode(list(token_ids), skip_special_tokens=False) if token_ids else ""


def read_decoder(folder: Path) -> TokenDecoder:
    """Return what decodes the token ids of tokenised examples.

    Args:
        folder: of their tokenizer.

    Raises:
        TokensieveError: their tokenizer is missing or damaged.
    """
    path = folder / "tokenizer.json"
    hint = "delete the folder of the examples and run `tokensieve run` with the recipe again"
    if not path.is_file():
        raise TokensieveError("the tokenizer of the examples is missing", where=str(path), hint=hint)
    try:
        return TokenDecoder(Tokenizer.from_file(str(path)))
    except Exception as error:  # the library raises nothing narrower
        raise TokensieveError(
            f"the tokenizer of the examples is damaged: {error}", where=str(path), hint=hint
        ) from error


def visible(text: str) -> list[tuple[str, bool]]:
    """Make whitespace, control and formatting characters visible.

    Returns:
        Parts of text with whether each stands for something invisible. Spaces become ``·``, a line end
        ``¶`` with the line end itself, and what could hide or reorder text becomes its code point.
    """
    parts: list[tuple[str, bool]] = []
    for char in text:
        shown, marked = _visible_char(char)
        if parts and parts[-1][1] == marked:
            parts[-1] = (parts[-1][0] + shown, marked)
        else:
            parts.append((shown, marked))
    return parts


def visible_text(text: str) -> str:
    """Return `visible` as one line."""
    return "".join(part for part, _ in visible(text)).replace("\n", "")


def _visible_char(char: str) -> tuple[str, bool]:
    if char in _MARKS:
        return _MARKS[char], True
    if char < " ":
        return chr(0x2400 + ord(char)), True
    category = unicodedata.category(char)
    if category in ("Cc", "Zs", "Zl", "Zp") or (category == "Cf" and char not in _JOINERS):
        return f"⟨U+{ord(char):04X}⟩", True
    return char, False


def _joins(before: Piece, piece: Piece) -> bool:
    """Whether a piece goes on with the last character of the one before: accents, emoji of several parts."""
    if not before.text or not piece.text:
        return False
    first, last = piece.text[0], before.text[-1]
    if (first < _FIRST_MARK and last < _FIRST_MARK) or before.special or piece.special or last.isspace():
        return False
    if unicodedata.category(first) in ("Mn", "Me", "Mc") or first in _JOINERS or "\U0001f3fb" <= first <= "\U0001f3ff":
        return True
    if last == "\u200d":
        return True
    return _is_regional(first) and sum(1 for _ in _trailing_regional(before.text)) % 2 == 1


def _is_regional(char: str) -> bool:
    return "\U0001f1e6" <= char <= "\U0001f1ff"


def _trailing_regional(text: str) -> Iterator[str]:
    for char in reversed(text):
        if not _is_regional(char):
            return
        yield char
