"""PI2I: begins where its lists stand, learns without its own targets, explains exactly."""

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query
from tailor.data.queries import Queries
from tailor.data.splits import last_out
from tailor.errors import DataError
from tailor.papers.retrieval.pi2i import PI2I
from tailor.retrieval.covisitation import CoVisitation
from tailor.worlds.shop_log import shop_log

DATA = shop_log(users=80, items=50, events=1_600, seed=3)


def log(**histories):
    rows = [(user, item, i) for user, items in histories.items() for i, item in enumerate(items)]
    return Dataset.from_events(
        {
            "user_id": [u for u, _, _ in rows],
            "item_id": [i for _, i, _ in rows],
            "time_ms": [t for _, _, t in rows],
        }
    )


def test_before_training_the_order_is_that_of_the_lists():
    queries = DATA.queries().without_history()
    plain = CoVisitation(history_length=10).fit(DATA).recommend(queries, 10)
    untrained = PI2I(epochs=0, patience=None).fit(DATA).recommend(queries, 10)
    assert [one.ids for one in untrained] == [one.ids for one in plain]


def test_scores_are_shares_of_the_union():
    ranking = (
        PI2I(epochs=1, patience=None, from_lists=8, from_all=4)
        .fit(DATA)
        .recommend([Query(history=History(tuple(DATA.catalogue.ids[:4])))], 50)[0]
    )
    assert ranking.scores.sum() == pytest.approx(1, abs=1e-5) and (ranking.scores > 0).all()


def test_what_an_event_added_itself_is_taken_off_its_weight():
    model = PI2I(epochs=0, patience=None).fit(log(ann="xay", bob="xay", eve="aay"))
    row = {one: model.items_.rows([one])[0] for one in "xay"}
    triggers = np.array([[row["a"], row["x"]] + [-1] * 8, [row["a"], row["a"]] + [-1] * 8])
    assert model._own_counts(triggers)[0, :2].tolist() == [1.0, 0.5]
    # an item that stands there twice counted twice
    assert model._own_counts(triggers)[1, :2].tolist() == [1.5, 1.5]
    weights = (
        model._list_weights(triggers, np.array([[row["y"]], [row["y"]]]))[:, 0, :2]
        - model._own_counts(triggers)[:, :2]
    )
    # of a, y: 1 + 1 + 1.5, less ann's own 1
    assert weights[0].tolist() == pytest.approx([2.5, 0.5])
    assert weights[1].tolist() == pytest.approx([2.0, 2.0])


def test_a_target_that_the_lists_reach_by_itself_alone_teaches_nothing():
    report = PI2I(epochs=2, patience=None, from_all=1).fit(log(ann="xy", bob="zw")).fit_report_
    assert report["loss"] == [0, 0]


def test_explanations_name_the_triggers_and_their_shares_are_exact():
    model = PI2I(epochs=1, patience=None, from_lists=8, from_all=4).fit(DATA)
    query = DATA.queries()[0]
    ranking = model.recommend([query], 5)[0]
    for item_id, reason in zip(ranking.ids, model.explain([query], [ranking])[0], strict=True):
        assert reason.item_id == item_id and sum(
            one.share for one in reason.evidence
        ) == pytest.approx(1, abs=1e-5)
        assert {one.id for one in reason.evidence} <= set(query.history.item_ids[-10:])


def test_explanations_are_those_of_the_net_and_not_of_the_lists_alone():
    settings = {"lr": 2e-3, "width": 8, "from_lists": 8, "from_all": 4, "patience": None}
    trained = PI2I(epochs=4, **settings).fit(DATA)
    untrained = PI2I(epochs=0, **settings).fit(DATA)
    query = DATA.queries()[0]
    ranking = trained.recommend([query], 5)[0]
    pairs = trained._pairs(Queries.of([query]).reindexed(trained.items_).histories)
    with torch.inference_mode():
        parts = np.exp(trained._pair_scores(pairs).numpy())
    differences = []
    for item_id, row, reason, plain in zip(
        ranking.ids,
        trained.items_.rows(ranking.ids),
        trained.explain([query], [ranking])[0],
        untrained.explain([query], [ranking])[0],
        strict=True,
    ):
        mask = pairs.item[pairs.candidate] == row
        causes = trained.items_.ids[pairs.triggers[0][pairs.age[mask]]]
        shares = parts[mask] / parts[mask].sum()
        expected = {cause: shares[causes == cause].sum() for cause in set(causes.tolist())}
        assert reason.item_id == item_id
        assert {part.id: part.share for part in reason.evidence} == pytest.approx(
            expected, abs=1e-5
        )
        plain_shares = {part.id: part.share for part in plain.evidence}
        differences += [abs(part.share - plain_shares[part.id]) for part in reason.evidence]
    assert max(differences) > 1e-3


def test_training_lowers_the_loss_and_one_seed_gives_one_model():
    split = last_out(DATA)
    first, again = (
        PI2I(epochs=4, lr=2e-3, width=8, from_lists=8, from_all=4).fit(
            split.train, Run(seed=1, workers=1), split
        )
        for _ in range(2)
    )
    assert first.fit_report_["loss"][-1] < first.fit_report_["loss"][0]
    assert all(
        np.array_equal(first.net_weights_[name], again.net_weights_[name])
        for name in first.net_weights_
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"from_lists": 0, "from_all": 0},
        {"width": 0},
        {"lr": 0},
        {"dropout": 1.0},
        {"popularity_power": 0.5},
        {"batch": 0},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(DataError):
        PI2I(**wrong)
