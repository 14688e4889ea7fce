from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import AddedToken, normalizers, pre_tokenizers, processors

from tokensieve.data.formats import Conversation, PlainText, Tokenised
from tokensieve.data.tokenize import DEFAULT_CHAT_TEMPLATE, Encoded, load_encoder, turn_end_mask
from tokensieve.errors import TokensieveError

CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "<|assistant|>{% generation %}{{ message['content'] }}<|end|>{% endgeneration %}"
    "{% else %}<|user|>{{ message['content'] }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
PREFIX_TEMPLATE = re.sub(r"\{% (end)?generation %\}", "", CHAT_TEMPLATE)
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
HISTORY_WITHOUT_THOUGHTS = CHATML.replace(
    "message['content']", "(message['content'] if loop.last else message['content'].split('</think>')[-1])"
)
CHATML_TOKENS = ["<|endoftext|>", "<|pad|>", "<|im_start|>", "<|im_end|>"]


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **rest):
    return {"role": "assistant", "content": text, **rest}


def encode(encoder, row) -> Encoded:
    (result,) = encoder.encode([row])
    if isinstance(result, TokensieveError):
        raise result
    return result


def runs(encoder, encoded) -> list[str]:
    """The text of each run of trainable tokens."""
    mask = encoded.labels != -100
    assert np.array_equal(encoded.labels[mask], encoded.input_ids[mask])
    edges = [0, *(np.flatnonzero(mask[1:] != mask[:-1]) + 1).tolist(), len(mask)]
    return [encoder.tokenizer.decode(encoded.input_ids[a:b]) for a, b in pairwise(edges) if mask[a]]


@pytest.fixture(scope="module")
def chatml(make_tokenizer):
    return load_encoder(str(make_tokenizer(special_tokens=CHATML_TOKENS, chat_template=CHATML, eos="<|im_end|>")))


@pytest.fixture(scope="module")
def bare_folder(make_tokenizer):
    return make_tokenizer(chat_template=None, eos="<|endoftext|>")


CHAT = Conversation(
    [
        {"role": "system", "content": "Be kind."},
        user("Who are you?"),
        assistant("I am a model."),
        user("How many apples? 日本"),
        assistant("Two apples 🍎🍎!\n\n  Really."),
    ]
)


def test_every_assistant_turn_with_its_turn_end_is_trainable_and_nothing_else(tiny_encoder):
    encoded = encode(tiny_encoder, CHAT)
    assert runs(tiny_encoder, encoded) == ["I am a model.<|end|>", "Two apples 🍎🍎!\n\n  Really.<|end|>"]
    text = tiny_encoder.tokenizer.decode(encoded.input_ids)
    assert text == (
        "<|user|>Be kind.<|end|><|user|>Who are you?<|end|><|assistant|>I am a model.<|end|>"
        "<|user|>How many apples? 日本<|end|><|assistant|>Two apples 🍎🍎!\n\n  Really.<|end|>"
    )
    assert encoded.input_ids.dtype == encoded.labels.dtype == np.int32
    assert encoded.straddling == 0


@pytest.mark.parametrize("messages", [CHAT.messages, CHAT.messages[1:3], [user("a"), assistant("")]])
def test_prefixes_and_generation_blocks_give_the_same_labels(tiny_encoder, tiny_tokenizer_folder, messages):
    prefixes = load_encoder(str(tiny_tokenizer_folder), PREFIX_TEMPLATE)
    assert tiny_encoder.has_generation
    assert not prefixes.has_generation
    one, two = (encode(encoder, Conversation(messages)) for encoder in (tiny_encoder, prefixes))
    assert np.array_equal(one.input_ids, two.input_ids)
    assert np.array_equal(one.labels, two.labels)


def test_what_follows_the_turn_end_is_not_trainable(chatml):
    encoded = encode(chatml, CHAT)
    assert runs(chatml, encoded) == ["I am a model.<|im_end|>", "Two apples 🍎🍎!\n\n  Really.<|im_end|>"]
    assert chatml.tokenizer.decode(encoded.input_ids).endswith("Really.<|im_end|>\n")
    assert encoded.labels[-1] == -100


