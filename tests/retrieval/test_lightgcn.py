"""Test LightGCN's averages by hand, the targets that are left out, and what it learns and keeps."""

import numpy as np
import polars as pl
import pytest
from retrieval.kind_shop import shop

pytest.importorskip("torch")

from tailor.core.run import Run
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.graphs import bipartite
from tailor.data.nouns import History, Query
from tailor.errors import DataError, ModelError
from tailor.retrieval.lightgcn import LightGCN

RUN = Run(workers=1, dtype="float32")
CHOICES = [("ann", "a"), ("ann", "b"), ("bob", "b"), ("bob", "c"), ("eve", "b"), ("ann", "a")]


def model(**settings):
    defaults = {"width": 16, "epochs": 20, "patience": None, "negatives": 20, "lr": 0.02}
    return LightGCN(**(defaults | settings))


@pytest.fixture(scope="module")
def small():
    times = list(range(len(CHOICES)))
    events = pl.DataFrame(CHOICES, schema=["user_id", "item_id"], orient="row")
    items = pl.DataFrame({"item_id": ["a", "b", "c", "d"]})
    return Dataset({"events": events.with_columns(time_ms=pl.Series(times)), "items": items})


@pytest.fixture(scope="module")
def fitted():
    return model().fit(shop(), RUN)


def test_vectors_are_means_over_steps_to_users_and_back(small):
    table = model(epochs=0, layers=0).fit(small, RUN).vectors_
    averaged = model(epochs=0, layers=2).fit(small, RUN)
    chosen_by = {"ann": ["a", "b"], "bob": ["b", "c"], "eve": ["b"]}
    degree = {"a": 1, "b": 3, "c": 1}
    names = averaged.items_.ids.tolist()
    state = dict(zip(names, table, strict=True))
    total = dict(state)
    for _ in range(2):
        users = {
            user: sum(state[item] / np.sqrt(degree[item] * len(chosen)) for item in chosen)
            for user, chosen in chosen_by.items()
        }
        state = {
            item: sum(
                users[user] / np.sqrt(degree[item] * len(chosen))
                for user, chosen in chosen_by.items()
                if item in chosen
            )
            for item in degree
        }
        total = {item: vector + state.get(item, 0) for item, vector in total.items()}
    for item, vector in zip(names, averaged.vectors_, strict=True):
        np.testing.assert_allclose(vector, total[item] / 3, atol=1e-6)


def test_with_a_softmax_a_score_is_the_cosine_of_the_sum_of_the_history_and_the_item(small):
    method = model(epochs=0, loss="softmax").fit(small, RUN)
    ranking = method.recommend([Query(history=History.of("a", "b", "a"))], 3)[0]
    vectors = dict(zip(method.items_.ids.tolist(), method.vectors_, strict=True))
    user = vectors["a"] / np.sqrt(1) + vectors["b"] / np.sqrt(3)
    for item_id, score in zip(ranking.ids, ranking.scores, strict=True):
        item = vectors[item_id]
        cosine = user @ item / np.linalg.norm(user) / np.linalg.norm(item)
        assert score == pytest.approx(cosine, abs=1e-5)
    assert "d" not in ranking.ids  # nobody chose it


def test_with_bpr_a_score_is_the_inner_product(small):
    method = model(epochs=0, loss="bpr").fit(small, RUN)
    ranking = method.recommend([Query(history=History.of("a"))], 3)[0]
    vectors = dict(zip(method.items_.ids.tolist(), method.vectors_, strict=True))
    for item_id, score in zip(ranking.ids, ranking.scores, strict=True):
        assert score == pytest.approx(vectors["a"] @ vectors[item_id], abs=1e-5)


def test_users_of_pairs_are_made_without_the_target():
    method = model()
    method._rows = Ragged.of([[0, 1, 3], [1, 2]])
    method.degrees_ = np.array([1, 2, 1, 1], dtype=np.float32)
    method.items_ = range(4)
    method._start_net(RUN)
    vectors = method._net().detach()
    pairs = np.array([1, 3])  # the first user's item 1, the second user's item 1
    others = bipartite(Ragged.of([[0, 3], [2]]), method.degrees_)
    users = method._users_without_targets(vectors, pairs)
    np.testing.assert_allclose(users, others @ vectors.numpy(), atol=1e-6)


@pytest.mark.parametrize("loss", ["softmax", "bpr"])
def test_items_of_the_same_users_are_found(loss):
    method = model(loss=loss).fit(shop(), RUN)
    history = History.of("garden0", "garden1")
    exclude = frozenset(history.item_ids)
    ids = method.recommend([Query("a stranger", history, exclude=exclude)], 5)[0].ids
    assert all(item_id.startswith("garden") for item_id in ids)


def test_nothing_is_kept_of_users(fitted):
    learned = {"items_", "vectors_", "degrees_", "fit_report_", "trained_on_"}
    assert set(fitted.state()) == learned
    assert set(vars(fitted)) == learned | set(fitted.params())
    assert not fitted.keeps_people()


def test_explanations_name_events_of_the_same_kind_first(fitted):
    query = Query(history=History.of("tea0", "garden0", "garden1"))
    rankings = fitted.recommend([query], 4)
    for reason in fitted.explain([query], rankings)[0]:
        kind = reason.item_id.rstrip("0123456789")
        assert reason.evidence[0].id.startswith(kind)


def test_users_of_a_single_item_leave_nothing_to_learn():
    events = pl.DataFrame({"user_id": ["ann", "bob"], "item_id": ["a", "b"], "time_ms": [1, 2]})
    method = model().fit(Dataset({"events": events}), RUN)
    assert method.fit_report_["stopped"] == "no user has two items to learn from"
    assert len(method.recommend([Query(history=History.of("a"))], 2)[0]) == 2


@pytest.mark.parametrize(
    "wrong",
    [{"width": 0}, {"negatives": 0}, {"lr": 0}, {"layers": -1}, {"l2": -1}, {"loss": "hinge"}],
    ids=str,
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises((DataError, ModelError)):
        LightGCN(**wrong)


def test_the_penalty_is_the_mean_squared_length_of_the_targets():
    method = model(l2=0.5)
    method._rows = Ragged.of([[0, 1], [1, 2]])
    method.degrees_ = np.array([1, 2, 1], dtype=np.float32)
    method.items_ = range(3)
    method._start_net(RUN)
    table = method._net.table.weight.detach().numpy()
    squares = (table[[1, 1, 2]] ** 2).sum(axis=1)
    penalty = method._penalty(np.array([1, 1, 2]))
    assert float(penalty.detach()) == pytest.approx(0.5 * squares.mean(), rel=1e-5)
