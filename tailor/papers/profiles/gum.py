"""GUM: watch what a user does, note guesses with confidence, and revise related guesses."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, Self

import numpy as np

from tailor.core.methods import Paper, Profiler
from tailor.core.run import Run
from tailor.core.specs import clone
from tailor.data.dataset import Dataset
from tailor.data.nouns import Evidence, Fact, Profile, Query
from tailor.data.queries import Queries
from tailor.data.splits import Split
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError
from tailor.metrics.recalibration import Platt, platt
from tailor.ports.base import Encoder, LanguageModel
from tailor.profiles.interaction_profile import InteractionProfile
from tailor.profiles.proposers import (
    TEXT_KINDS,
    LLMProposer,
    LogProposer,
    RatingProposer,
    RuleProposer,
    withdrawn_ids,
)
from tailor.profiles.propositions import INFERRED, STATED, Draft, Observation, Proposition
from tailor.profiles.rendering import shown
from tailor.profiles.revision import believed_of_all
from tailor.text.bm25 import BM25
from tailor.text.cached import plain
from tailor.text.hashing import HashingEncoder

PAPER = Paper(
    "gum",
    "Creating General User Models from Computer Use",
    "https://arxiv.org/abs/2505.10831",
    "Propositions that are compared with their nearest ones and revised give the present value"
    " above an outdated one, in no more rows than there are facts and in any order of arrival;"
    " calibrated confidence says what users like later better than the population's rate",
)
Label = Literal["identical", "similar", "unrelated"]
# What must not be kept, whoever says it: card numbers, passwords, keys.
CREDENTIALS = re.compile(
    r"\b(?:\d[ -]?){13,19}\b|\b(?:password|passcode|pin|api key|secret key)\b\s*(?:is|:|=)", re.I
)
FEW_TRUTHS = 30  # later opinions below which confidence is left as it is
HISTORY_SHARE = 0.8  # of a user's events that propositions are made of, to be calibrated
LATER_EVENTS = 3  # rated events of an attribute that decide whether it was liked


class Comparison(NamedTuple):
    """A draft beside the nearest proposition that was known before."""

    draft: Draft
    label: Label
    nearest: str
    """Object of the nearest proposition; "" where there is none."""


@dataclass(frozen=True)
class Belief:
    """All that is concluded from some observations."""

    propositions: tuple[Proposition, ...] = ()
    """Superseded ones too, the earliest first."""
    drafts: tuple[Draft, ...] = ()
    """What they were computed from, after comparison."""
    comparisons: tuple[Comparison, ...] = ()
    """What each draft was compared with."""
    refused: tuple[str, ...] = ()
    """Observations that the audit refused, by id."""


@dataclass(eq=False)
class GUM(Profiler):
    """Notes what a user's words and deeds suggest, how sure it is, and keeps revising that.

    Observations are audited, read in batches, and made into drafts. Each draft is compared with the
    three nearest propositions: identical ones gain support, similar ones a little, unrelated ones
    are added. What holds is computed from all drafts in order of time (`profiles.revision`), so no
    version is deleted, and late or repeated observations end in the same state. Confidence is
    calibrated by what other users liked later.

    Differs from the paper: patterns and counts propose, a language model is optional; comparison is
    by words and vectors; a merge lends support in place of rewriting a text; no screen is watched,
    and nobody is interrupted with suggestions.
    """

    encoder: Encoder | None = None
    """Encoder that compares propositions; None: by spelling."""
    llm: LanguageModel | None = None
    """Language model that proposes beside the patterns; None: none."""
    batch: int = 20
    """Observations that are read together, from 5 to 50."""
    nearest: int = 3
    """Propositions that a draft is compared with."""
    identical: float = 0.9
    """Cosine from which on two objects are one."""
    similar: float = 0.6
    """Cosine from which on a draft also speaks for, or against, the other."""
    profiler: InteractionProfile = field(default_factory=InteractionProfile)
    """Profiler that knows the items' attributes and what is usual."""
    max_facts: int = 12
    """Facts of a profile, surest first."""
    most_sensitivity: int = 1
    """Highest sensitivity of what a profile shows, from 0 to 3."""

    items_: Vocabulary = field(init=False, repr=False)
    profiler_: InteractionProfile = field(init=False, repr=False)
    """The usual shares, and the attributes of the items."""
    platt_: np.ndarray = field(init=False, repr=False)
    """(2,) slope and shift of the calibration of inferred likes."""

    def __post_init__(self) -> None:
        if not 5 <= self.batch <= 50 or self.nearest < 1:
            raise DataError(
                f"batch is {self.batch}, nearest {self.nearest}: from 5 to 50, and from 1"
            )
        if not 0 < self.similar <= self.identical <= 1:
            raise DataError(
                f"similar is {self.similar}, identical {self.identical}: above 0, in this order, up"
                " to 1"
            )

    # --- learning

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_ = data.catalogue
        self.profiler_ = clone(self.profiler).fit(data, run)
        self.platt_ = np.array([1.0, 0.0])
        confidences, truths = self._later_likes(data)
        is_enough = min(len(truths), FEW_TRUTHS) == FEW_TRUTHS and 0 < truths.mean() < 1
        if is_enough:
            self.platt_ = np.array(platt(truths, confidences))
        self.fit_report_ = {
            "calibrated_on": len(truths) if is_enough else 0,
            "slope_and_shift": np.round(self.platt_, 3).tolist(),
        }

    def _later_likes(self, data: Dataset) -> tuple[np.ndarray, np.ndarray]:
        """Return confidences (n,) of likes from earlier ratings, and whether they came true."""
        pairs = [
            (odds, float(liked))
            for query in data.queries(columns=["values"])
            for odds, liked in self.later_likes(_observations(query))
        ]
        confidences, truths = zip(*pairs, strict=True) if pairs else ((), ())
        return np.array(confidences), np.array(truths)

    def later_likes(self, observations: Sequence[Observation]) -> list[tuple[float, bool]]:
        """Return odds of likes concluded from the first events, and whether they came true.

        They are those at the last of these events (`like_odds`). A like came true where the
        attribute's later ratings are above the user's later mean.
        """
        rated = [o for o in _in_order(observations) if o.value is not None]
        cut = int(HISTORY_SHARE * len(rated))
        drafts = RatingProposer(self.profiler_, self.profiler.attributes).propose(rated[:cut])
        later = self.later_opinions(rated[cut:])
        at_ms = max((o.occurred_ms for o in rated[:cut]), default=0)
        return [
            (like_odds(p, at_ms), later[p.object_key])
            for p in believed_of_all(drafts)
            if p.object_key in later and p.status != "rejected"
        ]

    def later_opinions(self, rated: Sequence[Observation]) -> dict[str, bool]:
        """Return attribute -> whether its ratings are above the mean of all these."""
        if not rated:
            return {}
        mean = float(np.mean([o.value for o in rated]))
        values = {o.observation_id: float(o.value or 0) for o in rated}
        drafts = RatingProposer(self.profiler_, self.profiler.attributes).propose(rated)
        by_object: dict[str, list[float]] = {}
        for draft in drafts:
            by_object.setdefault(draft.object_key, []).append(values[draft.observation_id])
        return {
            key: float(np.mean(ratings)) > mean
            for key, ratings in by_object.items()
            if len(ratings) >= LATER_EVENTS
        }

    # --- believing

    def audit(self, observation: Observation) -> bool:
        """Return whether an observation may be kept: it holds no password, no card number."""
        return CREDENTIALS.search(observation.text) is None

    def believe(self, observations: Sequence[Observation]) -> Belief:
        """Return what is concluded from observations, whatever their order.

        Before `fit` it reads texts alone.
        """
        ordered = _in_order(observations)
        own_words = [o for o in ordered if o.speaker == "user" and o.kind in TEXT_KINDS]
        withdrawn = withdrawn_ids(own_words)
        audited = [o for o in ordered if o.observation_id not in withdrawn and self.audit(o)]
        comparisons: list[Comparison] = []
        believed_groups = _Known(self)
        for draft in self._proposed(audited):
            comparisons.append(believed_groups.compared(draft))
        drafts = [draft for comparison in comparisons for draft in self._revised(comparison)]
        kept_ids = {o.observation_id for o in audited}
        refused = tuple(o.observation_id for o in ordered if o.observation_id not in kept_ids)
        return Belief(believed_of_all(drafts), tuple(drafts), tuple(comparisons), refused)

    def _proposed(self, observations: Sequence[Observation]) -> list[Draft]:
        """Return the drafts of all proposers in order of time."""
        readers: list[RuleProposer | LLMProposer] = [RuleProposer()]
        if self.llm is not None:
            readers.append(LLMProposer(self.llm, lines=self.batch))
        drafts = [
            draft
            for start in range(0, len(observations), self.batch)
            for reader in readers
            for draft in reader.propose(observations[start : start + self.batch])
        ]
        if "profiler_" in self.__dict__:
            has_values = any(o.value is not None for o in observations)
            rating = RatingProposer(self.profiler_, self.profiler.attributes)
            counting = LogProposer(self.profiler_)
            drafts += (rating if has_values else counting).propose(observations)
        return sorted(drafts, key=lambda draft: draft.occurred_ms)

    def _revised(self, comparison: Comparison) -> list[Draft]:
        """Return what a compared draft counts as.

        An identical one supports the known proposition; a similar one its own, and with the weight
        of an inference the known one.
        """
        draft = comparison.draft
        if comparison.label == "identical" and comparison.nearest:
            return [replace(draft, object=comparison.nearest)]
        if comparison.label == "similar" and draft.weight >= STATED:
            return [draft, replace(draft, object=comparison.nearest, weight=INFERRED)]
        return [draft]

    # --- describing

    def _profile(self, queries: Queries) -> list[Profile]:
        return [self._profile_of(queries[i]) for i in range(len(queries))]

    def _profile_of(self, query: Query) -> Profile:
        observations = _observations(query)
        at_ms = max((o.occurred_ms for o in observations), default=0)
        if query.time_ms is not None and query.history.times_ms is not None:
            at_ms = max(at_ms, query.time_ms)
        propositions = self.believe(observations).propositions
        chosen = shown(propositions, at_ms, None, self.most_sensitivity)[: self.max_facts]
        by_id = {o.observation_id: o for o in observations}
        facts = tuple(self._fact(p, by_id, at_ms) for p in chosen)
        has_times = bool(query.history.times_ms) and bool(observations)
        note = f"{self.name}: {len(observations)} observations, nothing is concluded from them"
        return Profile(
            query.user_id,
            "; ".join(fact.text for fact in facts),
            facts,
            {"observations": len(observations)},
            at_ms if has_times else None,
            () if facts else (note,),
        )

    def _fact(self, p: Proposition, by_id: dict[str, Observation], at_ms: int) -> Fact:
        support = [by_id[name] for name in p.support]
        items = Counter(o.item_id for o in support if o.item_id)
        evidence = [Evidence("item", str(name), n / len(support)) for name, n in items.items()]
        evidence += [
            Evidence("text", o.observation_id, 1 / len(support), o.text)
            for o in support
            if not o.item_id
        ]
        evidence.sort(key=lambda evidence_item: -evidence_item.share)
        details = {
            "id": p.proposition_id,
            "slot": p.slot,
            "predicate": p.predicate,
            "object": p.object,
            "polarity": p.polarity,
            "status": p.status,
            "valid_from_ms": p.valid_from_ms,
        }
        return Fact(p.text, tuple(evidence[:5]), round(self.confidence(p, at_ms), 4), details)

    def confidence(self, p: Proposition, at_ms: int) -> float:
        """Return the probability that a proposition holds at a time.

        That of an inferred like is calibrated, and nears the population's rate as support fades.
        """
        is_inferred = (p.alpha - 1) < STATED * len(p.support) and p.predicate == "likes"
        if not is_inferred or "platt_" not in self.__dict__:
            return p.confidence(at_ms)
        liked = float(Platt(*self.platt_)(np.array([like_odds(p, at_ms)]))[0])
        return liked if p.polarity > 0 else 1 - liked

    @classmethod
    def tiny(cls) -> Self:
        return cls()


