"""Marks from the characters of an answer to its tokens, in every template and tokenizer that tests have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokensieve.data import prepare as prepare_module
from tokensieve.data.formats import Conversation, PlainText, Tokenised, convert
from tokensieve.data.marks import MarkedSpan
from tokensieve.data.prepare import prepare
from tokensieve.data.settings import DataSettings
from tokensieve.data.tokenize import Encoded, load_encoder, truncate
from tokensieve.errors import TokensieveError
from tokensieve.store.manifest import open_manifest
from tokensieve.store.shards import shard_name

STRIPPING = (
    "{% for m in messages %}{% if m.role == 'assistant' %}"
    "<|assistant|>{% generation %}{{ m.content | trim }}<|end|>{% endgeneration %}"
    "{% else %}<|user|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
)
THINKING = STRIPPING.replace(
    "{{ m.content | trim }}", "<think>{{ m.reasoning_content }}</think>{{ m.content.split('</think>')[-1] | trim }}"
)
SHOUTING = STRIPPING.replace("m.content | trim", "m.content | upper")
ASKED = {"role": "user", "content": "Is the sea dry?"}
ANSWER = "The sea is dry, and cold."


def answered(text, *spans, **rest):
    row = {"messages": [ASKED, {"role": "assistant", "content": text, "spans": list(spans), **rest}]}
    return convert(row)


def encode(encoder, row) -> Encoded:
    (result,) = encoder.encode([row])
    if isinstance(result, TokensieveError):
        raise result
    return result


def marked_texts(encoder, encoded: Encoded) -> list[tuple[str, str]]:
    """Each marked token's text, with its type."""
    assert encoded.marks is not None
    return [
        (encoder.tokenizer.decode([token]), encoded.mark_types[mark - 1])
        for token, mark in zip(encoded.input_ids.tolist(), encoded.marks.tolist(), strict=True)
        if mark
    ]


def before_first_mark(encoder, encoded: Encoded) -> str:
    assert encoded.marks is not None
    return encoder.tokenizer.decode(encoded.input_ids[: int(np.flatnonzero(encoded.marks)[0])])


def joined(encoder, encoded: Encoded) -> str:
    return "".join(text for text, _ in marked_texts(encoder, encoded))


def test_a_token_is_marked_where_it_overlaps_a_span(tiny_encoder):
    encoded = encode(tiny_encoder, answered(ANSWER, [11, 14, "wrong"], [20, 24, "odd"]))
    assert joined(tiny_encoder, encoded).split() == ["dry", "cold"]
    assert {kind for _, kind in marked_texts(tiny_encoder, encoded)} == {"wrong", "odd"}
    assert encoded.marks is not None
    assert encoded.marks.dtype == np.int32
    assert not encoded.marks[encoded.labels == -100].any()
    plain = encode(tiny_encoder, answered(ANSWER))
    assert plain.marks is None
    assert np.array_equal(plain.input_ids, encoded.input_ids)
    assert np.array_equal(plain.labels, encoded.labels)


def test_a_span_of_a_space_marks_the_token_that_begins_with_it(tiny_encoder):
    encoded = encode(tiny_encoder, answered("one two", [3, 4]))
    (first, _), *rest = marked_texts(tiny_encoder, encoded)
    assert first.startswith(" ")
    assert not rest


def naive(encoder, row: Conversation) -> list[bool]:
    """Whether each token of an answer has a marked character, from the characters that the tokenizer reports."""
    text = encoder.render(row)
    content = row.messages[1]["content"]
    start = text.index(content, text.index("<|assistant|>") + len("<|assistant|>"))
    marked = {start + at for span in row.spans.get(1, ()) for at in range(span.start, span.stop)}
    places = encoder.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return [bool(marked.intersection(range(*place))) for place in places]


@given(st.text(alphabet="ab 日🍎é\n", min_size=1, max_size=12), st.data())
def test_marks_are_those_of_a_naive_loop(tiny_encoder, text, data):
    start = data.draw(st.integers(0, len(text) - 1))
    stop = data.draw(st.integers(start + 1, len(text)))
    row = answered(text, [start, stop])
    assert isinstance(row, Conversation)
    encoded = encode(tiny_encoder, row)
    found = [False] * len(encoded.labels) if encoded.marks is None else (encoded.marks > 0).tolist()
    # The tokenizer reports whole characters for parts of one; so do the marks of whole characters.
    expected = [one and label != -100 for one, label in zip(naive(tiny_encoder, row), encoded.labels, strict=True)]
    assert found == expected


def test_marks_of_several_rows_and_answers_stay_apart(tiny_encoder):
    turns = [ASKED, {"role": "assistant", "content": "A b c.", "spans": [[2, 3, "x"]]}]
    several = convert({"messages": [*turns, ASKED, {"role": "assistant", "content": "d e f.", "spans": [[0, 1, "y"]]}]})
    rows = [answered("no mark"), several, PlainText("Q: ", "g h", (MarkedSpan(2, 3, "z"),)), answered("i", [0, 1, "x"])]
    found = tiny_encoder.encode(rows)
    assert found[0].marks is None
    texts = [[(text.strip(), kind) for text, kind in marked_texts(tiny_encoder, one)] for one in found[1:]]
    assert texts == [[("b", "x"), ("d", "y")], [("h", "z")], [("i", "x")]]