def test_nor_is_it_where_the_template_marks_it_with_the_answer(make_tokenizer):
    marked = CHAT_TEMPLATE.replace("<|end|>{% endgeneration %}", "<|end|>\n\n{% endgeneration %}")
    encoder = load_encoder(str(make_tokenizer(chat_template=marked)))
    encoded = encode(encoder, CHAT)
    assert runs(encoder, encoded) == ["I am a model.<|end|>", "Two apples 🍎🍎!\n\n  Really.<|end|>"]
    cu_seqlens = np.array([0, len(encoded.labels)])
    assert turn_end_mask(encoded.input_ids, encoded.labels, cu_seqlens, encoder.turn_end_ids).sum() == 2


def test_a_template_that_renders_history_differently_is_refused(chatml, make_tokenizer):
    folder = make_tokenizer(special_tokens=CHATML_TOKENS, chat_template=HISTORY_WITHOUT_THOUGHTS, eos="<|im_end|>")
    encoder = load_encoder(str(folder))
    thinking = [user("2+2?"), assistant("<think>easy</think>4"), user("Sure?"), assistant("Yes")]
    with pytest.raises(TokensieveError, match="renders message 1 differently in a longer conversation") as error:
        encode(encoder, Conversation(thinking))
    assert "<think>" in error.value.what
    assert "generation" in error.value.hint
    last = encode(encoder, Conversation(thinking[:2]))
    assert runs(encoder, last) == ["<think>easy</think>4<|im_end|>"]


def test_a_rewritten_answer_is_not_mistaken_for_an_unknown_role(make_tokenizer):
    template = CHAT_TEMPLATE.replace(
        "{{ message['content'] }}<|end|>{% end", "{{ message['content'] | trim | upper }}{% end"
    )
    encoder = load_encoder(str(make_tokenizer(chat_template=template)))
    encoded = encode(encoder, Conversation([user("a"), assistant(" tokensieve \n")]))
    assert runs(encoder, encoded) == ["TOKENSIEVE"]


@pytest.mark.parametrize("number", [0, 2])
def test_single_answers_can_be_excluded(tiny_encoder, chatml, number):
    messages = [assistant("One."), user("And?"), assistant("Two."), user("So?"), assistant("Three.")]
    conversation = Conversation(messages, untrained=frozenset({number, 1}))
    kept = [m["content"] for n, m in enumerate(messages) if m["role"] == "assistant" and n != number]
    for encoder, end in ((tiny_encoder, "<|end|>"), (chatml, "<|im_end|>")):
        assert runs(encoder, encode(encoder, conversation)) == [text + end for text in kept]


def test_an_excluded_user_message_changes_nothing(make_tokenizer):
    template = CHAT_TEMPLATE.replace("{% generation %}", "{% generation %}{% endgeneration %}{% generation %}")
    encoder = load_encoder(str(make_tokenizer(chat_template=template)))  # two spans an answer
    messages = CHAT.messages[1:]
    everything = encode(encoder, Conversation(messages))
    assert np.array_equal(encode(encoder, Conversation(messages, untrained=frozenset({0}))).labels, everything.labels)
    with pytest.raises(TokensieveError, match="4 generation spans for 2 answers"):
        encode(encoder, Conversation(messages, untrained=frozenset({1})))


def test_a_template_without_any_generation_span(make_tokenizer):
    template = CHAT_TEMPLATE.replace("== 'assistant'", "== 'model'")
    encoder = load_encoder(str(make_tokenizer(chat_template=template)))
    with pytest.raises(TokensieveError, match=r"renders no \{% generation %\} span") as error:
        encode(encoder, Conversation(CHAT.messages))
    assert "endgeneration" in error.value.hint


@pytest.mark.parametrize(
    "turn",
    [
        "{% macro turn(m) %}<|assistant|>THE ANSWER: BODY{% endmacro %}{{ turn(message) }}",
        "{% set m = message %}{% set turn %}<|assistant|>THE ANSWER: BODY{% endset %}{{ turn }}",
    ],
)
def test_generation_spans_that_transformers_misplaces_are_refused(tiny_tokenizer_folder, turn):
    body = "{% generation %}{{ m['content'] }}<|end|>{% endgeneration %}"
    template = (
        "{% for message in messages %}{% if message['role'] == 'assistant' %}"
        + turn.replace("BODY", body)
        + "{% else %}"
        "<|user|>{{ message['content'] }}<|end|>{% endif %}{% endfor %}"
    )
    encoder = load_encoder(str(tiny_tokenizer_folder), template)
    for _ in range(2):
        with pytest.raises(TokensieveError, match=r"blocks of the chat template lie beside the answers"):
            encode(encoder, Conversation([user("a"), assistant("One."), user("b"), assistant("Two.")]))


