"""A chat template that does not end, or makes too much, is refused, and every other renders what it did."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import pytest
import trl
from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from transformers.utils import chat_template_utils

from tokensieve.data import template_limit
from tokensieve.data.chat_template import ChatTemplate
from tokensieve.data.encode import encode_rows
from tokensieve.data.formats import Conversation
from tokensieve.data.inspection import inspect_data
from tokensieve.data.settings import DataSettings
from tokensieve.data.template_errors import TemplateTimeError
from tokensieve.data.tokenize import load_encoder
from tokensieve.errors import TokensieveError

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


def doubled(first: str, step: str, last: str = "{{ ns.x }}") -> str:
    return f"{{% set ns = namespace(x={first}) %}}{{% for i in range(60) %}}{step}{{% endfor %}}{last}"


ENORMOUS = {
    "a power of a power": "{{ 9 ** (9 ** 9) }}",
    "a repeated text": "{{ 'a' * 10 ** 10 }}",
    "a text repeated from the right": "{{ 10 ** 10 * 'a' }}",
    "a repeated list": "{{ ([0] * 10 ** 10) | length }}",
    "a width of a constant": "{{ 'a' | center(10000000000) }}",
    "a width by name": "{{ 'a' | center(width=10000000000) }}",
    "a width of every item": "{{ ['a'] | map('center', 10000000000) | join }}",
    "a method's width": "{{ 'a'.ljust(10000000000) }}",
    "the width of a tab": "{{ ('\t' * 1000).expandtabs(100000000) }}",
    "bytes of a number": "{{ (1).to_bytes(10000000000, 'big') | length }}",
    "a format": "{{ '%10000000000d' % 1 }}",
    "a format's width apart": "{{ '%*d' % (10000000000, 1) }}",
    "a format method": "{{ '{:x>10000000000}'.format(1) }}",
    "a format method's width apart": "{{ '{:{}}'.format(1, 10000000000) }}",
    "an indent of JSON": "{{ {'a': 1} | tojson(indent=10000000000) }}",
    "an indent": "{{ 'a\nb' | indent(10000000000) }}",
    "many replacements": "{{ ('a' * 100000).replace('a', 'b' * 100000) }}",
    "many replacements by a filter": "{{ ('a' * 100000) | replace('a', 'b' * 100000) }}",
    "a long separator": "{{ ('b' * 100000).join('a' * 100000) }}",
    "a long separator of a filter": "{{ ('a' * 100000) | join('b' * 100000) }}",
    "a text added to itself": doubled("'a'", "{% set ns.x = ns.x + ns.x %}"),
    "a text beside itself": doubled("'a'", "{% set ns.x = ns.x ~ ns.x %}"),
    "a block of itself": doubled("'a'", "{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}"),
    "a number by itself": doubled("3", "{% set ns.x = ns.x * ns.x %}"),
    "lists within lists": doubled("[]", "{% set ns.x = [ns.x, ns.x] %}"),
    "lists within lists as JSON": doubled("[]", "{% set ns.x = [ns.x, ns.x] %}", "{{ ns.x | tojson }}"),
    "a long text, many times": "{% set x = 'a' * 9999999 %}{% for i in range(99999) %}{{ x }}{% endfor %}",
    "a constant text, many times": "{% for i in range(99999) %}" + "a" * 9999 + "{% endfor %}",
    "texts that are kept": (
        "{% set ns = namespace(x=[]) %}{% for i in range(999) %}{% set ns.x = ns.x + ['a' * 9999999] %}{% endfor %}"
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


@pytest.mark.parametrize(
    ("source", "template"),
    [
        *(pytest.param(source, CHATML, id=what) for what, source in ENORMOUS.items()),
        *(pytest.param(ENORMOUS[what], MARKED, id=f"{what}, marked") for what in ENORMOUS if "many times" in what),
    ],
)
def test_what_makes_too_much_is_refused_before_it_does(source, template, monkeypatch):
    monkeypatch.setattr(template_limit, "SECONDS", 10.0)
    begun = time.thread_time()
    tracemalloc.start()
    with pytest.raises(TokensieveError, match="make more than 536,870,912 characters"):
        ChatTemplate(source + template, {}).render(Conversation(MESSAGES))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**30
    assert time.thread_time() - begun < 10


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
    tokens = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    paths = (Path(trl.__file__).parent / "chat_templates").glob("*.jinja")
    expected = {source: rendered(source, tokens) for source in (path.read_text(encoding="utf-8") for path in paths)}
    expected = {source: text for source, text in expected.items() if text is not None}
    assert len(expected) > 20
    for source, text in expected.items():
        assert ChatTemplate(source, tokens).render(Conversation(MESSAGES), generation_prompt=True) == text


EXPRESSIONS = (
    "'a' ~ 1 ~ none ~ gone ~ [2]", "'a' + 'b' * 3 + 2 * 'c'", "[1] + [2] * 2", "(1, 2) + (3,)", "2 ** 10 - 7 % 3 * 2",
    "2 ** -1", "2.5 * 4", "'%s-%05d-%%' % ('a', 3)", "'{:>5}|{:x^5}|{}'.format('a', 7, [1])", "'a' | center(9)",
    "gone", "none", "{'a': [1, (2,)]}", "[1, 2] | join(', ')", "messages | map(attribute='role') | join('|')",
    "', '.join(messages | map(attribute='content'))", "messages | tojson(indent=2)", "'a\nb' | indent(2)",
    "'a b' | wordwrap(1)", "'%s %s' | format('a', 1)", "'aXa'.replace('a', 'bb')", "'aXa' | replace('a', 'bb', 1)",
    "[3, 1, 2] | sort | batch(2, 0) | list", "[1, 2, 3] | slice(2) | map('sum') | list", "'a\tb'.expandtabs(4)",
    "'7'.zfill(3) | int", "range(3) | list", "messages | selectattr('role', 'equalto', 'user') | list | length",
    "'{a}'.format_map({'a': 1})", "namespace(a=1).a", "dict(a=1) | items | list", "'  a' | trim | upper | default('b')",
)  # fmt: skip


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_expressions_give_what_they_did(expression):
    source = (
        f"{{{{ {expression} }}}}{{% set x %}}{{{{ {expression} }}}}{{% endset %}}{{{{ x | length }}}}"
        f"{{% macro f(y) %}}{{{{ y }}}}{{% endmacro %}}{{{{ f({expression}) }}}}"
    )
    text = rendered(source, {})
    assert text
    assert ChatTemplate(source, {}).render(Conversation(MESSAGES), generation_prompt=True) == text


def rendered(source, tokens) -> str | None:
    """Return what Jinja's own sandbox renders; None where the template refuses the messages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chat_template_utils, "ImmutableSandboxedEnvironment", ImmutableSandboxedEnvironment)
        chat_template_utils._compile_jinja_template.cache_clear()
        try:
            values = {"messages": MESSAGES, "tools": None, "add_generation_prompt": True, **tokens}
            return chat_template_utils._compile_jinja_template(source).render(values)
        except TemplateError:
            return None
        finally:
            chat_template_utils._compile_jinja_template.cache_clear()
