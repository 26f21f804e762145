"""A memory of users in the store: what was observed, what is believed of it, and why.

Every verb that writes is one transaction, so that nothing is ever half-applied. What is believed
of a group is computed anew from all drafts of it (`profiles.revision`), whatever changed: new
observations, edits, forgetting. So a replay agrees by construction.
"""

import importlib.util
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple, Protocol, TypeVar

import sqlalchemy as sa

from tailor.data.nouns import Profile
from tailor.data.times import LAST, UNITS
from tailor.errors import DataError
from tailor.profiles import rendering
from tailor.profiles.edits import EditProposer, edit, words_of
from tailor.profiles.kept_vectors import NAME as VECTOR
from tailor.profiles.kept_vectors import Packed, packed_by_line, unpacked
from tailor.profiles.opened import Opened, OpenedMemories
from tailor.profiles.proposers import (
    SHORT_REQUEST,
    TEXT_KINDS,
    AspectProposer,
    Proposer,
    RuleProposer,
)
from tailor.profiles.propositions import (
    DAY_MS,
    Act,
    Draft,
    Group,
    Observation,
    Proposition,
    state_hash,
)
from tailor.profiles.recall import Recall, Recollection, Remembered
from tailor.profiles.revision import believed, believed_of_all, by_group, changes
from tailor.profiles.rules import asks_to_forget
from tailor.store.engine import now_ms, overwrite_deleted, reading, writing
from tailor.store.memory import (
    AddedRow,
    MemoryRows,
    MemoryState,
    allowed_times,
    rows_for_writing,
    rows_of,
    version_of,
)
from tailor.store.subjects import subject_of
from tailor.text.words import search_words

T = TypeVar("T")
FORMAT, VERSION = "tailor-memory", 1  # of exports
MOST_DRAFTS = 50  # of one observation, by each proposer
AHEAD_MS = DAY_MS  # by which the clock of a sender may run ahead
LAST_MS = LAST // UNITS["ms"]
KINDS = ("event", "review", "chat", "edit", "import")


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
    """How many happened before the person was erased, which they would undo."""
    withdrawn: int
    """How many are not kept, since the user asks not to remember them."""
    paused: bool
    """True: the memory is paused, and nothing was stored."""
    believed: tuple[Proposition, ...]
    """Propositions that are new or changed."""


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


