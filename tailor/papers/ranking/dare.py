"""DARE: one table of vectors to find the events that matter, another to say what they mean."""

from dataclasses import dataclass
from typing import Annotated, Self

from torch import Tensor, nn

from tailor.core.methods import Paper
from tailor.core.search_space import Choices
from tailor.errors import DataError
from tailor.nn.fields import FieldBatch, FieldLayout, FieldVectors
from tailor.nn.interest import TargetAttention, pooled
from tailor.ranking.behaviours import BehaviourNet, BehaviourPredictor

PAPER = Paper(
    "dare",
    "Long-Sequence Recommendation Models Need Decoupled Embeddings",
    "https://arxiv.org/abs/2410.02604",
    "On planted logs in which signs of items count beside groups (3 seeds) AUC is above that of"
    " the same net with one table of the same total width, and the search orders the events of the"
    " candidate's group better (NDCG@20); half the width of the attention costs at most .002 AUC",
)
GAP_BINS = 24  # of the age of an event
BINS_PER_STEP = 2  # bins for each factor of e of the age in hours


class DecoupledNet(BehaviourNet):
    """Attention from vectors of its own, and interest from the vectors of the fields."""

    def __init__(self, layout: FieldLayout, method: "DARE") -> None:
        attention_width = method.attention_width or method.width
        attention = TargetAttention(
            layout.item_fields * attention_width, "dot", normalise=True, top=method.top
        )
        super().__init__(layout, method.width, method.layers, attention, dropout=method.dropout)
        self.item_slot_count = layout.item_codes.shape[1]
        self.gap_scores = nn.Embedding(GAP_BINS, 1)
        nn.init.zeros_(self.gap_scores.weight)
        self.attention_vectors: FieldVectors | None = None
        if method.attention_width is not None:
            item_codes = int(layout.item_codes.max()) + 1
            item_field_of = layout.field_of[: self.item_slot_count]
            self.attention_vectors = FieldVectors(item_codes, attention_width, item_field_of, 0.1)

    def interest(self, candidates: Tensor, batch: FieldBatch) -> Tensor:
        """Return the interest of each example's history in its candidate, (B, I * D)."""
        behaviours = self.item_slots(batch.behaviours, self.vectors)
        return pooled(self.attention_of(batch), behaviours, batch)

    def attention_of(self, batch: FieldBatch) -> Tensor:
        """Return the weights (B, T) of each example's behaviours; 0 for all but the best."""
        vectors = self.vectors if self.attention_vectors is None else self.attention_vectors
        slots = slice(self.item_slot_count)
        candidates = vectors.of_items(
            batch.codes[:, slots], batch.weights[:, slots], self.item_slots.fields
        )
        behaviours = self.item_slots(batch.behaviours, vectors)
        bins = (batch.gaps * BINS_PER_STEP).long().clamp(max=GAP_BINS - 1)  # H, T
        bias = batch.of_examples(self.gap_scores(bins)[..., 0])
        weights: Tensor = self.attention(candidates, behaviours, batch, bias)
        return weights


@dataclass(eq=False)
class DARE(BehaviourPredictor):
    """One table of vectors finds the events that matter, another says what they mean.

    Which events are like the item asked about, and what they say of it, pull one vector in two
    directions. So attention has vectors of its own, which can be narrower: their products and the
    age of an event choose the best events, and these alone are summed up.

    Differs from the paper: the age of an event adds a number to its score, in place of a vector;
    there is no second head over the whole history; user fields have one table.
    """

    history: Annotated[int, Choices(50, 200, 500)] = 200
    """Latest items of the history that are searched."""
    attention_width: int | None = 8
    """Width of a value's vector for attention; None: attention reads the vectors of the fields."""
    top: int = 20
    """Items that the search keeps."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.top < 1 or (self.attention_width is not None and self.attention_width < 1):
            raise DataError(
                f"top is {self.top}, attention_width {self.attention_width}: at least 1"
            )

    def _make_field_net(self, layout: FieldLayout) -> nn.Module:
        return DecoupledNet(layout, self)

    @classmethod
    def tiny(cls) -> Self:
        return cls(width=4, layers=(8,), history=8, attention_width=4, top=4, epochs=3, lr=1e-2)
