"""Reranking over HTTP: documents in, their order out, in the shape of Cohere's API.

Texts and answers are kept in memory only, each tenant's apart. A failed model costs places, never
the answer.
"""

import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from fastapi import APIRouter, Depends
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from tailor.data.nouns import Profile, Query, Ranking, plain
from tailor.errors import TailorError
from tailor.llm.metered import Spent
from tailor.llm.prompts import BYTES_PER_TOKEN
from tailor.ports.cache import in_memory_only
from tailor.ports.configuration import catalogue_language
from tailor.reranking.bm25_reranker import BM25Reranker
from tailor.reranking.embedding_reranker import EmbeddingReranker
from tailor.reranking.reranker import Reranker
from tailor.reranking.shortlist import Limits, Reranked, Shortlist, ordered, scored_statuses
from tailor.service import responses
from tailor.service.answers import FastJSONResponse, new_request_id
from tailor.service.batcher import ordinary_errors
from tailor.service.catalogue import words_of
from tailor.service.problems import ProblemError
from tailor.service.routing import RERANKERS, in_pool, service_router
from tailor.service.schemas import Document, Rerank
from tailor.service.state import Service
from tailor.store.keys import Caller

log = logging.getLogger("tailor.service")
BM25, EMBED = "bm25", "embed"  # models that need no registration
HISTORY = 10  # latest items of a user that a reranker reads


def routes(service: Service, reader: Any) -> APIRouter:
    """Return the routes; `reader` is a dependency that gives the caller."""
    api = service_router("answers")
    by_words = BM25Reranker.without_catalogue(catalogue_language())
    by_meaning = EmbeddingReranker() if service.settings.meaning else None

    @api.post("/v1/rerank", responses=responses.answers(responses.RerankAnswer, 409))
    @api.post("/v2/rerank", responses=responses.answers(responses.RerankAnswer, 409))
    async def rerank(body: Rerank, who: Caller = Depends(reader)) -> JSONResponse:
        """Order documents by how well they answer a query, in the shape of Cohere's API.

        The answer is always all documents, or the best `top_n` of them. A document that the model
        says nothing of keeps its earlier place, with the status "fallback". Nothing of it is logged
        or written to a disk.
        """
        if body.prior_scores and len(body.prior_scores) != len(body.documents):
            raise ProblemError(
                409,
                f"prior_scores: {len(body.prior_scores)} scores for {len(body.documents)}"
                " documents: send one for each, or none",
            )
        job = _choose(service, who.tenant, body, by_words, by_meaning)
        if isinstance(job.model, Reranker):
            return await in_pool(RERANKERS, job.answer)
        return await run_in_threadpool(job.answer)

    return api


def _choose(
    service: Service,
    tenant: str,
    body: Rerank,
    by_words: BM25Reranker,
    by_meaning: EmbeddingReranker | None,
) -> "_Reranking":
    """Return the request with the model that answers it."""
    if body.model == EMBED:
        if by_meaning is None:
            raise ProblemError(409, "model: embed needs an encoder: start with `serve --meaning`")
        return _Reranking(service, tenant, body, by_meaning, EMBED)
    loaded = None if body.model == BM25 else service.model_registry.reranker(tenant)
    name = BM25 if loaded is None else loaded.name
    own_names = ("", name, name.partition("@")[0])
    warnings = () if body.model in own_names else (f"model: {name} answers here, not {body.model}",)
    model = by_words if loaded is None else loaded.model
    return _Reranking(service, tenant, body, model, name, warnings)


