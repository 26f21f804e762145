"""OneRec's report: three paths, vectors by contrast, and rewards by name that move free decoding."""

import numpy as np
import polars as pl
import pytest
from taught_parts import check_taught_parts

torch = pytest.importorskip("torch")

from tailor.cli.studying import parse_settings  # noqa: E402
from tailor.core.run import Run  # noqa: E402
from tailor.core.specs import build  # noqa: E402
from tailor.data.arrays import Ragged  # noqa: E402
from tailor.data.dataset import Dataset  # noqa: E402
from tailor.data.nouns import History, Query  # noqa: E402
from tailor.data.queries import Queries  # noqa: E402
from tailor.errors import DataError  # noqa: E402
from tailor.nn.item_encoders import CodeItemEncoder  # noqa: E402
from tailor.papers.generative.onerec_report import (  # noqa: E402
    CLUSTERS,
    HistoryPaths,
    OneRecReport,
    Paths,
    members_of,
    spans,
)
from tailor.text.hashing import HashingEncoder  # noqa: E402
from tailor.training.sequences import Windows  # noqa: E402
from tailor.worlds.facet_visits import facet_visits  # noqa: E402

RUN = Run(workers=1, dtype="float32")


def model(**settings):
    defaults = {
        "encoder": HashingEncoder(32),
        "levels": 2,
        "words": 8,
        "width": 16,
        "blocks": 1,
        "length": 4,
        "epochs": 6,
        "dropout": 0.0,
        "lr": 0.01,
        "batch_places": 512,
        "patience": None,
        "contrast": False,
        "rounds": 0,
    }
    return OneRecReport(**(defaults | settings))


@pytest.fixture(scope="module")
def data():
    return facet_visits(40, 4, seed=1, values=(3, 2, 3, 2)).data


@pytest.fixture(scope="module")
def fitted(data):
    return model().fit(data, RUN)


# ---- paths


def test_paths_hold_returns_and_the_largest_clusters():
    earlier = Ragged.of([[0, 0, 3, 1, 0, 3], [], [2]])
    paths = Paths.of(earlier, np.array([7, 7, 7, 9]), received=2)
    assert [paths.received[i].tolist() for i in range(3)] == [[0, 3], [], []]
    assert paths.clusters.lengths.tolist() == [2, 0, 1]
    shares = {
        (cluster, item): share
        for (cluster, item), share in zip(paths.pairs.tolist(), paths.shares.tolist(), strict=True)
    }
    first, second = paths.clusters[0].tolist()
    assert shares[first, 0] == pytest.approx(3 / 4) and shares[first, 1] == pytest.approx(1 / 4)
    assert shares[second, 3] == 1 and shares[paths.clusters[2][0], 2] == 1
    many = Paths.of(Ragged.of([[*range(40), 39]]), np.arange(40), received=5)
    assert many.clusters.lengths.tolist() == [CLUSTERS]
    assert 39 in many.pairs[:, 1]  # the cluster with most events is kept


def test_paths_change_states_and_an_empty_life_has_numbers():
    torch.manual_seed(0)
    net = HistoryPaths(8, 2).eval()
    table = CodeItemEncoder(torch.tensor([[0], [1], [2]]), [3], 8)
    states = torch.randn(3, 8)
    groups = np.array([0, 0, 1])

    def read(*histories):
        return net(states, table, Paths.of(Ragged.of(histories), groups, received=4))

    first = read([0, 2, 2], [], [1])
    assert torch.isfinite(first).all()
    assert torch.allclose(first[1], read([0], [], [1])[1], atol=1e-6)
    assert not torch.allclose(first[0], read([0, 2, 1], [], [1])[0], atol=1e-4)
    # each is read alone as in company
    assert torch.allclose(first[2], read([0, 2, 2] * 9, [0], [1])[2], atol=1e-6)
    first.sum().backward()
    assert all(weight.grad is not None for weight in net.parameters())


def test_events_beyond_the_last_ones_are_read(fitted):
    ids = fitted.items_.ids.tolist()
    recent = ids[:4]
    scores = {}
    for name, old in {"none": [], "one": ids[10:14], "another": ids[20:24]}.items():
        query = Query(history=History.of(*old, *recent))
        scores[name] = fitted.recommend([query], 5)[0].scores
    assert not np.allclose(scores["none"], scores["one"], atol=1e-4)
    assert not np.allclose(scores["one"], scores["another"], atol=1e-4)


def test_training_reads_the_events_before_each_target_and_nothing_else(fitted, data):
    training = fitted._known_training(data)
    rows = training.rows
    user = int(np.argmax(rows.lengths))
    start = int(rows.offsets[user])
    windows = Windows(rows.values, np.array([start + 2]), np.array([3]), None, every_place=False)
    rng = np.random.default_rng(0)
    with torch.no_grad():
        task = fitted._make_task(windows, rng)
        states = fitted._task_states(task, training, rng)
        item_ids = fitted.items_.named(rows.values[start : start + 5])
        query = Query(history=History.of(*item_ids))
        queries = Queries.of([query]).reindexed(fitted.items_)
        recent = Windows(rows.values, np.array([start + 2]), np.array([3]))
        asked = fitted._query_states(recent, queries)
    assert torch.allclose(states, asked, atol=1e-5)


def test_a_repeat_of_the_event_before_is_no_target(fitted):
    rows = np.array([3, 3, 5, 5, 5, 2])
    windows = Windows(rows, np.array([0]), np.array([5]))
    task = fitted._make_task(windows, np.random.default_rng(0))
    assert task.targets.tolist() == [5, 2] and task.events.tolist() == [2, 5]


