"""Compute what is believed from all that was said: a pure function of the drafts of a group.

New, late, repeated and erased drafts need no rules of their own: the group is computed anew. So the
order in which drafts arrive changes nothing, and a replay gives the same. The latest drafts of a
group count (`counted`), so that computing it anew costs the same however much was said.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tailor.profiles.propositions import (
    DAY_MS,
    EDITED,
    PRIOR,
    Draft,
    Group,
    Proposition,
    Status,
    digest_of,
)

MARGIN = 0.2
"""Between the confidences of a proposition and its opposite, up to which it is disputed."""
MOST_COUNTED = 128
"""Latest drafts of each rank in a group (`Draft.rank`) that count."""


Order = Callable[[str], str]
"""Returns the text by which an observation of one moment is ordered, from its id."""


def believed(drafts: Iterable[Draft], order: Order = str) -> tuple[Proposition, ...]:
    """Return the propositions of one group, the earliest first.

    Explicit drafts set what holds from their time on; a later one closes what held before.
    Inferences support or weaken what holds at their time, and decide only where nothing is
    explicit. What the user rejected comes back by a new explicit draft alone.
    """
    counting, rejected = _without_rejected(_ordered(counted(drafts, order)))
    if counting and counting[0].group.object_key == "":
        propositions = _values(counting)
    else:
        propositions = _stances(counting)
    ids = {(p.object_key, p.polarity, p.valid_from_ms) for p in propositions}
    still_rejected = [p for p in rejected if (p.object_key, p.polarity, p.valid_from_ms) not in ids]
    return tuple(sorted([*propositions, *still_rejected], key=_in_time))


def counted(drafts: Iterable[Draft], order: Order = str) -> list[Draft]:
    """Return the drafts of one group that count: of each rank the latest MOST_COUNTED.

    Ranks are counted apart, so that no number of inferences displaces what the user said.
    """
    by_rank: dict[int, list[Draft]] = {}
    for draft in dict.fromkeys(drafts):
        by_rank.setdefault(draft.rank, []).append(draft)

    def key(draft: Draft) -> tuple[int, str, str]:
        return draft.occurred_ms, order(draft.observation_id), draft.digest

    latest: list[Draft] = []
    for of_rank in by_rank.values():
        if len(of_rank) > MOST_COUNTED:
            of_rank = sorted(of_rank, key=key, reverse=True)[:MOST_COUNTED]
        latest += of_rank
    return latest


def by_group(drafts: Iterable[Draft]) -> dict[Group, list[Draft]]:
    """Return the drafts of each group."""
    groups: dict[Group, list[Draft]] = {}
    for draft in drafts:
        groups.setdefault(draft.group, []).append(draft)
    return groups


def believed_of_all(drafts: Iterable[Draft], order: Order = str) -> tuple[Proposition, ...]:
    """Return the propositions of all groups, the earliest first."""
    propositions = [p for group in by_group(drafts).values() for p in believed(group, order)]
    return tuple(sorted(propositions, key=_in_time))


def changes(
    old: Iterable[Proposition], new: Iterable[Proposition]
) -> tuple[tuple[Proposition, ...], tuple[Proposition, ...]]:
    """Return the propositions to retract and those to add, so that `old` becomes `new`."""
    before = list(old)
    after = list(new)
    retracted = _without(before, set(after))
    return retracted, _without(after, set(before))


def _without(
    propositions: Sequence[Proposition], others: set[Proposition]
) -> tuple[Proposition, ...]:
    return tuple(p for p in propositions if p not in others)


def _in_time(proposition: Proposition) -> tuple[int, str]:
    return proposition.valid_from_ms, proposition.proposition_id


def _ordered(drafts: Iterable[Draft]) -> list[Draft]:
    """Return drafts in order of time; an observation says a thing once."""
    distinct: dict[tuple[object, ...], Draft] = {}
    for draft in drafts:
        key = (draft.observation_id, draft.object_key, draft.sign, draft.act)
        other = distinct.get(key)
        if other is None or _strength(draft) > _strength(other):
            distinct[key] = draft
    return sorted(distinct.values(), key=_time_key)


def _time_key(draft: Draft) -> tuple[int, str]:
    return draft.occurred_ms, draft.digest


def _strength(draft: Draft) -> tuple[float, str]:
    return draft.weight, draft.digest


def _without_rejected(drafts: Sequence[Draft]) -> tuple[list[Draft], list[Proposition]]:
    """Return the drafts that count, and a rejected proposition for each rejected object.

    A rejection takes away all that was said of its object until then, and every inference.
    """
    rejections = {draft.object_key: draft for draft in drafts if draft.act == "reject"}
    counting = []
    refused: dict[str, list[Draft]] = {key: [] for key in rejections}
    for draft in drafts:
        rejection = rejections.get(draft.object_key)
        if draft.act == "reject":
            continue
        if rejection is None or _is_new_word(draft, rejection):
            counting.append(draft)
        else:
            refused[draft.object_key].append(draft)
    propositions = [
        _proposition(
            refused[key] or [rejection],
            [rejection],
            1 if rejection.sign > 0 else -1,
            rejection.occurred_ms,
            "rejected",
        )
        for key, rejection in rejections.items()
    ]
    return counting, propositions


def _is_new_word(draft: Draft, rejection: Draft) -> bool:
    """Return whether the user said it again after rejecting it."""
    return draft.is_explicit and draft.occurred_ms > rejection.occurred_ms


@dataclass
class _Version:
    """A value or a stance, and the drafts that concern it while it holds."""

    object_key: str
    polarity: Literal[1, -1]
    start_ms: int
    end_ms: int | None = None
    support: list[Draft] = field(default_factory=list)
    against: list[Draft] = field(default_factory=list)
    is_contested: bool = False
    """Another value was said at the same time, with more weight or by chance."""

    @property
    def is_confirmed(self) -> bool:
        return any(draft.act == "confirm" for draft in self.support)

    def last_explicit_ms(self) -> int:
        """Return when it was last said explicitly."""
        times = [draft.occurred_ms for draft in self.support if draft.is_explicit]
        return max(times, default=self.start_ms)

    def holds_at(self, at_ms: int) -> bool:
        return self.start_ms <= at_ms and (self.end_ms is None or at_ms < self.end_ms)

    def proposition(self) -> Proposition:
        """Return what is believed of it."""
        against = self.against
        if self.is_confirmed:  # no inference weakens the user's own word
            against = [draft for draft in against if draft.is_explicit]
        weight = sum(draft.weight for draft in self.support)
        contrary = sum(draft.weight for draft in against)
        confidence = (PRIOR + weight) / (2 * PRIOR + weight + contrary)
        status: Status = "active"
        if self.is_contested or (contrary > 0 and 2 * confidence - 1 <= MARGIN):
            status = "disputed"
        elif self.end_ms is not None:
            status = "superseded"
        elif self.is_confirmed:
            status = "confirmed"
        return _proposition(
            self.support, against, self.polarity, self.end_ms, status, self.start_ms
        )


def _proposition(
    support: Sequence[Draft],
    against: Sequence[Draft],
    polarity: Literal[1, -1],
    end_ms: int | None,
    status: Status,
    start_ms: int | None = None,
) -> Proposition:
    named = max(support, key=_strength)
    times = [draft.occurred_ms for draft in support]
    return Proposition(
        slot=named.slot,
        predicate=named.predicate,
        object=named.object,
        object_key=named.object_key,
        polarity=polarity,
        scope=named.scope,
        alpha=round(PRIOR + sum(draft.weight for draft in support), 9),
        beta=round(PRIOR + sum(draft.weight for draft in against), 9),
        valid_from_ms=min(times) if start_ms is None else start_ms,
        valid_to_ms=end_ms,
        last_support_ms=max(times),
        status=status,
        sensitivity=max(draft.sensitivity for draft in [*support, *against]),
        support=_observations(support),
        against=_observations(against),
    )


def _observations(drafts: Sequence[Draft]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(draft.observation_id for draft in sorted(drafts, key=_time_key)))


# --- one object, liked or not


def _stances(drafts: Sequence[Draft]) -> list[Proposition]:
    """Return the stances to one object over time."""
    if not drafts:
        return []
    explicit = [draft for draft in drafts if draft.is_explicit]
    if not explicit:
        weight = sum(draft.sign * draft.weight for draft in drafts)
        polarity: Literal[1, -1] = 1 if weight >= 0 else -1
        agreeing = [draft for draft in drafts if draft.sign == polarity]
        version = _Version(drafts[0].object_key, polarity, agreeing[0].occurred_ms)
        _share_out(drafts, [version])
        return [version.proposition()]
    versions = _stance_versions(explicit)
    first = versions[0]
    earlier = [d.occurred_ms for d in drafts if d.sign == first.polarity]
    first.start_ms = min(first.start_ms, *earlier)
    _share_out(drafts, versions)
    return [version.proposition() for version in versions if version.support]


def _stance_versions(explicit: Sequence[Draft]) -> list[_Version]:
    """Return the stances that explicit drafts take.

    The opposite said later than a day after is a change of mind; within a day it contradicts.
    """
    versions: list[_Version] = []
    last_ms = 0
    for draft in explicit:
        is_change = not versions or (
            draft.sign != versions[-1].polarity
            and (draft.occurred_ms - last_ms > DAY_MS or draft.act == "confirm")
        )
        if is_change:
            if versions:
                versions[-1].end_ms = draft.occurred_ms
            versions.append(_Version(draft.object_key, draft.sign, draft.occurred_ms))
        if draft.sign == versions[-1].polarity:
            last_ms = draft.occurred_ms
    return versions


def _share_out(drafts: Sequence[Draft], versions: Sequence[_Version]) -> None:
    """Add every draft to the version that holds at its time; earlier ones to the first.

    Each version begins where the one before it ends.
    """
    starts = [version.start_ms for version in versions]
    for draft in drafts:
        version = versions[max(bisect_right(starts, draft.occurred_ms) - 1, 0)]
        side = version.support if draft.sign == version.polarity else version.against
        side.append(draft)


# --- one value at a time


def _values(drafts: Sequence[Draft]) -> list[Proposition]:
    """Return the values of a predicate over time."""
    explicit = [draft for draft in drafts if draft.is_explicit]
    versions = _value_versions(explicit) if explicit else _likeliest(drafts)
    versions_by_object: dict[str, list[_Version]] = {}
    for version in versions:
        versions_by_object.setdefault(version.object_key, []).append(version)
    drafts_by_object: dict[str, list[Draft]] = {}
    for draft in drafts:
        drafts_by_object.setdefault(draft.object_key, []).append(draft)
    for object_key, of_object in versions_by_object.items():
        _share_out_of_object(drafts_by_object[object_key], of_object)
    return [version.proposition() for version in versions if version.support]


def _share_out_of_object(drafts: Sequence[Draft], versions: Sequence[_Version]) -> None:
    """Add drafts of one object to its version of their time, else to its first contested one."""
    held = [version for version in versions if not version.is_contested]
    contested = [version for version in versions if version.is_contested]
    starts = [version.start_ms for version in held]
    for draft in drafts:
        place = bisect_right(starts, draft.occurred_ms) - 1
        is_held = place >= 0 and held[place].holds_at(draft.occurred_ms)
        version = held[place] if is_held else next(iter(contested), None)
        if version is not None:
            side = version.support if draft.sign > 0 else version.against
            side.append(draft)


def _value_versions(explicit: Sequence[Draft]) -> list[_Version]:
    """Return the values that explicit drafts set; a denial ends a value.

    Of values that were said at the same time the one with the most weight counts.
    """
    versions: list[_Version] = []
    contested: list[_Version] = []
    by_time: dict[int, list[Draft]] = {}
    for draft in explicit:
        by_time.setdefault(draft.occurred_ms, []).append(draft)
    for time_ms, drafts in sorted(by_time.items()):
        current = versions[-1] if versions and versions[-1].end_ms is None else None
        denied = {draft.object_key for draft in drafts if draft.sign < 0}
        weights = _weights([draft for draft in drafts if draft.sign > 0])
        if current is not None and current.object_key in denied - set(weights):
            current.end_ms = time_ms
            current = None
        if not weights:
            continue
        best = max(weights, key=lambda key: (weights[key], digest_of(key)))
        contested += [
            _Version(key, 1, time_ms, time_ms, is_contested=True)
            for key in sorted(weights)
            if key != best
        ]
        if current is None or current.object_key != best:
            if current is not None:
                current.end_ms = time_ms
            versions.append(_Version(best, 1, time_ms))
    return [*versions, *contested]


def _weights(drafts: Sequence[Draft]) -> dict[str, float]:
    """Return the sum of weights of each object; the user's own confirmation beats all."""
    weights: dict[str, float] = {}
    for draft in drafts:
        weight = draft.weight + (EDITED if draft.act == "confirm" else 0)
        weights[draft.object_key] = weights.get(draft.object_key, 0.0) + weight
    return weights


def _likeliest(drafts: Sequence[Draft]) -> list[_Version]:
    """Return the value that inferences support most, of equals the latest."""
    weights: dict[str, float] = {}
    latest: dict[str, int] = {}
    first: dict[str, int] = {}
    for draft in drafts:
        weights[draft.object_key] = weights.get(draft.object_key, 0.0) + draft.sign * draft.weight
        latest[draft.object_key] = draft.occurred_ms
        first.setdefault(draft.object_key, draft.occurred_ms)
    best = max(weights, key=lambda key: (round(weights[key], 9), latest[key], digest_of(key)))
    return [_Version(best, 1, first[best])] if weights[best] > 0 else []