class Difference(NamedTuple):
    """Propositions that one state of a memory lacks, and those that it has, beside another."""

    retracted: tuple[Proposition, ...]
    added: tuple[Proposition, ...]


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
    time; `at_ms` is the time that is asked about.
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
        where it says nothing itself, the message before it in its session is forgotten.
        Raises DataError for times that no clock can show.
        """
        sent = self._as_observations(observations)
        self._check_times(sent)
        drafts = self._drafts_each(sent)
        vectors = self._vectors(sent, drafts)
        return self._write(
            lambda connection: self._store(connection, user_id, sent, drafts, vectors)
        )

    def propose(self, user_id: str) -> Difference:
        """Have all proposers read all observations of a user, and believe what follows.

        Drafts of earlier versions of these proposers go; those of others stay as they are.
        """
        observations: Sequence[Observation] = self._read(user_id, _observations, [])
        drafts = self._drafts(observations)
        vectors = self._vectors((), drafts)
        ids = {observation.observation_id for observation in observations}
        names = {_base(proposer.name) for proposer in self._all_proposers()}

        def job(connection: sa.Connection) -> Difference:
            rows = self._locked(connection, user_id)
            # of what arrived, was forgotten or withdrawn meanwhile nothing changes
            stored = rows.observations(ids=sorted(ids))
            left = {_observation(value).observation_id for value in stored}
            old = rows.retract_drafts(
                lambda draft: _base(draft["proposer"]) in names and draft["observation_id"] in ids
            )
            new = [draft for draft in drafts if draft.observation_id in left]
            rows.add_drafts([_draft_row(draft) for draft in new])
            groups = {draft.group for draft in [*map(_draft, old), *new]}
            return _revise(rows, groups, vectors)

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
        return drafts

    def _drafts(self, observations: Sequence[Observation]) -> list[Draft]:
        """Return what all proposers conclude from all observations of a user."""
        drafts = self._drafts_each(observations)
        for proposer in self.log_proposers:
            drafts += proposer.propose(_unedited(observations))
        return drafts

    def _vectors(
        self, observations: Sequence[Observation], drafts: Sequence[Draft]
    ) -> dict[str, Packed]:
        """Return vectors by line of observations, and of what follows from drafts alone."""
        if self.recall_by.encoder is None:
            return {}
        foreseen = [_recallable(p, p.valid_from_ms) for p in believed_of_all(drafts)]
        return packed_by_line(self.recall_by, [*_remembered(observations), *foreseen])

    def _store(
        self,
        connection: sa.Connection,
        user_id: str,
        sent: Sequence[Observation],
        drafts: Sequence[Draft],
        vectors: Mapping[str, Packed],
    ) -> Observed:
        allowed = self._allowed(connection, user_id, sent)
        refused = len(sent) - len(allowed)
        if not allowed:
            return Observed((), 0, refused, 0, False, ())
        rows = rows_for_writing(connection, self.tenant, user_id, self.clock())
        # PostgreSQL: an erasure may have come in between; from here on the entry is locked
        allowed = self._allowed(connection, user_id, allowed)
        refused = len(sent) - len(allowed)
        if rows.state.paused:
            return Observed((), 0, refused, 0, True, ())
        keepable = _without_withdrawn(rows, allowed)
        by_id = {observation.observation_id: observation for observation in keepable}
        new_ids = rows.add_observations(
            {
                name: _with_vector(asdict(observation), _remembered([observation]), vectors)
                for name, observation in by_id.items()
            }
        )
        new_drafts = [draft for draft in drafts if draft.observation_id in new_ids]
        rows.add_drafts([_draft_row(draft) for draft in new_drafts])
        difference = _revise(rows, {draft.group for draft in new_drafts}, vectors)
        _expire(rows, self.clock())
        new = tuple(name for name in by_id if name in new_ids)
        repeats = len(by_id) - len(new)
        withdrawn = len(allowed) - len(keepable)
        return Observed(new, repeats, refused, withdrawn, False, difference.added)

    def _allowed(
        self, connection: sa.Connection, user_id: str, observations: Sequence[Observation]
    ) -> list[Observation]:
        """Return the observations that no erasure of the person refuses."""
        times_ms = [observation.occurred_ms for observation in observations]
        allowed = allowed_times(connection, self.tenant, user_id, times_ms)
        return [observation for observation, is_allowed in zip(observations, allowed) if is_allowed]

    # the user's own word

    def confirm(self, user_id: str, proposition_id: str) -> tuple[Proposition, ...]:
        """Note that the user says a proposition is right; return what is believed of it now."""
        return self._edit(user_id, proposition_id, [("confirm", "")])

    def reject(self, user_id: str, proposition_id: str) -> tuple[Proposition, ...]:
        """Note that the user says a proposition is wrong; return what is believed of it now."""
        return self._edit(user_id, proposition_id, [("reject", "")])

    def correct(self, user_id: str, proposition_id: str, value: str) -> tuple[Proposition, ...]:
        """Put the user's own value in place of a proposition's object.

        Raises DataError for an empty value.
        """
        if not value.strip():
            raise DataError("value is empty: give what is right, or reject the proposition")
        return self._edit(user_id, proposition_id, [("reject", ""), ("confirm", value)])

    def _edit(
        self, user_id: str, proposition_id: str, acts: Sequence[tuple[Act, str]]
    ) -> tuple[Proposition, ...]:
        def job(connection: sa.Connection) -> tuple[Proposition, ...]:
            rows = self._locked(connection, user_id)
            proposition = _current(rows, proposition_id)
            edits = [edit(proposition, act, self.clock(), value) for act, value in acts]
            drafts = EditProposer().propose(edits)
            is_same = len({draft.object_key for draft in drafts}) < len(drafts)
            if is_same:  # other words for the same: only they change
                edits = edits[-1:]
                drafts = drafts[-1:]
            rows.add_observations(
                {observation.observation_id: asdict(observation) for observation in edits}
            )
            rows.add_drafts([_draft_row(draft) for draft in drafts])
            groups = {draft.group for draft in drafts}
            _revise(rows, groups)
            return _propositions(rows.propositions_of([_key(group) for group in groups]))

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
        """Write `paused` and `retention_days`, or one of them; return the settings."""
        days = settings.get("retention_days")
        if days is not None and not 0 < days < LAST_MS / DAY_MS:
            raise DataError(f"days is {days}: a number above 0, or None for ever")

        def job(connection: sa.Connection) -> MemoryState:
            rows = rows_for_writing(connection, self.tenant, user_id, self.clock())
            rows.change_settings(**settings)
            state = rows.state._replace(**settings)  # type: ignore[arg-type]
            _expire(MemoryRows(rows.connection, rows.tenant, rows.user, state), self.clock())
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
    ) -> Recollection:
        """Return what of a user's memory answers a request, with observations by their ids.

        `at_ms`: as of a time in the user's life; `as_of_ms`: as the memory was at that time.
        """
        if at_ms is not None or as_of_ms is not None:
            opened = self._open(user_id, at_ms, as_of_ms)
        else:
            opened = self._ready(user_id)
        return opened.memory.search(request, at_ms, k, budget_tokens, scope)

    def believed(
        self, user_id: str, at_ms: int | None = None, as_of_ms: int | None = None
    ) -> tuple[Proposition, ...]:
        """Return the propositions that hold at a time, the surest first; None: now."""
        time_ms = self.clock() if at_ms is None else at_ms
        holding = [p for p in self.timeline(user_id, as_of_ms) if p.holds_at(time_ms)]
        return tuple(sorted(holding, key=lambda p: (-p.confidence(time_ms), p.proposition_id)))

    def profile(
        self,
        user_id: str,
        at_ms: int | None = None,
        as_of_ms: int | None = None,
        tokens: int | None = None,
        most_sensitivity: int = 1,
    ) -> Profile:
        """Return what holds at a time as a profile: a text within `tokens`, facts, evidence.

        What is more sensitive than `most_sensitivity`, from 0 to 3, is left out.
        """
        time_ms = self.clock() if at_ms is None else at_ms
        propositions = self.timeline(user_id, as_of_ms)
        return rendering.profile(user_id, propositions, time_ms, tokens, most_sensitivity)

    def timeline(self, user_id: str, as_of_ms: int | None = None) -> tuple[Proposition, ...]:
        """Return all propositions, those that are over or disputed too, the earliest first."""
        nothing: list[dict[str, Any]] = []
        values = self._read(user_id, lambda rows: _visible(rows, as_of_ms, self.clock()), nothing)
        return _propositions(values)

    def explain(self, user_id: str, proposition_id: str) -> Explanation:
        """Return what a proposition rests on. Raises DataError for an unknown one."""

        def job(rows: MemoryRows) -> Explanation:
            versions = rows.versions_of(proposition_id)
            if not versions:
                raise _unknown(proposition_id)
            proposition = _proposition(versions[-1][2])
            ids = [*proposition.support, *proposition.against]
            evidence = [_observation(value) for value in rows.observations(ids=ids)]
            drafts = [_draft(value) for value in rows.drafts_from(ids)]
            names = {
                observation.proposer
                for observation in drafts
                if observation.group == _group(proposition)
            }
            return Explanation(
                proposition,
                proposition.confidence(self.clock()),
                tuple(sorted(evidence, key=lambda observation: observation.occurred_ms)),
                tuple(sorted(names)),
                tuple((recorded_ms, retracted_ms) for recorded_ms, retracted_ms, _ in versions),
            )

        explanation = self._read(user_id, job, None)
        if explanation is None:
            raise _unknown(proposition_id)
        return explanation

    def diff(self, user_id: str, since_ms: int, until_ms: int | None = None) -> Difference:
        """Return what a memory came to believe, and ceased to, between two recorded times."""
        return Difference(
            *changes(self.timeline(user_id, since_ms), self.timeline(user_id, until_ms))
        )

    def replay(self, user_id: str) -> Replayed:
        """Compute all that is believed anew from raw observations, and compare; writes nothing.

        Drafts of proposers that this memory does not have, or that answer differently each time,
        such as language models, are taken as they are stored.
        """
        nothing: tuple[list[Observation], list[Draft], tuple[Proposition, ...]] = ([], [], ())
        observations, stored, current = self._read(user_id, _all_of, nothing)
        repeatable = replace(
            self,
            proposers=list(filter(_is_repeatable, self.proposers)),
            log_proposers=list(filter(_is_repeatable, self.log_proposers)),
        )
        names = {_base(proposer.name) for proposer in repeatable._all_proposers()}
        drafts = [draft for draft in stored if _base(draft.proposer) not in names]
        drafts += repeatable._drafts(observations)
        replayed = believed_of_all(drafts)
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
        The receipt has rows by table, and residues: rows that still hold five words in a row of
        what was forgotten. Raises DataError unless exactly one of the three is given.
        """
        if (id is not None) + (query is not None) + bool(all) != 1:
            raise DataError("forget takes one of id, query and all")

        def job(connection: sa.Connection) -> tuple[dict[str, int], list[str]]:
            rows = self._locked(connection, user_id)
            if all:
                texts = [words_of(observation) for observation in _observations(rows)]
                return rows.forget_all(), texts
            ids = _ids_of(rows, id) if id is not None else _ids_with(rows, query or "")
            return _forget(rows, ids)

        self.opened.forget(self.tenant, user_id)
        counts, texts = self._write(job)
        self.opened.forget(self.tenant, user_id)
        if self.write is None:
            overwrite_deleted(self.engine)
        return self._receipt(user_id, counts, texts)

    def _receipt(
        self, user_id: str, counts: Mapping[str, int], texts: Sequence[str]
    ) -> dict[str, Any]:
        """Return a receipt, with residues that are looked for after the commit."""

        def job(rows: MemoryRows) -> dict[str, Any]:
            receipt = {"forgotten": dict(counts), "residue": rows.residue(texts)}
            return rows.sign(receipt)

        return self._read(user_id, job, {"forgotten": dict(counts), "residue": 0})

    def residue(self, user_id: str, text: str) -> int:
        """Count the user's rows that hold five words in a row of a text."""
        return self._read(user_id, lambda rows: rows.residue([text]), 0)

    def export(self, user_id: str) -> dict[str, Any]:
        """Return all of a user's memory as plain values; `import_` takes them."""
        nothing: tuple[list[Observation], list[Draft], tuple[Proposition, ...]] = ([], [], ())
        observations, drafts, propositions = self._read(user_id, _all_of, nothing)
        state = self.state(user_id)
        exported = {
            "format": FORMAT,
            "version": VERSION,
            "paused": state.paused,
            "retention_days": state.retention_days,
            "observations": [asdict(observation) for observation in observations],
            "drafts": [asdict(observation) for observation in drafts],
            "propositions": [shown(observation, self.clock()) for observation in propositions],
            "state_hash": state_hash(propositions),
        }
        return dict(json.loads(json.dumps(exported)))

    def import_(self, user_id: str, exported: Mapping[str, Any]) -> Observed:
        """Add an exported memory to a user's; what is there already counts once.

        Raises DataError for an export of a newer version, or values that are no memory.
        """
        observations, drafts = _imported(exported)
        self._check_times(observations)
        vectors = self._vectors(observations, drafts)
        return self._write(
            lambda connection: self._store(connection, user_id, observations, drafts, vectors)
        )

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
        """Return what a job reads of a user's rows, `nothing` where there are none."""
        with reading(self.engine) as connection:
            rows = rows_of(connection, self.tenant, user_id)
            return nothing if rows is None else job(rows)

    def _locked(self, connection: sa.Connection, user_id: str) -> MemoryRows:
        """Return the rows of a memory that is there, for writing."""
        if subject_of(connection, self.tenant, user_id) is None:
            raise UnknownError("the memory of this user is empty: nothing was observed")
        return rows_for_writing(connection, self.tenant, user_id, self.clock())

    def _ready(self, user_id: str) -> Opened:
        """Return the memory as of now, from memory where nothing changed since."""
        version = version_of(self.engine, self.tenant, user_id)
        opened = self.opened.get(self.tenant, user_id, version, self.clock())
        if opened is None:
            opened = self._open(user_id)
            self.opened.put(self.tenant, user_id, opened)
        return opened

    def _open(self, user_id: str, at_ms: int | None = None, as_of_ms: int | None = None) -> Opened:
        time_ms = self.clock() if at_ms is None else at_ms
        version = version_of(self.engine, self.tenant, user_id)

        def job(rows: MemoryRows) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
            first_ms = _first_ms(rows.state, self.clock())
            values = rows.observations(as_of_ms)
            current = [value for value in values if value["occurred_ms"] >= first_ms]
            return current, _visible(rows, as_of_ms, self.clock())

        nothing: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
        observed, concluded = self._read(user_id, job, nothing)
        observations = {_observation(value): value.get(VECTOR) for value in observed}
        propositions = {_proposition(value): value.get(VECTOR) for value in concluded}
        holding = {p: vector for p, vector in propositions.items() if p.holds_at(time_ms)}
        remembered = [
            *_remembered(list(observations)),
            *(_recallable(p, time_ms) for p in holding),
        ]
        packed = {row.observation_id: vector for row, vector in observations.items()}
        packed |= {row.proposition_id: vector for row, vector in holding.items()}
        vectors = unpacked(self.recall_by, remembered, packed)
        memory = self.recall_by.opened(remembered, vectors)
        return Opened(version, self.clock(), memory, tuple(propositions))


