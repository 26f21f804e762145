"""HLLM: a model of texts under a model of histories."""

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, Self

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from tailor.core.defaults import DEFAULT
from tailor.core.defaults import encoder as encoder_of
from tailor.core.methods import Paper
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.data.dataset import Dataset
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError
from tailor.nn.blocks import TransformerBlock
from tailor.nn.item_encoders import TextItemEncoder
from tailor.nn.losses import SampledSoftmax
from tailor.ports.base import Encoder
from tailor.retrieval.sequences import SequenceRecommender, check_blocks
from tailor.text.cached import item_vectors, known_encoder
from tailor.text.hashing import HashingEncoder
from tailor.text.vector_index import VectorIndex

PAPER = Paper(
    "hllm",
    "HLLM: Enhancing Sequential Recommendations via Hierarchical Large Language Models for Item and"
    " User Modeling",
    "https://arxiv.org/abs/2409.12740",
    "Items that nobody has chosen are found above id-SASRec and popularity; a pretrained item model"
    " beats hashed words of the same width; a learned projection beats none",
)
ALIKE = 0.99  # cosine of texts from which on an item is no negative of another
NEIGHBOURS = 10  # texts that are looked at for such


@dataclass(eq=False)
class HLLM(SequenceRecommender):
    """What an item's text says makes its vector, and a second net reads the history as a sequence
    of such vectors and says what should come next (Chen et al. 2024).

    So items are found from their first second on: `with_items`. Differs from the paper (form for a
    processor, reconstructed): the item model is a frozen sentence encoder under a learned
    projection of two layers, where the paper trains a language model of 1 to 7 billion weights end
    to end; the history's net is a small causal transformer; the temperature is fixed; negatives
    count for all items they stand for.
    """

    encoder: Encoder | str = DEFAULT
    """Of items' texts; or "default": TAILOR_ENCODER, tailor.toml, else MiniLM."""
    width: int = 128
    """Of item vectors and states."""
    blocks: int = 2
    """Of the history's net."""
    heads: int = 2
    projection: Literal["net", "linear", "none"] = "net"
    """Of texts' vectors; none: `width` must be the encoder's."""
    dropout: Annotated[float, Range(0.05, 0.5)] = 0.2
    """Share of values zeroed while training."""
    temperature: Annotated[float, Range(0.03, 0.2, log=True)] = 0.07
    lr: Annotated[float, Range(3e-4, 6e-3, log=True)] = 1e-3
    """Highest step; falls in a straight line to a hundredth over all epochs."""
    weight_decay: float = 0.01
    """Of matrices."""
    epochs: int = 60
    """At most."""

    vectors_: np.ndarray = field(init=False, repr=False)
    """(N, D) of the items' texts, unit length; zero without words."""
    space_: str = field(init=False, repr=False)
    """Which encoder's vectors these are."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_blocks(self.blocks, self.heads, self.width)

    @classmethod
    def tiny(cls) -> "HLLM":
        return cls(encoder=HashingEncoder(32), width=8, length=10, epochs=3, negatives=20)

    def _readable(self, data: Dataset) -> np.ndarray:
        return np.array([bool(text.strip()) for text in data.item_texts], dtype=bool)

    def _read(self, data: Dataset, run: Run) -> None:
        encoder, texts = encoder_of(self.encoder), data.item_texts
        rows = data.catalogue.rows(self.items_.ids.tolist())
        self.vectors_, self.space_ = (
            item_vectors(encoder, [texts[row] for row in rows.tolist()], run.progress),
            encoder.space,
        )
        if self.projection == "none" and self.width != self.vectors_.shape[1]:
            raise DataError(
                f"width is {self.width}: without a projection it must be {self.vectors_.shape[1]},"
                " which the encoder's vectors have"
            )
        self._same = torch.from_numpy(_alike(self.vectors_))

    def _front(self) -> TextItemEncoder:
        return TextItemEncoder(
            torch.from_numpy(self.vectors_),
            None if self.projection == "none" else self.width,
            2 * self.width if self.projection == "net" else 0,
        )

    def _layers(self) -> list[nn.Module]:
        return [TransformerBlock(self.width, self.heads, self.dropout) for _ in range(self.blocks)]

    def _compared(
        self, states: Tensor, positive: Tensor, negative: Tensor, targets: Tensor, drawn: Tensor
    ) -> Tensor:
        return SampledSoftmax()(
            states,
            positive,
            negative,
            targets,
            drawn,
            len(self._chosen),
            self._same.to(targets.device),
        )

    def _drawn(self, rng: np.random.Generator) -> np.ndarray:
        return self._chosen if self.negatives is None else super()._drawn(rng)

    def with_items(self, items: Dataset, run: Run = Run()) -> Self:
        """A copy that knows the items of another data set too, by their texts alone; nothing is
        learned. Raises ModelError for another encoder.
        """
        self._check_fitted()
        encoder = known_encoder(encoder_of(self.encoder), self.space_)
        rows = np.flatnonzero(
            self._readable(items) & (self.items_.rows(items.catalogue.ids.tolist()) < 0)
        )
        vectors = item_vectors(
            encoder, [items.item_texts[row] for row in rows.tolist()], run.progress
        )
        more = replace(self)
        more.__dict__ |= {
            name: value
            for name, value in self.__dict__.items()
            if name.endswith("_") and not name.startswith("_")
        }
        ids = [*self.items_.ids.tolist(), *items.catalogue.ids[rows].tolist()]
        more.items_ = Vocabulary.of_items(ids)
        more.vectors_ = np.empty((len(ids), self.vectors_.shape[1]), dtype=np.float32)
        more.vectors_[more.items_.rows(ids)] = np.concatenate([self.vectors_, vectors])
        return more


def _alike(vectors: np.ndarray) -> np.ndarray:
    """(N,) numbers, the same for items whose texts are nearly the same, at once or over others
    between.
    """
    n = len(vectors)
    rows, scores = VectorIndex(exact_upto=50_000).build(vectors).search(vectors, min(NEIGHBOURS, n))
    near = (rows >= 0) & (scores > ALIKE)
    links = sp.csr_matrix((np.ones(near.sum()), (np.nonzero(near)[0], rows[near])), shape=(n, n))
    return sp.csgraph.connected_components(links, directed=False)[1].astype(np.int64)