def test_spans_are_the_values_between():
    values = np.arange(10) * 10
    parts = spans(values, np.array([2, 5, 0]), np.array([4, 5, 3]))
    assert [parts[i].tolist() for i in range(3)] == [[20, 30], [], [0, 10, 20]]


def test_items_chosen_together_come_near_each_other():
    rng = np.random.default_rng(0)
    rows = []
    for user in range(60):  # everybody stays in one of two groups, of which titles say nothing
        group = np.arange(6) + 6 * (user % 2)
        rows += [(f"u{user}", f"i{item}", time) for time, item in enumerate(rng.permutation(group))]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "time_ms"], orient="row")
    titles = [f"word{number}" for number in rng.permutation(12)]
    items = pl.DataFrame({"item_id": [f"i{number}" for number in range(12)], "title": titles})
    data = Dataset({"events": events, "items": items})

    def lead(**settings):
        vectors = model(ids_from="text", epochs=1, **settings).fit(data, RUN).vectors_
        units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        numbers = np.array([int(item_id[1:]) for item_id in data.catalogue.ids.tolist()])
        same = (numbers[:, None] < 6) == (numbers < 6)
        cosines = units @ units.T
        return cosines[same & ~np.eye(12, dtype=bool)].mean() - cosines[~same].mean()

    assert lead(contrast=True) > lead(contrast=False) + 0.1


# ---- rewards


def test_the_table_of_rewards_is_written_on_the_command_line():
    settings = parse_settings(['reward={pscore = 1, legal = 0.2, "category=new" = 0.1}'])
    method = build({"class": "OneRecReport", **settings})
    assert method.reward == {"pscore": 1, "legal": 0.2, "category=new": 0.1}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reward": {"psscore": 1.0}}, "psscore.*pscore"),
        ({"rounds": -1}, "rounds is -1"),
        ({"received": 0}, "received is 0"),
        ({"draws": 1}, "draws is 1"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(DataError, match=message):
        OneRecReport(**settings)


def test_members_are_items_with_a_value():
    events = pl.DataFrame({"user_id": ["u"], "item_id": ["a"], "time_ms": [1]})
    items = pl.DataFrame(
        {
            "item_id": ["a", "b", "c"],
            "categories": [["old", "wool"], ["new"], None],
            "price": [1.0, 2.0, None],
        }
    )
    data = Dataset({"events": events, "items": items})

    def members(name):
        mask = members_of(data, data.catalogue, name)
        return set(data.catalogue.ids[mask].tolist())

    assert members("category=new") == {"b"} and members("categories=wool") == {"a"}
    assert members("price=2.0") == {"b"}
    with pytest.raises(DataError, match="no such column"):
        members("colour=red")
    with pytest.raises(DataError, match=r"no item has it.*wool"):
        members("category=wol")


@pytest.mark.slow
def test_legality_and_the_asked_for_share_rise_by_their_weights(data, fitted):
    colour = next(iter(data.item_table["colour"].unique().sort()))
    name = f"colour={colour}"
    mask = members_of(data, fitted.items_, name)
    queries = data.queries()

    def taught(reward):
        method = fitted._with_state()
        method.reward, method.rounds, method.reward_lr = reward, 3, 0.02
        answer = method.rewarded(data, RUN)
        rows = answer._recommend(queries.reindexed(fitted.items_), 5, None).rows
        return mask[rows].mean(), answer.fit_report_["alignment"]["curves"]

    plain, curves = taught({"legal": 1.0})
    assert curves["legality"][0] < 0.9 and curves["legality"][-1] > curves["legality"][0] + 0.05
    asked, _ = taught({"legal": 1.0, name: 1.0})
    assert asked > plain + 0.15


def test_pscore_is_learned_from_impressions_and_without_them_nothing_is_taught(data, fitted):
    method = fitted._with_state()
    method.reward, method.rounds = {"pscore": 1.0}, 1
    taught = method.rewarded(data, RUN)
    assert set(taught.fit_report_["pscore"]["AUC"]) == {"click", "cart", "order", "score"}
    assert (taught.net_weights_["heads.0.weight"] != fitted.net_weights_["heads.0.weight"]).any()
    bare = Dataset({"events": data.events.drop("request_id"), "items": data.tables["items"]})
    alone = model(epochs=1, rounds=1).fit(bare, RUN)
    assert "no impressions" in alone.fit_report_["alignment"]["stopped"]


@pytest.mark.slow
def test_fit_teaches_by_itself_what_rewarded_teaches(data, fitted):
    settings = {"reward": {"legal": 1.0}, "reward_lr": 0.01}
    at_once = model(rounds=1, **settings).fit(data, RUN)
    later = fitted._with_state()
    later.rounds, later.reward, later.reward_lr = 1, {"legal": 1.0}, 0.01
    taught = later.rewarded(data, RUN)
    assert at_once.fit_report_["alignment"]["curves"].keys() == (
        taught.fit_report_["alignment"]["curves"].keys()
    )
    changed = at_once.net_weights_["heads.0.weight"]
    assert (changed != fitted.net_weights_["heads.0.weight"]).any()


def test_rewards_are_not_learned_from_what_the_fit_validates_on(data, fitted, monkeypatch):
    check_taught_parts(fitted, "_rewarded", data, monkeypatch)


def test_a_reward_that_no_draw_can_better_is_noted(data, fitted):
    method = fitted._with_state()
    everything = data.item_table.with_columns(kind=pl.lit("thing"))
    same = Dataset({**dict(data.tables), "items": everything}, labels=data.labels)
    method.reward, method.rounds, method.closed = {"kind=thing": 0.0}, 1, True
    taught = method.rewarded(same, RUN)
    assert "tell answers apart" in taught.fit_report_["alignment"]["stopped"]
