"""`tailor tune`: search settings on validation; the test part is never read."""

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from tailor.bench.choose import Attempt, attempt
from tailor.bench.once import Once
from tailor.bench.sampler import need_optuna, propose_settings
from tailor.bench.space import Dimension, apply_settings, part_at, space_of, untouched
from tailor.bench.study import Study, StudyFile, Trial, open_study
from tailor.bench.study_page import write_results
from tailor.core.methods import Method, Recommender
from tailor.core.run import Run
from tailor.core.specs import TUNE, build
from tailor.data.splits import DROPPED, Split
from tailor.errors import DataError, ModelError, TailorError

LEAST = 5  # number of complete trials before any trial is pruned
# quantiles of the complete trials
MEDIAN = 1 / 2  # a fit that is below at a step is stopped
UPPER_THIRD = 2 / 3  # a screened trial that is below is not measured on all users
# Minimum number of users for screening: a few hundred order the settings unlike all users do
# (docs/log.md).
LEAST_USERS = 2_000


class Behind(Exception):
    """Raised to stop a trial that is behind earlier trials."""


@dataclass(frozen=True)
class Search:
    """Length and criterion of a search."""

    trials: int | None = None
    """Number of trials of the study, earlier runs included."""
    minutes: float | None = None
    """Minutes of this run; a trial that would probably end later is not begun.

    Its time is estimated by the mean of the earlier trials of this run.
    """
    metric: str = "NDCG@10"
    """Metric that is maximised on validation."""
    seen: str = "removed"
    """Treatment of seen items: "removed" or "kept"."""
    screen: float | None = None
    """Share of the users on which settings are first tried; None: no screening.

    Only settings that reach the upper third of the complete trials there are measured on all users.
    """

    def __post_init__(self) -> None:
        if self.trials is None and self.minutes is None:
            raise DataError("say how long to search: --trials N, --minutes M, or both")
        if self.trials is not None and self.trials < 1:
            raise DataError(f"--trials {self.trials}: at least 1")
        if self.minutes is not None and not self.minutes > 0:
            raise DataError(f"--minutes {self.minutes}: more than 0")
        if self.screen is not None and not 0 < self.screen < 1:
            raise DataError(f"--screen {self.screen}: a share of the users, above 0 and below 1")


def tune(
    description: Mapping[str, Any],
    split: Split,
    out: Path,
    search: Search,
    run: Run = Run(),
    told: Callable[[Study], None] = lambda study: None,
) -> Study:
    """Search the settings of a pipeline; write the best pipeline, the study, its page.

    `description` is what `read_pipeline` returns. Trial 0 is the pipeline as written in the file.
    A study in `out` is continued. An interrupted study ends as an uninterrupted one does: a trial
    depends only on the seed and on the trials before it. `told` is called after every trial, when
    all files are written. Raises ModelError for a space that does not fit the pipeline, or for an
    `out` that holds something else.
    """
    need_optuna()  # before the work, not after the first trial
    space = space_of(description)
    plain = {name: value for name, value in description.items() if name != TUNE}
    header = {
        "pipeline": plain,
        "space": {dimension.name: dimension.to_dict() for dimension in space},
        "split": split.hash,
        "metric": search.metric,
        "seen": search.seen,
        "seed": run.seed,
        "screen": search.screen,
        "device": run.device,
        "dtype": run.dtype,
    }
    with open_study(out, header) as file:
        study = file.study
        trial_maker = _TrialMaker(plain, space, split, search, run, study)
        numbers = _trial_numbers(file, search)
        total = None if search.trials is None else max(search.trials - len(study.trials), 0)
        for number in run.progress(numbers, lambda: _progress_text(study), total):
            file.add(trial_maker(number))
            write_results(out, description, space, study)
            told(study)
        write_results(out, description, space, study)
        return study


def _progress_text(study: Study) -> str:
    """Return the text of the progress bar."""
    if not study.trials:
        return "trials"
    return f"trials, best {study.about['metric']} {study.best.value:.4f}"


def _trial_numbers(file: StudyFile, search: Search) -> Iterator[int]:
    """Yield the numbers of the next trials, while there is time."""
    first = len(file.study.trials)
    started = time.perf_counter()
    for number in itertools.count(first):
        if search.trials is not None and number >= search.trials:
            return
        if search.minutes is not None and number > first:
            own_trials = file.study.trials[first:]  # those of this run
            mean_seconds = fmean(trial.seconds for trial in own_trials)
            elapsed = time.perf_counter() - started
            if elapsed + mean_seconds > 60 * search.minutes:
                return
        yield number


