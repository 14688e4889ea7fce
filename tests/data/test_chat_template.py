"""Texts and answers by the shape of a conversation are those that rendering it and its prefixes gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trl
from hypothesis import example, given
from hypothesis import strategies as st
from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from transformers.utils.chat_template_utils import render_jinja_template

from tokensieve.data.chat_template import ChatTemplate
from tokensieve.data.chat_template_private import compiled_template, render_texts
from tokensieve.data.formats import Conversation
from tokensieve.data.tokenize import load_encoder
from tokensieve.errors import TokensieveError

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TRIMMED = CHATML.replace("m['content']", "m['content'] | trim")
SYSTEM_IN_FIRST_USER = (
    "{% set system = messages[0]['content'] if messages[0]['role'] == 'system' else '' %}"
    "{% for m in messages if m['role'] != 'system' %}"
    "{% if m['role'] == 'user' %}[INST] {{ system + '\n' if loop.first }}{{ m['content'] }} [/INST]"
    "{% else %} {{ m['content'] }}</s>{% endif %}{% endfor %}"
)
DEFAULT_SYSTEM = "{% if messages[0]['role'] != 'system' %}You are kind.\n{% endif %}" + CHATML
THOUGHTS_OF_THE_LAST = CHATML.replace(
    "m['content']", "(m['content'] if loop.last else m['content'].split('</think>')[-1])"
)
EMPTY_THOUGHT_IN_THE_LAST = CHATML.replace(
    "m['content']", "('<think></think>' if loop.last and m['role'] == 'assistant' else '') + m['content']"
)
LOOKS_AT_CONTENTS = CHATML.replace("{% for", "{% if '7' in messages[0]['content'] %}{% endif %}{% for", 1)
MARKED = (
    "{% for m in messages %}{% if m.role == 'assistant' %}<|assistant|>{% generation %}{{ m.content }}<|end|>"
    "{% endgeneration %}{% else %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
)
MARKED_AND_TRIMMED = MARKED.replace("m.content", "m.content | trim")
MARKED_LATE = MARKED.replace("{{ m.content }}<|end|>{% end", "{{ m.content[3:] }}<|end|>{% end")
MARKED_BESIDE = MARKED.replace("{% generation", "{% set x %}....{% generation").replace(
    "endgeneration %}", "endgeneration %}{% endset %}{{ x }}"
)
MARKED_TWICE = MARKED.replace("{% generation %}", "{% generation %}{% endgeneration %}{% generation %}")
TEMPLATES = [
    *(CHATML, TRIMMED, SYSTEM_IN_FIRST_USER, DEFAULT_SYSTEM, THOUGHTS_OF_THE_LAST, EMPTY_THOUGHT_IN_THE_LAST),
    *(LOOKS_AT_CONTENTS, MARKED, MARKED_AND_TRIMMED, MARKED_LATE, MARKED_BESIDE, MARKED_TWICE),
]

CONTENTS = st.text(max_size=8) | st.sampled_from(
    ["<think>a</think>b", " two\n", "[INST]", "<|im_end|>\n", "7317931000000000", "日本 🍎", "a</think>"]
)
ROLES = st.lists(st.sampled_from(["user", "assistant"]), min_size=1, max_size=5)


def answers(template: ChatTemplate, conversation: Conversation) -> object:
    try:
        return template.render_answers(conversation)
    except TokensieveError as error:
        return str(error)


@pytest.mark.parametrize("source", TEMPLATES)
@given(data=st.data(), system=st.booleans())
@example(data=None, system=True)
def test_shapes_give_what_prefixes_give(source, data, system):
    if data is None:
        contents, roles = ["s", "a", "<think>x</think>b", " c ", "d"], ["user", "assistant"] * 2
    else:
        roles = data.draw(ROLES)
        contents = data.draw(st.lists(CONTENTS, min_size=len(roles) + 1, max_size=len(roles) + 1))
    messages = [{"role": role, "content": content} for role, content in zip(roles, contents[1:], strict=True)]
    if system:
        messages.insert(0, {"role": "system", "content": contents[0]})
    conversation = Conversation(messages)
    by_prefix = ChatTemplate(source, {})
    by_prefix._shape = lambda _: None  # type: ignore[method-assign]
    shaped = ChatTemplate(source, {})
    for _ in range(2):  # the second time the shape is known
        assert answers(shaped, conversation) == answers(by_prefix, conversation)


@pytest.mark.parametrize(
    ("source", "count"),
    [
        *(
            (source, 0)
            for source in (CHATML, TRIMMED, DEFAULT_SYSTEM, SYSTEM_IN_FIRST_USER, MARKED, MARKED_AND_TRIMMED)
        ),
        (LOOKS_AT_CONTENTS, 1),
    ],
)
def test_a_known_shape_takes_no_rendering_or_one(source, count, monkeypatch):
    template, renderings = ChatTemplate(source, {}), []
    apply = template._apply
    monkeypatch.setattr(template, "_apply", lambda *args, **rest: renderings.append(args) or apply(*args, **rest))
    for number in range(3):
        turns = [{"role": role, "content": f" {role} {number}"} for role in ("user", "assistant") * 2]
        renderings.clear()
        _, spans = template.render_answers(Conversation(turns))
        assert len(spans) == 2
    assert len(renderings) == count


REAL = sorted((Path(trl.__file__).parent / "chat_templates").glob("*.jinja"))
CONVERSATIONS = [
    ["a", "b"],
    [" a\n", " b\n"],
    ["a", "b", "c", "d"],
    ["a", "<think>\nt\n</think>\n\nb", "c", "</think>d"],
    ["日本", "🍎", "", ""],
    ["a", "b", "c"],
]


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_shapes_of_real_templates_give_what_prefixes_give(path):
    source, tokens = path.read_text(encoding="utf-8"), {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    shaped, by_prefix = ChatTemplate(source, tokens), ChatTemplate(source, tokens)
    by_prefix._shape = lambda _: None  # type: ignore[method-assign]
    for contents in CONVERSATIONS:
        roles = ["user", "assistant"] * 2
        turns = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]
        for messages in (turns, [{"role": "system", "content": "Be kind."}, *turns]):
            for _ in range(2):
                assert answers(shaped, Conversation(messages)) == answers(by_prefix, Conversation(messages))


@pytest.mark.parametrize("mark", [False, True])
def test_texts_are_rendered_as_transformers_renders_them(mark):
    tokens, compared = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}, 0
    for path in REAL:
        source = path.read_text(encoding="utf-8")
        marks = mark and "endgeneration" in source
        for contents in CONVERSATIONS:
            roles = ["user", "assistant"] * 2
            turns = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]
            prompt = len(turns) % 2 == 1
            asked: Any = {"return_assistant_tokens_mask": marks, "add_generation_prompt": prompt, **tokens}
            try:
                (text,), spans = render_jinja_template([turns], chat_template=source, **asked)
            except TemplateError:
                continue
            found = render_texts(
                compiled_template(source, ImmutableSandboxedEnvironment), turns, tokens, mark=marks, prompt=prompt
            )
            assert found == (text, spans[0] if marks else [])
            compared += 1 if marks else not mark
    assert compared > 20


def test_there_are_real_templates():
    assert len(REAL) > 30


def test_the_training_version_of_a_template_that_forgets_thoughts(make_tokenizer, monkeypatch, tmp_path):
    own = next(path for path in REAL if path.stem == "qwen3").read_text(encoding="utf-8")
    folder = make_tokenizer(
        special_tokens=["<|endoftext|>", "<|pad|>", "<|im_start|>", "<|im_end|>"], chat_template=own
    )
    turns = [{"role": role, "content": f"{role} {n}"} for n in (1, 2) for role in ("user", "assistant")]
    (refused,) = load_encoder(str(folder)).encode([Conversation(turns)])
    assert isinstance(refused, TokensieveError)
    assert "`training`" in refused.hint
    monkeypatch.chdir(tmp_path)
    (tmp_path / "training").mkdir()  # not what is meant
    encoder = load_encoder(str(folder), "training")
    text, spans = encoder._chat.render_answers(Conversation(turns))
    assert [text[start:stop].split("</think>\n\n")[-1].strip() for start, stop in spans] == [
        "assistant 1<|im_end|>",
        "assistant 2<|im_end|>",
    ]


@pytest.mark.parametrize("own", [None, CHATML])
def test_a_template_without_a_training_version(make_tokenizer, own):
    with pytest.raises(TokensieveError, match="TRL has no training version"):
        load_encoder(str(make_tokenizer(chat_template=own)), "training")


def test_a_template_that_marks_its_answers_is_its_own_training_version(make_tokenizer):
    encoder = load_encoder(str(make_tokenizer()), "training")
    assert encoder.has_generation
    assert encoder.template == load_encoder(str(make_tokenizer())).template


def test_a_template_whose_text_depends_on_the_contents_still_finds_its_answers():
    source = CHATML.replace("{% for", "{{ messages[0]['content'] | upper }}{% for", 1)
    template = ChatTemplate(source, {})
    turns = [{"role": "user", "content": "yes"}, {"role": "assistant", "content": "no"}]
    text, spans = template.render_answers(Conversation(turns))
    assert text.startswith("YES<|im_start|>")
    assert [text[start:stop] for start, stop in spans] == ["no<|im_end|>\n"]
