"""A memory of users in the store: what was observed, what is believed of it, and why.

Every verb that writes is one transaction, so that nothing is ever half-applied. What is believed
of a group is computed anew from all drafts of it (`profiles.revision`), whatever changed: new
observations, edits, forgetting. So a replay agrees by construction.
"""

import importlib.util
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple, Protocol, TypeVar

import sqlalchemy as sa

from tailor.data.nouns import Profile
from tailor.errors import DataError
from tailor.profiles import rendering
from tailor.profiles.conclusions import (
    Difference,
    draft_of,
    draft_row,
    expire,
    expiry_ms_of,
    first_ms_of,
    forget_observations,
    key_of,
    mend,
    observation_of,
    proposition_of,
    propositions_of,
    recallable,
    revise,
    with_vector,
)
from tailor.profiles.edits import EditProposer, edit, words_of
from tailor.profiles.exports import FORMAT, LAST_MS, MOST_DRAFTS, VERSION, imported, plain, shown
from tailor.profiles.kept_vectors import NAME as VECTOR
from tailor.profiles.kept_vectors import Packed, packed_by_line, unpacked
from tailor.profiles.opened import Opened, OpenedMemories
from tailor.profiles.proposers import AspectProposer, Proposer, RuleProposer
from tailor.profiles.propositions import (
    DAY_MS,
    Act,
    Draft,
    Observation,
    Proposition,
    state_hash,
)
from tailor.profiles.readings import readable_observations, readable_propositions
from tailor.profiles.recall import Recall, Recollection, Remembered
from tailor.profiles.revision import MOST_COUNTED, believed_of_all, changes, counted
from tailor.profiles.sensitivity import (
    ALL,
    MOST_SENSITIVITY,
    as_sensitive_as_words,
    shown_observations,
    shown_propositions,
)
from tailor.profiles.withdrawing import is_wish, store_observations
from tailor.store.engine import now_ms, overwrite_deleted, reading, writing
from tailor.store.memory import (
    MemoryRows,
    MemoryState,
    ObservedRow,
    allowed_times,
    deletions_of,
    known_rows_for_writing,
    note_residue,
    overdue,
    read_forgetting,
    rows_for_writing,
    rows_of,
    version_of,
)
from tailor.text.words import search_words

T = TypeVar("T")
AHEAD_MS = DAY_MS  # by which the clock of a sender may run ahead
AT_ONCE = 500
"""Observations that a transaction stores, so that others who write do not wait for long."""
DRAFTS_AT_ONCE = 1_000
"""Drafts that it stores, unless one observation alone has more."""
FORGOTTEN_AT_ONCE = 100
"""Observations that a transaction forgets, with all that rests on them."""
DELETED_AT_ONCE = 500
"""Rows of a table that a transaction deletes of a memory that is forgotten whole."""


class Write(Protocol):
    """A function that runs a job in a transaction and returns what the job returned."""

    def __call__(self, job: Callable[[sa.Connection], T], /) -> T:
        """Return what the job returned, once its writes are on the disk."""


def standard_proposers() -> tuple[Proposer, ...]:
    """Return the proposers that need no data and no model: rules, and aspects of reviews."""
    has_opinions = importlib.util.find_spec("vaderSentiment") is not None
    return (RuleProposer(), AspectProposer()) if has_opinions else (RuleProposer(),)


class UnknownError(DataError):
    """Raised for a user without a memory, or an id that no row of it has."""


class Observed(NamedTuple):
    """Outcome of observing."""

    new: tuple[str, ...]
    """Ids of those that were stored."""
    repeats: int
    """How many were stored before."""
    refused: int
    """How many were forgotten before, or happened before the person was erased."""
    withdrawn: int
    """How many are not kept, since the user asks not to remember them."""
    paused: bool
    """True: the memory is paused, and nothing was stored."""
    believed: tuple[Proposition, ...]
    """Propositions that are new or changed."""

    def plus(self, other: "Observed") -> "Observed":
        """Return the outcome of both; of what changed twice the last state."""
        latest = {p.proposition_id: p for p in (*self.believed, *other.believed)}
        return Observed(
            self.new + other.new,
            self.repeats + other.repeats,
            self.refused + other.refused,
            self.withdrawn + other.withdrawn,
            self.paused or other.paused,
            tuple(latest.values()),
        )


NOTHING = Observed((), 0, 0, 0, False, ())


class Explanation(NamedTuple):
    """Why a proposition is believed, and since when."""

    proposition: Proposition
    confidence: float
    """As of now."""
    evidence: tuple[Observation, ...]
    """Observations that support it or speak against it, in order of time."""
    proposers: tuple[str, ...]
    """What concluded it, by name and version."""
    history: tuple[tuple[int, int | None], ...]
    """Recorded time and retracted time of each of its versions; None: it is believed now."""


