"""Make a community that asks and answers: topics, experts, styles, and the answer accepted.

A question names a part that is out of order; the cure is a fact that shares no word with it and is
drawn anew with every seed, so that no encoder can know it. Experts of the topic answer with the
fact, others with another fact of the topic. The asker accepts the right answer whose writer is most
like himself, which no text says: only the tags of what both posted before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset
from tailor.errors import DataError, ModelError
from tailor.ports.base import Completion, LanguageModel
from tailor.worlds.seeds import opaque_ids, random_of
from tailor.worlds.words import BRANDS

TOPICS = {  # name -> parts that fail, things that cure them
    "cycling": (
        ("gears", "brakes", "saddle", "pedals", "front wheel", "headset"),
        ("cable", "washer", "cassette", "spokes", "bearing", "clamp"),
    ),
    "coffee": (
        ("grinder", "steam wand", "pump", "drip tray", "water tank", "display"),
        ("gasket", "valve", "filter", "fuse", "burrs", "hose"),
    ),
    "guitars": (
        ("neck", "tuners", "bridge", "pickup", "jack", "frets"),
        ("truss rod", "nut", "solder joint", "strings", "shim", "potentiometer"),
    ),
    "boats": (
        ("outboard", "rudder", "bilge", "winch", "anchor chain", "hatch"),
        ("impeller", "spark plug", "shackle", "seal", "float switch", "propeller"),
    ),
    "gardens": (
        ("mower", "hedge", "lawn", "pond", "greenhouse", "compost"),
        ("blade", "mulch", "lime", "aerator", "vent", "netting"),
    ),
}
SYMPTOMS = (
    "has stopped working",
    "gives me trouble again",
    "is not what it was",
    "makes a strange noise",
    "failed on Sunday",
    "drives me mad",
)
OPENERS = ("The", "Help, the", "Since spring the", "After a year the", "I am new here, and the")
CLOSINGS = ("Any ideas?", "What should I do?", "Is it worth repairing?", "Thanks in advance.")
ACTIONS = (
    ("replace", "renew", "swap"),
    ("clean", "scrub", "rinse"),
    ("tighten", "fasten", "adjust"),
    ("loosen", "slacken", "relax"),
    ("remove", "take out", "do without"),
    ("grease", "oil", "lubricate"),
)
LEANINGS = {  # tag -> words of an answer in that manner
    "thrift": "It costs next to nothing.",
    "speed": "It takes five minutes.",
    "thorough": "Do it properly and it lasts for years.",
    "safety": "Wear gloves, and unplug it first.",
    "vintage": "Keep the old parts, they look better.",
    "upgrades": "Treat yourself to the better model.",
}
HUMAN = (
    "On mine I had to {fact}. {manner}",
    "{Fact}, the {make} needs that. {manner}",
    "{manner} With a {make} you want to {fact}.",
    "Same here with the {make}: {fact}. {manner}",
)
WRITTEN = {  # prompt style -> form of a scripted answer
    "basic": "To solve this, {fact}.",
    "contextual": "This is a common issue with the {make}. It is recommended to {fact}.",
    "personalised": "Great question! I suggest you {fact}. {manner}",
}
HUMAN_WORDINGS = slice(0, 2)  # of an action
WRITER_WORDINGS = slice(1, 3)
MODEL_NUMBERS = (101, 111)
EXPERTISE = 2  # topics of a user
RIGHT_ANSWERS = 2  # of experts, to every question
POSTS = 12  # earlier posts of a user whose tags are known
EVENNESS = 0.3  # of a user's leanings (Dirichlet): most users have one or two


class Fact(NamedTuple):
    """A cure: what to do with which thing."""

    action: int
    thing: str


@dataclass(frozen=True, eq=False)
class Community:
    """Questions and answers of a planted community, and the truth about them."""

    data: Dataset
    """requests (questions, by user_id, with tags), items (answers, by author), judgements (the
    accepted answer has grade 1) and users with the tags of their earlier posts."""
    circles: Mapping[str, int]
    """Question -> its circle; no user of one circle asks or answers in another."""
    facts: Mapping[str, Fact]
    """Question -> the fact that cures it."""
    makes: Mapping[str, str]
    """Question -> the make that it is about."""

    def writer(self, wrong: float = 0.0, seed: int = 0) -> "ScriptedWriter":
        """Return a model that answers the questions, a share of them with a wrong fact."""
        requests = self.data.tables["requests"].select("request_id", "text").iter_rows()
        cures = {
            text: (self.facts[request_id], self.makes[request_id]) for request_id, text in requests
        }
        return ScriptedWriter(cures, wrong, seed)

    def within(self, circles: Sequence[int]) -> Dataset:
        """Return the data with the questions of these circles; all answers stay."""
        ids = [request_id for request_id, circle in self.circles.items() if circle in circles]
        tables = dict(self.data.tables)
        tables["requests"] = tables["requests"].filter(pl.col("request_id").is_in(ids))
        tables["judgements"] = tables["judgements"].filter(pl.col("query_id").is_in(ids))
        return Dataset(tables, self.data.name)


@dataclass(frozen=True)
class ScriptedWriter(LanguageModel):
    """Answers known questions, in the manner that a prompt's words ask for.

    A prompt that names leanings gets a personal answer in the manner of the first, another that
    names a topic a contextual one.
    """

    cures: Mapping[str, tuple[Fact, str]]
    """Text of a question -> its cure and its make."""
    wrong: float = 0.0
    """Share of answers with a wrong fact."""
    seed: int = 0
    """Seed of the errors and of the wording."""

    def __post_init__(self) -> None:
        if not 0 <= self.wrong <= 1:
            raise ModelError(f"wrong is {self.wrong}: a share from 0 to 1")

    @property
    def fingerprint(self) -> str:
        return f"scripted writer {self.wrong} {self.seed} {sorted(self.cures)!r}"

    def capabilities(self) -> frozenset[str]:
        return frozenset({"seed"})

    def score(self, prompts: Sequence[str], answers: Sequence[str]) -> np.ndarray:
        raise ModelError("a scripted writer scores nothing")

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
        return [self._answer(prompt) for prompt in prompts]

    def _answer(self, prompt: str) -> Completion:
        question = next((text for text in self.cures if text in prompt), None)
        if question is None:
            return Completion((), error="this question was never asked here")
        rng = random_of(self.seed, prompt)
        fact, make = self.cures[question]
        if rng.random() < self.wrong:
            fact = _other_fact(fact, rng)
        around = prompt.replace(question, "")
        tags = sorted((tag for tag in LEANINGS if tag in around), key=around.find)
        if tags:
            style = "personalised"
        else:
            style = "contextual" if any(topic in around for topic in TOPICS) else "basic"
        manner = LEANINGS[tags[0]] if tags else ""
        text = _worded(WRITTEN[style], fact, make, manner, WRITER_WORDINGS, rng)
        return Completion((text,), len(prompt) // 4, len(text) // 4, ("stop",))


def community(
    questions: int = 640,
    circles: int = 8,
    members: int = 25,
    answers: int = 4,
    seed: int = 0,
) -> Community:
    """Make questions with `answers` answers each, asked and answered within circles of users.

    The same arguments give the same community. Raises DataError for sizes that cannot hold it.
    """
    if min(questions, circles) < 1 or members < 2 * answers or answers <= RIGHT_ANSWERS:
        raise DataError(
            f"questions {questions}, circles {circles}, members {members}, answers {answers}: at"
            f" least 1 question and circle, more than {RIGHT_ANSWERS} answers, and twice as many"
            " members as answers"
        )
    rng = random_of(seed, "community")
    cures = _cures(rng)
    users = _Users.drawn(circles * members, opaque_ids("u-", circles * members, seed), rng)
    threads = []
    for number in range(questions):
        circle = np.arange(members) + number % circles * members
        threads.append(_drawn_thread(rng.permutation(circle).tolist(), answers, cures, users, rng))
    request_ids = opaque_ids("q-", questions, seed).to_list()
    answer_ids = opaque_ids("a-", questions * answers, seed).to_list()
    accepted = [number * answers + thread.accepted for number, thread in enumerate(threads)]
    tables = {
        "requests": pl.DataFrame(
            {
                "request_id": request_ids,
                "user_id": [users.ids[thread.asker] for thread in threads],
                "text": [_question(thread.make, thread.part, rng) for thread in threads],
                "tags": [[thread.topic] for thread in threads],
            }
        ),
        "items": pl.DataFrame(
            {
                "item_id": answer_ids,
                "text": [text for thread in threads for text in _answers(thread, users, rng)],
                "author": [users.ids[user] for thread in threads for user in thread.writers],
            }
        ),
        "judgements": pl.DataFrame(
            {
                "query_id": request_ids,
                "item_id": [answer_ids[row] for row in accepted],
                "grade": [1.0] * questions,
            }
        ),
        "users": pl.DataFrame({"user_id": users.ids, "tags": users.tags}),
    }
    by_request = dict(zip(request_ids, threads, strict=True))
    return Community(
        Dataset(tables, f"community {seed}"),
        {key: number % circles for number, key in enumerate(request_ids)},
        {key: thread.fact for key, thread in by_request.items()},
        {key: thread.make for key, thread in by_request.items()},
    )


@dataclass(frozen=True, eq=False)
class _Users:
    """Users with what they know and how they like things done."""

    ids: list[str]
    topics: list[list[str]]
    """Topics in which a user is an expert."""
    leanings: np.ndarray
    """(U, M) share of each leaning in what a user writes."""
    tags: list[list[str]]
    """Tags of earlier posts."""

    @classmethod
    def drawn(cls, n: int, ids: pl.Series, rng: np.random.Generator) -> "_Users":
        topic_names = list(TOPICS)
        topics: list[list[str]] = []
        for _ in range(n):
            choice = rng.choice(topic_names, EXPERTISE, replace=False)
            topics.append(choice.tolist())
        evenness = [EVENNESS] * len(LEANINGS)
        leanings = rng.dirichlet(evenness, n)
        leaning_names = list(LEANINGS)
        tags: list[list[str]] = []
        for shares in leanings:
            choice = rng.choice(leaning_names, POSTS, p=shares)
            tags.append(choice.tolist())
        return cls(ids.to_list(), topics, leanings, tags)

    def likeness(self, a: int, b: int) -> float:
        """Return the cosine of two users' leanings."""
        first, second = self.leanings[a], self.leanings[b]
        return float(first @ second / np.sqrt((first @ first) * (second @ second)))


