"""Memories of users over HTTP: observe, recall, explain, correct, forget.

A key of the role "read" sees what is believed, "write" observes and passes on a user's own word,
"admin" exports and deletes. No word of a user goes into the log.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query

from tailor.errors import DataError
from tailor.profiles import rendering
from tailor.profiles.exports import shown
from tailor.profiles.memory import Explanation, Memory, Observed, UnknownError
from tailor.profiles.propositions import Observation, Proposition
from tailor.profiles.recall import Recollection
from tailor.profiles.sensitivity import ALL, MOST_SENSITIVITY, shown_propositions
from tailor.service import responses
from tailor.service.admission import OWN_PAGE
from tailor.service.problems import ProblemError
from tailor.service.routing import service_router
from tailor.service.schemas import (
    Correction,
    ExportedMemory,
    Id,
    MemoryObservation,
    MemoryQuery,
    MemoryQuestion,
    MemorySettings,
    Observations,
    Time,
    check_exported,
)
from tailor.service.state import Service
from tailor.store.engine import UNAVAILABLE, now_ms
from tailor.store.keys import Caller, Person
from tailor.store.memory import MemoryState

Status = Literal["active", "superseded", "disputed", "confirmed", "rejected"]
Sensitivity = Annotated[int, Query(ge=0, le=ALL)]
USER = "/v1/users/{user_id:segment}/memory"
OWN = f"{OWN_PAGE}/memory"
OWN_PROPOSITION = OWN + "/propositions/{proposition_id:segment}"
PROPOSITION = USER + "/propositions/{proposition_id:segment}"


def routes(service: Service, reader: Any, writer: Any, admin: Any) -> APIRouter:
    """Return the routes; the rest are dependencies that give the caller."""
    api = service_router("memory")
    _add_writing_routes(api, service, writer)
    _add_reading_routes(api, service, reader)
    _add_own_routes(api, service, admin)
    return api


def _add_writing_routes(api: APIRouter, service: Service, writer: Any) -> None:
    @api.post(USER + "/observations", responses=responses.answers(responses.ObservedAnswer, 409))
    def observe(user_id: Id, body: Observations, who: Caller = Depends(writer)) -> dict[str, Any]:
        """Store what a user said or did, and believe what follows from it.

        A message that asks not to remember something is not kept; where it says nothing itself,
        the message before it in its `source` is forgotten.
        """
        observations = [_observation(observation) for observation in body.observations]
        with _problems():
            return _observed(service.memory(who.tenant).observe(user_id, observations))

    @api.post(PROPOSITION + "/confirm", responses=responses.answers(responses.Facts, 404, 409))
    def confirm(
        user_id: Id,
        proposition_id: Id,
        status: Status | None = None,
        who: Caller = Depends(writer),
    ) -> dict[str, Any]:
        """Note that the user says a proposition is right.

        `status` is that which was seen: where it is another one by now, the answer is 409, and
        nothing is changed.
        """
        with _problems():
            return _shown_facts(service.memory(who.tenant).confirm(user_id, proposition_id, status))

    @api.post(PROPOSITION + "/reject", responses=responses.answers(responses.Facts, 404, 409))
    def reject(
        user_id: Id,
        proposition_id: Id,
        status: Status | None = None,
        who: Caller = Depends(writer),
    ) -> dict[str, Any]:
        """Note that the user says a proposition is wrong: no inference brings it back.

        `status` is as in confirming.
        """
        with _problems():
            return _shown_facts(service.memory(who.tenant).reject(user_id, proposition_id, status))

    @api.put(PROPOSITION, responses=responses.answers(responses.Facts, 404, 409))
    def correct(
        user_id: Id,
        proposition_id: Id,
        body: Correction,
        status: Status | None = None,
        who: Caller = Depends(writer),
    ) -> dict[str, Any]:
        """Put the user's own value in place of a proposition's object.

        `status` is as in confirming.
        """
        with _problems():
            memory = service.memory(who.tenant)
            return _shown_facts(memory.correct(user_id, proposition_id, body.value, status))

    @api.put(USER + "/settings", responses=responses.answers(responses.MemorySettingsAnswer))
    def configure(
        user_id: Id, body: MemorySettings, who: Caller = Depends(writer)
    ) -> dict[str, Any]:
        """Pause a memory, or let it go on; delete observations after a number of days.

        What is left out stays as it is. A shorter retention deletes: it takes the role admin.
        """
        changes = body.model_dump(exclude_unset=True)
        memory = service.memory(who.tenant)
        if "retention_days" in changes:
            _check_retention(memory.state(user_id), changes["retention_days"], who)
        return _settings(memory.configure(user_id, **changes) if changes else memory.state(user_id))


def _add_reading_routes(api: APIRouter, service: Service, reader: Any) -> None:
    @api.post(USER + "/recall", responses=responses.answers(responses.RecollectionAnswer))
    def recall(user_id: Id, body: MemoryQuestion, who: Caller = Depends(reader)) -> dict[str, Any]:
        """Return what of a user's memory answers a question, with the observations behind it."""
        recollection = _opened(service, who, user_id).recall(
            user_id,
            body.query,
            body.k,
            body.budget_tokens,
            body.scope,
            body.at_ms,
            body.as_of_ms,
            body.most_sensitivity,
        )
        return _recollection(recollection)

    @api.get(USER, responses=responses.answers(responses.BelievedAnswer))
    def believed(
        user_id: Id,
        at_ms: Time | None = None,
        as_of_ms: Time | None = None,
        tokens: Annotated[int, Query(ge=0, le=1_000_000)] | None = None,
        most_sensitivity: Sensitivity = MOST_SENSITIVITY,
        who: Caller = Depends(reader),
    ) -> dict[str, Any]:
        """Return what is believed of a user, the surest first, also as a text for a prompt.

        `at_ms` is a time in the user's life, `as_of_ms` a time at which the memory was asked.
        `tokens` bounds both; what is more sensitive than `most_sensitivity` is left out.
        """
        time_ms = now_ms() if at_ms is None else at_ms
        propositions = rendering.shown(
            _opened(service, who, user_id).timeline(user_id, as_of_ms, most_sensitivity),
            time_ms,
            tokens,
            most_sensitivity,
        )
        text = "\n".join(map(rendering.line, propositions))
        return {**_facts(propositions, time_ms), "text": text}

    @api.get(USER + "/timeline", responses=responses.answers(responses.Facts))
    def timeline(
        user_id: Id,
        as_of_ms: Time | None = None,
        most_sensitivity: Sensitivity = MOST_SENSITIVITY,
        who: Caller = Depends(reader),
    ) -> dict[str, Any]:
        """Return all propositions, those that are over, disputed or rejected too, in time."""
        return _facts(_opened(service, who, user_id).timeline(user_id, as_of_ms, most_sensitivity))

    @api.get(USER + "/diff", responses=responses.answers(responses.ChangedFacts))
    def diff(
        user_id: Id,
        since_ms: Time,
        until_ms: Time | None = None,
        most_sensitivity: Sensitivity = MOST_SENSITIVITY,
        who: Caller = Depends(reader),
    ) -> dict[str, Any]:
        """Return what the memory came to believe between two times; without `until_ms`: to now."""
        memory = _opened(service, who, user_id)
        difference = memory.diff(user_id, since_ms, until_ms, most_sensitivity)
        return {
            "retracted": _facts(difference.retracted)["propositions"],
            "added": _facts(difference.added)["propositions"],
        }

    @api.get(PROPOSITION, responses=responses.answers(responses.WhyAnswer, 404))
    def explain(
        user_id: Id,
        proposition_id: Id,
        most_sensitivity: Sensitivity = MOST_SENSITIVITY,
        who: Caller = Depends(reader),
    ) -> dict[str, Any]:
        """Return why a proposition is believed, and since when."""
        memory = _opened(service, who, user_id)
        with _problems():
            return _why(memory.explain(user_id, proposition_id, most_sensitivity))

    @api.get(USER + "/settings", responses=responses.answers(responses.MemorySettingsAnswer))
    def settings(user_id: Id, who: Caller = Depends(reader)) -> dict[str, Any]:
        """Return the settings of a memory."""
        return _settings(service.memory(who.tenant).state(user_id))