@dataclass(frozen=True)
class _Reranking:
    """One request, and the model that answers it."""

    service: Service
    tenant: str
    body: Rerank
    model: Reranker | BM25Reranker
    model_name: str
    warnings: tuple[str, ...] = ()

    def answer(self) -> JSONResponse:
        """Return the answer of the model."""
        began_s = time.perf_counter()
        result = self._reranked()
        ms = round((time.perf_counter() - began_s) * 1000, 3)
        count = min(self.body.top_n or len(result.order), len(result.order))
        prior_ranks = self._prior_ranks()
        results = [
            self._shown(result, place, rank, prior_ranks)
            for rank, place in enumerate(result.order[:count].tolist(), 1)
        ]
        meta = {
            "api_version": {"version": "2"},
            "billed_units": {"search_units": 0},
            "model": self.model_name,
            "usage": _usage(result.spent, ms),
            "warnings": [*self.warnings, *result.notes],
        }
        return FastJSONResponse({"id": new_request_id(), "results": results, "meta": meta})

    def _reranked(self) -> Reranked:
        shortlist = self._shortlist()
        if isinstance(self.model, BM25Reranker):
            return _by_words(self.model, shortlist)
        limits = Limits(usd=self.body.max_usd, seconds=self.body.deadline_ms / 1000)
        cache = self.service.rerank_cache(self.tenant)
        try:
            with in_memory_only(cache), ordinary_errors():
                return _in_prior_order(self.model, shortlist, limits)
        except Exception as error:  # of any kind: only ours are quoted
            if self.body.max_usd is not None and "prices" in str(error):
                raise ProblemError(409, f"max_usd: {error}") from None
            problem = str(error) if isinstance(error, TailorError) else type(error).__name__
            extra = {"tenant": self.tenant, "model": self.model_name, "error": problem}
            log.error("a reranker gave no answer", extra=extra)
            note = f"{self.model_name} gave no answer, and the earlier order stands: {problem}"
            return _unranked(shortlist, note)

    def _shortlist(self) -> Shortlist:
        body = self.body
        size = BYTES_PER_TOKEN * body.max_tokens_per_doc
        documents = [
            {"text": _cut(_text(document), size), "image": _image(document)}
            for document in body.documents
        ]
        plain_order = Shortlist.of_documents(body.query, documents)
        prior = np.array(body.prior_scores) if body.prior_scores else plain_order.prior
        return replace(
            plain_order,
            query=Query(body.user_id, text=body.query),
            prior=prior,
            profile=Profile(body.user_id, body.profile) if body.profile.strip() else None,
            history=self._history(),
        )

    def _history(self) -> tuple[str, ...]:
        """Return the titles of the latest items of the stored user, without blocked ones."""
        if self.body.user_id is None:
            return ()
        snapshot = self.service.snapshot(self.tenant, self.body.user_id)
        rows, blocked = snapshot.catalogue.rows, snapshot.catalogue.blocked
        item_ids = [item_id for item_id, _ in snapshot.history.events if item_id not in blocked]
        titles = []
        for item_id in item_ids[-HISTORY:]:
            with suppress(KeyError):
                titles.append(rows[item_id].get("title") or words_of(rows[item_id]))
        return tuple(titles)

    def _prior_ranks(self) -> np.ndarray:
        """Return the rank (n,) of each document at the earlier stage, from 1."""
        n = len(self.body.documents)
        prior = np.array(self.body.prior_scores) if self.body.prior_scores else -np.arange(n)
        ranks = np.empty(n, int)
        ranks[np.argsort(-prior, kind="stable")] = np.arange(1, n + 1)
        return ranks

    def _shown(
        self, result: Reranked, place: int, rank: int, prior_ranks: np.ndarray
    ) -> dict[str, Any]:
        """Return a document of the answer."""
        score = float(result.scores[place])
        extra: dict[str, Any] = {
            "rank": rank,
            "prior_rank": int(prior_ranks[place]),
            "score": round(score, 6),
            "score_kind": result.score_kind,
            "status": result.statuses[place],
        }
        if result.details.get(place):
            extra["details"] = plain(dict(result.details[place]))
        row: dict[str, Any] = {
            "index": place,
            "relevance_score": relevance(score, result.score_kind, rank, len(result.order)),
        }
        if self.body.return_documents:
            document = self.body.documents[place]
            row["document"] = _returned(document)
        return {**row, "extra": extra}


def relevance(score: float, score_kind: str, rank: int, count: int) -> float:
    """Return a number from 0 to 1: a probability, else the share of a place."""
    if score_kind == "probability":
        return round(min(max(score, 0.0), 1.0), 6)
    if score_kind == BM25:
        return round(score / (1 + score), 6)
    return round((count - rank + 1) / count, 6)


def _by_words(model: BM25Reranker, shortlist: Shortlist) -> Reranked:
    """Return the order by BM25; documents without a word of the query keep their order."""
    documents = Ranking.of_texts(shortlist.texts)
    ranking = model.recommend([Query(text=shortlist.request)], len(shortlist), [documents])[0]
    scores = np.zeros(len(shortlist))
    scores[[int(number) for number in ranking.ids]] = ranking.scores
    return ordered(shortlist, scores, scored_statuses(scores), BM25)


def _in_prior_order(model: Reranker, shortlist: Shortlist, limits: Limits) -> Reranked:
    """Return a model's order of documents, which it is shown in the order of the prior.

    Documents beyond the model's depth follow in that order.
    """
    places = np.argsort(-shortlist.prior, kind="stable")
    read, beyond = places[: model.depth], places[model.depth :]
    result = model.rerank([shortlist.take(read)], limits)[0]
    scores = np.empty(len(places))
    scores[read] = result.scores
    last = result.scores.min(initial=0.0)
    scores[beyond] = last - 1 - np.arange(len(beyond))
    statuses = np.full(len(places), "fallback", object)
    statuses[read] = result.statuses
    note = (f"{model.name} reads the first {model.depth} documents",) if len(beyond) else ()
    return replace(
        result,
        order=np.r_[read[result.order], beyond],
        scores=scores,
        statuses=tuple(statuses),
        details={int(read[position]): parts for position, parts in result.details.items()},
        notes=(*result.notes, *note),
    )


def _unranked(shortlist: Shortlist, note: str) -> Reranked:
    """Return the order of the prior, all documents with the status "fallback"."""
    scores = np.full(len(shortlist), np.nan)
    places = np.argsort(-shortlist.prior, kind="stable")
    result = ordered(shortlist, scores, scored_statuses(scores), "rank", notes=(note,))
    return replace(result, order=places)


def _text(document: str | Document) -> str:
    """Return what is read of a document."""
    if isinstance(document, str):
        return document
    return f"{document.title}\n{document.text}" if document.title else document.text


def _image(document: str | Document) -> str:
    """Return the picture of a document in base64, "" for none."""
    return "" if isinstance(document, str) else document.image


def _returned(document: str | Document) -> Any:
    """Return a document as it was sent."""
    return document if isinstance(document, str) else document.model_dump(exclude_unset=True)


def _cut(text: str, size: int) -> str:
    """Return the beginning of a text, of at most `size` bytes."""
    return text if len(text) * 4 <= size else text.encode()[:size].decode("utf-8", "ignore")


def _usage(spent: Spent, ms: float) -> Mapping[str, float]:
    return {
        "calls": spent.calls,
        "tokens_in": spent.tokens_in,
        "tokens_out": spent.tokens_out,
        "cached": spent.cached,
        "usd": round(spent.usd, 6),
        "ms": ms,
    }
