"""A chat template that does not end is refused after a time, and every other renders what it did."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import trl
from jinja2 import TemplateError
from transformers.utils.chat_template_utils import _cached_compile_jinja_template

from tokensieve.data import template_limit
from tokensieve.data.chat_template import ChatTemplate
from tokensieve.data.encode import encode_rows
from tokensieve.data.formats import Conversation
from tokensieve.data.inspection import inspect_data
from tokensieve.data.settings import DataSettings
from tokensieve.data.template_limit import TemplateTimeError
from tokensieve.data.tokenize import load_encoder

CHATML = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
MARKED = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}"
    "{% else %}{{ m.content }}{% endif %}{% endfor %}"
)
MESSAGES = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
LOOPS = "{% for a in range(99999) %}{% for b in range(99999) %}{% set c = a * b %}{% endfor %}{% endfor %}"
SLOW = "{% if messages[0].content == 'slow' %}" + LOOPS + "{% endif %}"
ENDLESS = {
    "loops within loops": LOOPS,
    "a loop over the text": "{% for a in messages[0].content * 9999 %}" * 4 + "{% endfor %}" * 4,
    "a macro that calls itself twice": (
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(90) }}"
    ),
    "a recursive loop": (
        "{% for a in [range(90)] * 9 recursive %}{% if loop.depth < 40 %}{{ loop([1, 2]) }}{% endif %}{% endfor %}"
    ),
}


@pytest.fixture(autouse=True)
def short_time(monkeypatch):
    monkeypatch.setattr(template_limit, "SECONDS", 0.2)


@pytest.mark.parametrize("source", ENDLESS.values(), ids=list(ENDLESS))
def test_what_does_not_end_is_stopped(source):
    begun = time.thread_time()
    with pytest.raises(TemplateTimeError, match="does not end within"):
        ChatTemplate(source + CHATML, {}).render(Conversation(MESSAGES))
    assert time.thread_time() - begun < 5


@pytest.mark.parametrize("source", [CHATML, MARKED], ids=["plain", "marked"])
def test_a_template_goes_on_after_a_conversation_that_it_takes_too_long_for(source):
    template = ChatTemplate(SLOW + source, {})
    before = template.render_answers(Conversation(MESSAGES))
    with pytest.raises(TemplateTimeError):
        template.render(Conversation([{"role": "user", "content": "slow"}, MESSAGES[1]]))
    assert template.render_answers(Conversation(MESSAGES)) == before


@pytest.mark.parametrize(
    "read",
    [
        lambda settings, encoder: list(encode_rows(settings, encoder, lambda _: None)),
        lambda settings, encoder: inspect_data(settings, encoder, 1),
    ],
    ids=["encode", "inspect"],
)
def test_the_row_is_named_and_ends_the_work(make_tokenizer, write_jsonl, read):
    encoder = load_encoder(str(make_tokenizer(chat_template=SLOW + MARKED)))
    rows = [{"messages": [{"role": "user", "content": text}, MESSAGES[1]]} for text in ["fast", "slow", "slow"]]
    settings = DataSettings((str(write_jsonl(*rows)),), bad_rows="skip")
    begun = time.thread_time()
    with pytest.raises(TemplateTimeError, match=r"(?s)does not end.*:2\n.*chat_template"):
        read(settings, encoder)
    assert time.thread_time() - begun < 5


def test_a_template_that_always_hangs_is_refused_when_it_is_loaded(make_tokenizer):
    with pytest.raises(TemplateTimeError):
        load_encoder(str(make_tokenizer(chat_template=LOOPS + CHATML)))


def test_real_templates_render_what_they_did():
    tokens, found = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}, 0
    for path in sorted((Path(trl.__file__).parent / "chat_templates").glob("*.jinja")):
        source = path.read_text(encoding="utf-8")
        compiled = _cached_compile_jinja_template(source)
        try:
            expected = compiled.render(messages=MESSAGES, tools=None, add_generation_prompt=True, **tokens)
        except TemplateError:
            continue
        assert ChatTemplate(source, tokens).render(Conversation(MESSAGES), generation_prompt=True) == expected, path
        found += 1
    assert found > 20
