"""IDNP: interest as a function of time, inferred from a few windows of events."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor, nn

from tailor.core.methods import Paper
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.data.dataset import Dataset
from tailor.data.nouns import Query
from tailor.data.queries import NO_TIME, Queries, Rankings
from tailor.data.splits import Split
from tailor.errors import DataError
from tailor.nn.interest_process import InterestProcess, Latent
from tailor.nn.packing import pad_rows
from tailor.nn.sequence import SequenceNet
from tailor.retrieval.sequences import SequenceRecommender, Windows, as_tensor
from tailor.training.sequences import TrainingData

PAPER = Paper(
    "idnp",
    "IDNP: Interest Dynamics Modeling using Generative Neural Processes for Sequential"
    " Recommendation",
    "https://arxiv.org/abs/2208.04600",
    "Where interests move as time passes and at most four sessions are known, next items are found"
    " better than by nets that do not know when they are asked; the latent's spread falls as more"
    " of the history is known",
)
WARM_SHARE = 0.2  # of the steps, over which the weight of the divergence rises to 1
LEAST_GAP_MS = 1.0


class ProcessNet(SequenceNet):
    """Item vectors with a process of interest instead of layers."""

    steps: Tensor

    def __init__(self, process: InterestProcess, **settings: Any) -> None:
        super().__init__(**settings)
        self.process = process
        # a buffer, so that a checkpoint holds it
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))


@dataclass(eq=False)
class IDNP(SequenceRecommender):
    """Infer from a few windows of events how a user's interest moves, and ask where it is now.

    The history is cut into windows with their times. From windows and times the net infers a
    function of time, by attention to the windows and by a latent that says which function of the
    shared family it is, and evaluates it at the time of the query. In training some windows are
    left out: they and the next event must be predicted from the others.

    Differs from the paper (reconstructed, but for the outline): no vector per user, so that cold
    users are served; ages before the query instead of absolute times; of a window that is left out
    the latest event is predicted; a softmax over negatives that the batch shares.
    """

    sampler: str = "prefix"
    """How training windows are drawn: "prefix", "last", "window", or exponents such as "1,0,inf".
    """
    window: int = 5
    """Events of a window."""
    latent: int = 32
    """Width of the latent."""
    context: Annotated[float, Range(0.3, 1.0)] = 0.7
    """Share of the windows that are read in training; the others are to be predicted."""
    divergence: float = 0.3
    """Weight of the divergence of the latent from that of the context alone."""
    dropout: Annotated[float, Range(0.0, 0.6)] = 0.1
    """Share of values zeroed during training."""

    gap_ms_: float = field(init=False, repr=False)
    """Typical gap between two events that are not at one time; ages are in units of it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sampler == "packed":
            raise DataError(
                'sampler is "packed": a window predicts the event after it, so it must be prefix,'
                ' last, window, or exponents as "1,0,inf"'
            )
        if self.window < 1 or self.latent < 1:
            raise DataError(
                f"window is {self.window}, latent {self.latent}: both must be at least 1"
            )
        if not 0 < self.context <= 1 or self.divergence < 0:
            raise DataError(
                f"context is {self.context}, divergence {self.divergence}: the share must be above"
                " 0 and at most 1, the weight at least 0"
            )

    @classmethod
    def tiny(cls) -> "IDNP":
        return cls(width=8, length=10, epochs=3, negatives=20, latent=4, window=3)

    def _layers(self) -> list[nn.Module]:
        return []  # the process stands in their place

    def _positions(self) -> None:
        return None

    def _make_net(self) -> ProcessNet:
        process = InterestProcess(self.width, self.latent, self.window, self.dropout)
        return ProcessNet(process, **self._net_settings())

    # learning

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.gap_ms_ = LEAST_GAP_MS
        times = data.sequences.times_ms
        if times is not None:
            is_later = times.from_start[1:] > 0
            gaps = np.diff(times.values)[is_later]
            gaps = gaps[gaps > 0]
            if len(gaps):
                self.gap_ms_ = float(np.mean(gaps))
        super()._fit(data, run, valid)

    def _loss(self, batch: Windows, training: TrainingData, rng: np.random.Generator) -> Tensor:
        """Return the loss of the next events and of windows left out, plus the divergence."""
        net: ProcessNet = self._net
        ends = batch.starts + batch.lengths
        if batch.times_ms is not None:
            batch = replace(batch, now_ms=batch.times_ms[ends])
        windows, ages = self._history_windows(batch)
        is_window = ages >= 0
        mask = self._context_mask(is_window, rng)
        next_rows = as_tensor(batch.rows[ends], net)
        posterior = self._posterior(windows, ages, next_rows)
        # the next event is at age 0, then come the windows
        query_ages = torch.cat(
            [torch.zeros_like(ages[:, :1]), ages.clamp(min=0)], dim=1
        )  # B, 1 + W
        interest = net.process.interest(windows, ages, mask, posterior.sample(), query_ages)
        is_target = torch.cat([torch.ones_like(mask[:, :1]), is_window & ~mask], dim=1)
        rows = torch.cat([next_rows[:, None], self._latest_rows(batch, ages.shape[1])], dim=1)
        loss = self._item_loss(interest[is_target], rows[is_target], training, rng)
        prior = net.process.latent(windows, ages, mask)
        divergence = posterior.divergence(prior).mean()
        self._divergences.append(float(divergence.detach()))
        return loss + self.divergence * self._warmth() * divergence

    def _posterior(self, windows: Tensor, ages: Tensor, next_rows: Tensor) -> Latent:
        """Return the latent of all windows (B, W, D) and of the next events, rows (B,)."""
        process = self._net.process
        next_events = process.event(self._net.table(next_rows))
        ages = torch.cat([torch.zeros_like(ages[:, :1]), ages], dim=1)
        latent: Latent = process.latent(
            torch.cat([next_events[:, None], windows], dim=1), ages, ages >= 0
        )
        return latent

    def _item_loss(
        self, interest: Tensor, rows: Tensor, training: TrainingData, rng: np.random.Generator
    ) -> Tensor:
        """Return the loss of items `rows` (M,) at the interest (M, D)."""
        net: ProcessNet = self._net
        drawn = as_tensor(self._draw_negatives(training.item_rows, rng), net)
        positive = net.comparable(net.table(rows))
        negative = net.comparable(net.table(drawn))
        states = net.scaled(net.norm(interest))
        return self._compare(states, positive, negative, rows, drawn, len(training.item_rows))

    def _warmth(self) -> float:
        """Return the share of the divergence's weight at this step, and count the step."""
        steps = int(self._net.steps)
        self._net.steps += 1
        return min(1.0, (steps + 1) / max(1.0, WARM_SHARE * self.epochs * self._epoch_steps))

    def _context_mask(self, is_window: Tensor, rng: np.random.Generator) -> Tensor:
        """Return (B, W) bool: the windows that are read, at least one per history."""
        draws = torch.from_numpy(rng.random(tuple(is_window.shape))).to(is_window.device)
        draws = draws.masked_fill(~is_window, 2.0)
        mask: Tensor = draws < self.context
        mask.scatter_(1, draws.argmin(dim=1, keepdim=True), True)
        return mask

    def _latest_rows(self, batch: Windows, count: int) -> Tensor:
        """Return (B, W) the item of the latest event of each window, the latest window first."""
        positions = batch.lengths[:, None] - 1 - self.window * np.arange(count)
        rows = batch.rows[batch.starts[:, None] + np.maximum(positions, 0)]
        return as_tensor(rows, self._net)

    def _history_windows(self, batch: Windows) -> tuple[Tensor, Tensor]:
        """Return the vectors (B, W, D) and ages (B, W) of the windows of histories."""
        net: ProcessNet = self._net
        rows, _ = pad_rows(batch.rows, batch.starts, batch.lengths)
        ages = torch.from_numpy(self._event_ages(batch)).to(net.device)
        vectors = net.table(as_tensor(rows, net))
        return net.process.windows(vectors, ages, as_tensor(batch.lengths, net))

    def _event_ages(self, batch: Windows) -> np.ndarray:
        """Return (B, T) float32 how long before the query events were, in typical gaps.

        Without a time of the query, it is a typical gap after the last event. Events without times
        are a gap apart.
        """
        last = batch.lengths[:, None] - 1
        position = np.arange(int(batch.lengths.max(initial=0)))
        by_order = np.maximum(last + 1 - position, 0).astype(np.float32)
        if batch.times_ms is None:
            return by_order
        times, mask = pad_rows(batch.times_ms, batch.starts, batch.lengths)
        latest = np.take_along_axis(times, last, axis=1)
        now = latest + int(self.gap_ms_)
        if batch.now_ms is not None:
            now = np.where(batch.now_ms[:, None] == NO_TIME, now, batch.now_ms[:, None])
        is_untimed = ((times == NO_TIME) & mask).any(axis=1, keepdims=True)
        # differences of int64 before any division: a float32 of milliseconds is minutes off
        times = np.where(is_untimed, now, times)
        ages = np.maximum(now - times, 0) / self.gap_ms_
        return np.where(is_untimed, by_order, np.where(mask, ages, 0)).astype(np.float32)

    def _train(self, *arguments: Any) -> dict[str, Any]:
        self._divergences: list[float] = []
        try:
            report = super()._train(*arguments)
            if self._divergences:
                last_epoch = self._divergences[-self._epoch_steps :]
                report["divergence"] = round(float(np.mean(last_epoch)), 4)
            return report
        finally:
            del self._divergences

    # answering

    def _latent(self, batch: Windows) -> tuple[Tensor, Tensor, Latent]:
        """Return windows (B, W, D), their ages (B, W), and the latent of histories."""
        windows, ages = self._history_windows(batch)
        return windows, ages, self._net.process.latent(windows, ages, ages >= 0)

    def _last_states(self, batch: Windows) -> Tensor:
        net: ProcessNet = self._ready()
        windows, ages, latent = self._latent(batch)
        now = torch.zeros(len(ages), 1, device=ages.device)
        interest = net.process.interest(windows, ages, ages >= 0, latent.mean, now)
        return net.scaled(net.norm(interest[:, 0]))

    def uncertainty(self, queries: Sequence[Query]) -> np.ndarray:
        """Return (n,) the mean spread of each query's latent; 1 without a known item.

        Between 0.1 and 1: the more of a history is known, the lower.
        """
        self._check_fitted()
        self._ready()
        over_items = Queries.of(queries).reindexed(self.items_)
        spreads = np.ones(len(over_items))
        with torch.inference_mode():
            for numbers, windows in self._query_batches(over_items):
                spreads[numbers] = self._latent(windows)[2].spread.mean(dim=1).cpu().numpy()
        return spreads

    def drift(self, query: Query, times_ms: Sequence[int], k: int = 10) -> Rankings:
        """Return what one user is recommended at each of several times, the history as it is."""
        return self.recommend([replace(query, time_ms=time_ms) for time_ms in times_ms], k)
