"""Writing folders so that a full disk or a kill at any moment never leaves one that looks whole."""

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tailor.errors import DataError, TailorError

PARTIAL = ".partial-"


def sha256_of(path: Path) -> str:
    """Of the file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def written_aside(
    target: str | Path, overwrite: bool = False, error: type[TailorError] = DataError
) -> Iterator[Path]:
    """A fresh folder beside `target` to write into; it takes target's place when the block ends
    well, else it is removed.

    A killed process leaves at most a hidden folder `.name.partial-TOKEN-PID`, which the next write
    of the same target removes. Raises `error` where the target exists (or came to exist meanwhile)
    and `overwrite` is not set, or where the disk refuses (nothing is changed then).
    """
    target = Path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _clear_leftovers(target)
    except OSError as problem:
        raise error(f"cannot write {target}: {problem.strerror or problem}") from problem
    if target.exists() and not overwrite:
        raise error(
            f"{target} is there already: choose another name, remove it, or pass overwrite"
            " (--overwrite)"
        )
    if target.exists() and not target.is_dir():
        raise error(f"{target} is a file, a folder is to be written there: choose another name")
    mark = f"{secrets.token_hex(4)}-{os.getpid()}"  # two threads may write at once
    aside, old = (target.with_name(f".{target.name}{PARTIAL}{kind}{mark}") for kind in ("", "old-"))
    try:
        aside.mkdir()
    except OSError as problem:
        raise error(f"cannot write {target}: {problem.strerror or problem}") from problem
    try:
        yield aside
        _flush(aside)
        # asked once: where it comes to exist after this, the second rename fails
        if target.exists():
            if not overwrite:
                raise error(
                    f"{target} was written by somebody else meanwhile: choose another name, or pass"
                    " overwrite (--overwrite)"
                )
            target.rename(old)
        try:
            aside.rename(target)
        finally:  # not even Ctrl-C between the two may cost what was there
            if old.exists() and not target.exists():
                old.rename(target)
            shutil.rmtree(old, ignore_errors=True)
    except OSError as problem:
        raise error(
            f"writing {target} failed ({problem.strerror or problem}); nothing was left there"
        ) from problem
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _clear_leftovers(target: Path) -> None:
    """Remove what killed writes of this target left; a target that a kill between two renames cost
    its place gets it back.
    """
    left = re.compile(
        re.escape(f".{target.name}{PARTIAL}") + r"(old-)?(?:[0-9a-f]{8}-)?([0-9]{1,9})"
    )
    for path in list(target.parent.iterdir()):
        found = left.fullmatch(path.name)
        if found is None or _alive(int(found[2])):
            continue
        if found[1] and not target.exists():
            path.rename(target)
        else:
            shutil.rmtree(path, ignore_errors=True)


def _flush(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def replaced_by(path: str | Path) -> Iterator[Path]:
    """A path beside `path` to write a file to; it takes the place of `path` when the block ends
    well, else it is removed.
    """
    path = Path(path)
    aside = path.with_name(f".{path.name}{PARTIAL}{os.getpid()}")
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
