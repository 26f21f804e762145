"""The price of fairness, calibration and variety, in tables and a picture."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from tailor.bench.fronts import Curve, front, front_svg
from tailor.bench.trade_off import TradeOff
from tailor.cli.main import app
from tailor.data.dataset import Dataset
from tailor.errors import DataError
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.popularity import Popularity
from tailor.worlds.shop import shop

DATA = shop(users=150, items=60, seed=2).data


def test_the_front_has_the_points_that_no_other_beats():
    costs = np.array([[0, 3], [1, 2], [1, 2], [2, 2], [3, 0], [np.nan, 0]])
    assert front(costs).tolist() == [0, 1, 2, 4]
    assert front(np.empty((0, 2))).tolist() == []


def test_strength_buys_what_the_reranker_aims_at(tmp_path):
    out = tmp_path / "front.svg"
    study = TradeOff(strengths=(0.3, 0.9), out=str(out))
    report = study.run(DATA, {"co": CoVisitation()})
    points = {(point.reranker, point.strength): point for point in report.points}
    assert len(points) == 7
    own = points["as it is", 0.0]
    for reranker, aim in (
        ("FairExposure", "disparity"),
        ("Calibrate", "miscalibration"),
        ("Diversify", "sameness"),
    ):
        values = [own.aims[aim], *(points[reranker, s].aims[aim] for s in (0.3, 0.9))]
        assert max(values[1:]) < 0.95 * values[0], reranker
    assert own.difference == 0.0
    (table,) = report.tables()
    assert len(table.rows) == 7 and any("disparity" in row[-1] for row in table.rows)
    text = out.read_text()
    assert text.count("<g transform") == 3 and "FairExposure" in text and "NaN" not in text
    assert json.loads(json.dumps(report.to_dict()))["points"][0]["reranker"] == "as it is"


def test_data_without_categories_and_a_fitted_method():
    items = DATA.item_table.drop("categories")
    data = Dataset({"events": DATA.events, "items": items})
    fitted = Popularity().fit(data)
    report = TradeOff(rerankers=("FairExposure",), strengths=(0.5,)).run(data, {"p": fitted})
    assert np.isnan(report.points[0].aims["miscalibration"])


def test_only_reorderings_are_taken():
    with pytest.raises(DataError, match="CoVisitation is none of"):
        TradeOff(rerankers=("CoVisitation",)).run(DATA, {"p": Popularity()})


def test_names_are_escaped_in_the_picture():
    svg = front_svg({"cost": [Curve("<b>", [(0.0, 1.0)], ["<i>"])]}, "NDCG")
    assert "<b>" not in svg and "&lt;b&gt;" in svg


def test_the_command_draws_it(tmp_path):
    DATA.save(tmp_path / "shop")
    command = ["study", "TradeOff", "Popularity", "--data", str(tmp_path / "shop")]
    settings = ["--set", "strengths=[0.5]", "--set", f"out={tmp_path / 'front.svg'}"]
    result = CliRunner().invoke(app, [*command, *settings])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "front.svg").exists() and "FairExposure" in result.output
