"""Words of texts and their titles: how rare they are, and how they follow each other in titles."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from tailor.data.vocabulary import Vocabulary
from tailor.text.words import STOP_WORDS, words

LEAST_TEXTS = 2  # that have a word, for it to be known
SMOOTHING = 0.1  # count of a word that no title has


def telling_words(text: str) -> list[str]:
    """Return the words of a text without stop words."""
    return [word for word in words(text) if word not in STOP_WORDS["english"]]


@dataclass(frozen=True, eq=False)
class TitleWords:
    """Counts of words in texts with titles; a word of a single text is unknown."""

    vocabulary: Vocabulary
    """The V known words."""
    rarity: np.ndarray
    """(V + 1,) inverse document frequency of each word; the last is that of unknown ones."""
    follows: sp.csr_matrix
    """(V + 1, V + 1) how often a word follows another in titles; the last row and column are those
    of unknown words, and of a title's beginning and end."""

    @classmethod
    def of(cls, texts: Sequence[str], titles: Sequence[str]) -> "TitleWords":
        """Count the words of texts, each with its title."""
        title_words = [words(title) for title in titles]
        bags = [
            {*words(text), *of_title} for text, of_title in zip(texts, title_words, strict=True)
        ]
        counts = Counter(word for bag in bags for word in bag)
        known_words = sorted(word for word, count in counts.items() if count >= LEAST_TEXTS)
        frequencies = np.array([*(counts[word] for word in known_words), 0.0])
        rarity = np.log((1 + len(bags)) / (1 + frequencies))
        n = len(known_words) + 1
        counted = cls(Vocabulary(known_words), rarity, sp.csr_matrix((n, n), dtype=np.float32))
        return cls(counted.vocabulary, rarity, counted._followers(title_words))

    def _followers(self, titles: Sequence[Sequence[str]]) -> sp.csr_matrix:
        """Return (V + 1, V + 1) how often a word follows another."""
        edge = len(self.vocabulary)
        no_words = np.zeros(0, int)
        leading = [no_words]
        following = [no_words]
        for title in titles:
            rows = np.r_[edge, self._rows(title), edge]
            leading.append(rows[:-1])
            following.append(rows[1:])
        before = np.concatenate(leading)
        after = np.concatenate(following)
        ones = np.ones(len(before), np.float32)
        shape = (edge + 1, edge + 1)
        return sp.csr_matrix((ones, (before, after)), shape=shape)

    def _rows(self, text_words: Sequence[str]) -> np.ndarray:
        """Return rows of words; an unknown one has the last row."""
        rows = self.vocabulary.rows(text_words)
        return np.where(rows >= 0, rows, len(self.vocabulary))

    def rarity_of(self, text: str) -> float:
        """Return the mean rarity of a text's telling words; 0 without any."""
        telling = telling_words(text)
        return float(self.rarity[self._rows(telling)].mean()) if telling else 0.0

    def fluency(self, texts: Sequence[str]) -> np.ndarray:
        """Return (n,) mean log-probabilities of the texts' words in titles, each after the last.

        The counts of pairs are smoothed by one more draw from all words (Dirichlet).
        """
        totals = np.asarray(self.follows.sum(axis=1)).ravel()
        shares = (totals + SMOOTHING) / (totals.sum() + SMOOTHING * len(totals))
        edge = len(self.vocabulary)
        values = []
        for text in texts:
            rows = np.r_[edge, self._rows(words(text)), edge]
            before, after = rows[:-1], rows[1:]
            pairs = np.asarray(self.follows[before, after]).ravel()
            values.append(np.log((pairs + shares[after]) / (totals[before] + 1)).mean())
        return np.array(values)