def test_a_template_that_trains_the_last_answer_alone(tiny_tokenizer_folder):
    template = (
        "{% for m in messages %}<|{{ m['role'] }}|>{% if m['role'] == 'assistant' and loop.last %}{% generation %}"
        "{{ m['content'] }}<|end|>{% endgeneration %}{% else %}{{ m['content'] }}<|end|>{% endif %}{% endfor %}"
    )
    encoder = load_encoder(str(tiny_tokenizer_folder), template)
    encoded = encode(encoder, Conversation([user("a"), assistant("One."), user("b"), assistant("Two.")]))
    assert runs(encoder, encoded) == ["Two.<|end|>"]


def test_a_conversation_without_an_answer_has_nothing_to_train(tiny_encoder, chatml):
    for encoder in (tiny_encoder, chatml):
        assert (encode(encoder, Conversation([user("Hi")])).labels == -100).all()


IGNORES_TOOLS = CHATML.replace("{{ '<|im", "{% if message['role'] != 'tool' %}{{ '<|im", 1).replace(
    "'\n' }}{% endfor", "'\n' }}{% endif %}{% endfor", 1
)


@pytest.mark.parametrize("content", ["the answer is 2", "2"])
def test_a_role_that_the_template_leaves_out_is_refused(make_tokenizer, content):
    encoder = load_encoder(
        str(make_tokenizer(special_tokens=CHATML_TOKENS, chat_template=IGNORES_TOOLS, eos="<|im_end|>"))
    )
    messages = [user("1+1 is 2, no?"), assistant("Let me see"), {"role": "tool", "content": content}, assistant("2")]
    for _ in range(2):  # the second time as well
        with pytest.raises(TokensieveError, match="leaves out message 2, of the role 'tool'"):
            encode(encoder, Conversation(messages))
    encode(encoder, Conversation(messages[:2]))


def test_a_role_that_the_template_refuses_is_named(make_tokenizer):
    template = CHAT_TEMPLATE.replace(
        "{% else %}", "{% elif message['role'] != 'user' %}{{ raise_exception('no ' + message['role']) }}{% else %}", 1
    )
    encoder = load_encoder(str(make_tokenizer(chat_template=template)))
    with pytest.raises(TokensieveError, match="roles system, user, assistant, user, assistant: no system"):
        encode(encoder, CHAT)


def test_a_bad_row_does_not_spoil_its_batch(tiny_encoder):
    rows = [CHAT, Conversation(CHAT.messages, tools=[3]), PlainText("a \ud800", "b"), PlainText("a", "b")]
    found = tiny_encoder.encode(rows)
    assert [isinstance(item, TokensieveError) for item in found] == [False, True, True, False]
    assert "not valid Unicode" in str(found[2])
    assert np.array_equal(found[0].labels, encode(tiny_encoder, CHAT).labels)


def test_tool_calls_and_tools_reach_the_template(make_tokenizer):
    template = (
        "{% if tools %}<|user|>{{ tools | tojson }}<|end|>{% endif %}"
        "{% for message in messages %}{% if message['role'] == 'assistant' %}<|assistant|>{% generation %}"
        "{{ message['content'] }}{% for call in message['tool_calls'] or [] %}CALL {{ call.function | tojson }}"
        "{% endfor %}<|end|>{% endgeneration %}"
        "{% else %}<|user|>{{ message['content'] }}<|end|>{% endif %}{% endfor %}"
    )
    encoder = load_encoder(str(make_tokenizer(chat_template=template)))
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": None}}}
    messages = [
        user("1+?"),
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "content": "1"},
        assistant("1"),
    ]
    tools = [{"type": "function", "function": {"name": "add", "parameters": {"a": {"default": None}}}}]
    encoded = encode(encoder, Conversation(messages, tools))
    assert runs(encoder, encoded) == ['CALL {"name": "add", "arguments": {"a": 1, "b": null}}<|end|>', "1<|end|>"]
    assert '"default": null' in encoder.tokenizer.decode(encoded.input_ids)