def _add_own_routes(api: APIRouter, service: Service, admin: Any) -> None:
    @api.get(USER + "/export", responses=responses.answers(responses.MemoryExport))
    def export(user_id: Id, who: Caller = Depends(admin)) -> dict[str, Any]:
        """Return all of a user's memory, raw observations too."""
        return {"memory": _opened(service, who, user_id).export(user_id)}

    @api.post(USER + "/import", responses=responses.answers(responses.ObservedAnswer, 409))
    def import_memory(
        user_id: Id, body: ExportedMemory, who: Caller = Depends(admin)
    ) -> dict[str, Any]:
        """Add an exported memory to a user's; what is there already counts once."""
        with _problems():
            check_exported(body.memory)
            return _observed(service.memory(who.tenant).import_(user_id, body.memory))

    @api.post(USER + "/forget", responses=responses.answers(responses.Forgotten, 404, 409))
    def forget(user_id: Id, body: MemoryQuery, who: Caller = Depends(admin)) -> dict[str, Any]:
        """Delete the observations that have all words of a query, and what rests on them alone."""
        return _forget(service, service.memory(who.tenant), user_id, query=body.query)

    @api.delete(
        USER + "/entries/{entry_id:segment}",
        responses=responses.answers(responses.Forgotten, 404),
    )
    def forget_entry(user_id: Id, entry_id: Id, who: Caller = Depends(admin)) -> dict[str, Any]:
        """Delete an observation, or a proposition with all observations it rests on."""
        return _forget(service, service.memory(who.tenant), user_id, id=entry_id)

    @api.delete(USER, responses=responses.answers(responses.Forgotten, 404))
    def forget_all(user_id: Id, who: Caller = Depends(admin)) -> dict[str, Any]:
        """Delete all of a user's memory but its settings, and return a signed receipt."""
        return _forget(service, service.memory(who.tenant), user_id, all=True)


