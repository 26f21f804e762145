"""Load models in threads of their own, for a limited time.

A model that hangs holds its own thread and nothing else. Errors name no path of the server.
"""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from tailor.errors import ModelError, TailorError
from tailor.service.batcher import (
    CheckedModel,
    Loaded,
    check_model,
    load_model,
)
from tailor.service.paths import without_paths

T = TypeVar("T")
LOAD_S = 60.0  # for which a model is waited for; others are loaded then


class ModelLoader:
    """Loads models of the register, and folders that are to be registered."""

    def __init__(self, explore: float, root: Path | None) -> None:
        self.explore = explore
        self.root = root
        """Folder of saved models, which errors leave out of paths."""
        self._waiting: dict[tuple[str, ...], Future[Loaded]] = {}

    def load(self, tenant: str, row: Mapping[str, Any]) -> Loaded:
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
        except TailorError as error:
            future.set_exception(error)
        except BaseException as error:  # its text may hold anything
            future.set_exception(ModelError(f"it cannot be loaded ({type(error).__name__})"))

    threading.Thread(target=work, name="tailor-load", daemon=True).start()
    return future
