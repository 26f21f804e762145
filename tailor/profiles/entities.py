"""Entities: public things that texts and pages are about, and what a user has to do with each.

No raw text is kept of a user: a store holds names of entities, two numbers and a time each.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat
from typing import Any

import numpy as np
import scipy.sparse as sp

from tailor.errors import DataError
from tailor.text.keywords import phrases
from tailor.text.words import search_words

DAY_MS = 86_400_000
MAX_WORDS = 3  # of an entity's name
COHESION = 0.3
"""Least share of its rarest word's uses that a phrase makes up."""
PAGES_TO_KNOW = 3.0
"""Pages about an entity after which a user is familiar with it to 63 %."""
MAX_ENTITIES = 64  # of a store; those of least interest are dropped
MAX_PAGES = 16  # latest pages of a store: one of them that is read again counts once
DIGEST_BYTES = 4


# ---- linking texts to entities


@dataclass(frozen=True, eq=False)
class EntityLinker:
    """Finds the entities that a text names: the longest runs of up to three words."""

    names: tuple[str, ...]
    """(E,) entities, most frequent first."""
    row_of: Mapping[str, int] = field(repr=False)
    """Stems of an entity, joined by spaces -> its row."""

    @classmethod
    def named(cls, names: Sequence[str], language: str = "english") -> "EntityLinker":
        """Return a linker of these entities; of names with equal stems the first counts."""
        row_of: dict[str, int] = {}
        for row, name in enumerate(names):
            key = " ".join(search_words(name, language))
            if key:
                row_of.setdefault(key, row)
        return cls(tuple(names), row_of)

    @classmethod
    def of(
        cls,
        values: Iterable[Iterable[str]],
        texts: Iterable[str],
        least: int = 2,
        most_share: float = 0.2,
        language: str = "english",
        owners: Iterable[str | None] | None = None,
    ) -> "EntityLinker":
        """Find the entities of a catalogue.

        `values` are attribute values, all of which are entities; of the phrases of `texts`, those
        are that stand in `least` texts and in no more than `most_share` of them. A phrase of
        several words must make up COHESION of the uses of its rarest word: "science fiction" is
        an entity, "museum budget" is two. `owners` name who wrote each text, None for nobody: all
        texts of an owner count once towards `least`, so that one user's searches make no entity.
        """
        counts: Counter[str] = Counter()
        spellings: dict[str, str] = {}
        valued: set[str] = set()
        for of_item in values:
            for value in dict.fromkeys(of_item):
                key = " ".join(search_words(value, language))
                if key and len(key.split()) <= MAX_WORDS:
                    valued.add(key)
                    counts[key] += 1
                    spellings.setdefault(key, value)
        of_texts: Counter[str] = Counter()
        repeated: Counter[str] = Counter()
        owned: set[tuple[str, str]] = set()
        n_texts = 0
        for text, owner in zip(texts, repeat(None) if owners is None else owners):
            n_texts += 1
            spelled = _phrases_by_key(text, language)
            of_texts.update(spelled.keys())
            if owner is not None:
                repeated.update(key for key in spelled if (owner, key) in owned)
                owned.update((owner, key) for key in spelled)
            for key, phrase in spelled.items():
                spellings.setdefault(key, phrase)
        most = max(least, most_share * n_texts)
        for key, count in of_texts.items():
            rarest = min(of_texts.get(word, count) for word in key.split())
            is_usual = count - repeated[key] >= least and count <= most
            is_entity = is_usual and count >= COHESION * rarest
            if key in valued or is_entity:
                counts[key] += count
        keys = sorted(counts, key=lambda key: (-counts[key], key))
        names = tuple(spellings[key] for key in keys)
        return cls(names, {key: row for row, key in enumerate(keys)})

    def link(self, text: str, language: str = "english") -> list[int]:
        """Return the rows of the entities that a text names, in order, each once."""
        stems = search_words(text, language)
        rows: list[int] = []
        start = 0
        while start < len(stems):
            lengths = range(min(MAX_WORDS, len(stems) - start), 0, -1)
            keys = [" ".join(stems[start : start + length]) for length in lengths]
            key = next((key for key in keys if key in self.row_of), "")
            if key:
                rows.append(self.row_of[key])
            start += max(len(key.split()), 1)
        return list(dict.fromkeys(rows))

    def matrix(self, texts: Sequence[str], language: str = "english") -> sp.csr_matrix:
        """Return (n, E) 1 for every entity that a text names."""
        rows = [self.link(text, language) for text in texts]
        offsets = np.cumsum([0, *map(len, rows)])
        linked = [column for row in rows for column in row]
        columns = np.array(linked, dtype=np.int32)
        ones = np.ones(len(columns), np.float32)
        shape = (len(rows), len(self.names))
        return sp.csr_matrix((ones, columns, offsets), shape=shape)


def _phrases_by_key(text: str, language: str) -> dict[str, str]:
    """Return the phrases of a text and their single words, by their stems."""
    parts = [part for phrase in phrases(text, language) for part in (phrase, *phrase.split())]
    return {" ".join(search_words(part, language)): part for part in parts}


# ---- what a user has to do with entities


