"""Catalogues and requests that generative methods meet in a shop and must answer all the same."""

import numpy as np
import polars as pl
import pytest

pytest.importorskip("torch")

from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.core.specs import discover
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query
from tailor.data.queries import Queries
from tailor.generative.tiger import TIGER
from tailor.testing.data import tiny_data

METHODS = [
    found.cls
    for found in discover()
    if found.cls is not None
    and issubclass(found.cls, Recommender)
    and ".generative." in found.cls.__module__
    and not found.cls.tiny().needs_candidates
]


def with_items(**columns: object) -> Dataset:
    """Return small data with other columns of the items."""
    data = tiny_data()
    tables = dict(data.tables)
    tables["items"] = tables["items"].with_columns(**columns)
    return Dataset(tables, labels=data.labels)


def one_text() -> Dataset:
    return with_items(title=pl.lit("a thing"), categories=pl.lit(["things"]))


def an_empty_title() -> Dataset:
    is_first = pl.int_range(pl.len()) == 0
    titles = pl.when(is_first).then(pl.lit("")).otherwise("title")
    return with_items(title=titles, categories=pl.when(~is_first).then("categories"))


def check_lists(method: Recommender, data: Dataset) -> None:
    """Check lists longer than the catalogue, with exclusions and a deleted item in the history."""
    ids = data.catalogue.ids.tolist()
    known = method.items_.ids.tolist()
    queries = [
        Query(history=History.of("deleted", *ids[:2])),
        Query(history=History.of(ids[0]), exclude=tuple(ids[5:])),
        Query(history=History.of("deleted")),
    ]
    lists = method.recommend(queries, len(ids) + 50)
    for query, ranking in zip(queries, lists, strict=True):
        assert set(ranking.ids) <= set(known) - set(query.exclude)
        assert len(set(ranking.ids)) == len(ranking.ids)
        assert np.isfinite(ranking.scores).all()
    assert set(lists[1].ids) <= set(ids[:5])


@pytest.mark.parametrize("make", [one_text, an_empty_title])
@pytest.mark.parametrize("cls", METHODS, ids=lambda cls: cls.__name__)
def test_catalogues_with_poor_texts_are_answered(cls, make):
    data = make()
    check_lists(cls.tiny().fit(data, Run(workers=1)), data)


def test_equal_texts_give_one_code_and_a_last_digit_for_each_item():
    data = one_text()
    method = TIGER.tiny().fit(data, Run(workers=1))
    codes = [method.code_of(item_id) for item_id in method.items_.ids.tolist()]
    assert len({code[:-1] for code in codes}) == 1 and len(set(codes)) == len(codes)
    assert method.fit_report_["largest_group"] == len(codes)


def test_attributes_and_exclusions_are_kept_inside_the_beam():
    """A narrow beam still fills its list from the few items that a filter leaves."""
    data = tiny_data()
    method = TIGER.tiny()
    method.beams = 2
    method.fit(data, Run(workers=1))
    ids = method.items_.ids.tolist()
    allowed = ids[::7]
    history = History.of(*ids[:3])
    asked = Queries.of([Query(history=history)]).without([one for one in ids if one not in allowed])
    ranking = method.recommend(asked, len(allowed))[0]
    assert sorted(ranking.ids) == sorted(allowed)


def test_a_request_over_another_catalogue_is_answered_by_ids():
    method = TIGER.tiny().fit(tiny_data(), Run(workers=1))
    ids = method.items_.ids.tolist()
    plain = method.recommend([Query(history=History.of(*ids[:3]))], 5)[0]
    strangers = [Query(history=History.of("zzz", "aaa")), Query(history=History.of(*ids[:3]))]
    assert method.recommend(strangers, 5)[1].ids == plain.ids
