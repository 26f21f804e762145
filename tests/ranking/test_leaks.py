"""What a predictor over fields must not see, for every class there is.

Examples are made and encoded as for training and judging; then what a prediction may not know is
changed, and nothing may change with it.
"""

import numpy as np
import polars as pl
import pytest

from tailor.core.run import Run
from tailor.core.specs import discover
from tailor.data.dataset import Dataset
from tailor.data.examples import Outcome
from tailor.data.splits import by_ratio, by_time
from tailor.metrics.prediction import auc
from tailor.ranking.fields import FieldPredictor
from tailor.testing.data import tiny_data
from tailor.worlds.interests import interests

CLASSES = [
    found.cls
    for found in discover()
    if found.cls is not None and issubclass(found.cls, FieldPredictor)
]
BINARY = [cls for cls in CLASSES if cls._is_binary]
FITTED = {}
LENGTH = 8  # of histories


def fitted(cls):
    """Return the class fitted to the tiny data, once."""
    if cls not in FITTED:
        FITTED[cls] = cls.tiny().fit(tiny_data(), Run(workers=1))
    return FITTED[cls]


def outputs(method, examples):
    """Return (n,) what the net says of examples."""
    return method._net_outputs(method._encode_examples(examples))


def drawn(data, outcome=None):
    outcome = outcome or Outcome("drawn", length=LENGTH)
    return outcome.learn(data, np.random.default_rng(0))


def test_predictors_are_found():
    names = {cls.__name__ for cls in CLASSES}
    assert {"LogisticRegression", "FactorizationMachine", "DeepFM", "DIN"} <= names


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_company_in_the_batch_changes_nothing(cls):
    method = fitted(cls)
    examples = drawn(tiny_data())
    rows = np.arange(6)
    alone = np.concatenate([outputs(method, examples.take(rows[i : i + 1])) for i in range(6)])
    ones = np.flatnonzero(examples.labels == 1)
    zeros = np.flatnonzero(examples.labels == 0)
    for company in (ones, zeros, ones[::-7]):
        together = outputs(method, examples.take(np.r_[rows, company]))[:6]
        assert np.allclose(together, alone, atol=1e-6)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_the_label_of_a_judged_event_changes_nothing(cls):
    method = fitted(cls)
    split = by_ratio(tiny_data(), 0.2, 0.2)
    outcome = Outcome("label", "value >= 3", length=LENGTH)
    is_judged = pl.Series(split.part == 2)
    events = split.data.events
    value = pl.when(is_judged).then(6 - pl.col("value")).otherwise(pl.col("value"))
    flipped = Dataset({**split.data.tables, "events": events.with_columns(value=value)}, "flipped")
    other = by_ratio(flipped, 0.2, 0.2)
    before, after = (
        part_of.judge(split_, "test", np.random.default_rng(0))
        for part_of, split_ in ((outcome, split), (outcome, other))
    )
    assert (before.labels != after.labels).any() and (before.items == after.items).all()
    assert np.array_equal(outputs(method, before), outputs(method, after))


@pytest.mark.parametrize("source", ["drawn", "label", "value", "shown"])
def test_a_history_ends_before_its_request(source):
    data = interests(people=30, items=40, groups=4, own=2, visits=4, slate=4).data
    if source != "shown":
        data = tiny_data()
    outcome = Outcome(source, "value >= 3" if source == "label" else None, length=LENGTH)
    split = by_time(data)
    for examples in (
        outcome.learn(data, np.random.default_rng(0)),
        outcome.judge(split, "test", np.random.default_rng(0)),
    ):
        histories = examples.queries.histories
        event_ms = examples.queries.columns["times_ms"].values
        assert len(event_ms) and (event_ms < examples.queries.now_ms[histories.row_ids]).all()


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_later_events_change_nothing(cls):
    method = fitted(cls)
    data = tiny_data()
    times = np.sort(data.events["time_ms"].to_numpy())
    until = int(times[len(times) // 2])
    cut = data.cut((data.events["time_ms"] < until).to_numpy())
    outcome = Outcome("label", "value >= 3", length=LENGTH)
    whole, early = drawn(data, outcome), drawn(cut, outcome)
    whole = whole.take(np.flatnonzero(whole.queries.now_ms < until))
    keys = [
        sorted(zip(part.queries.user_ids.tolist(), part.queries.now_ms.tolist(), strict=True))
        for part in (whole, early)
    ]
    assert keys[0] == keys[1]
    by_key = [
        np.lexsort((part.queries.user_ids.astype(str), part.queries.now_ms))
        for part in (whole, early)
    ]
    outputs_by_key = [
        outputs(method, part.take(order))
        for part, order in zip((whole, early), by_key, strict=True)
    ]
    assert np.allclose(*outputs_by_key, atol=1e-6)


@pytest.mark.parametrize("cls", BINARY, ids=lambda cls: cls.__name__)
def test_negatives_are_not_marked(cls):
    """Where items are chosen at random, no predictor may tell positives from drawn negatives."""
    rng = np.random.default_rng(0)
    people, items, length = 150, 60, 6
    chosen = rng.random((people, items)).argsort(axis=1)[:, :length]
    events = pl.DataFrame(
        {
            "user_id": [f"person-{row}" for row in np.repeat(np.arange(people), length)],
            "item_id": [f"thing-{item}" for item in chosen.ravel()],
            "time_ms": np.tile(np.arange(length), people) * 86_400_000,
        }
    )
    split = by_ratio(Dataset({"events": events}, "chance"), 0.2, 0.3)
    method = cls(**cls.tiny().params() | {"drawn_by": "uniform", "negatives": 3})
    method.fit(split.train, Run(workers=1), split)
    examples = method.outcome().judge(split, "test", np.random.default_rng(1))
    assert 0.4 < auc(examples.labels, outputs(method, examples)) < 0.6
