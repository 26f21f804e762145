"""SASRec: causal self-attention over the history."""

from dataclasses import dataclass

from torch import nn

from tailor.nn.blocks import TransformerBlock
from tailor.retrieval.sequences import SequenceRecommender, check_blocks


@dataclass(eq=False)
class SASRec(SequenceRecommender):
    """Each event looks back at the events before it, and what it gathers from them predicts the
    next one (Kang and McAuley 2018).

    Differs from the paper: norms stand before attention and feed-forward net, GELU for ReLU, a
    feed-forward net four times as wide inside, and a softmax over many shared negatives for one
    negative a target (Klenitskiy and Vasilev 2023), which is where most of the accuracy comes from.
    `gated` weighs what each part adds by a sigmoid of its input, as eSASRec does with LiGR blocks.
    """

    blocks: int = 1
    """One upon the other."""
    heads: int = 1
    """Must divide the width."""
    gated: bool = False
    """LiGR blocks."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_blocks(self.blocks, self.heads, self.width)

    def _layers(self) -> list[nn.Module]:
        return [
            TransformerBlock(self.width, self.heads, self.dropout, self.gated)
            for _ in range(self.blocks)
        ]

    @classmethod
    def tiny(cls) -> "SASRec":
        return cls(width=8, length=10, epochs=3, negatives=20)
