"""Plant users whose choices follow a few aspects of items, and a model that describes them.

Of eight aspects three decide what a user chooses next, two mislead (the history is full of a value
that the next item avoids), and three mean nothing. A profile helps as far as it names the right
aspects.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset, Lists
from tailor.data.queries import Rankings
from tailor.errors import DataError, ModelError
from tailor.ports.base import Completion, LanguageModel
from tailor.worlds.seeds import opaque_ids, random_of
from tailor.worlds.shop_truth import START_MS
from tailor.worlds.words import MODELS

DAY_MS = 86_400_000
ASPECTS = {
    "colour": ("crimson", "navy", "ivory", "olive", "amber"),
    "material": ("canvas", "leather", "bamboo", "steel", "linen"),
    "style": ("retro", "minimal", "rugged", "playful", "formal"),
    "origin": ("alpine", "coastal", "desert", "island", "arctic"),
    "maker": ("norrland", "kestrel", "solvane", "marlow", "vantor"),
    "scent": ("cedar", "citrus", "lavender", "mint", "vanilla"),
    "season": ("spring", "summer", "autumn", "winter", "monsoon"),
    "shape": ("round", "square", "oval", "slender", "curved"),
}
NAMES = tuple(ASPECTS)
ASPECT_OF = {value: name for name, values in ASPECTS.items() for value in values}
USEFUL, HARMFUL = 3, 2  # numbers of aspects
HISTORY = 6  # events before the next item
CHARACTERS_PER_TOKEN = 4
WORD = re.compile(r"[a-z]+")
LINE = re.compile(r"^\[\d+\] (.*)$", re.MULTILINE)
FEEDBACK = {"missing": 1, "helpful": 1, "misleading": -1, "chosen": 1}  # part of a line -> its sign


@dataclass(frozen=True, eq=False)
class AspectWorld:
    """Users' lists to learn from and to judge by, and which aspects matter."""

    data: Dataset
    """Events of the histories, and items."""
    learned: Lists
    """Lists of users to learn from."""
    held_out: Lists
    """Lists of other users."""
    useful: tuple[str, ...]
    """Aspects that decide the next item."""
    harmful: tuple[str, ...]
    """Aspects whose usual value the next item avoids."""
    useless: tuple[str, ...]
    """Aspects that mean nothing."""

    def first_instruction(self) -> str:
        """Return an instruction that asks for what misleads and for one aspect of no meaning."""
        return instruction_for([*self.harmful, self.useless[0]])

    def best_instruction(self) -> str:
        """Return an instruction that asks for what decides."""
        return instruction_for(self.useful)


def aspect_world(
    learned: int = 160, held_out: int = 150, items: int = 600, depth: int = 20, seed: int = 0
) -> AspectWorld:
    """Make users with a history of six items and a list that holds their next item.

    Half of a list resembles the history, half is drawn at random; its order and scores say nothing.
    The same arguments give the same world. Raises DataError for sizes below 1, or a depth that the
    items do not fill.
    """
    if min(learned, held_out) < 1 or not 2 <= depth <= items // 2:
        raise DataError(
            f"learned {learned}, held_out {held_out}, items {items}, depth {depth}: from 1, and a"
            " depth from 2 to half of the items"
        )
    rng = random_of(seed, "aspects")
    roles = rng.permutation(len(NAMES))
    weights = np.zeros(len(NAMES))
    weights[roles[: USEFUL + HARMFUL]] = 3.0
    signs = np.ones(len(NAMES))
    signs[roles[USEFUL : USEFUL + HARMFUL]] = -1
    values = rng.integers(5, size=(items, len(NAMES)))  # N, aspects
    users = learned + held_out
    histories = np.empty((users, HISTORY), np.int64)
    lists = np.empty((users, depth), np.int64)
    targets = np.empty(users, np.int64)
    for user in range(users):
        is_usual = values == rng.integers(5, size=len(NAMES))  # of this user
        habit = is_usual @ weights
        histories[user] = _draw(habit, HISTORY, (), rng)
        targets[user] = _draw(is_usual @ (weights * signs), 1, histories[user], rng)[0]
        lists[user] = _list(targets[user], habit, histories[user], depth, rng)
    names = [NAMES[role] for role in roles]
    data = _dataset(histories, values, seed, rng)
    split = np.split(np.arange(users), [learned])
    parts = [_lists(data, rows, lists[rows], targets[rows], rng) for rows in split]
    return AspectWorld(
        data,
        parts[0],
        parts[1],
        tuple(names[:USEFUL]),
        tuple(names[USEFUL : USEFUL + HARMFUL]),
        tuple(names[USEFUL + HARMFUL :]),
    )


