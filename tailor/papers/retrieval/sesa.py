"""SESA: a space to match in whose every direction has a name."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from tailor.core.defaults import DEFAULT
from tailor.core.defaults import encoder as encoder_of
from tailor.core.methods import Paper, ScoringRecommender
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.core.specs import check_settings
from tailor.data.dataset import Dataset
from tailor.data.nouns import Evidence, Explanation, Query, Ranking
from tailor.data.queries import Queries
from tailor.data.sampling import uniform_negatives
from tailor.data.splits import Split
from tailor.errors import DataError
from tailor.nn.fitting import Recipe
from tailor.nn.item_encoders import TextItemEncoder
from tailor.nn.losses import SampledSoftmax
from tailor.ports.base import Encoder
from tailor.text.cached import asking, item_vectors
from tailor.text.hashing import HashingEncoder
from tailor.training.nets import NetMethod
from tailor.training.validation import Validation, cut_validation

PAPER = Paper(
    "sesa",
    "SESA: Supervised Explicit Semantic Analysis",
    "https://arxiv.org/abs/1708.03246",
    "Related items are told from others better than by their words and nearly as well as in a space"
    " without names; the named concepts carry the score, and are read off texts",
)
NAMED = 5  # concepts that an explanation names at most


class ConceptNet(nn.Module):
    """Vectors of texts -> how much each concept is in them, of unit length; and how much each
    concept counts when two are compared.
    """

    def __init__(self, texts: Tensor, concepts: int, free: bool, count: float = 10.0) -> None:
        super().__init__()
        self.front, self.free = TextItemEncoder(texts, concepts), free
        self.count = nn.Parameter(torch.full((concepts,), count))
        self._all: Tensor | None = None

    def shares(self, logits: Tensor) -> Tensor:
        """(..., C) logits of the front -> concepts of unit length, none below zero unless the space
        is free.
        """
        return nn.functional.normalize(
            logits.float() if self.free else nn.functional.softplus(logits.float()), dim=-1
        )

    def counts(self) -> Tensor:
        """(C,) above zero."""
        return nn.functional.softplus(self.count)

    def amounts(self, texts: Tensor) -> Tensor:
        """(..., D) vectors of texts -> (..., C) such that the product of two is their score; zero
        where the vector is.
        """
        return (
            self.shares(self.front.encode(texts))
            * self.counts().sqrt()
            * texts.any(dim=-1, keepdim=True)
        )

    def all(self) -> Tensor:
        """(N, C) of all items; of a net that is ready for use made once."""
        if self._all is None or self.training:
            self._all = self.amounts(self.front.texts)
        return self._all

    def train(self, mode: bool = True) -> "ConceptNet":
        self._all = None
        return super().train(mode)


@dataclass(eq=False)
class SESA(NetMethod, ScoringRecommender):
    """Texts become amounts of named concepts, the catalogue's categories; two match by the concepts
    that both have, and the score says by how much of which (Bogdanova and Yazdani 2017).

    Learned from items that followed each other, while each concept is held to the items that carry
    its name. Differs from the paper (reconstructed): a frozen sentence encoder under one linear map
    for a recurrent net over words; negatives are shared by a batch. An item's own categories are
    never among the words it is read by.
    """

    reads_text = True
    renamed_state = {"net_": "net_weights_"}

    encoder: Encoder | str = DEFAULT
    """Of titles, texts and queries; or "default": TAILOR_ENCODER, tailor.toml, else MiniLM."""
    least: int = 5
    """Items that must carry a category for it to be a concept."""
    most_share: float = 0.3
    """Of the items; a category of more tells nothing."""
    named: Annotated[float, Range(0.01, 2.0, log=True)] = (
        0.1  # weight of holding concepts to their names, summed over them; 0: directions drift
    )
    free: bool = False
    """Amounts may be below zero: what names cost."""
    history_decay: Annotated[float, Range(0.3, 1.0)] = 0.7
    """Weight of an item of the history relative to the one after it."""
    history_length: int = 20
    negatives: int = 200
    """Items drawn a batch."""
    lr: float = 2e-3
    """Highest step; falls in a straight line to a hundredth over all epochs."""
    batch: int = 1024
    """Pairs of items."""
    epochs: int = 20
    """At most."""
    patience: int | None = 3
    """Validations (every 2 epochs) without a better NDCG@10 before training stops; None: all
    epochs.
    """

    concepts_: list[str] = field(init=False, repr=False)
    """(C,) names."""
    vectors_: np.ndarray = field(init=False, repr=False)
    """(N, D) of the items' titles and texts, unit length."""
    space_: str = field(init=False, repr=False)
    """Which encoder's vectors these are."""

    def __post_init__(self) -> None:
        check_settings(self)
        if (
            min(self.least, self.history_length, self.negatives, self.batch) < 1
            or self.epochs < 0
            or self.named < 0
            or not self.lr > 0
        ):
            raise DataError(
                "least, history_length, negatives and batch must be at least 1, epochs and named at"
                " least 0, lr above 0"
            )
        if not 0 < self.most_share <= 1 or not 0 < self.history_decay <= 1:
            raise DataError(
                f"most_share is {self.most_share}, history_decay {self.history_decay}: both above 0"
                " and at most 1"
            )

    @classmethod
    def tiny(cls) -> "SESA":
        return cls(HashingEncoder(32), least=1, most_share=1.0, negatives=20, epochs=2)

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        validation, learned = cut_validation(data, run, valid, needed=self.patience is not None)
        encoder, self.items_ = encoder_of(self.encoder), data.catalogue
        self.vectors_, self.space_ = (
            item_vectors(encoder, data.texts_of("title", "text"), run.progress),
            encoder.space,
        )
        self.concepts_, known = self._named(data)
        self._start_net(run)
        rows = learned.sequences.rows
        follows = np.flatnonzero(rows.from_end > 0)
        pairs = np.stack([rows.values[follows], rows.values[follows + 1]], axis=1).astype(np.int64)
        pairs = pairs[pairs[:, 0] != pairs[:, 1]]
        chosen = np.unique(rows.values).astype(np.int64)
        if len(pairs):
            report = self._train(data, pairs, chosen, known, validation, run)
        else:
            report = self._leave_untrained("no user has two items to learn from")
        self.fit_report_ = {"concepts": len(self.concepts_), "pairs": len(pairs), **report}

    def _train(
        self,
        data: Dataset,
        pairs: np.ndarray,
        candidates: np.ndarray,
        carries: sp.csr_matrix,
        validation: Validation | None,
        run: Run,
    ) -> dict[str, Any]:
        """Train on pairs (n, 2) of items that followed each other, against drawn candidates."""

        def batches(rng: np.random.Generator) -> list[np.ndarray]:
            return np.array_split(pairs[rng.permutation(len(pairs))], -(-len(pairs) // self.batch))

        def loss(batch: np.ndarray, rng: np.random.Generator) -> Tensor:
            negatives = candidates[uniform_negatives(len(candidates), self.negatives, rng)]
            return self._loss(batch, negatives, carries)

        recipe = Recipe(self.epochs, self.lr, weight_decay=0.01, patience=self.patience, every=2)
        return self._train_net(data, run, recipe, batches, loss, validation)

    def _named(self, data: Dataset) -> tuple[list[str], sp.csr_matrix]:
        """The concepts, and which items carry their names (N, C). Raises DataError where there is
        none.
        """
        listed: list[list[str]] = [[]] * len(data.catalogue)
        if "categories" in data.item_table.columns:
            listed = [
                list(dict.fromkeys(one or ())) for one in data.item_table["categories"].to_list()
            ]
        carried = Counter(name for names in listed for name in names)
        names = sorted(
            name
            for name, count in carried.items()
            if self.least <= count <= self.most_share * len(listed)
        )
        if not names:
            raise DataError(
                f"no category stands at {self.least} items or more and at no more than"
                f" {self.most_share:.0%} of all: SESA needs items with categories, or lower `least`"
            )
        column = {name: i for i, name in enumerate(names)}
        places = np.array(
            [
                (row, column[name])
                for row, mine in enumerate(listed)
                for name in mine
                if name in column
            ],
            dtype=np.int64,
        )
        return names, sp.csr_matrix(
            (np.ones(len(places), np.float32), places.T), shape=(len(listed), len(names))
        )

    def _loss(self, pairs: np.ndarray, drawn: np.ndarray, known: sp.csr_matrix) -> Tensor:
        """Softmax of each pair against the items drawn, and binary cross-entropy of the concepts of
        what is on the right.
        """
        net = self._net
        left, right, others = (
            torch.from_numpy(one).to(net.count.device) for one in (*pairs.T.copy(), drawn)
        )
        logits = net.front(right)
        compared = SampledSoftmax()(
            net.shares(net.front(left)) * net.counts(),
            net.shares(logits),
            net.shares(net.front(others)),
            right,
            others,
            len(drawn) + 1,
        )
        if not self.named or self.free:
            return compared
        names = torch.from_numpy(known[pairs[:, 1]].toarray()).to(logits.device)
        return compared + self.named * nn.functional.binary_cross_entropy_with_logits(
            logits.float(), names, reduction="sum"
        ) / len(names)

    def _make_net(self) -> ConceptNet:
        return ConceptNet(torch.from_numpy(self.vectors_), len(self.concepts_), self.free)

    @torch.inference_mode()
    def logits(self, vectors: np.ndarray) -> np.ndarray:
        """(n, D) vectors of texts -> (n, C): above 0 where a concept is more likely named than not."""
        net = self._ready()
        out: np.ndarray = (
            net.front.encode(torch.from_numpy(vectors).to(net.count.device)).float().cpu().numpy()
        )
        return out

    @torch.inference_mode()
    def amounts(self, vectors: np.ndarray | None = None) -> np.ndarray:
        """(n, D) vectors of texts, or none for all items -> (n, C) of each concept; the product of
        two is their score.
        """
        net = self._ready()
        out: np.ndarray = (
            (
                net.all()
                if vectors is None
                else net.amounts(torch.from_numpy(vectors).to(net.count.device))
            )
            .cpu()
            .numpy()
        )
        return out

    def _asked(self, queries: Queries) -> np.ndarray:
        """(B, C) what each history has of each concept, fading, and what a query's text says."""
        asked = np.asarray(
            queries.histories.decayed_matrix(
                len(self.items_), self.history_decay, self.history_length
            )
            @ self.amounts()
        )
        texts = {i: text for i in range(len(queries)) if (text := queries.text(i).strip())}
        if texts:
            asked[list(texts)] += self.amounts(
                asking(encoder_of(self.encoder), self.space_).encode(list(texts.values()))
            )
        return asked

    def _scores(self, queries: Queries) -> np.ndarray:
        asked = self._asked(queries)
        scores: np.ndarray = asked @ self.amounts().T
        scores[:, ~self.vectors_.any(axis=1)] = -np.inf
        scores[~asked.any(axis=1)] = -np.inf
        return scores

    def explain(
        self, queries: Sequence[Query], rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        """The concepts that an item and its person share, NAMED at most, by their shares in the sum
        of those named.
        """
        self._check_fitted()
        asked, items = self._asked(Queries.of(queries).reindexed(self.items_)), self.amounts()
        return [
            [
                self._reason(one, asked[i] * items[row] if row >= 0 else asked[i] * 0)
                for one, row in zip(ranking.ids, self.items_.rows(ranking.ids), strict=True)
            ]
            for i, ranking in enumerate(rankings)
        ]

    def _reason(self, item_id: str, parts: np.ndarray) -> Explanation:
        best = [at for at in np.argsort(-parts, kind="stable")[:NAMED].tolist() if parts[at] > 0]
        whole = sum(float(parts[at]) for at in best)
        return Explanation(
            item_id,
            tuple(Evidence("concept", self.concepts_[at], float(parts[at]) / whole) for at in best),
        )
