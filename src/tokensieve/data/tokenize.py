"""The only place that tokenises: rows to token ids and labels.

A conversation is rendered to text once, the character spans of the assistant's answers are found in that
text, and the tokens that overlap a span are trainable. The spans come from the template's
``{% generation %}`` blocks where it has them. Otherwise they come from prefixes: the conversation up to
an answer, with the generation prompt, must be a prefix of the whole, or the template is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokensieve.data.formats import Conversation, Converted, PlainText, Tokenised
from tokensieve.errors import TokensieveError
from tokensieve.store.atomic import read_json
from tokensieve.types import IGNORE_INDEX

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

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
_PROBE = "7317931"  # without letters, which a template might change
_TEMPLATE_MEND = (
    "give data.chat_template a template with {% generation %} ... {% endgeneration %} around the assistant's "
    "text and turn-end token"
)


@dataclass(frozen=True)
class Encoded:
    """One tokenised row, before truncation.

    Attributes:
        input_ids: int32 ``[tokens]``.
        labels: int32 ``[tokens]``, -100 where a token is not trainable.
        straddling: tokens that hold characters of both prompt and answer; they are not trainable.
    """

    input_ids: NDArray[np.int32]
    labels: NDArray[np.int32]
    straddling: int = 0


@dataclass(frozen=True)
class Text:
    """A row as the text that is tokenised.

    Attributes:
        text: prompt and answers.
        spans: first and last character (exclusive) of each trainable answer.
        plain: True for text without a chat template, to which the tokenizer adds its special tokens.
    """

    text: str
    spans: list[tuple[int, int]]
    plain: bool


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
    _known_roles: set[str] = field(default_factory=set)

    @property
    def has_generation(self) -> bool:
        """Whether the template marks answers with ``{% generation %}``."""
        return bool(_GENERATION.search(self.template))

    def encode(self, rows: Sequence[Converted]) -> list[Encoded | TokensieveError]:
        """Tokenise rows together; a row that cannot be tokenised gives its error in place of tokens."""
        texts = [self.text(row) for row in rows]
        results: list[Encoded | TokensieveError | None] = [
            text if isinstance(text, TokensieveError) else None for text in texts
        ]
        for number, row in enumerate(rows):
            if isinstance(row, Tokenised):
                results[number] = _encoded(np.array(row.input_ids), np.array(row.labels) != IGNORE_INDEX)
        for plain in (False, True):
            group = [(n, text) for n, text in enumerate(texts) if isinstance(text, Text) and text.plain == plain]
            encodings = self._tokenise([text.text for _, text in group], special_tokens=plain)
            for (number, text), (ids, places) in zip(group, encodings, strict=True):
                results[number] = self._label(text, ids, places)
        return [result for result in results if result is not None]

    def text(self, row: Converted) -> Text | TokensieveError | None:
        """Return the text of a row, the error that it gives, or None where it is token ids already."""
        if isinstance(row, Tokenised):
            return None
        try:
            if isinstance(row, PlainText):
                text = Text(row.prompt + row.completion, [(len(row.prompt), len(row.prompt + row.completion))], True)
            else:
                text = Text(*self._render(row), False)
            text.text.encode()
        except UnicodeEncodeError as error:
            return TokensieveError(f"text that is not valid Unicode: {error.reason} at character {error.start}")
        except TokensieveError as error:
            return error
        return text

    def render(self, conversation: Conversation, generation_prompt: bool = False) -> str:
        """Return the conversation as text.

        Raises:
            TokensieveError: the template refuses the conversation.
        """
        return self._apply(conversation.messages, conversation.tools, generation_prompt)[0]

    def _label(self, text: Text, ids: list[int], places: NDArray[np.int64]) -> Encoded:
        mask, straddling = _overlap(places, text.spans)
        if text.plain and (eos := self.tokenizer.eos_token_id) is not None:
            if ids[-1:] != [eos]:
                ids, mask = [*ids, eos], np.append(mask, False)
            mask[-1] = True
        elif not text.plain and not self.has_generation:
            mask = _until_turn_end(np.array(ids), mask, self.turn_end_ids)
        return _encoded(np.array(ids, dtype=np.int32), mask, straddling)

    def _tokenise(self, texts: list[str], special_tokens: bool) -> list[tuple[list[int], NDArray[np.int64]]]:
        if not texts:
            return []
        backend = self.tokenizer.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        encodings = backend.encode_batch(texts, add_special_tokens=special_tokens)
        return [(encoding.ids, np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)) for encoding in encodings]

    def _render(self, conversation: Conversation) -> tuple[str, list[tuple[int, int]]]:
        """Return the text and the character spans of the trainable answers."""
        messages, tools = conversation.messages, conversation.tools
        text, spans = self._apply(messages, tools)
        for number in range(len(messages)):
            self._check_message(conversation, number, text)
        answers = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
        trained = [number for number in answers if number not in conversation.untrained]
        if not self.has_generation:
            return text, [self._prefix_span(messages, tools, number, text) for number in trained]
        if answers and not any(stop > start for start, stop in spans):
            raise TokensieveError("the chat template renders no {% generation %} span", mend=_TEMPLATE_MEND)
        if len(trained) == len(answers):
            return text, spans
        if len(spans) != len(answers):
            raise TokensieveError(
                f"the chat template renders {len(spans)} generation spans for {len(answers)} answers, so single "
                "answers cannot be excluded from training",
                mend=_TEMPLATE_MEND,
            )
        return text, [span for number, span in zip(answers, spans, strict=True) if number in trained]

    def _prefix_span(
        self, messages: list[dict[str, Any]], tools: list[Any] | None, answer: int, text: str
    ) -> tuple[int, int]:
        start, _ = self._apply(messages[:answer], tools, generation_prompt=True)
        stop, _ = self._apply(messages[: answer + 1], tools)
        for prefix in (start, stop):
            if not text.startswith(prefix):
                raise TokensieveError(
                    f"the chat template has no {{% generation %}} and renders message {answer} differently in a "
                    f"longer conversation ({_first_difference(prefix, text)}), so the answer cannot be found",
                    mend=_TEMPLATE_MEND,
                )
        return len(start), len(stop)

    def _check_message(self, conversation: Conversation, number: int, text: str) -> None:
        """Refuse a template that silently leaves out a message, or whose spans are beside the answers.

        A content may be missing from the text because a template rewrites it, or be there because
        another message says the same. A probe in its place tells.
        """
        message = conversation.messages[number]
        role, content = message["role"], (message.get("content") or "").strip()
        if not content or message.get("tool_calls") or (role in self._known_roles and content in text):
            return
        probed = [*conversation.messages]
        probed[number] = {**message, "content": _PROBE}
        try:
            rendered, spans = self._apply(probed, conversation.tools)
        except TokensieveError:  # a template that reads the content, JSON for instance
            rendered, spans = _PROBE if content in text else "", []
        answers = sum(other["role"] == "assistant" for other in probed)
        if _PROBE not in rendered:
            raise TokensieveError(
                f"the chat template leaves out message {number}, of the role '{role}'",
                mend="rename the role or drop the message, or give data.chat_template a template that renders it",
            )
        marked = any(_PROBE in rendered[start:stop] for start, stop in spans)
        if role == "assistant" and len(spans) == answers and not marked:
            raise TokensieveError(
                "the {% generation %} blocks of the chat template lie beside the answers",
                mend="write the blocks outside macros and {% set %}, within which transformers misplaces them",
            )
        self._known_roles.add(role)

    def _apply(
        self, messages: list[dict[str, Any]], tools: list[Any] | None, generation_prompt: bool = False
    ) -> tuple[str, list[tuple[int, int]]]:
        from transformers.utils.chat_template_utils import render_jinja_template

        try:
            rendered: Any = render_jinja_template(
                conversations=[messages],
                tools=tools,
                chat_template=self.template,
                return_assistant_tokens_mask=self.has_generation,
                add_generation_prompt=generation_prompt,
                **self.tokenizer.special_tokens_map,
            )
        except Exception as error:  # Jinja's errors, and whatever a template's own code raises
            roles = ", ".join(message["role"] for message in messages)
            raise TokensieveError(
                f"the chat template refuses the conversation with the roles {roles or '(none)'}: {error}",
                mend="change the data, or give data.chat_template a template that knows these roles",
            ) from error
        (text,), spans = rendered
        return text, [(start, stop) for start, stop in spans[0]] if spans else []


def load_encoder(tokenizer: str, chat_template: str | None = None, revision: str | None = None) -> Encoder:
    """Load a tokenizer and decide on its chat template.

    Args:
        tokenizer: folder or Hub id.
        chat_template: file with a template, or the template itself; the tokenizer's own when None.
        revision: Hub revision.

    Raises:
        TokensieveError: no tokenizer there, or a slow one; a template file that does not exist.
    """
    from transformers import AutoTokenizer

    try:
        loaded = AutoTokenizer.from_pretrained(tokenizer, revision=revision, trust_remote_code=False)
    except Exception as error:
        raise TokensieveError(
            f"no tokenizer can be loaded: {_first_line(error)}", where=tokenizer, mend="a folder or a Hub id"
        ) from error
    if not loaded.is_fast:
        raise TokensieveError(
            "a slow tokenizer: it does not tell which characters a token covers",
            where=tokenizer,
            mend="add a tokenizer.json to the folder",
        )
    own = loaded.chat_template
    own = own.get("default") if isinstance(own, dict) else own
    template = _template_text(chat_template) if chat_template else own or _default_template(loaded)
    loaded.chat_template = template
    _count_spaces(loaded.backend_tokenizer)
    encoder = Encoder(loaded, template, own_template=bool(chat_template or own), turn_end_ids=())
    encoder.turn_end_ids = _turn_end_ids(encoder, Path(tokenizer))
    return encoder


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
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": _PROBE}]
    try:
        tail = encoder.render(Conversation(messages)).rpartition(_PROBE)[2]
    except TokensieveError:
        tail = ""  # the template wants something else; its own rows will show it
    special = tokenizer.added_tokens_decoder
    found += [token for token in tokenizer(tail, add_special_tokens=False)["input_ids"] if token in special][:1]
    return tuple(sorted({token for token in found if token is not None}))


def _encoded(input_ids: NDArray[Any], mask: NDArray[np.bool_], straddling: int = 0) -> Encoded:
    input_ids = input_ids.astype(np.int32)
    mask[:1] = False  # nothing predicts the first token
    return Encoded(input_ids, np.where(mask, input_ids, IGNORE_INDEX).astype(np.int32), straddling)


def _overlap(places: NDArray[np.int64], spans: list[tuple[int, int]]) -> tuple[NDArray[np.bool_], int]:
    """Return bool ``[tokens]``, tokens that lie in a span, and how many lie across the start of one."""
    start, stop = places[:, 0], places[:, 1]
    mask = np.zeros(len(places), dtype=bool)
    across = np.zeros(len(places), dtype=bool)
    for first, last in spans:
        mask |= (stop > first) & (start < last) & (stop > start)
        across |= (start < first) & (stop > first)
    return mask & ~across, int(across.sum())


def _until_turn_end(input_ids: NDArray[Any], mask: NDArray[np.bool_], turn_end_ids: Sequence[int]) -> NDArray[np.bool_]:
    """Drop what a template puts between a turn end and the next turn, such as a line break."""
    mask = mask.copy()
    ends = np.isin(input_ids, turn_end_ids) & mask
    for stop in np.flatnonzero(last_of_runs(mask, np.array([0, len(mask)]))):
        start = stop - int(np.argmin(np.append(mask[: stop + 1][::-1], False))) + 1
        found = np.flatnonzero(ends[start : stop + 1])
        if len(found):
            mask[start + found[-1] + 1 : stop + 1] = False
    return mask


def _default_template(tokenizer: Any) -> str:
    bos = tokenizer.bos_token_id
    begins = bos is not None and tokenizer("")["input_ids"][:1] == [bos]
    return ("{{ bos_token }}" if begins else "") + DEFAULT_CHAT_TEMPLATE


def _template_text(chat_template: str) -> str:
    if "{" in chat_template:
        return chat_template
    path = Path(chat_template).expanduser()
    if not path.is_file():
        raise TokensieveError("no such chat template file", where=chat_template)
    return path.read_text(encoding="utf-8")


def _first_difference(prefix: str, text: str) -> str:
    at = next((i for i, (a, b) in enumerate(zip(prefix, text, strict=False)) if a != b), min(len(prefix), len(text)))
    return f"{prefix[at : at + 20]!r} against {text[at : at + 20]!r} at character {at}"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
