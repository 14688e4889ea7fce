"""What tokensieve uses of the inside of transformers for chat templates: the compiled template that it keeps.

The rest is in `models.transformers_private`, which loads PyTorch; rows are read without it.
"""

from __future__ import annotations

from jinja2 import Template

from tokensieve.errors import TokensieveError


def compiled_template(source: str) -> Template:
    """Return the template that transformers holds compiled for a source, and renders.

    Raises:
        TokensieveError: a transformers that compiles templates in another way.
    """
    import transformers
    from transformers.utils import chat_template_utils

    compile_template = getattr(chat_template_utils, "_compile_jinja_template", None)
    if compile_template is None:
        raise TokensieveError(
            f"transformers {transformers.__version__} compiles chat templates in another way: they have no time limit",
            hint="install transformers 5.23",
        )
    return compile_template(source)
