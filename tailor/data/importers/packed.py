"""Files plain, or inside a gzip file or a zip archive of one file."""

import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tailor.errors import DataError

GZIP, ZIP = b"\x1f\x8b", b"PK\x03\x04"
DAMAGE = (
    EOFError,
    gzip.BadGzipFile,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    NotImplementedError,
    RuntimeError,
)
# bytes that any archive may unpack to, and how many times its own size a larger one may
SMALL, RATIO = 64 * 2**20, 100


class _Bounded(io.RawIOBase):
    """An unpacked stream of bounded length; a longer one raises DataError."""

    def __init__(self, path: Path, stream: IO[bytes]) -> None:
        self.path = path
        self.stream = stream
        self.left = max(SMALL, RATIO * path.stat().st_size)

    def read(self, size: int = -1) -> bytes:
        piece = self.stream.read(self.left + 1 if size < 0 else size)
        self.left -= len(piece)
        if self.left < 0:
            raise DataError(
                f"{self.path} unpacks to more than {RATIO} times its size: no file of rows does;"
                " unpack it yourself if it is one"
            )
        return piece


def is_packed(path: Path) -> bool:
    """Return whether a file is packed by gzip or zip."""
    with path.open("rb") as file:
        return file.read(4).startswith((GZIP, ZIP))


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Yield the bytes of the file, unpacked.

    Raises DataError for a damaged archive, and for one of several files.
    """
    with path.open("rb") as file:
        head = file.read(4)
    try:
        if head.startswith(GZIP):
            with gzip.open(path) as unpacked:
                yield _Bounded(path, unpacked)  # type: ignore[arg-type, misc]
        elif head.startswith(ZIP):
            with zipfile.ZipFile(path) as archive, archive.open(_only(path, archive)) as member:
                yield _Bounded(path, member)  # type: ignore[misc]
        else:
            with path.open("rb") as plain:
                yield plain
    except DAMAGE as error:
        if not head.startswith((GZIP, ZIP)):
            raise
        kind = "a gzip file" if head.startswith(GZIP) else "a zip archive"
        raise DataError(
            f"{path} is {kind} that is damaged or cut short ({error}): fetch it again, or unpack it"
            " yourself"
        ) from None


def _only(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    files = [
        file
        for file in archive.infolist()
        if not file.is_dir() and not file.filename.startswith("__MACOSX/")
    ]
    if len(files) != 1:
        names = ", ".join(file.filename for file in files[:5])
        names += ", ..." if len(files) > 5 else ""
        raise DataError(
            f"{path} holds {len(files)} files ({names or 'none'}), one is needed: unpack it and"
            " name the file"
        )
    return files[0]


def inner_name(path: Path) -> str:
    """Return the name without the ending of its packing: `x.jsonl.gz` is an x.jsonl."""
    if path.suffix.lower() in {".gz", ".zip"}:
        return path.name[: -len(path.suffix)]
    return path.name
