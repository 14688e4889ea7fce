"""The command line over small shards, so that there are many; it is the user's in all else.

python tests/small_shards.py run recipe.yaml
"""

from __future__ import annotations

import sys

from tokensieve.cli import main
from tokensieve.data import prepare


def tokensieve(arguments: list[str], shard_tokens: int = 4000, chunk_rows: int = 100) -> None:
    prepare.SHARD_TOKENS, prepare.CHUNK_ROWS = shard_tokens, chunk_rows
    main(arguments)


if __name__ == "__main__":
    tokensieve(sys.argv[1:])
