"""Lists that give groups their share, and lists with the mix of a history."""

import numpy as np
import polars as pl
import pytest

from tailor.core.saving import load
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query
from tailor.errors import DataError, ModelError
from tailor.metrics.calibration import list_miscalibration
from tailor.metrics.fairness import exposure_disparity
from tailor.reranking.calibrate import Calibrate, calibrated_order
from tailor.reranking.fair_exposure import FairExposure, exposure_order, item_groups
from tailor.reranking.mmr import Diversify
from tailor.reranking.reordering import category_matrix
from tailor.retrieval.popularity import Popularity

BRANDS = ["big"] * 6 + ["small"] * 3 + [None]
KINDS = [["a"]] * 5 + [["a", "b"], ["b"], ["b"], ["c"], None]
ITEMS = pl.DataFrame({"item_id": list("abcdefghij"), "brand": BRANDS, "categories": KINDS})
EVENTS = [
    ("u", item)
    for count, item in zip(range(10, 0, -1), "abcdefghij", strict=True)
    for _ in range(count)
]
DATA = Dataset(
    {
        "events": pl.DataFrame(
            {
                "user_id": [f"u{n}" for n in range(len(EVENTS))],
                "item_id": [item for _, item in EVENTS],
            }
        ),
        "items": ITEMS,
    }
)


def listed(method, k=10, history=()):
    return "".join(method.recommend([Query(history=History.of(*history))], k)[0].ids)


def exposure(order, groups, count):
    discounts = 1 / np.log2(np.arange(order.shape[1]) + 2)
    shown = np.take_along_axis(groups, order, axis=1)
    return np.bincount(shown.ravel(), np.tile(discounts, len(order)), minlength=count)


def test_a_group_gets_its_share_of_the_places_more_and_more_with_strength():
    rng = np.random.default_rng(0)
    scores = np.sort(rng.random((200, 40)), axis=1)[:, ::-1]
    # the first group has the good scores, and half of the items
    groups = (np.arange(40) >= 20).astype(int) * np.ones((200, 1), int)
    shares = np.full((200, 2), 0.5)
    is_item = np.ones(scores.shape, bool)
    disparities, relevances = [], []
    for strength in (0.0, 0.1, 0.3, 0.6, 1.0):
        order, _ = exposure_order(scores, is_item, groups, shares, strength, 10)
        disparities.append(exposure_disparity(exposure(order, groups, 2), np.array([20, 20])))
        relevances.append(np.take_along_axis(scores, order, axis=1).sum())
    assert disparities == sorted(disparities, reverse=True)
    assert relevances == sorted(relevances, reverse=True)
    assert disparities[0] == 1.0 and disparities[-1] < 0.1


def test_exposure_by_hand():
    scores = np.array([[1.0, 0.9, 0.8, 0.0]])
    groups = np.array([[0, 0, 1, -1]])
    order, values = exposure_order(scores, scores >= 0, groups, np.array([[0.5, 0.5]]), 0.5, 4)
    # place 1: .5 + .5 * .5; place 2, worth .631: group 1 lacks .5 * 1.631 / .631 = 1.292
    assert order[0].tolist() == [0, 2, 1, 3]
    assert values[0, 0] == pytest.approx(0.75)
    assert values[0, 1] == pytest.approx(0.4 + 0.5 * 1.2925, abs=1e-3)


def test_strength_0_leaves_the_order_and_the_groups_come_from_columns():
    plain = listed(Popularity().fit(DATA))
    assert plain == "abcdefghij"
    for cls in (FairExposure, Calibrate, Diversify):
        settings = {"similarity": "categories"} if cls is Diversify else {}
        same = cls(Popularity(), strength=0.0, **settings).fit(DATA)
        assert listed(same, history="a") == "abcdefghij"
    fair = FairExposure(Popularity(), strength=1.0, groups="brand").fit(DATA)
    assert fair.fit_report_["groups"] == 2 and fair.fit_report_["items_without_group"] == 1
    assert "g" in listed(fair, 3)
    names, groups = item_groups(DATA, "brand")
    by_item = dict(zip(DATA.catalogue.ids.tolist(), groups.tolist(), strict=True))
    assert names == ["big", "small"]
    assert [by_item[item] for item in "abcdefghij"] == [0] * 6 + [1] * 3 + [-1]
    names, groups = item_groups(DATA, "popularity")
    assert names == ["popular", "long tail"]
    rows = DATA.catalogue.rows(["a", "j"])
    assert groups[rows].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("share", "wanted"), [("catalogue", 3 / 9), ("relevance", 6 / 45), ("equal", 0.5)]
)
def test_shares_of_groups(share, wanted):
    fair = FairExposure(Popularity(), strength=1.0, groups="brand", share=share).fit(DATA)
    first = listed(fair, 6)
    discounts = 1 / np.log2(np.arange(6) + 2)
    small = np.array([item in "ghi" for item in first])
    assert discounts[small].sum() / discounts.sum() == pytest.approx(wanted, abs=0.06)


