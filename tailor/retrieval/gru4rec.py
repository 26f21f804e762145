"""GRU4Rec: a recurrent net over the history."""

from dataclasses import dataclass

from torch import nn

from tailor.errors import DataError
from tailor.nn.blocks import GRULayers
from tailor.retrieval.sequences import SequenceRecommender


@dataclass(eq=False)
class GRU4Rec(SequenceRecommender):
    """A state that each event changes, and that predicts the next one (Hidasi et al. 2016).

    Differs from the paper: item vectors are the same at the bottom and at the top, histories are
    people's and not sessions', and the loss is a softmax over many shared negatives for BPR or TOP1
    over those of the batch.
    """

    recurrent_layers: int = 1

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
