"""What tokensieve uses of the inside of transformers for chat templates: the compiled template, and its marks.

The rest is in `models.transformers_private`, which loads PyTorch; rows are read without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tokensieve.errors import TokensieveError

if TYPE_CHECKING:
    from jinja2 import Environment, Template

_ENVIRONMENT = "ImmutableSandboxedEnvironment"


def compiled_template(source: str, environment: type[Environment]) -> Template:
    """Return the template that transformers holds compiled for a source, and renders.

    Args:
        source: the template.
        environment: what transformers compiles all templates in from now on: a class derived from Jinja's sandbox.
            Another would do the arithmetic of a template's constants at once, without a limit.

    Raises:
        TokensieveError: a transformers that compiles templates in another way.
    """
    import transformers
    from transformers.utils import chat_template_utils

    utilities: Any = chat_template_utils
    if not (hasattr(utilities, _ENVIRONMENT) and hasattr(utilities, "_compile_jinja_template")):
        raise TokensieveError(
            f"transformers {transformers.__version__} compiles chat templates in another way: they have no limits",
            hint="install transformers 5.23",
        )
    if getattr(utilities, _ENVIRONMENT) is not environment:
        setattr(utilities, _ENVIRONMENT, environment)
        utilities._compile_jinja_template.cache_clear()
    return utilities._compile_jinja_template(source)


def render_texts(
    template: Template, messages: list[dict[str, Any]], special_tokens: Mapping[str, Any], *, mark: bool, prompt: bool
) -> tuple[str, list[tuple[int, int]]]:
    """Return what transformers renders of messages that are no more than a role and a text, without its checks.

    It rebuilds all values that a template sees from plain JSON types, and copies thoughts under other names: both
    leave such messages as they are, and take a third of the time.

    Args:
        template: that of transformers.
        messages: each with the keys ``role`` and ``content``, both ``str`` and of no derived type.
        special_tokens: plain strings by name.
        mark: whether to return what lies in ``{% generation %}``.
        prompt: whether to ask for the generation prompt.

    Returns:
        The text, and first character and last (exclusive) of each marked part.
    """
    values = {"messages": messages, "tools": None, "documents": None, "add_generation_prompt": prompt, **special_tokens}
    if not mark:
        return template.render(values), []
    blocks, spans = list[str](), list[tuple[int, int]]()
    environment: Any = template.environment
    with environment.activate_tracker(blocks, spans):
        for block in template.generate(values):
            blocks.append(block)  # the tracker reads the list while it grows
    return "".join(blocks), spans
