"""Folders written so that neither a full disk nor a kill leaves one that looks whole."""

import hashlib
import os
import re
import secrets
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from tailor.errors import DataError, TailorError

PARTIAL = ".partial-"


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of the file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def written_aside(
    target: str | Path, overwrite: bool = False, error: type[TailorError] = DataError
) -> Iterator[Path]:
    """Yield a fresh folder beside `target` to write into.

    It takes the target's place when the block ends well, else it is removed, on SIGTERM too. A
    killed process leaves at most a hidden folder `.name.partial-TOKEN-PID`, which the next write of
    the same target removes. Raises `error` where the target exists (or came to exist meanwhile) and
    `overwrite` is not set, or where the disk refuses (nothing is changed then).
    """
    with terminated_by_exception():
        yield from _written_aside(Path(target), overwrite, error)


def _written_aside(target: Path, overwrite: bool, error: type[TailorError]) -> Iterator[Path]:
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
    aside = target.with_name(f".{target.name}{PARTIAL}{mark}")
    old = target.with_name(f".{target.name}{PARTIAL}old-{mark}")
    try:
        aside.mkdir()
    except OSError as problem:
        raise error(f"cannot write {target}: {problem.strerror or problem}") from problem
    try:
        yield aside
        _flush(aside)
        _put_in_place(aside, target, old, overwrite, error)
    except OSError as problem:
        raise error(
            f"writing {target} failed ({problem.strerror or problem}); nothing was left there"
        ) from problem
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _put_in_place(
    aside: Path, target: Path, old: Path, overwrite: bool, error: type[TailorError]
) -> None:
    """Rename the new folder to the target; what was there goes."""
    # looked at once: where it comes to exist after this, the second rename fails
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


def _clear_leftovers(target: Path) -> None:
    """Remove what killed writes of this target left.

    A target that a kill between two renames cost its place gets it back.
    """
    leftover = re.compile(
        re.escape(f".{target.name}{PARTIAL}") + r"(old-)?(?:[0-9a-f]{8}-)?([0-9]{1,9})"
    )
    for path in list(target.parent.iterdir()):
        match = leftover.fullmatch(path.name)
        if match is None or _alive(int(match[2])):
            continue
        if match[1] and not target.exists():
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
    """Yield a path beside `path` to write a file to.

    It takes the place of `path` when the block ends well, else it is removed.
    """
    path = Path(path)
    aside = path.with_name(f".{path.name}{PARTIAL}{os.getpid()}")
    with terminated_by_exception():
        try:
            yield aside
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Raise DataError for a path where `replaced_by` could put no file; nothing stays there."""
    if path.is_dir():
        raise DataError(f"{path} is a folder: name a file in it")
    if not path.parent.is_dir():
        raise DataError(
            f"{path} cannot be written: there is no folder {path.parent}; make it first"
        )
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise DataError(
            f"{path} cannot be written ({error.strerror}): name a file in another folder"
        ) from error


@contextmanager
def terminated_by_exception() -> Iterator[None]:
    """Let SIGTERM raise SystemExit within the block, so that what was begun is cleaned up.

    Nothing changes outside the main thread, and where somebody handles the signal already.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