@dataclass
class _TrialMaker:
    """Makes a trial of a study, given its number."""

    description: dict[str, Any]
    space: Sequence[Dimension]
    split: Split
    search: Search
    run: Run
    study: Study
    parts: dict[tuple[str | int, ...], Once] = field(init=False)
    """Path in the description -> a part that no trial changes, fitted once for all trials."""
    screening_split: Split | None = field(init=False)
    """The split of the users for screening; None: no screening."""

    def __post_init__(self) -> None:
        self.parts = {}
        for path in untouched(self.description, self.space):
            method = build(part_at(self.description, path))
            if isinstance(method, Recommender):
                self.parts[path] = Once(method, {})
        self.screening_split = None
        if self.search.screen is not None:
            self.screening_split = sample_users(self.split, self.search.screen, self.run)

    def __call__(self, number: int) -> Trial:
        """Make one trial.

        An error in trial 0 is raised; in later trials it makes the trial a failed one.
        """
        if number:
            settings = propose_settings(self.space, self.study.trials, self.run.seed, number)
        else:
            settings = {dimension.name: dimension.initial for dimension in self.space}
        started = time.perf_counter()
        progress = _TrialProgress()
        try:
            # Trial 0 changes nothing: settings that the file leaves out stay left out.
            changes = settings if number else {}
            self._measure(changes, progress)
        except Behind:
            progress.state = "pruned"
        except TailorError as error:
            if not number:
                raise
            progress.state = "failed"
            progress.reason = str(error)
        result = progress.result
        return Trial(
            number=number,
            state=progress.state,  # type: ignore[arg-type]
            settings=settings,
            seconds=time.perf_counter() - started,
            value=None if result is None else result.value,
            low=None if result is None else result.low,
            high=None if result is None else result.high,
            screened=progress.screened,
            watched=tuple(progress.watched),
            reason=progress.reason,
        )

    def _measure(self, settings: Mapping[str, Any], progress: "_TrialProgress") -> None:
        """Screen settings, then measure them on all users; fill in `progress`.

        Raises Behind where earlier trials were better.
        """
        method = self._method(settings)
        metric = self.search.metric
        seen = self.search.seen
        if self.screening_split is not None:
            screening = attempt(method, self.screening_split, metric, seen, self.run)
            progress.screened = screening.value
            earlier = [trial.screened for trial in self.study.of_state("complete")]
            _refuse_behind(screening.value, earlier, UPPER_THIRD)
        run = self.run
        if _is_single(method):
            run = replace(run, watch=self._watch(progress.watched))
        progress.result = attempt(method, self.split, metric, seen, run)

    def _method(self, settings: Mapping[str, Any]) -> Recommender:
        """Build the pipeline with settings, reusing the parts that no trial changes."""
        description = apply_settings(self.description, settings, self.space)
        for path, fitted_once in self.parts.items():
            parent = part_at(description, path[:-1])
            parent[path[-1]] = fitted_once
        method = build(description)
        if not isinstance(method, Recommender):
            raise ModelError(f"{method.name} does not recommend, so there is nothing to measure")
        return method

    def _watch(self, watched: list[tuple[int, float]]) -> Callable[[int, float], None]:
        """Return a function that records a fit's figures, and stops a fit that is behind.

        A fit is behind if its best figure is below the median of the complete trials at that step.
        """

        def watch(step: int, value: float) -> None:
            if not math.isfinite(value):
                raise ModelError(f"the figure at step {step} is {value}")
            watched.append((int(step), float(value)))
            earlier = [_best_until(trial, step) for trial in self.study.of_state("complete")]
            _refuse_behind(max(figure for _, figure in watched), earlier, MEDIAN)

        return watch


@dataclass
class _TrialProgress:
    """Holds what is known of a trial while it runs; the fields are those of Trial."""

    state: str = "complete"
    reason: str = ""
    screened: float | None = None
    watched: list[tuple[int, float]] = field(default_factory=list)
    result: Attempt | None = None


def _best_until(trial: Trial, step: int) -> float | None:
    """Return the highest figure that a trial reported up to a step."""
    figures = [figure for reported_step, figure in trial.watched if reported_step <= step]
    return max(figures, default=None)


def _refuse_behind(value: float, earlier: Sequence[float | None], quantile: float) -> None:
    """Raise Behind where a value is below a quantile of at least LEAST earlier values."""
    defined = [figure for figure in earlier if figure is not None]
    if len(defined) >= LEAST and value < np.quantile(defined, quantile):
        raise Behind


def _is_single(method: Method) -> bool:
    """Return whether a method has no other methods in its settings.

    In a pipeline, figures are reported by a part, and say nothing about the whole.
    """
    values = method.params().values()
    entries = [
        entry
        for value in values
        for entry in (value if isinstance(value, list | tuple) else [value])
    ]
    return not any(isinstance(entry, Method) for entry in entries)


def sample_users(split: Split, share: float, run: Run) -> Split:
    """Return the split of a random share of the users; other users' events are dropped.

    Raises DataError where fewer than LEAST_USERS of them have a validation target.
    """
    sequences = split.data.sequences
    user_mask = run.rng("screen").random(len(split.data.users)) < share
    event_mask = np.zeros(len(split.part), dtype=bool)
    event_mask[sequences.events] = user_mask[sequences.rows.row_ids]
    part = np.where(event_mask, split.part, DROPPED).astype(np.int8)
    sample = replace(split, part=part)
    users = int(sample.report["users"]["valid"])
    if users < LEAST_USERS:
        raise DataError(
            f"--screen {share} leaves {users} users with a validation target; fewer than"
            f" {LEAST_USERS} are too few to prune by: raise the share, or search without --screen"
        )
    return sample
