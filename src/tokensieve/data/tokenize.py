"""The only place that tokenises training rows: rows to token ids and labels.

A conversation is rendered to text once (`data.chat_template`), and the tokens that overlap an answer of it are
trainable.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import IGNORE_INDEX, Int64, segments
from tokensieve.data.chat_template import PROBE, ChatTemplate, training_template
from tokensieve.data.formats import Conversation, Converted, PlainText, Tokenised
from tokensieve.data.mark_places import placed_spans
from tokensieve.data.marks import MarkedSpan
from tokensieve.data.settings import TRAINING_TEMPLATE, DataSettings
from tokensieve.data.template_errors import TemplateTimeError
from tokensieve.data.token_places import Text, Tokens, by_bytes, by_characters, byte_lengths, keeps_text
from tokensieve.errors import TokensieveError, first_line
from tokensieve.ops.ragged import offsets, segment_counts
from tokensieve.store import fingerprint
from tokensieve.store.atomic import read_json

DEFAULT_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "{{ '<|assistant|>\n' }}{% generation %}{{ message['content'] + eos_token | default('') }}{% endgeneration %}"
    "{{ '\n' }}"
    "{% else %}{{ '<|' + message['role'] + '|>\n' + message['content'] + '\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
"""For base models without a template: role markers as plain text, each answer ends with the EOS token.