# --- rows and values


def shown(proposition: Proposition, at_ms: int) -> dict[str, Any]:
    """Return a proposition as plain values, with id, text and confidence at a time."""
    return {
        "proposition_id": proposition.proposition_id,
        "text": proposition.text,
        "confidence": round(proposition.confidence(at_ms), 6),
        **asdict(proposition),
        "support": list(proposition.support),
        "against": list(proposition.against),
    }


def _key(group: Group) -> str:
    return json.dumps(list(group))


def _group(proposition: Proposition) -> Group:
    """Return the group that a proposition belongs to."""
    draft = Draft(
        "",
        proposition.slot,  # type: ignore[arg-type]
        proposition.predicate,
        proposition.object,
        scope=proposition.scope,
    )
    return draft.group


def _base(name: str) -> str:
    """Return a proposer's name without its version."""
    return name.partition("@")[0]


def _is_repeatable(proposer: Proposer) -> bool:
    """Return whether a proposer says the same of the same observations."""
    return getattr(proposer, "is_repeatable", True)


def _draft_row(draft: Draft) -> AddedRow:
    return AddedRow(draft.observation_id, _key(draft.group), asdict(draft))


def _draft(value: Mapping[str, Any]) -> Draft:
    span = value["span"]
    return Draft(**{**value, "span": None if span is None else tuple(span)})