def _draw(
    worths: np.ndarray, count: int, without: Sequence[int] | np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return different items drawn by a softmax of their worths (N,), without some."""
    keys = worths + rng.gumbel(size=len(worths))
    keys[np.asarray(without, np.int64)] = -np.inf
    return np.argsort(-keys)[:count]


def _list(
    target: int, habit: np.ndarray, history: np.ndarray, depth: int, rng: np.random.Generator
) -> np.ndarray:
    """Return a list with the target, items like the history, and random ones, in random order."""
    taken = [target, *history.tolist()]
    similar = _draw(habit, depth // 2, taken, rng)
    others = _draw(np.zeros(len(habit)), depth - 1 - len(similar), [*taken, *similar], rng)
    return rng.permutation(np.r_[target, similar, others])


def _dataset(
    histories: np.ndarray, values: np.ndarray, seed: int, rng: np.random.Generator
) -> Dataset:
    """Return events, and items whose texts name every aspect and its value."""
    users, items = len(histories), len(values)
    item_ids = opaque_ids("i-", items, seed)
    titles = [f"{rng.choice(MODELS)} {rng.choice(MODELS)} {number}" for number in range(items)]
    texts = [
        ", ".join(f"{name} {ASPECTS[name][value]}" for name, value in zip(NAMES, row, strict=True))
        for row in values.tolist()
    ]
    events = pl.DataFrame(
        {
            "user_id": [f"u-{user:04d}" for user in range(users) for _ in range(HISTORY)],
            "item_id": item_ids[histories.ravel()],
            "time_ms": np.tile(START_MS + DAY_MS * np.arange(HISTORY), users),
        }
    )
    tables = {
        "events": events,
        "items": pl.DataFrame({"item_id": item_ids, "title": titles, "text": texts}),
    }
    return Dataset(tables, f"aspects-{seed}")


def _lists(
    data: Dataset,
    users: np.ndarray,
    lists: np.ndarray,
    targets: np.ndarray,
    rng: np.random.Generator,
) -> Lists:
    """Return the lists of some users; items are numbered as in the world, not as in the data."""
    ids = data.tables["items"]["item_id"]
    rows = data.catalogue.codes(ids[lists.ravel()]).reshape(lists.shape).astype(np.int32)
    scores = np.sort(rng.random(lists.shape), axis=1)[:, ::-1].astype(np.float32)
    queries = data.queries([f"u-{user:04d}" for user in users.tolist()])
    of_targets = data.catalogue.codes(ids[targets])
    return Lists(
        queries,
        Rankings(data.catalogue, rows, scores),
        Ragged.of_lengths(np.ones(len(targets), np.int64), of_targets),
    )


def instruction_for(aspects: Sequence[str]) -> str:
    """Return an instruction that asks for these aspects."""
    return f"Describe what this user likes. Name for the user: {', '.join(aspects)}."


@dataclass(frozen=True)
class AspectModel(LanguageModel):
    """Describes users by the aspects that an instruction names, and improves the instruction.

    It answers by the title of the schema: a "profile" names the usual value of each aspect that was
    asked for; an "order" counts the profile's words in every document; "lessons" count the aspects
    of the words in the feedback; an "instruction" adds the aspect that is missed most, and drops
    those that mislead. Without lessons, it adds or drops an aspect by chance. It knows the words of
    the world, and neither the users' next items nor which aspects matter.
    """

    misses: float = 0.1
    """Probability that an aspect that was asked for is left out of a profile."""
    noise: float = 0.3
    """Standard deviation of errors in the count of a document's words."""

    def __post_init__(self) -> None:
        if not 0 <= self.misses <= 1 or self.noise < 0:
            raise ModelError(f"misses is {self.misses}, noise {self.noise}: 0 to 1, and from 0")

    @property
    def fingerprint(self) -> str:
        return f"aspects {self.misses} {self.noise}"

    def capabilities(self) -> frozenset[str]:
        return frozenset({"schema", "seed"})

    def score(self, prompts: Sequence[str], answers: Sequence[str]) -> np.ndarray:
        raise ModelError("AspectModel has no log-probabilities: ask it by complete")

    def complete(
        self,
        prompts: Sequence[str],
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        n: int = 1,
        seed: int = 0,
        schema: Mapping[str, Any] | None = None,
        images: Sequence[bytes] = (),
    ) -> list[Completion]:
        title = str((schema or {}).get("title"))
        writers = {
            "profile": self._profile,
            "order": self._order,
            "lessons": self._lessons,
            "instruction": self._instruction,
        }
        if title not in writers:
            raise ModelError(f'AspectModel writes no "{title}": one of {", ".join(writers)}')
        completions = []
        for prompt in prompts:
            answer = json.dumps({title: writers[title](prompt, _rng(prompt, seed))})
            tokens_in = len(prompt) // CHARACTERS_PER_TOKEN
            tokens_out = len(answer) // CHARACTERS_PER_TOKEN
            completions.append(Completion((answer,), tokens_in, tokens_out, ("stop",)))
        return completions

    def _profile(self, prompt: str, rng: np.random.Generator) -> str:
        head = LINE.split(prompt)[0]
        names = [name for name in _aspects_in(head) if rng.random() >= self.misses]
        counts: Counter[str] = Counter()
        for line in LINE.findall(prompt):
            counts.update(WORD.findall(line))
        aspects: list[str] = []
        for name in names:
            usual = max(ASPECTS[name], key=lambda value: counts[value])
            aspects.append(f"{name} {usual}")
        return "; ".join(aspects)

    def _order(self, prompt: str, rng: np.random.Generator) -> list[int]:
        head = LINE.split(prompt)[0]
        head_words = set(WORD.findall(head))
        liked = head_words & set(ASPECT_OF)
        counts: list[int] = []
        for line in LINE.findall(prompt):
            line_words = set(WORD.findall(line))
            counts.append(len(liked & line_words))
        worths = np.array(counts)
        errors = self.noise * rng.standard_normal(len(counts))
        order = np.argsort(-(worths + errors), kind="stable")
        return [row + 1 for row in order.tolist()]

    def _lessons(self, prompt: str, rng: np.random.Generator) -> str:
        counts = {part: Counter[str]() for part in FEEDBACK}
        for line in LINE.findall(prompt):
            for part in line.strip("<>").split(";"):
                name, _, values = part.strip().partition(": ")
                if name in counts:
                    aspects = {
                        ASPECT_OF[word] for word in WORD.findall(values) if word in ASPECT_OF
                    }
                    counts[name].update(aspects)
        return "; ".join(
            f"{part}: " + ", ".join(f"{aspect} {count}" for aspect, count in of_part.most_common())
            for part, of_part in counts.items()
            if of_part
        )

    def _instruction(self, prompt: str, rng: np.random.Generator) -> str:
        old, _, lessons = prompt.partition("Lessons: ")
        aspects = _aspects_in(old)
        gains = _gains(lessons)
        if not gains:
            toggled = str(rng.choice(NAMES))
            others = [name for name in aspects if name != toggled]
            return instruction_for(others if toggled in aspects else [*aspects, toggled])
        helpful = [name for name in aspects if gains[name] >= 0]
        missed = [name for name in NAMES if name not in aspects and gains[name] > 0]
        shuffled = rng.permutation(missed).tolist()  # of equally missed ones any
        best = sorted(shuffled, key=lambda name: -gains[name])[:1]
        return instruction_for([*helpful, *best])


def _gains(lessons: str) -> Counter[str]:
    """Return aspect -> how often feedback asked for it, less how often it misled."""
    gains: Counter[str] = Counter()
    for part in lessons.partition(">>")[0].strip("<>").split(";"):
        name, _, counts = part.strip().partition(": ")
        for aspect, count in re.findall(r"([a-z]+) (\d+)", counts):
            gains[aspect] += FEEDBACK.get(name, 0) * int(count)
    return gains


def _aspects_in(text: str) -> list[str]:
    """Return the aspects that a text names, in their order."""
    mentioned = set(WORD.findall(text.lower()))
    return [name for name in NAMES if name in mentioned]


def _rng(prompt: str, seed: int) -> np.random.Generator:
    """Return the chances of an answer, which depend on the prompt and the seed alone."""
    digest = hashlib.blake2b(prompt.encode(), digest_size=8, salt=seed.to_bytes(8, "little"))
    return np.random.default_rng(int.from_bytes(digest.digest(), "little"))