``{{ bos_token }}`` comes first where the tokenizer begins plain text with it.
"""

_ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class Encoded:
    """One tokenised row, before truncation.

    Attributes:
        input_ids: int32 ``[tokens]``.
        labels: int32 ``[tokens]``, -100 where a token is not trainable.
        straddling: tokens that hold characters of both prompt and answer; they are not trainable.
        templated: whether a chat template rendered the row.
        forgotten: trainable answers whose thoughts the chat template left out.
        marks: int32 ``[tokens]``, the number from 1 of a trainable token's type in ``mark_types``, 0 where a token is
            not marked; None for a row without marks.
        mark_types: types of marks, of this row and others that were encoded with it.
    """

    input_ids: NDArray[np.int32]
    labels: NDArray[np.int32]
    straddling: int = 0
    templated: bool = False
    forgotten: int = 0
    marks: NDArray[np.int32] | None = None
    mark_types: tuple[str, ...] = ()


@dataclass
class Encoder:
    """A tokenizer with its chat template.

    Attributes:
        tokenizer: a fast `transformers` tokenizer.
        template: the Jinja chat template in use.
        own_template: False when the tokenizer has none and `DEFAULT_CHAT_TEMPLATE` stands in.
        turn_end_ids: ids that end an assistant turn: EOS, and what the template puts after an answer.
    """

    tokenizer: Any
    template: str
    own_template: bool
    turn_end_ids: tuple[int, ...]
    _chat: ChatTemplate = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._chat = ChatTemplate(self.template, self.tokenizer.special_tokens_map)

    @property
    def has_generation(self) -> bool:
        """Whether the template marks answers with ``{% generation %}``."""
        return self._chat.has_generation

    def encode(self, rows: Sequence[Converted]) -> list[Encoded | TokensieveError]:
        """Tokenise rows together; a row that cannot be tokenised gives its error in place of tokens.

        Raises:
            TemplateTimeError: the template does not end in time; with the number of the row.
        """
        backend = self.tokenizer.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        results: dict[int, Encoded | TokensieveError] = {}
        begun: list[Future[list[Tokens]]] = []
        # Without the interpreter's lock the backend works while further rows are rendered and earlier ones labelled.
        with ThreadPoolExecutor(1) as pool:
            for start in range(0, len(rows), _ROWS_AT_ONCE):
                forms: dict[bool, dict[int, Text]] = {False: {}, True: {}}
                for number, row in enumerate(rows[start : start + _ROWS_AT_ONCE], start):
                    if isinstance(row, Tokenised):
                        results[number] = _given(row)
                    elif isinstance(text := self._text_of(row, number), TokensieveError):
                        results[number] = text
                    else:
                        forms[text.plain][number] = text
                begun += [pool.submit(self._tokenise, texts) for texts in forms.values() if texts]
            for tokens in chain.from_iterable(future.result() for future in begun):
                results |= zip(tokens.texts, self._label(tokens), strict=True)
        return [results[number] for number in range(len(rows))]

    def text(self, row: Conversation | PlainText) -> Text | TokensieveError:
        """Return the text of a row, or the error that it gives.

        Raises:
            TemplateTimeError: the template does not end in time.
        """
        try:
            if isinstance(row, PlainText):
                start = len(row.prompt)
                marks = [MarkedSpan(start + one.start, start + one.stop, one.type) for one in row.spans]
                return Text(row.prompt + row.completion, [(start, start + len(row.completion))], True, marks=marks)
            text, spans = self._chat.render_answers(row)
            marks = placed_spans(row, text, spans, self.render) if row.spans else ()
            return Text(text, spans, False, self._chat.forgotten_thoughts(row, text), marks)
        except UnicodeEncodeError as error:
            return TokensieveError(
                f"text that is not valid Unicode: {error.reason} at character {error.start}",
                hint="replace lone surrogates, as with text.encode(errors='replace').decode()",
            )
        except TemplateTimeError:
            raise
        except TokensieveError as error:
            return error

    def _text_of(self, row: Conversation | PlainText, number: int) -> Text | TokensieveError:
        try:
            return self.text(row)
        except TemplateTimeError as error:
            error.number = number
            raise

    def render(self, conversation: Conversation, generation_prompt: bool = False) -> str:
        """Return the conversation as text.

        Raises:
            TokensieveError: the template refuses the conversation.
        """
        return self._chat.render(conversation, generation_prompt)

    @cached_property
    def _byte_lengths(self) -> Int64 | None:
        return byte_lengths(self.tokenizer.backend_tokenizer)

    def _tokenise(self, texts: dict[int, Text]) -> list[Tokens]:
        """Return the tokens of texts of one form, by bytes where their ids tell the places, by characters elsewhere."""
        backend = self.tokenizer.backend_tokenizer
        (plain,) = {text.plain for text in texts.values()}
        tokenised: list[Tokens] = []
        if self._byte_lengths is not None:
            sure = {number: text for number, text in texts.items() if keeps_text(backend, text.text)}
            encodings = backend.encode_batch_fast([text.text for text in sure.values()], add_special_tokens=plain)
            tokenised.append(by_bytes(sure, encodings, self._byte_lengths))
            texts = {number: text for number, text in texts.items() if number not in tokenised[0].texts}
        if texts:
            encodings = backend.encode_batch([text.text for text in texts.values()], add_special_tokens=plain)
            tokenised.append(by_characters(texts, encodings))
        return tokenised

    def _label(self, tokens: Tokens) -> list[Encoded]:
        ids, cu_seqlens = tokens.ids, tokens.cu_seqlens
        plain = any(text.plain for text in tokens.texts.values())
        mask, across = tokens.in_answers()
        marked = tokens.marked() if tokens.marks else None
        straddling = segment_counts(across, cu_seqlens).tolist()
        if plain and (eos := self.tokenizer.eos_token_id) is not None:
            lacking = (np.diff(cu_seqlens) == 0) | (np.append(ids, -1)[cu_seqlens[1:] - 1] != eos)
            ends = cu_seqlens[1:][lacking]
            ids, mask = np.insert(ids, ends, eos), np.insert(mask, ends, False)
            marked = None if marked is None else np.insert(marked, ends, 0)
            cu_seqlens = offsets(np.diff(cu_seqlens) + lacking)
            mask[cu_seqlens[1:] - 1] = True
        elif not plain:
            _until_turn_end(ids, mask, cu_seqlens, self.turn_end_ids)
        mask[cu_seqlens[:-1][np.diff(cu_seqlens) > 0]] = False  # nothing predicts the first token
        labels = np.where(mask, ids, np.int32(IGNORE_INDEX))
        encoded = [
            Encoded(ids[span], labels[span], count, not text.plain, text.forgotten)
            for span, count, text in zip(segments(cu_seqlens), straddling, tokens.texts.values(), strict=True)
        ]
        if marked is None:
            return encoded
        types, numbers = _mark_types(tokens.marks)
        marks = np.where(mask, numbers[marked], np.int32(0))
        return [
            replace(one, marks=marks[span], mark_types=types) if text.marks else one
            for span, one, text in zip(segments(cu_seqlens), encoded, tokens.texts.values(), strict=True)
        ]


def load_encoder(tokenizer: str, chat_template: str | None = None, revision: str | None = None) -> Encoder:
    """Load a tokenizer and decide on its chat template.

    Args:
        tokenizer: folder or Hub id.
        chat_template: file with a template, the template itself, or ``training`` for TRL's training version of the
            tokenizer's own; its own as it is when None.
        revision: Hub revision.

    Raises:
        TokensieveError: no tokenizer there, or a slow one; a template file that does not exist; no training version.
    """
    from transformers import AutoTokenizer

    try:
        loaded = AutoTokenizer.from_pretrained(tokenizer, revision=revision, trust_remote_code=False)
    except Exception as error:
        raise TokensieveError(
            f"no tokenizer can be loaded: {first_line(error)}", where=tokenizer, hint="a folder or a Hub id"
        ) from error
    if not loaded.is_fast:
        raise TokensieveError(
            "a slow tokenizer: it does not tell which characters a token covers",
            where=tokenizer,
            hint="add a tokenizer.json to the folder",
        )
    own = loaded.chat_template
    own = loaded.chat_template = own.get("default") if isinstance(own, dict) else own
    if chat_template == TRAINING_TEMPLATE:
        template = training_template(loaded)
    else:
        template = _template_text(chat_template) if chat_template else own or _default_template(loaded)
    loaded.chat_template = template
    _count_spaces(loaded.backend_tokenizer)
    encoder = Encoder(loaded, template, own_template=bool(chat_template or own), turn_end_ids=())
    encoder.turn_end_ids = _turn_end_ids(encoder, Path(tokenizer))
    return encoder


def tokenizer_fingerprint(encoder: Encoder) -> str:
    """Return the fingerprint of what turns text into ids: vocabulary, merges, special tokens and template."""
    tokenizer = encoder.tokenizer
    return fingerprint.of_value([tokenizer.backend_tokenizer.to_str(), tokenizer.special_tokens_map, encoder.template])


def turn_end_mask(
    input_ids: NDArray[np.integer],
    labels: NDArray[np.integer],
    cu_seqlens: NDArray[np.int64],
    turn_end_ids: Sequence[int],
) -> NDArray[np.bool_]:
    """Return bool ``[tokens]``, the trainable tokens that end an assistant turn.

    Such a token is one of ``turn_end_ids`` and the last of its run of trainable tokens.
    """
    last = last_of_runs(labels != IGNORE_INDEX, cu_seqlens)
    # A comparison for each of the few ids is faster than a search in a set.
    ends = [input_ids == token for token in turn_end_ids]
    return last & np.logical_or.reduce(ends) if ends else np.zeros_like(last)


def last_of_runs(trainable: NDArray[np.bool_], cu_seqlens: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return bool ``[tokens]``, the last token of every run of trainable tokens within an example."""
    following = np.append(trainable[1:], False)
    following[cu_seqlens[1:][np.diff(cu_seqlens) > 0] - 1] = False
    return trainable & ~following


