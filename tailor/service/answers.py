"""What people ask: recommendations, similar items, search, and the order of documents."""

import secrets
from collections.abc import Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter, Depends
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic_core import to_json

from tailor.data.nouns import History, Query, Ranking
from tailor.data.vocabulary import Vocabulary
from tailor.pipeline.explore import PROPENSITY
from tailor.reranking.mmr import marginal_order
from tailor.service.batcher import LoadedRecommender
from tailor.service.catalogue import Catalogue, words_of
from tailor.service.problems import ProblemError
from tailor.service.schemas import ListQuestion, Recommend, Rerank, Search, Similar
from tailor.service.state import Service
from tailor.store.engine import now_ms
from tailor.store.impressions import ServedList
from tailor.store.keys import Caller
from tailor.text.bm25 import BM25
from tailor.text.tfidf import tfidf

POOL = 50  # items that a varied list is chosen from
NAMED = 5  # unknown items of a history, in a note


def routes(service: Service, reader: Any) -> APIRouter:
    """`reader` is a dependency that gives the caller."""
    api = APIRouter(tags=["answers"])

    @api.post("/v1/recommendations")
    async def recommend(body: Recommend, who: Caller = Depends(reader)) -> JSONResponse:
        """Items for a person, best first, each with its reasons where asked for. Stored events
        count from the moment they were accepted.
        """
        if body.user_id is not None and body.history is not None:
            raise ProblemError(422, "history: give user_id or history, not both")
        model = service.model_registry.placed(who.tenant, body.user_id)
        if model is None:  # to be loaded, which takes a while
            model = await run_in_threadpool(service.model_registry.model, who.tenant, body.user_id)
        if body.text.strip() and not model.model.answers_text():
            raise ProblemError(
                422, f"text: {model.name} reads no text; POST /v1/search finds items by words"
            )
        request_id = body.request_id or _new_id()
        asking = _Recommending(service, who.tenant, body, None if body.diversity else request_id)
        found = await model.batcher.answer(asking.prepare, asking.depth)
        # as it is now: what was blocked meanwhile goes too
        ranking = _kept(found, asking.query.exclude, _without(asking.shelf, body))
        if body.diversity:
            ranking = await run_in_threadpool(_varied, asking.shelf, ranking, body)
        if asking.query.history.item_ids:
            asking.notes += fallback_notes(found, "the history")
        items = _listed(asking.shelf, ranking)
        if body.explain:
            await run_in_threadpool(_explain, model, asking.query, ranking, items, asking.shelf)
        return _answer(
            service,
            who.tenant,
            "recommendations",
            body.user_id,
            body.text or None,
            model.name,
            request_id,
            ranking,
            items,
            asking.notes,
        )

    @api.post("/v1/similar")
    def similar(body: Similar, who: Caller = Depends(reader)) -> JSONResponse:
        """What people who had an item went on to, or what is like it."""
        model, shelf = service.model_registry.model(who.tenant), service.shelf(who.tenant)
        request_id = body.request_id or _new_id()
        query = Query(
            None, History.of(body.item_id), time_ms=now_ms(), exclude=(*body.exclude, body.item_id)
        )
        ranking = _kept(
            model.batcher.ask(query, body.k, _without(shelf, body)),
            query.exclude,
            _without(shelf, body),
        )
        stranger = ["the item is not known: what it is like is not, either"]
        notes = fallback_notes(ranking, "the item") if body.item_id in shelf.rows else stranger
        return _answer(
            service,
            who.tenant,
            "similar",
            None,
            None,
            model.name,
            request_id,
            ranking,
            _listed(shelf, ranking),
            notes,
        )

    @api.post("/v1/search")
    def search(body: Search, who: Caller = Depends(reader)) -> JSONResponse:
        """Items that answer a text: by words (BM25 over title, categories and text), and by meaning
        where the server was started so.
        """
        shelf = service.shelf(who.tenant)
        found = shelf.search(
            body.text, body.k, (*_without(shelf, body), Vocabulary(dict.fromkeys(body.exclude)))
        )
        ranking = Ranking(
            tuple(item_id for item_id, _ in found),
            np.array([score for _, score in found], dtype=np.float32),
        )
        request_id = body.request_id or _new_id()
        notes = [] if found else ["no item shares a word with the text"]
        if waiting := shelf.unread:
            notes.append(
                f"{waiting} items are not read for meaning yet: they are found by their words"
            )
        by = "bm25" if shelf.semantic_search is None else "bm25 and meaning"
        return _answer(
            service,
            who.tenant,
            "search",
            body.user_id,
            body.text,
            by,
            request_id,
            ranking,
            _listed(shelf, ranking),
            notes,
        )

    @api.post("/v1/rerank")
    @api.post("/v2/rerank")
    def rerank(body: Rerank, who: Caller = Depends(reader)) -> dict[str, Any]:
        """Documents in the order of their words' fit to a query (BM25 among them), in the shape of
        Cohere's API; scores s are given as s / (1 + s).
        """
        documents = BM25(language="english")
        documents.add(body.documents)
        scores = np.asarray(documents.scores([body.query]).todense())[0]
        order = np.argsort(-scores, kind="stable")[: body.top_n]
        results = [
            {"index": int(at), "relevance_score": round(float(scores[at] / (1 + scores[at])), 6)}
            for at in order
        ]
        return {
            "id": _new_id(),
            "results": results,
            "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 0}},
        }

    return api


