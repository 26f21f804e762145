"""HLLM: a model of texts under a model of histories."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

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
from tailor.errors import DataError
from tailor.nn.blocks import TransformerBlock
from tailor.nn.item_encoders import TextItemEncoder
from tailor.nn.losses import SampledSoftmax
from tailor.ports.base import Encoder
from tailor.retrieval.sequences import SequenceRecommender, check_blocks
from tailor.text.cached import item_vectors, known_encoder
from tailor.text.hashing import HashingEncoder
from tailor.text.vector_index import VectorIndex
from tailor.training.sequences import TrainingData

PAPER = Paper(
    "hllm",
    "HLLM: Enhancing Sequential Recommendations via Hierarchical Large Language Models for Item and"
    " User Modeling",
    "https://arxiv.org/abs/2409.12740",
    "Items that nobody has chosen are found above id-SASRec and popularity; a pretrained item model"
    " beats hashed words of the same width; a learned projection beats none",
)
SAME_TEXT = 0.99  # cosine of texts above which an item is no negative of another
NEIGHBOURS = 10  # nearest texts that are compared for that


@dataclass(eq=False)
class HLLM(SequenceRecommender):
    """Predict the next item from item vectors that are made from texts (Chen et al. 2024).

    An item's vector is a projection of its text's vector; a transformer reads the history as a
    sequence of such vectors. So new items are found without a refit: `with_items`.

    Differs from the paper (form for a CPU, reconstructed): the item model is a frozen sentence
    encoder under a learned projection of two layers, where the paper trains a language model of 1
    to 7 billion weights end to end; the history's net is a small causal transformer; the
    temperature is fixed; negatives count for all items they represent.
    """

    encoder: Encoder | str = DEFAULT
    """Encoder of item texts; "default": TAILOR_ENCODER, tailor.toml, else MiniLM."""
    width: int = 128
    """Width of item vectors and states."""
    blocks: int = 2
    """Number of transformer blocks that read the history."""
    heads: int = 2
    """Attention heads; they must divide the width."""
    projection: Literal["net", "linear", "none"] = "net"
    """Map of text vectors: two layers, one, or none; with none, `width` must be the encoder's."""
    dropout: Annotated[float, Range(0.05, 0.5)] = 0.2
    """Share of values zeroed during training."""
    temperature: Annotated[float, Range(0.03, 0.2, log=True)] = 0.07
    """Divisor of the cosine of state and item vector."""
    lr: Annotated[float, Range(3e-4, 6e-3, log=True)] = 1e-3
    """Peak learning rate of AdamW; decays linearly to 1 % over all epochs."""
    weight_decay: float = 0.01
    """Weight decay of matrices in AdamW."""
    epochs: int = 60
    """Passes over the data, at most."""

    vectors_: np.ndarray = field(init=False, repr=False)
    """(N, D) vectors of the items' texts, unit length; zero without text."""
    space_: str = field(init=False, repr=False)
    """Name of the encoder's vector space."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_blocks(self.blocks, self.heads, self.width)

    @classmethod
    def tiny(cls) -> "HLLM":
        return cls(encoder=HashingEncoder(32), width=8, length=10, epochs=3, negatives=20)

    def _describable(self, data: Dataset) -> np.ndarray:
        return np.array([bool(text.strip()) for text in data.item_texts], dtype=bool)

    def _prepare_items(self, training: TrainingData, run: Run) -> dict[str, Any]:
        """Encode the items' texts, and find items whose texts are nearly the same."""
        encoder = encoder_of(self.encoder)
        data = training.data
        rows = data.catalogue.rows(self.items_.ids.tolist())
        texts = [data.item_texts[row] for row in rows.tolist()]
        self.vectors_ = item_vectors(encoder, texts, run.progress)
        self.space_ = encoder.space
        dims = self.vectors_.shape[1]
        if self.projection == "none" and self.width != dims:
            raise DataError(
                f"width is {self.width}: without a projection it must be {dims}, which the"
                " encoder's vectors have"
            )
        self._same_text = torch.from_numpy(_number_same_texts(self.vectors_))
        return {}

    def _item_encoder(self) -> TextItemEncoder:
        return TextItemEncoder(
            torch.from_numpy(self.vectors_),
            None if self.projection == "none" else self.width,
            2 * self.width if self.projection == "net" else 0,
        )

    def _layers(self) -> list[nn.Module]:
        return [TransformerBlock(self.width, self.heads, self.dropout) for _ in range(self.blocks)]

    def _compare(
        self,
        states: Tensor,
        positive: Tensor,
        negative: Tensor,
        targets: Tensor,
        drawn: Tensor,
        items: int,
    ) -> Tensor:
        same_text = self._same_text.to(targets.device)
        return SampledSoftmax()(states, positive, negative, targets, drawn, items, same_text)

    def _draw_negatives(self, item_rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return item_rows if self.negatives is None else super()._draw_negatives(item_rows, rng)

    def with_items(self, items: Dataset, run: Run = Run()) -> Self:
        """Return a copy that can recommend the items of another data set too, by their texts.

        Nothing is learned. Raises ModelError for another encoder.
        """
        self._check_fitted()
        encoder = known_encoder(encoder_of(self.encoder), self.space_)
        is_new = self.items_.rows(items.catalogue.ids.tolist()) < 0
        rows = np.flatnonzero(self._describable(items) & is_new)
        texts = [items.item_texts[row] for row in rows.tolist()]
        vectors = item_vectors(encoder, texts, run.progress)
        extended, order = self.items_.with_items(items.catalogue.ids[rows].tolist())
        all_vectors = np.concatenate([self.vectors_, vectors])[order]
        return self._with_state(items_=extended, vectors_=all_vectors)


def _number_same_texts(vectors: np.ndarray) -> np.ndarray:
    """Return (N,) numbers that are equal for items whose texts are nearly the same.

    Also for items that are linked through others.
    """
    n = len(vectors)
    index = VectorIndex(exact_upto=50_000).build(vectors)
    rows, cosines = index.search(vectors, min(NEIGHBOURS, n))
    is_same = (rows >= 0) & (cosines > SAME_TEXT)
    entries = (np.ones(is_same.sum()), (np.nonzero(is_same)[0], rows[is_same]))
    links = sp.csr_matrix(entries, shape=(n, n))
    return sp.csgraph.connected_components(links, directed=False)[1].astype(np.int64)