def _observation(value: Mapping[str, Any]) -> Observation:
    return Observation(**{name: part for name, part in value.items() if name != VECTOR})


def _proposition(value: Mapping[str, Any]) -> Proposition:
    sides = {name: tuple(value[name]) for name in ("support", "against")}
    return Proposition(**{n: part for n, part in {**value, **sides}.items() if n != VECTOR})


def _propositions(values: Iterable[Mapping[str, Any]]) -> tuple[Proposition, ...]:
    """Return propositions, the earliest first."""
    propositions = map(_proposition, values)
    return tuple(sorted(propositions, key=lambda p: (p.valid_from_ms, p.proposition_id)))


def _observations(rows: MemoryRows) -> Sequence[Observation]:
    return [_observation(value) for value in rows.observations()]


def _visible(rows: MemoryRows, as_of_ms: int | None, time_ms: int) -> list[dict[str, Any]]:
    """Return the propositions that rest on more than observations past their retention."""
    old = rows.before(_first_ms(rows.state, time_ms))
    expired = {_observation(value).observation_id for value in old}
    values = rows.current(as_of_ms)
    return [value for value in values if not expired or not expired.issuperset(value["support"])]


def _first_ms(state: MemoryState, time_ms: int) -> float:
    """Return the time before which observations are past their retention."""
    return 0.0 if state.retention_days is None else time_ms - state.retention_days * DAY_MS