def test_the_default_template_of_a_tokenizer_without_one(bare_folder):
    encoder = load_encoder(str(bare_folder))
    assert not encoder.own_template
    assert encoder.template == DEFAULT_CHAT_TEMPLATE
    encoded = encode(encoder, CHAT)
    assert encoder.tokenizer.decode(encoded.input_ids) == (
        "<|system|>\nBe kind.\n<|user|>\nWho are you?\n<|assistant|>\nI am a model.<|endoftext|>\n"
        "<|user|>\nHow many apples? 日本\n<|assistant|>\nTwo apples 🍎🍎!\n\n  Really.<|endoftext|>\n"
    )
    assert runs(encoder, encoded) == ["I am a model.<|endoftext|>", "Two apples 🍎🍎!\n\n  Really.<|endoftext|>"]
    prompt = encoder.render(Conversation(CHAT.messages[:2]), generation_prompt=True)
    assert prompt.endswith("<|user|>\nWho are you?\n<|assistant|>\n")


def test_the_default_template_begins_as_plain_text_of_the_tokenizer_does(make_tokenizer):
    bos = processors.TemplateProcessing(single="<|user|> $A", special_tokens=[("<|user|>", 2)])
    folder = make_tokenizer(chat_template=None, post_processor=bos, bos_token="<|user|>")
    encoder = load_encoder(str(folder))
    assert not encoder.own_template
    assert encoder.tokenizer.bos_token_id == 2
    for row in (CHAT, PlainText("a", "b")):
        assert encode(encoder, row).input_ids[:2].tolist().count(2) == 1


def test_a_tokenizer_without_eos(make_tokenizer):
    encoder = load_encoder(str(make_tokenizer(chat_template=None, eos=None)))
    assert encoder.turn_end_ids == ()
    assert runs(encoder, encode(encoder, CHAT))[0] == "I am a model."
    assert runs(encoder, encode(encoder, PlainText("a", " b"))) == [" b"]


def test_plain_text_is_trained_from_the_completion_to_eos(tiny_encoder):
    encoded = encode(tiny_encoder, PlainText("What is the sum?", " The sum is 72."))
    assert runs(tiny_encoder, encoded) == [" The sum is 72.<|end|>"]
    assert tiny_encoder.tokenizer.decode(encoded.input_ids) == "What is the sum? The sum is 72.<|end|>"
    once = encode(tiny_encoder, PlainText("What is the sum?", " The sum is 72.<|end|>"))
    assert np.array_equal(once.input_ids, encoded.input_ids)
    assert np.array_equal(once.labels, encoded.labels)


def test_eos_that_the_tokenizer_adds_is_trainable_and_not_doubled(make_tokenizer):
    closing = processors.TemplateProcessing(single="$A <|end|>", special_tokens=[("<|end|>", 4)])
    encoder = load_encoder(str(make_tokenizer(post_processor=closing)))
    encoded = encode(encoder, PlainText("Q", " A"))
    assert encoded.input_ids.tolist().count(4) == 1
    assert runs(encoder, encoded) == [" A<|end|>"]


def test_the_first_token_is_never_trainable(tiny_encoder):
    encoded = encode(tiny_encoder, PlainText("", "The sea is wide."))
    assert encoded.labels[0] == -100
    assert (encoded.labels[1:] != -100).all()
    assert (encode(tiny_encoder, PlainText("", "")).labels == -100).all()
    assert encode(tiny_encoder, Tokenised([7, 8], [7, 8])).labels.tolist() == [-100, 8]
    assert len(encode(tiny_encoder, Tokenised([], [])).labels) == 0


def test_a_token_across_prompt_and_answer_is_counted_and_not_trained(tiny_encoder):
    whole = tiny_encoder.tokenizer("What is the capital")["input_ids"]
    assert tiny_encoder.tokenizer.decode(whole[-1]) == " capital"
    encoded = encode(tiny_encoder, PlainText("What is the ", "capital"))
    assert encoded.input_ids[:-1].tolist() == whole
    assert encoded.straddling == 1
    assert runs(tiny_encoder, encoded) == ["<|end|>"]


