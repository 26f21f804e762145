"""SESA: match texts in a space in which every direction is a named concept."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, normalize, softplus

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
NAMED = 5  # concepts that an explanation names, at most


class ConceptNet(nn.Module):
    """A net from text vectors to amounts of concepts, with a learned weight per concept.

    Amounts are scaled to unit length; the weights say how much each concept counts when two texts
    are compared.
    """

    def __init__(self, texts: Tensor, concepts: int, free: bool, count: float = 10.0) -> None:
        super().__init__()
        self.free = free
        self.front = TextItemEncoder(texts, concepts)
        self.count = nn.Parameter(torch.full((concepts,), count))
        self._all_items: Tensor | None = None

    def shares(self, logits: Tensor) -> Tensor:
        """Return concepts (..., C) of unit length, of logits; not negative unless `free`."""
        amounts = logits.float() if self.free else softplus(logits.float())
        return normalize(amounts, dim=-1)

    def counts(self) -> Tensor:
        """Return the weights (C,) of the concepts, above zero."""
        return softplus(self.count)

    def amounts(self, texts: Tensor) -> Tensor:
        """Return weighted concepts (..., C) of text vectors (..., D); zero for a zero vector.

        The product of two is their score.
        """
        shares = self.shares(self.front.encode(texts))
        return shares * self.counts().sqrt() * texts.any(dim=-1, keepdim=True)

    def all_items(self) -> Tensor:
        """Return the amounts (N, C) of all items; computed once in evaluation mode."""
        if self._all_items is None or self.training:
            self._all_items = self.amounts(self.front.texts)
        return self._all_items

    def train(self, mode: bool = True) -> "ConceptNet":
        self._all_items = None
        return super().train(mode)


@dataclass(eq=False)
class SESA(NetMethod, ScoringRecommender):
    """Match texts by the named concepts that both are about (Bogdanova and Yazdani 2017).

    Texts are mapped to amounts of concepts, which are the catalogue's categories; the score is the
    sum over shared concepts. Trained on items that followed each other, while each concept is held
    to the items that carry its name.

    Differs from the paper (reconstructed): a frozen sentence encoder under one linear map instead
    of a recurrent net over words; negatives are shared by a batch. An item's own categories are
    never among the words that are read of it.
    """

    reads_text = True
    renamed_state = {"net_": "net_weights_"}

    encoder: Encoder | str = DEFAULT
    """Encoder of titles, texts and queries; "default": TAILOR_ENCODER, tailor.toml, else MiniLM."""
    least: int = 5
    """Items that a category must have to be a concept."""
    most_share: float = 0.3
    """Largest share of the items that a category may have; a larger one says nothing."""
    named: Annotated[float, Range(0.01, 2.0, log=True)] = 0.1
    """Weight of the loss that holds concepts to their names, summed over them; 0: they drift."""
    free: bool = False
    """Whether amounts may be negative; measures what names cost."""
    history_decay: Annotated[float, Range(0.3, 1.0)] = 0.7
    """Weight of an event relative to the next one; 1: all events count the same."""
    history_length: int = 20
    """Most recent events used."""
    negatives: int = 200
    """Negative items drawn per batch and shared by its pairs."""
    lr: float = 2e-3
    """Peak learning rate of AdamW; decays linearly to 1 % over all epochs."""
    batch: int = 1024
    """Pairs of items per step."""
    epochs: int = 20
    """Passes over the data, at most."""
    patience: int | None = 3
    """Validations (every 2 epochs) without a better NDCG@10 before training stops; None: all
    epochs.
    """

    concepts_: list[str] = field(init=False, repr=False)
    """(C,) names of the concepts."""
    vectors_: np.ndarray = field(init=False, repr=False)
    """(N, D) vectors of the items' titles and texts, unit length."""
    space_: str = field(init=False, repr=False)
    """Name of the encoder's vector space."""

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

    # learning

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        validation, learned = cut_validation(data, run, valid, needed=self.patience is not None)
        encoder = encoder_of(self.encoder)
        self.items_ = data.catalogue
        self.vectors_ = item_vectors(encoder, data.texts_of("title", "text"), run.progress)
        self.space_ = encoder.space
        self.concepts_, has_concept = self._find_concepts(data)
        self._start_net(run)
        rows = learned.sequences.rows
        first = np.flatnonzero(rows.from_end > 0)
        pairs = np.stack([rows.values[first], rows.values[first + 1]], axis=1).astype(np.int64)
        pairs = pairs[pairs[:, 0] != pairs[:, 1]]
        candidates = np.unique(rows.values).astype(np.int64)
        if len(pairs):
            report = self._train(data, pairs, candidates, has_concept, validation, run)
        else:
            report = self._leave_untrained("no user has two items to learn from")
        self.fit_report_ = {"concepts": len(self.concepts_), "pairs": len(pairs), **report}

    def _train(
        self,
        data: Dataset,
        pairs: np.ndarray,
        candidates: np.ndarray,
        has_concept: sp.csr_matrix,
        validation: Validation | None,
        run: Run,
    ) -> dict[str, Any]:
        """Train on pairs (n, 2) of items that followed each other, against drawn candidates."""

        def batches(rng: np.random.Generator) -> list[np.ndarray]:
            return np.array_split(pairs[rng.permutation(len(pairs))], -(-len(pairs) // self.batch))

        def loss(batch: np.ndarray, rng: np.random.Generator) -> Tensor:
            negatives = candidates[uniform_negatives(len(candidates), self.negatives, rng)]
            return self._loss(batch, negatives, has_concept)

        recipe = Recipe(self.epochs, self.lr, weight_decay=0.01, patience=self.patience, every=2)
        return self._train_net(data, run, recipe, batches, loss, validation)

    def _find_concepts(self, data: Dataset) -> tuple[list[str], sp.csr_matrix]:
        """Return the names of the concepts, and which items have them (N, C).

        Raises DataError where there is no concept.
        """
        categories: list[list[str]] = [[]] * len(data.catalogue)
        if "categories" in data.item_table.columns:
            lists = data.item_table["categories"].to_list()
            categories = [list(dict.fromkeys(names or ())) for names in lists]
        counts = Counter(name for names in categories for name in names)
        largest = self.most_share * len(categories)
        concepts = sorted(name for name, n in counts.items() if self.least <= n <= largest)
        if not concepts:
            raise DataError(
                f"no category stands at {self.least} items or more and at no more than"
                f" {self.most_share:.0%} of all: SESA needs items with categories, or lower `least`"
            )
        column = {name: i for i, name in enumerate(concepts)}
        entries = np.array(
            [
                (row, column[name])
                for row, names in enumerate(categories)
                for name in names
                if name in column
            ],
            dtype=np.int64,
        )
        ones = np.ones(len(entries), np.float32)
        shape = (len(categories), len(concepts))
        return concepts, sp.csr_matrix((ones, entries.T), shape=shape)

    def _loss(self, pairs: np.ndarray, drawn: np.ndarray, has_concept: sp.csr_matrix) -> Tensor:
        """Return the softmax loss of pairs against drawn items, plus the loss of the names.

        The latter is the binary cross-entropy of the concepts of each pair's second item.
        """
        net = self._net
        device = net.count.device
        first, second = (torch.from_numpy(rows).to(device) for rows in pairs.T.copy())
        negatives = torch.from_numpy(drawn).to(device)
        logits = net.front(second)
        loss = SampledSoftmax()(
            net.shares(net.front(first)) * net.counts(),
            net.shares(logits),
            net.shares(net.front(negatives)),
            second,
            negatives,
            len(drawn) + 1,
        )
        if not self.named or self.free:
            return loss
        names = torch.from_numpy(has_concept[pairs[:, 1]].toarray()).to(device)
        entropy = binary_cross_entropy_with_logits(logits.float(), names, reduction="sum")
        return loss + self.named * entropy / len(names)

    def _make_net(self) -> ConceptNet:
        return ConceptNet(torch.from_numpy(self.vectors_), len(self.concepts_), self.free)

    # answering

    @torch.inference_mode()
    def logits(self, vectors: np.ndarray) -> np.ndarray:
        """Return the logits (n, C) of text vectors (n, D); above 0: the concept is likely."""
        net = self._ready()
        tensor = torch.from_numpy(vectors).to(net.count.device)
        logits: np.ndarray = net.front.encode(tensor).float().cpu().numpy()
        return logits

    @torch.inference_mode()
    def amounts(self, vectors: np.ndarray | None = None) -> np.ndarray:
        """Return the amounts (n, C) of concepts of text vectors (n, D), of all items by default.

        The product of two is their score.
        """
        net = self._ready()
        if vectors is None:
            amounts = net.all_items()
        else:
            amounts = net.amounts(torch.from_numpy(vectors).to(net.count.device))
        array: np.ndarray = amounts.cpu().numpy()
        return array

    def _query_amounts(self, queries: Queries) -> np.ndarray:
        """Return (B, C) the amounts of each history, older events decayed, and of the text."""
        histories = queries.histories.decayed_matrix(
            len(self.items_), self.history_decay, self.history_length
        )
        amounts = np.asarray(histories @ self.amounts())
        texts = {i: text for i in range(len(queries)) if (text := queries.text(i).strip())}
        if texts:
            encoder = asking(encoder_of(self.encoder), self.space_)
            amounts[list(texts)] += self.amounts(encoder.encode(list(texts.values())))
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
        """Explain each item by the concepts that it shares with the query.

        At most NAMED are named, with their shares in the sum of those named.
        """
        self._check_fitted()
        query_amounts = self._query_amounts(Queries.of(queries).reindexed(self.items_))
        item_amounts = self.amounts()
        explanations = []
        for i, ranking in enumerate(rankings):
            rows = self.items_.rows(ranking.ids)
            parts = query_amounts[i] * item_amounts[np.maximum(rows, 0)]
            parts[rows < 0] = 0
            pairs = zip(ranking.ids, parts, strict=True)
            explanations.append([self._explain_item(item_id, part) for item_id, part in pairs])
        return explanations

    def _explain_item(self, item_id: str, parts: np.ndarray) -> Explanation:
        """Return the explanation of an item by the parts (C,) of its score."""
        best = np.argsort(-parts, kind="stable")[:NAMED]
        best = best[parts[best] > 0].tolist()
        total = sum(float(parts[i]) for i in best)
        return Explanation(
            item_id,
            tuple(Evidence("concept", self.concepts_[i], float(parts[i]) / total) for i in best),
        )