def _new_id() -> str:
    """Of a request: later ones stand behind earlier ones, so that what is written together stands
    together on the disk.
    """
    return f"{now_ms():012x}{secrets.token_hex(6)}"


class Plain(JSONResponse):
    """JSON written by the validation library, in a quarter of the time."""

    def render(self, content: Any) -> bytes:
        return to_json(content, inf_nan_mode="null")


class _Recommending:
    """One request: what the store knows is read in the model's thread, just before the model is
    asked, so that nobody waits for a thread in between.
    """

    def __init__(self, service: Service, tenant: str, body: Recommend, chance: str | None) -> None:
        self.service, self.tenant, self.body = service, tenant, body
        # what it is drawn from; none where the order is made after the model's
        self.chance = chance
        self.depth = max(POOL, body.k) if body.diversity else body.k
        self.notes: list[str] = []
        self.query = Query()
        self.shelf: Catalogue  # once prepared

    def prepare(self) -> tuple[Query, tuple[Vocabulary, ...]]:
        body = self.body
        self.shelf, events, now = self.service.known(self.tenant, body.user_id)
        history = history_of(self.shelf, body.user_id, body.history, events, now, self.notes)
        seen = () if body.keep_seen else history.item_ids
        self.query = Query(
            body.user_id,
            history,
            body.text,
            now_ms(),
            self.chance,
            (*body.exclude, *seen),
            context=body.context,
        )
        return self.query, _without(self.shelf, body)


def _unknown(shelf: Catalogue, history: Sequence[str]) -> list[str]:
    """A note of items that were given and are not stored, as a misspelt one is not; none where no
    items are stored at all.
    """
    lacking = [one for one in dict.fromkeys(history) if one not in shelf.rows] if shelf.rows else []
    more = f" and {len(lacking) - NAMED:,} more" if len(lacking) > NAMED else ""
    return [f"not among the stored items: {', '.join(lacking[:NAMED])}{more}"] if lacking else []


def fallback_notes(ranking: Ranking, what: str) -> list[str]:
    """A note where the first model of a `Fallback` had nothing to say, and another filled the list."""
    stages = ranking.columns.get("stage", np.zeros(1))
    return (
        [f"the model knows nothing of {what}: the list is what it falls back to"]
        if len(stages) and (stages > 0).all()
        else []
    )


