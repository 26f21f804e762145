"""2T-HGNN: links by kind, messages by relation, and towers that read what came before a target."""

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp

torch = pytest.importorskip("torch")

from tailor.core.run import Run  # noqa: E402
from tailor.data.arrays import Ragged  # noqa: E402
from tailor.data.dataset import Dataset  # noqa: E402
from tailor.data.nouns import History, Query  # noqa: E402
from tailor.errors import DataError  # noqa: E402
from tailor.papers.retrieval.two_tower_hgnn import (  # noqa: E402
    RELATIONS,
    GraphLayer,
    ItemGraph,
    TwoTowerHGNN,
    _shown_edges,
    hinge,
    item_graph,
    rarity,
)
from tailor.text.hashing import HashingEncoder  # noqa: E402
from tailor.worlds.two_kinds import two_kinds  # noqa: E402

RUN = Run(workers=1, dtype="float32")
IS_NEW = np.array([True, True, False, False, False])
SETTINGS = {
    "encoder": HashingEncoder(16),
    "new": "new",
    "consumed": ("play",),
    "context": ("region",),
    "width": 8,
    "neighbours": 4,
    "graph_epochs": 1,
    "epochs": 2,
}


@pytest.fixture(scope="module")
def world():
    return two_kinds(people=60, new=12, old=24, groups=4)


@pytest.fixture(scope="module")
def fitted(world):
    return TwoTowerHGNN(**SETTINGS).fit(world.data, RUN)


def links_of(relations=RELATIONS):
    histories = Ragged.of([[0, 2, 3], [0, 2, 2], [1, 4], [0, 1]])
    return item_graph(histories, IS_NEW, relations, most=9)


def test_items_are_linked_that_a_user_consumed_both():
    pairs = {name: set(map(tuple, rows)) for name, rows in links_of().edges(IS_NEW).items()}
    assert pairs["new-new"] == {(0, 1), (1, 0)}
    assert pairs["old-old"] == {(2, 3), (3, 2)}
    assert pairs["new-old"] == {(0, 2), (2, 0), (0, 3), (3, 0), (1, 4), (4, 1)}
    without = links_of(("new-new", "new-old")).edges(IS_NEW)
    assert not len(without["old-old"]) and len(without["new-old"]) == 6


def test_the_heaviest_links_come_first_and_an_item_without_links_sees_itself():
    neighbours = links_of().neighbours(2)
    assert neighbours[0, 0].tolist() == [2, 3]  # to old items: two users link 0 and 2
    assert neighbours[4, 0].tolist() == [4, 4] and neighbours[4, 1].tolist() == [1, 1]
    drawn = links_of().neighbours(50, np.random.default_rng(0))
    assert set(drawn[0, 0].tolist()) == {2, 3} and set(drawn[2, 0].tolist()) == {3}
    empty = sp.csr_matrix((5, 5), dtype=np.float32)
    alone = ItemGraph((empty, empty)).neighbours(3)
    assert (alone == np.arange(5)[:, None, None]).all()


def test_a_layer_adds_the_largest_messages_of_each_relation():
    torch.manual_seed(0)
    layer = GraphLayer(3, 4)
    x = torch.randn(5, 3)
    is_new, neighbours = torch.from_numpy(IS_NEW), torch.from_numpy(links_of().neighbours(3))
    out = layer(x, is_new, neighbours).detach()
    for row in range(5):
        total = layer.own(x[row])
        for kind in (0, 1):
            relation = layer.messages[2 * int(IS_NEW[row]) + kind]
            messages = torch.stack([relation(x[j]).relu() for j in neighbours[row, kind]])
            total = total + messages.amax(dim=0)
        wanted = total.relu() / total.relu().norm()
        assert torch.allclose(out[row], wanted.detach(), atol=1e-5)


def test_balanced_kinds_of_links_are_shown_equally_often():
    edges = {
        "new-new": np.zeros((3, 2)),
        "new-old": np.ones((40, 2)),
        "old-old": np.full((9, 2), 2),
    }
    rng = np.random.default_rng(0)
    even, plain = (_shown_edges(edges, balanced, rng) for balanced in (True, False))
    assert np.bincount(even[:, 0].astype(int)).tolist() == [3, 3, 3]
    assert len(plain) == 9 and (plain[:, 0] == 1).sum() > 4


