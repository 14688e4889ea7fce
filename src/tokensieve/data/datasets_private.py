"""What tokensieve uses of the inside of `datasets`: its cache, the names of data sets there, how to stay offline."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tokensieve.versions import check_version

KNOWN = ">=4.0,<6"


def is_cached(repository: str) -> bool:
    """Return whether a data set of the Hub, ``owner/name``, is in the cache of this machine.

    Raises:
        TokensieveError: another version of `datasets` than those whose cache is known.
    """
    check_version("datasets", KNOWN)
    from datasets import config
    from datasets.naming import camelcase_to_snakecase

    owner, name = repository.split("/")
    return (Path(config.HF_DATASETS_CACHE) / f"{owner}___{camelcase_to_snakecase(name)}").is_dir()


def fix_cache_folder() -> None:
    """Let a relative cache folder (HF_DATASETS_CACHE) stay where it is when the current folder changes.

    Raises:
        TokensieveError: as `is_cached`.
    """
    check_version("datasets", KNOWN)
    from datasets import config

    config.HF_DATASETS_CACHE = Path(config.HF_DATASETS_CACHE).absolute()


@contextmanager
def offline() -> Iterator[None]:
    """Let `datasets`, `huggingface_hub` and `transformers` read only what is on this machine, while the block runs.

    What they would have to fetch is an error with a `ConnectionError` among its causes.

    Raises:
        TokensieveError: as `is_cached`.
    """
    check_version("datasets", KNOWN)
    from datasets import config
    from huggingface_hub import constants

    before = config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE
    config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before
