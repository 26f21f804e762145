"""BehaveGPT: the next behaviour, with rare ones learned as well as common ones; days drawn from it.

Shapes: B windows, T positions, N behaviours (items), D width, M positions that predict, G groups of
behaviours, E cells of counts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tailor.core.methods import Paper
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.data.arrays import Ragged
from tailor.data.moments import HOUR_MS, HOURS, WEEKDAYS, moments_of
from tailor.data.nouns import History, Query
from tailor.data.queries import NO_TIME, Queries
from tailor.errors import DataError
from tailor.nn.blocks import TransformerBlock
from tailor.nn.packing import pad_rows, split_by_budget
from tailor.nn.policy import group_weights
from tailor.nn.positions import MomentPositions
from tailor.nn.sequence import SequenceNet
from tailor.retrieval.sequences import SequenceRecommender, Windows, as_tensor, check_blocks
from tailor.training.sequences import (
    Task,
    TrainingData,
    ask_at_next,
    count_items,
    padded_times,
    whole_windows,
)
from tailor.training.validation import Validation

PAPER = Paper(
    "behavegpt",
    "BehaveGPT: A Foundation Model for Large-scale User Behavior Modeling",
    "https://arxiv.org/abs/2505.17631",
    "At equal steps group DRO has a higher macro recall@5 than cross-entropy on Foursquare and at"
    " most 2 % less weighted recall; in a planted log of days the recall of the rare, predictable"
    " behaviours is a fifth higher",
)
BODY = ("layers.", "positions.", "norm.", "wait.", "copy_weight")  # what another log can use
MISSING = (HOURS, WEEKDAYS)  # slots of a missing time
ASKED = slice(2, 4)  # columns of the slots: hour and weekday of the query
HIDDEN = 0.15  # share of training windows that are not told when the next event is
SMOOTHING = 0.9  # share of the old value in the running losses of groups, per step
WEIGHT_SCALE = 20.0  # so that few steps of the net's learning rate find the weight of counts
# hours at which the classes of waiting times begin; the last one ends at twice its beginning
WAITS = np.array([*range(25), 30, 36, 48, 72, 96, 168, 336, 720], dtype=np.float64)
MOST_EVENTS = 500  # events of a rollout


class BehaviourNet(SequenceNet):
    """A net over sequences that also tells when the next event comes, and weighs groups."""

    group_weights: Tensor
    group_losses: Tensor

    def __init__(self, shares: Tensor, **settings: Any) -> None:
        """Make the net; `shares` (G,) of the events are the first weights of groups."""
        super().__init__(**settings)
        width = int(self.norm.normalized_shape[0])
        self.copy_weight = nn.Parameter(torch.tensor(1 / WEIGHT_SCALE))
        self.wait = nn.Linear(width, len(WAITS))
        # buffers, so that checkpoints hold them
        self.register_buffer("group_weights", shares)
        self.register_buffer("group_losses", torch.full_like(shares, -1.0))  # -1: none yet


@dataclass(eq=False)
class BehaveGPT(SequenceRecommender):
    """Predict the next behaviour, and raise the weight of behaviours that are learned too slowly.

    A causal transformer reads what a user did, each event with its hour and weekday and those of
    the event to come; the logarithm of how often the user did a thing before is added to its logit,
    with a learned weight. Behaviours are in groups by frequency. A small reference net learns from
    half of the users; its losses on the other half say how low the loss of each group can be. At
    every step the weight of a group grows by how far its loss is above that (group DRO), so that
    rare habits are learned and noise is not. `rollout` draws the days to come. Behaviours that were
    done before may be recommended: keep them.

    Differs from the paper: the place is the behaviour, and there are no attributes of users; the
    term of own counts is ours, without which check-ins are far below counting; the reference's
    losses are those on users that it did not learn from, since its training losses make all weights
    alike; running losses are smoothed by .9, since there are hundreds of steps only.
    """

    width: int = 64
    """Width of item vectors and states."""
    length: int = 50
    """Most recent events that are read, and counted as done before."""
    blocks: int = 2
    """Number of transformer blocks."""
    heads: int = 2
    """Attention heads; they must divide the width."""
    dropout: Annotated[float, Range(0.05, 0.5)] = 0.2
    """Share of values zeroed during training."""
    negatives: int | None = None
    """Always None: all items are compared."""
    groups: int = 10
    """Groups of items by frequency, each with the same share of the events; 0: every item is one.
    """
    eta: Annotated[float, Range(0.001, 0.1, log=True)] = 0.01
    """Step of the groups' weights; 0: all events count alike, and no reference is learned."""
    reference_epochs: int = 20
    """Passes of the reference net over its half of the users; 0: losses count as they are."""
    counts: bool = True
    """Whether the user's own counts are added to the logits."""
    utc_offset_hours: float = 0.0
    """Local time minus UTC, in hours; times in the data are UTC."""
    begins_with: "BehaveGPT | None" = None
    """Fitted method of another log whose layers the net begins with; None: at random."""

    groups_: np.ndarray = field(init=False, repr=False)
    """(N,) group of each item; the first holds the most frequent."""
    shares_: np.ndarray = field(init=False, repr=False)
    """(G,) float32 share of the events that each group holds."""
    reference_losses_: np.ndarray = field(init=False, repr=False)
    """(G,) float32 losses of the reference on users that it did not learn from."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_blocks(self.blocks, self.heads, self.width)
        if self.negatives is not None:
            raise DataError(
                f"negatives is {self.negatives}: all items are compared, so it must be none (in"
                " Python None)"
            )
        if self.groups < 0 or self.eta < 0 or self.reference_epochs < 0:
            raise DataError(
                f"groups is {self.groups}, eta {self.eta}, reference_epochs"
                f" {self.reference_epochs}: all must be at least 0"
            )

    @classmethod
    def tiny(cls) -> "BehaveGPT":
        return cls(width=8, length=10, epochs=2, groups=3, reference_epochs=2)

    def _layers(self) -> list[nn.Module]:
        return [TransformerBlock(self.width, self.heads, self.dropout) for _ in range(self.blocks)]

    def _positions(self) -> nn.Module:
        sizes = [size + 1 for size in MISSING]
        return MomentPositions(self.length, self.width, 2 * sizes)

    def _make_net(self) -> BehaviourNet:
        return BehaviourNet(torch.from_numpy(self.shares_).clone(), **self._net_settings())

    def _is_sparse(self, items: int) -> bool:
        return False

    def _start_net(self, run: Run) -> None:
        """Make the net; its layers are those of `begins_with`, its items are new."""
        super()._start_net(run)
        if self.begins_with is None:
            return
        self.begins_with._check_fitted()
        forms = [(m.width, m.length, m.blocks, m.heads) for m in (self, self.begins_with)]
        if forms[0] != forms[1]:
            raise DataError(
                f"width, length, blocks and heads are {forms[0]}, those of begins_with {forms[1]}:"
                " layers can be taken over where they are equal only"
            )
        learned = {
            name: torch.from_numpy(weights)
            for name, weights in self.begins_with.net_weights_.items()
            if name.startswith(BODY)
        }
        self._net.load_state_dict(learned, strict=False)

    # learning

    def _prepare_items(self, training: TrainingData, run: Run) -> dict[str, Any]:
        counts = np.bincount(training.rows.values, minlength=len(self.items_))
        self.groups_ = np.arange(len(counts))
        if self.groups:
            self.groups_ = _groups_of_equal_share(counts, self.groups)
        sums = np.bincount(self.groups_, counts, minlength=1)
        self.shares_ = (sums / max(counts.sum(), 1)).astype(np.float32)
        self.reference_losses_ = np.zeros(len(sums), np.float32)
        return {}

    def _train(
        self, training: TrainingData, validation: Validation | None, run: Run
    ) -> dict[str, Any]:
        report = {}
        if self.eta and self.reference_epochs:
            report["reference_seconds"] = self._learn_reference(training, run)
        report |= super()._train(training, validation, run)
        if self.eta:
            raised = self.net_weights_["group_weights"] / np.maximum(self.shares_, 1e-9)
            report["most_raised_groups"] = np.argsort(-raised, kind="stable")[:5].tolist()
            report["raised_by"] = np.sort(raised)[::-1][:5].astype(float).round(3).tolist()
        return report

    def _learn_reference(self, training: TrainingData, run: Run) -> float:
        """Set the reference losses of groups, by a small net; return the seconds of its training.

        A group without an event of the other half has the mean loss.
        """
        is_learned = run.rng("reference").random(len(training.rows)) < 0.5
        learned, judged = (_of_users(training, mask) for mask in (is_learned, ~is_learned))
        if not (learned.has_pairs and judged.has_pairs):
            return 0.0
        small = replace(
            self, eta=0.0, blocks=1, epochs=self.reference_epochs, patience=None, begins_with=None
        )
        small.__dict__ |= {name: getattr(self, name) for name in ("items_", "groups_", "shares_")}
        small.reference_losses_ = self.reference_losses_
        small._start_net(run)
        seconds = small._train(learned, None, run)["seconds"]
        losses, groups = small._losses_of(judged)
        sums = np.bincount(groups, losses, len(self.reference_losses_))
        counts = np.bincount(groups, minlength=len(sums))
        means = np.where(counts > 0, sums / np.maximum(counts, 1), losses.mean())
        self.reference_losses_ = means.astype(np.float32)
        return float(seconds)

    def _losses_of(self, training: TrainingData) -> tuple[np.ndarray, np.ndarray]:
        """Return the losses (M,) of all targets of histories, and their groups (M,)."""
        windows = whole_windows(training.rows, self.length, training.times_ms)
        order = np.argsort(windows.lengths, kind="stable")
        losses, targets = [], []
        with torch.no_grad():
            for numbers in split_by_budget(order, windows.lengths, self.batch_places):
                batch = ask_at_next(windows.take(numbers))
                task = self._make_task(batch, np.random.default_rng(0))
                states = self._net.states(
                    self._net.table(as_tensor(task.rows, self._net)), **task.inputs
                )
                losses.append(self._target_losses(batch, task, states).cpu().numpy())
                targets.append(task.targets)
        return np.concatenate(losses), self.groups_[np.concatenate(targets)]

    def _steps_per_epoch(self, rows: Ragged, run: Run) -> int:
        """Return the batches of one epoch, with a share of those of the reference."""
        steps = super()._steps_per_epoch(rows, run)
        if not self.eta:
            return steps
        return math.ceil(steps * (1 + self.reference_epochs / (2 * self.epochs)))

    def _loss(self, batch: Windows, training: TrainingData, rng: np.random.Generator) -> Tensor:
        """Return the weighted mean loss of the next events, plus that of waiting times."""
        net = self._net
        batch = ask_at_next(batch)
        task = self._make_task(batch, rng)
        is_hidden = rng.random(len(batch.lengths)) < HIDDEN
        slots = task.inputs["slots"]
        missing = torch.tensor(MISSING, device=slots.device)
        slots[torch.from_numpy(is_hidden), :, ASKED] = missing
        states = net.states(net.table(as_tensor(task.rows, net)), **task.inputs)
        losses = self._target_losses(batch, task, states)
        return self._weighted_mean(losses, task.targets) + self._wait_loss(batch, states, is_hidden)

    def _target_losses(self, batch: Windows, task: Task, states: Tensor) -> Tensor:
        """Return the cross-entropy (M,) of each target, with the states (B, T, D)."""
        net = self._net
        predicting = states.flatten(0, 1)[as_tensor(task.positions, net)]
        logits = self._add_counts(predicting @ net.catalogue().T, batch, task.positions)
        return cross_entropy(logits, as_tensor(task.targets, net), reduction="none")

    def _weighted_mean(self, losses: Tensor, targets: np.ndarray) -> Tensor:
        """Return the mean loss of events weighed by their groups, whose weights move on before.

        `losses` (M,) are those of `targets` (M,). An event counts as much more as its group's
        weight is above the group's share of the events; without `eta` all count alike.
        """
        if not self.eta:
            return losses.mean()
        net = self._net
        groups = as_tensor(self.groups_[targets], net)
        counts = torch.bincount(groups, minlength=len(net.group_weights))
        sums = torch.zeros_like(net.group_losses).index_add(0, groups, losses.detach())
        means = sums / counts.clamp(min=1)
        reference = torch.from_numpy(self.reference_losses_).to(net.device)
        is_first = net.group_losses < 0
        running = torch.where(is_first, means, torch.lerp(means, net.group_losses, SMOOTHING))
        net.group_losses.copy_(torch.where(counts > 0, running, net.group_losses))
        # a group that was not met yet is -1, and so below its reference
        weights = group_weights(net.group_losses, net.group_weights, reference, self.eta)
        net.group_weights.copy_(weights)
        shares = torch.from_numpy(self.shares_).to(net.device)
        return ((weights / shares)[groups] * losses).mean()

    def _wait_loss(self, batch: Windows, states: Tensor, is_hidden: np.ndarray) -> Tensor:
        """Return the mean loss of the waiting times, in windows (B,) that do not tell them."""
        times_ms = padded_times(batch)
        is_known = (times_ms[:, 1:] != NO_TIME) & (times_ms[:, :-1] != NO_TIME)
        window, position = np.nonzero(is_known & is_hidden[:, None])
        if not len(window):
            return states.sum() * 0
        waits_ms = times_ms[window, position + 1] - times_ms[window, position]
        logits = self._net.wait(states[window, position])
        return cross_entropy(logits.float(), as_tensor(_wait_classes(waits_ms), self._net))

    # logits

    def _layer_inputs(self, batch: Windows) -> dict[str, Tensor]:
        moments = moments_of(padded_times(batch), self.utc_offset_hours)
        slots = np.stack([moments.hour, moments.weekday], axis=2)
        slots = np.concatenate([slots[:, :-1], slots[:, 1:]], axis=2)  # B, T, 4
        return {"slots": as_tensor(slots, self._net)}

    def _logits(self, batch: Windows, catalogue: Tensor) -> Tensor:
        width = int(batch.lengths.max(initial=0))
        last = np.arange(len(batch.lengths)) * width + batch.lengths - 1
        return self._add_counts(super()._logits(batch, catalogue), batch, last)

    def _add_counts(self, logits: Tensor, batch: Windows, positions: np.ndarray) -> Tensor:
        """Return logits (M, N) with the weighted logarithms of the user's own counts.

        Counted are the events of the padded windows up to each of the positions (M,).
        """
        if not self.counts:
            return logits.float()
        rows, _ = pad_rows(batch.rows, batch.starts, batch.lengths)
        window, position = np.divmod(positions, max(rows.shape[1], 1))
        is_past = np.arange(rows.shape[1]) <= position[:, None]
        cells, counts = count_items(rows[window], is_past, len(self.items_))
        values = torch.from_numpy(np.log1p(counts).astype(np.float32)).to(logits.device)
        added = WEIGHT_SCALE * self._net.copy_weight * values
        flat = logits.float().flatten()  # training may compute in bfloat16
        return flat.index_add(0, as_tensor(cells, self._net), added).view_as(logits)

    # rolling out

    def rollout(
        self, queries: Sequence[Query], hours: float = 24.0, run: Run = Run()
    ) -> list[History]:
        """Draw what each user does in the hours from the time of the query on.

        A query without a time begins at its last event. The wait for an event is drawn first, then
        the event at that time; each is read before the next one. Waits are from the event before,
        and the first one is longer than what has passed since. Nothing is drawn for a user
        without a known event. Raises DataError for hours that are not above 0, and for a query
        without times.
        """
        self._check_fitted()
        if not hours > 0:
            raise DataError(f"hours is {hours}: it must be above 0")
        over_items = Queries.of(queries).reindexed(self.items_)
        days = [_Day.of(over_items, i, hours, run) for i in range(len(over_items))]
        for _ in range(MOST_EVENTS):
            active = [day for day in days if day.is_open]
            if not active:
                break
            self._draw_times(active)
            active = [day for day in active if day.is_open]
            if active:
                self._draw_items(active)
        return [
            History(
                tuple(self.items_.named(np.array(day.rows[day.read :], np.int64))),
                tuple(day.times_ms[day.read :]),
            )
            for day in days
        ]

    def _draw_times(self, days: "list[_Day]") -> None:
        """Draw when the next event of each day is."""
        with torch.inference_mode():
            states = self._last_states(_windows_of(days, self.length))
            chances = self._ready().wait(states).float().softmax(dim=1).cpu().numpy()
        for day, row in zip(days, chances, strict=True):
            waited = max(day.now_ms - day.times_ms[-1], 0) / HOUR_MS
            begins, ends, shares = _waits_after(waited)
            number = day.draw(row * shares)
            wait = begins[number] + day.rng.random() * (ends - begins)[number]
            day.now_ms = day.times_ms[-1] + round(wait * HOUR_MS)

    def _draw_items(self, days: "list[_Day]") -> None:
        """Draw what the next event of each day is, at its time."""
        now_ms = np.array([day.now_ms for day in days])
        windows = replace(_windows_of(days, self.length), now_ms=now_ms)
        with torch.inference_mode():
            logits = self._logits(windows, self._ready().catalogue())
            chances = logits.softmax(dim=1).cpu().numpy()
        for day, row in zip(days, chances, strict=True):
            row[day.excluded] = 0
            day.add(day.draw(row))


@dataclass(eq=False)
class _Day:
    """Events of a user that are rolled out, up to an end."""

    rows: list[int]
    """Items of the history, then those drawn."""
    times_ms: list[int]
    now_ms: int
    """Time of the latest draw."""
    end_ms: int
    excluded: np.ndarray
    """Rows that are not drawn."""
    read: int
    """Events of the history."""
    rng: np.random.Generator

    @classmethod
    def of(cls, queries: Queries, i: int, hours: float, run: Run) -> "_Day":
        """Return the beginning of a day, for query i. Raises DataError without times."""
        rows = queries.histories[i].tolist()
        times = queries.columns.get("times_ms")
        times_ms = [NO_TIME] * len(rows) if times is None else times[i].tolist()
        if NO_TIME in times_ms:
            raise DataError(
                f"query {i} has events without a time: a day is rolled out from their times, so"
                " give History.times_ms"
            )
        now_ms = NO_TIME if queries.now_ms is None else int(queries.now_ms[i])
        if now_ms == NO_TIME:
            now_ms = times_ms[-1] if times_ms else 0
        excluded = [np.zeros(0, np.int64)]
        if queries.exclude is not None:
            excluded.append(queries.exclude[i])
        if queries.blocked_rows is not None:
            excluded.append(queries.blocked_rows)
        end_ms = now_ms + round(hours * HOUR_MS)
        rng = run.rng("rollout", queries.request_id(i) or queries.user_ids[i] or "")
        return cls(rows, times_ms, now_ms, end_ms, np.concatenate(excluded), len(rows), rng)

    @property
    def is_open(self) -> bool:
        """Return whether the next event is still to be drawn."""
        return self.read > 0 and self.now_ms < self.end_ms

    def draw(self, chances: np.ndarray) -> int:
        """Return a number drawn by chances (C,); -1 where all are 0."""
        cumulative = chances.cumsum(dtype=np.float64)
        drawn = self.rng.random() * cumulative[-1]
        return int((cumulative > drawn).argmax()) if cumulative[-1] > 0 else -1

    def add(self, row: int) -> None:
        """Add an event at the time of the latest draw; for -1, end the day."""
        if row < 0:
            self.end_ms = self.now_ms
            return
        self.rows.append(row)
        self.times_ms.append(self.now_ms)


def _windows_of(days: Sequence[_Day], length: int) -> Windows:
    """Return the latest events of days, not knowing when the next is."""
    rows = Ragged.of([day.rows[-length:] for day in days])
    times_ms = Ragged.of([day.times_ms[-length:] for day in days], np.int64)
    return Windows(rows.values, rows.offsets[:-1], rows.lengths, times_ms.values)


def _wait_classes(waits_ms: np.ndarray) -> np.ndarray:
    """Return the class of each waiting time."""
    return np.maximum(np.searchsorted(WAITS * HOUR_MS, waits_ms, side="right") - 1, 0)


def _waits_after(hours: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return begin and end (C,) of the classes of waits above `hours`, and the share left of each.

    Within a class all waits are alike. Nothing is left of classes that end before, so that the
    last one ends later where it would.
    """
    ends = np.r_[WAITS[1:], 2 * max(WAITS[-1], hours)]
    begins = np.clip(WAITS, hours, ends)
    return begins, ends, (ends - begins) / (ends - WAITS)


def _groups_of_equal_share(counts: np.ndarray, groups: int) -> np.ndarray:
    """Return (N,) groups of items, the most frequent first, each with the same share of events."""
    order = np.argsort(-counts, kind="stable")
    middles = counts[order].cumsum() - counts[order] / 2
    numbers = np.empty(len(counts), np.int64)
    numbers[order] = middles * groups // max(counts.sum(), 1)
    # a behaviour with more than a group's share may leave a number without items
    return np.unique(numbers, return_inverse=True)[1]


def _of_users(training: TrainingData, mask: np.ndarray) -> TrainingData:
    """Return the histories of some users."""
    numbers = np.flatnonzero(mask)
    times_ms = training.times_ms
    if times_ms is not None:
        times_ms = training.rows.with_values(times_ms).take(numbers).values
    return replace(training, rows=training.rows.take(numbers), times_ms=times_ms)