def own_routes(service: Service, person: Any) -> APIRouter:
    """Return the routes of a person's own memory; `person` is a dependency that gives the person.

    A person sees all of it, however sensitive.
    """
    api = service_router("a person's own page")

    @api.get(OWN, responses=responses.answers(responses.Facts))
    def own_facts(who: Person = Depends(person)) -> dict[str, Any]:
        """Return all that is believed of the person, what is over or rejected too, in time."""
        memory = service.memory(who.tenant)
        return _facts(memory.timeline(who.user_id, most_sensitivity=ALL))

    @api.get(OWN_PROPOSITION, responses=responses.answers(responses.WhyAnswer, 404))
    def own_why(proposition_id: Id, who: Person = Depends(person)) -> dict[str, Any]:
        """Return why a proposition about the person is believed, and since when."""
        with _problems():
            return _why(service.memory(who.tenant).explain(who.user_id, proposition_id, ALL))

    _add_own_words(api, service, person)
    return api


def _add_own_words(api: APIRouter, service: Service, person: Any) -> None:
    @api.post(OWN_PROPOSITION + "/confirm", responses=responses.answers(responses.Facts, 404))
    def confirm_own(proposition_id: Id, who: Person = Depends(person)) -> dict[str, Any]:
        """Note that the person says a proposition is right."""
        memory = service.memory(who.tenant)
        return _own_word(
            service, who, "confirm", lambda: memory.confirm(who.user_id, proposition_id)
        )

    @api.post(OWN_PROPOSITION + "/reject", responses=responses.answers(responses.Facts, 404))
    def reject_own(proposition_id: Id, who: Person = Depends(person)) -> dict[str, Any]:
        """Note that the person says a proposition is wrong: no inference brings it back."""
        memory = service.memory(who.tenant)
        return _own_word(service, who, "reject", lambda: memory.reject(who.user_id, proposition_id))

    @api.put(OWN_PROPOSITION, responses=responses.answers(responses.Facts, 404))
    def correct_own(
        proposition_id: Id, body: Correction, who: Person = Depends(person)
    ) -> dict[str, Any]:
        """Put the person's own value in place of a proposition's object."""
        memory = service.memory(who.tenant)
        return _own_word(
            service,
            who,
            "correct",
            lambda: memory.correct(who.user_id, proposition_id, body.value),
        )

    @api.delete(
        f"{OWN}/entries/{{entry_id:segment}}", responses=responses.answers(responses.Forgotten, 404)
    )
    def forget_own(entry_id: Id, who: Person = Depends(person)) -> dict[str, Any]:
        """Delete an observation, or a proposition with all observations it rests on."""
        receipt = _forget(service, service.memory(who.tenant), who.user_id, id=entry_id)
        service.look_log.add(who, who.user_id, "forget")
        return receipt