@pytest.mark.parametrize("template", [STRIPPING, THINKING])
def test_a_template_that_strips_answers(make_tokenizer, template):
    encoder = load_encoder(str(make_tokenizer(chat_template=template)))
    encoded = encode(encoder, answered("  The sea is dry. ", [0, 1], [6, 9]))
    assert joined(encoder, encoded).split() == ["sea"]


def test_thoughts_that_say_the_same_are_not_marked(make_tokenizer):
    encoder = load_encoder(str(make_tokenizer(chat_template=THINKING)))
    with_reasoning = answered("It is dry.", [6, 9], reasoning_content="It is dry. Or so.")
    encoded = encode(encoder, with_reasoning)
    assert joined(encoder, encoded).strip() == "dry"
    text = before_first_mark(encoder, encoded)
    assert text.rstrip().endswith("</think>It is")
    within = answered("<think>It is dry.</think> It is dry.", [31, 34])
    encoded = encode(encoder, within)
    text = before_first_mark(encoder, encoded)
    assert text.rstrip().endswith("</think>It is")


def test_a_template_that_rewrites_the_answer_is_refused(make_tokenizer):
    encoder = load_encoder(str(make_tokenizer(chat_template=SHOUTING)))
    with pytest.raises(TokensieveError, match="rewrites the text of message 1"):
        encode(encoder, answered(ANSWER, [11, 14]))
    encode(encoder, answered(ANSWER))


def test_token_ids_with_spans(tiny_encoder):
    row = Tokenised([5, 6, 7, 8], [-100, 6, 7, 8], (MarkedSpan(0, 2, "x"), MarkedSpan(3, 4, "y")))
    encoded = encode(tiny_encoder, row)
    assert encoded.marks is not None
    assert [encoded.mark_types[mark - 1] if mark else "" for mark in encoded.marks] == ["", "x", "", "y"]


@pytest.mark.parametrize("truncation", ["keep-start", "keep-end"])
def test_marks_are_cut_with_their_tokens(tiny_encoder, truncation):
    encoded = encode(tiny_encoder, answered(ANSWER, [0, len(ANSWER)]))
    assert encoded.marks is not None
    settings = DataSettings(max_length=8, truncation=truncation)
    cut = truncate(encoded, settings)
    assert cut.marks is not None
    part = slice(None, 8) if truncation == "keep-start" else slice(-8, None)
    assert np.array_equal(cut.marks[1:], encoded.marks[part][1:])
    assert cut.marks[0] == 0


ROWS = [{"question": "Is the sea dry?", "answer": f"The sea is dry {n}."} for n in range(20)]
MARKED = [{**row, "spans": [[11, 14, "wrong" if n % 2 else "odd"]] if n > 2 else []} for n, row in enumerate(ROWS)]


def prepared(encoder, path, store, **settings):
    return prepare(DataSettings(files=(str(path),), **settings), encoder, store, lambda _: None)


def test_marks_on_disk(tmp_path, write_jsonl, tiny_encoder, monkeypatch):
    monkeypatch.setattr(prepare_module, "SHARD_TOKENS", 60)
    store = prepared(tiny_encoder, write_jsonl(*MARKED), tmp_path / "store")
    assert store.shards > 2
    assert store.mark_types == ("wrong", "odd")
    seen: list[tuple[str, str]] = []
    for number, shard in enumerate(store):
        marks = store.marks(number)
        assert marks.dtype == np.uint8
        assert marks.shape == shard.labels.shape
        statistics = store.statistics(shard, {}, 0)
        assert statistics.marks is not None
        assert np.array_equal(statistics.marks, marks)
        assert statistics.mark_types == store.mark_types
        seen += [
            (tiny_encoder.tokenizer.decode([token]), store.mark_types[mark - 1])
            for token, mark in zip(shard.input_ids.tolist(), marks.tolist(), strict=True)
            if mark
        ]
    assert "".join(text for text, _ in seen).replace(" ", "") == "dry" * 17
    assert list(dict.fromkeys(kind for _, kind in seen)) == ["wrong", "odd"]
    first = open_manifest(store.folder).read(shard_name(0))[1]
    assert "marks" not in first  # its rows have none


def test_data_without_marks_writes_none(tmp_path, write_jsonl, tiny_encoder):
    store = prepared(tiny_encoder, write_jsonl(*ROWS), tmp_path / "store")
    assert store.mark_types == ()
    assert not store.marks(0).any()
    assert "marks" not in open_manifest(store.folder).read(shard_name(0))[1]
    statistics = store.statistics(store.read(0), {}, 0)
    assert (statistics.marks, statistics.mark_types) == (None, ())


