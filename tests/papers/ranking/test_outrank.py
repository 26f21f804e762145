import json

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from tailor.cli.main import app
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.errors import DataError
from tailor.papers.ranking.outrank import OutRank
from tailor.worlds.tabular import tabular


def table(n=4000, seed=0, **columns):
    """Return a log of n events with these columns and an outcome by `good`."""
    rng = np.random.default_rng(seed)
    good = rng.integers(2, size=n)
    clicked = rng.random(n) < np.where(good, 0.8, 0.3)
    events = {
        "user_id": [f"u{i}" for i in range(n)],
        "item_id": [f"i{i % 20}" for i in range(n)],
        "time_ms": 1_600_000_000_000 + 3_600_000 * np.arange(n),
        "clicked": clicked.astype(int),
        "good": good,
        "many": rng.integers(1500, size=n),
        **columns,
    }
    return Dataset({"events": pl.DataFrame(events)}, "table")


def report_of(data, **settings):
    return OutRank(**{"label": "clicked = 1", "bins": 2000, **settings}).run(data, {}, Run(seed=0))


def column(report, name):
    return next(column for column in report.columns if column.name == name)


def test_a_column_of_many_values_is_no_better_than_its_information():
    report = report_of(table())
    assert report.best(1) == ["good"]
    assert column(report, "good").score == pytest.approx(0.18, abs=0.03)
    assert column(report, "many").mutual_information > column(report, "good").mutual_information
    assert abs(column(report, "many").score) < 0.05


def test_the_columns_that_the_outcome_is_read_from_are_no_columns():
    names = set(report_of(table()).best(99))
    assert names == {"user_id", "item_id", "good", "many", "hour", "weekday"}


def test_a_log_sorted_by_its_outcome_makes_no_noise_informative():
    data = table()
    events = data.events.sort("clicked").with_columns(time_ms=data.events["time_ms"])
    report = report_of(Dataset({"events": events}, "sorted"), columns=("many", "good"))
    assert abs(column(report, "many").score) < 0.05
    assert column(report, "good").score > 0.1


def test_a_xor_is_the_first_cross_and_brings_its_second_column_forward():
    world = tabular(8000, 8000, 200, values=5, linear=0.5, xor=1, noise=3)
    names = ["user:user_0", "user:xor_user_0", "item:xor_item_0"]
    names += [f"user:noise_{i}" for i in range(3)]
    report = OutRank(label="liked", columns=tuple(names)).run(world.data, {})
    assert report.crosses[0].names == ("user:xor_user_0", "item:xor_item_0")
    assert report.crosses[0].gain > 0.2
    assert max(column(report, name).score for name in names[1:3]) < 0.02
    places = {name: report.best(9).index(name) for name in names}
    first, second = sorted(places[name] for name in names[1:3])
    assert second == first + 1
    alone = OutRank(label="liked", columns=tuple(names), relation=0.0).run(world.data, {})
    assert alone.best(1) == ["user:user_0"]


def test_crosses_of_three_columns_are_measured_where_asked_for():
    rng = np.random.default_rng(3)
    a, b, c = rng.integers(2, size=(3, 4000))
    data = table(a=a, b=b, c=c, clicked=(a ^ b ^ c).astype(int))
    report = report_of(data, columns=("a", "b", "c", "good"), order=3)
    assert report.crosses[0].names == ("a", "b", "c")
    assert report.crosses[0].score > 0.99
    assert len(report.crosses) == 6 + 4
    assert len(report_of(data, columns=("a", "b", "c", "good"), order=3, crosses=3).crosses) == 3


def test_a_copy_is_listed_after_what_tells_something_new():
    rng = np.random.default_rng(5)
    strong, weak = rng.integers(2, size=(2, 4000))
    clicked = (rng.random(4000) < 0.15 + 0.5 * strong + 0.2 * weak).astype(int)
    names = ("strong", "copy", "weak", "many")
    data = table(strong=strong, copy=strong + 7, weak=weak, clicked=clicked)
    report = report_of(data, columns=names)
    assert set(report.by_score()[:2]) == {"strong", "copy"}
    assert report.best(2)[1] == "weak"
    repeated = report_of(data, columns=names, redundancy=0.0)
    assert set(repeated.best(2)) == {"strong", "copy"}


def test_remarks_name_what_is_wrong_with_a_column():
    n = 4000
    half = np.arange(n) < n / 2
    clicked = table().events["clicked"].to_numpy()
    noise = np.random.default_rng(4).integers(2, size=n)
    data = table(
        same=["x"] * n,
        leak=clicked * 2,
        late=np.where(half, noise, clicked),
        seldom=pl.Series([1 if i % 4 == 0 else None for i in range(n)]),
    )
    report = report_of(data, batch=500)
    remarks = {name: column(report, name).remarks for name in report.best(99)}
    assert remarks["same"] == ("constant",)
    assert remarks["user_id"] == ("nearly unique",)
    assert remarks["leak"] == ("tells the outcome: is it made of it?",)
    assert remarks["late"] == ("drifting",)
    assert remarks["good"] == ()
    assert column(report, "seldom").missing == 0.75


def test_numbers_are_read_in_bins_and_lists_as_a_whole():
    rng = np.random.default_rng(2)
    number = rng.normal(size=4000)
    data = table(number=number, tags=[["a", "b"] if x > 0 else ["c"] for x in number])
    report = report_of(data, bins=10)
    assert column(report, "number").values == 10
    assert column(report, "tags").values == 2


def test_rows_are_sampled_evenly():
    assert report_of(table(), sample=10).rows == 400


def test_impressions_are_rows_where_asked_for():
    n = 1200
    rng = np.random.default_rng(0)
    items = rng.integers(6, size=n)
    is_chosen = rng.random(n) < np.where(items < 3, 0.8, 0.2)
    keys = [f"r{i}" for i in range(n)]
    shown = {"request_id": keys, "item_id": [f"i{item}" for item in items]}
    impressions = {**shown, "position": [1] * n}
    times = 1_600_000_000_000 + 60_000 * np.arange(n)
    requests = {"request_id": keys, "user_id": [f"u{i % 50}" for i in range(n)], "time_ms": times}
    tables = {
        "impressions": pl.DataFrame(impressions),
        "requests": pl.DataFrame(requests),
        "events": pl.DataFrame({**requests, **shown}).filter(pl.Series(is_chosen)),
        "items": pl.DataFrame(
            {"item_id": [f"i{i}" for i in range(6)], "low": [i < 3 for i in range(6)]}
        ),
    }
    report = OutRank(source="shown").run(Dataset(tables, "shown"), {})
    assert report.rows == n and report.share_of_ones == pytest.approx(is_chosen.mean())
    assert column(report, "item:low").score > 0.2


def test_impossible_questions_are_refused():
    with pytest.raises(DataError, match="is false for all rows"):
        report_of(table(), label="clicked = 5")
    with pytest.raises(DataError, match='"god", which is not there'):
        report_of(table(), columns=("god",))
    with pytest.raises(DataError, match="order 4"):
        OutRank(order=4)


def test_the_command_orders_the_columns_of_a_data_set(tmp_path):
    table(800).save(tmp_path / "DATA")
    line = ["study", "OutRank", "--data", str(tmp_path / "DATA"), "--json"]
    done = CliRunner().invoke(app, [*line, "--set", 'label="clicked = 1"'])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["columns"][0]["name"] == "good"
    assert report["rows"] == 800