def test_characters_that_are_split_over_tokens_are_trained_whole(tiny_encoder):
    encoded = encode(tiny_encoder, PlainText("日", "本🎉"))
    assert runs(tiny_encoder, encoded) == ["本🎉<|end|>"]
    assert (encoded.labels != -100).sum() > 4


@pytest.mark.parametrize("trim", [True, False])
def test_tokens_of_spaces_alone_are_trained(make_tokenizer, trim):
    encoder = load_encoder(str(make_tokenizer(post_processor=processors.ByteLevel(trim_offsets=trim))))
    code = "if x:\n        y\n\n    z   "
    assert runs(encoder, encode(encoder, PlainText("Q:", code))) == [code + "<|end|>"]
    assert runs(encoder, encode(encoder, Conversation([user("code"), assistant(code)]))) == [code + "<|end|>"]


def test_spaces_count_in_a_chain_of_post_processors_too(make_tokenizer):
    bos = processors.TemplateProcessing(single="<|user|> $A", special_tokens=[("<|user|>", 2)])
    chain = processors.Sequence([processors.ByteLevel(trim_offsets=True), bos])
    encoder = load_encoder(str(make_tokenizer(post_processor=chain)))
    assert runs(encoder, encode(encoder, PlainText("Q:", " \n        y"))) == [" \n        y<|end|>"]


TEXTS = st.text(max_size=12) | st.sampled_from(["How many apples?", "The sum is 72.", "<|end"])


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=3))
@example([("日", " "), ("\n", "🎉")])
def test_trainable_tokens_decode_to_the_answers(tiny_encoder, turns):
    messages = [message for ask, answer in turns for message in (user(ask), assistant(answer))]
    encoded = encode(tiny_encoder, Conversation(messages))
    assert runs(tiny_encoder, encoded) == [answer + "<|end|>" for _, answer in turns]


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5))
def test_a_row_is_encoded_the_same_alone_and_in_a_batch(tiny_encoder, texts):
    rows = [
        PlainText(*pair) if n % 2 else Conversation([user(pair[0]), assistant(pair[1])]) for n, pair in enumerate(texts)
    ]
    for row, found in zip(rows, tiny_encoder.encode(rows), strict=True):
        alone = encode(tiny_encoder, row)
        assert np.array_equal(found.input_ids, alone.input_ids)
        assert np.array_equal(found.labels, alone.labels)


def test_batches_of_many_parts_keep_their_order(tiny_encoder, monkeypatch):
    rows = [CHAT, PlainText("a", "b"), Tokenised([7, 8], [7, 8]), Conversation(CHAT.messages[1:3]), PlainText("", "")]
    wanted = [encode(tiny_encoder, row) for row in rows]
    monkeypatch.setattr("tokensieve.data.tokenize._ROWS_AT_ONCE", 2)
    for found, alone in zip(tiny_encoder.encode(rows), wanted, strict=True):
        assert np.array_equal(found.input_ids, alone.input_ids)
        assert np.array_equal(found.labels, alone.labels)


STRANGE = ["e\u0301", "\u0958 क़", "日本🎉", "🇩🇪", "<|end|>", " <|end|> ", "\x00", "  \n", "ﬁ", "\u1100\u1161"]


@pytest.mark.parametrize("kind", ["plain", "nfc", "spaces", "prefix", "lowercase", "qwen2.5"])
@given(parts=st.lists(st.sampled_from(STRANGE) | st.text(max_size=6), max_size=12))
@example(parts=STRANGE)
@example(parts=["", "e\u0301\u0958"])  # as many bytes as its normal form, at other places
def test_places_by_bytes_are_those_of_the_backend(kind, parts, places_encoders):
    by_bytes, by_characters = places_encoders(kind)
    half = len(parts) // 2
    rows = [
        PlainText("".join(parts[:half]), "".join(parts[half:])),
        Conversation([m for n, text in enumerate(parts) for m in (user(text), assistant(parts[-n]))]),
        PlainText("once", " more"),
    ]
    for one, two in zip(by_bytes.encode(rows), by_characters.encode(rows), strict=True):
        assert type(one) is type(two)
        if isinstance(one, Encoded):
            assert np.array_equal(one.input_ids, two.input_ids)
            assert np.array_equal(one.labels, two.labels)
            assert one.straddling == two.straddling


