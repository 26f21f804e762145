"""`tailor tune`: settings searched on validation; the test part is never asked for."""

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any, cast

import numpy as np

from tailor.bench.choose import attempt
from tailor.bench.once import Once
from tailor.bench.sampler import need_optuna, proposed
from tailor.bench.space import Dimension, part_at, placed, space_of, untouched
from tailor.bench.study import Study, StudyFile, Trial, open_study
from tailor.bench.study_page import write_results
from tailor.core.methods import Method, Recommender
from tailor.core.run import Run
from tailor.core.specs import TUNE, build
from tailor.data.splits import DROPPED, Split
from tailor.errors import DataError, ModelError, TailorError

LEAST = 5  # complete trials before any is pruned
# of the complete trials: what a fit under way must reach, and what a screened setting must
MEDIAN, UPPER_THIRD = 1 / 2, 2 / 3
# who screen: on a few hundred, a quarter of the users ranks settings too differently (docs/log.md)
LEAST_USERS = 2_000


class Behind(Exception):
    """Raised inside a fit to end it: earlier trials were better by then."""


@dataclass(frozen=True)
class Search:
    """How long to search, by which figure, and whether users are screened first."""

    trials: int | None = None
    """Of the study in all, those of earlier runs included."""
    minutes: float | None = None
    """Of this run: no trial begins that would, by the mean of those before it, end later."""
    metric: str = "NDCG@10"
    seen: str = "removed"
    screen: float | None = None
    """Share of the users on which a setting must first reach the upper third of the complete
    trials.
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
    about: Mapping[str, Any],
    split: Split,
    out: Path,
    search: Search,
    run: Run = Run(),
    told: Callable[[Study], None] = lambda study: None,
) -> Study:
    """Search the settings of a pipeline (as `read_pipeline` gives it); write the best pipeline, the
    study and its page into `out`.

    Trial 0 is the pipeline as written. A study that is there already is gone on with; it ends the
    same whether it was broken off or not, since trial n depends on the seed and the trials before
    it alone. `told` is called after every trial, when all files are written. Raises ModelError for
    a space that does not fit the pipeline, or an `out` that holds something else.
    """
    need_optuna()  # before the work, not after the first trial
    space = space_of(about)
    plain = {name: value for name, value in about.items() if name != TUNE}
    header = {
        "pipeline": plain,
        "space": {one.name: one.to_dict() for one in space},
        "split": split.hash,
        "metric": search.metric,
        "seen": search.seen,
        "seed": run.seed,
        "screen": search.screen,
        "device": run.device,
        "dtype": run.dtype,
    }
    with open_study(out, header) as file:
        trying = _Trying(plain, space, split, search, run, file.study)
        for number in run.progress(
            _numbers(file, search), lambda: _best_so_far(file.study), _left(file.study, search)
        ):
            file.add(trying(number))
            write_results(out, about, space, file.study)
            told(file.study)
        write_results(out, about, space, file.study)
        return file.study


def _best_so_far(study: Study) -> str:
    """What a progress bar says."""
    return (
        f"trials, best {study.about['metric']} {study.best.value:.4f}" if study.trials else "trials"
    )


def _left(study: Study, search: Search) -> int | None:
    return None if search.trials is None else max(search.trials - len(study.trials), 0)


def _numbers(file: StudyFile, search: Search) -> Iterator[int]:
    """The numbers of the trials to make, while there is time."""
    first, started = len(file.study.trials), time.perf_counter()
    for number in itertools.count(first):
        if search.trials is not None and number >= search.trials:
            return
        mean = fmean(one.seconds for one in file.study.trials[first:]) if number > first else 0.0
        if (
            search.minutes is not None
            and number > first
            and time.perf_counter() - started + mean > 60 * search.minutes
        ):
            return
        yield number


@dataclass
class _Trying:
    """Makes one trial after the other."""

    about: dict[str, Any]
    space: Sequence[Dimension]
    split: Split
    search: Search
    run: Run
    study: Study
    parts: dict[tuple[str | int, ...], Once] = field(init=False)
    """That no trial changes."""
    few: Split | None = field(init=False)
    """The split of the users who screen."""

    def __post_init__(self) -> None:
        found = {
            path: build(part_at(self.about, path)) for path in untouched(self.about, self.space)
        }
        self.parts = {
            path: Once(method, {})
            for path, method in found.items()
            if isinstance(method, Recommender)
        }
        self.few = (
            None
            if self.search.screen is None
            else some_users(self.split, self.search.screen, self.run)
        )

    def __call__(self, number: int) -> Trial:
        """One trial. An error of the pipeline as written is raised; a later one makes a failed
        trial.
        """
        settings = (
            proposed(self.space, self.study.trials, self.run.seed, number)
            if number
            else {one.name: one.written for one in self.space}
        )
        started, screened, watched = time.perf_counter(), None, list[tuple[int, float]]()
        state, reason, figures = "complete", "", tuple[float | None, ...]()
        try:
            method = self._method(settings if number else {})
            if self.few is not None:
                screened = attempt(
                    method, self.few, self.search.metric, self.search.seen, self.run
                ).value
                _refuse_behind(
                    screened, [one.screened for one in self.study.of_state("complete")], UPPER_THIRD
                )
            watch = self._watch(watched) if _is_single(method) else self.run.watch
            done = attempt(
                method,
                self.split,
                self.search.metric,
                self.search.seen,
                replace(self.run, watch=watch),
            )
            figures = (done.value, done.low, done.high)
        except Behind:
            state = "pruned"
        except TailorError as error:
            if not number:
                raise
            state, reason = "failed", str(error)
        value, low, high = figures or (None, None, None)
        return Trial(
            number,
            cast(Any, state),
            settings,
            time.perf_counter() - started,
            value,
            low,
            high,
            screened,
            tuple(watched),
            reason,
        )

    def _method(self, settings: Mapping[str, Any]) -> Recommender:
        made = placed(self.about, settings, self.space)
        for path, once in self.parts.items():
            part_at(made, path[:-1])[path[-1]] = once
        method = build(made)
        if not isinstance(method, Recommender):
            raise ModelError(f"{method.name} does not recommend, so there is nothing to measure")
        return method

    def _watch(self, watched: list[tuple[int, float]]) -> Callable[[int, float], None]:
        """Keeps what the method tells of, and ends its fit where the median of the complete trials
        was better by that step.
        """

        def watch(step: int, value: float) -> None:
            if not math.isfinite(value):
                raise ModelError(f"the figure at step {step} is {value}")
            watched.append((int(step), float(value)))
            by_then = [
                max((figure for at, figure in one.watched if at <= step), default=None)
                for one in self.study.of_state("complete")
            ]
            _refuse_behind(max(figure for _, figure in watched), by_then, MEDIAN)

        return watch


def _refuse_behind(mine: float, others: Sequence[float | None], least: float) -> None:
    """Raise Behind where `mine` is below this quantile of the others, once there are LEAST of them."""
    known = [one for one in others if one is not None]
    if len(known) >= LEAST and mine < np.quantile(known, least):
        raise Behind


def _is_single(method: Method) -> bool:
    """Whether no setting is a method: the figure that a part tells of while it is fitted is not
    that of the whole.
    """
    inside = itertools.chain.from_iterable(
        value if isinstance(value, list | tuple) else [value] for value in method.params().values()
    )
    return not any(isinstance(one, Method) for one in inside)


def some_users(split: Split, share: float, run: Run) -> Split:
    """The same split of a share of the users, chosen by the seed; the events of the others are
    dropped.

    Raises DataError where fewer than LEAST_USERS of them have a validation target: too few to prune
    by.
    """
    sequences = split.data.sequences
    chosen = run.rng("screen").random(len(split.data.users)) < share
    kept = np.zeros(len(split.part), dtype=bool)
    kept[sequences.events] = chosen[sequences.rows.row_ids]
    few = replace(split, part=np.where(kept, split.part, DROPPED).astype(np.int8))
    users = int(few.report["users"]["valid"])
    if users < LEAST_USERS:
        raise DataError(
            f"--screen {share} leaves {users} users with a validation target, and fewer than"
            f" {LEAST_USERS} are too few to prune by: raise the share, or search without --screen"
        )
    return few
