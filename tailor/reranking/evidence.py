"""Contribution and evidence of a document: a model's words where they hold, else cut out of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from tailor.text.passages import Span, exact_parts
from tailor.text.words import STOP_WORDS, search_words, words


def describe(
    request: str, text: str, spans: Sequence[Span], written: Mapping[str, Any]
) -> dict[str, Any]:
    """Return contribution and evidence of a document: a model's words where they hold.

    `spans` are the passages that are cut out otherwise; `written` has the model's words, if any.
    Evidence is a list of {text, start, end}; a rewritten one has no offsets. "unsupported" names
    the parts of the model's words that the document does not have.
    """
    passages: list[dict[str, Any]] = [
        {"text": text[span.start : span.end], "start": span.start, "end": span.end}
        for span in spans
    ]
    # a document too short to be cut is told of as a whole
    evidence_text = " ".join(passage["text"] for passage in passages) or text
    cut_out = contribution(request, evidence_text)
    out: dict[str, Any] = {"contribution": cut_out, "evidence": passages}
    unsupported = []
    for name in ("contribution", "evidence"):
        claim = written.get(name)
        if not isinstance(claim, str):
            continue
        # a contribution is a sentence of the model's own: "Names the price" names nobody
        parts = exact_parts(claim, text, skips_openings=name == "contribution")
        missing = [part.text for part in parts if not part.is_found]
        unsupported += missing
        if missing or len(words(claim)) > len(words(text)):
            continue
        out[name] = claim if name == "contribution" else [_quoted(claim, text)]
    if unsupported:
        out["unsupported"] = list(dict.fromkeys(unsupported))
    return out


def _quoted(evidence: str, text: str) -> dict[str, Any]:
    """Return evidence with its offsets, which are None where it is rewritten."""
    start = text.find(evidence)
    if start < 0:
        return {"text": evidence, "start": None, "end": None}
    return {"text": evidence, "start": start, "end": start + len(evidence)}


def contribution(request: str, evidence: str) -> str:
    """Return a sentence that names the request's words which evidence has, and those it lacks."""
    stems = set(search_words(evidence, "english"))
    request_words = [
        word for word in dict.fromkeys(words(request)) if word not in STOP_WORDS["english"]
    ]
    named = [word for word in request_words if stems.intersection(search_words(word, "english"))]
    lacking = [word for word in request_words if word not in named]
    if not named:
        return "Names none of the request's words; it is near in meaning."
    tail = f"; does not name {', '.join(lacking)}" if lacking else ""
    return f"Names {', '.join(named)}{tail}."