def like_odds(p: Proposition, at_ms: int) -> float:
    """Return the probability that the object is liked at a time, before it is calibrated."""
    confidence = p.confidence(at_ms)
    return confidence if p.polarity > 0 else 1 - confidence


def _observations(query: Query) -> list[Observation]:
    """Return a user's events, reviews and present words as observations."""
    history = query.history
    n = len(history)
    times = history.times_ms or tuple(range(n))
    values = history.values or (float("nan"),) * n
    texts = history.texts or ("",) * n
    observations = []
    for item_id, time_ms, value, text in zip(history.item_ids, times, values, texts, strict=True):
        rating = None if np.isnan(value) else float(value)
        observations.append(Observation("event", "", time_ms, item_id, rating))
        if text:
            observations.append(Observation("review", text, time_ms, item_id, rating))
    if query.text:
        now = query.time_ms if query.time_ms is not None else max(times, default=0)
        observations.append(Observation("chat", query.text, now))
    return observations


def _in_order(observations: Sequence[Observation]) -> list[Observation]:
    """Return observations by time, of equal times by a hash; repeated ones once."""
    distinct = {o.observation_id: o for o in observations}
    return sorted(distinct.values(), key=lambda o: (o.occurred_ms, o.observation_id))


class _Known:
    """The propositions known so far, to compare drafts with."""

    def __init__(self, gum: GUM) -> None:
        self.gum = gum
        self.encoder = HashingEncoder() if gum.encoder is None else plain(gum.encoder)
        self.groups: set[tuple[str, ...]] = set()
        self.index: dict[tuple[str, str], BM25] = {}
        self.objects: dict[tuple[str, str], list[str]] = {}

    def compared(self, draft: Draft) -> Comparison:
        """Return how a draft relates to the nearest known ones, and remember it."""
        kind = (draft.slot, draft.predicate)
        key = (*kind, draft.object_key)
        if key in self.groups or draft.group.object_key == "":
            self.groups.add(key)
            return Comparison(draft, "identical", "")
        nearest, cosine = self._nearest(draft, kind)
        if cosine >= self.gum.identical:
            return Comparison(draft, "identical", nearest)
        self.groups.add(key)
        self.index.setdefault(kind, BM25(language="english")).add([draft.object])
        self.objects.setdefault(kind, []).append(draft.object)
        if cosine >= self.gum.similar:
            return Comparison(draft, "similar", nearest)
        return Comparison(draft, "unrelated", nearest)

    def _nearest(self, draft: Draft, kind: tuple[str, str]) -> tuple[str, float]:
        """Return the object most like a draft's among the nearest by words, and the cosine."""
        index = self.index.get(kind)
        if index is None:
            return "", 0.0
        rows, _ = index.search([draft.object], self.gum.nearest)
        candidates = [self.objects[kind][row] for row in rows[0].tolist() if row >= 0]
        if not candidates:
            return "", 0.0
        vectors = self.encoder.encode([draft.object, *candidates])
        cosines = vectors[1:] @ vectors[0]
        best = int(cosines.argmax())
        return candidates[best], float(cosines[best])