@pytest.fixture(scope="module")
def places_encoders(make_tokenizer, request):
    """Return a function that gives an encoder of some kind twice, once one that asks the backend for every place."""
    known = {}

    def make(kind):
        if kind not in known:
            known[kind] = _places_encoder(kind, make_tokenizer, request), _places_encoder(kind, make_tokenizer, request)
            known[kind][1].__dict__["_byte_lengths"] = None
            assert (known[kind][0]._byte_lengths is None) == (kind == "lowercase")
        return known[kind]

    return make


def _places_encoder(kind, make_tokenizer, request):
    if kind == "qwen2.5":
        folder = request.getfixturevalue("shared") / "tokenizers" / kind
        return load_encoder(str(folder), CHAT_TEMPLATE)
    encoder = load_encoder(str(make_tokenizer()))
    backend = encoder.tokenizer.backend_tokenizer
    if kind == "nfc":
        backend.normalizer = normalizers.NFC()
    if kind == "lowercase":
        backend.normalizer = normalizers.Lowercase()
    if kind == "prefix":
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    if kind == "spaces":
        backend.add_special_tokens([AddedToken("<|end|>", lstrip=True, rstrip=True)])
    return encoder


def test_turn_end_ids_are_eos_what_the_model_stops_at_and_what_the_template_ends_with(make_tokenizer):
    folder = make_tokenizer(eos="<|endoftext|>")
    assert load_encoder(str(folder)).turn_end_ids == (0, 4)
    (folder / "generation_config.json").write_text('{"eos_token_id": [0, 3]}')
    assert load_encoder(str(folder)).turn_end_ids == (0, 3, 4)


def test_turn_end_mask():
    ids = np.array([9, 5, 9, 1, 9, 9, 5, 9])
    labels = np.array([-100, 5, 9, -100, 9, -100, 5, 9])
    mask = turn_end_mask(ids, labels, np.array([0, 5, 5, 8]), [9])
    assert mask.tolist() == [False, False, True, False, True, False, False, True]
    assert not turn_end_mask(ids, labels, np.array([0, 8]), []).any()


def test_a_turn_end_at_the_end_of_an_example_is_one_though_the_next_begins_trainable():
    mask = turn_end_mask(np.array([1, 9, 9]), np.array([1, 9, 9]), np.array([0, 2, 3]), [9])
    assert mask.tolist() == [False, True, True]


def test_templates_can_be_given_as_text_or_file_and_a_missing_file_is_refused(tiny_tokenizer_folder, tmp_path):
    (tmp_path / "chat.jinja").write_text(PREFIX_TEMPLATE)
    for given_template in (PREFIX_TEMPLATE, str(tmp_path / "chat.jinja")):
        encoder = load_encoder(str(tiny_tokenizer_folder), given_template)
        assert encoder.template == PREFIX_TEMPLATE
        assert encoder.own_template
    with pytest.raises(TokensieveError, match="no such chat template file"):
        load_encoder(str(tiny_tokenizer_folder), str(tmp_path / "missing.jinja"))


def test_a_template_that_is_not_jinja_is_refused(tiny_tokenizer_folder):
    encoder = load_encoder(str(tiny_tokenizer_folder), "{% for %}")
    with pytest.raises(TokensieveError, match="refuses the conversation"):
        encode(encoder, CHAT)


def test_a_folder_without_a_tokenizer(tmp_path):
    with pytest.raises(TokensieveError, match="no tokenizer can be loaded") as error:
        load_encoder(str(tmp_path))
    assert error.value.where == str(tmp_path)


def test_a_tokenizer_that_puts_a_space_before_the_text(make_tokenizer):
    folder = make_tokenizer()
    encoder = load_encoder(str(folder))
    encoder.tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    assert runs(encoder, encode(encoder, PlainText("Q:", " Paris"))) == [" Paris<|end|>"]
