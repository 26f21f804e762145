"""The page Ask: rerank documents by several strategies, search and recommend by a text."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from nicegui import ui

from tailor.console import widgets
from tailor.console.frame import page
from tailor.console.session import Session, is_away
from tailor.errors import ServiceError

STRATEGIES = {
    "bm25": "By words (bm25)",
    "embed": "By meaning (embed)",
    "": "The service's own reranker",
}
MOST_DOCUMENTS = 1_000
FOUND = 20  # documents that a search fills in
DEFAULT_K, MOST_K = 10, 50
LONGEST = 300  # characters of a document that are shown
EXAMPLE = "a warm jacket for the rain"
USAGE = {
    "calls": "calls",
    "tokens_in": "tokens in",
    "tokens_out": "tokens out",
    "cached": "answers from the cache",
}


@page("/ask", title="Ask", icon="manage_search", role="read", order=60)
async def ask(session: Session) -> None:
    """Offer reranking, search and recommendations by a text, side by side."""
    _Reranking(session)
    _Questions(session)


class _Reranking:
    """The section that orders documents by several strategies, side by side."""

    def __init__(self, session: Session) -> None:
        self._session = session
        with widgets.section("Rerank documents"):
            ui.label(
                "Order texts by how well they answer a query, by several strategies beside each"
                " other. Nothing of it is logged."
            )
            self._query = ui.input("Query", placeholder=EXAMPLE).classes("w-full")
            self._documents = ui.textarea("Documents, one a line").classes("w-full")
            self._documents.props("autogrow")
            fill = ui.button("Fill in what a search finds", on_click=self._fill)
            fill.props("outline")
            with ui.row().classes("w-full gap-4 items-end"):
                self._user = ui.input("Person (optional)").classes("min-w-40")
                self._strategies = ui.select(
                    STRATEGIES, label="Strategies", value=["bm25", ""], multiple=True
                ).props("use-chips")
                self._strategies.classes("min-w-72")
            self._button = ui.button("Order them", on_click=self._run)
            self._results = ui.element("div").classes("w-full grid gap-4 tailor-columns")
            self._results.props('aria-live="polite"')

    async def _fill(self) -> None:
        """Search for the query and take the titles as documents."""
        text = (self._query.value or "").strip()
        if not text:
            ui.notify("Write a query first.")
            return
        answer = await self._session.ask(lambda client: client.search(text, k=FOUND))
        lines = [one_line(item["title"] or item["item_id"]) for item in answer["items"]]
        if not lines:
            ui.notify("The search finds nothing for this query.")
            return
        self._documents.value = "\n".join(lines)

    async def _run(self) -> None:
        query = (self._query.value or "").strip()
        documents = documents_of(self._documents.value or "")
        if not query or not documents:
            ui.notify("Write a query, and at least one document.")
            return
        if len(documents) > MOST_DOCUMENTS:
            ui.notify(f"{len(documents):,} documents: at most {MOST_DOCUMENTS:,} at once.")
            return
        user_id = (self._user.value or "").strip() or None
        models = list(self._strategies.value) or ["bm25"]
        self._button.disable()
        try:
            answers = await asyncio.gather(
                *(_reranked(self._session, model, query, documents, user_id) for model in models)
            )
        finally:
            self._button.enable()
        self._results.clear()
        with self._results:
            for model, answer in zip(models, answers, strict=True):
                _show_order(STRATEGIES[model], documents, answer)


async def _reranked(
    session: Session, model: str, query: str, documents: Sequence[str], user_id: str | None
) -> dict[str, Any] | ServiceError:
    """Return the order of a strategy, or why there is none: the others are shown all the same."""
    options = {"model": model} | ({} if user_id is None else {"user_id": user_id})
    try:
        return await session.ask(lambda client: client.rerank(query, documents, **options))
    except ServiceError as error:
        if is_away(error):
            raise
        return error


def _show_order(
    name: str, documents: Sequence[str], answer: Mapping[str, Any] | ServiceError
) -> None:
    with ui.card().classes("w-full tailor-card").props("flat bordered"):
        widgets.heading(name, 3)
        if isinstance(answer, ServiceError):
            ui.label(str(answer)).props('role="alert"')
            return
        ui.label(f"Answered by {answer['meta']['model']}").classes("text-sm")
        ui.label(usage_text(answer["meta"]["usage"])).classes("text-sm")
        for warning in answer["meta"]["warnings"]:
            ui.label(warning).classes("text-sm")
        with ui.element("ol").classes("w-full tailor-items"):
            for result in answer["results"]:
                with ui.element("li"):
                    _show_document(documents[result["index"]], result)


def _show_document(text: str, result: Mapping[str, Any]) -> None:
    extra = result["extra"]
    with ui.row().classes("items-baseline gap-2 no-wrap"):
        ui.label(f"{extra['rank']}.").classes("tailor-place")
        with ui.column().classes("gap-0"):
            ui.label(text if len(text) <= LONGEST else f"{text[:LONGEST]}…")
            ui.label(place_text(extra)).classes("text-xs")
            for name, value in (extra.get("details") or {}).items():
                ui.label(f"{name}: {detail_text(value)}").classes("text-xs")


def place_text(extra: Mapping[str, Any]) -> str:
    """Return score, move and status of a document, in words."""
    parts = [f"{extra['score_kind']} {widgets.number(extra['score'])}"]
    moved = extra["prior_rank"] - extra["rank"]
    if moved:
        parts.append(f"{'up' if moved > 0 else 'down'} {abs(moved)}")
    if extra["status"] != "ranked":
        parts.append(str(extra["status"]))
    return ", ".join(parts)


def detail_text(value: Any) -> str:
    """Return a detail of a reranker as one short line."""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def usage_text(usage: Mapping[str, float]) -> str:
    """Return milliseconds, calls, tokens and cost of an answer, in words."""
    parts = [f"{usage['ms']:.1f} ms"]
    parts += [f"{usage[name]:,} {label}" for name, label in USAGE.items() if usage.get(name)]
    if usage.get("calls") or usage.get("usd"):
        parts.append(f"{usage['usd']:.6f} USD")
    return ", ".join(parts)


def documents_of(text: str) -> list[str]:
    """Return the lines of a text that are not blank."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def one_line(text: str) -> str:
    """Return a text without line ends."""
    return " ".join(text.split())


