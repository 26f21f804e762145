"""KALM4Rec: a newcomer types a few keywords; items whose reviews use them are found and ordered."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

import numpy as np
import polars as pl
import scipy.sparse as sp

from tailor.core.defaults import DEFAULT
from tailor.core.defaults import encoder as encoder_of
from tailor.core.methods import Paper, ScoringRecommender
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.nouns import Evidence, Explanation, Query, Ranking
from tailor.data.queries import Queries, Rankings
from tailor.data.splits import Split
from tailor.errors import DataError
from tailor.ports.base import Encoder, LanguageModel
from tailor.reranking.llm_reranker import LLMReranker
from tailor.text.cached import asking, item_vectors
from tailor.text.hashing import HashingEncoder
from tailor.text.keywords import Keywords, phrases
from tailor.text.words import fold

PAPER = Paper(
    "kalm4rec",
    "Keyword-driven Retrieval-Augmented Large Language Models for Cold-start User Recommendations",
    "https://arxiv.org/abs/2405.19612",
    "For people without a history, their keywords find better items than popularity, than shared"
    " keywords without weights, and than another person's keywords",
)
OF_HISTORY = 3  # keywords that an item of a history stands for
NAMED = 3  # keywords of an explanation
LIKED_SHARE = 0.8  # of the highest value, from which a training user likes an item
SHOWN_ITEMS = 5  # of a training user in a prompt


@dataclass(eq=False)
class KALM4Rec(ScoringRecommender):
    """Finds items for someone without a history, by keywords that reviews of the items use.

    An item's keywords are the phrases of its reviews, weighed by how often its reviews and how
    seldom other reviews use them (TF-IRF). A keyword that no review uses counts as the nearest one
    in meaning. A language model may order the best items, shown with their keywords, and with what
    people of similar keywords liked (2024).

    Differs from the paper: an item's own text counts as one of its reviews; weights are scaled
    down for items with many reviews (`evenness`; 0 is the paper); the answer is read by the ladder
    of `LLMReranker`, and items that it leaves out follow in their order; weights by users (TF-IUF)
    are left out.
    """

    reads_text = True

    llm: LanguageModel | Literal["default"] | None = None
    """Language model that orders the best items; "default": that of tailor.toml; None: none."""
    encoder: Encoder | str | None = DEFAULT
    """Encoder by which an unknown keyword finds the nearest known one; "default": TAILOR_ENCODER,
    tailor.toml, else MiniLM; None: unknown keywords are left out."""
    least: int = 3
    """Fewest texts that use a phrase, for it to be a keyword."""
    most_share: float = 0.2
    """Most texts that use a phrase, as a share of all, for it to be a keyword."""
    most_keywords: int = 20
    """Most keywords of a request that count."""
    nearest: float = 0.6
    """Least cosine of an unknown keyword with the known one that it counts as."""
    evenness: float = 0.5
    """Exponent of the length of an item's weights, by which they are divided: 0: items with many
    reviews are ahead; 1: all items are even."""
    ordered: int = 20
    """Items that the language model orders."""
    shots: int = 0
    """Training users of similar keywords, with items that they liked, in the prompt."""

    keywords_: list[str] = field(init=False, repr=False)
    """(V,) keywords."""
    weights_: sp.csr_matrix = field(init=False, repr=False)
    """(N, V) weights of keywords for items."""
    vectors_: np.ndarray = field(init=False, repr=False)
    """(V, D) vectors of the keywords; (V, 0) without an encoder."""
    space_: str = field(init=False, repr=False)
    """Name of the encoder's vector space; "" without an encoder."""
    users_: sp.csr_matrix = field(init=False, repr=False)
    """(U, V) 1 for a keyword that a training user's reviews have; no rows without `shots`."""
    liked_: list[str] = field(init=False, repr=False)
    """(U,) names of items that the user liked, joined by semicolons."""
    reranker_: LLMReranker | None = field(init=False, repr=False, default=None)
    """Orders the best items, if a language model does."""

    def __post_init__(self) -> None:
        counts = (self.least, self.most_keywords, self.ordered)
        if min(counts) < 1 or self.shots < 0 or self.evenness < 0:
            raise DataError(
                f"least is {self.least}, most_keywords {self.most_keywords}, ordered"
                f" {self.ordered}, shots {self.shots}, evenness {self.evenness}: the first three at"
                " least 1, the others from 0"
            )
        if not 0 < self.most_share <= 1 or not -1 <= self.nearest <= 1:
            raise DataError(
                f"most_share is {self.most_share}, nearest {self.nearest}: above 0 to 1, and a"
                " cosine"
            )

    @classmethod
    def tiny(cls) -> Self:
        return cls(encoder=HashingEncoder(32), least=1, most_share=1.0)

    def keeps_people(self) -> bool:
        return super().keeps_people() or self.shots > 0

    # --- learning

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_ = data.catalogue
        reviews = reviews_of(data)
        texts = [*data.item_texts, *reviews["text"].to_list()]
        rows = self.items_.rows(reviews["item_id"].to_list())
        n = len(self.items_)
        table = Keywords.of(texts, np.r_[np.arange(n), rows], n, self.least, self.most_share)
        self.keywords_ = list(table.names)
        self.weights_ = _evened(table.weights, self.evenness)
        self.space_, self.vectors_ = "", np.zeros((len(table.names), 0), np.float32)
        if self.encoder is not None:
            encoder = encoder_of(self.encoder)
            self.space_ = encoder.space
            self.vectors_ = item_vectors(encoder, self.keywords_, run.progress)
        self._keep_users(table, reviews, data)
        if self.llm is not None:
            self.reranker_ = LLMReranker(llm=self.llm, depth=self.ordered).fit(data, run)
            self.reranker_.texts_ = self._lines(table, data)
        self.fit_report_ = {"keywords": len(self.keywords_), "reviews": len(reviews)}

    def _lines(self, table: Keywords, data: Dataset) -> list[str]:
        """Return (N,) names of items with their keywords, as the model is shown them."""
        titles = data.texts_of("title")
        names = [title or text for title, text in zip(titles, data.item_texts, strict=True)]
        return [
            f"{name} ({', '.join(keyword for keyword, _ in table.best(row))})"
            for row, name in enumerate(names)
        ]

    def _keep_users(self, table: Keywords, reviews: pl.DataFrame, data: Dataset) -> None:
        """Keep the keywords and liked items of users with reviews, for the prompt's examples."""
        self.users_ = sp.csr_matrix((0, len(table.names)), dtype=np.float32)
        self.liked_ = []
        if not self.shots or not len(reviews):
            return
        titles = data.texts_of("title")
        liked_from = LIKED_SHARE * max(reviews["value"].to_list())
        vectors = []
        for _, of_user in reviews.group_by("user_id", maintain_order=True):
            likes = of_user.filter(pl.col("value") >= liked_from)
            rows = self.items_.rows(likes["item_id"].to_list()).tolist()
            names = [titles[row] for row in rows if row >= 0]
            if names:
                vectors.append(table.vector(of_user["text"].to_list()))
                self.liked_.append("; ".join(names[:SHOWN_ITEMS]))
        if vectors:
            self.users_ = sp.csr_matrix(np.array(vectors))

    # --- answering

    def keywords(self, text: str) -> dict[str, str]:
        """Return the known keywords that a text stands for, by the words that it has."""
        return {typed: self.keywords_[row] for typed, row in self._columns(text).items()}

    def _columns(self, text: str) -> dict[str, int]:
        """Return typed keyword -> its row among the known ones; unknown ones by meaning."""
        column_of = {fold(name): i for i, name in enumerate(self.keywords_)}
        columns: dict[str, int] = {}
        unknown: list[str] = []
        for phrase in dict.fromkeys(phrases(text)):
            parts = dict.fromkeys([phrase, *phrase.split()])
            columns |= {part: column_of[fold(part)] for part in parts if fold(part) in column_of}
            unknown += [part for part in phrase.split() if fold(part) not in column_of]
        room = max(self.most_keywords - len(columns), 0)
        columns = dict(list(columns.items())[: self.most_keywords])
        if not room or not unknown or not self.vectors_.size or self.encoder is None:
            return columns
        encoder = asking(encoder_of(self.encoder), self.space_)
        cosines = encoder.encode(unknown[:room]) @ self.vectors_.T
        for part, of_part in zip(unknown[:room], cosines, strict=True):
            if of_part.max() >= self.nearest:
                columns[part] = int(of_part.argmax())
        return columns

    def _request_columns(self, queries: Queries, i: int) -> list[int]:
        """Return the keywords of a text, else the weightiest ones of the latest items."""
        text = queries.text(i).strip()
        if text:
            return list(dict.fromkeys(self._columns(text).values()))
        latest = queries.histories[i][-self.most_keywords // OF_HISTORY :].tolist()
        columns: list[int] = []
        for row in latest:
            weights = self.weights_[row]
            weightiest = np.argsort(-weights.data, kind="stable")[:OF_HISTORY]
            columns += weights.indices[weightiest].tolist()
        return list(dict.fromkeys(columns))

    def _request_matrix(self, queries: Queries) -> sp.csr_matrix:
        """Return (B, V) 1 for the keywords of every query."""
        columns = [self._request_columns(queries, i) for i in range(len(queries))]
        rows = np.repeat(np.arange(len(queries)), list(map(len, columns)))
        flat = np.array([column for of_query in columns for column in of_query], dtype=np.int64)
        ones = np.ones(len(flat), np.float32)
        shape = (len(queries), len(self.keywords_))
        return sp.csr_matrix((ones, (rows, flat)), shape=shape)

    def _scores(self, queries: Queries) -> sp.csr_matrix:
        return self._request_matrix(queries) @ self.weights_.T

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        if self.reranker_ is None:
            return super()._recommend(queries, k, candidates)
        lists = super()._recommend(queries, max(k, self.ordered), candidates)
        requests = self._requests(queries.reindexed(self.items_))
        worded = [replace(queries[i], text=request) for i, request in enumerate(requests)]
        return self.reranker_.recommend(worded, k, [lists[i] for i in range(len(lists))])

    def _requests(self, queries: Queries) -> list[str]:
        """Return what the model is asked for: keywords, and examples of similar users."""
        matrix = self._request_matrix(queries)
        requests = []
        for i in range(len(queries)):
            names = [self.keywords_[column] for column in matrix[i].indices]
            requests.append(
                "; ".join([f"keywords: {', '.join(names)}", *self._examples(matrix[i])])
            )
        return requests

    def _examples(self, keywords: sp.csr_matrix) -> list[str]:
        """Return examples: keywords (1, V) of the most similar users, and what they liked."""
        if not self.shots or not self.users_.shape[0]:
            return []
        shared = (self.users_ @ keywords.T).toarray()[:, 0]
        sizes = np.sqrt(np.maximum(self.users_.sum(axis=1).A1, 1))
        likest = np.argsort(-shared / sizes, kind="stable")[: self.shots]
        return [
            f"someone with {', '.join(self.keywords_[c] for c in self.users_[user].indices[:8])}"
            f" liked {self.liked_[user]}"
            for user in likest.tolist()
            if shared[user]
        ]

    def explain(
        self, queries: Sequence[Query], rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        """Return, for every item, the keywords that it shares with the request, by their share."""
        self._check_fitted()
        matrix = self._request_matrix(Queries.of(queries).reindexed(self.items_))
        explanations = []
        for i, ranking in enumerate(rankings):
            rows = self.items_.rows(ranking.ids)
            explanations.append(
                [
                    self._explanation(name, row, matrix[i].indices)
                    for name, row in zip(ranking.ids, rows.tolist(), strict=True)
                ]
            )
        return explanations

    def _explanation(self, name: str, row: int, columns: np.ndarray) -> Explanation:
        if row < 0 or not len(columns):
            return Explanation(name, ())
        weights = self.weights_[row].toarray()[0, columns]
        order = [i for i in np.argsort(-weights, kind="stable")[:NAMED] if weights[i] > 0]
        total = float(weights[order].sum()) or 1.0
        evidence = [
            Evidence("keyword", self.keywords_[columns[i]], float(weights[i]) / total)
            for i in order
        ]
        return Explanation(name, tuple(evidence))


def reviews_of(data: Dataset) -> pl.DataFrame:
    """Return texts that users wrote about items: user_id, item_id, text, value (1 if unknown)."""
    empty = {"user_id": pl.String, "item_id": pl.String, "text": pl.String, "value": pl.Float64}
    if "texts" not in data.tables or "item_id" not in data.tables["texts"].columns:
        return pl.DataFrame(schema=empty)
    texts = data.tables["texts"].filter(pl.col("item_id").is_not_null())
    value: Any = pl.lit(1.0)
    for column in ("rating", "value"):
        value = pl.col(column) if column in texts.columns else value
    return texts.filter(pl.col("text").is_not_null()).select(
        "user_id", "item_id", "text", value=value.cast(pl.Float64)
    )


def _evened(weights: sp.csr_matrix, evenness: float) -> sp.csr_matrix:
    """Return weights (N, V), each item's divided by its length to the power of `evenness`."""
    lengths = np.sqrt(np.asarray(weights.multiply(weights).sum(axis=1))[:, 0])
    factors = np.divide(1.0, lengths**evenness, where=lengths > 0, out=np.zeros(len(lengths)))
    return sp.csr_matrix(sp.diags(factors) @ weights, dtype=np.float32)
