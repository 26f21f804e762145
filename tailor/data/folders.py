"""Writing folders so that a full disk or a kill at any moment never leaves one that looks whole."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tailor.errors import DataError, TailorError

PARTIAL = ".partial-"


@contextmanager
def written_aside(target: str | Path, overwrite: bool = False, error: type[TailorError] = DataError) -> Iterator[Path]:
    """A fresh folder beside `target` to write into; it takes target's place when the block ends well, else it is removed.

    A killed process leaves at most a hidden folder `.name.partial-PID`, which the next write of the same target removes.
    Raises `error` where the target exists and `overwrite` is not set, or where the disk refuses (nothing is changed then).
    """
    target = Path(target)
    if target.exists() and not overwrite:
        raise error(f"{target} is there already: choose another name, remove it, or pass overwrite (--overwrite)")
    if target.exists() and not target.is_dir():
        raise error(f"{target} is a file, a folder is to be written there: choose another name")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for stale in target.parent.glob(f".{target.name}{PARTIAL}*"):
            if not _alive(int(stale.name.rsplit("-", 1)[1])):
                shutil.rmtree(stale, ignore_errors=True)
        aside = target.with_name(f".{target.name}{PARTIAL}{os.getpid()}")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
    except OSError as problem:
        raise error(f"cannot write {target}: {problem.strerror or problem}") from problem
    try:
        yield aside
        _flush(aside)
        if target.exists():
            old = target.with_name(f".{target.name}{PARTIAL}old-{os.getpid()}")
            target.rename(old)
            try:
                aside.rename(target)
            except BaseException:  # not even Ctrl-C between the two may cost what was there
                old.rename(target)
                raise
            shutil.rmtree(old, ignore_errors=True)
        else:
            aside.rename(target)
    except OSError as problem:
        raise error(f"writing {target} failed ({problem.strerror or problem}); nothing was left there") from problem
    finally:
        shutil.rmtree(aside, ignore_errors=True)


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
    """A path beside `path` to write a file to; it takes the place of `path` when the block ends well, else it is removed."""
    path = Path(path)
    aside = path.with_name(f".{path.name}{PARTIAL}{os.getpid()}")
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
