"""Make people's lives as they tell them in chats, and keep the truth of what holds when.

Tables are LoCoMo's (turns, items, requests, judgements), so what reads long dialogues reads these;
events of what people chose come beside.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset
from tailor.errors import DataError
from tailor.worlds import life_words
from tailor.worlds.seeds import START_MS, opaque_ids, random_of

DAY_MS = 86_400_000
MINUTE_MS = 60_000
OPTIONS = 4


@dataclass(frozen=True)
class PlantedFact:
    """Something that holds of a person for a time."""

    user_id: str
    predicate: str
    object: str
    sign: int = 1
    """-1: the person dislikes it."""
    scope: str = ""
    """When it holds, such as "at work"; "": always."""
    from_day: int = 0
    """Day from which it holds."""
    to_day: int | None = None
    """Day on which another took its place; None: it holds to the end."""
    kind: str = "stable"
    """stable, changed (was or will be another), scoped, contradicted (both said within a day)."""


@dataclass(frozen=True, eq=False)
class Truth:
    """Facts about people, and what must not be concluded."""

    facts: tuple[PlantedFact, ...]
    """Of all people, in order of time."""
    others: tuple[PlantedFact, ...]
    """Said of other people, by the person who spoke of them."""
    secrets: tuple[PlantedFact, ...]
    """Said with the request not to remember."""
    questions: pl.DataFrame
    """request_id, user_id, predicate, kind, answer, outdated (list), options (list), time_ms."""


@dataclass(frozen=True, eq=False)
class Lives:
    """Chats and events of people, and the truth, which no method may see."""

    data: Dataset
    truth: Truth

    def facts_of(self, user_id: str) -> list[PlantedFact]:
        """Return what holds of one person, in order of time."""
        return [fact for fact in self.truth.facts if fact.user_id == user_id]


@dataclass(frozen=True)
class _Mention:
    """A sentence that a person says on a day, and the fact in it, if any."""

    day: int
    text: str
    fact: PlantedFact | None = None


def lives(
    people: int = 50,
    days: int = 360,
    seed: int = 0,
    *,
    facts: int = 9,
    changes: float = 0.6,
    contradictions: float = 0.3,
    scopes: float = 0.3,
    others: float = 0.5,
    secrets: float = 0.3,
    implicit: float = 0.0,
    small_talk: int = 20,
    wordings: Literal["all", "first", "last"] = "all",
) -> Lives:
    """Make people who tell an assistant about their lives for some days.

    Settings, each with what it plants; 0 leaves it out:
    - facts: facts of a person, up to 20; five have one value at a time (city, firm, job, diet,
      car).
    - changes: share of facts that change once, or of likes that turn into aversions.
    - contradictions: people who like and hate the same within an hour.
    - scopes: people who like something at one time and dislike it at another.
    - others: for each fact, chance that somebody else's is told too, of another value.
    - secrets: people who say one thing with the request not to remember it.
    - implicit: share of mentions in wordings that no pattern of plain sentences knows.
    - small_talk: sentences of a person that say nothing of her.
    - wordings: all of each list, all but the last, or the last alone, so that what learned from the
      ones can be judged on the others.

    A fact is told one to three times, in different words, while it holds. The same arguments give
    the same lives. Raises DataError for settings out of range.
    """
    shares = (changes, contradictions, scopes, others, secrets, implicit)
    is_sized = min(people, days - 30, facts) >= 1 and facts <= 20 and small_talk >= 0
    if not is_sized or not all(0 <= share <= 1 for share in shares):
        raise DataError(
            f"people {people}, days {days}, facts {facts}, small_talk {small_talk}, shares"
            f" {shares}: people from 1, facts from 1 to 20, days above 30, shares from 0 to 1"
        )
    if wordings not in ("all", "first", "last"):
        raise DataError(f'wordings is "{wordings}": all, first or last')
    user_ids = opaque_ids("u-", people, seed).to_list()
    tellers = [
        _Teller(user_id, days, implicit, wordings, random_of(seed, f"life {user_id}"))
        for user_id in user_ids
    ]
    for teller in tellers:
        teller.plan(facts, changes, contradictions, scopes)
        teller.add_others(others)
        teller.add_secrets(secrets)
        teller.add_small_talk(small_talk)
    questions = [row for teller in tellers for row in teller.questions()]
    truth = Truth(
        tuple(fact for teller in tellers for fact in teller.facts),
        tuple(fact for teller in tellers for fact in teller.others),
        tuple(fact for teller in tellers for fact in teller.secrets),
        pl.DataFrame(questions),
    )
    return Lives(Dataset(_tables(tellers, truth), "lives"), truth)


class _Teller:
    """Plans a life, and what its owner says of it on which day."""

    def __init__(
        self,
        user_id: str,
        days: int,
        implicit: float,
        wordings: Literal["all", "first", "last"],
        rng: np.random.Generator,
    ) -> None:
        self.user_id, self.days, self.implicit, self.rng = user_id, days, implicit, rng
        self.wordings = wordings
        self.facts: list[PlantedFact] = []
        self.others: list[PlantedFact] = []
        self.secrets: list[PlantedFact] = []
        self.mentions: list[_Mention] = []
        self.used: dict[str, set[str]] = {}

    def plan(self, facts: int, changes: float, contradictions: float, scopes: float) -> None:
        """Plan the facts of the life and what is said of them."""
        single = list(life_words.ONE_VALUE)
        several = ("likes", "likes", "wants to", "is allergic to")
        predicates = [*single, *(several[i % len(several)] for i in range(max(facts - 5, 0)))]
        for predicate in predicates[:facts]:
            is_changing = self.rng.random() < changes
            if predicate in ("wants to", "is allergic to"):
                is_changing = False
            self._plan_fact(predicate, is_changing)
        if self.rng.random() < contradictions:
            self._contradict()
        if self.rng.random() < scopes:
            self._scope()

    def _value(self, predicate: str) -> str:
        """Return a value that the person has not used, not even for others."""
        used = self.used.setdefault(predicate, set())
        values = [value for value in life_words.VALUES[predicate] if value not in used]
        value = str(self.rng.choice(values))
        used.add(value)
        return value

    def _plan_fact(self, predicate: str, is_changing: bool) -> None:
        start = int(self.rng.integers(self.days // 4))
        kind = "changed" if is_changing else "stable"
        fact = PlantedFact(
            self.user_id, predicate, self._value(predicate), 1, "", start, None, kind
        )
        if not is_changing:
            self._tell(fact)
            return
        turn = int(self.rng.integers(self.days // 2, self.days - 20))
        self._tell(replace(fact, to_day=turn))
        if predicate == "likes":
            self._tell(replace(fact, sign=-1, from_day=turn))
        else:
            self._tell(replace(fact, object=self._value(predicate), from_day=turn))

    def _tell(self, fact: PlantedFact) -> None:
        """Add a fact, and one to three mentions of it while it holds, the first at once."""
        self.facts.append(fact)
        end = self.days if fact.to_day is None else fact.to_day
        later = self.rng.integers(fact.from_day + 2, max(end - 2, fact.from_day + 3), 2)
        count = int(self.rng.integers(0, 3))
        days = [fact.from_day, *np.minimum(np.unique(later[:count]), end - 2).tolist()]
        order = self.rng.permutation(3)
        for position, day in enumerate(days):
            is_implicit = self.rng.random() < self.implicit
            words = life_words.FREE if is_implicit else life_words.PLAIN
            wordings = self._used(words["dislikes" if fact.sign < 0 else fact.predicate])
            text = wordings[order[position] % len(wordings)].format(fact.object)
            self.mentions.append(_Mention(max(day, fact.from_day), _scoped(text, fact.scope), fact))

    def _used(self, wordings: Sequence[str], last: int = 1) -> Sequence[str]:
        """Return the wordings that the person uses; the `last` ones are those held out."""
        if self.wordings == "all" or len(wordings) == 1:
            return wordings
        return wordings[-last:] if self.wordings == "last" else wordings[:-last]

    def _contradict(self) -> None:
        """Say within one day that something is liked and hated."""
        day = int(self.rng.integers(5, self.days - 5))
        liked = PlantedFact(
            self.user_id, "likes", self._value("likes"), 1, "", day, None, "contradicted"
        )
        for fact, key in ((liked, "likes"), (replace(liked, sign=-1), "dislikes")):
            self.facts.append(fact)
            text = self._used(life_words.PLAIN[key])[0].format(fact.object)
            self.mentions.append(_Mention(day, text, fact))

    def _scope(self) -> None:
        """Like something at one time and dislike it at another, months apart."""
        first, second = self.rng.choice(life_words.SCOPES, 2, replace=False).tolist()
        day = int(self.rng.integers(self.days // 4))
        liked = PlantedFact(
            self.user_id, "likes", self._value("likes"), 1, first, day, None, "scoped"
        )
        for fact in (liked, replace(liked, sign=-1, scope=second, from_day=day + self.days // 2)):
            self.facts.append(fact)
            key = "likes" if fact.sign > 0 else "dislikes"
            text = self._used(life_words.PLAIN[key])[0].format(fact.object)
            self.mentions.append(_Mention(fact.from_day, _scoped(text, fact.scope), fact))

    def add_others(self, share: float) -> None:
        """Tell other people's facts, of values that are not the person's own."""
        for fact in list(self.facts):
            if fact.kind == "contradicted" or self.rng.random() >= share:
                continue
            other = replace(
                fact, object=self._value(fact.predicate), sign=1, scope="", kind="other"
            )
            wordings = self._used(life_words.OF_OTHERS[fact.predicate])
            who = str(self.rng.choice(life_words.OTHERS))
            text = str(self.rng.choice(wordings)).format(other.object, who)
            self.others.append(other)
            self.mentions.append(_Mention(int(self.rng.integers(self.days)), text))

    def add_secrets(self, share: float) -> None:
        """Say one thing with the request not to remember it."""
        if self.rng.random() >= share:
            return
        day = int(self.rng.integers(self.days))
        secret = PlantedFact(
            self.user_id, "likes", self._value("likes"), 1, "", day, None, "secret"
        )
        words = self._used(life_words.PLAIN["likes"])[0].format(secret.object)
        text = str(self.rng.choice(life_words.SECRET)).format(words)
        self.secrets.append(secret)
        self.mentions.append(_Mention(day, text))

    def add_small_talk(self, count: int) -> None:
        """Say sentences that hold nothing of the person."""
        sentences = self._used(life_words.SMALL_TALK, len(life_words.SMALL_TALK) // 2)
        for text in self.rng.choice(sentences, count).tolist():
            self.mentions.append(_Mention(int(self.rng.integers(self.days)), text))

    def questions(self) -> Iterable[dict[str, object]]:
        """Yield a question for each fact that holds at the end, with four options."""
        holding = [f for f in self.facts if f.to_day is None and f.sign > 0 and not f.scope]
        plain = [f for f in holding if f.kind != "contradicted"]
        for number, fact in enumerate(plain):
            before = [
                f.object
                for f in self.facts
                if f.predicate == fact.predicate and f.to_day is not None and f.sign > 0
            ]
            objects = {f.object for f in self.facts if f.predicate == fact.predicate and f.sign > 0}
            of_others = [f.object for f in self.others if f.predicate == fact.predicate]
            values = [v for v in life_words.VALUES[fact.predicate] if v not in objects]
            strangers = self.rng.permutation([v for v in values if v not in of_others]).tolist()
            wrong = list(dict.fromkeys([*before, *of_others[:1], *strangers]))[: OPTIONS - 1]
            options = self.rng.permutation([fact.object, *wrong]).tolist()
            yield {
                "request_id": f"{self.user_id}:q{number}",
                "user_id": self.user_id,
                "predicate": fact.predicate,
                "kind": fact.kind,
                "text": life_words.QUESTIONS[fact.predicate],
                "answer": fact.object,
                "outdated": before if fact.predicate in life_words.ONE_VALUE else [],
                "options": options,
                "has_distractor": bool(of_others),
                "time_ms": START_MS + self.days * DAY_MS,
            }


def _scoped(text: str, scope: str) -> str:
    return f"{text.rstrip('.')} {scope}." if scope else text


def _tables(tellers: list[_Teller], truth: Truth) -> dict[str, pl.DataFrame]:
    """Return LoCoMo's tables and events of what people chose."""
    turns, judged = [], []
    for teller in tellers:
        for row, fact in _turns(teller):
            turns.append(row)
            if fact is not None:
                judged.append((teller.user_id, fact, f"{row['dialogue_id']}:{row['turn']}"))
    table = pl.DataFrame(turns)
    items = table.select(
        pl.format("{}:{}", "dialogue_id", "turn").alias("item_id"),
        pl.format("{}: {}", "speaker", "text").alias("text"),
        pl.col("time_ms").alias("created_ms"),
    )
    requests = truth.questions.select(
        "request_id",
        "text",
        "answer",
        "options",
        pl.col("kind").alias("category"),
        "time_ms",
        context="user_id",
    )
    key = {
        (row["user_id"], row["predicate"], row["answer"]): row["request_id"]
        for row in truth.questions.iter_rows(named=True)
    }
    judgements = [
        {"query_id": key[user_id, fact.predicate, fact.object], "item_id": item_id, "grade": 1}
        for user_id, fact, item_id in judged
        if fact.to_day is None and (user_id, fact.predicate, fact.object) in key
    ]
    things = pl.DataFrame(
        {"item_id": list(life_words.VALUES["likes"]), "text": list(life_words.VALUES["likes"])}
    ).with_columns(created_ms=pl.lit(None, pl.Int64))
    return {
        "events": pl.DataFrame([row for teller in tellers for row in _events(teller)]),
        "items": pl.concat([items, things]),
        "turns": table,
        "requests": requests,
        "judgements": pl.DataFrame(judgements),
    }


