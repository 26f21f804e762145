"""A cache on disk, by content."""

import hashlib
import os
import threading
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

A = TypeVar("A")


@dataclass(frozen=True)
class Cache:
    """Arrays on disk under the hash of what they were made from, so that nothing is computed twice."""

    folder: Path

    def get(self, key: Iterable[str | bytes], make: Callable[[], np.ndarray]) -> np.ndarray:
        """The array stored under the key's hash, or made now and stored; a damaged file counts as absent."""
        digest = hashlib.blake2b(digest_size=20)
        for part in key:
            raw = part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass")
            digest.update(len(raw).to_bytes(8, "little") + raw)
        path = self.folder / f"{digest.hexdigest()}.npy"
        try:
            return typing.cast(np.ndarray, np.load(path, allow_pickle=False))
        except (OSError, ValueError, EOFError):
            value = make()
        self.folder.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.npy.aside")
        try:
            with aside.open("wb") as file:
                np.save(file, value, allow_pickle=False)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
        return value
