"""The contract of generators of texts and pictures."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tailor.core.methods import Generator
from tailor.data.nouns import History, Query, plain
from tailor.testing.data import tiny_data
from tailor.testing.fits import fitted, nearly_same, sample_queries


def checks_of(cls: type[Generator]) -> list[Callable[[type[Any]], None]]:
    """Return the checks of a generator."""
    return [
        outputs_are_outputs,
        one_output_equals_a_batch,
        cold_users_get_an_output_or_a_note,
        an_output_looks_no_further_than_its_time,
        no_queries_no_outputs,
    ]


def outputs_are_outputs(cls: type[Generator]) -> None:
    queries = sample_queries()
    catalogue = set(tiny_data().catalogue.ids)
    for query, output in zip(queries, fitted(cls).generate(queries), strict=True):
        assert not output.is_empty or output.notes, "an empty output says why"
        assert set(output.item_ids) <= catalogue, "an item that does not exist is named"
        assert not set(output.item_ids) & set(query.exclude), "an excluded item is named"
        items = {evidence.id for evidence in output.evidence if evidence.kind == "item"}
        assert items <= catalogue | set(query.history.item_ids), "evidence that is no item"
        json.dumps(plain(output))


def one_output_equals_a_batch(cls: type[Generator]) -> None:
    method = fitted(cls)
    batch = method.generate(sample_queries())
    for i, query in enumerate(sample_queries()):
        assert nearly_same(method.generate([query])[0], batch[i]), (
            f"query {i} is answered otherwise alone"
        )


def cold_users_get_an_output_or_a_note(cls: type[Generator]) -> None:
    queries = [Query(), Query("new", text="copper"), Query("new", History.of("no such item"))]
    for output in fitted(cls).generate(queries):
        assert not output.is_empty or output.notes, "an empty output says why"


def an_output_looks_no_further_than_its_time(cls: type[Generator]) -> None:
    method = fitted(cls)
    query = tiny_data().queries()[0]
    assert query.history.times_ms is not None
    time_ms = query.history.times_ms[4]
    start = History(query.history.item_ids[:4], query.history.times_ms[:4])
    early = replace(query, time_ms=time_ms)
    cut = replace(query, time_ms=time_ms, history=start)
    assert nearly_same(*method.generate([early, cut])), "later events changed the output"


def no_queries_no_outputs(cls: type[Generator]) -> None:
    assert fitted(cls).generate([]) == []
