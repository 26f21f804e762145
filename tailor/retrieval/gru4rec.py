"""GRU4Rec: a recurrent net over the history."""

from dataclasses import dataclass

from torch import nn

from tailor.errors import DataError
from tailor.nn.blocks import GRULayers
from tailor.retrieval.sequences import SequenceRecommender


@dataclass(eq=False)
class GRU4Rec(SequenceRecommender):
    """Predict the next event from a recurrent state (Hidasi et al. 2016).

    Gated recurrent layers update the state after each event; it is compared with all item vectors.

    Differs from the paper: inputs and outputs share one table of item vectors, histories are those
    of users instead of sessions, and the loss is a softmax over many shared negatives instead of
    BPR or TOP1 over those of the batch.
    """

    recurrent_layers: int = 1
    """Number of recurrent layers."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.recurrent_layers < 1:
            raise DataError(f"recurrent_layers is {self.recurrent_layers}: it must be at least 1")

    def _positions(self) -> None:
        return None

    def _layers(self) -> list[nn.Module]:
        return [GRULayers(self.width, self.recurrent_layers, self.dropout)]

    @classmethod
    def tiny(cls) -> "GRU4Rec":
        return cls(width=8, length=10, epochs=3, negatives=20)
