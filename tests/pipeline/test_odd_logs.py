"""Logs that shops have and benchmarks do not: every recommender fits them and answers."""

import contextlib

import numpy as np
import polars as pl
import pytest

from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.core.specs import discover
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query
from tailor.data.splits import last_out
from tailor.errors import TailorError
from tailor.pipeline.default import counting_pipeline
from tailor.testing.data import tiny_data

TITLES = (
    "copper kettle", "Kupferkessel", "bouilloire en cuivre", "медный чайник", "銅のやかん",
    "غلاية نحاسية", "구리 주전자", "tetera de cobre", "תה", "ਕੇਤਲੀ",
)  # fmt: skip


def changed(events: pl.DataFrame | None = None, **columns: object) -> Dataset:
    """Return small data with other events, or other columns of the items."""
    data = tiny_data()
    tables = dict(data.tables)
    if events is not None:
        tables["events"] = events
        del tables["texts"]
    if columns:
        tables["items"] = tables["items"].with_columns(**columns)
    return Dataset(tables)


def one_event_each() -> Dataset:
    return changed(tiny_data().events.unique("user_id", maintain_order=True))


def one_item() -> Dataset:
    return changed(tiny_data().events.with_columns(item_id=pl.lit("thing-000")))


def one_moment() -> Dataset:
    return changed(tiny_data().events.with_columns(time_ms=pl.lit(1_600_000_000_000)))


def few_texts() -> Dataset:
    """Every other item has neither title nor categories."""
    every_other = pl.int_range(pl.len()) % 2 == 0
    return changed(
        title=pl.when(every_other).then("title"), categories=pl.when(every_other).then("categories")
    )


def every_language() -> Dataset:
    return changed(title=pl.Series([TITLES[i % len(TITLES)] + f" {i}" for i in range(40)]))


def mostly_duplicates() -> Dataset:
    """Nine of ten events repeat the one before, moment and all."""
    events = tiny_data().events
    return changed(pl.concat([events] + [events] * 9).sort("time_ms", maintain_order=True))


LOGS = (one_event_each, one_item, one_moment, few_texts, every_language, mostly_duplicates)
HARDEST = (one_event_each, one_item, few_texts)  # of every recommender, to keep to the time
RECOMMENDERS = [
    found
    for found in discover()
    if found.cls is not None
    and issubclass(found.cls, Recommender)
    and not found.cls.tiny().needs_candidates
]


def check_answers(method: Recommender, data: Dataset) -> None:
    """Check the lists of a known user, a cold one, and one with an unknown item."""
    known = data.queries()[0]
    queries = [known, Query(), Query(history=History.of("nobody knows this"))]
    for ranking in method.recommend(queries, k=5):
        assert len(set(ranking.ids)) == len(ranking.ids) <= 5
        assert np.isfinite(ranking.scores).all()
        assert set(ranking.ids) <= set(data.catalogue.ids.tolist())
        assert (np.diff(ranking.scores) <= 0).all()


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.__name__)
def test_the_counting_pipeline_serves_odd_logs(log):
    data = log()
    split = last_out(data)
    method = counting_pipeline().fit(split.train, Run(workers=1), split)
    check_answers(method, split.train)
    answers = method.recommend(data.queries()[:5], k=5)
    assert all(len(ranking.ids) for ranking in answers) or log is one_item


def test_the_counting_pipeline_needs_no_validation_part():
    check_answers(counting_pipeline().fit(tiny_data(), Run(workers=1)), tiny_data())


@pytest.mark.slow
@pytest.mark.parametrize("found", RECOMMENDERS, ids=lambda found: found.path.rpartition(".")[2])
@pytest.mark.parametrize("log", HARDEST, ids=lambda log: log.__name__)
def test_every_recommender_serves_odd_logs_or_says_why_not(found, log):
    data = log()
    with contextlib.suppress(TailorError):  # a clear refusal is an answer too
        check_answers(found.cls.tiny().fit(data, Run(workers=1)), data)
