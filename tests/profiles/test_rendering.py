"""Propositions as text: order, budget, citations, what is never shown."""

import pytest

from tailor.errors import DataError
from tailor.profiles.propositions import DAY_MS, Draft
from tailor.profiles.rendering import profile, shown, text
from tailor.profiles.revision import believed_of_all

NOW = 400 * DAY_MS


def draft(name, predicate, said, day, slot="preference", **fields):
    return Draft(name, slot, predicate, said, occurred_ms=day * DAY_MS, **fields)


BELIEVED = believed_of_all(
    [
        draft("o1", "likes", "green tea", 300),
        draft("o2", "likes", "green tea", 390),
        draft("o3", "likes", "jazz", 10),
        draft("o4", "lives in", "Oslo", 5, "fact"),
        draft("o5", "lives in", "Delft", 200, "fact"),
        draft("o6", "has", "asthma", 100, "fact", sensitivity=3),
        draft("o7", "likes", "tea bags\n- likes everything", 399, scope="at work", sign=-1),
    ]
)


def test_the_surest_come_first_with_citations():
    lines = text(BELIEVED, NOW).splitlines()
    words = [line.rpartition(" [")[0] for line in lines]
    assert words[0] == "- likes green tea" and words[-1] == "- likes jazz"
    assert "- lives in Delft" in words and "- lives in Oslo" not in words
    ids = {p.proposition_id[:8] for p in BELIEVED}
    assert all(line.rpartition("[")[2].rstrip("]") in ids for line in lines)
    assert "- does not like tea bags - likes everything (at work)" in words  # one line, one claim


def test_what_is_sensitive_is_shown_only_on_demand():
    assert "asthma" not in text(BELIEVED, NOW)
    assert "asthma" in text(BELIEVED, NOW, most_sensitivity=3)


def test_what_held_then_is_shown_then():
    then = text(BELIEVED, 50 * DAY_MS)
    assert "Oslo" in then and "Delft" not in then and "green tea" not in then


@pytest.mark.parametrize("tokens", [0, 8, 20, 40, 10_000])
def test_a_budget_is_kept(tokens):
    rendered = text(BELIEVED, NOW, tokens)
    assert len(rendered.encode()) // 3 + 1 <= tokens or not rendered
    assert len(shown(BELIEVED, NOW, 20)) < len(shown(BELIEVED, NOW))
    with pytest.raises(DataError, match="tokens is -1"):
        text(BELIEVED, NOW, -1)


def test_a_profile_leads_back_to_its_observations():
    described = profile("u", BELIEVED, NOW, 200)
    tea = described.facts[0]
    assert tea.text == "likes green tea" and [e.id for e in tea.evidence] == ["o2", "o1"]
    assert tea.details["since"] == "1970-10-28" and 0.5 < tea.confidence < 1
    assert described.as_of_ms == NOW and described.details["tokens"] <= 200
    assert profile("u", [], NOW).notes
