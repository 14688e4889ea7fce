"""The text of a file, plain or compressed, and its lines, no matter how long they are."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, AnyStr

from tokensieve.data.readers.items import CODECS
from tokensieve.errors import TokensieveError
from tokensieve.store.remote import open_file, open_stream

_LINE_ENDS: tuple[object, ...] = ("\n", "\r", b"\n")


def open_text(path: Path, byte: int = 0) -> IO[str]:
    """Open a text file, decompressed where its name says so, at one of its bytes."""
    import pyarrow as pa

    if byte:
        file = open_file(path)
        file.seek(byte)
        return io.TextIOWrapper(file, encoding="utf-8", newline="")  # the mark of the encoding is at the beginning

    stream: Any = open_stream(path)
    if (codec := CODECS.get(path.suffix.lower())) is not None:
        # pyarrow reads every frame and refuses a file that was cut short
        stream = pa.CompressedInputStream(stream, codec)
    return io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")


def cut_lines(handle: IO[AnyStr], most: int) -> Iterator[tuple[AnyStr, int]]:
    """Yield at most ``most + 1`` characters, or bytes, of each line, and the length of the whole line."""
    while line := handle.readline(most + 1):
        length, part = len(line), line
        while len(part) > most and part[-1:] not in _LINE_ENDS:
            part = handle.readline(most + 1)
            length += len(part)
        yield line, length


def first_line(path: Path, most: int) -> str:
    """Return at most ``most + 1`` characters of the first line that is not blank."""
    with open_text(path) as handle:
        return next((line for line, _ in cut_lines(handle, most) if line.strip()), "")


def too_large(text: str, most: int) -> bool:
    """Whether a text has more than so many bytes of UTF-8."""
    if 4 * len(text) <= most:
        return False
    return len(text) > most or len(text.encode(errors="surrogatepass")) > most


def too_large_error(where: str, most: int, hint: str = "") -> TokensieveError:
    """Return the error of a row that is larger than `data.max_row_bytes` allows."""
    return TokensieveError(
        f"the row has more than {most:,} bytes (data.max_row_bytes)",
        where=where,
        hint=hint or f"split it into rows of their own, or raise the limit: data.max_row_bytes={8 * most}",
    )
