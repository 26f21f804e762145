"""ICSRec: histories that lead to the same item share an intent."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tailor.core.methods import Paper
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.data.arrays import Ragged
from tailor.data.nouns import Query
from tailor.data.queries import Queries
from tailor.data.sampling import PRESETS
from tailor.errors import DataError
from tailor.nn.losses import InfoNCE
from tailor.nn.quantizers import VECTORS_PER_WORD, k_means
from tailor.nn.sequence import SequenceNet
from tailor.retrieval.sasrec import SASRec
from tailor.retrieval.sequences import Windows, as_tensor
from tailor.training.sequences import Task, TrainingData, last_states
from tailor.training.validation import Validation

PAPER = Paper(
    "icsrec",
    "Intent Contrastive Learning with Cross Subsequences for Sequential Recommendation",
    "https://arxiv.org/abs/2310.14318",
    "At equal steps the same net over the same windows finds the next item better with the"
    " contrast of windows that lead to one item, whose states come to lie nearer to each other"
    " than random ones",
)
EPOCHS_PER_CLUSTERING = 5
CLUSTERING_STEPS = 10  # moves of the centres by k-means
STATES_PER_BATCH = 512  # windows whose states are computed together before clustering


@dataclass(frozen=True)
class Intent:
    """The cluster of histories that one is nearest to."""

    number: int
    """Number of the cluster; -1 for a query without a known item in its history."""
    cosine: float
    """Cosine of the history's state and the cluster's centre."""
    item_ids: tuple[str, ...]
    """Items nearest to the centre, the nearest first."""


@dataclass(frozen=True, eq=False)
class Occurrences:
    """Positions of events that have an event before them, by their item.

    Positions are those in the values of the histories.
    """

    by_item: Ragged
    """Ascending positions of each item."""
    ranks: np.ndarray
    """(E,) rank of each event among those of its item; 0 for first events, which are left out."""
    first_events: np.ndarray
    """(E,) position of the first event of each event's user."""

    @classmethod
    def of(cls, rows: Ragged, items: int) -> "Occurrences":
        """Return the positions of events in histories over `items` items."""
        positions = np.flatnonzero(rows.from_start > 0)
        order = positions[np.argsort(rows.values[positions], kind="stable")]
        by_item = Ragged.of_lengths(np.bincount(rows.values[order], minlength=items), order)
        ranks = np.zeros(len(rows.values), dtype=np.int64)
        ranks[order] = by_item.from_start
        return cls(by_item, ranks, np.repeat(rows.offsets[:-1], rows.lengths))

    def draw_others(
        self, positions: np.ndarray, items: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Return (B,) another position of the item at each position (B,).

        It is the same position where the item has no other. `items` (B,) are the rows at
        `positions`.
        """
        counts = self.by_item.lengths[items]
        shift = 1 + (rng.random(len(positions)) * (counts - 1)).astype(np.int64)
        rank = (self.ranks[positions] + shift) % counts
        return self.by_item.values[self.by_item.offsets[items] + rank]


class IntentNet(SequenceNet):
    """A net over sequences that holds the centres of clusters of its states."""

    centres: Tensor
    steps: Tensor

    def __init__(self, clusters: int, **settings: Any) -> None:
        super().__init__(**settings)
        # buffers, so that checkpoints and the best weights hold them
        self.register_buffer("centres", torch.zeros(clusters, self.norm.normalized_shape[0]))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def nearest(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cosine (B,) and the number (B,) of the centre nearest to each state (B, D)."""
        cosines = normalize(states.float(), dim=-1) @ self.centres.T
        return cosines.max(dim=-1)


@dataclass(eq=False)
class ICSRec(SASRec):
    """Pull histories that lead to the same item together, and each toward its cluster's centre.

    A window predicts the event after it. Beside that loss, two contrasts: its state is told from
    those of the batch by the state of another window that the same item follows (`coarse`), and by
    the centre of its cluster, the intent (`fine`). Clusters are found by k-means over states, after
    the first epoch and every fifth one after it.

    Differs from the paper: a softmax over many shared negatives; a state belongs to the centre that
    is nearest now, not when clusters were made; windows are compared by cosine; by default one
    block with one head instead of two with two.
    """

    sampler: str = "prefix"
    """How training windows are drawn: "prefix", "last", "window", or exponents such as "1,0,inf".
    """
    coarse: Annotated[float, Range(0.0, 1.0)] = 0.3
    """Weight of the contrast of windows that lead to the same item; 0: none."""
    fine: Annotated[float, Range(0.0, 0.5)] = 0.1
    """Weight of the contrast of a window and its cluster's centre; 0: none."""
    clusters: int = 256
    """Number of clusters, at most."""
    contrast_temperature: Annotated[float, Range(0.05, 1.0, log=True)] = 0.1
    """Divisor of the cosines of both contrasts."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sampler == "packed":
            raise DataError(
                'sampler is "packed": windows with one target are paired, so it must be prefix,'
                ' last, window, or exponents as "1,0,inf"'
            )
        if self.coarse < 0 or self.fine < 0 or self.clusters < 1:
            raise DataError(
                f"coarse is {self.coarse}, fine {self.fine}, clusters {self.clusters}: weights must"
                " be at least 0, and clusters at least 1"
            )
        if not self.contrast_temperature > 0:
            raise DataError(
                f"contrast_temperature is {self.contrast_temperature}: it must be above 0"
            )

    @classmethod
    def tiny(cls) -> "ICSRec":
        return cls(width=8, length=10, epochs=3, negatives=20, clusters=4)

    def _make_net(self) -> IntentNet:
        return IntentNet(self.clusters, **self._net_settings())

    # learning

    def _train(
        self, training: TrainingData, validation: Validation | None, run: Run
    ) -> dict[str, Any]:
        self._occurrences = Occurrences.of(training.rows, len(self.items_))
        self._run = run
        try:
            return super()._train(training, validation, run)
        finally:
            del self._occurrences, self._run

    def _loss(self, batch: Windows, training: TrainingData, rng: np.random.Generator) -> Tensor:
        """Return the loss of the next events, plus the weighted contrasts."""
        if self.fine and self._is_clustering_due():
            self._net.centres.copy_(self._find_centres(training))
        self._net.steps += 1
        loss = super()._loss(batch, training, rng)
        states = self.__dict__.pop("_batch_states")
        if not self.coarse and not self.fine:
            return loss
        partners = last_states(self._net, self._partners(batch, rng))
        targets = as_tensor(batch.rows[batch.starts + batch.lengths], self._net)
        return loss + self._contrast(torch.stack([states, partners]), targets)

    def _target_states(self, task: Task, vectors: Tensor, positive: Tensor) -> Tensor:
        """Return the states (B, D) of the windows, and note them for the contrasts."""
        self._batch_states = super()._target_states(task, vectors, positive)
        return self._batch_states

    def _partners(self, batch: Windows, rng: np.random.Generator) -> Windows:
        """Return another window that leads to the same item for each window of a batch.

        Partners are no longer than the longest window of the batch: a batch holds windows of
        similar length, and padding would cost more than what it adds.
        """
        positions = batch.starts + batch.lengths
        others = self._occurrences.draw_others(positions, batch.rows[positions], rng)
        longest = int(batch.lengths.max())
        starts = np.maximum(self._occurrences.first_events[others], others - longest)
        return replace(batch, starts=starts, lengths=others - starts)

    def _contrast(self, pairs: Tensor, targets: Tensor) -> Tensor:
        """Return the weighted contrasts of the states of windows and partners (2, B, D)."""
        loss = torch.zeros((), device=pairs.device)
        states = pairs.flatten(0, 1)  # 2B, D
        contrast = InfoNCE(self.contrast_temperature)
        if self.coarse:
            both = targets.repeat(2)
            # a window's own state has its target, so it is no negative either
            coarse = contrast(states, pairs.flip(0).flatten(0, 1), both[:, None] == both)
            loss = loss + self.coarse * coarse
        if self.fine and self._net.centres.any():
            _, numbers = self._net.nearest(states.detach())
            centres = self._net.centres[numbers]
            loss = loss + self.fine * contrast(states, centres, numbers[:, None] == numbers)
        return loss

    def _is_clustering_due(self) -> bool:
        """Return whether this step is the first of epoch 2, 7, 12, ..."""
        steps = int(self._net.steps) - self._epoch_steps
        return steps >= 0 and steps % (EPOCHS_PER_CLUSTERING * self._epoch_steps) == 0

    def _find_centres(self, training: TrainingData) -> Tensor:
        """Return centres (clusters, D) of the states of drawn windows, of length 1.

        What is drawn depends on the step alone, so that several processes find the same ones.
        """
        net = self._net
        rng = self._run.rng("intents", int(net.steps))
        windows = self._drawn_windows(training.rows, rng)
        numbers = np.array_split(
            np.argsort(windows.lengths, kind="stable"),
            max(1, len(windows.starts) // STATES_PER_BATCH),
        )
        net.eval()
        with torch.no_grad():
            parts = [last_states(net, windows.take(part)) for part in numbers]
        net.train()
        states = normalize(torch.cat(parts).float(), dim=-1).cpu().numpy()
        centres = k_means(states, self.clusters, CLUSTERING_STEPS, rng)
        # where there are fewer, the first one stands for the missing: it is never nearer
        missing = self.clusters - len(centres)
        centres = np.concatenate([centres, np.repeat(centres[:1], missing, axis=0)])
        return normalize(torch.from_numpy(centres).to(net.device), dim=-1)

    def _drawn_windows(self, rows: Ragged, rng: np.random.Generator) -> Windows:
        """Return as many windows as k-means looks at, or as there are targets."""
        targets = int(np.maximum(rows.lengths - 1, 0).sum())
        size = min(targets, VECTORS_PER_WORD * self.clusters)
        user, target, length = PRESETS["prefix"].draw(rows.lengths, size, rng)
        length = np.minimum(length, self.length)
        starts = rows.offsets[:-1][user] + target - length
        return Windows(rows.values, starts, length)

    # answering

    def intents(self, queries: Sequence[Query], items: int = 5) -> list[Intent]:
        """Return the nearest intent of each query, with the items nearest to its centre.

        Raises DataError where none were learned (`fine` is 0, or the data is too small), and for
        less than one item.
        """
        self._check_fitted()
        if items < 1:
            raise DataError(f"items is {items}: ask for at least 1 item an intent")
        net = self._ready()
        if not net.centres.any():
            raise DataError(
                f"no intents were learned (fine is {self.fine}): set fine above 0, and train for at"
                " least two epochs"
            )
        over_items = Queries.of(queries).reindexed(self.items_)
        intents = [Intent(-1, 0.0, ())] * len(over_items)
        with torch.inference_mode():
            for numbers, windows in self._query_batches(over_items):
                cosines, clusters = net.nearest(self._last_states(windows))
                logits = net.centres[clusters] @ net.catalogue().T
                rows = logits.topk(min(items, len(self.items_)), dim=1).indices.cpu().numpy()
                for i, number in enumerate(numbers.tolist()):
                    item_ids = tuple(self.items_.named(rows[i]))
                    intents[number] = Intent(int(clusters[i]), float(cosines[i]), item_ids)
        return intents
