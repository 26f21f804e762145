"""The models of one worker: which of them answers which user.

Nothing here is lost by a restart: the store's register says it all.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa

from tailor.errors import StoreError, TailorError
from tailor.service.batcher import (
    LoadedPredictor,
    LoadedRecommender,
    load_predictor,
    load_recommender,
)
from tailor.service.problems import ProblemError
from tailor.store import experiments
from tailor.store.engine import UNAVAILABLE, reading
from tailor.store.models import PREDICTS, RECOMMENDS, list_models, serve_model
from tailor.store.writer import Writer

T = TypeVar("T")
Row = dict[str, Any]
log = logging.getLogger("tailor.service")
TRIES = "tries"  # the kind of an experiment, beside RECOMMENDS and PREDICTS
SOON_S = 0.1  # for which a caller without a model waits while others' models are loaded
LOOK_S = 1.0  # between two looks for another model
AGAIN_S = 30.0  # until a failed load is tried again: the folder may have been away
GRACE_S = 30  # for which a replaced model is kept for its last callers


@dataclass(frozen=True)
class RunningExperiment:
    """An experiment whose models are loaded."""

    name: str
    arms: tuple[LoadedRecommender, ...]
    shares: tuple[float, ...]


@dataclass(frozen=True)
class Failure:
    """A model or experiment that could not be loaded."""

    subject: str
    reason: str
    failed_s: float

    def __str__(self) -> str:
        return f"{self.subject}: {self.reason}"


class ModelRegistry:
    """Keeps the models that the store's register names loaded; looks at it every LOOK_S."""

    def __init__(self, engine: sa.Engine, writer: Writer, explore: float) -> None:
        self.engine = engine
        self.writer = writer
        self.explore = explore
        self._models: dict[str, LoadedRecommender] = {}
        self._predictors: dict[str, LoadedPredictor] = {}
        self._experiments: dict[str, RunningExperiment] = {}
        self._failures: dict[tuple[str, str], Failure] = {}  # by tenant and kind
        self._tenants: set[str] = set()
        self._lock = threading.RLock()
        self._loading = threading.Lock()  # one model at a time
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="tailor-models", daemon=True)

    def start(self, tenants: Iterable[str]) -> None:
        """Load the models of these tenants, then keep looking."""
        self._tenants |= set(tenants)
        for tenant in sorted(self._tenants):
            with suppress(*UNAVAILABLE):
                self.refresh(tenant)
        self._watcher.start()

    def stop(self) -> None:
        """Answer what waits, then end."""
        self._stop.set()
        arms = [arm for running in self._experiments.values() for arm in running.arms]
        models = {id(model): model for model in (*self._models.values(), *arms)}
        for model in models.values():
            model.batcher.close()

    def model(self, tenant: str, user_id: str | None = None) -> LoadedRecommender:
        """Return the model that answers; for a user in an experiment that of the user's arm.

        Raises ProblemError where there is none.
        """
        model = self.loaded(tenant, user_id)
        if model is None:
            self._refresh_soon(tenant)
            model = self.loaded(tenant, user_id)
        if model is None:
            failure = self._failures.get((tenant, RECOMMENDS))
            raise ProblemError(
                503,
                f"no model answers yet{f' ({failure})' if failure else ''}: run `tailor refit`,"
                " start with --model, or POST a folder to /v1/models",
                retry_s=30,
            )
        return model

    def loaded(self, tenant: str, user_id: str | None = None) -> LoadedRecommender | None:
        """Return the model that answers if it is loaded, without asking the store."""
        with self._lock:
            model = self._models.get(tenant)
            running = self._experiments.get(tenant)
        if running is not None and user_id is not None:
            arm = experiments.arm_of(tenant, running.name, user_id, running.shares)
            return running.arms[arm]
        return model

    def predictor(self, tenant: str) -> LoadedPredictor:
        """Return the model that predicts. Raises ProblemError where there is none."""
        predictor = self._predictors.get(tenant)
        if predictor is None:
            self._refresh_soon(tenant)
            predictor = self._predictors.get(tenant)
        if predictor is None:
            failure = self._failures.get((tenant, PREDICTS))
            raise ProblemError(
                409,
                f"no model predicts here{f' ({failure})' if failure else ''}: fit one (`tailor fit"
                " FactorizationMachine`), then start with --predictor FOLDER or POST its folder to"
                " /v1/models",
            )
        return predictor

    def refresh(self, tenant: str) -> None:
        """Load what the store names, if it is another model; the old one answers until then.

        Where a model cannot be loaded, the old one stays; where there is none, the latest that can
        be loaded answers.
        """
        with self._loading:
            self._refresh(tenant)

    def _refresh_soon(self, tenant: str) -> None:
        """Refresh for a caller, unless another model is being loaded.

        Waiting for that could take long, and would exhaust the thread pool.
        """
        with self._lock:
            self._tenants.add(tenant)
        if self._loading.acquire(timeout=SOON_S):
            try:
                self._refresh(tenant)
            finally:
                self._loading.release()

    def _refresh(self, tenant: str) -> None:
        rows, running = self._read(
            lambda connection: (
                list_models(connection, tenant),
                experiments.running_experiment(connection, tenant),
            )
        )
        for kind in (RECOMMENDS, PREDICTS):
            served = [row for row in rows if row["kind"] == kind and row["served_ms"] is not None]
            self._load_latest(tenant, kind, served)
        self._refresh_experiment(tenant, running, {row["version"]: row for row in rows})

    def _load_latest(self, tenant: str, kind: str, rows: Sequence[Row]) -> None:
        """Load the first row; where nothing is loaded yet, the first that can be loaded."""
        current: LoadedRecommender | LoadedPredictor | None
        current = self._models.get(tenant) if kind == RECOMMENDS else self._predictors.get(tenant)
        if current is not None and rows and current.is_row(rows[0]):
            return
        candidates = rows if current is None else rows[:1]
        for row in candidates:
            if self._try_load(tenant, row):
                return

    def switch(self, tenant: str, version: int) -> LoadedRecommender | LoadedPredictor:
        """Load a registered version, then let it answer, here and in every worker.

        Raises ModelError or StoreError where it cannot: nothing changes then.
        """
        with self._loading:
            row = self._registered(tenant, [version])[0]
            model = self._load(row)
            self.writer.do(lambda connection: serve_model(connection, tenant, version))
            self._use(tenant, model)
        return model

    def begin_experiment(
        self, tenant: str, name: str, arms: list[dict[str, Any]], action: str | None
    ) -> None:
        """Load the models of an experiment, then begin it.

        Raises StoreError or ModelError where it cannot: nothing changes then.
        """
        with self._loading:
            rows = self._registered(tenant, [arm["version"] for arm in arms])
            running = self._load_experiment(tenant, name, arms, rows)
            self.writer.do(
                lambda connection: experiments.start(connection, tenant, name, arms, action)
            )
            with self._lock:
                self._experiments[tenant] = running

    def _read(self, job: Callable[[sa.Connection], T]) -> T:
        with reading(self.engine) as connection:
            return job(connection)

    def _registered(self, tenant: str, versions: list[int]) -> list[Row]:
        """Return the rows of versions. Raises StoreError for an unknown one."""
        rows = self._read(lambda connection: list_models(connection, tenant))
        by_version = {row["version"]: row for row in rows}
        for version in versions:
            if version not in by_version:
                raise StoreError(f"there is no model version {version}")
        return [by_version[version] for version in versions]

    def _try_load(self, tenant: str, row: Row) -> bool:
        """Load a version and use it; return whether that worked."""
        slot = (tenant, row["kind"])
        subject = f"version {row['version']}"
        if self._failed_lately(slot, subject):
            return False
        try:
            self._use(tenant, self._load(row))
        except TailorError as error:
            self._note_failure(slot, subject, error, "model not in place")
            return False
        return True

    def _failed_lately(self, slot: tuple[str, str], subject: str) -> bool:
        """Return whether this failed so lately that it would again."""
        last = self._failures.get(slot)
        if last is None or last.subject != subject:
            return False
        return time.monotonic() - last.failed_s < AGAIN_S

    def _note_failure(
        self, slot: tuple[str, str], subject: str, error: TailorError, message: str
    ) -> None:
        """Remember a failure, and log it once for each reason."""
        last = self._failures.get(slot)
        self._failures[slot] = Failure(subject, str(error), time.monotonic())
        if last is None or (last.subject, last.reason) != (subject, str(error)):
            extra = {"tenant": slot[0], "what": subject, "error": str(error)}
            log.error(message, extra=extra)

    def _load(self, row: Row) -> LoadedRecommender | LoadedPredictor:
        if row["kind"] == PREDICTS:
            return load_predictor(row["version"], row["folder"], row["digest"])
        return load_recommender(row["version"], row["folder"], row["digest"], self.explore)

    def _use(self, tenant: str, model: LoadedRecommender | LoadedPredictor) -> None:
        """Let a loaded model answer."""
        replaced = None
        with self._lock:
            if isinstance(model, LoadedPredictor):
                kind: str = PREDICTS
                self._predictors[tenant] = model
            else:
                kind = RECOMMENDS
                replaced = self._models.get(tenant)
                self._models[tenant] = model
            self._failures.pop((tenant, kind), None)
            self._tenants.add(tenant)
        log.info("model in place", extra={"tenant": tenant, "version": model.version})
        self._retire([replaced] if replaced else [], tenant)

    def _refresh_experiment(self, tenant: str, row: Row | None, rows: Mapping[int, Row]) -> None:
        """Load an experiment that another worker began, and drop one that has ended.

        Where one of its models cannot be loaded, no user takes part here.
        """
        current = self._experiments.get(tenant)
        name = None if row is None else row["name"]
        current_name = None if current is None else current.name
        slot = (tenant, TRIES)
        subject = f"experiment {name}"
        if name == current_name or (name is not None and self._failed_lately(slot, subject)):
            return
        new = None
        if row is not None:
            arm_rows = [rows[arm["version"]] for arm in row["arms"]]
            try:
                new = self._load_experiment(tenant, row["name"], row["arms"], arm_rows)
            except TailorError as error:
                self._note_failure(slot, subject, error, "experiment not in place")
        with self._lock:
            self._experiments.pop(tenant, None)
            if new is not None:
                self._experiments[tenant] = new
        self._retire([] if current is None else current.arms, tenant)

    def _load_experiment(
        self, tenant: str, name: str, arms: list[dict[str, Any]], rows: list[Row]
    ) -> RunningExperiment:
        current = self._models.get(tenant)
        models = []
        for row in rows:
            if current is not None and current.is_row(row):
                models.append(current)
            else:
                version, folder, digest = row["version"], row["folder"], row["digest"]
                models.append(load_recommender(version, folder, digest, self.explore))
        return RunningExperiment(name, tuple(models), tuple(arm["share"] for arm in arms))

    def _retire(self, models: Iterable[LoadedRecommender], tenant: str) -> None:
        """End models that no user is sent to any more, after GRACE_S."""
        running = self._experiments.get(tenant)
        for model in models:
            is_arm = running is not None and model in running.arms
            if model is not self._models.get(tenant) and not is_arm:
                threading.Timer(GRACE_S, model.batcher.close).start()

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_S):
            for tenant in list(self._tenants):
                with suppress(*UNAVAILABLE):
                    self.refresh(tenant)
