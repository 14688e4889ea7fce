"""A limit on the time that a chat template takes for one conversation.

A template is a program that comes with a model: loops within loops over a long conversation, or a macro that calls
itself twice, take years. A check is compiled into every loop and macro, so that it needs no other thread and no signal,
and works in any process. It looks at the processor time of its own thread: a busy machine changes no result.
"""

from __future__ import annotations

import time
from typing import Any

from jinja2 import Environment, nodes
from jinja2.compiler import CodeGenerator, Frame

from tokensieve.data.chat_template_private import compiled_template
from tokensieve.data.template_errors import TemplateTimeError

SECONDS = 10.0
"""Processor time for one conversation; real templates take far less than a hundredth of a second."""
_CHECK, _STEPS_BETWEEN_LOOKS = "within_the_time_limit", 256


class LimitedTime:
    """Limits the time that transformers takes to render a chat template within a ``with`` block.

    Args:
        source: the template, which transformers compiles once.

    Raises:
        TemplateTimeError: the template took too long.
        TokensieveError: a transformers that compiles templates in another way.
    """

    def __init__(self, source: str) -> None:
        self._watch = _watched(source)

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
    """Ends a rendering that takes too long; others, such as those of the trainer, may use the template too."""

    def __init__(self) -> None:
        self._on, self._steps, self._end = False, 0, 0.0

    def start(self) -> None:
        self._on, self._steps = True, 0

    def stop(self) -> None:
        self._on = False

    def look(self, _: object) -> bool:
        """Count a step, and look at the clock now and then: most templates end before the first time."""
        self._steps += 1
        if self._on and self._steps % _STEPS_BETWEEN_LOOKS == 0:
            now = time.thread_time()
            if self._steps == _STEPS_BETWEEN_LOOKS:
                self._end = now + SECONDS
            elif now > self._end:
                raise _TimeIsUpError
        return True


def _watched(source: str) -> _Watch:
    """Return the watch of the template that transformers holds compiled, after compiling it with one."""
    template = compiled_template(source)
    environment: Any = template.environment
    if environment.code_generator_class is not _CheckedSteps:
        environment.code_generator_class = _CheckedSteps
        environment.tests[_CHECK] = _Watch().look
        compiled = environment.from_string(source)
        template.root_render_func, template.blocks = compiled.root_render_func, compiled.blocks
    return environment.tests[_CHECK].__self__


class _CheckedSteps(CodeGenerator):
    """Compiles a check into whatever may run more than once."""

    def visit_Template(self, node: nodes.Template, frame: Frame | None = None) -> None:  # noqa: N802
        for block in [*node.find_all((nodes.For, nodes.Macro, nodes.CallBlock))]:
            block.body.insert(0, _check(block.lineno, self.environment))
        super().visit_Template(node, frame)


def _check(line: int, environment: Environment) -> nodes.Node:
    test = nodes.Test(nodes.ContextReference(), _CHECK, [], [], None, None)  # of a constant, it would be left out
    return nodes.ExprStmt(test).set_lineno(line).set_environment(environment)
