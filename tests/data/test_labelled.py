"""A flat log of what was shown: what becomes of each column, and what cannot be read."""

import numpy as np
import polars as pl
import pytest

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.examples import Outcome
from tailor.data.importers.importing import import_data
from tailor.data.importers.labelled import split_shown
from tailor.data.nouns import Query
from tailor.data.splits import by_time
from tailor.errors import DataError
from tailor.ranking.logistic_regression import LogisticRegression

ROWS = """user_id,item_id,time_ms,device,price_then,clicked,dwell_s
ann,a,1600000000000,phone,1.5,1,30
ann,b,1600000000000,phone,2.5,0,
bob,a,1600000060000,desk,1.5,0,
bob,c,1600000060000,desk,3.5,1,12
ann,c,1600000120000,desk,3.5,,
ann,a,1600000180000,phone,1.5,0,
"""


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "shown.csv"
    path.write_text(ROWS)
    return path


def test_each_column_goes_where_it_was_known(log, tmp_path):
    report = import_data(log, tmp_path / "data", label="clicked == 1")
    data = Dataset.open(tmp_path / "data")
    requests, impressions = data.tables["requests"], data.tables["impressions"]
    assert requests.columns == ["request_id", "user_id", "time_ms", "device"]
    assert impressions.columns == ["request_id", "item_id", "price_then", "position", "shown"]
    assert len(requests) == 3 and len(impressions) == 5
    assert impressions["position"].to_list() == [0, 1, 0, 1, 0]
    assert data.events.select("user_id", "item_id", "clicked", "dwell_s").rows() == [
        ("ann", "a", 1, 30),
        ("bob", "c", 1, 12),
    ]
    text = "\n".join(report.notes)
    assert "known when shown, so learned from: device" in text
    assert "after the choice, so not learned from: clicked, dwell_s" in text
    assert '1 rows were left out: "clicked == 1" is undecided' in text


def test_examples_have_the_context_of_their_request(log, tmp_path):
    import_data(log, tmp_path / "data", label="clicked == 1")
    examples = Outcome("shown").learn(Dataset.open(tmp_path / "data"), np.random.default_rng(0))
    told = [
        (query.user_id, query.context["device"], query.history.item_ids, float(label))
        for query, label in zip(examples.queries, examples.labels, strict=True)
    ]
    assert told == [
        ("ann", "phone", (), 1.0),
        ("ann", "phone", (), 0.0),
        ("bob", "desk", (), 0.0),
        ("bob", "desk", (), 1.0),
        ("ann", "phone", ("a",), 0.0),
    ]


def test_a_predictor_learns_from_columns_of_ones_own(tmp_path):
    rng = np.random.default_rng(0)
    n = 4_000
    device = rng.integers(2, size=n)
    clicked = rng.random(n) < np.where(device == 1, 0.8, 0.2)
    rows = pl.DataFrame(
        {
            "user_id": [f"u{k}" for k in rng.integers(200, size=n)],
            "item_id": [f"i{k}" for k in rng.integers(20, size=n)],
            "time_ms": 1_600_000_000_000 + np.arange(n) * 1_000,
            "device": np.where(device == 1, "phone", "desk"),
            "clicked": clicked.astype(int),
        }
    )
    rows.write_csv(tmp_path / "shown.csv")
    import_data(tmp_path / "shown.csv", tmp_path / "data", label="clicked == 1")
    split = by_time(Dataset.open(tmp_path / "data"))
    method = LogisticRegression(source="shown", history=0, batch=128, lr=1e-2)
    method.fit(split.train, Run(workers=1), split)
    phone, desk = method.predict(
        [
            Query(context={"device": device}, time_ms=1_600_000_001_000)
            for device in ("phone", "desk")
        ],
        [["i1"], ["i1"]],
    )
    assert phone[0] > 0.65 and desk[0] < 0.35
    assert not any("clicked" in name for name in method.fit_report_["fields"])


@pytest.mark.parametrize(
    ("frame", "label", "message"),
    [
        ({"user_id": ["u"], "item_id": ["i"], "y": [1]}, "y == 1", "needs the times"),
        (
            {"user_id": ["u"], "item_id": ["i"], "time_ms": [1], "y": [0]},
            "y == 1",
            "none of 1 rows",
        ),
        (
            {
                "user_id": ["u", "v"],
                "item_id": ["i", "i"],
                "time_ms": [1, 1],
                "request_id": ["r", "r"],
                "y": [1, 0],
            },
            "y == 1",
            "a request is one user at one time",
        ),
        (
            {
                "user_id": ["u", "v"],
                "item_id": ["i", "i"],
                "time_ms": [1, 1],
                "request_id": ["r", None],
                "y": [1, 0],
            },
            "y == 1",
            "every row shown needs one",
        ),
    ],
)
def test_what_cannot_be_read_is_named(frame, label, message):
    with pytest.raises(DataError, match=message):
        split_shown(pl.DataFrame(frame), label)


def test_label_and_a_table_of_impressions_exclude_each_other(log, tmp_path):
    requests = tmp_path / "requests.csv"
    requests.write_text("request_id,user_id\nr,ann\n")
    with pytest.raises(DataError, match="leave out requests"):
        import_data(log, tmp_path / "d", label="clicked == 1", tables={"requests": requests})
