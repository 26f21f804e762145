"""SESA: match texts in a space in which every direction has a name."""

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
from tailor.data.sampling import shuffled_batches, uniform_negatives
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
NAMED = 5  # maximum number of concepts that an explanation names


class ConceptNet(nn.Module):
    """Maps text vectors to amounts of concepts, and learns a weight for each concept.

    Shapes: C concepts, D width of text vectors, N items.
    """

    def __init__(self, texts: Tensor, concepts: int, free: bool, count: float = 10.0) -> None:
        """Make the net for the text vectors (N, D) of all items.

        Amounts are positive, or of any sign if `free`. The initial weight of every concept is
        softplus(count).
        """
        super().__init__()
        self.front = TextItemEncoder(texts, concepts)
        self.free = free
        self.count = nn.Parameter(torch.full((concepts,), count))
        self._all: Tensor | None = None

    def shares(self, logits: Tensor) -> Tensor:
        """Return amounts (..., C), scaled to unit length, from the front's logits (..., C)."""
        amounts = logits.float() if self.free else nn.functional.softplus(logits.float())
        return nn.functional.normalize(amounts, dim=-1)

    def counts(self) -> Tensor:
        """Return the positive weights (C,) of the concepts."""
        return nn.functional.softplus(self.count)

    def amounts(self, texts: Tensor) -> Tensor:
        """Return weighted amounts (..., C) of concepts in text vectors (..., D).

        The zero vector has only zeros. The score of two texts is the inner product of their rows.
        """
        has_text = texts.any(dim=-1, keepdim=True)
        return self.shares(self.front.encode(texts)) * self.counts().sqrt() * has_text

    def all(self) -> Tensor:
        """Return the amounts (N, C) of all items, computed once outside of training."""
        if self._all is None or self.training:
            self._all = self.amounts(self.front.texts)
        return self._all

    def train(self, mode: bool = True) -> "ConceptNet":
        self._all = None
        return super().train(mode)


