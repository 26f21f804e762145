"""The models of one worker: which of them answers which user.

Nothing here is lost by a restart: the store's register says it all. A model that cannot be loaded,
whatever the reason, is one model that is not there: it is tried again, and all others go on.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from tailor.errors import ModelError, StoreError, TailorError
from tailor.service.batcher import Loaded, LoadedPredictor, LoadedRecommender, LoadedReranker
from tailor.service.model_loading import ModelLoader
from tailor.service.problems import ProblemError
from tailor.store import experiments
from tailor.store.engine import UNAVAILABLE, reading
from tailor.store.models import (
    KINDS,
    PREDICTS,
    RECOMMENDS,
    RERANKS,
    add_model,
    list_models,
    previous_model,
    roll_back,
    serve_model,
)
from tailor.store.writer import Writer

T = TypeVar("T")
Row = dict[str, Any]
log = logging.getLogger("tailor.service")
TRIES = "tries"  # the kind of an experiment, beside KINDS of models
REGISTER = "the register of models"  # subject of a look that failed as a whole
SOON_S = 0.1  # for which a caller without a model waits while others' models are loaded
LOOK_S = 1.0  # between two looks for another model
AGAIN_S = 30.0  # until a failed load is tried again: the folder may have been away
BUSY_S = 30.0  # for which who switches models waits for another one that is being loaded
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
    folder: str = ""
    """Of a model: from another one it is tried at once."""

    def __str__(self) -> str:
        return f"{self.subject}: {self.reason}"


class ModelRegistry:
    """Keeps the models that the store's register names loaded; looks at it every LOOK_S."""

    def __init__(
        self, engine: sa.Engine, writer: Writer, explore: float, root: Path | None = None
    ) -> None:
        """Load models of `engine`; errors name folders as they lie within `root`."""
        self.engine = engine
        self.writer = writer
        self.loader = ModelLoader(explore, root)
        self._models: dict[str, LoadedRecommender] = {}
        self._predictors: dict[str, LoadedPredictor] = {}
        self._rerankers: dict[str, LoadedReranker] = {}
        self._experiments: dict[str, RunningExperiment] = {}
        self._failures: dict[tuple[str, str], Failure] = {}  # by tenant and subject
        # subjects that should answer, by tenant and kind
        self._wanted: dict[tuple[str, str], str] = {}
        self._tenants: set[str] = set()
        self._lock = threading.RLock()
        self._loading = threading.Lock()  # one model at a time
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="tailor-models", daemon=True)

    def start(self, tenants: Iterable[str]) -> None:
        """Load the models of these tenants, then keep looking."""
        self._tenants |= set(tenants)
        for tenant in sorted(self._tenants):
            self._look(tenant)
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
            self.refresh_soon(tenant)
            model = self.loaded(tenant, user_id)
        if model is None:
            failure = self._failure_of(tenant, RECOMMENDS)
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
            self.refresh_soon(tenant)
            predictor = self._predictors.get(tenant)
        if predictor is None:
            failure = self._failure_of(tenant, PREDICTS)
            raise ProblemError(
                409,
                f"no model predicts here{f' ({failure})' if failure else ''}: fit one (`tailor fit"
                " FactorizationMachine`), then start with --predictor FOLDER or POST its folder to"
                " /v1/models",
            )
        return predictor

    def reranker(self, tenant: str) -> LoadedReranker | None:
        """Return the model that reranks texts, None where there is none."""
        return self._rerankers.get(tenant)

    def _failure_of(self, tenant: str, kind: str) -> Failure | None:
        return self._failures.get((tenant, self._wanted.get((tenant, kind), "")))

    def failures(self) -> list[dict[str, str]]:
        """Return what should answer in this worker and cannot, with the reason."""
        subjects = {(tenant, subject) for (tenant, _), subject in list(self._wanted.items())}
        return [
            {"tenant": tenant, "what": subject, "failure": failure.reason}
            for (tenant, subject), failure in sorted(list(self._failures.items()))
            if (tenant, subject) in subjects or subject == REGISTER
        ]

    def state(self, tenant: str, row: Row) -> Row:
        """Return whether a version is loaded, whether it answers, and why it could not be loaded.

        All of it is said of this worker. Arms of a running experiment are loaded; the version in
        place, which answers all others, is the one that answers.
        """
        with self._lock:
            running = self._experiments.get(tenant)
            placed = [self._placed(tenant, kind) for kind in KINDS]
        arms = () if running is None else running.arms
        is_loaded = any(model is not None and model.is_row(row) for model in (*placed, *arms))
        answers = any(model is not None and model.is_row(row) for model in placed)
        failure = self._failures.get((tenant, _subject(row)))
        reason = None if failure is None or is_loaded else failure.reason
        return {"loaded": is_loaded, "answers": answers, "failure": reason}

    def refresh(self, tenant: str) -> None:
        """Load what the store names, if it is another model; the old one answers until then.

        Where a model cannot be loaded, the old one stays; where there is none, the latest that can
        be loaded answers.
        """
        with self._loading:
            self._refresh(tenant)

    def refresh_soon(self, tenant: str) -> None:
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

    def _look(self, tenant: str) -> None:
        """Refresh, whatever happens: other tenants are looked at after this one."""
        try:
            self.refresh(tenant)
        except UNAVAILABLE:
            return
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            problem = ModelError(f"it cannot be read ({type(error).__name__}): run `tailor doctor`")
            self._note_failure(tenant, REGISTER, problem, "models not looked for")
            return
        self._failures.pop((tenant, REGISTER), None)

    def _refresh(self, tenant: str) -> None:
        rows, running = self._read(
            lambda connection: (
                list_models(connection, tenant),
                experiments.running_experiment(connection, tenant),
            )
        )
        for kind in KINDS:
            served = [row for row in rows if row["kind"] == kind and row["served_ms"] is not None]
            self._want(tenant, kind, _subject(served[0]) if served else None)
            self._load_latest(tenant, kind, served)
        self._refresh_experiment(tenant, running, {row["version"]: row for row in rows})

    def _want(self, tenant: str, kind: str, subject: str | None) -> None:
        """Remember what should answer."""
        if subject is None:
            self._wanted.pop((tenant, kind), None)
        else:
            self._wanted[tenant, kind] = subject

    def _load_latest(self, tenant: str, kind: str, rows: Sequence[Row]) -> None:
        """Load the first row; where nothing is loaded yet, the first that can be loaded."""
        current = self._placed(tenant, kind)
        if current is not None and rows and current.is_row(rows[0]):
            return
        candidates = rows if current is None else rows[:1]
        for row in candidates:
            if self._try_load(tenant, row):
                return

    def _placed(self, tenant: str, kind: str) -> Loaded | None:
        """Return the model of a kind that answers, None where none does."""
        if kind == PREDICTS:
            return self._predictors.get(tenant)
        if kind == RERANKS:
            return self._rerankers.get(tenant)
        return self._models.get(tenant)

    def version(self, tenant: str, version: int, known: Loaded | None = None) -> Loaded:
        """Return a registered version, loaded if neither it nor `known` is; nothing changes.

        Raises StoreError for an unknown version, ModelError where it cannot be loaded.
        """
        row = self._registered(tenant, [version])[0]
        for model in (*self._answering(tenant), known):
            if model is not None and model.is_row(row):
                return model
        return self._load(tenant, row)

    def answers_with(self, tenant: str, model: Loaded) -> bool:
        """Return whether a model answers some users, be it as an arm of an experiment."""
        return any(other is model for other in self._answering(tenant))

    def _answering(self, tenant: str) -> list[Loaded | None]:
        """Return the models in place, None for a kind without one, and arms of an experiment."""
        with self._lock:
            running = self._experiments.get(tenant)
            placed = [self._placed(tenant, kind) for kind in KINDS]
        return placed if running is None else [*placed, *running.arms]

    def register(self, tenant: str, folder: Path, note: str) -> Loaded:
        """Load a folder, then register it as a version and let it answer.

        Raises ModelError where it cannot be loaded: nothing is written then.
        """
        with self._hold_loading():
            checked = self.loader.check(folder)
            model = checked.as_version(0, self.loader.explore)

            def job(connection: sa.Connection) -> int:
                version = add_model(
                    connection, tenant, str(folder), checked.digest, note, kind=checked.kind
                )
                serve_model(connection, tenant, version)
                return version

            with _closed_on_error([model]):
                model = replace(model, version=self.writer.do(job))
            self._use(tenant, model)
        return model

    def switch(self, tenant: str, version: int) -> Loaded:
        """Load a registered version, then let it answer, here and in every worker.

        Raises ModelError or StoreError where it cannot: nothing changes then.
        """
        with self._hold_loading():
            row = self._registered(tenant, [version])[0]
            return self._put_in_place(
                tenant, row, lambda connection: serve_model(connection, tenant, version)
            )

    def roll_back(self, tenant: str, kind: str) -> Loaded:
        """Let the version from before answer again; once more goes one version further back.

        Raises ProblemError where there is none, ModelError or StoreError where it cannot.
        """
        with self._hold_loading():
            row = self._read(lambda connection: previous_model(connection, tenant, kind))
            if row is None:
                raise ProblemError(409, "no other version has answered before")
            version = row["version"]
            return self._put_in_place(
                tenant, row, lambda connection: roll_back(connection, tenant, version)
            )

    def _put_in_place(
        self, tenant: str, row: Row, write: Callable[[sa.Connection], None]
    ) -> Loaded:
        """Load a version, write that it answers, and use it."""
        model = self._load(tenant, row)
        with _closed_on_error([model]):
            self.writer.do(write)
        self._use(tenant, model)
        return model

    def begin_experiment(
        self, tenant: str, name: str, arms: list[dict[str, Any]], action: str | None
    ) -> None:
        """Load the models of an experiment, then begin it.

        Raises StoreError or ModelError where it cannot: nothing changes then.
        """
        with self._hold_loading():
            rows = self._registered(tenant, [arm["version"] for arm in arms])
            running = self._load_experiment(tenant, name, arms, rows)
            with _closed_on_error(self._new_models(tenant, running.arms)):
                self.writer.do(
                    lambda connection: experiments.start(connection, tenant, name, arms, action)
                )
            with self._lock:
                self._experiments[tenant] = running

    @contextmanager
    def _hold_loading(self) -> Iterator[None]:
        """Be the only one that loads models. Raises ProblemError where that takes too long."""
        if not self._loading.acquire(timeout=BUSY_S):
            raise ProblemError(503, "another model is being loaded: ask again", retry_s=30)
        try:
            yield
        finally:
            self._loading.release()

    def _read(self, job: Callable[[sa.Connection], T]) -> T:
        with reading(self.engine) as connection:
            return job(connection)

    def _registered(self, tenant: str, versions: list[int]) -> list[Row]:
        """Return the rows of versions. Raises StoreError for an unknown one."""
        rows = self._read(lambda connection: list_models(connection, tenant))
        return _rows_of(versions, {row["version"]: row for row in rows})

    def _try_load(self, tenant: str, row: Row) -> bool:
        """Load a version and use it; return whether that worked."""
        if self._failed_lately(tenant, _subject(row), row["folder"]):
            return False
        try:
            self._use(tenant, self._load(tenant, row))
        except TailorError:
            return False
        return True

    def _failed_lately(self, tenant: str, subject: str, folder: str = "") -> bool:
        """Return whether this failed so lately that it would again."""
        last = self._failures.get((tenant, subject))
        if last is None or last.folder != folder:
            return False
        return time.monotonic() - last.failed_s < AGAIN_S

    def _note_failure(
        self, tenant: str, subject: str, error: TailorError, message: str, folder: str = ""
    ) -> None:
        """Remember a failure, and log it once for each reason."""
        last = self._failures.get((tenant, subject))
        self._failures[tenant, subject] = Failure(subject, str(error), time.monotonic(), folder)
        if last is None or last.reason != str(error):
            extra = {"tenant": tenant, "subject": subject, "error": str(error)}
            log.error(message, extra=extra)

    def _load(self, tenant: str, row: Row) -> Loaded:
        """Load a version. Raises ModelError, which is remembered, where it cannot be loaded."""
        try:
            model = self.loader.load(tenant, row)
        except ModelError as error:
            message = "model not in place"
            self._note_failure(tenant, _subject(row), error, message, row["folder"])
            raise
        self._failures.pop((tenant, _subject(row)), None)
        return model

    def _use(self, tenant: str, model: Loaded) -> None:
        """Let a loaded model answer."""
        replaced = None
        with self._lock:
            if isinstance(model, LoadedPredictor):
                kind: str = PREDICTS
                self._predictors[tenant] = model
            elif isinstance(model, LoadedReranker):
                kind = RERANKS
                self._rerankers[tenant] = model
            else:
                kind = RECOMMENDS
                replaced = self._models.get(tenant)
                self._models[tenant] = model
            self._failures.pop((tenant, f"version {model.version}"), None)
            self._tenants.add(tenant)
        notes = list(model.notes)
        extra = {"tenant": tenant, "kind": kind, "version": model.version, "notes": notes}
        log.info("model in place", extra=extra)
        self._retire([replaced] if replaced else [], tenant)

    def _refresh_experiment(self, tenant: str, row: Row | None, rows: Mapping[int, Row]) -> None:
        """Load an experiment that another worker began, and drop one that has ended.

        Where one of its models cannot be loaded, no user takes part here.
        """
        current = self._experiments.get(tenant)
        name = None if row is None else row["name"]
        current_name = None if current is None else current.name
        subject = f"experiment {name}"
        self._want(tenant, TRIES, None if row is None else subject)
        if name == current_name or (row is not None and self._failed_lately(tenant, subject)):
            return
        new = None if row is None else self._try_experiment(tenant, subject, row, rows)
        with self._lock:
            self._experiments.pop(tenant, None)
            if new is not None:
                self._experiments[tenant] = new
        self._retire([] if current is None else current.arms, tenant)

    def _try_experiment(
        self, tenant: str, subject: str, row: Row, rows: Mapping[int, Row]
    ) -> RunningExperiment | None:
        """Load the models of an experiment, None where one of them cannot be loaded."""
        try:
            arm_rows = _rows_of([arm["version"] for arm in row["arms"]], rows)
            running = self._load_experiment(tenant, row["name"], row["arms"], arm_rows)
        except TailorError as error:
            problem = error
        except Exception as error:
            problem = ModelError(f"its arms cannot be read ({type(error).__name__}): end it")
        else:
            self._failures.pop((tenant, subject), None)
            return running
        self._note_failure(tenant, subject, problem, "experiment not in place")
        return None

    def _load_experiment(
        self, tenant: str, name: str, arms: list[dict[str, Any]], rows: list[Row]
    ) -> RunningExperiment:
        """Load the models of an experiment. Raises ModelError where one cannot be loaded."""
        models: list[LoadedRecommender] = []
        with _closed_on_error(self._new_models(tenant, models)):
            for row in rows:
                models.append(self._load_arm(tenant, row))
        return RunningExperiment(name, tuple(models), tuple(arm["share"] for arm in arms))

    def _load_arm(self, tenant: str, row: Row) -> LoadedRecommender:
        current = self._models.get(tenant)
        if current is not None and current.is_row(row):
            return current
        model = self._load(tenant, row)
        if not isinstance(model, LoadedRecommender):
            raise ModelError(
                f"version {row['version']} {row['kind']}: an arm needs one that recommends"
            )
        return model

    def _new_models(
        self, tenant: str, models: Iterable[LoadedRecommender]
    ) -> Iterator[LoadedRecommender]:
        """Yield models but the one in place, which answers on whatever happens to an experiment."""
        for model in models:
            if model is not self._models.get(tenant):
                yield model

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
                self._look(tenant)


def _subject(row: Row) -> str:
    return f"version {row['version']}"


def _rows_of(versions: Iterable[int], rows: Mapping[int, Row]) -> list[Row]:
    """Return the rows of versions. Raises StoreError for one that is not registered."""
    unknown = [version for version in versions if version not in rows]
    if unknown:
        raise StoreError(f"there is no model version {unknown[0]}")
    return [rows[version] for version in versions]


@contextmanager
def _closed_on_error(models: Iterable[Loaded]) -> Iterator[None]:
    """End the threads of models that are not used, since the block raised an error."""
    try:
        yield
    except BaseException:
        for model in models:
            if isinstance(model, LoadedRecommender):
                model.batcher.close()
        raise