class Replayed(NamedTuple):
    """A memory computed anew from its raw observations."""

    stored_hash: str
    """State hash of what is believed in the store."""
    replayed_hash: str
    """The same of what follows from the observations."""
    difference: Difference
    """From the stored state to the replayed one."""

    @property
    def agrees(self) -> bool:
        """True if both are the same."""
        return self.stored_hash == self.replayed_hash


@dataclass(frozen=True)
class Memory:
    """A tenant's memories of its users, in the store.

    A memory holds raw observations, which never change, and propositions, each of which names the
    observations that it rests on. All readings take `as_of_ms`: what was believed at a recorded
    time; `at_ms` is the time that is asked about. They show nothing past the memory's retention,
    and nothing more sensitive than `most_sensitivity` (`profiles.sensitivity`).
    """

    engine: sa.Engine
    tenant: str = "default"
    """Tenant that the users belong to."""
    proposers: Sequence[Proposer] = field(default_factory=standard_proposers)
    """Read every observation when it arrives, each by itself."""
    log_proposers: Sequence[Proposer] = ()
    """Read all observations of a user together, when `propose` is called."""
    recall_by: Recall = field(default_factory=Recall)
    """Finds what answers a request."""
    clock: Callable[[], int] = now_ms
    """Returns the time in milliseconds since 1970."""
    write: Write | None = None
    """Runs jobs that write; None: in transactions of their own."""
    opened: OpenedMemories = field(default_factory=OpenedMemories)
    """Memories that are ready to be searched."""

    # observing

    def observe(
        self, user_id: str, observations: str | Observation | Sequence[Observation]
    ) -> Observed:
        """Store what was said or done, and what follows from it; what is known counts once.

        A text is a chat message of now. A message that asks not to remember something is not kept;
        where it says nothing itself, the message before it in its session is forgotten, whichever
        of the two arrives first, while the memory is paused too. More than AT_ONCE are several
        transactions. Raises DataError for times that no clock can show.
        """
        sent = self._as_observations(observations)
        self._check_times(sent)
        return self._store_all(user_id, sent, self._drafts_each(sent))

    def _store_all(
        self, user_id: str, sent: Sequence[Observation], drafts: Sequence[Draft]
    ) -> Observed:
        """Store observations with their drafts, in transactions of AT_ONCE and DRAFTS_AT_ONCE."""
        vectors = self._vectors(sent, drafts)
        of_observation: dict[str, list[Draft]] = {}
        for draft in drafts:
            of_observation.setdefault(draft.observation_id, []).append(draft)
        wish_ids = {observation.observation_id for observation in sent if is_wish(observation)}
        counts = {name: len(of_one) for name, of_one in of_observation.items()}
        outcome = NOTHING
        for part in _parts(sent, counts):
            of_part = [
                draft
                for observation_id in dict.fromkeys(o.observation_id for o in part)
                for draft in of_observation.get(observation_id, [])
            ]

            def job(
                connection: sa.Connection, part: Any = part, of_part: Any = of_part
            ) -> Observed:
                return self._store(connection, user_id, part, of_part, vectors, wish_ids)

            outcome = outcome.plus(self._write(job))
        return outcome

    def propose(self, user_id: str) -> Difference:
        """Have all proposers read all observations of a user, and believe what follows.

        Drafts of earlier versions of these proposers go; those of others stay as they are.
        """
        nothing: list[Observation] = []
        observations = self._read(user_id, self._observations, nothing)
        drafts = self._drafts(observations)
        vectors = self._vectors((), drafts)
        ids = {observation.observation_id for observation in observations}
        names = {_base(proposer.name) for proposer in self._all_proposers()}

        def job(connection: sa.Connection) -> Difference:
            rows = self._locked(connection, user_id)
            # of what arrived, was forgotten or withdrawn meanwhile nothing changes
            stored = rows.observations(ids=sorted(ids))
            left = {observation_of(value).observation_id for value in stored}
            old = rows.retract_drafts(
                lambda draft: _base(draft["proposer"]) in names and draft["observation_id"] in ids
            )
            new = [draft for draft in drafts if draft.observation_id in left]
            rows.add_drafts([draft_row(draft) for draft in new])
            groups = {draft.group for draft in [*map(draft_of, old), *new]}
            return revise(rows, groups, vectors)

        return self._write(job)

    def _as_observations(
        self, observations: str | Observation | Sequence[Observation]
    ) -> list[Observation]:
        if isinstance(observations, str):
            return [Observation("chat", observations, self.clock())]
        if isinstance(observations, Observation):
            return [observations]
        return list(observations)

    def _check_times(self, observations: Iterable[Observation]) -> None:
        latest_ms = min(self.clock() + AHEAD_MS, LAST_MS)
        for observation in observations:
            if not 0 <= observation.occurred_ms <= latest_ms:
                raise DataError(
                    f"occurred_ms is {observation.occurred_ms}: milliseconds since 1970, not more"
                    " than a day from now; mend the sender's clock"
                )

    def _all_proposers(self) -> list[Proposer]:
        return [EditProposer(), *self.proposers, *self.log_proposers]

    def _drafts_each(self, observations: Sequence[Observation]) -> list[Draft]:
        """Return what each observation says by itself, edits to the user's own word alone."""
        drafts = EditProposer().propose(observations)
        for observation in _unedited(observations):
            for proposer in self.proposers:
                drafts += proposer.propose([observation])[:MOST_DRAFTS]
        return list(map(as_sensitive_as_words, drafts))

    def _drafts(self, observations: Sequence[Observation]) -> list[Draft]:
        """Return what all proposers conclude from all observations of a user."""
        drafts = self._drafts_each(observations)
        for proposer in self.log_proposers:
            drafts += map(as_sensitive_as_words, proposer.propose(_unedited(observations)))
        return drafts

    def _vectors(
        self, observations: Sequence[Observation], drafts: Sequence[Draft]
    ) -> dict[str, Packed]:
        """Return vectors by line of observations, and of what follows from drafts alone."""
        if self.recall_by.encoder is None:
            return {}
        foreseen = [recallable(p, p.valid_from_ms) for p in believed_of_all(drafts)]
        return packed_by_line(self.recall_by, [*_remembered(observations), *foreseen])

    def _store(
        self,
        connection: sa.Connection,
        user_id: str,
        sent: Sequence[Observation],
        drafts: Sequence[Draft],
        vectors: Mapping[str, Packed],
        wish_ids: Collection[str],
    ) -> Observed:
        allowed = self._allowed(connection, user_id, sent)
        refused = len(sent) - len(allowed)
        if not allowed:
            return NOTHING._replace(refused=refused)
        rows = self._rows_for_writing(connection, user_id)
        # PostgreSQL: an erasure may have come in between; from here on the entry is locked
        allowed = self._allowed(connection, user_id, allowed)
        refused = len(sent) - len(allowed)
        is_paused = rows.state.paused
        if is_paused:  # what is not to be remembered may have been said before
            allowed = [o for o in allowed if o.observation_id in wish_ids]

        def value_of(observation: Observation) -> dict[str, Any]:
            lines = [entry.turn.line() for entry in _remembered([observation])] if vectors else []
            return with_vector(asdict(observation), next(iter(lines), None), vectors)

        stored = store_observations(rows, allowed, value_of, wish_ids)
        new_drafts = [draft for draft in drafts if draft.observation_id in stored.new_ids]
        rows.add_drafts([draft_row(draft) for draft in new_drafts])
        difference = revise(rows, {draft.group for draft in new_drafts}, vectors)
        expire(rows, self.clock())
        ids = dict.fromkeys(observation.observation_id for observation in allowed)
        return Observed(
            tuple(name for name in ids if name in stored.new_ids),
            stored.repeats,
            refused + stored.forgotten,
            stored.withdrawn,
            is_paused,
            difference.added,
        )

    def _allowed(
        self, connection: sa.Connection, user_id: str, observations: Sequence[Observation]
    ) -> list[Observation]:
        """Return the observations that no erasure of the person refuses."""
        times_ms = [observation.occurred_ms for observation in observations]
        allowed = allowed_times(connection, self.tenant, user_id, times_ms)
        return [observation for observation, is_allowed in zip(observations, allowed) if is_allowed]

    # the user's own word

    def confirm(
        self, user_id: str, proposition_id: str, seen_status: str | None = None
    ) -> tuple[Proposition, ...]:
        """Note that the user says a proposition is right; return what is believed of it now.

        With `seen_status` DataError is raised where the proposition has another status by now.
        """
        return self._edit(user_id, proposition_id, [("confirm", "")], seen_status)

    def reject(
        self, user_id: str, proposition_id: str, seen_status: str | None = None
    ) -> tuple[Proposition, ...]:
        """Note that the user says a proposition is wrong; the rest is as in `confirm`."""
        return self._edit(user_id, proposition_id, [("reject", "")], seen_status)

    def correct(
        self, user_id: str, proposition_id: str, value: str, seen_status: str | None = None
    ) -> tuple[Proposition, ...]:
        """Put the user's own value in place of a proposition's object.

        Raises DataError for an empty value, and as `confirm` does.
        """
        if not value.strip():
            raise DataError("value is empty: give what is right, or reject the proposition")
        acts: list[tuple[Act, str]] = [("reject", ""), ("confirm", value)]
        return self._edit(user_id, proposition_id, acts, seen_status)

    def _edit(
        self,
        user_id: str,
        proposition_id: str,
        acts: Sequence[tuple[Act, str]],
        seen_status: str | None,
    ) -> tuple[Proposition, ...]:
        def job(connection: sa.Connection) -> tuple[Proposition, ...]:
            rows = self._locked(connection, user_id)
            expire(rows, self.clock())
            proposition = _current(rows, proposition_id)
            _check_status(proposition, seen_status)
            edits = [edit(proposition, act, self.clock(), value) for act, value in acts]
            drafts = EditProposer().propose(edits)
            is_same = len({draft.object_key for draft in drafts}) < len(drafts)
            if is_same:  # other words for the same: only they change
                edits = edits[-1:]
                drafts = drafts[-1:]
            rows.add_observations([ObservedRow(o.observation_id, asdict(o)) for o in edits])
            rows.add_drafts([draft_row(draft) for draft in drafts])
            groups = {draft.group for draft in drafts}
            revise(rows, groups)
            keys = [key_of(group) for group in groups]
            return propositions_of(rows.propositions_of(keys))

        return self._write(job)

    # settings

    def pause(self, user_id: str) -> MemoryState:
        """Observe nothing new of a user until `resume`; what is known stays."""
        return self.configure(user_id, paused=True)

    def resume(self, user_id: str) -> MemoryState:
        """Observe again."""
        return self.configure(user_id, paused=False)

    def retain(self, user_id: str, days: float | None) -> MemoryState:
        """Keep observations of a user for so many days after they happened; None: for ever.

        Raises DataError for a number that is not above 0.
        """
        return self.configure(user_id, retention_days=days)

    def state(self, user_id: str) -> MemoryState:
        """Return the settings of a user's memory; those of a new one where there is none."""
        return self._read(user_id, lambda rows: rows.state, MemoryState(False, None, 0, 0, 0))

    def configure(self, user_id: str, **settings: bool | float | None) -> MemoryState:
        """Write `paused` and `retention_days`, or one of them; return the settings.

        Observations past a new retention leave readings at once, and the store with the next
        writes and `expire`.
        """
        days = settings.get("retention_days")
        if days is not None and not 0 < days < LAST_MS / DAY_MS:
            raise DataError(f"days is {days}: a number above 0, or None for ever")

        def job(connection: sa.Connection) -> MemoryState:
            rows = self._rows_for_writing(connection, user_id)
            rows.change_settings(**settings)
            state = rows.state._replace(**settings)  # type: ignore[arg-type]
            expire(replace(rows, state=state), self.clock())
            return state

        return self._write(job)

    # reading

    def recall(
        self,
        user_id: str,
        request: str,
        k: int = 10,
        budget_tokens: int | None = None,
        scope: str = "",
        at_ms: int | None = None,
        as_of_ms: int | None = None,
        most_sensitivity: int = MOST_SENSITIVITY,
    ) -> Recollection:
        """Return what of a user's memory answers a request, with observations by their ids.

        `at_ms`: as of a time in the user's life; `as_of_ms`: as the memory was at that time. What
        is more sensitive than `most_sensitivity` counts as not there.
        """
        if at_ms is not None or as_of_ms is not None:
            opened = self._open(user_id, most_sensitivity, at_ms, as_of_ms)
        else:
            opened = self._ready(user_id, most_sensitivity)
        return opened.memory.search(request, at_ms, k, budget_tokens, scope)

    def believed(
        self,
        user_id: str,
        at_ms: int | None = None,
        as_of_ms: int | None = None,
        most_sensitivity: int = MOST_SENSITIVITY,
    ) -> tuple[Proposition, ...]:
        """Return the propositions that hold at a time, the surest first; None: now."""
        time_ms = self.clock() if at_ms is None else at_ms
        propositions = self.timeline(user_id, as_of_ms, most_sensitivity)
        holding = [p for p in propositions if p.holds_at(time_ms)]
        return tuple(sorted(holding, key=lambda p: (-p.confidence(time_ms), p.proposition_id)))

    def profile(
        self,
        user_id: str,
        at_ms: int | None = None,
        as_of_ms: int | None = None,
        tokens: int | None = None,
        most_sensitivity: int = MOST_SENSITIVITY,
    ) -> Profile:
        """Return what holds at a time as a profile: a text within `tokens`, facts, evidence."""
        time_ms = self.clock() if at_ms is None else at_ms
        propositions = self.timeline(user_id, as_of_ms, most_sensitivity)
        return rendering.profile(user_id, propositions, time_ms, tokens, most_sensitivity)

    def timeline(
        self,
        user_id: str,
        as_of_ms: int | None = None,
        most_sensitivity: int = MOST_SENSITIVITY,
    ) -> tuple[Proposition, ...]:
        """Return all propositions, those that are over or disputed too, the earliest first."""

        def job(rows: MemoryRows) -> list[Proposition]:
            propositions = propositions_of(readable_propositions(rows, self.clock(), as_of_ms))
            current = [] if as_of_ms is None else propositions_of(rows.current())
            return shown_propositions(propositions, most_sensitivity, current)

        return tuple(shown_propositions(self._read(user_id, job, []), most_sensitivity))

    def explain(
        self, user_id: str, proposition_id: str, most_sensitivity: int = MOST_SENSITIVITY
    ) -> Explanation:
        """Return what a proposition rests on.

        Raises DataError for an unknown one, and for one that is more sensitive than shown.
        """

        def job(rows: MemoryRows) -> Explanation | None:
            return self._explanation(rows, proposition_id, most_sensitivity)

        explanation = self._read(user_id, job, None)
        if explanation is None:
            raise _unknown(proposition_id)
        return explanation

    def _explanation(
        self, rows: MemoryRows, proposition_id: str, most_sensitivity: int
    ) -> Explanation | None:
        """Return why a proposition is believed, None where it may not be shown."""
        versions = rows.versions_of(proposition_id)
        proposition = _readable_version(rows, proposition_id, self.clock())
        if proposition is None:
            return None
        ids = [*proposition.support, *proposition.against]
        drafts = [draft_of(value) for value in rows.drafts_from(ids)]
        keys = {key_of(group) for group in (proposition.group, *(draft.group for draft in drafts))}
        current = propositions_of(rows.propositions_of(sorted(keys)))
        if not shown_propositions([proposition], most_sensitivity, current):
            return None
        stored = [observation_of(value) for value in rows.observations(ids=ids)]
        evidence = shown_observations(stored, current, drafts, most_sensitivity)
        names = {draft.proposer for draft in drafts if draft.group == proposition.group}
        return Explanation(
            proposition,
            proposition.confidence(self.clock()),
            tuple(sorted(evidence, key=lambda observation: observation.occurred_ms)),
            tuple(sorted(names)),
            tuple((recorded_ms, retracted_ms) for recorded_ms, retracted_ms, _ in versions),
        )

    def diff(
        self,
        user_id: str,
        since_ms: int,
        until_ms: int | None = None,
        most_sensitivity: int = MOST_SENSITIVITY,
    ) -> Difference:
        """Return what a memory came to believe, and ceased to, between two recorded times."""
        before = self.timeline(user_id, since_ms, most_sensitivity)
        after = self.timeline(user_id, until_ms, most_sensitivity)
        return Difference(*changes(before, after))

    def replay(self, user_id: str) -> Replayed:
        """Compute all that is believed anew from raw observations, and compare; writes nothing.

        Drafts of proposers that this memory does not have, or that answer differently each time,
        such as language models, are taken as they are stored.
        """
        observations, stored, current, order = self._read(user_id, self._all_of, EMPTY)
        repeatable = replace(
            self,
            proposers=list(filter(_is_repeatable, self.proposers)),
            log_proposers=list(filter(_is_repeatable, self.log_proposers)),
        )
        names = {_base(proposer.name) for proposer in repeatable._all_proposers()}
        drafts = [draft for draft in stored if _base(draft.proposer) not in names]
        drafts += repeatable._drafts(observations)
        replayed = believed_of_all(drafts, order)
        return Replayed(
            state_hash(current), state_hash(replayed), Difference(*changes(current, replayed))
        )

    # leaving

    def forget(
        self, user_id: str, id: str | None = None, query: str | None = None, all: bool = False
    ) -> dict[str, Any]:
        """Delete observations and all that rests on them alone; return a signed receipt.

        `id` is an observation's or a proposition's; `query` finds the observations that have all
        its words; `all` leaves the settings only. What rests on others too is believed from them.
        What was forgotten stays away when it is sent again or restored. The receipt has rows by
        table, and residues: rows that still hold five words in a row of what was forgotten. Much
        is forgotten in several transactions: broken off between two of them, ask again. Raises
        DataError unless exactly one of the three is given.
        """
        if (id is not None) + (query is not None) + bool(all) != 1:
            raise DataError("forget takes one of id, query and all")

        def texts_and_ids(rows: MemoryRows) -> tuple[list[str], list[str]]:
            if all:
                return [words_of(observation_of(value)) for value in rows.observations()], []
            return [], _ids_of(rows, id) if id is not None else _ids_with(rows, query or "")

        self.opened.forget(self.tenant, user_id)
        nothing: tuple[list[str], list[str]] = ([], [])
        texts, ids = self._read(user_id, texts_and_ids, nothing)
        forgotten = self._forget_all(user_id) if all else self._forget_each(user_id, ids)
        self.opened.forget(self.tenant, user_id)
        texts = [*texts, *forgotten.texts]
        receipt = self._look_for_residue(user_id, forgotten.receipt_id, texts)
        if self.write is None:
            overwrite_deleted(self.engine)
            return self.receipt(forgotten.receipt_id) or receipt
        return receipt

    def _forget_each(self, user_id: str, ids: Sequence[str]) -> "_Forgotten":
        """Forget observations, in transactions of FORGOTTEN_AT_ONCE."""
        outcome = _Forgotten({}, (), "")
        last = range(0, max(len(ids), 1), FORGOTTEN_AT_ONCE)[-1]
        for start in range(0, last + 1, FORGOTTEN_AT_ONCE):
            part = ids[start : start + FORGOTTEN_AT_ONCE]

            def job(
                connection: sa.Connection,
                before: "_Forgotten" = outcome,
                part: Sequence[str] = part,
                is_last: bool = start == last,
            ) -> "_Forgotten":
                rows = self._locked(connection, user_id)
                return before.plus(rows, *forget_observations(rows, part), is_last)

            outcome = self._write(job)
        return outcome

    def _forget_all(self, user_id: str) -> "_Forgotten":
        """Delete all rows but the settings, in transactions of DELETED_AT_ONCE of each table."""
        outcome = _Forgotten({}, (), "")
        while not outcome.receipt_id:

            def job(connection: sa.Connection, before: "_Forgotten" = outcome) -> "_Forgotten":
                rows = self._locked(connection, user_id, is_mended=False)
                counts, is_over = rows.forget_slice(DELETED_AT_ONCE)
                return before.plus(rows, counts, (), is_over)

            outcome = self._write(job)
        return outcome

    def _look_for_residue(
        self, user_id: str, receipt_id: str, texts: Sequence[str]
    ) -> dict[str, Any]:
        """Look for what is left of forgotten texts, note it, and return the receipt."""
        residue = self._read(user_id, lambda rows: rows.residue(texts), 0)

        def job(connection: sa.Connection) -> dict[str, Any]:
            note_residue(connection, self.tenant, receipt_id, residue)
            return read_forgetting(connection, self.tenant, receipt_id) or {}

        return self._write(job)

    def receipt(self, receipt_id: str) -> dict[str, Any] | None:
        """Return a receipt of `forget` as of now, None for an unknown id."""
        with reading(self.engine) as connection:
            return read_forgetting(connection, self.tenant, receipt_id)

    def expire(self, user_id: str) -> int:
        """Delete the observations past the memory's retention; return how many."""
        total = 0
        while True:

            def job(connection: sa.Connection) -> int:
                return expire(self._locked(connection, user_id), self.clock())

            count = self._write(job)
            total += count
            if not count:
                return total

    def residue(self, user_id: str, text: str) -> int:
        """Count the user's rows that hold five words in a row of a text."""
        return self._read(user_id, lambda rows: rows.residue([text]), 0)

    def export(self, user_id: str) -> dict[str, Any]:
        """Return all of a user's memory as plain values; `import_` takes them."""
        observations, drafts, propositions, _ = self._read(user_id, self._all_of, EMPTY)
        state = self.state(user_id)
        exported = {
            "format": FORMAT,
            "version": VERSION,
            "paused": state.paused,
            "retention_days": state.retention_days,
            "observations": [asdict(observation) for observation in observations],
            "drafts": [asdict(draft) for draft in drafts],
            "propositions": [shown(proposition, self.clock()) for proposition in propositions],
            "state_hash": state_hash(propositions),
        }
        return plain(exported)

    def import_(self, user_id: str, exported: Mapping[str, Any]) -> Observed:
        """Add an exported memory to a user's; what is there already counts once.

        Raises DataError for an export of a newer version, or values that are no memory.
        """
        observations, drafts = imported(exported)
        self._check_times(observations)
        return self._store_all(user_id, observations, list(map(as_sensitive_as_words, drafts)))

    # profiles that were measured

    def save_profile(
        self,
        user_id: str,
        level: str,
        text: str,
        built_from: Sequence[str] = (),
        lift: tuple[float, float, float] | None = None,
    ) -> None:
        """Keep a profile with its lift on held-out events and the interval of that."""

        def job(connection: sa.Connection) -> None:
            rows = self._locked(connection, user_id)
            value = {"text": text, "built_from": list(built_from)}
            rows.save_profile(level, self.clock(), value, lift or (None, None, None))

        self._write(job)

    def saved_profile(self, user_id: str, level: str) -> dict[str, Any] | None:
        """Return the profile of a level that was saved last, None for none."""
        return self._read(user_id, lambda rows: rows.saved_profile(level), None)

    # parts

    def _write(self, job: Callable[[sa.Connection], T]) -> T:
        if self.write is not None:
            return self.write(job)
        with writing(self.engine) as connection:
            return job(connection)

    def _read(self, user_id: str, job: Callable[[MemoryRows], T], nothing: T) -> T:
        """Return what a job reads of a user's rows, `nothing` where there are none.

        Heeds what any process has forgotten, and mends what a restore has torn.
        """
        for is_mended in (False, True):
            with reading(self.engine) as connection:
                rows = rows_of(connection, self.tenant, user_id)
                self.opened.heed(self.tenant, deletions_of(connection, self.tenant))
                if rows is None:
                    return nothing
                if is_mended or not rows.state.due:
                    return job(rows)
            with suppress(UnknownError):  # erased meanwhile
                self._write(lambda connection: self._locked(connection, user_id))
        return nothing

    def _rows_for_writing(self, connection: sa.Connection, user_id: str) -> MemoryRows:
        """Return the rows of a memory, which is made where there is none."""
        rows = rows_for_writing(connection, self.tenant, user_id, self.clock())
        return _mended(rows)

    def _locked(
        self, connection: sa.Connection, user_id: str, is_mended: bool = True
    ) -> MemoryRows:
        """Return the rows of a memory that is there, for writing. Raises UnknownError for none."""
        rows = known_rows_for_writing(connection, self.tenant, user_id, self.clock())
        if rows is None:
            raise UnknownError("the memory of this user is empty: nothing was observed")
        return _mended(rows) if is_mended else rows

    def _observations(self, rows: MemoryRows) -> list[Observation]:
        return [observation_of(value) for value in readable_observations(rows, self.clock())]

    def _all_of(self, rows: MemoryRows) -> "_All":
        """Return observations, drafts and propositions of one moment."""
        observations = self._observations(rows)
        ids = {observation.observation_id for observation in observations}
        drafts = [draft_of(value) for value in rows.drafts()]
        propositions = propositions_of(readable_propositions(rows, self.clock()))
        drafts = [draft for draft in drafts if draft.observation_id in ids]
        return _All(observations, drafts, propositions, rows.order_of)

    def _ready(self, user_id: str, most_sensitivity: int) -> Opened:
        """Return the memory as of now, from memory where nothing changed since."""
        version = version_of(self.engine, self.tenant, user_id)
        whose = (self.tenant, user_id, most_sensitivity)
        opened = self.opened.get(whose, version, self.clock())
        if opened is None:
            opened = self._open(user_id, most_sensitivity)
            self.opened.put(whose, opened)
        return opened

    def _open(
        self,
        user_id: str,
        most_sensitivity: int = ALL,
        at_ms: int | None = None,
        as_of_ms: int | None = None,
    ) -> Opened:
        time_ms = self.clock() if at_ms is None else at_ms
        version = version_of(self.engine, self.tenant, user_id)

        def job(rows: MemoryRows) -> _Readable:
            observed = readable_observations(rows, self.clock(), as_of_ms)
            concluded = readable_propositions(rows, self.clock(), as_of_ms)
            current = concluded if as_of_ms is None else rows.current()
            drafts = rows.drafts() if most_sensitivity < ALL else []
            expiry_ms = expiry_ms_of(rows.state, observed)
            return _Readable(observed, concluded, current, drafts, expiry_ms)

        read = self._read(user_id, job, _Readable([], [], [], [], math.inf))
        packed = {observation_of(value): value.get(VECTOR) for value in read.observed}
        propositions = {proposition_of(value): value.get(VECTOR) for value in read.concluded}
        current = list(map(proposition_of, read.current))
        drafts = list(map(draft_of, read.drafts))
        observations = shown_observations(
            list(packed), [*propositions, *current], drafts, most_sensitivity
        )
        believed = shown_propositions(propositions, most_sensitivity, current)
        holding = [p for p in believed if p.holds_at(time_ms)]
        remembered = [*_remembered(observations), *(recallable(p, time_ms) for p in holding)]
        by_id = {row.observation_id: packed[row] for row in observations}
        by_id |= {p.proposition_id: propositions[p] for p in holding}
        vectors = unpacked(self.recall_by, remembered, by_id)
        memory = self.recall_by.opened(remembered, vectors)
        return Opened(version, self.clock(), memory, read.expiry_ms)