def _all_of(
    rows: MemoryRows,
) -> tuple[list[Observation], list[Draft], tuple[Proposition, ...]]:
    """Return observations, drafts and propositions of one moment."""
    drafts = [_draft(value) for value in rows.drafts()]
    return list(_observations(rows)), drafts, _propositions(rows.current())


def _unknown(proposition_id: str) -> UnknownError:
    return UnknownError(f'there is no proposition "{proposition_id}": `timeline` names them')


def _current(rows: MemoryRows, proposition_id: str) -> Proposition:
    """Return the version of a proposition that is believed now. Raises DataError for none."""
    versions = rows.versions_of(proposition_id)
    if not versions or versions[-1][1] is not None:
        raise _unknown(proposition_id)
    return _proposition(versions[-1][2])


def _revise(
    rows: MemoryRows, groups: Iterable[Group], vectors: Mapping[str, Packed] | None = None
) -> Difference:
    """Believe of groups what follows from all their drafts, and store the difference."""
    keys = {_key(group): group for group in sorted(set(groups))}
    if not keys:
        return Difference((), ())
    drafts = by_group(_draft(value) for value in rows.drafts_of(list(keys)))
    new = [p for group in keys.values() for p in believed(drafts.get(group, []))]
    stored = rows.propositions_of(list(keys))
    old = _propositions(stored)
    retracted, added = changes(old, new)
    by_line = _vectors_by_line(stored) | dict(vectors or {})
    rows.write(
        [p.proposition_id for p in retracted],
        [
            AddedRow(
                p.proposition_id,
                _key(_group(p)),
                _with_vector(asdict(p), [_recallable(p, p.valid_from_ms)], by_line),
            )
            for p in added
        ],
    )
    return Difference(retracted, added)


