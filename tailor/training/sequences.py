"""How nets over event sequences learn, whether they compare items or spell them: windows, training,
stopping.

Shapes: B windows, T places, N items, M places that predict.
"""

import math
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor

from tailor.core.costs import Cost, Stopwatch, bytes_of
from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.core.search_space import Choices, Range
from tailor.core.specs import check_settings
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.queries import Queries
from tailor.data.sampling import PRESETS, WindowSampler
from tailor.data.splits import Split
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError
from tailor.nn.fitting import Recipe
from tailor.nn.packing import pack_batches, pad_rows, split_by_budget
from tailor.nn.sequence import SequenceNet
from tailor.training.nets import NetMethod
from tailor.training.validation import Validation, cut_validation

T = TypeVar("T")
SAMPLE_S = 4.0  # of training
# copies of the weights while they are trained: themselves, gradients, two moments, the best, and
# what is kept
OPTIMIZED = 6
# that memory grows by while training, a place of a batch: measured, most of it kept for the next
# step
PLACE_BYTES = 600_000
EVENT_BYTES = 100  # of windows, times and validation, an event
EVERY = 5  # epochs between validations
ANSWER_PLACES = 16_384  # of a batch of histories that are answered
DRAWN_LENGTH = 8  # places that a drawn window counts as in batch_places


@dataclass(frozen=True, eq=False)
class Windows:
    """Training windows: `lengths` events of `rows` from `starts` on; the event after each place is
    its target, or only after the last.
    """

    rows: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    times_ms: np.ndarray | None = None
    """Parallel to rows."""
    every_place: bool = True


