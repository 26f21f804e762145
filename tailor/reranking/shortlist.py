"""Shortlists: the few documents of one request that are ordered, and the result of ordering them.

Documents are known by their place in the first-stage list, from 0, never by their text: two
documents with the same words stay two.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tailor.data.arrays import in_deviations
from tailor.data.nouns import Profile, Query
from tailor.errors import DataError
from tailor.llm.metered import Spent
from tailor.llm.parsing import Status
from tailor.text.turns import DialogueTurn


@dataclass(frozen=True, eq=False)
class Shortlist:
    """The n documents of one request in first-stage order, with what may stand in a prompt."""

    query: Query
    texts: tuple[str, ...]
    """(n,) texts of the documents."""
    prior: np.ndarray
    """(n,) first-stage scores, higher is better."""
    titles: tuple[str, ...] = ()
    """(n,) short names of the documents; () where they have none."""
    request: str = ""
    """What is asked for: the query's text, or words that stand in for it."""
    profile: Profile | None = None
    """Description of the user."""
    history: tuple[str, ...] = ()
    """Titles of the user's latest items, oldest first."""
    clues: tuple[str, ...] = ()
    """(n,) trusted words of ours shown behind each document, such as a score; () for none."""
    turns: tuple[DialogueTurn, ...] = ()
    """(n,) who said the documents and when; () where they are no turns of a dialogue."""
    tags: tuple[tuple[str, ...], ...] = ()
    """(n,) tags of whoever wrote each document, a tag as often as it was used; () for none."""
    images: tuple[bytes, ...] = ()
    """(n,) pictures of the documents as file contents, b"" for none; () where none has one."""

    def __post_init__(self) -> None:
        n = len(self.texts)
        if len(self.prior) != n or any(
            words and len(words) != n for words in (self.titles, self.clues)
        ):
            raise DataError(
                f"{n} documents with {len(self.prior)} first-stage scores, {len(self.titles)}"
                f" titles and {len(self.clues)} clues: give one each"
            )
        for name in ("turns", "tags", "images"):
            count = len(getattr(self, name))
            if count and count != n:
                raise DataError(f"{n} documents with {count} {name}: give one each")

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, places: Sequence[int] | np.ndarray) -> "Shortlist":
        """Return the shortlist of the documents at these places, in this order."""
        rows = np.asarray(places, np.int64)
        parts: dict[str, Any] = {
            name: tuple(getattr(self, name)[row] for row in rows.tolist())
            for name in ("texts", "titles", "clues", "turns", "tags", "images")
            if getattr(self, name)
        }
        return replace(self, prior=self.prior[rows], **parts)

    @classmethod
    def of_texts(cls, request: str, texts: Sequence[str]) -> "Shortlist":
        """Return a shortlist of plain documents, in the order in which they are given."""
        prior = -np.arange(len(texts), dtype=np.float64)
        return cls(Query(text=request), tuple(texts), prior, request=request)

    @classmethod
    def of_documents(
        cls, request: str, documents: Sequence[str | Mapping[str, str | bytes]]
    ) -> "Shortlist":
        """Return a shortlist of documents that are texts, or have a text, a title, an image.

        Such as {"text": "Sales of May", "image": picture}, the image as the content of a file, or
        as base64 with or without "data:image/png;base64," before it. Raises DataError for anything
        else in a document.
        """
        parts = [_document_parts(document) for document in documents]
        texts, titles, images = zip(*parts, strict=True) if parts else ((), (), ())
        shortlist = cls.of_texts(request, texts)
        return replace(
            shortlist,
            titles=titles if any(titles) else (),
            images=images if any(images) else (),
        )


def _document_parts(document: str | Mapping[str, str | bytes]) -> tuple[str, str, bytes]:
    """Return text, title and picture of a document."""
    if isinstance(document, str):
        return document, "", b""
    if not isinstance(document, Mapping):
        raise DataError(f"a document is {document!r}: give a text, or a mapping with a text")
    unknown = set(document) - {"text", "title", "image"}
    words = {name: document.get(name, "") for name in ("text", "title")}
    is_text = all(isinstance(value, str) for value in words.values())
    if unknown or not is_text:
        raise DataError(
            f"a document has {', '.join(map(repr, document))}: it may have text and title, which"
            " are texts, and image"
        )
    return str(words["text"]), str(words["title"]), image_bytes(document.get("image", b""))


