"""The contract of profilers."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tailor.core.methods import Profiler
from tailor.data.nouns import History, Query, plain
from tailor.testing.data import tiny_data
from tailor.testing.fits import fitted, nearly_same, sample_queries


def checks_of(cls: type[Profiler]) -> list[Callable[[type[Any]], None]]:
    """Return the checks of a profiler."""
    return [
        profiles_are_profiles,
        one_profile_equals_a_batch,
        cold_users_have_a_profile_with_a_note,
        a_profile_looks_no_further_than_its_time,
        no_queries_no_profiles,
    ]


def profiles_are_profiles(cls: type[Profiler]) -> None:
    queries = sample_queries()
    catalogue = set(tiny_data().catalogue.ids)
    for query, profile in zip(queries, fitted(cls).profile(queries), strict=True):
        assert profile.user_id == query.user_id, "a profile of another user"
        assert profile.text or profile.facts or profile.notes, "an empty profile says why"
        json.dumps(plain(profile))
        for fact in profile.facts:
            assert fact.text, "a fact in no words"
            items = {evidence.id for evidence in fact.evidence if evidence.kind == "item"}
            assert items <= catalogue | set(query.history.item_ids), "evidence that is no item"
            shares = [evidence.share for evidence in fact.evidence]
            assert shares == sorted(shares, reverse=True)


def one_profile_equals_a_batch(cls: type[Profiler]) -> None:
    method = fitted(cls)
    batch = method.profile(sample_queries())
    for i, query in enumerate(sample_queries()):
        assert nearly_same(method.profile([query])[0], batch[i]), (
            f"query {i} is answered otherwise alone"
        )


def cold_users_have_a_profile_with_a_note(cls: type[Profiler]) -> None:
    queries = [Query(), Query("new"), Query("new", History.of("no such item"))]
    for profile in fitted(cls).profile(queries):
        assert profile.notes, "nothing is known, and the profile does not say so"


def a_profile_looks_no_further_than_its_time(cls: type[Profiler]) -> None:
    method = fitted(cls)
    query = tiny_data().queries()[0]
    assert query.history.times_ms is not None
    time_ms = query.history.times_ms[4]
    start = History(query.history.item_ids[:4], query.history.times_ms[:4])
    early = replace(query, time_ms=time_ms)
    cut = replace(query, time_ms=time_ms, history=start)
    profiles = method.profile([early, cut])
    assert nearly_same(*profiles), "events after the time of the query changed the profile"
    assert profiles[0].as_of_ms is None or profiles[0].as_of_ms <= time_ms


def no_queries_no_profiles(cls: type[Profiler]) -> None:
    assert fitted(cls).profile([]) == []