def test_the_fingerprint_depends_on_marks_but_not_on_shards(tmp_path, write_jsonl, tiny_encoder, monkeypatch):
    plain = prepared(tiny_encoder, write_jsonl(*ROWS), tmp_path / "one")
    marked = prepared(tiny_encoder, write_jsonl(*MARKED, name="marked.jsonl"), tmp_path / "one")
    renamed = [{**row, "spans": [[*span[:2], "x" + span[2]] for span in row["spans"]]} for row in MARKED]
    others = prepared(tiny_encoder, write_jsonl(*renamed, name="renamed.jsonl"), tmp_path / "one")
    assert len({plain.fingerprint, marked.fingerprint, others.fingerprint}) == 3
    unmarked = [{**row, "spans": []} for row in ROWS]
    assert prepared(tiny_encoder, write_jsonl(*unmarked), tmp_path / "one").fingerprint == plain.fingerprint
    monkeypatch.setattr(prepare_module, "SHARD_TOKENS", 60)
    again = prepared(tiny_encoder, write_jsonl(*MARKED, name="marked.jsonl"), tmp_path / "two")
    assert again.shards > marked.shards
    assert again.fingerprint == marked.fingerprint


def test_more_types_than_a_byte_has_numbers(tmp_path, write_jsonl, tiny_encoder):
    rows = [{**ROWS[0], "spans": [[11, 14, f"kind {n}"]]} for n in range(256)]
    assert len(prepared(tiny_encoder, write_jsonl(*rows[:255]), tmp_path / "store").mark_types) == 255
    with pytest.raises(TokensieveError, match="more than 255 types") as error:
        prepared(tiny_encoder, write_jsonl(*rows), tmp_path / "store")
    assert error.value.where.endswith("rows.jsonl:256")


def test_corrected_answers_in_place_of_the_given_ones(tmp_path, write_jsonl, tiny_encoder):
    rows = [{**ROWS[0], "corrected": "The sea is wet."}, ROWS[1]]
    rows.append({"prompt": "Q: ", "completion": "dry", "corrected": "wet"})
    path = write_jsonl(*rows)
    given_store = prepared(tiny_encoder, path, tmp_path / "store")
    corrected = prepared(tiny_encoder, path, tmp_path / "store", answers="corrected")
    assert given_store.mark_types == ("corrected",)
    assert corrected.mark_types == ()
    examples = corrected.read(0)
    texts = tiny_encoder.tokenizer.decode(examples.labels[examples.labels != -100])
    assert texts == "The sea is wet.<|end|>The sea is dry 1.<|end|>wet<|end|>"
    settings = DataSettings(files=("x",), answers="corrected")
    assert settings.of_others(("y",), replace(settings.entries[0])).answers == "given"


def test_counts_of_marks_by_type(tmp_path, write_jsonl, tiny_encoder):
    rows = [
        {**ROWS[0], "spans": [[0, 7, "odd"], [11, 14, "wrong"]]},
        {**ROWS[1], "spans": [[12, 13, "wrong"]]},
        {**ROWS[2], "spans": []},
    ]
    counts = prepared(tiny_encoder, write_jsonl(*rows), tmp_path / "store").counts
    tokens = [len(tiny_encoder.tokenizer(text, add_special_tokens=False).input_ids) for text in ("The sea", " dry")]
    assert counts.marks["odd"] == {"rows": 1, "tokens": tokens[0], "words": 2}
    assert (counts.marks["wrong"]["rows"], counts.marks["wrong"]["words"]) == (2, 2)
    assert counts.marked["rows"] == 2
    assert counts.marked["words"] == 4
    assert counts.marked["tokens"] == sum(found["tokens"] for found in counts.marks.values())
    share = f"({100 * counts.marked['tokens'] / counts.trainable_tokens:.1f} % of the trainable tokens)"
    first, *others = counts.marks_in_words()
    assert first == f"marked: 2 rows, {counts.marked['tokens']} tokens, 4 words {share}"
    assert others[0] == f"  odd: 1 rows, {tokens[0]} tokens, 2 words"
    assert not list(prepared(tiny_encoder, write_jsonl(*ROWS), tmp_path / "store").counts.marks_in_words())


def test_marked_tokens_that_are_cut_are_counted(tmp_path, write_jsonl, tiny_encoder):
    row = {**ROWS[0], "spans": [[0, 15]]}
    whole = prepared(tiny_encoder, write_jsonl(row), tmp_path / "store").counts
    length = whole.lengths["1"] - 4
    cut = prepared(tiny_encoder, write_jsonl(row), tmp_path / "store", max_length=length).counts
    assert whole.marked_tokens_cut == 0
    assert cut.marked_tokens_cut == whole.marked["tokens"] - cut.marked["tokens"] > 0
    assert f"{cut.marked_tokens_cut} of these marked" in " ".join(cut.warnings())
