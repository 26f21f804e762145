"""The health of ids: by hand, on planted genres, and what is refused."""

import json
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).parent))

from genre_world import GENRES, genre_world

from tailor.cli.main import app
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.errors import DataError, ModelError, NotFittedError
from tailor.generative.id_report import _cosines, _divergences, report_ids
from tailor.generative.tiger import TIGER
from tailor.retrieval.popularity import Popularity
from tailor.text.hashing import HashingEncoder


def fit(data, **settings):
    quick = {"encoder": HashingEncoder(64), "width": 8, "length": 10, "epochs": 1, "levels": 2}
    return TIGER(**(quick | settings)).fit(data, Run(workers=1))


def items_of(titles):
    """A data set of items with these titles, which somebody chose."""
    ids = [f"new-{number}" for number in range(len(titles))]
    events = {"user_id": ["n"] * len(ids), "item_id": ids, "time_ms": list(range(len(ids)))}
    return Dataset.from_events(events, items={"item_id": ids, "title": titles})


@pytest.fixture(scope="module")
def data():
    return genre_world(users=60)


@pytest.fixture(scope="module")
def fitted(data):
    return fit(data)


def by_hand(codes, vectors):
    """A speller with these ids, without a net."""
    method = TIGER(encoder=HashingEncoder(32), levels=codes.shape[1] - 1)
    method.codes_ = codes
    method.sizes_ = codes.max(axis=0) + 1
    words = np.zeros((codes.shape[1] - 1, 4, 2), dtype=np.float32)
    words[1, 2:] = np.inf  # the second level has two words
    method.codebooks_ = {"words": words, "lengths": np.zeros((2, 4), dtype=np.float32)}
    method.vectors_ = vectors
    method.centre_ = np.zeros(vectors.shape[1], dtype=np.float32)
    method.trained_on_ = None  # as if it were fitted
    return method


def test_figures_by_hand():
    codes = np.array([[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]], dtype=np.int32)
    vectors = np.array([[1, 0], [1, 0.1], [1, 0.2], [-1, 0]], dtype=np.float32)
    health = report_ids(by_hand(codes, vectors))
    assert (health.items, health.distinct_codes, health.colliding) == (4, 3, 2)
    assert (health.largest_group, health.last_digits) == (2, 2)
    first, second = health.levels
    assert (first.words, first.used, first.even_bits) == (4, 0.5, 2.0)
    assert first.bits == pytest.approx(0.811, abs=1e-3)
    assert (second.words, second.used) == (2, 1.0)
    # with four items every other one is near: the pairs of one code are the share and the chance
    assert first.purity == first.chance == 0.5
    assert second.purity == second.chance == pytest.approx(2 / 12, abs=1e-4)


def test_neighbours_are_alike_where_codes_mean_something(fitted):
    health = report_ids(fitted)
    assert health.levels[0].purity > 3 * health.levels[0].chance
    shuffled = fitted._with_state(codes_=np.random.default_rng(0).permutation(fitted.codes_))
    level = report_ids(shuffled).levels[0]
    assert level.purity < 1.5 * level.chance
    assert health.drift is None


def test_items_of_the_same_kind_fit_and_strange_ones_drift(fitted):
    alike = [f"{genre} winter short {number}" for genre in GENRES for number in range(3)]
    same = report_ids(fitted, items_of(alike)).drift
    strange = report_ids(fitted, items_of(["qq ww"] * 6 + ["zz xx yy"] * 6)).drift
    assert same.items == strange.items == 12
    assert same.cosine > strange.cosine + 0.1
    assert strange.use_bits[0] > same.use_bits[0]
    assert strange.use_bits[0] > strange.chance_bits[0]
    assert 0 <= same.in_known_codes <= 1


def test_more_new_items_than_last_digits_are_counted(fitted, data):
    title = data.item_table["title"][0]
    health = report_ids(fitted, items_of([title] * 300))
    assert health.drift.items == 300
    assert 0 < health.drift.left_out == 300 - (health.last_digits - old_group(fitted, title, data))