def _own_word(
    service: Service, who: Person, act: str, job: Callable[[], Sequence[Proposition]]
) -> dict[str, Any]:
    """Return what is believed after a person's word on it, and have the act written."""
    with _problems():
        facts = _facts(job())
    service.look_log.add(who, who.user_id, act)
    return facts


def _opened(service: Service, who: Caller, user_id: str) -> Memory:
    """Return the memories, and have it written that the caller looks at a user's."""
    service.look_log.add(who, user_id, "memory")
    return service.memory(who.tenant)


@contextmanager
def _problems() -> Iterator[None]:
    """Raise ProblemError in place of errors of the memory; of unknown things it shows no words."""
    try:
        yield
    except UnknownError:
        raise ProblemError(404, "there is no such entry in this memory") from None
    except DataError as error:
        raise ProblemError(409, str(error)) from None


def _check_retention(state: MemoryState, days: float | None, who: Caller) -> None:
    """Raise ProblemError where a retention becomes shorter, unless the caller may delete."""
    earlier_days = math.inf if state.retention_days is None else state.retention_days
    if days is not None and days < earlier_days and not who.may("admin"):
        raise ProblemError(
            403, 'a shorter retention deletes observations: it needs the role "admin"'
        )


def _forget(service: Service, memory: Memory, user_id: str, **choice: Any) -> dict[str, Any]:
    with _problems():
        receipt = memory.forget(user_id, **choice)
    service.erasures.overwrite()
    with suppress(*UNAVAILABLE):  # the receipt must not be lost
        return memory.receipt(receipt["receipt_id"]) or receipt
    return receipt


def _observation(body: MemoryObservation) -> Observation:
    return Observation(
        body.kind,
        body.text,
        now_ms() if body.time_ms is None else body.time_ms,
        body.item_id,
        body.value,
        body.source,
        body.speaker,
    )


def _facts(propositions: Sequence[Proposition], at_ms: int | None = None) -> dict[str, Any]:
    time_ms = now_ms() if at_ms is None else at_ms
    return {"propositions": [shown(proposition, time_ms) for proposition in propositions]}


def _shown_facts(propositions: Sequence[Proposition]) -> dict[str, Any]:
    """Return what a writer is shown: nothing more sensitive than a reading shows unless asked."""
    return _facts(shown_propositions(propositions, MOST_SENSITIVITY))


def _observed(observed: Observed) -> dict[str, Any]:
    return {
        **observed._asdict(),
        "new": list(observed.new),
        "believed": _shown_facts(observed.believed)["propositions"],
    }


def _recollection(recollection: Recollection) -> dict[str, Any]:
    items = [
        {**asdict(item), "observation_ids": list(item.observation_ids)}
        for item in recollection.items
    ]
    return {**asdict(recollection), "items": items}


def _why(explanation: Explanation) -> dict[str, Any]:
    return {
        "proposition": shown(explanation.proposition, now_ms()),
        "evidence": [
            {"observation_id": observation.observation_id, **asdict(observation)}
            for observation in explanation.evidence
        ],
        "proposers": list(explanation.proposers),
        "history": [
            {"recorded_ms": recorded_ms, "retracted_ms": retracted_ms}
            for recorded_ms, retracted_ms in explanation.history
        ],
    }


def _settings(state: MemoryState) -> dict[str, Any]:
    return {
        "paused": state.paused,
        "retention_days": state.retention_days,
        "changed": state.changed,
    }
