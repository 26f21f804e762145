"""Routes that answer questions: recommendations, similar items, and search."""

import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from fastapi import APIRouter, Depends
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic_core import to_json

from tailor.data.nouns import Explanation, History, Query, Ranking, plain
from tailor.data.vocabulary import Vocabulary
from tailor.pipeline.explore import PROPENSITY
from tailor.reranking.mmr import diversify
from tailor.service import responses
from tailor.service.batcher import Answered, LoadedRecommender, ordinary_errors
from tailor.service.catalogue import Catalogue, words_of
from tailor.service.history_cache import NO_HISTORY, UserHistory
from tailor.service.notes import first_few
from tailor.service.problems import ProblemError
from tailor.service.repeats import NOTE, Question, check_same, logged_answer
from tailor.service.routing import ITEMS, in_pool, service_router
from tailor.service.schemas import MOST_ATTRIBUTES, ListQuestion, Recommend, Search, Similar
from tailor.service.state import Service, Snapshot
from tailor.service.tracing import RequestTrace, TracedList
from tailor.store.engine import UNAVAILABLE, now_ms
from tailor.store.impressions import ServedList, stored_list
from tailor.store.keys import Caller

POOL = 50  # items that a diverse list is chosen from
MOST_REASONS = 5  # of an item


def routes(service: Service, reader: Any) -> APIRouter:
    """Return the routes; `reader` is a dependency that gives the caller."""
    api = service_router("answers")

    @api.post("/v1/recommendations", responses=responses.answers(TracedList, 409))
    async def recommend(body: Recommend, who: Caller = Depends(reader)) -> JSONResponse:
        """Recommend items, best first, each with its reasons if asked for.

        A stored event counts from the moment it was accepted. `explain`, `keep_seen` and `trace`
        show what a user did, and need the role "read"; `version` needs "admin".
        """
        for field in ("explain", "keep_seen", "trace"):
            if getattr(body, field) and not who.may("read"):
                raise ProblemError(403, f'{field}: this needs the role "read"')
        is_preview = body.trace or body.version is not None
        answer = await (_preview if is_preview else _recommend)(service, who, body)
        if (body.explain or is_preview) and body.user_id is not None:
            service.look_log.add(who, body.user_id, "recommendations")
        return answer

    @api.post("/v1/similar", responses=responses.answers(responses.ItemList, 409))
    async def similar(body: Similar, who: Caller = Depends(reader)) -> JSONResponse:
        """Return items that users of an item went on to, or items like it."""
        await _work_out_filter(service, who.tenant, body)
        return await run_in_threadpool(_similar, service, who.tenant, body)

    @api.post("/v1/search", responses=responses.answers(responses.ItemList, 409))
    async def search(body: Search, who: Caller = Depends(reader)) -> JSONResponse:
        """Return items that answer a text.

        Words of title, categories and text count (BM25); meanings too with `serve --meaning`.
        """
        await _work_out_filter(service, who.tenant, body)
        return await run_in_threadpool(_search, service, who.tenant, body)

    return api


async def _recommend(service: Service, who: Caller, body: Recommend) -> JSONResponse:
    tenant = who.tenant
    _check_subject(body)
    request_id = body.request_id or new_request_id()
    question = Question(tenant, "recommendations", request_id, body.user_id, body.text or None)
    if body.request_id is not None:
        logged = await run_in_threadpool(logged_answer, service, question)
        if logged is not None:
            return await run_in_threadpool(_recommend_again, service, who, body, logged)
    registry = service.model_registry
    model = registry.loaded(tenant, body.user_id)
    if model is None:  # loading takes a while
        model = await run_in_threadpool(registry.model, tenant, body.user_id)
    request = _Recommending(service, tenant, body, None if body.diversity else request_id)
    ranking, items = await _made_list(model, request)
    catalogue = request.catalogue
    hidden = () if who.may("read") else request.query.exclude
    answer = _Answer(service, question, body, catalogue, hidden)
    if body.request_id is not None:
        return await run_in_threadpool(answer.response, model.name, ranking, items, request.notes)
    return answer.response(model.name, ranking, items, request.notes)


