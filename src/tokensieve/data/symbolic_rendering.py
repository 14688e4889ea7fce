"""A chat template, rendered with symbols in the place of the contents of messages (symbolic execution).

Many templates do no more with a content than write it, as it is or without the white space around it. The text around
the contents is then the same in all conversations of these roles, which need not be rendered one by one. A symbol knows
nothing of its content: whatever asks for more, such as a comparison or a search, ends the attempt.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from types import BuiltinMethodType, MethodType
from typing import Any

from jinja2 import Template
from jinja2.runtime import Macro

from tokensieve.data.chat_template_private import compiled_template, render_texts
from tokensieve.data.template_errors import TemplateTimeError
from tokensieve.data.template_limit import LimitedEnvironment, Limits


@dataclass(frozen=True)
class Content:
    """The content of a message, of which no more is known than that it is not empty.

    Attributes:
        number: of the message.
        stripped: whether it is meant without the white space around it, and not empty without it.
    """

    number: int
    stripped: bool = False


@dataclass(frozen=True)
class SymbolicText:
    """The text of all conversations of some roles.

    Attributes:
        around: the text before each of the contents, and behind the last.
        contents: those that are written, in this order.
    """

    around: tuple[str, ...]
    contents: tuple[Content, ...]

    @property
    def strips(self) -> bool | None:
        """Whether the contents are without the white space around them; None where some are and others are not."""
        for stripped in (False, True):
            if self.contents == tuple(Content(number, stripped) for number in range(len(self.contents))):
                return stripped
        return None


def symbolic_text(source: str, roles: Sequence[str], special_tokens: Mapping[str, Any]) -> SymbolicText | None:
    """Render conversations of some roles, whatever the contents are.

    Args:
        source: the template, which transformers has compiled.
        roles: of the messages, each of which has a content and nothing else.
        special_tokens: plain strings by name.

    Returns:
        None where the text depends on what the contents are, on the time, or on chance, or where the template refuses
        such messages.

    Raises:
        TemplateTimeError: the template does not end in time.
    """
    messages = [{"role": role, "content": _Symbolic([Content(number)])} for number, role in enumerate(roles)]
    template = _symbolic_template(source)
    try:
        with Limits(template):
            text: Any = render_texts(template, messages, special_tokens, mark=False, prompt=False)[0]
    except TemplateTimeError:
        raise
    except (Exception, _AskedError):
        return None
    around, contents = [""], list[Content]()
    for part in [text] if type(text) is str else text._parts:
        if isinstance(part, Content):
            contents.append(part)
            around.append("")
        else:
            around[-1] += part
    return SymbolicText(tuple(around), tuple(contents))


@functools.lru_cache(maxsize=16)
def _symbolic_template(source: str) -> Template:
    template = compiled_template(source, _SymbolicEnvironment)
    compiled_template(source, LimitedEnvironment)  # what transformers goes on with
    return template


class _AskedError(BaseException):
    """A template asks what a content is; no `Exception`, which Jinja takes for an answer in places."""


class _Symbolic:
    """A text that has contents in it."""

    __slots__ = ("_parts",)

    def __init__(self, parts: Sequence[str | Content]) -> None:
        self._parts = parts

    def __bool__(self) -> bool:
        return True  # no content is empty

    def strip(self) -> _Symbolic:
        """Return the text without the white space around it."""
        content, *others = self._parts
        if others or not isinstance(content, Content):
            raise _AskedError
        return _Symbolic([Content(content.number, stripped=True)])


def _refuse(*_: Any, **__: Any) -> Any:
    raise _AskedError


for _name in (
    *("eq", "ne", "lt", "le", "gt", "ge", "hash", "len", "iter", "contains", "getitem", "getattr"),
    *("str", "repr", "format", "int", "float", "index"),
):
    setattr(_Symbolic, f"__{_name}__", _refuse)  # also what Python does of itself, and Jinja would take for an answer

_ANSWERS = {"defined": True, "undefined": False, "none": False, "string": True, "mapping": False}
"""Tests of Jinja that every text answers alike."""
_TAKE_ANY = {"default", "d"}
"""Filters of Jinja that return a text as it is."""


class _SymbolicEnvironment(LimitedEnvironment):
    """Writes, joins and strips symbols; what is not sure to do no more with them ends the rendering."""

    def from_string(self, source: Any, *values: Any, **named: Any) -> Template:
        """Compile a template."""
        self._functions = [self.globals[name] for name in ("range", "namespace")]
        self.tests = {name: _test(name, function) for name, function in self.tests.items()}
        self.filters = {name: _filter(name, function) for name, function in self.filters.items()}
        return super().from_string(source, *values, **named)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Return the result of an operator."""
        if operator == "+" and (kinds := {type(left), type(right)}) <= {str, _Symbolic} and _Symbolic in kinds:
            return self.concat((left, right))
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, function: Any, *values: Any, **named: Any) -> Any:
        """Return the result of a macro or of a method; other functions may know the time."""
        if not isinstance(function, Macro | MethodType | BuiltinMethodType) and function not in self._functions:
            raise _AskedError
        return super().call(context, function, *values, **named)

    def concat(self, parts: Iterable[Any]) -> Any:
        """Return the parts of a text in one."""
        found = [*self.counted(parts)]
        if _Symbolic not in map(type, found):
            return "".join(found)
        return _Symbolic([*chain.from_iterable(part._parts if type(part) is _Symbolic else [part] for part in found)])

    def written(self, value: Any) -> Any:
        """Return the text of a value."""
        return value if type(value) is _Symbolic else super().written(value)


def _test(name: str, function: Callable[..., bool]) -> Callable[..., bool]:
    @functools.wraps(function)
    def answered(*values: Any, **named: Any) -> bool:
        if _Symbolic not in map(type, (*values, *named.values())):
            return function(*values, **named)
        if name not in _ANSWERS:
            raise _AskedError
        return _ANSWERS[name]

    return answered


def _filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def filtered(*values: Any, **named: Any) -> Any:
        if name == "random":
            raise _AskedError
        if name in _TAKE_ANY or _Symbolic not in map(type, (*values, *named.values())):
            return function(*values, **named)
        if name != "trim" or len(values) + len(named) > 1:
            raise _AskedError
        return values[0].strip()

    return filtered
