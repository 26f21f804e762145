"""EmbeddingReranker: candidates in the order of their cosine to the request."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from tailor.core.defaults import DEFAULT
from tailor.core.defaults import encoder as encoder_of
from tailor.core.run import Run
from tailor.core.specs import check_settings
from tailor.data.dataset import Dataset
from tailor.data.splits import Split
from tailor.ports.base import Encoder
from tailor.reranking.pair_features import cosine_scores, list_vectors
from tailor.reranking.reranker import Reranker
from tailor.reranking.shortlist import Limits, Reranked, Shortlist, ordered, scored_statuses
from tailor.text.cached import known_encoder
from tailor.text.hashing import HashingEncoder


@dataclass(eq=False)
class EmbeddingReranker(Reranker):
    """Orders each list by the meaning its texts share with the request: the cosine of vectors.

    Documents are encoded once, requests each time. With `prior_weight` the first stage's scores
    count as well, which is often better than either alone.
    """

    encoder: Encoder | str = DEFAULT
    """Encoder of requests and documents; "default": TAILOR_ENCODER, tailor.toml, else MiniLM."""

    space_: str = field(init=False, repr=False)
    """Name of the encoder's vector space."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_settings(self)

    @classmethod
    def tiny(cls) -> Self:
        return cls(depth=8, encoder=HashingEncoder(32))

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self._read_catalogue(data)
        self.space_ = encoder_of(self.encoder).space

    def _rerank(
        self, shortlists: Sequence[Shortlist], limits: Limits, trace: bool
    ) -> list[Reranked]:
        encoder = encoder_of(self.encoder)
        if "space_" in self.__dict__:
            encoder = known_encoder(encoder, self.space_)
        results = []
        for shortlist, vectors in zip(shortlists, list_vectors(encoder, shortlists), strict=True):
            scores = cosine_scores(vectors.documents, vectors.request)
            results.append(
                ordered(shortlist, scores, scored_statuses(scores), "cosine", self.prior_weight)
            )
        return results