@dataclass(frozen=True)
class EntityUse:
    """A user's searches for one entity, and pages read about it."""

    interest: float = 0.0
    """Searches and clicks, each counting half as much a half-life later, at `last_ms`."""
    pages: float = 0.0
    """Different pages about it that were read."""
    last_ms: int = 0
    """The latest search or page, in milliseconds since 1970."""

    def interest_at(self, at_ms: int, half_life_days: float) -> float:
        """Return how much the searches and clicks count at a time."""
        days = max(at_ms - self.last_ms, 0) / DAY_MS
        return float(self.interest * 2 ** -(days / half_life_days))

    @property
    def familiarity(self) -> float:
        """Share of what the user can know of it, from 0 to 1."""
        return 1 - math.exp(-self.pages / PAGES_TO_KNOW)


@dataclass(frozen=True)
class EntityStore:
    """Counts of the entities that a user searched for and read about; all that is kept."""

    uses: Mapping[str, EntityUse] = field(default_factory=dict)
    """Name of an entity -> what the user had to do with it."""
    half_life_days: float = 30.0
    """Days after which a search counts half."""
    recent_pages: tuple[str, ...] = ()
    """Digests of the latest pages."""
    deleted: frozenset[str] = frozenset()
    """Digests of entities that the user deleted: they never come back."""

    def __post_init__(self) -> None:
        if not self.half_life_days > 0:
            raise DataError(f"half_life_days is {self.half_life_days}: give days above 0")

    def after_search(self, names: Iterable[str], at_ms: int, weight: float = 1.0) -> "EntityStore":
        """Return the store after a search, or a click of less `weight`, that names entities."""
        return self._added(names, at_ms, weight, 0.0)

    def after_page(
        self, names: Iterable[str], page: str, at_ms: int, weight: float = 0.0
    ) -> "EntityStore":
        """Return the store after a page about entities was read; clicking it has a `weight`."""
        digest = _digest(page)
        new = 0.0 if digest in self.recent_pages else 1.0
        others = [other for other in self.recent_pages if other != digest]
        added = self._added(names, at_ms, weight, new)
        return replace(added, recent_pages=(*others, digest)[-MAX_PAGES:])

    def _added(
        self, names: Iterable[str], at_ms: int, weight: float, pages: float
    ) -> "EntityStore":
        uses = dict(self.uses)
        for name in names:
            if self.is_deleted(name):
                continue
            use = uses.get(name, EntityUse(last_ms=at_ms))
            latest_ms = max(use.last_ms, at_ms)
            days_late = (latest_ms - at_ms) / DAY_MS
            interest = use.interest_at(latest_ms, self.half_life_days)
            interest += weight * 2 ** -(days_late / self.half_life_days)
            uses[name] = EntityUse(interest, use.pages + pages, latest_ms)
        return replace(self, uses=self._bounded(uses))

    def _bounded(self, uses: dict[str, EntityUse]) -> dict[str, EntityUse]:
        if len(uses) <= MAX_ENTITIES:
            return uses
        at_ms = max(use.last_ms for use in uses.values())

        def worth(name: str) -> tuple[float, int, str]:
            interest = uses[name].interest_at(at_ms, self.half_life_days)
            return -interest - 0.01 * uses[name].familiarity, -uses[name].last_ms, name

        kept_names = set(sorted(uses, key=worth)[:MAX_ENTITIES])
        return {name: use for name, use in uses.items() if name in kept_names}

    def without(self, *names: str) -> "EntityStore":
        """Return the store without these entities; they are never stored or named again."""
        digests = {_digest(" ".join(search_words(name, "english"))) for name in names}
        smaller = replace(self, deleted=self.deleted | digests)
        uses = {name: use for name, use in self.uses.items() if not smaller.is_deleted(name)}
        return replace(smaller, uses=uses)

    def is_deleted(self, name: str) -> bool:
        """Return whether the user deleted an entity, or one that its name holds."""
        if not self.deleted:
            return False
        stems = search_words(name, "english")
        runs = [
            " ".join(stems[start:stop])
            for start in range(len(stems))
            for stop in range(start + 1, len(stems) + 1)
        ]
        return any(_digest(run) in self.deleted for run in runs)

    def interests(self, at_ms: int) -> dict[str, float]:
        """Return each entity's interest at a time, largest first."""
        interests = {
            name: use.interest_at(at_ms, self.half_life_days) for name, use in self.uses.items()
        }
        return dict(sorted(interests.items(), key=lambda pair: (-pair[1], pair[0])))

    def plain(self) -> dict[str, Any]:
        """Return the store as values that JSON can write; `of` reads them."""
        uses = {
            name: [round(use.interest, 3), use.pages, use.last_ms]
            for name, use in self.uses.items()
        }
        return {
            "entities": uses,
            "half_life_days": self.half_life_days,
            "recent_pages": list(self.recent_pages),
            "deleted": sorted(self.deleted),
        }

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "EntityStore":
        """Return the store that `plain` wrote. Raises DataError for what is none."""
        try:
            uses = {
                str(name): EntityUse(float(interest), float(pages), int(last_ms))
                for name, (interest, pages, last_ms) in values["entities"].items()
            }
            return cls(
                uses,
                float(values["half_life_days"]),
                tuple(map(str, values["recent_pages"])),
                frozenset(map(str, values["deleted"])),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"a store of entities cannot be read ({error!r})") from None


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).hexdigest()