def old_group(method, title, data):
    """Return how many items share the code of the item of a title."""
    ids = dict(data.item_table.select("title", "item_id").iter_rows())
    code = method.code_of(ids[title])[:-1]
    return int((method.codes_[:, :-1] == code).all(axis=1).sum())


def test_an_empty_title_is_no_new_item(fitted):
    drift = report_ids(fitted, items_of(["", "  "])).drift
    assert (drift.items, drift.left_out, drift.cosine) == (0, 0, None)


def test_divergences_by_hand():
    left, right = np.array([[0], [0], [1], [1]]), np.array([[1], [1], [2], [2]])
    # means 1/4, 1/2, 1/4: 1.5 bits, less one bit of each
    assert _divergences(left, right).tolist() == pytest.approx([0.5])
    assert _divergences(left, left).tolist() == [0]
    assert _divergences(left, right + 5).tolist() == pytest.approx([1])


def test_an_old_item_is_not_compared_with_itself():
    codes = np.array([[0, 0, 0], [0, 0, 1], [0, 0, 2]], dtype=np.int32)
    vectors = np.array([[1, 0], [0, 1], [1, 1]], dtype=np.float32)
    is_new = np.array([False, False, True])
    method = by_hand(codes, vectors)
    assert _cosines(method, method, is_new) == (pytest.approx(1), pytest.approx(0))


def test_all_items_with_one_text_share_a_code():
    data = genre_world(users=30)
    items = data.tables["items"].with_columns(title=pl.lit("the same"))
    health = report_ids(fit(Dataset({"events": data.tables["events"], "items": items})))
    assert health.distinct_codes == 1
    assert health.colliding == health.largest_group == health.last_digits == health.items


def test_a_catalogue_smaller_than_the_codebook():
    data = items_of(["red mug", "blue mug", "green cushion"])
    health = report_ids(fit(data))
    assert health.items == 3 and all(level.words <= 2 for level in health.levels)


def test_without_vectors_neighbours_are_not_known(data):
    method = fit(data, reads_vectors=False)
    health = report_ids(method, items_of(["crime winter long 9"]))
    assert all(level.purity is None for level in health.levels)
    assert health.drift.items == 1 and health.drift.cosine is None


def test_what_has_no_report_is_refused(data):
    with pytest.raises(NotFittedError):
        report_ids(TIGER(encoder=HashingEncoder(32)))
    method = fit(data, ids_from="behaviour")
    assert report_ids(method).items
    with pytest.raises(DataError, match="codes were made from behaviour"):
        report_ids(method, items_of(["a b"]))


# the command


def command(*arguments):
    result = CliRunner().invoke(app, ["ids", "report", *map(str, arguments)])
    if result.exception is not None:
        raise result.exception
    return result.output


def test_the_command_says_what_the_report_says(fitted, tmp_path):
    fitted.save(tmp_path / "model")
    items_of(["garden music long 7", "space letters short 8"]).save(tmp_path / "new")
    plain = json.loads(command(tmp_path / "model", "--items", tmp_path / "new", "--json"))
    assert plain["distinct_codes"] == report_ids(fitted).distinct_codes
    assert plain["drift"]["items"] == 2 and len(plain["levels"]) == 2
    shown = command(tmp_path / "model", "--items", tmp_path / "new")
    assert f"{plain['distinct_codes']} distinct codes" in shown
    assert "neighbours alike" in shown and "2 new items" in shown
    assert "drift" not in command(tmp_path / "model")


def test_the_command_shows_what_is_missing(data, tmp_path):
    fit(data, reads_vectors=False).save(tmp_path / "model")
    items_of([" "]).save(tmp_path / "new")
    shown = command(tmp_path / "model", "--items", tmp_path / "new")
    assert "holds no vectors" in shown and "0 new items" in shown


def test_a_model_without_ids_is_named(data, tmp_path):
    Popularity().fit(data).save(tmp_path / "model")
    with pytest.raises(ModelError, match="generates no ids: fit TIGER"):
        command(tmp_path / "model")
