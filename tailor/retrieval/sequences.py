"""What all nets over event sequences share: how they learn, and how they answer.

Shapes: B queries, T places, D width, N items, K negatives, M places that predict.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from tailor.core.methods import ScoringRecommender
from tailor.core.search_space import Range
from tailor.data.arrays import Ragged
from tailor.data.nouns import Explanation, Query, Ranking
from tailor.data.queries import Queries
from tailor.data.sampling import uniform_negatives
from tailor.errors import DataError
from tailor.nn.item_encoders import TextItemEncoder
from tailor.nn.losses import FullSoftmax, SampledSoftmax
from tailor.nn.positions import LearnedPositions
from tailor.nn.sequence import SequenceNet
from tailor.retrieval.neighbours import by_cause
from tailor.training.sequences import (
    SequenceLearner,
    Windows,
    as_tensor,
    check_blocks,
    last_states,
    whole_windows,
)

# the last four for whoever looks for them here
__all__ = ["SequenceRecommender", "Windows", "as_tensor", "check_blocks", "whole_windows"]
EXPLAINED = 20  # latest events that an explanation looks at
# queries that are read one by one, where there is a form of the net for that
# (`nn/numpy_inference.py`)
FEW = 2
# times as many items as a step touches, from which on only those touched are moved (docs/log.md)
SPARSE = 20


@dataclass(eq=False)
class SequenceRecommender(SequenceLearner, ScoringRecommender):
    """Reads the history in order, and compares the last state with every item's vector; a score is
    the item's share of the softmax over all.

    Strangers and new events need no refit: the history of the query is all that is read. Items
    without a training event are neither read nor scored, but by methods that know them by something
    else (`_readable`).
    """

    negatives: int | None = 2048
    """Items drawn a batch that each target is told from; None: all."""
    temperature: Annotated[float, Range(0.04, 0.2, log=True)] = 0.1
    """States meet item vectors by cosine divided by it; 0: by inner product."""

    tokens: ClassVar[int] = 0
    """Rows of the table that are no items."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.temperature < 0:
            raise DataError(f"temperature is {self.temperature}: it must be at least 0")
        self._check_optional("negatives")

    @abstractmethod
    def _layers(self) -> list[nn.Module]:
        """The layers between item vectors and states, each (B, T, D) -> (B, T, D)."""

    def _positions(self) -> nn.Module | None:
        """What tells the layers where an event stands; None where they know by themselves."""
        return LearnedPositions(self.length, self.width)

    def _front(self) -> TextItemEncoder | None:
        """What item vectors are made from; None for a table of their own."""
        return None

    def _make_net(self) -> SequenceNet:
        items = len(self.items_)
        return SequenceNet(
            items,
            self.width,
            self._layers(),
            self.dropout,
            self.temperature,
            self._positions(),
            self.tokens,
            self._is_sparse(items),
            self._front(),
        )

    def _is_sparse(self, items: int) -> bool:
        """Whether steps touch so few rows of the table that moving all of them would take longer."""
        touched = 2 * self.batch_places + (self.negatives or items)
        return items > SPARSE * touched and not (self.weight_decay or self.average)

    # learning

    def _loss(self, batch: Windows, rng: np.random.Generator) -> Tensor:
        """The mean loss of a batch. Item vectors are read once, for what is shown, what is to come
        and the negatives together.
        """
        net = self._net
        shown, known, places, targets = self._task(batch, rng)
        drawn = self._drawn(rng)
        vectors = net.table(as_tensor(np.concatenate([shown.ravel(), targets, drawn]), net))
        seen, positive, negative = vectors.split([shown.size, len(targets), len(drawn)])
        states = net.states(seen.view(*shown.shape, -1), **known).flatten(0, 1)[
            as_tensor(places, net)
        ]
        return self._compared(
            states,
            net.comparable(positive),
            net.comparable(negative),
            as_tensor(targets, net),
            as_tensor(drawn, net),
        )

    def _drawn(self, rng: np.random.Generator) -> np.ndarray:
        """(K,) rows of the items, chosen by somebody, that the targets of a batch are told from;
        none where it is all.
        """
        return (
            np.empty(0, np.int64)
            if self.negatives is None
            else self._chosen[uniform_negatives(len(self._chosen), self.negatives, rng)]
        )

    def _compared(
        self, states: Tensor, positive: Tensor, negative: Tensor, targets: Tensor, drawn: Tensor
    ) -> Tensor:
        """The loss of states (M, D) that should lie near `positive` (M, D) and far from `negative`
        (K, D).
        """
        if self.negatives is None:
            return FullSoftmax()(states, self._net.catalogue(), targets)
        return SampledSoftmax()(states, positive, negative, targets, drawn, len(self._chosen))

    # answering

    def _scores(self, queries: Queries) -> np.ndarray:
        net = self._ready()
        out = np.full((len(queries), len(self.items_)), -np.inf, dtype=np.float32)
        with torch.inference_mode():
            catalogue = net.catalogue()
            if (
                len(queries) <= FEW
                and self._reads_histories_alone
                and (alone := net.numpy_copy()) is not None
            ):
                recent, items = queries.histories.last(self.length), catalogue.numpy()
                for i in np.flatnonzero(recent.lengths).tolist():
                    out[i] = _shares(items @ net.comparable_state(alone.state(recent[i])))
                return out
            for some, windows in self._asked(queries):
                out[some] = (self._last_states(windows) @ catalogue.T).softmax(dim=1).cpu().numpy()
        return out

    @property
    def _reads_histories_alone(self) -> bool:
        """Whether a state is the net's last one, made of nothing but the items."""
        own = type(self)
        return (
            own._last_states is SequenceRecommender._last_states
            and own._known is SequenceLearner._known
        )

    def explain(
        self, queries: Sequence[Query], rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        """What of an item's score goes when one of the last EXPLAINED events is left out, as a
        share of what goes in all; no events where nothing goes.
        """
        self._check_fitted()
        asked = Queries.of(queries).reindexed(self.items_)
        return [self._reasons(asked[i : i + 1], ranking) for i, ranking in enumerate(rankings)]

    def _reasons(self, query: Queries, ranking: Ranking) -> list[Explanation]:
        events = query.histories.last(self.length).values
        left_out = np.arange(max(len(events) - EXPLAINED, 0), len(events))
        kept = [np.arange(len(events)), *(np.delete(np.arange(len(events)), at) for at in left_out)]
        columns = {
            name: Ragged.of([column.last(self.length).values[some] for some in kept], np.int64)
            for name, column in query.columns.items()
            if name == "times_ms"
        }
        variants = Queries(
            self.items_,
            Ragged.of([events[some] for some in kept]),
            np.full(len(kept), None, dtype=object),
            columns,
        )
        rows = self.items_.rows(ranking.ids)
        scores = self._scores(variants)[:, np.maximum(rows, 0)]  # events + 1, K
        scores = np.where(np.isfinite(scores) & (rows >= 0), scores, 0)
        lost = np.maximum(scores[0] - scores[1:], 0)
        causes = self.items_.ids[events[left_out]]
        return [by_cause(item_id, causes, lost[:, k]) for k, item_id in enumerate(ranking.ids)]

    def _last_states(self, batch: Windows) -> Tensor:
        """(B, D) the state that answers for each window: the one after its last event."""
        return last_states(self._ready(), batch, **self._known(batch))


def _shares(logits: np.ndarray) -> np.ndarray:
    """(N,) the softmax."""
    raised = np.exp(logits - logits.max())
    out: np.ndarray = raised / raised.sum()
    return out