def _vectors_by_line(values: Iterable[Mapping[str, Any]]) -> dict[str, Packed]:
    """Return the vectors of stored propositions, which later versions of them keep."""
    return {
        _recallable(_proposition(value), 0).turn.line(): value[VECTOR]
        for value in values
        if VECTOR in value
    }


def _with_vector(
    value: dict[str, Any], remembered: Sequence[Remembered], vectors: Mapping[str, Packed]
) -> dict[str, Any]:
    """Return a value with its vector, where there is one of its line."""
    packed = vectors.get(remembered[0].turn.line()) if vectors and remembered else None
    return value if packed is None else {**value, VECTOR: packed}


# --- forgetting


def _ids_of(rows: MemoryRows, row_id: str) -> list[str]:
    """Return the observations that an id means: itself, or those of a proposition."""
    if rows.known([row_id]):
        return [row_id]
    versions = [_proposition(value) for _, _, value in rows.versions_of(row_id)]
    if not versions:
        raise UnknownError(f'there is no observation or proposition "{row_id}"')
    return sorted({name for p in versions for name in [*p.support, *p.against]})


def _ids_with(rows: MemoryRows, query: str) -> list[str]:
    """Return the observations that have all words of a query, by their stems."""
    stems = set(search_words(query, "english"))
    if not stems:
        raise DataError("query has no word that could be looked for: name what to forget")
    observations = [_observation(value) for value in rows.observations()]
    return [
        observation.observation_id
        for observation in observations
        if stems.issubset(search_words(observation.text, "english"))
    ]


def _forget(rows: MemoryRows, observation_ids: Sequence[str]) -> tuple[dict[str, int], list[str]]:
    """Delete observations and what rests on them; return rows by table, and the texts."""
    ids = [*observation_ids, *_edits_about(rows, observation_ids)]
    texts = [words_of(_observation(value)) for value in rows.observations(ids=ids)]
    groups = {_draft(value).group for value in rows.drafts_from(ids)}
    counts = rows.forget(ids, [_key(group) for group in groups])
    _revise(rows, groups)
    return counts, texts


def _edits_about(rows: MemoryRows, observation_ids: Sequence[str]) -> list[str]:
    """Return the edits of what only these observations said: they hold the same words."""
    gone = set(observation_ids)
    deleted = [_draft(value) for value in rows.drafts_from(observation_ids)]
    keys = [_key(draft.group) for draft in deleted]
    others = [_draft(value) for value in rows.drafts_of(keys)]
    others = [draft for draft in others if draft.observation_id not in gone]
    edited = EditProposer().name
    supported = {(d.group, d.object_key) for d in others if d.proposer != edited}
    deleted_keys = {(draft.group, draft.object_key) for draft in deleted} - supported
    return sorted(
        {
            draft.observation_id
            for draft in others
            if draft.proposer == edited and (draft.group, draft.object_key) in deleted_keys
        }
    )


