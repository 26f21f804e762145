"""E2Rank: the first documents of a list refine the request, and a cosine orders the list again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from tailor.core.defaults import DEFAULT
from tailor.core.defaults import encoder as encoder_of
from tailor.core.methods import Paper
from tailor.core.run import Run
from tailor.core.specs import check_settings
from tailor.data.dataset import Dataset
from tailor.data.splits import Split
from tailor.errors import ModelError
from tailor.nn.policy import ranknet
from tailor.ports.base import Encoder
from tailor.reranking.learned_reranker import LearnedReranker, ListLoss
from tailor.reranking.pair_features import ListVectors, cosine_scores, list_vectors
from tailor.reranking.shortlist import Shortlist, deviations
from tailor.text.cached import known_encoder
from tailor.text.hashing import HashingEncoder
from tailor.text.sentences import unit_length

PAPER = Paper(
    "e2rank",
    "E2Rank: Your Text Embedding can Also be an Effective and Efficient Listwise Reranker",
    "https://arxiv.org/abs/2510.22733",
    "The list fed back as a query orders Cranfield and NPL better than the plain cosine, with"
    " weights from CACM; random documents in its place do harm",
)
RANKNET_WEIGHT = 2.0  # of RankNet beside InfoNCE, as in the paper
RANKNET_SCALE = 10.0  # of cosines in RankNet, as in the paper
HIDDEN = 64  # width of attention and of the map of what it reads


class FeedbackNet(nn.Module):
    """Reads a correction of the query out of the first documents, by attention.

    The last layer begins at zero, so that training begins with the query as it is.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query_proj = nn.Linear(width, HIDDEN, bias=False)
        self.key_proj = nn.Linear(width, HIDDEN, bias=False)
        self.down_proj = nn.Linear(2 * width, HIDDEN)
        self.up_proj = nn.Linear(HIDDEN, width, bias=False)
        nn.init.zeros_(self.up_proj.weight)

    def forward(self, query: Tensor, first: Tensor) -> Tensor:
        """Return the correction (D,) for a query (D,) and its first documents (F, D)."""
        logits = self.key_proj(first) @ self.query_proj(query) * HIDDEN**0.5  # F
        summary = logits.softmax(dim=0) @ first  # D
        hidden = torch.relu(self.down_proj(torch.cat([query, summary])))
        correction: Tensor = self.up_proj(hidden)
        return correction


@dataclass(frozen=True, eq=False)
class FeedbackList:
    """A list as it is read: its vectors, the query after feedback, and who was fed back."""

    vectors: ListVectors
    query: np.ndarray
    """(D,) sum of request and documents, before any learned correction."""
    first: np.ndarray
    """(F,) places of the documents fed back."""
    weights: np.ndarray
    """(F,) their shares, which sum to 1."""


