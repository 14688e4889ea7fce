"""What is rendered for all contents is what is rendered for each, and what depends on them is not rendered."""

from __future__ import annotations

from pathlib import Path

import pytest
import trl

from tokensieve.data import template_limit
from tokensieve.data.chat_template import ChatTemplate
from tokensieve.data.formats import Conversation
from tokensieve.data.symbolic_rendering import Content, SymbolicText, symbolic_text
from tokensieve.data.template_errors import TemplateTimeError

ROLES = ("user", "assistant")
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
REAL = {
    path.stem: path.read_text(encoding="utf-8")
    for path in sorted((Path(trl.__file__).parent / "chat_templates").glob("*.jinja"))
}
CONTENTS = [
    ["a", "b", "c", "d"],
    [" a\n", "\tb", "c ", "日本 🍎"],
    ["<think>\nt\n</think>\n\na", "</think>", "<tool_call>{}</tool_call>", "7317931000000000"],
    ["system", "assistant", "user", "[INST]"],
]
FIRST, SECOND, BOTH_STRIPPED = Content(0), Content(1), (Content(0, True), Content(1, True))
ALIKE = {
    "a loop": "{% for m in messages %}[{{ m.content }}{% endfor %}",
    "a sum": "{% for m in messages %}{{ '[' + m['content'] }}{% endfor %}",
    "a sum of sums": "{{ ('[' + messages[0].content) + ('[' + messages[1].content) }}",
    "a concatenation": "{{ '[' ~ messages[0].content ~ '[' ~ messages[1].content }}",
    "a macro": "{% macro f(x) %}[{{ x }}{% endmacro %}{% for m in messages %}{{ f(m.content) }}{% endfor %}",
    "a block": "{% for m in messages %}{% set x %}[{{ m.content }}{% endset %}{{ x }}{% endfor %}",
    "a namespace": (
        "{% set n = namespace(x='') %}{% for m in messages %}{% set n.x = n.x + '[' + m.content %}{% endfor %}{{ n.x }}"
    ),
    "marks": "{% for m in messages %}[{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
    "tests that texts answer alike": (
        "{% for m in messages if m.content is defined and m.content is string and m.content is not none "
        "and m.content is not mapping and m.content %}[{{ m.content | default('') }}{% endfor %}"
    ),
    "other messages": "{% for m in messages | selectattr('content') %}[{{ m.content if loop.cycle(1, 1) }}{% endfor %}",
}
ASKS = (
    "content == 'a'", "content != ''", "'a' in content", "content in ['a', 'b']", "content < 'b'", "content[0]",
    "content[:3]", "content | length", "content.split('a')[0]", "content.startswith('a')", "content.strip('a')",
    "content | trim('a')", "content | upper", "content | string", "content | list | length", "content is sequence",
    "content is iterable", "content is lower", "content is eq('a')", "content | int", "content | float(1)",
    "content | tojson", "messages | tojson", "[content] | join", "'a'.join([content])", "'%s' % content",
    "'{}'.format(content)", "'a' | replace('a', content)", "content * 2", "{content: 1}", "{'a': 1}[content]",
    "{'a': 1}.get(content, 2)", "[content] | unique | list", "[content, 'a'] | sort", "('a' ~ content) | length",
    "('a' + content) | trim", "content.parts", "content()",
    "messages | map(attribute='content') | sum", "strftime_now('%Y')", "[1, 2] | random", "raise_exception('no')",
    "1 // 0",
)  # fmt: skip


@pytest.mark.parametrize("source", ALIKE.values(), ids=list(ALIKE))
def test_contents_that_are_written_as_they_are(source):
    alike = SymbolicText(("[", "[", ""), (FIRST, SECOND))
    assert symbolic_text(source, ROLES, {}) == alike
    assert alike.strips is False


@pytest.mark.parametrize("written", ["m.content | trim", "m.content.strip()", "(m.content | trim).strip()"])
def test_contents_that_are_stripped(written):
    alike = SymbolicText(("", "", ""), BOTH_STRIPPED)
    assert symbolic_text(f"{{% for m in messages %}}{{{{ {written} }}}}{{% endfor %}}", ROLES, {}) == alike
    assert alike.strips is True


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages[1].content }}{{ messages[0].content }}",
        "{{ messages[1].content }}",
        "{{ messages[0].content }}{{ messages[1].content | trim }}",
    ],
    ids=["moved", "left out", "one stripped"],
)
def test_contents_that_are_not_all_alike(source):
    text = symbolic_text(source, ROLES, {})
    assert text is not None
    assert text.strips is None


@pytest.mark.parametrize("expression", ASKS)
def test_a_template_that_asks_what_a_content_is(expression):
    source = f"{{% set content = messages[0].content %}}{{% set x = {expression} %}}{{{{ content }}}}"
    assert symbolic_text(source, ROLES, {}) is None


def test_a_loop_over_the_letters_of_a_content():
    assert symbolic_text("{% for a in messages[0].content %}{{ a }}{% endfor %}", ROLES, {}) is None


def test_special_tokens_and_roles_are_known():
    source = "{{ bos_token }}{% for m in messages %}{{ m.role | upper }}{{ m.content }}{% endfor %}"
    assert symbolic_text(source, ROLES, TOKENS) == SymbolicText(("<s>USER", "ASSISTANT", ""), (FIRST, SECOND))


def test_a_template_that_does_not_end(monkeypatch):
    monkeypatch.setattr(template_limit, "SECONDS", 0.2)
    source = "{% for a in range(99999) %}{% for b in range(99999) %}{% set c = a * b %}{% endfor %}{% endfor %}"
    with pytest.raises(TemplateTimeError):
        symbolic_text(source, ROLES, {})


def filled(text: SymbolicText, contents: list[str]) -> str:
    said = [contents[one.number].strip() if one.stripped else contents[one.number] for one in text.contents]
    return "".join([*(piece for pair in zip(text.around, said, strict=False) for piece in pair), text.around[-1]])


@pytest.mark.parametrize("name", REAL)
def test_real_templates_write_contents_as_symbols(name):
    template = ChatTemplate(REAL[name], TOKENS)
    wrong = []
    for roles in (ROLES, ROLES * 2, ("system", *ROLES)):
        text = symbolic_text(REAL[name], roles, TOKENS)
        for contents in CONTENTS:
            messages = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]
            if text is not None and template.render(Conversation(messages)) != filled(text, contents):
                wrong.append(messages)
    assert wrong == []


@pytest.mark.parametrize(
    ("name", "strips"), [("llama3", True), ("gemma", True), ("qwen2_5", False), ("phi3", False), ("lfm2", False)]
)
def test_real_templates_that_write_contents_alone(name, strips):
    text = symbolic_text(REAL[name], ROLES, TOKENS)
    assert text is not None
    assert text.strips is strips


def test_a_real_template_that_says_the_day():
    assert symbolic_text(REAL["gptoss"], ROLES, TOKENS) is None