def image_bytes(image: Any) -> bytes:
    """Return a picture that may be written as base64. Raises DataError for anything else."""
    if isinstance(image, bytes):
        return image
    try:
        return base64.b64decode(str(image).rpartition("base64,")[2], validate=True)
    except (binascii.Error, ValueError):
        raise DataError(
            f"an image is {repr(image)[:40]}: give the bytes of a file, or base64"
        ) from None


@dataclass(frozen=True)
class Limits:
    """Limits of one call of `rerank`; None: no limit."""

    calls: int | None = None
    """Prompts that may be sent."""
    usd: float | None = None
    """Money that all calls may cost."""
    seconds: float | None = None
    """Seconds after which nothing more is asked, and what stands is answered."""

    def __post_init__(self) -> None:
        for name in ("calls", "usd", "seconds"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise DataError(f"Limits.{name} is {value}: it must be at least 0, or None")

    def less(self, calls: int, usd: float, seconds: float) -> "Limits":
        """Return what is left of the limits after this was spent."""
        return Limits(
            None if self.calls is None else max(self.calls - calls, 0),
            None if self.usd is None else max(self.usd - usd, 0.0),
            None if self.seconds is None else max(self.seconds - seconds, 0.0),
        )


@dataclass(frozen=True)
class Exchange:
    """One prompt that was sent, and its answer."""

    docs: tuple[int, ...]
    """Documents shown, in the order shown."""
    prompt: str
    answer: str
    """The model's words; the error where there was no answer."""


@dataclass(frozen=True, eq=False)
class Reranked:
    """The order of one shortlist: always a permutation of its places."""

    order: np.ndarray
    """(n,) places of the documents, best first."""
    scores: np.ndarray
    """(n,) by place, higher is better; finite, and falling along `order`."""
    score_kind: str
    """Meaning of the scores: "grade", "probability", "rank", ..."""
    statuses: tuple[Status, ...]
    """By place: ranked, repaired, or fallback to the first-stage place."""
    details: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    """Place -> name -> value: agreement, contribution, evidence, flagged, truncated, ..."""
    spent: Spent = field(default_factory=Spent)
    """Calls, tokens and money of this shortlist's share."""
    notes: tuple[str, ...] = ()
    """What could not be done."""
    trace: tuple[Exchange, ...] = ()
    """Prompts and answers, where they were asked for."""


def ordered(
    shortlist: Shortlist,
    scores: np.ndarray,
    statuses: Sequence[Status],
    score_kind: str,
    prior_weight: float = 0.0,
    **fields: Any,
) -> Reranked:
    """Return the permutation that scores (n,) give.

    A document without a score (NaN) keeps its first-stage place. With a `prior_weight` above 0,
    scores are blended with the first stage's first, and a document without a score has its
    first-stage score alone.
    """
    n = len(shortlist)
    if prior_weight:
        scores = blended(scores, shortlist.prior, prior_weight)
        score_kind = f"{score_kind} with first stage"
    is_scored = ~np.isnan(scores)
    order = np.arange(n)
    scored = np.flatnonzero(is_scored)
    order[scored] = scored[np.argsort(-scores[scored], kind="stable")]
    return Reranked(order, _falling(scores, order), score_kind, tuple(statuses), **fields)


def scored_statuses(scores: np.ndarray) -> tuple[Status, ...]:
    """Return (n,) statuses: ranked, or fallback where a document has no score (NaN)."""
    return tuple("fallback" if np.isnan(score) else "ranked" for score in scores.tolist())


def blended(scores: np.ndarray, prior: np.ndarray, weight: float) -> np.ndarray:
    """Return (1 - weight) times the scores plus `weight` times the prior, in deviations of each.

    A document without a score (NaN) has its prior in place of it.
    """
    prior_z = deviations(prior)
    return (1 - weight) * np.where(np.isnan(scores), prior_z, deviations(scores)) + weight * prior_z


def deviations(scores: np.ndarray) -> np.ndarray:
    """Return (n,) scores in standard deviations from their mean, NaN where they are not finite."""
    is_finite = np.isfinite(scores)
    return np.where(is_finite, in_deviations(scores[None])[0], np.nan).astype(np.float64)


def _falling(scores: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return finite scores that never rise along `order`.

    A document that kept its place has the score of the one before it, or of the next one with a
    score where it stands first.
    """
    along = scores[order]
    finite = along[~np.isnan(along)]
    last = finite[0] if len(finite) else 0.0
    for position, score in enumerate(along):
        if np.isnan(score) or score > last:
            along[position] = last
        last = along[position]
    falling = np.empty(len(scores))
    falling[order] = along
    return falling