def _expire(rows: MemoryRows, time_ms: int) -> None:
    """Forget what is older than the memory's retention."""
    first_ms = _first_ms(rows.state, time_ms)
    old = rows.before(first_ms)
    if old:
        _forget(rows, [_observation(value).observation_id for value in old])
    if first_ms > 0:
        rows.drop_before(first_ms)


# --- requests not to remember


def _unedited(observations: Iterable[Observation]) -> list[Observation]:
    return [observation for observation in observations if observation.kind != "edit"]


def _without_withdrawn(rows: MemoryRows, observations: Sequence[Observation]) -> list[Observation]:
    """Return the observations that may be kept; what a request takes back is forgotten.

    A request is heeded once, however often it is sent.
    """
    requests = [message for message in observations if _is_request(message)]
    if not requests:
        return list(observations)
    times_ms = {message.observation_id: message.occurred_ms for message in requests}
    new_ids = rows.withdraw(times_ms)
    stored = [_observation(value) for value in rows.observations()]
    taken_back: dict[str, int] = {}
    for request in requests:
        is_about_before = len(request.text.split()) <= SHORT_REQUEST
        if request.observation_id in new_ids and is_about_before:
            for before in _said_before(request, [*stored, *observations]):
                taken_back[before.observation_id] = before.occurred_ms
    _forget(rows, list(taken_back))
    rows.withdraw(taken_back)
    gone = {*times_ms, *taken_back}
    return [message for message in observations if message.observation_id not in gone]


def _is_request(observation: Observation) -> bool:
    """Return whether a user's message asks not to remember something."""
    is_own = observation.speaker == "user" and observation.kind in TEXT_KINDS
    return is_own and observation.kind != "edit" and asks_to_forget(observation.text)


def _said_before(request: Observation, observations: Sequence[Observation]) -> list[Observation]:
    """Return the user's last message before a request in its session, none where there is none."""
    earlier = [
        message
        for message in observations
        if message.kind in TEXT_KINDS
        and (message.source, message.speaker) == (request.source, request.speaker)
        and message.occurred_ms <= request.occurred_ms
        and message.kind != "edit"
        and not _is_request(message)
    ]
    return sorted(earlier, key=lambda message: message.occurred_ms)[-1:]


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


def _recallable(proposition: Proposition, at_ms: int) -> Remembered:
    return Remembered(
        proposition.proposition_id,
        "proposition",
        proposition.text,
        proposition.valid_from_ms,
        "user",
        confidence=proposition.confidence(at_ms),
        scope=proposition.scope,
        observation_ids=(*proposition.support, *proposition.against),
    )


# --- exports


def _imported(exported: Mapping[str, Any]) -> tuple[list[Observation], list[Draft]]:
    """Return the observations and drafts of an export. Raises DataError for anything else."""
    if not isinstance(exported, Mapping) or exported.get("format") != FORMAT:
        raise DataError(f'this is no exported memory: "format" is not "{FORMAT}"')
    version = exported.get("version")
    if not isinstance(version, int) or version < 1:
        raise DataError(f"version is {version!r}: a whole number from 1")
    if version > VERSION:
        raise DataError(
            f"the export is of version {version}, and this Tailor reads up to {VERSION}: install"
            " the newer Tailor that wrote it"
        )
    try:
        observations = [as_observation(value) for value in exported["observations"]]
        drafts = [_draft(value) for value in exported["drafts"]]
        for draft in drafts:
            draft_key = [draft.object_key, *draft.group, float(draft.weight)]
            json.dumps([*draft_key, int(draft.occurred_ms)])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"the export cannot be read ({type(error).__name__}: {error})") from None
    return observations, drafts


def as_observation(value: Mapping[str, Any]) -> Observation:
    """Return an observation of plain values. Raises TypeError for a field of another type."""
    observation = Observation(**value)
    texts = (observation.text, observation.source, observation.speaker)
    is_sound = observation.kind in KINDS and isinstance(observation.occurred_ms, int)
    if not is_sound or not all(isinstance(text, str) for text in texts):
        raise TypeError("an observation has a field of another type")
    return observation
