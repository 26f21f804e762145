"""HLLM: a model of item texts below a model of histories."""

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
MIN_COSINE = 0.99  # items whose texts are at least this similar are no negatives of each other
NEIGHBOURS = 10  # most similar texts that are compared with MIN_COSINE


@dataclass(eq=False)
class HLLM(SequenceRecommender):
    """An item's text gives its vector, and a second net reads the history as such vectors.

    So new items are recommended from their first second: `with_items` (Chen et al. 2024).

    Differs from the paper (a form for CPUs, reconstructed): the item model is a frozen sentence
    encoder under a learned projection of two layers, where the paper trains a language model of 1
    to 7 billion weights end to end; the net over histories is a small causal transformer; the
    temperature is fixed; sampled negatives are weighted for the items they stand for.
    """

    encoder: Encoder | str = DEFAULT
    """Encoder of item texts; "default": TAILOR_ENCODER, tailor.toml, else MiniLM."""
    width: int = 128
    """Width of item vectors and states."""
    blocks: int = 2
    """Transformer blocks of the net over histories."""
    heads: int = 2
    """Attention heads."""
    projection: Literal["net", "linear", "none"] = "net"
    """Map from text vectors to item vectors; none: `width` must be the encoder's."""
    dropout: Annotated[float, Range(0.05, 0.5)] = 0.2
    """Share of values zeroed while training."""
    temperature: Annotated[float, Range(0.03, 0.2, log=True)] = 0.07
    """Cosines of states and item vectors are divided by it."""
    lr: Annotated[float, Range(3e-4, 6e-3, log=True)] = 1e-3
    """Peak learning rate of AdamW; decays linearly to 1 % over all epochs."""
    weight_decay: float = 0.01
    """Weight decay of matrices."""
    epochs: int = 60
    """Maximum number of epochs."""

    vectors_: np.ndarray = field(init=False, repr=False)
    """(N, D) vectors of item texts, of unit length; zero for an item without text."""
    space_: str = field(init=False, repr=False)
    """Name of the encoder's vector space."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_blocks(self.blocks, self.heads, self.width)

    @classmethod
    def tiny(cls) -> "HLLM":
        return cls(encoder=HashingEncoder(32), width=8, length=10, epochs=3, negatives=20)

    def _readable(self, data: Dataset) -> np.ndarray:
        return np.array([bool(text.strip()) for text in data.item_texts], dtype=bool)

    def _read(self, data: Dataset, run: Run) -> None:
        encoder = encoder_of(self.encoder)
        rows = data.catalogue.rows(self.items_.ids.tolist()).tolist()
        texts = [data.item_texts[row] for row in rows]
        self.vectors_ = item_vectors(encoder, texts, run.progress)
        self.space_ = encoder.space
        if self.projection == "none" and self.width != self.vectors_.shape[1]:
            raise DataError(
                f"width is {self.width}: without a projection it must be {self.vectors_.shape[1]},"
                " which the encoder's vectors have"
            )
        self._text_groups = torch.from_numpy(_group_similar(self.vectors_))

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
            self._text_groups.to(targets.device),
        )

    def _drawn(self, rng: np.random.Generator) -> np.ndarray:
        return self._chosen if self.negatives is None else super()._drawn(rng)

    def with_items(self, items: Dataset, run: Run = Run()) -> Self:
        """Return a copy that also knows the items of another data set, by their texts.

        Nothing is learned. Raises ModelError for another encoder.
        """
        self._check_fitted()
        encoder = known_encoder(encoder_of(self.encoder), self.space_)
        is_new = self.items_.rows(items.catalogue.ids.tolist()) < 0
        rows = np.flatnonzero(self._readable(items) & is_new)
        texts = [items.item_texts[row] for row in rows.tolist()]
        vectors = item_vectors(encoder, texts, run.progress)
        ids = [*self.items_.ids.tolist(), *items.catalogue.ids[rows].tolist()]
        extended = replace(self)
        extended.__dict__ |= self.state()
        extended.items_ = Vocabulary.of_items(ids)
        extended.vectors_ = np.empty((len(ids), self.vectors_.shape[1]), dtype=np.float32)
        extended.vectors_[extended.items_.rows(ids)] = np.concatenate([self.vectors_, vectors])
        return extended


def _group_similar(vectors: np.ndarray) -> np.ndarray:
    """Return (N,) group numbers; items whose texts are nearly the same share one.

    Groups are the connected components of the graph of text pairs above MIN_COSINE.
    """
    n = len(vectors)
    index = VectorIndex(exact_upto=50_000).build(vectors)
    rows, cosines = index.search(vectors, min(NEIGHBOURS, n))
    is_near = (rows >= 0) & (cosines > MIN_COSINE)
    edges = (np.nonzero(is_near)[0], rows[is_near])
    graph = sp.csr_matrix((np.ones(is_near.sum()), edges), shape=(n, n))
    return sp.csgraph.connected_components(graph, directed=False)[1].astype(np.int64)
