"""Which model answers whom: the one in place of each tenant, and those of its experiment. No state
of its own that a restart would lose.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa

from tailor.errors import StoreError, TailorError
from tailor.service.batcher import LoadedPredictor, LoadedRecommender, load_predictor, opened
from tailor.service.problems import ProblemError
from tailor.store import experiments
from tailor.store.engine import UNAVAILABLE, reading
from tailor.store.models import PREDICTS, RECOMMENDS, list_models, serve_model
from tailor.store.writer import Writer

T = TypeVar("T")
log = logging.getLogger("tailor.service")
TRIES = "tries"  # beside RECOMMENDS and PREDICTS
SOON_S = 0.1  # that somebody without a model waits while others' models are loaded
LOOK_S = 1.0  # between looks for another model
AGAIN_S = 30.0  # until what could not be loaded is tried again: its folder may have been away
GRACE_S = 30  # that a model is kept for those who hold it still


@dataclass(frozen=True)
class RunningExperiment:
    """A running experiment with its models in place."""

    name: str
    arms: tuple[LoadedRecommender, ...]
    shares: tuple[float, ...]


@dataclass(frozen=True)
class Failure:
    """What could not be put in place, why, and when that was found."""

    what: str
    why: str
    at: float

    def __str__(self) -> str:
        return f"{self.what}: {self.why}"


class ModelRegistry:
    """The models of one worker, as the store names them; looked at anew every LOOK_S."""

    def __init__(self, engine: sa.Engine, writer: Writer, explore: float) -> None:
        self.engine, self.writer, self.explore = engine, writer, explore
        self._models: dict[str, LoadedRecommender] = {}
        self._predictors: dict[str, LoadedPredictor] = {}
        self._trials: dict[str, RunningExperiment] = {}
        # (tenant, kind) -> why its newest could not be put in place
        self._failed: dict[tuple[str, str], Failure] = {}
        self._tenants: set[str] = set()
        self._lock = threading.RLock()
        self._loading = threading.Lock()  # one model at a time
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="tailor-models", daemon=True)

    def start(self, tenants: Iterable[str]) -> None:
        """Put in place what the store names of these, then keep looking."""
        self._tenants |= set(tenants)
        for tenant in sorted(self._tenants):
            with suppress(*UNAVAILABLE):
                self.look(tenant)
        self._watcher.start()

    def stop(self) -> None:
        """Answer those who wait, then end."""
        self._stop.set()
        every = (
            *self._models.values(),
            *(arm for trial in self._trials.values() for arm in trial.arms),
        )
        for one in {id(one): one for one in every}.values():
            one.batcher.close()

    def model(self, tenant: str, user_id: str | None = None) -> LoadedRecommender:
        """The model that answers; to a person in an experiment, that of the person's arm. Raises
        ProblemError where there is none: nothing is made up.
        """
        found = self.placed(tenant, user_id)
        if found is None:
            self._look_soon(tenant)
            found = self.placed(tenant, user_id)
        if found is None:
            why = self._failed.get((tenant, RECOMMENDS))
            raise ProblemError(
                503,
                f"no model answers yet{f' ({why})' if why else ''}: run `tailor refit`, start with"
                " --model, or POST a folder to /v1/models",
                retry_s=30,
            )
        return found

    def placed(self, tenant: str, user_id: str | None = None) -> LoadedRecommender | None:
        """The same, without asking the store: None where no model is in place here."""
        with self._lock:
            found, trial = self._models.get(tenant), self._trials.get(tenant)
        if trial is not None and user_id is not None:
            return trial.arms[experiments.arm_of(tenant, trial.name, user_id, trial.shares)]
        return found

    def predictor(self, tenant: str) -> LoadedPredictor:
        """The model that predicts. Raises ProblemError where there is none."""
        found = self._predictors.get(tenant)
        if found is None:
            self._look_soon(tenant)
            found = self._predictors.get(tenant)
        if found is None:
            why = self._failed.get((tenant, PREDICTS))
            raise ProblemError(
                409,
                f"no model predicts here{f' ({why})' if why else ''}: fit one (`tailor fit"
                " FactorizationMachine`), then start with --predictor FOLDER or POST its folder to"
                " /v1/models",
            )
        return found

    def look(self, tenant: str) -> None:
        """Put in place what the store names, if it is another; what is in place answers until the
        new can.

        Where a model cannot be loaded the one in place stays; where there is none, the latest that
        can be loaded answers.
        """
        with self._loading:
            self._looked(tenant)

    def _look_soon(self, tenant: str) -> None:
        """The same for somebody who asks; not where another model is being loaded, however long
        that takes: who waited for it would take the threads of all.
        """
        with self._lock:
            self._tenants.add(tenant)
        if self._loading.acquire(timeout=SOON_S):
            try:
                self._looked(tenant)
            finally:
                self._loading.release()

    def _looked(self, tenant: str) -> None:
        found, trial = self._read(
            lambda connection: (
                list_models(connection, tenant),
                experiments.running(connection, tenant),
            )
        )
        for kind in (RECOMMENDS, PREDICTS):
            there = self._models.get(tenant) if kind == RECOMMENDS else self._predictors.get(tenant)
            for row in (
                one for one in found if one["kind"] == kind and one["served_ms"] is not None
            ):
                if (
                    (there is not None and there.is_of(row))
                    or self._try(tenant, row)
                    or there is not None
                ):
                    break
        self._try_out(tenant, trial, {row["version"]: row for row in found})

    def place(self, tenant: str, version: int) -> LoadedRecommender | LoadedPredictor:
        """Load a registered version, and only then let it answer, here and in every worker. Raises
        ModelError or StoreError where it cannot: nothing changes then.
        """
        with self._loading:
            row = self._rows(tenant, [version])[0]
            new = self._opened(row)
            self.writer.do(lambda connection: serve_model(connection, tenant, version))
            self._put(tenant, new)
        return new

    def begin(self, tenant: str, name: str, arms: list[dict[str, Any]], action: str | None) -> None:
        """Load the models of an experiment, and only then begin it. Raises StoreError or ModelError
        where it cannot: nothing changes then.
        """
        with self._loading:
            trial = self._trial(
                tenant, name, arms, self._rows(tenant, [arm["version"] for arm in arms])
            )
            self.writer.do(
                lambda connection: experiments.start(connection, tenant, name, arms, action)
            )
            with self._lock:
                self._trials[tenant] = trial

    def _read(self, job: Callable[[sa.Connection], T]) -> T:
        with reading(self.engine) as connection:
            return job(connection)

    def _rows(self, tenant: str, versions: list[int]) -> list[dict[str, Any]]:
        rows = {
            row["version"]: row
            for row in self._read(lambda connection: list_models(connection, tenant))
        }
        for version in versions:
            if version not in rows:
                raise StoreError(f"there is no model version {version}")
        return [rows[version] for version in versions]

    def _try(self, tenant: str, row: dict[str, Any]) -> bool:
        at = (tenant, row["kind"])
        if self._was_tried(at, what := f"version {row['version']}"):
            return False
        try:
            self._put(tenant, self._opened(row))
        except TailorError as error:
            self._say_failed(at, what, error, "model not in place")
            return False
        return True

    def _was_tried(self, at: tuple[str, str], what: str) -> bool:
        """Whether it failed so lately that it would again."""
        last = self._failed.get(at)
        return last is not None and last.what == what and time.monotonic() - last.at < AGAIN_S

    def _say_failed(self, at: tuple[str, str], what: str, error: TailorError, message: str) -> None:
        """Told once for every reason."""
        last, self._failed[at] = self._failed.get(at), Failure(what, str(error), time.monotonic())
        if last is None or (last.what, last.why) != (what, str(error)):
            log.error(message, extra={"tenant": at[0], "what": what, "error": str(error)})

    def _opened(self, row: dict[str, Any]) -> LoadedRecommender | LoadedPredictor:
        if row["kind"] == PREDICTS:
            return load_predictor(row["version"], row["folder"], row["digest"])
        return opened(row["version"], row["folder"], row["digest"], self.explore)

    def _put(self, tenant: str, new: LoadedRecommender | LoadedPredictor) -> None:
        old = None
        with self._lock:
            if isinstance(new, LoadedPredictor):
                self._predictors[tenant] = new
            else:
                old = self._models.get(tenant)
                self._models[tenant] = new
            self._failed.pop(
                (tenant, PREDICTS if isinstance(new, LoadedPredictor) else RECOMMENDS), None
            )
            self._tenants.add(tenant)
        log.info("model in place", extra={"tenant": tenant, "version": new.version})
        self._retire([old] if old else [], tenant)

    def _try_out(
        self, tenant: str, found: dict[str, Any] | None, rows: dict[int, dict[str, Any]]
    ) -> None:
        """Put an experiment that another worker began in place, and take one away that has ended.
        Where a model of it cannot be loaded nobody is in it here.
        """
        there, name = self._trials.get(tenant), found["name"] if found else None
        at, what = (tenant, TRIES), f"experiment {name}"
        if (there.name if there else None) == name or (
            name is not None and self._was_tried(at, what)
        ):
            return
        trial = None
        if found is not None:
            try:
                trial = self._trial(
                    tenant,
                    found["name"],
                    found["arms"],
                    [rows[arm["version"]] for arm in found["arms"]],
                )
            except TailorError as error:
                self._say_failed(at, what, error, "experiment not in place")
        with self._lock:
            self._trials.pop(tenant, None)
            if trial is not None:
                self._trials[tenant] = trial
        self._retire(there.arms if there else [], tenant)

    def _trial(
        self, tenant: str, name: str, arms: list[dict[str, Any]], rows: list[dict[str, Any]]
    ) -> RunningExperiment:
        there = self._models.get(tenant)
        made = (
            (
                there
                if there is not None and there.is_of(row)
                else opened(row["version"], row["folder"], row["digest"], self.explore)
            )
            for row in rows
        )
        return RunningExperiment(name, tuple(made), tuple(arm["share"] for arm in arms))

    def _retire(self, models: Iterable[LoadedRecommender], tenant: str) -> None:
        """End those that nobody is sent to any more, once those who hold them have asked."""
        trial = self._trials.get(tenant)
        for old in models:
            if old is not self._models.get(tenant) and not (trial and old in trial.arms):
                threading.Timer(GRACE_S, old.batcher.close).start()

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_S):
            for tenant in list(self._tenants):
                with suppress(*UNAVAILABLE):
                    self.look(tenant)
