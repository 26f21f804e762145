"""Train nets over event sequences: windows of histories, batches, early stopping.

Shared by nets that compare items and nets that generate their codes. Shapes: B windows,
T positions, D width, N items, M positions that predict.
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
from tailor.data.queries import NO_TIME, Queries
from tailor.data.sampling import PRESETS, WindowSampler
from tailor.data.splits import Split
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError
from tailor.nn.devices import index_tensor
from tailor.nn.fitting import Recipe
from tailor.nn.packing import pack_batches, pad_rows, split_by_budget
from tailor.nn.sequence import SequenceNet
from tailor.scale.processes import world_size
from tailor.training.nets import NetMethod
from tailor.training.validation import Validation, cut_validation

T = TypeVar("T")
SAMPLE_S = 4.0  # seconds of training that an estimate times
# copies of the weights while they are trained: themselves, gradients, two moments, the best, and
# the learned state
WEIGHT_COPIES = 6
# memory per position of a batch while training: measured, most of it kept for the next step
POSITION_BYTES = 600_000
FEWEST_EVENTS = 10_000  # from which a fusion tries a net
EVENT_BYTES = 100  # memory per event of windows, times and validation
EVERY = 5  # epochs between validations
QUERY_POSITIONS = 16_384  # positions of a batch of queries
DRAWN_LENGTH = 8  # positions that a drawn window counts as in batch_places


@dataclass(frozen=True, eq=False)
class Windows:
    """Training windows over one array of events.

    Window b has `lengths[b]` events of `rows` from `starts[b]` on. The event after each position is
    its target; with `every_place` False, only the one after the last position.
    """

    rows: np.ndarray
    """Item rows of all events."""
    starts: np.ndarray
    """(B,) position in `rows` of each window's first event."""
    lengths: np.ndarray
    """(B,) events of each window."""
    times_ms: np.ndarray | None = None
    """Times of all events, parallel to `rows`."""
    every_place: bool = True
    """Whether every position predicts the next event, else the last position only."""
    now_ms: np.ndarray | None = None
    """(B,) time of each query, `NO_TIME` where it has none; None in training."""

    def take(self, numbers: np.ndarray) -> "Windows":
        """Return the windows of these numbers."""
        return replace(
            self,
            starts=self.starts[numbers],
            lengths=self.lengths[numbers],
            now_ms=None if self.now_ms is None else self.now_ms[numbers],
        )


@dataclass(frozen=True, eq=False)
class Task:
    """A batch as the net reads it, and what it must predict."""

    rows: np.ndarray
    """(B, T) item rows that the net reads, padded at the right with 0."""
    inputs: dict[str, Tensor]
    """Further inputs of the layers, such as times."""
    positions: np.ndarray
    """(M,) which of the B * T positions predict."""
    targets: np.ndarray
    """(M,) item rows that they must predict."""
    events: np.ndarray
    """(M,) where the events of the targets stand among all events of the training data."""


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Histories that a net learns from, in rows of the method's items."""

    data: Dataset
    """The data that `fit` was called with."""
    rows: Ragged
    """Histories without the targets of the validation; rows of `items_`, -1 for no item."""
    times_ms: np.ndarray | None
    """Times of the events, parallel to the values of `rows`."""
    item_rows: np.ndarray
    """Rows of the items with an event, ascending: negatives are drawn from them."""

    @property
    def has_pairs(self) -> bool:
        """Return whether a user has two events, so that one can predict the next."""
        return bool((self.rows.lengths > 1).any())