def _cures(rng: np.random.Generator) -> dict[tuple[str, str], Fact]:
    """Return the fact that cures each part of each topic, drawn."""
    cures = {}
    for topic, (parts, things) in TOPICS.items():
        shuffled = rng.permutation(things).tolist()
        actions = rng.permutation(len(ACTIONS)).tolist()
        for part, action, thing in zip(parts, actions, shuffled, strict=True):
            cures[topic, part] = Fact(action, thing)
    return cures


def _question(make: str, part: str, rng: np.random.Generator) -> str:
    opener = rng.choice(OPENERS)
    symptom = rng.choice(SYMPTOMS)
    closing = rng.choice(CLOSINGS)
    return f"{opener} {part} of my {make} {symptom}. {closing}"


class _Thread(NamedTuple):
    """A question and who answers it."""

    topic: str
    part: str
    make: str
    fact: Fact
    asker: int
    writers: list[int]
    """Users who answer, those who are right first."""
    accepted: int
    """Which of the answers the asker accepts."""


def _drawn_thread(
    circle: Sequence[int],
    answers: int,
    cures: Mapping[tuple[str, str], Fact],
    users: "_Users",
    rng: np.random.Generator,
) -> _Thread:
    """Draw a question by the first of a circle's users, and answers by others."""
    topic = str(rng.choice(list(TOPICS)))
    part = str(rng.choice(TOPICS[topic][0]))
    make = f"{rng.choice(BRANDS)} {rng.integers(*MODEL_NUMBERS)}"
    asker = circle[0]
    experts = [user for user in circle[1:] if topic in users.topics[user]]
    laymen = [user for user in circle[1:] if topic not in users.topics[user]]
    # a circle without enough experts or laymen has others say what they would
    right = (experts + laymen)[:RIGHT_ANSWERS]
    others = [user for user in laymen + experts if user not in right]
    writers = right + others[: answers - RIGHT_ANSWERS]
    accepted = int(np.argmax([users.likeness(asker, user) for user in right]))
    return _Thread(topic, part, make, cures[topic, part], asker, writers, accepted)