@dataclass(eq=False)
class SESA(NetMethod, ScoringRecommender):
    """Describes texts by amounts of named concepts; texts match by the concepts they share.

    Concepts are the catalogue's categories, so a score can be explained by their names. The map
    from texts to concepts has two losses (Bogdanova and Yazdani 2017). The first brings together
    items that follow each other in histories. The second ties each concept to the items with that
    category. An item's own categories are never part of its text.

    Differs from the paper (reconstructed): a frozen sentence encoder under one linear map, where
    the paper has a recurrent net over words; negatives are shared within a batch.
    """

    reads_text = True
    renamed_state = {"net_": "net_weights_"}

    encoder: Encoder | str = DEFAULT
    """Encoder of titles, texts and queries; "default": TAILOR_ENCODER, tailor.toml, else MiniLM."""
    least: int = 5
    """Minimum number of items with a category, for the category to be a concept."""
    most_share: float = 0.3
    """Maximum share of items with a category, for the category to be a concept."""
    named: Annotated[float, Range(0.01, 2.0, log=True)] = 0.1
    """Weight of the loss that ties concepts to their names; 0: concepts drift from their names."""
    free: bool = False
    """Allow amounts below zero, without the loss of names; measures what the names cost."""
    history_decay: Annotated[float, Range(0.3, 1.0)] = 0.7
    """Weight of an event of the history, relative to the next event."""
    history_length: int = 20
    """Most recent events used."""
    negatives: int = 200
    """Items drawn per batch as negatives."""
    lr: float = 2e-3
    """Peak learning rate of AdamW; decays linearly to 1 % over all epochs."""
    batch: int = 1024
    """Pairs of items per batch."""
    epochs: int = 20
    """Maximum number of epochs."""
    patience: int | None = 3
    """Validations (every 2 epochs) without a better NDCG@10 before training stops.

    None: all epochs are run.
    """

    concepts_: list[str] = field(init=False, repr=False)
    """(C,) names of the concepts."""
    vectors_: np.ndarray = field(init=False, repr=False)
    """(N, D) vectors of titles and texts, of unit length; zero for an item without text."""
    space_: str = field(init=False, repr=False)
    """Name of the encoder's vector space."""

    def __post_init__(self) -> None:
        check_settings(self)
        counts = (self.least, self.history_length, self.negatives, self.batch)
        if min(counts) < 1 or self.epochs < 0 or self.named < 0 or not self.lr > 0:
            raise DataError(
                f"least {self.least}, history_length {self.history_length}, negatives"
                f" {self.negatives}, batch {self.batch}, epochs {self.epochs}, named {self.named},"
                f" lr {self.lr}: the first four must be at least 1, epochs and named at least 0,"
                " and lr above 0"
            )
        if not 0 < self.most_share <= 1 or not 0 < self.history_decay <= 1:
            raise DataError(
                f"most_share {self.most_share}, history_decay {self.history_decay}: both must be"
                " above 0 and at most 1"
            )

    @classmethod
    def tiny(cls) -> "SESA":
        return cls(HashingEncoder(32), least=1, most_share=1.0, negatives=20, epochs=2)

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        validation, train = cut_validation(data, run, valid, needed=self.patience is not None)
        encoder = encoder_of(self.encoder)
        self.items_ = data.catalogue
        self.vectors_ = item_vectors(encoder, data.texts_of("title", "text"), run.progress)
        self.space_ = encoder.space
        self.concepts_, item_concepts = self._concepts(data)
        self._start_net(run)
        rows = train.sequences.rows
        pairs = np.stack(rows.pairs(1), axis=1).astype(np.int64)
        pairs = pairs[pairs[:, 0] != pairs[:, 1]]
        candidates = np.unique(rows.values).astype(np.int64)
        if len(pairs):
            report = self._train(data, pairs, candidates, item_concepts, validation, run)
        else:
            report = self._leave_untrained("no user has two items to learn from")
        self.fit_report_ = {"concepts": len(self.concepts_), "pairs": len(pairs), **report}

    def _train(
        self,
        data: Dataset,
        pairs: np.ndarray,
        candidates: np.ndarray,
        item_concepts: sp.csr_matrix,
        validation: Validation | None,
        run: Run,
    ) -> dict[str, Any]:
        """Train on pairs (n, 2) of consecutive items; negatives are drawn from `candidates`."""

        def batches(rng: np.random.Generator) -> list[np.ndarray]:
            return [pairs[rows] for rows in shuffled_batches(len(pairs), self.batch, rng)]

        def loss(batch: np.ndarray, rng: np.random.Generator) -> Tensor:
            negatives = candidates[uniform_negatives(len(candidates), self.negatives, rng)]
            return self._loss(batch, negatives, item_concepts)

        recipe = Recipe(self.epochs, self.lr, weight_decay=0.01, patience=self.patience, every=2)
        return self._train_net(data, run, recipe, batches, loss, validation)

    def _concepts(self, data: Dataset) -> tuple[list[str], sp.csr_matrix]:
        """Return the concepts' names, and (N, C) which items have them as categories.

        Raises DataError where no category can be a concept.
        """
        categories: list[list[str]] = [[]] * len(data.catalogue)
        if "categories" in data.item_table.columns:
            column = data.item_table["categories"].to_list()
            categories = [list(dict.fromkeys(names or ())) for names in column]  # distinct
        item_counts = Counter(name for names in categories for name in names)
        most = self.most_share * len(categories)
        concepts = sorted(
            name for name, count in item_counts.items() if self.least <= count <= most
        )
        if not concepts:
            raise DataError(
                f"no category stands at {self.least} items or more and at no more than"
                f" {self.most_share:.0%} of all: SESA needs items with categories, or lower `least`"
            )
        column_of = {name: i for i, name in enumerate(concepts)}
        entries = [
            (row, column_of[name])
            for row, names in enumerate(categories)
            for name in names
            if name in column_of
        ]
        ones = np.ones(len(entries), np.float32)
        shape = (len(categories), len(concepts))
        return concepts, sp.csr_matrix((ones, np.array(entries, dtype=np.int64).T), shape=shape)

    def _loss(
        self, pairs: np.ndarray, negatives: np.ndarray, item_concepts: sp.csr_matrix
    ) -> Tensor:
        """Return the matching loss of pairs (B, 2), plus the weighted loss of names.

        The matching loss is a sampled softmax. The loss of names is the binary cross-entropy
        between a second item's logits and its categories, summed over concepts.
        """
        net = self._net
        device = net.count.device
        first = torch.from_numpy(pairs[:, 0].copy()).to(device)
        second = torch.from_numpy(pairs[:, 1].copy()).to(device)
        negative = torch.from_numpy(negatives).to(device)
        second_logits = net.front(second)
        match_loss = SampledSoftmax()(
            net.shares(net.front(first)) * net.counts(),
            net.shares(second_logits),
            net.shares(net.front(negative)),
            second,
            negative,
            len(negatives) + 1,
        )
        if not self.named or self.free:
            return match_loss
        labels = torch.from_numpy(item_concepts[pairs[:, 1]].toarray()).to(second_logits.device)
        name_loss = nn.functional.binary_cross_entropy_with_logits(
            second_logits.float(), labels, reduction="sum"
        )
        return match_loss + self.named * name_loss / len(labels)

    def _make_net(self) -> ConceptNet:
        return ConceptNet(torch.from_numpy(self.vectors_), len(self.concepts_), self.free)

    @torch.inference_mode()
    def logits(self, vectors: np.ndarray) -> np.ndarray:
        """Return logits (n, C) of text vectors (n, D).

        Above 0, a text more likely than not belongs to an item with that category.
        """
        net = self._ready()
        texts = torch.from_numpy(vectors).to(net.count.device)
        logits: np.ndarray = net.front.encode(texts).float().cpu().numpy()
        return logits

    @torch.inference_mode()
    def amounts(self, vectors: np.ndarray | None = None) -> np.ndarray:
        """Return weighted amounts (n, C) of concepts in text vectors (n, D).

        None: the amounts of all items. The score of two texts is the inner product of their rows.
        """
        net = self._ready()
        if vectors is None:
            amounts = net.all()
        else:
            amounts = net.amounts(torch.from_numpy(vectors).to(net.count.device))
        result: np.ndarray = amounts.cpu().numpy()
        return result

    def _query_amounts(self, queries: Queries) -> np.ndarray:
        """Return amounts (B, C): those of the history, decayed, plus those of the text."""
        weights = queries.histories.decayed_matrix(
            len(self.items_), self.history_decay, self.history_length
        )
        amounts = np.asarray(weights @ self.amounts())
        texts = [queries.text(i).strip() for i in range(len(queries))]
        rows = [i for i, text in enumerate(texts) if text]
        if rows:
            encoder = asking(encoder_of(self.encoder), self.space_)
            amounts[rows] += self.amounts(encoder.encode([texts[i] for i in rows]))
        return amounts

    def _scores(self, queries: Queries) -> np.ndarray:
        query_amounts = self._query_amounts(queries)
        scores: np.ndarray = query_amounts @ self.amounts().T
        scores[:, ~self.vectors_.any(axis=1)] = -np.inf
        scores[~query_amounts.any(axis=1)] = -np.inf
        return scores

    def explain(
        self, queries: Sequence[Query], rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        """Return, for every item, up to NAMED concepts that it shares with the query.

        The shares of the named concepts sum to 1.
        """
        self._check_fitted()
        query_amounts = self._query_amounts(Queries.of(queries).reindexed(self.items_))
        item_amounts = self.amounts()
        explanations = []
        for i, ranking in enumerate(rankings):
            rows = self.items_.rows(ranking.ids)
            parts = query_amounts[i] * item_amounts[rows] * (rows >= 0)[:, None]  # K, C
            explanations.append(
                [
                    self._explain_item(item_id, item_parts)
                    for item_id, item_parts in zip(ranking.ids, parts, strict=True)
                ]
            )
        return explanations

    def _explain_item(self, item_id: str, parts: np.ndarray) -> Explanation:
        """Name the concepts that contribute most to a score; `parts` (C,) sum to it."""
        largest = np.argsort(-parts, kind="stable")[:NAMED]
        best = largest[parts[largest] > 0]
        weights = [float(part) for part in parts[best]]
        total = sum(weights)
        evidence: list[Evidence] = []
        for row, weight in zip(best.tolist(), weights, strict=True):
            concept = self.concepts_[row]
            evidence.append(Evidence("concept", concept, weight / total))
        return Explanation(item_id, tuple(evidence))