class _Forgotten(NamedTuple):
    """Rows that transactions deleted, by table, and their texts."""

    counts: Mapping[str, int]
    texts: tuple[str, ...]
    receipt_id: str
    """"": there is more to forget."""

    def plus(
        self, rows: MemoryRows, counts: Mapping[str, int], texts: Sequence[str], is_last: bool
    ) -> "_Forgotten":
        """Return it with what another transaction deleted, which writes the receipt at the end."""
        total = {name: counts.get(name, 0) + self.counts.get(name, 0) for name in counts}
        total = {**self.counts, **total}
        receipt_id = rows.write_receipt(total) if is_last else ""
        return _Forgotten(total, (*self.texts, *texts), receipt_id)


class _Readable(NamedTuple):
    """Values of rows that a memory is opened from."""

    observed: list[dict[str, Any]]
    concluded: list[dict[str, Any]]
    current: list[dict[str, Any]]
    """What is believed now."""
    drafts: list[dict[str, Any]]
    expiry_ms: float
    """When the first of them is past the retention."""


class _All(NamedTuple):
    """All of a memory at one moment."""

    observations: list[Observation]
    drafts: list[Draft]
    propositions: tuple[Proposition, ...]
    order: Callable[[str], str]
    """Orders observations of one moment."""


EMPTY = _All([], [], (), str)