def _turns(teller: _Teller) -> Iterable[tuple[dict[str, object], PlantedFact | None]]:
    """Yield the turns of a person's chats in order; each sentence is answered."""
    order = teller.rng.permutation(len(teller.mentions)).tolist()
    mentions = sorted((teller.mentions[i] for i in order), key=lambda mention: mention.day)
    number = 0
    for position, mention in enumerate(mentions):
        same_day = sum(earlier.day == mention.day for earlier in mentions[:position])
        time_ms = START_MS + mention.day * DAY_MS + 2 * same_day * MINUTE_MS
        reply = str(teller.rng.choice(life_words.REPLIES))
        for speaker, text, fact in (
            ("user", mention.text, mention.fact),
            ("assistant", reply, None),
        ):
            row = {
                "dialogue_id": teller.user_id,
                "turn": number,
                "speaker": speaker,
                "text": text,
                "time_ms": time_ms + (MINUTE_MS if speaker == "assistant" else 0),
                "session_id": str(mention.day // 7),
            }
            yield row, fact
            number += 1


def _events(teller: _Teller) -> Iterable[dict[str, object]]:
    """Yield what the person chose: mostly what she likes then, every ten days."""
    for day in range(0, teller.days, 10):
        liked = [
            fact.object
            for fact in teller.facts
            if fact.predicate == "likes"
            and fact.sign > 0
            and fact.from_day <= day
            and (fact.to_day is None or day < fact.to_day)
        ]
        is_liked = bool(liked) and teller.rng.random() < 0.8
        things = liked if is_liked else list(life_words.VALUES["likes"])
        yield {
            "user_id": teller.user_id,
            "item_id": str(teller.rng.choice(things)),
            "time_ms": START_MS + day * DAY_MS,
        }