def _check_subject(body: Recommend) -> None:
    """Raise ProblemError for a question about a user and a history."""
    if body.user_id is not None and body.history is not None:
        raise ProblemError(422, "history: give user_id or history, not both")


async def _preview(service: Service, who: Caller, body: Recommend) -> JSONResponse:
    """Answer with a trace, or by a version of choice; nobody is shown the list, so none is logged.

    A version of choice answers without chance: two versions can be compared for one user.
    """
    if body.version is not None and not who.may("admin"):
        raise ProblemError(403, 'version: this needs the role "admin"')
    if body.request_id is not None:
        field = "trace" if body.trace else "version"
        raise ProblemError(409, f"{field}: such a list is not logged; leave request_id out")
    _check_subject(body)
    request_id = new_request_id()
    chosen = await run_in_threadpool(service.previews.model, who.tenant, body.user_id, body.version)
    is_random = body.version is None and not body.diversity
    request = _Recommending(service, who.tenant, body, request_id if is_random else None)
    if not body.trace:
        ranking, items = await _made_list(chosen, request)
        notes = [*request.notes, *ranking.notes]
        return _response(request_id, chosen.name, items, notes)
    trace = RequestTrace(chosen)
    with trace.answering(request) as model:
        ranking, items = await _made_list(model, request)
    notes = [*request.notes, *ranking.notes]
    shown = await run_in_threadpool(trace.to_dict, request, len(items))
    return _response(request_id, chosen.name, items, notes, {"trace": shown})


async def _made_list(
    model: LoadedRecommender, request: "_Recommending"
) -> tuple[Ranking, list[dict[str, Any]]]:
    """Ask a model; return its ranking and the items as answers show them.

    Notes are added to those of the request.
    """
    body = request.body
    if body.text.strip() and not model.model.answers_text():
        raise ProblemError(
            409, f"text: {model.name} reads no text; POST /v1/search finds items by words"
        )
    if body.explain:
        _check_explains(model)
    answered, explanations = await _ask(model, request)
    catalogue = request.catalogue
    # blocked items are read again: some may have been blocked meanwhile
    without = await _current_exclusions(catalogue, body)
    ranking = _drop_forbidden(answered, request.query.exclude, without)
    if body.diversity:
        ranking = await run_in_threadpool(_diverse, catalogue, ranking, body)
    if request.query.history.item_ids:
        request.notes += fallback_notes(answered, "the history")
    items = _listed(catalogue, ranking)
    if explanations:
        _show_reasons(items, explanations, catalogue)
    elif body.explain:
        await run_in_threadpool(_add_reasons, model, request.query, ranking, items, catalogue)
    return ranking, items


