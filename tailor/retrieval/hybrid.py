"""Words and meaning together."""

from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np

from tailor.core.methods import ScoringRecommender
from tailor.core.run import Run
from tailor.core.specs import clone
from tailor.data.arrays import in_deviations
from tailor.data.dataset import Dataset
from tailor.data.queries import Queries
from tailor.data.splits import Split
from tailor.errors import DataError
from tailor.retrieval.dense import DenseRetriever
from tailor.retrieval.text_match import TextMatch


@dataclass(eq=False)
class Hybrid(ScoringRecommender):
    """The sum of two searches: words find names and numbers, vectors find the meaning.

    The two scores are on no common scale, so each query's scores are shifted to mean 0 and divided
    by their spread first (Lee 1997). The weight is the best on CACM; Cranfield and NPL then judged
    it (docs/log.md).
    """

    reads_text: ClassVar[bool] = True

    words: TextMatch = field(default_factory=lambda: TextMatch(language="english"))
    """The search by words."""
    meaning: DenseRetriever = field(default_factory=DenseRetriever)
    """The search by meaning."""
    weight: float = 0.5
    """Weight of the search by meaning; that by words has the rest to 1."""

    words_: TextMatch = field(init=False, repr=False)
    """The fitted search by words."""
    meaning_: DenseRetriever = field(init=False, repr=False)
    """The fitted search by meaning."""

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise DataError(f"weight is {self.weight}: between 0 and 1")

    @classmethod
    def tiny(cls) -> Self:
        return cls(meaning=DenseRetriever.tiny())

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_ = data.catalogue
        self.words_ = clone(self.words).fit(data, run)
        self.meaning_ = clone(self.meaning).fit(data, run)
        self.fit_report_ = {"words": self.words_.fit_report_, "meaning": self.meaning_.fit_report_}

    def _scores(self, queries: Queries) -> np.ndarray:
        word_scores = np.asarray(self.words_._scores(queries).todense(), dtype=np.float32)
        meaning_scores = self.meaning_._scores(queries)
        return blended(word_scores, meaning_scores, self.weight)


def blended(word_scores: np.ndarray, meaning_scores: np.ndarray, weight: float = 0.5) -> np.ndarray:
    """(B, N) float32: both scores in standard deviations, `weight` of them meaning.

    Items without a word in common (0) and without a vector (-inf) get -inf.
    """
    word_part = (1 - weight) * in_deviations(word_scores)
    meaning_part = weight * in_deviations(meaning_scores)
    is_found = (word_scores != 0) | np.isfinite(meaning_scores)
    return np.where(is_found, word_part + meaning_part, -np.inf).astype(np.float32)