@dataclass(eq=False)
class E2Rank(LearnedReranker):
    """Embeds the request together with the list's first documents, and orders by cosine again.

    What the first documents share is what the request means in this collection: pseudo-relevance
    feedback (Liu et al. 2025). The query is the request's vector plus a weighted mean of the first
    documents, less a part of the mean of the others (Rocchio 1971). All documents are embedded
    once, so a list costs one sum of vectors and no language model. With `learn`, attention over
    the first documents adds a correction, learned by InfoNCE and RankNet.

    Differs from the paper: the encoder is not trained and reads single texts, so the sum of vectors
    stands for the embedding of the paper's listwise prompt; the learned correction is
    reconstructed. The first documents are those that words and cosine put first together.
    """

    encoder: Encoder | str = DEFAULT
    """Encoder of requests and documents; "default": TAILOR_ENCODER, tailor.toml, else MiniLM."""
    feedback: int = 3
    """First documents that are fed back; like feedback_weight chosen on CACM (paper: 20)."""
    order: Literal["first stage", "cosine", "both"] = "both"
    """Order whose first documents are fed back; "both": the sum of the two, in deviations."""
    feedback_weight: float = 0.8
    """Weight of the mean of the documents fed back; the request has 1. 0: plain cosine."""
    others_weight: float = 0.0
    """Weight of the mean of the other documents, which is taken away."""
    temperature: float = 1.0
    """Deviations of the order's score by which a document's share falls to 1 / e."""
    learn: bool = False
    """Learn a correction of the query from lists with gains."""
    tau: float = 0.03
    """Temperature of InfoNCE."""

    width_: int = field(init=False, repr=False)
    """Width of the vectors."""
    space_: str = field(init=False, repr=False)
    """Name of the encoder's vector space."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_settings(self)
        weights = (self.feedback_weight, self.others_weight)
        if self.feedback < 1 or min(weights) < 0 or min(self.temperature, self.tau) <= 0:
            raise ModelError(
                f"feedback is {self.feedback}, feedback_weight {self.feedback_weight},"
                f" others_weight {self.others_weight}, temperature {self.temperature}, tau"
                f" {self.tau}: at least 1, twice from 0, twice above 0"
            )

    @classmethod
    def tiny(cls) -> Self:
        return cls(depth=8, encoder=HashingEncoder(32), learn=True, epochs=2)

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        encoder = encoder_of(self.encoder)
        self.space_ = encoder.space
        self.width_ = encoder.encode([""]).shape[1]
        if self.learn:
            super()._fit(data, run, valid)
            return
        self._read_catalogue(data)
        self._start_net(run)
        self.fit_report_ = self._leave_untrained("learn is off")

    def _make_net(self) -> FeedbackNet:
        return FeedbackNet(self.width_)

    def _inputs(self, shortlists: Sequence[Shortlist]) -> list[FeedbackList]:
        encoder = encoder_of(self.encoder)
        if "space_" in self.__dict__:
            encoder = known_encoder(encoder, self.space_)
        vectors = list_vectors(encoder, shortlists)
        return [self._read(*pair) for pair in zip(shortlists, vectors, strict=True)]

    def _read(self, shortlist: Shortlist, vectors: ListVectors) -> FeedbackList:
        """Return the list with the sum of request and first documents."""
        request, documents = vectors
        order_scores = self._order_scores(shortlist, vectors)
        order = np.argsort(-order_scores, kind="stable")
        first, others = order[: self.feedback], order[self.feedback :]
        logits = order_scores[first] / self.temperature
        weights = np.exp(logits - logits.max(initial=-np.inf))
        weights /= weights.sum() or 1.0
        query = request + self.feedback_weight * (weights @ documents[first])
        if len(others):
            query = query - self.others_weight * documents[others].mean(axis=0)
        return FeedbackList(vectors, query.astype(np.float32), first, weights)

    def _order_scores(self, shortlist: Shortlist, vectors: ListVectors) -> np.ndarray:
        """Return (n,) scores, in deviations, by which the first documents are chosen."""
        prior = deviations(shortlist.prior)
        if self.order == "first stage":
            return prior
        cosines = deviations(np.asarray(vectors.documents @ vectors.request, float))
        return cosines if self.order == "cosine" else (prior + cosines) / 2

    def _query(self, read: FeedbackList) -> Tensor:
        """Return the query (D,) of unit length, the learned correction included."""
        net = self._ready()
        device = next(net.parameters()).device
        query = torch.from_numpy(read.query).to(device)
        first = torch.from_numpy(read.vectors.documents[read.first]).to(device)
        return nn.functional.normalize(query + net(query, first), dim=0)

    def _stages(self) -> Mapping[str, ListLoss]:
        return {"feedback": self._loss}

    def _loss(self, read: FeedbackList, gains: Tensor) -> Tensor:
        """Return InfoNCE of every document with the highest gain, plus weighted RankNet."""
        documents = torch.from_numpy(read.vectors.documents).to(gains.device)
        cosines = documents @ self._query(read)  # n
        is_best = gains == gains.max()
        others = cosines.masked_fill(is_best, -torch.inf) / self.tau
        best = cosines[is_best] / self.tau
        total = torch.logaddexp(best, others.logsumexp(dim=0))
        return (total - best).mean() + RANKNET_WEIGHT * ranknet(RANKNET_SCALE * cosines, gains)

    @torch.no_grad()
    def _list_scores(self, read: FeedbackList) -> np.ndarray:
        if self.learn and len(read.first):
            query = self._query(read).cpu().numpy()
        else:
            query = unit_length(read.query[None])[0]
        return cosine_scores(read.vectors.documents, query)

    @property
    def _score_kind(self) -> str:
        return "cosine"

    @property
    def _needs_fit(self) -> bool:
        return self.learn

    def _details(self, read: FeedbackList) -> dict[int, dict[str, Any]]:
        shares = zip(read.first.tolist(), read.weights.tolist(), strict=True)
        return {doc: {"feedback": round(share, 4)} for doc, share in shares}