class _Questions:
    """The section that searches and recommends by a text, side by side."""

    def __init__(self, session: Session) -> None:
        self._session = session
        with widgets.section("Search and recommend by a text"):
            self._text = ui.input("Text", placeholder=EXAMPLE).classes("w-full")
            with ui.row().classes("w-full gap-4 items-end"):
                self._user = ui.input("Person (optional)").classes("min-w-40")
                self._k = ui.number("Items", value=DEFAULT_K, min=1, max=MOST_K, precision=0)
            self._button = ui.button("Ask", on_click=self._run)
            self._results = ui.element("div").classes("w-full grid gap-4 tailor-columns")
            self._results.props('aria-live="polite"')
        self._text.on("keydown.enter", self._run)

    async def _run(self) -> None:
        text = (self._text.value or "").strip()
        if not text:
            ui.notify("Write a text first.")
            return
        k = min(max(int(self._k.value or DEFAULT_K), 1), MOST_K)
        user_id = (self._user.value or "").strip() or None
        self._button.disable()
        try:
            matches, recommended = await asyncio.gather(
                _timed(self._session, lambda client: client.search(text, k=k)),
                _timed(self._session, lambda client: client.recommend(user_id, k=k, text=text)),
            )
        finally:
            self._button.enable()
        self._results.clear()
        with self._results:
            _show_items("Search", *matches)
            _show_items("Recommendations by the text", *recommended)


async def _timed(session: Session, job: Any) -> tuple[dict[str, Any] | ServiceError, float]:
    """Return an answer, or why there is none, and the milliseconds it took."""
    began_s = time.perf_counter()
    answer: dict[str, Any] | ServiceError
    try:
        answer = await session.ask(job)
    except ServiceError as error:
        if is_away(error):
            raise
        answer = error
    return answer, 1000 * (time.perf_counter() - began_s)


def _show_items(name: str, answer: Mapping[str, Any] | ServiceError, ms: float) -> None:
    with ui.card().classes("w-full tailor-card").props("flat bordered"):
        widgets.heading(name, 3)
        if isinstance(answer, ServiceError):
            ui.label(str(answer)).props('role="alert"')
            return
        ui.label(f"By {answer['model']}, in {ms:.0f} ms").classes("text-sm")
        for note in answer["notes"]:
            ui.label(note).classes("text-sm")
        if answer["items"]:
            widgets.item_list(answer["items"])
        else:
            ui.label("No item.")