def test_the_hinge_asks_for_a_margin_between_a_link_and_a_random_pair():
    vectors = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    pairs, others = np.array([[0, 1], [0, 2]]), np.array([2, 1])
    # .2 - .6 + 0 is below 0; .2 - 0 + .6 is .8
    assert hinge(vectors, pairs, others, 0.2).item() == pytest.approx(0.4, abs=1e-6)


def test_rare_targets_weigh_more_and_at_most_ten_means():
    items = np.array([0] * 200 + [1])
    weights = rarity(items, 2)
    assert weights.mean() == pytest.approx(1, abs=1e-5)
    raw = np.r_[np.full(200, 1 / 200), 1.0]
    capped = np.minimum(raw / raw.mean(), 10)
    assert np.allclose(weights, capped / capped.mean(), atol=1e-5)


def test_only_new_items_are_targets_and_only_events_before_them_within_the_days_are_read(world):
    method = TwoTowerHGNN(**SETTINGS, days=20.0)
    method.is_new_ = world.is_new
    data = world.data
    strong = method._is_strong(data)
    targets = method._targets(data, strong)
    rows, times = data.sequences.rows.values, data.sequences.times_ms.values
    assert world.is_new[rows[targets.stops]].all() and strong[targets.stops].all()
    for start, stop, user in zip(targets.starts, targets.stops, targets.users, strict=True):
        first, last = data.sequences.rows.offsets[user : user + 2]
        wanted = [p for p in range(first, stop) if times[stop] - times[p] <= 20 * 86_400_000]
        assert list(range(start, stop)) == wanted and stop < last


def test_lists_hold_new_items_alone_and_weak_signals_and_regions_count(world, fitted):
    query = world.data.queries(world.data.users.ids[:1].tolist())[0]
    ranking = fitted.recommend([query], 12)[0]
    kinds = dict(world.data.tables["items"].select("item_id", "kind").iter_rows())
    assert len(ranking) == 12 and {kinds[item_id] for item_id in ranking.ids} == {"new"}
    elsewhere = Query(history=query.history, context={"region": "region 3"})
    nowhere = Query(history=query.history)
    lists = fitted.recommend([elsewhere, nowhere], 12)
    assert not np.allclose(lists[0].scores, lists[1].scores, atol=1e-6)


def test_old_events_are_not_read_at_answering(world):
    method = TwoTowerHGNN(**SETTINGS, days=1.0).fit(world.data, RUN)
    ids = world.data.catalogue.ids
    day = 86_400_000
    recent = History((ids[0],), times_ms=(10 * day,))
    both = History((ids[1], ids[0]), times_ms=(day, 10 * day))
    lists = method.recommend([Query(history=recent), Query(history=both)], 5)
    assert lists[0].ids == lists[1].ids and np.allclose(lists[0].scores, lists[1].scores)
    late = Query(history=both, time_ms=10 * day + day // 2)
    assert method.recommend([late], 5)[0].ids == lists[0].ids


def test_the_graph_changes_answers_and_is_trained(world, fitted):
    plain = TwoTowerHGNN(**SETTINGS, graph=False).fit(world.data, RUN)
    assert plain.features_.shape[1] == 16 and fitted.features_.shape[1] == 24
    assert np.allclose(np.linalg.norm(fitted.features_[:, 16:], axis=1), 1, atol=1e-4)
    assert fitted.fit_report_["graph"]["steps"] > 0 and "graph" not in plain.fit_report_


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"relations": ("new-odd",)}, 'relations names "new-odd"'),
        ({"days": 0.0}, "days must be above 0"),
        ({"width": 0}, "at least 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(DataError, match=message):
        TwoTowerHGNN(**settings)


def test_data_without_the_kind_or_the_actions_are_refused(world):
    items = world.data.tables["items"]
    tables = {"events": world.data.events.drop("action"), "items": items}
    with pytest.raises(DataError, match="consumed names actions"):
        TwoTowerHGNN(**SETTINGS).fit(Dataset(tables), RUN)
    with pytest.raises(DataError, match='no item has the kind "odd"'):
        TwoTowerHGNN(**SETTINGS | {"new": "odd"}).fit(world.data, RUN)
    tables["items"] = items.with_columns(kind=pl.lit(None, pl.String))
    with pytest.raises(DataError, match="no item has the kind"):
        TwoTowerHGNN(**SETTINGS).fit(Dataset(tables), RUN)