def _answers(thread: _Thread, users: "_Users", rng: np.random.Generator) -> list[str]:
    """Return the texts of a thread's answers."""
    texts = []
    for place, user in enumerate(thread.writers):
        is_right = place < RIGHT_ANSWERS
        fact = thread.fact if is_right else _other_fact(thread.fact, rng)
        manner = LEANINGS[str(rng.choice(list(LEANINGS), p=users.leanings[user]))]
        form = str(rng.choice(HUMAN))
        texts.append(_worded(form, fact, thread.make, manner, HUMAN_WORDINGS, rng))
    return texts


def _other_fact(fact: Fact, rng: np.random.Generator) -> Fact:
    """Return a wrong fact of the same topic: another action on another thing."""
    things = next(things for _, things in TOPICS.values() if fact.thing in things)
    other_things = [thing for thing in things if thing != fact.thing]
    thing = str(rng.choice(other_things))
    actions = range(len(ACTIONS))
    other_actions = [action for action in actions if action != fact.action]
    action = int(rng.choice(other_actions))
    return Fact(action, thing)


def _worded(
    form: str, fact: Fact, make: str, manner: str, wordings: slice, rng: np.random.Generator
) -> str:
    """Return a fact in a form of sentence."""
    words = f"{rng.choice(ACTIONS[fact.action][wordings])} the {fact.thing}"
    capital = words[0].upper() + words[1:]
    return form.format(fact=words, Fact=capital, make=make, manner=manner).strip()