def history_of(
    shelf: Catalogue,
    user_id: str | None,
    given: Sequence[str] | None,
    events: list[tuple[str, int]],
    now: bool,
    notes: list[str],
) -> History:
    """What was given, or what is stored of a person; notes say where that names what is not stored,
    is not as of now, or is nothing.
    """
    if given is not None:
        notes += _unknown(shelf, given)
        return History(tuple(given))
    if user_id is None:
        return History()
    if not now:
        notes.append(
            "the database is away: events as last seen"
            if events
            else "the database is away: answered as to a stranger"
        )
    elif not events:
        notes.append("nothing is known of this user yet: answered as to a stranger")
    return (
        History(tuple(item_id for item_id, _ in events), tuple(time_ms for _, time_ms in events))
        if events
        else History()
    )


def _varied(shelf: Catalogue, found: Ranking, body: Recommend) -> Ranking:
    """Of the items found k, each good and unlike those before it by the words they have
    (`reranking.mmr`).
    """
    if not len(found):
        return found
    words = tfidf([words_of(shelf.rows[one]) if one in shelf.rows else "" for one in found.ids])
    places, values = marginal_order(
        np.arange(len(found))[None],
        found.scores[None],
        words,
        body.diversity,
        min(body.k, len(found)),
    )
    notes = found.notes if len(found) < body.k else ()
    return Ranking(
        tuple(found.ids[at] for at in places[0]), values[0], "marginal relevance", notes=notes
    )


def _without(shelf: Catalogue, body: ListQuestion) -> tuple[Vocabulary, ...]:
    return (shelf.blocked, shelf.outside(body.filter)) if body.filter else (shelf.blocked,)


def _kept(ranking: Ranking, exclude: Sequence[str], without: Sequence[Vocabulary]) -> Ranking:
    """The same without what must not be answered, should a model have answered it all the same: the
    last gate, which asks nobody.
    """
    forbidden = set(exclude)
    good = [
        at
        for at, one in enumerate(ranking.ids)
        if one not in forbidden and not any(one in ids for ids in without)
    ]
    if len(good) == len(ranking):
        return ranking
    ids, notes = (
        tuple(ranking.ids[at] for at in good),
        (
            *ranking.notes,
            "items that must not be answered were taken out after the model",
        ),
    )
    columns = {name: column[good] for name, column in ranking.columns.items()}
    return Ranking(ids, ranking.scores[good], ranking.score_kind, columns, notes=notes)


def _listed(shelf: Catalogue, ranking: Ranking) -> list[dict[str, Any]]:
    rows = shelf.rows
    return [
        {
            "item_id": item_id,
            "position": at,
            "score": round(float(score), 6),
            "title": (rows.get(item_id) or {}).get("title"),
        }
        for at, (item_id, score) in enumerate(
            zip(ranking.ids, ranking.scores.tolist(), strict=True), 1
        )
    ]


def _explain(
    model: LoadedRecommender,
    query: Query,
    ranking: Ranking,
    items: list[dict[str, Any]],
    shelf: Catalogue,
) -> None:
    """Reasons name no item that must not be answered."""
    if not model.model.explains():
        raise ProblemError(422, f"explain: {model.name} cannot explain its lists")
    for one, found in zip(items, model.model.explain([query], [ranking])[0], strict=True):
        named = [
            part for part in found.evidence if part.kind != "item" or part.id not in shelf.blocked
        ]
        one["reasons"] = [
            {"kind": part.kind, "id": part.id, "share": round(part.share, 4)} for part in named[:5]
        ]


def _answer(
    service: Service,
    tenant: str,
    surface: str,
    user_id: str | None,
    text: str | None,
    model: str,
    request_id: str,
    ranking: Ranking,
    items: list[dict[str, Any]],
    notes: Sequence[str],
) -> JSONResponse:
    """The answer, and a line for the log of what was served."""
    chances = (
        ranking.columns[PROPENSITY].tolist()
        if PROPENSITY in ranking.columns
        else [1.0] * len(ranking)
    )
    shown = tuple(zip(ranking.ids, ranking.scores.tolist(), chances, strict=True))
    service.list_log.add(
        ServedList(tenant, request_id, user_id, now_ms(), surface, text, model, shown)
    )
    return Plain(
        {
            "request_id": request_id,
            "model": model,
            "items": items,
            "notes": [*notes, *ranking.notes],
        }
    )