def expire_all(engine: sa.Engine, clock: Callable[[], int] = now_ms) -> int:
    """Delete observations past the retention of their memories, of all users; return how many."""
    with reading(engine) as connection:
        users = overdue(connection, clock())
    memories = [(Memory(engine, tenant, (), clock=clock), user) for tenant, user, _ in users]
    return sum(memory.expire(user) for memory, user in memories)


def count_expired(engine: sa.Engine, clock: Callable[[], int] = now_ms) -> int:
    """Count the observations that `expire_all` would delete."""
    with reading(engine) as connection:
        return sum(count for _, _, count in overdue(connection, clock()))


def _mended(rows: MemoryRows) -> MemoryRows:
    """Return rows after what is believed was computed anew, where that is due."""
    if rows.state.due:
        mend(rows)
    return rows


def _base(name: str) -> str:
    """Return a proposer's name without its version."""
    return name.partition("@")[0]


def _parts(
    sent: Sequence[Observation], draft_counts: Mapping[str, int]
) -> Iterator[list[Observation]]:
    """Yield parts of AT_ONCE observations and DRAFTS_AT_ONCE drafts at most, at least one part."""
    part: list[Observation] = []
    size = 0
    for observation in sent:
        count = draft_counts.get(observation.observation_id, 0)
        if part and (len(part) >= AT_ONCE or size + count > DRAFTS_AT_ONCE):
            yield part
            part, size = [], 0
        part.append(observation)
        size += count
    yield part


