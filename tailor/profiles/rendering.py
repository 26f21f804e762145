"""Propositions as a short text with citations, within a budget of tokens."""

from collections.abc import Iterable
from datetime import UTC, datetime

from tailor.data.nouns import Evidence, Fact, Profile
from tailor.errors import DataError
from tailor.llm.prompts import estimated_tokens
from tailor.profiles.propositions import Proposition
from tailor.profiles.sensitivity import MOST_SENSITIVITY, shown_propositions

ID_LETTERS = 8  # of a proposition's id, as a citation


def text(
    propositions: Iterable[Proposition],
    at_ms: int,
    tokens: int | None = None,
    most_sensitivity: int = MOST_SENSITIVITY,
) -> str:
    """Return a line for each proposition that holds at a time, surest first.

    "- likes green tea [3f2a90bc]": the id leads back to the evidence. What does not fit into
    `tokens` is left out, and what is more sensitive than `most_sensitivity` is never shown.
    """
    chosen = shown(propositions, at_ms, tokens, most_sensitivity)
    return "\n".join(line(proposition) for proposition in chosen)


def shown(
    propositions: Iterable[Proposition],
    at_ms: int,
    tokens: int | None = None,
    most_sensitivity: int = MOST_SENSITIVITY,
) -> list[Proposition]:
    """Return the propositions that `text` shows, in its order."""
    if tokens is not None and tokens < 0:
        raise DataError(f"tokens is {tokens}: at least 0")
    holding = [p for p in shown_propositions(propositions, most_sensitivity) if p.holds_at(at_ms)]
    holding.sort(key=lambda p: (-p.confidence(at_ms), -p.last_support_ms, p.proposition_id))
    chosen: list[Proposition] = []
    length = 0
    for proposition in holding:
        cost = len(line(proposition).encode("utf-8", "replace")) + 1
        if tokens is None or estimated_tokens("x" * (length + cost)) <= tokens:
            chosen.append(proposition)
            length += cost
    return chosen


def line(proposition: Proposition) -> str:
    """Return a proposition as one line with its citation."""
    words = " ".join(proposition.text.split())
    return f"- {words} [{proposition.proposition_id[:ID_LETTERS]}]"


def profile(
    user_id: str | None,
    propositions: Iterable[Proposition],
    at_ms: int,
    tokens: int | None = None,
    most_sensitivity: int = MOST_SENSITIVITY,
) -> Profile:
    """Return what holds at a time as a profile: the text, and facts with their observations."""
    chosen = shown(propositions, at_ms, tokens, most_sensitivity)
    facts = tuple(fact(proposition, at_ms) for proposition in chosen)
    notes = () if facts else ("nothing is believed of this user yet",)
    body = "\n".join(line(proposition) for proposition in chosen)
    details = {"tokens": estimated_tokens(body) if body else 0}
    return Profile(user_id, body, facts, {}, at_ms, notes, details)


def fact(proposition: Proposition, at_ms: int) -> Fact:
    """Return a proposition as a fact, its latest observations first."""
    observations = proposition.support[::-1]
    evidence = tuple(Evidence("observation", name, 1 / len(observations)) for name in observations)
    since = datetime.fromtimestamp(proposition.valid_from_ms / 1000, UTC).date().isoformat()
    details = {
        "id": proposition.proposition_id,
        "slot": proposition.slot,
        "predicate": proposition.predicate,
        "object": proposition.object,
        "polarity": proposition.polarity,
        "scope": proposition.scope,
        "status": proposition.status,
        "since": since,
        "sensitivity": proposition.sensitivity,
    }
    return Fact(proposition.text, evidence, round(proposition.confidence(at_ms), 4), details)
