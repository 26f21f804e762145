"""Load models in threads of their own, for a limited time.

A model that hangs holds its own thread and nothing else. Errors name no path of the server.
"""

import os
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from tailor.errors import ModelError
from tailor.service.batcher import (
    CheckedModel,
    LoadedPredictor,
    LoadedRecommender,
    check_model,
    load_model,
)

T = TypeVar("T")
LOAD_S = 60.0  # for which a model is waited for; others are loaded then
PATHS = re.compile(r"(?<![\w./:])/([\w.@+~-]+)/[^\s'\"(),;:]*")  # absolute; group 1: the top folder


class ModelLoader:
    """Loads models of the register, and folders that are to be registered."""

    def __init__(self, explore: float, root: Path | None) -> None:
        self.explore = explore
        self.root = root
        """Folder of saved models, which errors leave out of paths."""
        self._waiting: dict[tuple[str, ...], Future[LoadedRecommender | LoadedPredictor]] = {}

    def load(self, tenant: str, row: Mapping[str, Any]) -> LoadedRecommender | LoadedPredictor:
        """Return the model of a row of the register.

        Raises ModelError where it cannot be loaded, or takes longer than LOAD_S. Then it is loaded
        on, and a later call returns it.
        """
        key = (tenant, str(row["version"]), row["digest"], row["folder"])
        future = self._waiting.get(key)
        if future is None:
            future = _begin(lambda: load_model(row, self.explore))
            self._waiting[key] = future
        try:
            return self._result(future, row["folder"])
        finally:
            if future.done():
                self._waiting.pop(key, None)

    def check(self, folder: Path) -> CheckedModel:
        """Return a saved model that was loaded and asked once. Raises ModelError as `load` does."""
        return self._result(_begin(lambda: check_model(folder)), folder)

    def _result(self, future: Future[T], folder: str | Path) -> T:
        try:
            return future.result(LOAD_S)
        except TimeoutError:
            problem = f"{folder} is not loaded after {LOAD_S:g} s: look whether its disk answers"
        except Exception as error:
            problem = str(error)
        raise ModelError(without_paths(problem, folder, self.root)) from None


def _begin(job: Callable[[], T]) -> Future[T]:
    """Return the future of a job that a thread of its own does."""
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(job())
        except BaseException as error:
            future.set_exception(ModelError(str(error)))

    threading.Thread(target=work, name="tailor-load", daemon=True).start()
    return future


def shown_folder(folder: str | Path, root: Path | None) -> str:
    """Return how answers and logs name a folder: within the models folder, or by its last part."""
    if root is not None:
        with suppress(OSError, RuntimeError, ValueError):
            return Path(folder).relative_to(root.resolve()).as_posix()
    return Path(folder).name


def without_paths(text: str, folder: str | Path, root: Path | None) -> str:
    """Return a text with `folder` as `shown_folder` names it, and no absolute path."""
    text = text.replace(str(folder), shown_folder(folder, root))
    return PATHS.sub(_last_part, text)


def _last_part(match: re.Match[str]) -> str:
    """Return the last part of a path of this machine; another text, such as a route, as it is."""
    if not os.path.isdir(f"/{match[1]}"):
        return match[0]
    return match[0].rstrip("/").rpartition("/")[2]