def _count_spaces(backend: Any) -> None:
    """Have a byte-level tokenizer count a token's spaces among its characters, without changing any id.

    Otherwise a token of spaces alone covers no character, and would not be trained within an answer.
    """
    from tokenizers import processors

    processor = backend.post_processor
    for part in processor if isinstance(processor, processors.Sequence) else [processor]:
        if getattr(part, "trim_offsets", False):
            part.trim_offsets = False


def _turn_end_ids(encoder: Encoder, folder: Path) -> tuple[int, ...]:
    tokenizer = encoder.tokenizer
    found = [tokenizer.eos_token_id]
    generation_config = folder / "generation_config.json"
    if generation_config.is_file():
        eos = read_json(generation_config).get("eos_token_id")
        found += eos if isinstance(eos, list) else [eos]
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": PROBE}]
    try:
        tail = encoder.render(Conversation(messages)).rpartition(PROBE)[2]
    except TemplateTimeError:
        raise
    except TokensieveError:
        tail = ""  # the template wants something else; its own rows will show it
    special = tokenizer.added_tokens_decoder
    found += [token for token in tokenizer(tail, add_special_tokens=False)["input_ids"] if token in special][:1]
    return tuple(sorted({token for token in found if token is not None}))


def _given(row: Tokenised) -> Encoded:
    input_ids, labels = np.array(row.input_ids, dtype=np.int32), np.array(row.labels)
    labels[:1] = IGNORE_INDEX  # nothing predicts the first token
    encoded = Encoded(input_ids, np.where(labels != IGNORE_INDEX, input_ids, np.int32(IGNORE_INDEX)))
    if not row.spans:
        return encoded
    types, numbers = _mark_types(row.spans)
    marks = np.zeros_like(input_ids)
    for span, number in zip(row.spans, numbers[1:], strict=True):
        marks[span.start : span.stop] = number
    return replace(encoded, marks=np.where(labels != IGNORE_INDEX, marks, np.int32(0)), mark_types=types)


