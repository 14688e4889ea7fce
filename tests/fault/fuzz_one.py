"""One reader under the fuzzer; `fuzz_readers` starts it, since libFuzzer ends the process.

python tests/fault/fuzz_one.py READER FOLDER [OPTION OF LIBFUZZER ...] CORPUS
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris  # pyright: ignore[reportMissingModuleSource]


def main(name: str, folder: str, *options: str) -> None:
    with atheris.instrument_imports(include=["tokensieve"]):  # pyright: ignore[reportAttributeAccessIssue]
        from fuzz_targets import TARGETS

        target = TARGETS[name](Path(folder))
        assert all(map(target.read, target.good)), "a good input is refused"  # now all is loaded

    def read(data: bytes) -> None:
        target.read(data)

    atheris.Setup([sys.argv[0], *options], read)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
