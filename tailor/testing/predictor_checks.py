"""The contract of predictors."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from tailor.core.methods import Predictor
from tailor.data.nouns import History, Query
from tailor.errors import DataError
from tailor.testing.fits import PAIRS, UNKNOWN_ITEM, fitted, reloaded, sample_queries


def checks_of(cls: type[Predictor]) -> list[Callable[[type[Any]], None]]:
    """Return the checks of a predictor, and of the optional verbs that it has."""
    checks: list[Callable[[type[Any]], None]] = [
        numbers_for_every_pair,
        pairs_stand_alone,
        cold_users_and_unknown_items_are_answered,
        pairs_must_match,
    ]
    if cls.explains():
        checks.append(predictions_are_explained)
    if cls.updates():
        checks.append(an_update_of_outcomes_learns_and_is_saved)
    return checks


def numbers_for_every_pair(cls: type[Predictor]) -> None:
    values = fitted(cls).predict(sample_queries(), PAIRS)
    assert [len(row) for row in values] == [len(ids) for ids in PAIRS], "not one answer an item"
    assert all(np.isfinite(row).all() for row in values)


def pairs_stand_alone(cls: type[Predictor]) -> None:
    method = fitted(cls)
    batch = method.predict(sample_queries(), PAIRS)
    for query, ids, values in zip(sample_queries(), PAIRS, batch, strict=True):
        alone = method.predict([query], [ids])[0]
        assert np.allclose(alone, values, atol=1e-5), "a query is answered differently alone"
        reverse = method.predict([query], [ids[::-1]])[0]
        assert np.allclose(reverse, values[::-1], atol=1e-5), (
            "the order of the items changes their numbers"
        )
    assert method.predict([], []) == []


def cold_users_and_unknown_items_are_answered(cls: type[Predictor]) -> None:
    queries = [
        Query(),
        Query("never seen", History.of("thing-001")),
        Query(history=History.of("no such item"), context={"age": "odd"}),
    ]
    values = fitted(cls).predict(queries, [["thing-001", UNKNOWN_ITEM]] * 3)
    assert all(row.shape[0] == 2 and np.isfinite(row).all() for row in values)


def pairs_must_match(cls: type[Predictor]) -> None:
    for item_ids in ([["thing-001"], ["thing-002"]], ["thing-001"], "thing-001"):
        try:
            fitted(cls).predict([Query()], item_ids)
        except DataError:
            continue
        raise AssertionError(f"{item_ids!r} was taken for one query")


def predictions_are_explained(cls: type[Predictor]) -> None:
    explanations = fitted(cls).explain(sample_queries(), PAIRS)
    for ids, reasons in zip(PAIRS, explanations, strict=True):
        assert [reason.item_id for reason in reasons] == list(ids)
        for reason in reasons:
            shares = [evidence.share for evidence in reason.evidence]
            assert shares == sorted(shares, reverse=True) and np.isfinite(shares).all()


def an_update_of_outcomes_learns_and_is_saved(cls: type[Predictor]) -> None:
    before = fitted(cls).predict(sample_queries(), PAIRS)
    method = copy.copy(fitted(cls))
    labels = [[float(len(item_id) % 2) for item_id in ids] for ids in PAIRS]
    assert method.update(sample_queries(), PAIRS, labels) is method
    after = method.predict(sample_queries(), PAIRS)
    assert any((x != y).any() for x, y in zip(before, after, strict=True)), "nothing was learned"
    loaded = reloaded(method).predict(sample_queries(), PAIRS)
    assert all(np.allclose(x, y, atol=1e-6) for x, y in zip(after, loaded, strict=True))
    shared = fitted(cls).predict(sample_queries(), PAIRS)
    assert all((x == y).all() for x, y in zip(before, shared, strict=True)), (
        "update changed arrays in place, so that a failed one would be half done"
    )
