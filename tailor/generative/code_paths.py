"""Say what the prefixes of a code mean, by the words and the items below them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from tailor.data.vocabulary import Vocabulary
from tailor.text.title_words import telling_words

MOST_WORDS = 30  # distinct words kept of an item
NAMED_WORDS = 3  # words that a level names
LEAST_ITEMS = 2  # that have a word, for it to be known


@dataclass(frozen=True)
class CodeLevel:
    """The meaning of one prefix of a code."""

    digits: tuple[int, ...]
    """The prefix."""
    items: int
    """Number of items below it."""
    words: tuple[str, ...]
    """Its commonest telling words, rare words counting more."""
    nearest: tuple[str, ...]
    """Ids of other items below it, those that share most digits first."""


def telling_words_of(texts: Sequence[str]) -> tuple[Vocabulary, sp.csr_matrix]:
    """Return the words that several of N texts share, and (N, V) their rarity in each text."""
    bags = [_bag(text) for text in texts]
    counts: dict[str, int] = {}
    for bag in bags:
        for word in bag:
            counts[word] = counts.get(word, 0) + 1
    frequent = sorted(word for word, count in counts.items() if count >= LEAST_ITEMS)
    vocabulary = Vocabulary(frequent)
    rarity = np.log(1 + len(texts) / np.array([counts[word] for word in frequent] or [1]))
    return vocabulary, _matrix(bags, vocabulary, rarity.astype(np.float32))


def known_words(
    texts: Sequence[str], vocabulary: Vocabulary, item_words: sp.csr_matrix
) -> sp.csr_matrix:
    """Return (M, V) the rarity of known words in further texts, as `item_words` (N, V) has it."""
    rarity = np.zeros(max(len(vocabulary), 1), dtype=np.float32)
    rarity[item_words.indices] = item_words.data
    return _matrix([_bag(text) for text in texts], vocabulary, rarity)


def commonest(item_words: sp.csr_matrix, vocabulary: Vocabulary) -> tuple[str, ...]:
    """Return the words with the largest sums over items (M, V)."""
    sums = np.asarray(item_words.sum(axis=0)).ravel()
    best = np.argsort(-sums, kind="stable")[:NAMED_WORDS]
    return tuple(vocabulary.ids[best[sums[best] > 0]].tolist())


def shared_digits(codes: np.ndarray, code: np.ndarray) -> np.ndarray:
    """Return (M,) how many digits codes (M, L) share with a code (L,), from the first on."""
    return (codes == code).cumprod(axis=1).sum(axis=1)


def said_path(levels: Sequence[CodeLevel]) -> str:
    """Return a code path as a sentence: "its code 3-17: 3 is winter, coat; 3-17 is wool"."""
    meanings = [
        f"{_spelled(level.digits)} is {', '.join(level.words)}" for level in levels if level.words
    ]
    code = _spelled(levels[-1].digits) if levels else ""
    return f"its code {code}: {'; '.join(meanings)}" if meanings else f"its code {code}"


def _spelled(digits: tuple[int, ...]) -> str:
    return "-".join(map(str, digits))


def _bag(text: str) -> list[str]:
    """Return the distinct telling words of a text, in order, at most MOST_WORDS."""
    return list(dict.fromkeys(telling_words(text)))[:MOST_WORDS]


def _matrix(
    bags: Sequence[Sequence[str]], vocabulary: Vocabulary, rarity: np.ndarray
) -> sp.csr_matrix:
    rows = [vocabulary.rows(bag) if bag else np.zeros(0, np.int32) for bag in bags]
    known_rows = [row[row >= 0] for row in rows]
    columns = np.concatenate([*known_rows, np.zeros(0, np.int32)]).astype(np.int32)
    offsets = np.r_[0, np.cumsum([len(row) for row in known_rows])].astype(np.int32)
    shape = (len(bags), len(vocabulary))
    return sp.csr_matrix((rarity[columns], columns, offsets), shape=shape)