def _is_repeatable(proposer: Proposer) -> bool:
    """Return whether a proposer says the same of the same observations."""
    return getattr(proposer, "is_repeatable", True)


def _unedited(observations: Iterable[Observation]) -> list[Observation]:
    return [observation for observation in observations if observation.kind != "edit"]


def _unknown(proposition_id: str) -> UnknownError:
    return UnknownError(f'there is no proposition "{proposition_id}": `timeline` names them')


def _check_status(proposition: Proposition, seen_status: str | None) -> None:
    """Raise DataError where a proposition has another status than its editor saw."""
    if seen_status is not None and proposition.status != seen_status:
        raise DataError(
            f'status: the proposition was "{seen_status}" when it was read and is'
            f' "{proposition.status}" now: somebody else has changed it; read it again'
        )


def _current(rows: MemoryRows, proposition_id: str) -> Proposition:
    """Return the version of a proposition that is believed now. Raises DataError for none."""
    versions = rows.versions_of(proposition_id)
    if not versions or versions[-1][1] is not None:
        raise _unknown(proposition_id)
    return proposition_of(versions[-1][2])


def _readable_version(rows: MemoryRows, proposition_id: str, time_ms: int) -> Proposition | None:
    """Return the last version of a proposition, without evidence past its retention."""
    if rows.before(first_ms_of(rows.state, time_ms), 1):
        readable = propositions_of(readable_propositions(rows, time_ms))
        return {p.proposition_id: p for p in readable}.get(proposition_id)
    versions = rows.versions_of(proposition_id)
    return proposition_of(versions[-1][2]) if versions else None


