"""Versions that answer previews: loaded for an administrator, and answering nobody else."""

import threading
from collections import OrderedDict

from tailor.errors import StoreError
from tailor.service.batcher import Loaded, LoadedRecommender
from tailor.service.model_registry import GRACE_S, ModelRegistry
from tailor.service.problems import ProblemError

MOST_LOADED = 2  # versions beside those that answer; the least recently asked goes first


class Previews:
    """Keeps the versions that were previewed last."""

    def __init__(self, registry: ModelRegistry) -> None:
        self.registry = registry
        self._loaded: OrderedDict[tuple[str, int], LoadedRecommender] = OrderedDict()
        self._lock = threading.Lock()

    def model(
        self, tenant: str, user_id: str | None = None, version: int | None = None
    ) -> LoadedRecommender:
        """Return a version that recommends; without one, the model that answers the user.

        Raises ProblemError where there is none, ModelError where it cannot be loaded.
        """
        if version is None:
            return self.registry.model(tenant, user_id)
        with self._lock:
            kept_model = self._loaded.get((tenant, version))
        try:
            model = self.registry.version(tenant, version, kept_model)
        except StoreError as error:
            raise ProblemError(409, f"version: {error}; GET /v1/models lists them") from None
        if not isinstance(model, LoadedRecommender):
            raise ProblemError(409, f"version: {version} is a model that does not recommend")
        if model is not kept_model and not self.registry.answers_with(tenant, model):
            self._keep(tenant, model)
        return model

    def _keep(self, tenant: str, model: LoadedRecommender) -> None:
        """Remember a version; beyond MOST_LOADED the least recently asked is ended."""
        with self._lock:
            replaced = self._loaded.pop((tenant, model.version), None)
            self._loaded[tenant, model.version] = model
            dropped = [] if replaced is None else [replaced]
            while len(self._loaded) > MOST_LOADED:
                dropped.append(self._loaded.popitem(last=False)[1])
        for old in dropped:
            timer = threading.Timer(GRACE_S, old.batcher.close)
            timer.daemon = True
            timer.start()

    def close(self) -> None:
        """End all previewed versions."""
        with self._lock:
            models: list[Loaded] = list(self._loaded.values())
            self._loaded.clear()
        for model in models:
            if isinstance(model, LoadedRecommender):
                model.batcher.close()
