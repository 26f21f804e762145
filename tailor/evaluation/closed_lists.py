"""Ask a language model which of a few items a user chooses next, by letters of a closed list.

Shapes: U users, K items of a list, P prompts.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.splits import Split
from tailor.errors import DataError
from tailor.llm.fencing import fenced
from tailor.llm.parsing import read_order
from tailor.ports.base import Completion, LanguageModel

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
NAME_CHARACTERS = 80  # of an item in a prompt
TOKENS_PER_LETTER = 5  # of a written order, with quotes and commas
UNREAD = 6  # level of an order that says nothing
TRIES = 50  # draws of a list before it is given up


@dataclass(frozen=True, eq=False)
class ClosedLists:
    """A user's next item among others, in an order of its own for every user."""

    users: np.ndarray
    """(U,) rows of the queries, or of the sequences, that the lists belong to."""
    histories: tuple[np.ndarray, ...]
    """(U,) item rows of the latest events, the latest last."""
    rows: np.ndarray
    """(U, K) item rows in the order in which they are shown."""
    targets: np.ndarray
    """(U,) where the next item stands in the list."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def size(self) -> int:
        """Items of a list."""
        return int(self.rows.shape[1])

    def reordered(self, orders: np.ndarray) -> "ClosedLists":
        """Return the lists shown in other orders (U, K), which are places of this one."""
        targets = np.argmax(orders == self.targets[:, None], axis=1)
        rows = np.take_along_axis(self.rows, orders, axis=1)
        return replace(self, rows=rows, targets=targets)

    def ndcg(self, scores: np.ndarray, k: int) -> np.ndarray:
        """Return NDCG@k (U,) of scores (U, K); NaN where a list has none.

        Of items with the same score, the mean over the ranks that they share counts.
        """
        target_scores = np.take_along_axis(scores, self.targets[:, None], axis=1)
        above = (scores > target_scores).sum(axis=1)
        tied = np.maximum((scores == target_scores).sum(axis=1), 1)
        sums = np.concatenate([[0.0], np.cumsum(self._gains(k))])  # K + 1
        gains = (sums[above + tied] - sums[above]) / tied
        return np.where(np.isnan(scores).any(axis=1), np.nan, gains)

    def chance(self, k: int) -> float:
        """Return the mean NDCG@k of lists in random order."""
        return float(self._gains(k).mean())

    def _gains(self, k: int) -> np.ndarray:
        """Return (K,) NDCG@k of a target at each rank."""
        ranks = np.arange(1, self.size + 1)
        return np.where(ranks <= k, 1 / np.log2(1 + ranks), 0.0)


def judged_lists(
    split: Split, part: str, size: int, history: int, most: int, rng: np.random.Generator
) -> ClosedLists:
    """Return lists of at most `most` users drawn by chance, their first held-out item in each.

    The other items are drawn uniformly among those that are neither known to the user nor held out.
    Users without a history are left out. Raises DataError where nobody remains.
    """
    queries, targets = split.queries(part)
    titles = names_of(split.data)
    users = np.flatnonzero((queries.histories.lengths > 0) & (targets.lengths > 0))
    drawn = rng.permutation(users)
    histories = [queries.histories[i] for i in drawn.tolist()]
    held_out = [targets[i] for i in drawn.tolist()]
    return _lists(drawn, histories, held_out, titles, size, history, most, rng)


def training_lists(
    data: Dataset, size: int, history: int, count: int, rng: np.random.Generator
) -> ClosedLists:
    """Return `count` lists of training events: a user, an event with others before it.

    The other items are drawn uniformly among those that the user never chose.
    """
    sequences: Ragged = data.sequences.rows
    users = np.flatnonzero(sequences.lengths > 1)
    if not len(users):
        raise DataError(f'no user of "{data.name}" has two events: nothing can be learned')
    drawn = users[rng.integers(len(users), size=2 * count)]
    cuts = [int(rng.integers(1, sequences.lengths[user])) for user in drawn.tolist()]
    events = [sequences[user] for user in drawn.tolist()]
    histories = [rows[:cut] for rows, cut in zip(events, cuts, strict=True)]
    following = [rows[cut:] for rows, cut in zip(events, cuts, strict=True)]
    return _lists(drawn, histories, following, names_of(data), size, history, count, rng)


def _lists(
    users: np.ndarray,
    histories: Sequence[np.ndarray],
    following: Sequence[np.ndarray],
    names: Sequence[str],
    size: int,
    history: int,
    most: int,
    rng: np.random.Generator,
) -> ClosedLists:
    """Return lists of the first of what follows, among items that do not; at most `most`."""
    if not 2 <= size <= min(len(LETTERS), len(names)):
        raise DataError(
            f"size is {size}: from 2 to {min(len(LETTERS), len(names))}, for {len(names)} items and"
            f" {len(LETTERS)} letters"
        )
    positions: list[int] = []
    rows: list[np.ndarray] = []
    targets: list[int] = []
    for i, (events, later) in enumerate(zip(histories, following, strict=True)):
        others = _others(events, later, names, size - 1, rng)
        if len(positions) == most:
            break
        if others is None:
            continue
        position = int(rng.integers(size))
        positions.append(i)
        rows.append(np.insert(others, position, later[0]))
        targets.append(position)
    if not positions:
        raise DataError(
            f"none of {len(histories)} users has a history and {size} items to choose from: take a"
            " smaller size, or other data"
        )
    latest = tuple(histories[i][-history:] for i in positions)
    return ClosedLists(users[positions], latest, np.array(rows), np.array(targets))


def _others(
    events: np.ndarray,
    later: np.ndarray,
    names: Sequence[str],
    count: int,
    rng: np.random.Generator,
) -> np.ndarray | None:
    """Return rows of other items, all of different names; None where there are too few.

    An item whose name stands in the history is none, and where the next item is such, no list is
    made: names could not tell them apart.
    """
    taken = {names[row] for row in events.tolist()}
    if names[later[0]] in taken:
        return None
    taken |= {names[row] for row in later.tolist()}
    rows: list[int] = []
    for row in rng.integers(len(names), size=TRIES * count).tolist():
        if names[row] not in taken:
            taken.add(names[row])
            rows.append(row)
        if len(rows) == count:
            return np.array(rows)
    return None


def names_of(data: Dataset) -> list[str]:
    """Return (N,) titles of items, else their texts, else "?"; short enough for a prompt."""
    pairs = zip(data.texts_of("title"), data.item_texts, strict=True)
    return [(title or text or "?")[:NAME_CHARACTERS].strip() for title, text in pairs]


# ---- prompts


def history_text(names: Sequence[str]) -> str:
    """Return the names of a history, the latest last, as the beginning of a prompt."""
    texts = "; ".join(_fenced(name) for name in names)
    return f"Chosen so far, the latest last: {texts}"


@functools.lru_cache(maxsize=8192)
def _fenced(name: str) -> str:
    """Return a name as foreign text; the same names stand in many prompts."""
    return fenced(name).text


def list_prompt(history: Sequence[str], names: Sequence[str], question: str) -> str:
    """Return a prompt: the history, the list by letters, and the question as its last words.

    Prompts that differ in the question alone begin alike, so that a model reads the rest once.
    """
    lines = [f"[{letter}] {_fenced(name)}" for letter, name in zip(LETTERS, names, strict=False)]
    return "\n".join([history_text(history), "Candidates:", *lines, question])


def list_scores(model: LanguageModel, prompts: Sequence[str], size: int) -> np.ndarray:
    """Return (P, K) scores of the letters of every prompt; NaN rows where nothing was readable.

    They are log-probabilities where the model tells them. Another model writes the order of all
    letters, and an item that it leaves out counts as below the others.
    """
    letters = list(LETTERS[:size])
    if not prompts:
        return np.zeros((0, size))
    if "score" in model.capabilities():
        return model.choices(prompts, letters)
    answers = model.complete(prompts, max_tokens=TOKENS_PER_LETTER * size + 16)
    return np.stack([_scores_of(answer, letters) for answer in answers])


def _scores_of(answer: Completion, letters: Sequence[str]) -> np.ndarray:
    """Return (K,) scores of a written order; NaN where nothing was readable."""
    size = len(letters)
    if answer.error:
        return np.full(size, np.nan)
    order = read_order(answer.text, size, letters)
    if order.level == UNREAD:
        return np.full(size, np.nan)
    is_filled_in = np.array(order.statuses) == "fallback"
    scores: np.ndarray = np.empty(size)
    scores[list(order.places)] = np.where(is_filled_in, -size, -np.arange(size))
    return scores