# --- forgetting


def _ids_of(rows: MemoryRows, row_id: str) -> list[str]:
    """Return the observations that an id means: itself, or those of a proposition.

    Of a group that has more drafts than count, those of the object that do not count are meant
    too: else they would take the place of the others. They come first, then the latest: what is
    broken off leaves the proposition its beginning, and so its id.
    """
    if rows.known([row_id]):
        return [row_id]
    versions = [proposition_of(value) for _, _, value in rows.versions_of(row_id)]
    if not versions:
        raise UnknownError(f'there is no observation or proposition "{row_id}"')
    ids = {name for p in versions for name in [*p.support, *p.against]}
    drafts = [draft_of(value) for value in rows.drafts_of([key_of(versions[-1].group)])]
    counting = counted(drafts, rows.order_of)
    first_ms: dict[str, int] = {}
    for draft in counting:
        name = draft.observation_id
        first_ms[name] = min(draft.occurred_ms, first_ms.get(name, draft.occurred_ms))
    if len(drafts) > MOST_COUNTED:
        surplus = set(drafts) - set(counting)
        object_key = versions[-1].object_key
        ids |= {draft.observation_id for draft in surplus if draft.object_key == object_key}
    return sorted(ids, key=lambda name: (-first_ms.get(name, math.inf), name))


def _ids_with(rows: MemoryRows, query: str) -> list[str]:
    """Return the observations that have all words of a query, by their stems."""
    stems = set(search_words(query, "english"))
    if not stems:
        raise DataError("query has no word that could be looked for: name what to forget")
    observations = [observation_of(value) for value in rows.observations()]
    return [
        observation.observation_id
        for observation in observations
        if stems.issubset(search_words(observation.text, "english"))
    ]


# --- what can be recalled


def _remembered(observations: Sequence[Observation]) -> list[Remembered]:
    """Return observations with words, as turns of the sessions they come from."""
    turns = [
        observation
        for observation in observations
        if observation.kind != "edit" and observation.text.strip()
    ]
    numbers: Counter[str] = Counter()
    remembered = []
    for observation in sorted(turns, key=lambda observation: observation.occurred_ms):
        numbers[observation.source] += 1
        number = numbers[observation.source] if observation.source else None
        remembered.append(
            Remembered(
                observation.observation_id,
                "observation",
                observation.text,
                observation.occurred_ms,
                observation.speaker,
                observation.source,
                number,
            )
        )
    return remembered