async def own_list(
    service: Service, tenant: str, user_id: str, k: int
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the items that a person would be shown, with reasons where the model has any.

    The list is not logged: no event comes of it, and nothing is learned from it.
    """
    model = await run_in_threadpool(service.model_registry.model, tenant, user_id)
    question = {"user_id": user_id, "k": k, "explain": model.model.explains()}
    body = Recommend.model_validate(question)
    request = _Recommending(service, tenant, body, None)
    ranking, items = await _made_list(model, request)
    return items, [*request.notes, *ranking.notes]


def _recommend_again(
    service: Service, who: Caller, body: Recommend, logged: ServedList
) -> JSONResponse:
    """Return the logged list of a request, with reasons of today's model if asked for.

    A list that was asked with `keep_seen` shows a history: a caller who may not see one gets it
    without what the user had by then.
    """
    tenant = who.tenant
    request = _Recommending(service, tenant, body, None)
    service.catalogue(tenant)  # reads changed items, so that `prepare` need not
    request.filtered = ()
    request.prepare()
    hidden = () if who.may("read") else _seen_by(request.history, logged.time_ms)
    ranking = _logged_ranking(request.catalogue, body, logged, hidden)
    items = _listed(request.catalogue, ranking)
    if body.explain:
        model = service.model_registry.model(tenant, body.user_id)
        _check_explains(model)
        _add_reasons(model, request.query, ranking, items, request.catalogue)
    return _response(logged.request_id, logged.model, items, (*ranking.notes, NOTE))


def _seen_by(history: UserHistory, time_ms: int) -> tuple[str, ...]:
    """Return the items that a user had by a time, and those that the user does not want."""
    return (
        *(item_id for item_id, seen_ms in history.events if seen_ms <= time_ms),
        *history.against,
    )


async def _ask(model: LoadedRecommender, request: "_Recommending") -> Answered:
    """Return the model's answer to a request, with reasons unless the order is made after it.

    What grows with the items is done in a thread of the pool, before the model is asked: working
    out a filter, and reading changed items. A request with neither needs no such thread.
    """
    with_reasons = request.body.explain and not request.body.diversity
    if request.body.filter:
        await in_pool(ITEMS, request.read_items, model)
    try:
        return await model.batcher.answer(request.prepare, request.depth, with_reasons)
    except _OutdatedError:
        await in_pool(ITEMS, request.read_items, model)
        return await model.batcher.answer(request.prepare, request.depth, with_reasons)


async def _work_out_filter(service: Service, tenant: str, body: ListQuestion) -> None:
    """Work out a filter, so that no thread of all routes waits for one."""
    if body.filter:
        await in_pool(
            ITEMS,
            lambda condition: service.catalogue(tenant).excluded_by(condition),
            body.filter,
        )


async def _current_exclusions(catalogue: Catalogue, body: ListQuestion) -> tuple[Vocabulary, ...]:
    """Return what `_excluded` does; only a filter that must be worked out anew takes a thread."""
    if not body.filter:
        return (catalogue.blocked,)
    excluded = catalogue.known_exclusion(body.filter)
    if excluded is None:
        return await in_pool(ITEMS, _excluded, catalogue, body)
    return (catalogue.blocked, excluded)


class _OutdatedError(Exception):
    """Raised in the model's thread where changed items must be read first."""


class _Recommending:
    """One request for recommendations.

    The user's events are read in the model's thread, just before the model is asked, so that no
    other thread is waited for in between. Whatever takes longer is done by `read_items` before.
    """

    def __init__(
        self, service: Service, tenant: str, body: Recommend, randomness: str | None
    ) -> None:
        self.service = service
        self.tenant = tenant
        self.body = body
        # key of all randomness; None where the order is made after the model's
        self.randomness = randomness
        self.depth = max(POOL, body.k) if body.diversity else body.k
        self.notes: list[str] = []
        self.query = Query()
        self.catalogue: Catalogue  # once prepared
        self.history = NO_HISTORY  # of the stored user, once prepared
        # items that a filter excludes; None: changed items were not read for this request yet
        self.filtered: tuple[Vocabulary, ...] | None = None

    def read_items(self, model: LoadedRecommender) -> None:
        """Read changed items and work out the filter, for a `prepare` that need not."""
        catalogue = self.service.catalogue(self.tenant)
        body = self.body
        self.filtered = (catalogue.excluded_by(body.filter),) if body.filter else ()
        known_items = getattr(model.model, "items_", None)
        if isinstance(known_items, Vocabulary):
            for item_ids in (catalogue.blocked, *self.filtered):
                item_ids.found_in(known_items)  # the rows are kept: the model looks up none

    def prepare(self) -> tuple[Query, tuple[Vocabulary, ...]]:
        """Return the query and the items to leave out.

        Raises _OutdatedError where `read_items` must come first.
        """
        body = self.body
        snapshot = self.service.snapshot(self.tenant, body.user_id, refresh=False)
        if snapshot.is_outdated and self.filtered is None:
            raise _OutdatedError
        self.catalogue = snapshot.catalogue
        self.history = snapshot.history
        history = history_of(snapshot, body.user_id, body.history, self.notes)
        self.notes += unknown_notes(self.catalogue, body.exclude, "exclude")
        seen = () if body.keep_seen else (*history.item_ids, *snapshot.history.against)
        self.query = Query(
            body.user_id,
            history,
            body.text,
            now_ms(),
            self.randomness,
            (*body.exclude, *seen),
            context=context_of(snapshot, body.context),
        )
        return self.query, (self.catalogue.blocked, *(self.filtered or ()))


def context_of(snapshot: Snapshot, context: Mapping[str, Any]) -> dict[str, Any]:
    """Return the context of a question: its own values, then the user's attributes.

    Of more than MOST_ATTRIBUTES the rest is left out: they cost every question of a batch.
    """
    names = [*context, *(name for name in snapshot.attributes if name not in context)]
    return {
        name: context[name] if name in context else snapshot.attributes[name]
        for name in names[:MOST_ATTRIBUTES]
    }


def _similar(service: Service, tenant: str, body: Similar) -> JSONResponse:
    request_id = body.request_id or new_request_id()
    question = Question(tenant, "similar", request_id, text=body.item_id)
    catalogue = service.catalogue(tenant)
    answer = _Answer(service, question, body, catalogue)
    logged_response = answer.logged_response()
    if logged_response is not None:
        return logged_response
    model = service.model_registry.model(tenant)
    exclude = (*body.exclude, body.item_id)
    query = Query(None, History.of(body.item_id), time_ms=now_ms(), exclude=exclude)
    answered = model.batcher.ask(query, body.k, _excluded(catalogue, body))
    ranking = _drop_forbidden(answered, exclude, _excluded(catalogue, body))
    if body.item_id in catalogue.rows:
        notes = fallback_notes(ranking, "the item")
    else:
        notes = ["the item is not known: what it is like is not, either"]
    notes += unknown_notes(catalogue, body.exclude, "exclude")
    return answer.response(model.name, ranking, _listed(catalogue, ranking), notes)


def _search(service: Service, tenant: str, body: Search) -> JSONResponse:
    request_id = body.request_id or new_request_id()
    question = Question(tenant, "search", request_id, body.user_id, body.text)
    catalogue = service.catalogue(tenant)
    answer = _Answer(service, question, body, catalogue)
    logged_response = answer.logged_response()
    if logged_response is not None:
        return logged_response
    excluded = Vocabulary(dict.fromkeys(body.exclude))
    matches = catalogue.search(body.text, body.k, (*_excluded(catalogue, body), excluded))
    ids = tuple(item_id for item_id, _ in matches)
    ranking = Ranking(ids, np.array([score for _, score in matches], dtype=np.float32))
    notes = [] if matches else ["no item shares a word with the text"]
    if catalogue.unread:
        notes.append(
            f"{catalogue.unread} items are not read for meaning yet: they are found by their words"
        )
    notes += unknown_notes(catalogue, body.exclude, "exclude")
    ranker = "bm25" if catalogue.semantic_search is None else "bm25 and meaning"
    return answer.response(ranker, ranking, _listed(catalogue, ranking), notes)


def new_request_id() -> str:
    """Return a request id that begins with the time.

    Lists that are written together then lie together on the disk.
    """
    return f"{now_ms():012x}{secrets.token_hex(6)}"


class FastJSONResponse(JSONResponse):
    """JSON written by the validation library, in a quarter of the time."""

    def render(self, content: Any) -> bytes:
        """Return the JSON of an answer."""
        return to_json(content, inf_nan_mode="null")


def unknown_notes(
    catalogue: Catalogue, item_ids: Sequence[str], field: str | None = None
) -> list[str]:
    """Return a note that names the ids that are not stored, such as misspelt ones.

    There is none where no items are stored at all.
    """
    if not catalogue.rows or not item_ids:
        return []
    unknown = [item_id for item_id in dict.fromkeys(item_ids) if item_id not in catalogue.rows]
    if not unknown:
        return []
    start = (
        "not among the stored items" if field is None else f"{field}: not among the stored items"
    )
    return [f"{start}: {first_few(unknown)}"]


def fallback_notes(ranking: Ranking, subject: str) -> list[str]:
    """Return a note if the first model of a `Fallback` gave nothing of the list."""
    stages = ranking.columns.get("stage", np.zeros(1))
    if len(stages) and (stages > 0).all():
        return [f"the model knows nothing of {subject}: the list is what it falls back to"]
    return []


def history_of(
    snapshot: Snapshot, user_id: str | None, item_ids: Sequence[str] | None, notes: list[str]
) -> History:
    """Return the history of a question: the given items, or the user's stored events.

    Notes are added where items are unknown, events are not current, or there are none.
    """
    if item_ids is not None:
        notes += unknown_notes(snapshot.catalogue, item_ids)
        return History(tuple(item_ids))
    if user_id is None:
        return History()
    events = snapshot.history.events
    if not snapshot.is_current and events:
        notes.append("the database is away: events as last seen")
    elif not snapshot.is_current:
        notes.append("the database is away: answered as to a stranger")
    elif not events and not snapshot.history.against:
        notes.append("nothing is known of this user yet: answered as to a stranger")
    if not events:
        return History()
    return History(
        tuple([item_id for item_id, _ in events]), tuple([time_ms for _, time_ms in events])
    )


def _diverse(catalogue: Catalogue, ranking: Ranking, body: Recommend) -> Ranking:
    """Choose k items, each good and unlike those before it by the words they have."""
    rows = catalogue.rows
    texts = [words_of(rows[item_id]) if item_id in rows else "" for item_id in ranking.ids]
    return diversify(ranking, texts, body.diversity, body.k)


def _excluded(catalogue: Catalogue, body: ListQuestion) -> tuple[Vocabulary, ...]:
    """Return the items that must not be answered: blocked ones, and those a filter excludes."""
    if not body.filter:
        return (catalogue.blocked,)
    return (catalogue.blocked, catalogue.excluded_by(body.filter))


def _drop_forbidden(
    ranking: Ranking, exclude: Sequence[str], without: Sequence[Vocabulary]
) -> Ranking:
    """Drop items that must not be answered, should the model have answered them all the same."""
    forbidden = set(exclude)
    allowed = [
        position
        for position, item_id in enumerate(ranking.ids)
        if item_id not in forbidden and not any(item_id in ids for ids in without)
    ]
    if len(allowed) == len(ranking):
        return ranking
    notes = (*ranking.notes, "items that must not be answered were taken out after the model")
    columns = {name: column[allowed] for name, column in ranking.columns.items()}
    ids = tuple(ranking.ids[position] for position in allowed)
    details = {item_id: ranking.details[item_id] for item_id in ids if item_id in ranking.details}
    return Ranking(ids, ranking.scores[allowed], ranking.score_kind, columns, details, notes)


def _listed(catalogue: Catalogue, ranking: Ranking) -> list[dict[str, Any]]:
    """Return the items of a ranking as answers show them."""
    rows = catalogue.rows
    scored = zip(ranking.ids, ranking.scores.tolist(), strict=True)
    items: list[dict[str, Any]] = [
        {
            "item_id": item_id,
            "position": position,
            "score": round(float(score), 6),
            "title": (rows.get(item_id) or {}).get("title"),
        }
        for position, (item_id, score) in enumerate(scored, 1)
    ]
    if ranking.details:
        for item in items:
            if item["item_id"] in ranking.details:
                item["details"] = plain(ranking.details[item["item_id"]])
    return items


def _add_reasons(
    model: LoadedRecommender,
    query: Query,
    ranking: Ranking,
    items: list[dict[str, Any]],
    catalogue: Catalogue,
) -> None:
    """Ask the model for the reasons of a ranking, and add them to the items."""
    with ordinary_errors():
        explanations = model.model.explain([query], [ranking])[0]
    _show_reasons(items, explanations, catalogue)


def _check_explains(model: LoadedRecommender) -> None:
    """Raise ProblemError for a model without reasons."""
    if not model.model.explains():
        raise ProblemError(409, f"explain: {model.name} cannot explain its lists")


def _show_reasons(
    items: list[dict[str, Any]], explanations: Sequence[Explanation], catalogue: Catalogue
) -> None:
    """Add reasons to the items; they name no blocked item."""
    by_item = {explanation.item_id: explanation for explanation in explanations}
    for item in items:
        explanation = by_item[item["item_id"]]
        evidence = [
            part
            for part in explanation.evidence
            if part.kind != "item" or part.id not in catalogue.blocked
        ]
        item["reasons"] = [
            {"kind": part.kind, "id": part.id, "share": round(part.share, 4)}
            for part in evidence[:MOST_REASONS]
        ]


class _Answer:
    """The answer to a question, which is logged."""

    def __init__(
        self,
        service: Service,
        question: Question,
        body: ListQuestion,
        catalogue: Catalogue,
        hidden: Sequence[str] = (),
    ) -> None:
        self.service = service
        self.question = question
        self.body = body
        self.catalogue = catalogue
        self.hidden = hidden  # items that the caller must not see in another caller's list

    def logged_response(self) -> JSONResponse | None:
        """Return the answer that is logged under the caller's request id, None for a new id."""
        if self.body.request_id is None:
            return None
        logged = logged_answer(self.service, self.question)
        return None if logged is None else self._again(logged)

    def response(
        self,
        model: str,
        ranking: Ranking,
        items: list[dict[str, Any]],
        notes: Sequence[str],
    ) -> JSONResponse:
        """Return the answer, and have the list logged.

        Where another question of this request id was answered meanwhile, that answer is returned.
        """
        row = _served_list(self.question, model, ranking)
        logged = self.service.list_log.add(row)
        if logged is not row:
            check_same(self.question, logged)
            return self._again(logged)
        if self.body.request_id is not None:
            stored = self._stored()
            if stored is not None and stored.items != row.items:
                return self._again(stored)
        return _response(self.question.request_id, model, items, (*notes, *ranking.notes))

    def _stored(self) -> ServedList | None:
        """Return the list that was written under this id while this one was made."""
        question = self.question
        with suppress(*UNAVAILABLE):
            stored = stored_list(
                self.service.engine, question.tenant, question.request_id, question.user_id
            )
            if stored is not None:
                check_same(question, stored)
            return stored
        return None

    def _again(self, logged: ServedList) -> JSONResponse:
        ranking = _logged_ranking(self.catalogue, self.body, logged, self.hidden)
        items = _listed(self.catalogue, ranking)
        return _response(logged.request_id, logged.model, items, (*ranking.notes, NOTE))


def _logged_ranking(
    catalogue: Catalogue, body: ListQuestion, logged: ServedList, hidden: Sequence[str] = ()
) -> Ranking:
    """Return a logged list without `hidden`, and without what must not be answered now."""
    ids = tuple(item_id for item_id, _, _ in logged.items)
    scores = np.array([score for _, score, _ in logged.items])
    return _drop_forbidden(
        Ranking(ids, scores), (*body.exclude, *hidden), _excluded(catalogue, body)
    )


def _served_list(question: Question, model: str, ranking: Ranking) -> ServedList:
    if PROPENSITY in ranking.columns:
        propensities = ranking.columns[PROPENSITY].tolist()
    else:
        propensities = [1.0] * len(ranking)
    return ServedList(
        question.tenant,
        question.request_id,
        question.user_id,
        now_ms(),
        question.surface,
        question.text,
        model,
        tuple(zip(ranking.ids, ranking.scores.tolist(), propensities, strict=True)),
    )


def _response(
    request_id: str,
    model: str,
    items: list[dict[str, Any]],
    notes: Sequence[str],
    more: Mapping[str, Any] | None = None,
) -> JSONResponse:
    answer = {"request_id": request_id, "model": model, "items": items, "notes": list(notes)}
    return FastJSONResponse(answer if more is None else {**answer, **more})
