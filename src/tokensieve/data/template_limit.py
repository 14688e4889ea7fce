"""Limits on the time and the memory that a chat template takes for one conversation.

A template is a program that comes with a model: loops within loops over a long conversation, or a macro that calls
itself twice, take years, and ``'a' * 10**10`` takes ten gigabytes. A check is compiled into every loop, macro,
operation and call, so that it needs no other thread and no signal, and works in any process. It looks at the processor
time of its own thread: a busy machine changes no result.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator
from types import BuiltinMethodType
from typing import Any

from jinja2 import Environment, Template, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tokensieve.data.template_errors import TemplateTimeError
from tokensieve.data.template_growth import MOST, of_call, of_operation, of_text

SECONDS = 10.0
"""Processor time for one conversation; real templates take far less than a hundredth of a second."""
_CHECK, _STEPS_BETWEEN_LOOKS, _MADE_BETWEEN_LOOKS = "within_the_limits", 256, 2**20


class Limits:
    """Limits what it takes to render a chat template within a ``with`` block.

    Args:
        template: one that a `LimitedEnvironment` compiled.

    Raises:
        TemplateTimeError: the template took too long.
        SecurityError: it makes too much.
    """

    def __init__(self, template: Template) -> None:
        self._watch: _Watch = template.environment.watch  # type: ignore[attr-defined]

    def __enter__(self) -> None:
        self._watch.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._watch.stop()
        if kind is _TimeIsUpError:
            raise TemplateTimeError(
                f"the chat template does not end within {SECONDS:g} s of processor time",
                hint="it has loops within loops, or a macro that calls itself: give data.chat_template another "
                "template, or leave out the row",
            ) from None


class _TimeIsUpError(Exception):
    pass


class _Watch:
    """Ends a rendering that takes too much; others, such as those of the trainer, may use the template too."""

    def __init__(self) -> None:
        self.start()
        self._on = False

    def start(self) -> None:
        self._on, self._made, self._steps, self._end = True, 0, 0, 0.0
        self._next_made, self._next_steps = _MADE_BETWEEN_LOOKS, _STEPS_BETWEEN_LOOKS

    def stop(self) -> None:
        self._on = False

    def look(self, _: object) -> bool:
        """Count a step of a loop or macro."""
        self.spend(0)
        return True

    def spend(self, size: int) -> None:
        """Count a step that makes so much, and look at the clock now and then: most templates end before that."""
        self._made += size
        self._steps += 1
        if self._made > self._next_made or self._steps > self._next_steps:
            self._look_closely()

    def _look_closely(self) -> None:
        self._next_made, self._next_steps = self._made + _MADE_BETWEEN_LOOKS, self._steps + _STEPS_BETWEEN_LOOKS
        if not self._on:
            return
        if self._made > MOST:
            raise SecurityError(f"its expressions make more than {MOST:,} characters, or a number of too many digits")
        now = time.thread_time()
        if not self._end:
            self._end = now + SECONDS
        elif now > self._end:
            raise _TimeIsUpError


class _CheckedSteps(CodeGenerator):
    """Compiles a check into whatever may run more than once, and into what is written or joined."""

    def visit_Template(self, node: nodes.Template, frame: Frame | None = None) -> None:  # noqa: N802
        for block in [*node.find_all((nodes.For, nodes.Macro, nodes.CallBlock))]:
            block.body.insert(0, _check(block.lineno, self.environment))
        super().visit_Template(node, frame)

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802
        self.write("environment.concat(map(environment.written, (")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write(")))")

    def _output_child_pre(self, node: nodes.Expr, frame: Frame, finalize: Any) -> None:
        self.write("environment.written(")  # what transformers writes is never escaped or finished otherwise


def _check(line: int, environment: Environment) -> nodes.Node:
    test = nodes.Test(nodes.ContextReference(), _CHECK, [], [], None, None)  # of a constant, it would be left out
    return nodes.ExprStmt(test).set_lineno(line).set_environment(environment)


class _Template(Template):
    """A template whose parts are counted also where nothing but its caller joins them."""

    def generate(self, *values: Any, **named: Any) -> Iterator[str]:
        """Yield the parts of the text."""
        return self.environment.counted(super().generate(*values, **named))  # type: ignore[attr-defined]


class LimitedEnvironment(ImmutableSandboxedEnvironment):
    """Counts what operations, filters and calls of a template make before they do."""

    code_generator_class = _CheckedSteps
    template_class = _Template
    intercepted_binops = frozenset(("+", "*", "**", "%"))  # which are then left as they are, constants or not

    def __init__(self, *values: Any, **named: Any) -> None:
        super().__init__(*values, **named)
        self.watch = _Watch()
        self.tests[_CHECK] = self.watch.look

    def from_string(self, source: Any, *values: Any, **named: Any) -> Template:
        """Compile a template, after everything has been added to the environment; its constants are made here."""
        self.globals.pop("lipsum", None)  # makes as much text as it is told
        self.filters = {name: self._counted_filter(name, function) for name, function in self.filters.items()}
        self.watch.start()
        try:
            template = super().from_string(source, *values, **named)
            template.globals = dict(template.globals)  # a chain of maps, which each rendering copies, slowly
            return template
        finally:
            self.watch.stop()

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Return the result of an operator."""
        if operator == "+" and type(left) is type(right) is str:  # nearly always
            self.watch.spend(len(left) + len(right))
            return left + right
        self.watch.spend(of_operation(operator, left, right))
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, function: Any, *values: Any, **named: Any) -> Any:
        """Return the result of a call; positional names may not be those of arguments."""
        method = getattr(function, "__wrapped__", function)  # the sandbox wraps `format`
        if isinstance(method, BuiltinMethodType):
            told = (method.__self__, *values)
            values = self._counted_values(method.__name__, told, named, joined=1)[1:]
        return super().call(context, function, *values, **named)

    def concat(self, parts: Iterable[str]) -> str:
        """Return the parts of a text in one."""
        return "".join(self.counted(parts))

    def counted(self, parts: Iterable[Any], between: int = 0) -> Iterator[Any]:
        """Yield the parts of a text; so many characters will stand between them."""
        spend = self.watch.spend
        for part in parts:
            spend(between + (len(part) if type(part) is str else of_text(part)))
            yield part

    def written(self, value: Any) -> str:
        """Return the text of a value."""
        if type(value) is str:  # nearly always
            self.watch.spend(len(value))
            return value
        self.watch.spend(of_text(value))
        return str(value)

    def _counted_filter(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        first = 1 if hasattr(function, "jinja_pass_arg") else 0  # before it stands the context or the environment

        @functools.wraps(function)
        def counted(*values: Any, **named: Any) -> Any:
            told = self._counted_values(name, values[first:], named, joined=0)
            return function(*values[:first], *told, **named)

        return counted

    def _counted_values(
        self, name: str, values: tuple[Any, ...], named: dict[str, Any], joined: int
    ) -> tuple[Any, ...]:
        """Count what a filter or method makes, and return its values; what ``join`` joins is counted when it does."""
        self.watch.spend(of_call(name, values, named))
        if name != "join" or len(values) <= joined:
            return values
        others = (*values[:joined], *values[joined + 1 :], *named.values())
        between = max((len(one) for one in others if isinstance(one, str)), default=0)
        return (*values[:joined], self.counted(values[joined], between), *values[joined + 1 :])