def test_lists_take_the_mix_of_the_history():
    plain = Calibrate(Popularity(), strength=0.0).fit(DATA)
    calibrated = Calibrate(Popularity(), strength=0.9).fit(DATA)
    assert "g" not in listed(plain, 4, history="fh")
    assert "g" in listed(calibrated, 2, history="fh")
    # no history, or one without categories: the order stays
    assert listed(calibrated) == "abcdefghij" and listed(calibrated, history="j") == "abcdefghij"


def test_values_are_those_of_the_metric():
    rng = np.random.default_rng(1)
    categories = category_matrix(DATA, "x")
    categories.data /= np.repeat(np.diff(categories.indptr), np.diff(categories.indptr))
    rows = np.stack([rng.permutation(10) for _ in range(5)])
    scores = np.sort(rng.random((5, 10)), axis=1)[:, ::-1]
    wanted = rng.dirichlet([1.0] * 3, 5)
    order, values = calibrated_order(rows, scores, categories, wanted, 0.4, 3)
    for i in range(5):
        taken: list[int] = []
        for step in range(3):
            best, best_value = -1, -np.inf
            for place in range(10):
                if place in taken:
                    continue
                items = rows[i, [*taken, place]]
                listed_shares = np.asarray(categories[items].sum(axis=0)) / (step + 1)
                divergence = _divergence(wanted[i], listed_shares[0])
                value = 0.6 * scores[i, place] - 0.4 * divergence
                if value > best_value:
                    best, best_value = place, value
            taken.append(best)
            assert values[i, step] == pytest.approx(best_value, abs=1e-5)
        assert order[i].tolist() == taken


def _divergence(wanted, shares, mix=0.01):
    mixed = (1 - mix) * shares + mix * wanted
    return float((wanted * np.log(wanted / mixed)).sum())


def test_the_reference_is_the_metric_where_all_items_have_categories():
    wanted, shares = np.array([[0.5, 0.5]]), np.array([[3.0, 1.0]])
    assert list_miscalibration(wanted, shares)[0] == pytest.approx(
        _divergence(wanted[0], shares[0] / 4)
    )


def test_a_fitted_recommender_is_not_fitted_again_and_both_are_saved(tmp_path):
    inner = Popularity().fit(DATA)
    for cls in (FairExposure, Calibrate):
        method = cls.around(inner, DATA, strength=0.5)
        assert method.inner_ is inner
        before = listed(method, 5, history="fh")
        again = load(method.save(tmp_path / cls.__name__))
        assert listed(again, 5, history="fh") == before
        explained = again.explain([Query(history=History.of("a"))], again.recommend([Query()], 2))
        assert len(explained) == 1


def test_bad_settings_name_the_remedy():
    with pytest.raises(ModelError, match=r"FairExposure\.inner"):
        FairExposure("Popularity")
    with pytest.raises(DataError, match="strength is 2"):
        Calibrate(Popularity(), strength=2)
    with pytest.raises(DataError, match='share is "fair"'):
        FairExposure(Popularity(), share="fair")
    with pytest.raises(DataError, match="the items have the columns brand, categories"):
        FairExposure(Popularity(), groups="seller").fit(DATA)
    with pytest.raises(DataError, match="List"):
        FairExposure(Popularity(), groups="categories").fit(DATA)
    without = Dataset({"events": DATA.events})
    with pytest.raises(DataError, match='Calibrate: the items have no column "categories"'):
        Calibrate(Popularity()).fit(without)
