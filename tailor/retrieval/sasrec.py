"""SASRec: causal self-attention over the history."""

from dataclasses import dataclass

from torch import nn

from tailor.nn.blocks import TransformerBlock
from tailor.retrieval.sequences import SequenceRecommender, check_blocks


@dataclass(eq=False)
class SASRec(SequenceRecommender):
    """Predict the next event by self-attention over the events before it (Kang and McAuley 2018).

    Each event attends to the events before it; the state of the last one is compared with all item
    vectors. `gated` multiplies what each part of a block adds by a sigmoid of its input, as eSASRec
    does with LiGR blocks.

    Differs from the paper: norms come before attention and feed-forward net, GELU instead of ReLU,
    a feed-forward net four times as wide inside, and a softmax over many shared negatives instead
    of one negative per target (Klenitskiy and Vasilev 2023), from which most of the accuracy comes.
    """

    blocks: int = 1
    """Number of transformer blocks."""
    heads: int = 1
    """Attention heads; they must divide the width."""
    gated: bool = False
    """Whether blocks are gated (LiGR)."""

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