def _mark_types(marks: Sequence[MarkedSpan]) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """Return the types of marks, and int32 ``[marks + 1]``, 0 and the number from 1 of each mark's type among them."""
    types = tuple(dict.fromkeys(one.type for one in marks))
    return types, np.array([0, *(1 + types.index(one.type) for one in marks)], dtype=np.int32)


def _until_turn_end(
    ids: NDArray[np.int32], mask: NDArray[np.bool_], cu_seqlens: Int64, turn_end_ids: Sequence[int]
) -> None:
    """Clear the mask of what a template puts between a turn end and the next turn, such as a line break."""
    places = np.flatnonzero(mask)
    if len(places) == 0:
        return
    last = last_of_runs(mask, cu_seqlens)[places]
    begins = np.flatnonzero(np.append(True, last[:-1]))
    lengths = np.diff(np.append(begins, len(places)))
    ends = np.maximum.reduceat(np.where(np.isin(ids[places], turn_end_ids), places, -1), begins)
    end = np.repeat(ends, lengths)
    mask[places[(end >= 0) & (places > end)]] = False


def _default_template(tokenizer: Any) -> str:
    bos = tokenizer.bos_token_id
    begins = bos is not None and tokenizer("")["input_ids"][:1] == [bos]
    return ("{{ bos_token }}" if begins else "") + DEFAULT_CHAT_TEMPLATE


def _template_text(chat_template: str) -> str:
    if "{" in chat_template:
        return chat_template
    path = Path(chat_template).expanduser()
    if not path.is_file():
        raise TokensieveError(
            "no such chat template file", where=chat_template, hint="data.chat_template: a file, or the template itself"
        )
    return path.read_text(encoding="utf-8")


def truncate(encoded: Encoded, settings: DataSettings) -> Encoded:
    """Return at most ``max_length`` tokens of an example, from its start or its end."""
    length = settings.max_length
    if length is None or len(encoded.input_ids) <= length:
        return encoded
    part = slice(None, length) if settings.truncation == "keep-start" else slice(-length, None)
    labels = encoded.labels[part].copy()
    labels[:1] = IGNORE_INDEX
    marks = None if encoded.marks is None else np.where(labels != IGNORE_INDEX, encoded.marks[part], np.int32(0))
    return replace(encoded, input_ids=encoded.input_ids[part], labels=labels, marks=marks)
