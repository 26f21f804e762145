"""PopularAssistant: the simplest assistant, which every other must beat."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from tailor.core.methods import Agent
from tailor.core.run import Run
from tailor.data.arrays import best_first
from tailor.data.dataset import Dataset
from tailor.data.nouns import Act, Turn
from tailor.data.queries import Queries
from tailor.data.splits import Split
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError
from tailor.evaluation.explanation_text import join_names, quote_title
from tailor.text.tfidf import count_terms
from tailor.text.words import check_language, search_words

NEGATION = re.compile(r"\b(?:no|not|without|except|don't|nothing|never)\b")
"""Words behind one of these, up to the end of the clause, are unwanted."""
CLAUSE = re.compile(r"[.,;:!?\n]+|\b(?:but|and)\b")
"""The end of a clause."""


class Wishes(NamedTuple):
    """The state of a dialogue."""

    words: dict[str, None]
    """Words that the user asked for."""
    barred_words: dict[str, None]
    """Words that the user ruled out."""
    shown_items: set[str]
    """Items that were recommended before."""


@dataclass(eq=False)
class PopularAssistant(Agent):
    """Recommends the most chosen items that hold the words the user asked for.

    A fold over the turns: words of the user's turns that the catalogue has are wishes, words after
    "no", "not" or "without" rule items out, and items named before are not named again. Of the
    items with the most wishes, the most popular come first. A message that is not understood is
    answered by popular items, and says so.
    """

    k: int = 3
    """Items of a turn."""
    language: str | None = "english"
    """Words count by their stems, and the commonest not at all; none: as they are written."""

    items_: Vocabulary = field(init=False, repr=False)
    words_: Vocabulary = field(init=False, repr=False)
    holds_: sp.csr_matrix = field(init=False, repr=False)
    """(V, N) 1 where the text of the item holds the word."""
    counts_: np.ndarray = field(init=False, repr=False)
    """(N,) float64 events of each item."""
    titles_: list[str] = field(init=False, repr=False)
    """(N,)."""

    def __post_init__(self) -> None:
        check_language(self.language)
        if self.k < 1:
            raise DataError(f"k is {self.k}: name at least 1 item a turn")

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_ = data.catalogue
        n = len(self.items_)
        rows = data.sequences.rows.values
        self.counts_ = np.bincount(rows, minlength=n).astype(np.float64)
        terms = (search_words(text, self.language) for text in data.item_texts)
        counts, vocabulary = count_terms(terms)
        self.words_ = Vocabulary(vocabulary)
        self.holds_ = (counts.T.tocsr() > 0).astype(np.float32)
        self.titles_ = data.texts_of("title") if "title" in data.item_table.columns else [""] * n
        self.fit_report_ = {"words": len(self.words_)}

    def _act(self, dialogues: Sequence[tuple[Turn, ...]], queries: Queries) -> list[Turn]:
        allowed = queries.reindexed(self.items_).allowed()
        return [
            self._answer(self._wishes(dialogue), allowed[i], bool(dialogue))
            for i, dialogue in enumerate(dialogues)
        ]

    def _wishes(self, dialogue: Sequence[Turn]) -> Wishes:
        """Return what a dialogue asks for, rules out and has shown; a later word wins."""
        wishes = Wishes({}, {}, set())
        for turn in dialogue:
            if turn.speaker == self.speaker:
                wishes.shown_items.update(turn.item_ids)
                continue
            for clause in CLAUSE.split(turn.text.lower()):
                positive, *negative = NEGATION.split(clause)
                self._move(positive, wishes.words, wishes.barred_words)
                self._move(" ".join(negative), wishes.barred_words, wishes.words)
        return wishes

    def _move(self, text: str, side: dict[str, None], other: dict[str, None]) -> None:
        """Put the words of a text that the catalogue has on one side, and off the other."""
        for word in search_words(text, self.language):
            if word in self.words_:
                side[word] = None
                other.pop(word, None)

    def _answer(self, wishes: Wishes, allowed: np.ndarray, is_reply: bool) -> Turn:
        matches = self._matches(wishes.words)
        mask = allowed & ~(self._matches(wishes.barred_words) > 0)
        mask[self.items_.rows([item for item in wishes.shown_items if item in self.items_])] = False
        most = matches[mask].max(initial=0)
        mask &= matches >= most
        scores = np.where(mask, self.counts_, -np.inf)
        best = best_first(scores, None, self.k).tolist()
        if not best:
            note = f"{self.name}: every item is excluded, ruled out or named before"
            return Turn(self.speaker, "I have nothing else to offer.", notes=(note,))
        ids = self.items_.named(best)
        titles = {item: self.titles_[row] for item, row in zip(ids, best, strict=True)}
        names = join_names([quote_title(item, titles) for item in ids])
        return Turn(
            self.speaker,
            _proposal(names, bool(most), is_reply),
            tuple(ids),
            acts=tuple(Act("recommend", "item_id", item) for item in ids),
            notes=() if most or not is_reply else (self._miss(wishes),),
            details={
                "wanted": list(wishes.words),
                "unwanted": list(wishes.barred_words),
                "scores": [float(self.counts_[row]) for row in best],
            },
        )

    def _miss(self, wishes: Wishes) -> str:
        if wishes.words:
            return f"{self.name}: no item left holds {', '.join(wishes.words)}"
        return f"{self.name}: no word of the dialogue is in the catalogue"

    def _matches(self, terms: dict[str, None]) -> np.ndarray:
        """Return (N,) how many of these words each item holds."""
        rows = self.words_.rows(terms)
        return np.asarray(self.holds_[rows].sum(axis=0), dtype=np.float64).ravel()


def _proposal(names: str, has_match: bool, is_reply: bool) -> str:
    if has_match:
        return f"How about {names}?"
    opening = "I found no item for that." if is_reply else "Hello!"
    return f"{opening} Many people choose {names}."