@dataclass(eq=False)
class SequenceLearner(NetMethod, Recommender):
    """Learns from windows of histories what comes next, and stops when people whose last event it
    has not seen are no longer served better.

    What a net is made of, its loss, and how it answers are for the classes below. Strangers and new
    events need no refit: the history of the query is all that is read. Items without a training
    event are neither read nor answered, but by methods that know them by something else
    (`_readable`).
    """

    width: Annotated[int, Choices(32, 64, 128)] = 64
    """Of item vectors and states."""
    length: int = 50
    """Most recent events read."""
    dropout: Annotated[float, Range(0.1, 0.6)] = 0.4
    """Share of values zeroed while training."""
    sampler: str = "packed"
    """Of windows: "packed" (every event predicts the next), "last", "prefix", "window", or
    exponents "1,0,inf".
    """
    lr: Annotated[float, Range(3e-4, 6e-3, log=True)] = 2e-3
    """Highest step; falls in a straight line to a hundredth over all epochs."""
    weight_decay: float = 0.0
    """Of matrices."""
    batch_places: int = 2048
    """Padded places a batch."""
    epochs: int = 100
    """At most."""
    patience: int | None = 6
    """Validations (every 5 epochs) without a better NDCG@10 before training stops; None: all
    epochs.
    """
    average: float = 0.0
    """Above 0: weights are a moving mean with this decay a step."""

    items_: Vocabulary = field(init=False, repr=False)
    """That can be answered."""
    renamed_state: ClassVar[Mapping[str, str]] = {"weights_": "net_weights_"}

    def __post_init__(self) -> None:
        check_settings(self)
        if not self.lr > 0:
            raise DataError(f"lr is {self.lr}: it must be above 0")
        for name, least in {
            "width": 1,
            "length": 1,
            "batch_places": 1,
            "epochs": 1,
            "weight_decay": 0,
        }.items():
            if getattr(self, name) < least:
                raise DataError(f"{name} is {getattr(self, name)}: it must be at least {least}")
        self._check_optional("patience")
        for name in ("dropout", "average"):
            if not 0 <= getattr(self, name) < 1:
                raise DataError(f"{name} is {getattr(self, name)}: it must be from 0 to below 1")
        self._windows_drawn()

    def _check_optional(self, name: str) -> None:
        """Raise DataError where a setting is neither None nor at least 1."""
        if getattr(self, name) is not None and getattr(self, name) < 1:
            raise DataError(
                f'{name} is {getattr(self, name)}: it must be at least 1, or "none" (in Python'
                " None)"
            )

    @abstractmethod
    def _loss(self, batch: Windows, rng: np.random.Generator) -> Tensor:
        """The mean loss of a batch."""

    def _windows_drawn(self) -> WindowSampler | None:
        """What windows are drawn by; None where every event is predicted once an epoch."""
        if self.sampler == "packed":
            return None
        if self.sampler in PRESETS:
            return PRESETS[self.sampler]
        try:
            alpha, beta, gamma = map(float, self.sampler.split(","))
        except ValueError:
            raise DataError(
                f'sampler is "{self.sampler}": it must be packed, {", ".join(PRESETS)}, or'
                ' exponents as "1,0,inf"'
            ) from None
        return WindowSampler(alpha, beta, gamma)

    # learning

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        validation, learned_data = cut_validation(
            data, run, valid, needed=self.patience is not None
        )
        learned = learned_data.sequences
        has_event = np.bincount(learned.rows.values, minlength=len(data.catalogue)) > 0
        self.items_ = Vocabulary.of_items(
            data.catalogue.ids[has_event | self._readable(data)].tolist()
        )
        self._chosen = np.sort(self.items_.rows(data.catalogue.ids[has_event].tolist()))
        self._read(data, run)
        times = None if learned.times_ms is None else learned.times_ms.values
        rows = learned.rows.with_values(_mapped(data.catalogue, self.items_, learned.rows.values))
        self._read_histories(rows, run)
        self._start_net(run)
        trained = self._train(data, rows, times, validation, run)
        self.fit_report_ = {
            "items_with_events": len(self._chosen),
            "weights": sum(weights.size for weights in self.net_weights_.values()),
            "validated_on": "valid" if valid else "own" if validation else "nothing",
            **trained,
        }

    def _readable(self, data: Dataset) -> np.ndarray:
        """(N,) bool: the items of a data set that can be read and scored without an event."""
        return np.zeros(len(data.catalogue), dtype=bool)

    def _read(self, data: Dataset, run: Run) -> None:
        """Take in what is known of `items_` besides events, before the net is made."""

    def _read_histories(self, rows: Ragged, run: Run) -> None:
        """Take in what the histories that are learned from (rows of `items_`) say of items, before
        the net is made.
        """

    def _estimate_cost(self, data: Dataset, run: Run, valid: Split | None) -> Cost:
        """An epoch broken off after some seconds, and one validation; `at_most`, since training may
        stop earlier.
        """
        short, ends = replace(self, epochs=1, patience=None), list[float]()

        def noting(
            steps: Iterable[T], what: str | Callable[[], str], total: int | None = None
        ) -> Iterator[T]:
            for step in steps:
                ends.append(time.perf_counter())
                yield step

        short._fit(data, replace(run, deadline_s=SAMPLE_S, progress=noting), None)
        self.__dict__ |= short.state()
        watch = Stopwatch()
        validation, _ = cut_validation(data, run, valid, needed=self.patience is not None)
        before = watch.lap()
        asking = 0.0
        if validation is not None:
            validation.value(self)
            asking = watch.lap() * math.ceil(self.epochs / EVERY)
        rows = data.sequences.rows
        whole = whole_windows(rows, self.length)
        epoch = (
            len(self._batches(whole, rows, run.rng("batches"))) if (rows.lengths > 1).any() else 0
        )
        # the first steps wait for memory that later ones find
        later = np.diff(ends[len(ends) // 3 :])
        seconds = (
            float(np.median(later)) * epoch * self.epochs
            if len(later)
            else short.fit_report_.get("seconds", 0.0) * self.epochs
        )
        if run.deadline_s is not None:
            seconds, asking = min(seconds + asking, run.deadline_s), 0.0
        kept = bytes_of(self.net_weights_)
        peak = kept * OPTIMIZED + PLACE_BYTES * self.batch_places + EVENT_BYTES * len(rows.values)
        return Cost(before + seconds + asking, kept, peak, self.patience is not None)

    def _train(
        self,
        data: Dataset,
        rows: Ragged,
        times_ms: np.ndarray | None,
        validation: Validation | None,
        run: Run,
    ) -> dict[str, Any]:
        """Train the net on histories (rows of `items_`), and return the report."""
        if not (rows.lengths > 1).any():
            return self._leave_untrained("no user has two events to learn from")
        windows = whole_windows(rows, self.length, times_ms)
        recipe = Recipe(
            self.epochs,
            self.lr,
            self.weight_decay,
            ema_decay=self.average,
            patience=self.patience,
            every=EVERY,
        )

        def batches(rng: np.random.Generator) -> list[Windows]:
            return self._batches(windows, rows, rng)

        return self._train_net(data, run, recipe, batches, self._loss, validation)

    def _batches(self, windows: Windows, rows: Ragged, rng: np.random.Generator) -> list[Windows]:
        """An epoch of windows in batches: all of them, or as many drawn as there are targets, then
        as many a batch however long they are.
        """
        sampler = self._windows_drawn()
        if sampler is not None:
            size = int(np.maximum(rows.lengths - 1, 0).sum())
            owner, target, shown = sampler.draw(rows.lengths, size, rng)
            shown = np.minimum(shown, self.length)
            windows = Windows(
                windows.rows,
                rows.offsets[:-1][owner] + target - shown,
                shown,
                windows.times_ms,
                every_place=False,
            )
        chosen = pack_batches(
            windows.lengths,
            self.batch_places,
            rng,
            None if sampler is None else max(1, self.batch_places // DRAWN_LENGTH),
        )
        return [
            replace(windows, starts=windows.starts[some], lengths=windows.lengths[some])
            for some in chosen
        ]

    def _task(
        self, batch: Windows, rng: np.random.Generator
    ) -> tuple[np.ndarray, dict[str, Tensor], np.ndarray, np.ndarray]:
        """What is shown (B, T), what the layers are told besides, which of the B * T places (M,)
        predict, and what they should say (M,).
        """
        shown, real = pad_rows(batch.rows, batch.starts, batch.lengths)
        known = self._known(batch)
        if batch.every_place:
            return (
                shown,
                known,
                np.flatnonzero(real),
                pad_rows(batch.rows, batch.starts + 1, batch.lengths)[0][real],
            )
        return (
            shown,
            known,
            np.arange(len(shown)) * shown.shape[1] + batch.lengths - 1,
            batch.rows[batch.starts + batch.lengths],
        )

    def _known(self, batch: Windows) -> dict[str, Tensor]:
        """What the layers are told besides the item vectors."""
        return {}

    def _asked(self, queries: Queries) -> Iterator[tuple[np.ndarray, Windows]]:
        """Row numbers of queries (over `items_`) that have a history, in batches of like length,
        and what of it is read.
        """
        recent = queries.histories.last(self.length)
        times = (
            queries.columns["times_ms"].last(self.length).values
            if "times_ms" in queries.columns
            else None
        )
        order = np.argsort(recent.lengths, kind="stable")
        for some in split_by_budget(
            order[recent.lengths[order] > 0], recent.lengths, ANSWER_PLACES
        ):
            yield (
                some,
                Windows(recent.values, recent.offsets[:-1][some], recent.lengths[some], times),
            )


def check_blocks(blocks: int, heads: int, width: int) -> None:
    """Raise DataError for numbers that attention blocks cannot be made with."""
    if blocks < 1 or heads < 1 or width % heads:
        raise DataError(
            f"blocks {blocks}, heads {heads}, width {width}: at least one of each, and heads must"
            " divide the width"
        )


def whole_windows(rows: Ragged, length: int, times_ms: np.ndarray | None = None) -> Windows:
    """Windows in which every event but each user's first is a target once; histories longer than
    `length` + 1 give several.
    """
    pieces = -(-np.maximum(rows.lengths - 1, 0) // length)  # laid from the end
    owner = np.repeat(np.arange(len(rows)), pieces)
    nth = np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    stops = rows.offsets[1:][owner] - 1 - nth * length
    starts = np.maximum(stops - length, rows.offsets[:-1][owner])
    return Windows(rows.values, starts, stops - starts, times_ms)


def _mapped(catalogue: Vocabulary, to: Vocabulary, rows: np.ndarray) -> np.ndarray:
    """Rows of one catalogue as those of another, -1 for no item and for one that it lacks."""
    table = catalogue.mapping_to(to)
    return rows if table is None else np.r_[table, np.int32(-1)][rows]


def as_tensor(values: np.ndarray, net: Any) -> Tensor:
    """Rows or places, where the net is."""
    return torch.from_numpy(values.astype(np.int64, copy=False)).to(net.device)


def last_states(net: SequenceNet, batch: Windows, **known: Tensor) -> Tensor:
    """(B, D) the state after each window's last event."""
    shown, _ = pad_rows(batch.rows, batch.starts, batch.lengths)
    states = net.states(net.table(as_tensor(shown, net)), **known)
    return states[torch.arange(len(shown), device=net.device), as_tensor(batch.lengths - 1, net)]
