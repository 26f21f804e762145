"""SEAGET: the next place, by hour and weekday, from a graph of moves and counts as of the moment.

Shapes: B windows, T positions, N places, D width, M positions that predict, P parts of the logits.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tailor.core.methods import Paper
from tailor.core.run import Run
from tailor.data.arrays import Ragged
from tailor.data.graphs import transitions
from tailor.data.moments import DAY_MS, HOURS, SEASONS, WEEKDAYS, moments_of
from tailor.data.queries import NO_TIME, Queries
from tailor.errors import DataError
from tailor.nn.blocks import TransformerBlock
from tailor.nn.graphs import Edges
from tailor.nn.item_encoders import GraphItemEncoder
from tailor.nn.packing import pad_rows
from tailor.nn.positions import MomentPositions
from tailor.nn.sequence import ItemEncoder, SequenceNet
from tailor.retrieval.sequences import SequenceRecommender, Windows, as_tensor, check_blocks
from tailor.training.sequences import TrainingData, ask_at_next, count_items, padded_times

PAPER = Paper(
    "seaget",
    "SEAGET: Seasonal and Active hours guided Graph Enhanced Transformer for the next POI"
    " recommendation",
    "https://doi.org/10.48550/arXiv.2503.21225",
    "On Foursquare's given split Acc@10 and MRR are above counting (own frequency, own hour, own"
    " last step) and above the same transformer without popularity, season and mask; in a planted"
    " town the hard mask recommends fewer closed places and costs no accuracy",
)
PARTS = ("popularity", "flow", "own", "times", "season")
BIN_DAYS = 7  # popularity is counted anew for every bin
RECENT_BINS = 4
BUCKET_HOURS = 4  # the user's own visits are compared by these buckets of the day
SOFT_PENALTY = 3.0  # of a place that is closed, in log-odds
LEAST_VISITS = 5  # of a place whose hours are known
WEIGHT_SCALE = 20.0  # so that few steps of the net's learning rate find the weights of counts
COUNTS = 5  # weights: popularity, moves, own visits, those at this time of day, after this place
NEXT_HOUR = 3  # column of the slots: hour of the visit to come


@dataclass(eq=False)
class SEAGET(SequenceRecommender):
    """Predict the next place by what is usual now, here, and for this user.

    Places have vectors averaged over the graph of moves between them; a causal transformer reads
    the visits with the hour, weekday and season of each visit and of the one to come. To its logits
    are added, with learned weights, the logarithms of counts: popularity (visitors and visits,
    recent and past, before the moment), moves from the last place, and the user's own visits, those
    at the same time of day and those after the same place. A place that nobody visited within an
    hour of the time of the request is punished (`closed`). Counts are as of the moment: in training
    a visit sees what came before it, of popularity, moves and the user; a request sees all moves.
    Places that were visited before may be recommended: keep them.

    Differs from the paper: only its outline is known, the rest is reconstructed; a user is their
    history and the counts of their own visits, which the paper has no terms for; popularity is no
    feature of the graph, which is that of all training visits; no head predicts time or
    category, since the time of the request is known and places have no categories.
    """

    width: int = 64
    """Width of item vectors and states."""
    length: int = 100
    """Most recent visits that are read and counted as the user's own."""
    blocks: int = 2
    """Number of transformer blocks."""
    heads: int = 2
    """Attention heads; they must divide the width."""
    parts: tuple[str, ...] = PARTS
    """Parts in use: "popularity", "flow" (moves from the last place), "own" (the user's visits),
    "times" (hour and weekday), "season".
    """
    closed: Literal["soft", "hard", "open"] = "soft"
    """Places without a visit within an hour of the request: soft: 3 off their log-odds; hard: never
    recommended; open: as others."""
    visitors: float = 0.5
    """Share of distinct visitors in the popularity; visits have the remainder."""
    recency: float = 0.5
    """Share of the last four weeks in the popularity; all time before has the remainder."""
    utc_offset_hours: float = 0.0
    """Local time minus UTC, in hours; times in the data are UTC."""

    flow_: sp.csr_matrix = field(init=False, repr=False)
    """(N, N) float32 number of times that place j was visited right after place i."""
    popularity_: np.ndarray = field(init=False, repr=False)
    """(W, N) float32 logarithm of the popularity before each bin of days; the last: of all."""
    first_ms_: int = field(init=False, repr=False)
    """Time at which the first bin begins."""
    open_: np.ndarray = field(init=False, repr=False)
    """(N, HOURS + 1) bool: whether a place is visited at this hour; the last: hour unknown."""
    coordinates_: np.ndarray = field(init=False, repr=False)
    """(N, 2) float32 standardised latitude and longitude, 0 where they are unknown."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_blocks(self.blocks, self.heads, self.width)
        unknown = set(self.parts) - set(PARTS)
        if unknown:
            raise DataError(f'parts has "{min(unknown)}": use only {", ".join(PARTS)}')
        if not (0 <= self.visitors <= 1 and 0 <= self.recency <= 1):
            raise DataError(
                f"visitors is {self.visitors}, recency {self.recency}: both are shares, 0 to 1"
            )

    @classmethod
    def tiny(cls) -> "SEAGET":
        return cls(width=8, length=10, epochs=2)

    # learning

    def _prepare_items(self, training: TrainingData, run: Run) -> dict[str, Any]:
        items = len(self.items_)
        rows = training.rows
        times_ms = np.full(len(rows.values), NO_TIME)
        if training.times_ms is not None:
            times_ms = training.times_ms
        self.flow_ = transitions(rows, items, {1: 1.0}, None, run.workers)
        self._move_log = _MoveLog.of(rows, training.times_ms, items)
        self.popularity_, self.first_ms_ = self._count_popularity(
            rows.values, rows.row_ids, times_ms
        )
        self.open_ = _open_hours(
            rows.values, moments_of(times_ms, self.utc_offset_hours).hour, items
        )
        self.coordinates_ = _coordinates(training, self.items_.ids.tolist())
        return {"places_with_known_hours": int((~self.open_.all(axis=1)).sum())}

    def _count_popularity(
        self, places: np.ndarray, users: np.ndarray, times_ms: np.ndarray
    ) -> tuple[np.ndarray, int]:
        """Return (W, N) logarithms of popularity before each bin, and when the first begins."""
        items = len(self.items_)
        has_time = times_ms != NO_TIME
        first_ms = int(times_ms[has_time].min()) if has_time.any() else 0
        ages_ms = np.where(has_time, times_ms - first_ms, 0)
        bins = ages_ms // (BIN_DAYS * DAY_MS)
        shape = (int(bins.max(initial=0)) + 1, items)
        visits = np.zeros(shape)
        np.add.at(visits, (bins, places), 1)
        order = np.argsort(bins, kind="stable")
        pairs = users[order] * np.int64(items) + places[order]
        _, first = np.unique(pairs, return_index=True)
        first_visits = order[first]
        visitors = np.zeros(shape)  # in the bin of their first visit
        np.add.at(visitors, (bins[first_visits], places[first_visits]), 1)
        shares = self.visitors * self._shares_before(visitors)
        shares += (1 - self.visitors) * self._shares_before(visits)
        popularity = np.log(shares + 1 / (10 * max(items, 1)))
        return popularity.astype(np.float32), first_ms

    def _shares_before(self, counts: np.ndarray) -> np.ndarray:
        """Return (W + 1, N) shares of places before each bin and in the end."""
        nothing = np.zeros((1, counts.shape[1]))
        past = np.r_[nothing, counts.cumsum(axis=0)]
        starts = np.arange(len(past)) - RECENT_BINS
        starts = np.maximum(starts, 0)
        recent = _shares(past - past[starts])
        shares: np.ndarray = self.recency * recent
        return shares + (1 - self.recency) * _shares(past)

    def _item_encoder(self) -> ItemEncoder:
        loops = sp.identity(len(self.items_), np.float32)
        flow = self.flow_ + self.flow_.T + loops
        degrees = np.asarray(flow.sum(axis=1)).ravel()
        scales = 1 / np.sqrt(degrees)
        scale = sp.diags(scales.astype(np.float32))
        scaled = sp.csr_matrix(scale @ flow @ scale)
        coordinates = torch.from_numpy(self.coordinates_)
        return GraphItemEncoder(Edges(scaled), coordinates, self.width)

    def _positions(self) -> nn.Module:
        sizes = np.zeros(6, np.int64)
        if "times" in self.parts:
            sizes[[0, 1, 3, 4]] = 2 * [HOURS + 1, WEEKDAYS + 1]
        if "season" in self.parts:
            sizes[[2, 5]] = SEASONS + 1
        return MomentPositions(self.length, self.width, sizes.tolist())

    def _layers(self) -> list[nn.Module]:
        return [TransformerBlock(self.width, self.heads, self.dropout) for _ in range(self.blocks)]

    def _make_net(self) -> SequenceNet:
        net = super()._make_net()
        net.part_weights = nn.Parameter(torch.full((COUNTS,), 0.5 / WEIGHT_SCALE))
        return net

    def _is_sparse(self, items: int) -> bool:
        return False

    def _loss(self, batch: Windows, training: TrainingData, rng: np.random.Generator) -> Tensor:
        """Return the mean cross-entropy of the next places, over all places."""
        net = self._net
        task = self._make_task(batch, rng)
        items = net.table.all_items()
        vectors = items[as_tensor(task.rows, net)]
        states = net.states(vectors, **task.inputs).flatten(0, 1)[as_tensor(task.positions, net)]
        logits = states @ net.comparable(items).T
        logits = self._add_counts(logits, batch, task.positions)
        return cross_entropy(logits, as_tensor(task.targets, net))

    # logits

    def _logits(self, batch: Windows, catalogue: Tensor) -> Tensor:
        width = int(batch.lengths.max(initial=0))
        last = np.arange(len(batch.lengths)) * width + batch.lengths - 1
        logits = super()._logits(batch, catalogue)
        logits = self._add_counts(logits, batch, last)
        if self.closed == "soft":
            hours = self._slots(batch)[:, :, NEXT_HOUR].ravel()[last]
            is_closed = torch.from_numpy(~self.open_[:, hours].T)
            logits = logits - SOFT_PENALTY * is_closed.to(logits.device)
        return logits

    def _scores(self, queries: Queries) -> np.ndarray:
        scores = super()._scores(queries)
        if self.closed == "hard" and queries.now_ms is not None:
            scores[
                ~self.open_[:, moments_of(queries.now_ms, self.utc_offset_hours).hour].T
            ] = -np.inf
        return scores

    def _add_counts(self, logits: Tensor, batch: Windows, positions: np.ndarray) -> Tensor:
        """Return logits (M, N) with the weighted logarithms of all counts added."""
        device = logits.device
        weights = WEIGHT_SCALE * self._net.part_weights
        if "popularity" in self.parts:
            window, position = np.divmod(positions, int(batch.lengths.max()))
            bins = self._bins(batch)[window, position]
            table = torch.from_numpy(self.popularity_).to(device)
            logits = logits + weights[0] * table[torch.from_numpy(bins).to(device)]
        counts = self._counts(batch, positions)
        part = torch.from_numpy(counts.part).to(device)
        cells = torch.from_numpy(counts.cell).to(device)
        values = torch.from_numpy(counts.value.astype(np.float32)).to(device)
        added = weights[part] * values
        flat = logits.float().flatten()  # training may compute in bfloat16
        return flat.index_add(0, cells, added.float()).view_as(logits)

    def _counts(self, batch: Windows, positions: np.ndarray) -> "_Counts":
        """Return counts as of `positions` (M,) of the padded windows."""
        rows, _ = pad_rows(batch.rows, batch.starts, batch.lengths)
        window, position = np.divmod(positions, max(rows.shape[1], 1))
        parts = []
        if "flow" in self.parts:
            next_ms = self._padded_times(batch)[window, position + 1]
            parts.append(self._moves_from(rows[window, position], next_ms, batch))
        if "own" in self.parts:
            parts += self._own_counts(rows, self._slots(batch), window, position)
        numbers = [np.full(len(part.cell), part.part) for part in parts]
        empty = np.zeros(0, np.int64)
        return _Counts(
            np.concatenate([empty, *numbers]),
            np.concatenate([empty, *(part.cell for part in parts)]),
            np.concatenate([empty, *(part.value for part in parts)]),
        )

    def _moves_from(self, last: np.ndarray, next_ms: np.ndarray, batch: Windows) -> "_Counts":
        """Return moves from places (M,), in training those before a time (M,)."""
        if self._is_learning(batch):
            number, reached, value = self._move_log.before(last, next_ms)
        else:
            moves = self.flow_[last].tocoo()
            number, reached, value = moves.row, moves.col, np.log1p(moves.data)
        cells = number.astype(np.int64) * len(self.items_) + reached
        return _Counts(np.int64(1), cells, value)

    def _own_counts(
        self, rows: np.ndarray, slots: np.ndarray, window: np.ndarray, position: np.ndarray
    ) -> "list[_Counts]":
        """Return counts of the user's visits up to each position (M,) of a window (M,)."""
        past_rows = rows[window]  # M, T
        past_buckets = slots[window, :, 0] // BUCKET_HOURS
        next_bucket = slots[window, position, NEXT_HOUR] // BUCKET_HOURS
        next_bucket = np.where(next_bucket < HOURS // BUCKET_HOURS, next_bucket, -1)
        is_past = np.arange(rows.shape[1]) <= position[:, None]
        last = rows[window, position]
        comes_after = np.zeros_like(is_past)
        comes_after[:, 1:] = past_rows[:, :-1] == last[:, None]
        masks = (
            is_past,
            is_past & (past_buckets == next_bucket[:, None]),
            is_past & comes_after,
        )
        counts = []
        for part, mask in enumerate(masks, start=2):
            cells, visits = count_items(past_rows, mask, len(self.items_))
            counts.append(_Counts(np.int64(part), cells, np.log1p(visits)))
        return counts

    # times

    def _layer_inputs(self, batch: Windows) -> dict[str, Tensor]:
        slots = torch.from_numpy(self._slots(batch))
        return {"slots": slots.to(self._net.device)}

    def _slots(self, batch: Windows) -> np.ndarray:
        """Return (B, T, 6) int64 hour, weekday, season of visits and of the next."""
        times_ms = self._padded_times(batch)
        slots = np.stack(moments_of(times_ms, self.utc_offset_hours), axis=2)
        return np.concatenate([slots[:, :-1], slots[:, 1:]], axis=2)

    def _bins(self, batch: Windows) -> np.ndarray:
        """Return (B, T) the bin of the next visit, the last where untimed."""
        times_ms = self._padded_times(batch)[:, 1:]
        last = len(self.popularity_) - 1
        ages_ms = np.maximum(times_ms, self.first_ms_) - self.first_ms_
        bins = ages_ms // (BIN_DAYS * DAY_MS)
        bins = np.minimum(bins, last)
        return np.where(times_ms == NO_TIME, last, bins)

    def _padded_times(self, batch: Windows) -> np.ndarray:
        """Return (B, T + 1) times of visits and of what follows them."""
        return padded_times(ask_at_next(batch) if self._is_learning(batch) else batch)

    def _is_learning(self, batch: Windows) -> bool:
        """Return whether a batch is of the training data, where a visit follows each window."""
        return bool(self._net.training)


class _Counts(NamedTuple):
    """Logarithms of 1 + counts that are added to logits (M, N)."""

    part: Any
    """(E,) weight: moves 1, own visits 2, those at this time of day 3, after this place 4."""
    cell: np.ndarray
    """(E,) int64 cell of the logits, row by row."""
    value: np.ndarray
    """(E,) logarithms, or steps that add up to them in a cell."""


@dataclass(frozen=True, eq=False)
class _MoveLog:
    """Moves between places by time, which tells those made before a moment."""

    keys: np.ndarray
    """(m,) int64 one ascending number for the place left and the time of arrival of each move."""
    first: np.ndarray
    """(N + 1,) where the moves from each place begin."""
    places: np.ndarray
    """(m,) where the moves lead."""
    steps: np.ndarray
    """(m,) what each move adds to the logarithm of 1 + the moves between its two places."""
    start_ms: int
    """Time of the first arrival."""
    span_ms: int
    """Times are below this, counted from the start."""

    @classmethod
    def of(cls, rows: Ragged, times_ms: np.ndarray | None, items: int) -> "_MoveLog":
        """Return the moves with a time, of histories over `items` places."""
        if times_ms is None:
            times_ms = np.full(len(rows.values), NO_TIME)
        begins = np.flatnonzero(rows.from_end > 0)
        begins = begins[times_ms[begins + 1] != NO_TIME]
        left = rows.values[begins].astype(np.int64)
        reached = rows.values[begins + 1]
        arrivals = times_ms[begins + 1]
        number = _numbers_in_pairs(left * items + reached, arrivals)
        steps = np.log1p(number + 1) - np.log1p(number)
        start_ms = int(arrivals.min(initial=np.iinfo(np.int64).max))
        span_ms = int(arrivals.max(initial=start_ms)) - start_ms + 2
        keys = left * span_ms + (arrivals - start_ms)
        order = np.argsort(keys, kind="stable")
        first = np.searchsorted(left[order], np.arange(items + 1))
        return cls(keys[order], first, reached[order], steps[order], start_ms, span_ms)

    def before(
        self, last: np.ndarray, times_ms: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the moves from places (M,) that arrived before times (M,).

        (E,) the number of the asking place, the place reached, and the step of each move.
        """
        ages = np.maximum(times_ms, self.start_ms) - self.start_ms
        ages = np.minimum(ages, self.span_ms - 1)
        first = self.first[last]
        keys = last * np.int64(self.span_ms) + ages
        lengths = np.searchsorted(self.keys, keys) - first
        total = int(lengths.sum())
        moves = Ragged.of_lengths(lengths, np.zeros(total, np.int64))
        number = moves.row_ids
        move = first[number] + moves.from_start
        return number, self.places[move], self.steps[move]


def _numbers_in_pairs(pairs: np.ndarray, times_ms: np.ndarray) -> np.ndarray:
    """Return (m,) how many moves of the same pair come before each move."""
    order = np.lexsort((times_ms, pairs))
    ordered = pairs[order]
    numbers = np.empty(len(pairs), np.int64)
    numbers[order] = np.arange(len(pairs)) - np.searchsorted(ordered, ordered)
    return numbers


def _open_hours(places: np.ndarray, hours: np.ndarray, items: int) -> np.ndarray:
    """Return (N, HOURS + 1) bool: whether places have visits around each hour.

    A place with few visits counts as always open, and every place where the hour is unknown.
    """
    counts = np.zeros((items, HOURS + 1))
    np.add.at(counts, (places, hours), 1)
    by_hour = counts[:, :HOURS]
    before, after = (np.roll(by_hour, shift, axis=1) for shift in (1, -1))
    near = by_hour + before + after
    is_open = np.ones((items, HOURS + 1), bool)
    is_open[:, :HOURS] = near > 0
    visits = by_hour.sum(axis=1)
    is_open[visits < LEAST_VISITS] = True
    return is_open


def _coordinates(training: TrainingData, item_ids: list[str]) -> np.ndarray:
    """Return (N, 2) standardised latitude and longitude of items, 0 where they are unknown."""
    table = training.data.item_table
    rows = training.data.catalogue.rows(item_ids)
    coordinates = np.zeros((len(item_ids), 2), np.float32)
    for column, name in enumerate(("lat", "lon")):
        if name in table.columns:
            values = table[name].to_numpy()[rows].astype(np.float64)
            is_known = np.isfinite(values)
            if is_known.any():
                spread = max(float(values[is_known].std()), 1e-9)
                centred = (values - values[is_known].mean()) / spread
                coordinates[:, column] = np.where(is_known, centred, 0)
    return coordinates


def _shares(counts: np.ndarray) -> np.ndarray:
    """Return every row divided by its sum; zero for a row of zeros."""
    shares: np.ndarray = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return shares