@dataclass(eq=False)
class SequenceLearner(NetMethod, Recommender):
    """Learn from windows of histories to predict the next item; stop early on held-out events.

    Subclasses say what the net is, its loss, and how it answers. Cold users and new events need no
    refit: only the history of the query is read. Items without a training event are neither read
    nor recommended, except by methods that can describe them otherwise (`_describable`).
    """

    width: Annotated[int, Choices(32, 64, 128)] = 64
    """Width of item vectors and states."""
    length: int = 50
    """Most recent events that are read."""
    dropout: Annotated[float, Range(0.1, 0.6)] = 0.4
    """Share of values zeroed during training."""
    sampler: str = "packed"
    """How training windows are drawn: "packed" (every event predicts the next), "last", "prefix",
    "window", or exponents such as "1,0,inf".
    """
    lr: Annotated[float, Range(3e-4, 6e-3, log=True)] = 2e-3
    """Peak learning rate of AdamW; decays linearly to 1 % over all epochs."""
    weight_decay: float = 0.0
    """Weight decay of matrices in AdamW."""
    batch_places: int = 2048
    """Positions of a batch, padding included."""
    epochs: int = 100
    """Passes over the data, at most."""
    patience: int | None = 6
    """Validations (every 5 epochs) without a better NDCG@10 before training stops; None: all
    epochs.
    """
    average: float = 0.0
    """Decay per step of an exponential moving average (EMA) of the weights; 0: no average."""

    items_: Vocabulary = field(init=False, repr=False)
    """Items that can be recommended."""
    renamed_state: ClassVar[Mapping[str, str]] = {"weights_": "net_weights_"}

    def __post_init__(self) -> None:
        check_settings(self)
        if not self.lr > 0:
            raise DataError(f"lr is {self.lr}: it must be above 0")
        minima = {"width": 1, "length": 1, "batch_places": 1, "epochs": 1, "weight_decay": 0}
        for name, minimum in minima.items():
            if getattr(self, name) < minimum:
                raise DataError(f"{name} is {getattr(self, name)}: it must be at least {minimum}")
        self._check_optional("patience")
        for name in ("dropout", "average"):
            if not 0 <= getattr(self, name) < 1:
                raise DataError(f"{name} is {getattr(self, name)}: it must be from 0 to below 1")
        self._window_sampler()

    def _check_optional(self, name: str) -> None:
        """Raise DataError where a setting is neither None nor at least 1."""
        if getattr(self, name) is not None and getattr(self, name) < 1:
            raise DataError(
                f'{name} is {getattr(self, name)}: it must be at least 1, or "none" (in Python'
                " None)"
            )

    @abstractmethod
    def _loss(self, batch: Windows, training: TrainingData, rng: np.random.Generator) -> Tensor:
        """Return the mean loss of a batch."""

    def _window_sampler(self) -> WindowSampler | None:
        """Return the sampler of windows; None where every event predicts the next, once an epoch.

        Raises DataError for a setting that names no sampler.
        """
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

    def unsuited(self, data: Dataset) -> str:
        events = len(data.events)
        if events >= FEWEST_EVENTS:
            return ""
        return f"{events:,} events are too few for a net (from {FEWEST_EVENTS:,})"

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        validation, learned_data = cut_validation(
            data, run, valid, needed=self.patience is not None
        )
        training = self._training_data(data, learned_data)
        report = self._prepare_items(training, run)
        self._start_net(run)
        trained = self._train(training, validation, run)
        source = "valid" if valid else "own"
        self.fit_report_ = {
            "items_with_events": len(training.item_rows),
            "weights": sum(weights.size for weights in self.net_weights_.values()),
            "validated_on": "nothing" if validation is None else source,
            **trained,
            **report,
        }

    def _training_data(self, data: Dataset, learned_data: Dataset) -> TrainingData:
        """Choose the items that can be recommended (`items_`), and return histories over them."""
        sequences = learned_data.sequences
        has_event = np.bincount(sequences.rows.values, minlength=len(data.catalogue)) > 0
        item_ids = data.catalogue.ids
        self.items_ = Vocabulary.of_items(item_ids[has_event | self._describable(data)].tolist())
        return TrainingData(
            data,
            mapped_rows(learned_data, self.items_),
            None if sequences.times_ms is None else sequences.times_ms.values,
            np.sort(self.items_.rows(item_ids[has_event].tolist())),
        )

    def _describable(self, data: Dataset) -> np.ndarray:
        """Return (N,) bool: items of a data set that can be scored without an event."""
        return np.zeros(len(data.catalogue), dtype=bool)

    def _prepare_items(self, training: TrainingData, run: Run) -> dict[str, Any]:
        """Learn what `_make_net` needs of `items_`, such as text vectors; return report entries."""
        return {}

    def _train(
        self, training: TrainingData, validation: Validation | None, run: Run
    ) -> dict[str, Any]:
        """Train the net, and return the report."""
        if not training.has_pairs:
            return self._leave_untrained("no user has two events to learn from")
        windows = whole_windows(training.rows, self.length, training.times_ms)

        def batches(rng: np.random.Generator) -> list[Windows]:
            return self._batches(windows, training.rows, rng)

        def loss(batch: Windows, rng: np.random.Generator) -> Tensor:
            return self._loss(batch, training, rng)

        return self._train_net(training.data, run, self._recipe(), batches, loss, validation)

    def _recipe(self) -> Recipe:
        """Return the settings of training."""
        return Recipe(
            self.epochs,
            self.lr,
            self.weight_decay,
            ema_decay=self.average,
            patience=self.patience,
            every=EVERY,
        )

    def _batches(self, windows: Windows, rows: Ragged, rng: np.random.Generator) -> list[Windows]:
        """Return the batches of one epoch.

        They hold all windows, or as many drawn ones as there are targets. Drawn windows come in
        batches of the same number of windows, however long they are. `_epoch_steps` becomes the
        number of steps that they take.
        """
        sampler = self._window_sampler()
        batch_rows = None
        if sampler is not None:
            size = int(np.maximum(rows.lengths - 1, 0).sum())
            user, target, length = sampler.draw(rows.lengths, size, rng)
            length = np.minimum(length, self.length)
            starts = rows.offsets[:-1][user] + target - length
            windows = Windows(windows.rows, starts, length, windows.times_ms, every_place=False)
            batch_rows = max(1, self.batch_places // DRAWN_LENGTH)
        batches = pack_batches(windows.lengths, self.batch_places, rng, batch_rows)
        # several processes share the batches of an epoch
        self._epoch_steps = math.ceil(len(batches) / world_size())
        return [windows.take(numbers) for numbers in batches]

    def _make_task(self, batch: Windows, rng: np.random.Generator) -> Task:
        """Return what the net reads of a batch, and what it must predict."""
        rows, mask = pad_rows(batch.rows, batch.starts, batch.lengths)
        inputs = self._layer_inputs(batch)
        if batch.every_place:
            events = (batch.starts[:, None] + 1 + np.arange(rows.shape[1]))[mask]
            return Task(rows, inputs, np.flatnonzero(mask), batch.rows[events], events)
        last = np.arange(len(rows)) * rows.shape[1] + batch.lengths - 1
        events = batch.starts + batch.lengths
        return Task(rows, inputs, last, batch.rows[events], events)

    def _layer_inputs(self, batch: Windows) -> dict[str, Tensor]:
        """Return inputs of the layers besides the item vectors."""
        return {}

    # cost

    def _estimate_cost(self, data: Dataset, run: Run, valid: Split | None) -> Cost:
        """Time some seconds of an epoch and one validation.

        The cost is `at_most`, since training may stop earlier.
        """
        short = replace(self, epochs=1, patience=None)
        step_times: list[float] = []
        progress = _timing(step_times)
        short._fit(data, replace(run, deadline_s=SAMPLE_S, progress=progress), None)
        self.__dict__ |= short.state()
        watch = Stopwatch()
        validation, _ = cut_validation(data, run, valid, needed=self.patience is not None)
        preparing_s = watch.lap()
        validating_s = 0.0
        if validation is not None:
            validation.value(self)
            validating_s = watch.lap() * math.ceil(self.epochs / EVERY)
        rows = data.sequences.rows
        # the first steps wait for memory that later ones reuse
        step_s = np.diff(step_times[len(step_times) // 3 :])
        if len(step_s):
            training_s = float(np.median(step_s)) * self._steps_per_epoch(rows, run) * self.epochs
        else:
            training_s = short.fit_report_.get("seconds", 0.0) * self.epochs
        learning_s = training_s + validating_s
        if run.deadline_s is not None:
            learning_s = min(learning_s, run.deadline_s)
        kept_bytes = bytes_of(self.net_weights_)
        peak_bytes = (
            kept_bytes * WEIGHT_COPIES
            + POSITION_BYTES * self.batch_places
            + EVENT_BYTES * len(rows.values)
        )
        return Cost(preparing_s + learning_s, kept_bytes, peak_bytes, self.patience is not None)

    def _steps_per_epoch(self, rows: Ragged, run: Run) -> int:
        """Return the number of batches of one epoch over histories."""
        if not (rows.lengths > 1).any():
            return 0
        return len(self._batches(whole_windows(rows, self.length), rows, run.rng("batches")))

    # answering

    def _query_batches(self, queries: Queries) -> Iterator[tuple[np.ndarray, Windows]]:
        """Yield queries with a history (over `items_`), in batches of similar length.

        Each batch is the numbers of its queries, and the windows that are read of them.
        """
        recent = queries.histories.last(self.length)
        times = None
        if "times_ms" in queries.columns:
            times = queries.columns["times_ms"].last(self.length).values
        starts = recent.offsets[:-1]
        windows = Windows(recent.values, starts, recent.lengths, times, now_ms=queries.now_ms)
        order = np.argsort(recent.lengths, kind="stable")
        order = order[recent.lengths[order] > 0]
        for numbers in split_by_budget(order, recent.lengths, QUERY_POSITIONS):
            yield numbers, windows.take(numbers)


def check_blocks(blocks: int, heads: int, width: int) -> None:
    """Raise DataError for numbers from which no attention blocks can be made."""
    if blocks < 1 or heads < 1 or width % heads:
        raise DataError(
            f"blocks {blocks}, heads {heads}, width {width}: at least one of each, and heads must"
            " divide the width"
        )


def whole_windows(rows: Ragged, length: int, times_ms: np.ndarray | None = None) -> Windows:
    """Return windows in which every event but each user's first is a target once.

    Histories longer than `length` + 1 give several windows, counted from the end.
    """
    targets = np.maximum(rows.lengths - 1, 0)
    counts = -(-targets // length)
    user = np.repeat(np.arange(len(rows)), counts)
    windows_before = np.cumsum(counts) - counts
    number = np.arange(len(user)) - np.repeat(windows_before, counts)
    last_events = rows.offsets[1:][user] - 1
    first_events = rows.offsets[:-1][user]
    stops = last_events - number * length
    starts = np.maximum(stops - length, first_events)
    return Windows(rows.values, starts, stops - starts, times_ms)


def ask_at_next(batch: Windows) -> Windows:
    """Return training windows that are asked at the time of the event after each."""
    if batch.times_ms is None:
        return batch
    return replace(batch, now_ms=batch.times_ms[batch.starts + batch.lengths])


def padded_times(batch: Windows) -> np.ndarray:
    """Return (B, T + 1) times of events, and of the query after each window's last event.

    NO_TIME where a time is missing, and after the query.
    """
    width = int(batch.lengths.max(initial=0))
    times_ms = np.full((len(batch.lengths), width + 1), NO_TIME)
    if batch.times_ms is not None:
        padded, mask = pad_rows(batch.times_ms, batch.starts, batch.lengths)
        times_ms[:, :width] = np.where(mask, padded, NO_TIME)
    if batch.now_ms is not None:
        times_ms[np.arange(len(times_ms)), batch.lengths] = batch.now_ms
    return times_ms


def count_items(rows: np.ndarray, mask: np.ndarray, items: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the cells (E,) of (M, items) whose item is in its row, and how often (E,).

    Counted is `rows` (M, T) where `mask` (M, T) is true. A cell is row * items + item.
    """
    number, column = np.nonzero(mask)
    cells = number * items + rows[number, column]
    return np.unique(cells, return_counts=True)


def as_tensor(values: np.ndarray, net: Any) -> Tensor:
    """Return rows or positions as an int64 tensor on the net's device."""
    return index_tensor(values, net.device)


def last_states(net: SequenceNet, batch: Windows, **inputs: Tensor) -> Tensor:
    """Return the states (B, D) after each window's last event."""
    rows, _ = pad_rows(batch.rows, batch.starts, batch.lengths)
    states = net.states(net.table(as_tensor(rows, net)), **inputs)
    return states[torch.arange(len(rows), device=net.device), as_tensor(batch.lengths - 1, net)]


def mapped_rows(data: Dataset, items: Vocabulary) -> Ragged:
    """Return the users' histories as rows of `items`; -1 for other items."""
    rows = data.sequences.rows
    table = data.catalogue.mapping_to(items)
    return rows if table is None else rows.with_values(np.r_[table, np.int32(-1)][rows.values])


def _timing(times: list[float]) -> Any:
    """Return a progress wrapper that records when each step ends."""

    def progress(
        steps: Iterable[T], label: str | Callable[[], str], total: int | None = None
    ) -> Iterator[T]:
        for step in steps:
            times.append(time.perf_counter())
            yield step

    return progress
