"""Test UDITSR's queries, words and losses by hand, that no target is read, and what it learns."""

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp

pytest.importorskip("torch")

import torch

from tailor.core.run import Run
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query
from tailor.data.queries import Queries
from tailor.errors import DataError
from tailor.papers.ranking.uditsr import (
    UDITSR,
    _Log,
    own_words,
    query_texts,
    recent_queries,
    words_of_items,
)
from tailor.worlds.searches import searches

RUN = Run(workers=1, dtype="float32")
LOG = [  # user, item, words
    ("ann", "a", "red tea"),
    ("ann", "b", ""),
    ("ann", "c", ""),
    ("bob", "a", "red tea"),
    ("bob", "c", ""),
    ("eve", "a", "tea red"),
    ("eve", "b", ""),
]


def model(**settings):
    return UDITSR(**({"width": 8, "epochs": 1, "patience": None} | settings))


def data_of(log=LOG):
    columns = {name: [row[number] for row in log] for number, name in enumerate(("user", "item"))}
    events = pl.DataFrame(
        {"user_id": columns["user"], "item_id": columns["item"], "time_ms": range(len(log))}
    )
    texts = events.with_columns(
        text=pl.Series([row[2] for row in log]), kind=pl.lit("query")
    ).filter(pl.col("text") != "")
    return Dataset({"events": events, "texts": texts})


def started(log=LOG, **settings):
    """Return a method about to learn from a log."""
    method = model(**settings)
    data = data_of(log)
    method.items_ = data.catalogue
    rows = data.sequences.rows
    words = method._learn_words(query_texts(data), rows)
    method.item_words_ = words_of_items(rows, words, len(method.items_), method)
    method._log = _Log(rows, words, method.item_words_, method)
    method._start_net(RUN)
    return method


def test_latest_searches_are_those_of_the_user_before_the_event():
    words = sp.csr_matrix(np.array([[1, 0], [0, 0], [0, 1], [0, 1], [0, 0], [1, 0], [0, 0]]))
    starts = np.array([0, 0, 0, 0, 0, 5, 5])
    latest = recent_queries(words, starts, np.arange(7), 2).toarray()
    expected = [[0, 0], [1, 0], [1, 0], [1, 1], [0, 2], [0, 0], [1, 0]]
    np.testing.assert_array_equal(latest, expected)


def test_an_item_has_the_words_that_most_users_typed_for_it():
    rows = Ragged.of([[0, 0, 1], [0], [0], [1]])
    words = np.zeros((6, 3))
    words[0] = words[1] = [1, 1, 0]  # twice the same user
    words[3] = [1, 0, 1]
    words[4] = [1, 1, 0]
    words[5] = [0, 0, 1]
    codes = words_of_items(rows, sp.csr_matrix(words), 2, model(item_words=3))
    np.testing.assert_array_equal(codes, [[0, 1, -1], [-1, -1, -1]])


def test_words_that_fewer_than_two_others_typed_are_hidden():
    rows = Ragged.of([[0, 0], [0], [0, 1]])
    words = np.array([[1, 1], [0, 0], [1, 1], [1, 0], [0, 0]])
    codes = np.array([[0, 1], [-1, -1]])
    hidden = own_words(rows, sp.csr_matrix(words), codes, 2)
    # word 1 was typed by the first two users; word 0 by all three
    expected = [[False, True], [False, True], [False, True], [False, False], [False, False]]
    np.testing.assert_array_equal(hidden, expected)


def test_searches_are_texts_of_their_kind_for_the_same_event():
    data = data_of()
    assert query_texts(data) == [row[2] for row in LOG]
    reviews = data.tables["texts"].with_columns(kind=pl.lit("review"))
    assert query_texts(Dataset({**data.tables, "texts": reviews})) == [""] * len(LOG)
    assert query_texts(Dataset({"events": data.tables["events"]})) == [""] * len(LOG)


def test_the_demand_generated_for_an_event_does_not_read_its_own_search():
    other = [("ann", "a", ""), *LOG[1:]]
    demands = []
    for log in (LOG, other):
        method = started(log, least=1)
        rows = torch.from_numpy(method.items_.rows(["a", "b"]).astype(np.int64))
        event = torch.tensor([int(method._log.user_of.tolist().index(user_row(log, "ann")))])
        with torch.no_grad():
            demands.append(method._generated(event, rows[None]))
    torch.testing.assert_close(*demands)


def user_row(log, user):
    return int(data_of(log).users.rows([user])[0])


def test_words_of_an_item_are_read():
    method = started()
    rows = torch.from_numpy(method.items_.rows(["a"]).astype(np.int64))
    zeros = torch.zeros(1, 8)
    with torch.no_grad():
        read = method._net.generate(zeros, zeros, rows)
        hidden = method._net.generate(zeros, zeros, rows, torch.ones(1, 10, dtype=torch.bool))
    assert not torch.allclose(read, hidden)


def test_a_taste_is_the_mean_of_the_items_less_the_demands():
    method = started()
    method._keep_weights()
    history = History(("a", "b"), texts=("red tea", None))
    tastes, means_of, latest, vectors = method._users(
        Queries.of([Query(history=history)]).reindexed(method.items_)
    )
    a, b = method.items_.rows(["a", "b"]).tolist()
    net = method._ready()
    with torch.no_grad():
        words = net.words.weight.sum(dim=0)
        means = net.items(torch.tensor([a, b])).mean(dim=0)
        demand = net.generate(means[None], words[None], torch.tensor([b]))[0]
        torch.testing.assert_close(means_of[0], means)
        torch.testing.assert_close(latest[0], words)
        torch.testing.assert_close(tastes[0], (vectors[a] - words + vectors[b] - demand) / 2)


def test_layers_add_users_with_their_demands():
    method = started(layers=1)
    log, net = method._log, method._net
    with torch.no_grad():
        demands, vectors = method._propagate()
        table = net.items.weight
        for row in range(3):
            messages = []
            for event in torch.nonzero(log.item_of == row)[:, 0]:
                own = log.user_of == log.user_of[event]
                user = (table[log.item_of[own]] - demands[own]).mean(dim=0)
                messages.append(user + demands[event])
            averaged = (table[row] + torch.stack(messages).mean(dim=0) / 2) / 1.5
            torch.testing.assert_close(vectors[row], averaged)


def loss_of(**weights):
    method = started(**weights)
    return method, float(method._loss(np.arange(7), np.random.default_rng(0)).detach())


def test_searches_alone_teach_the_generator():
    _, plain = loss_of(generation=0)
    method, taught = loss_of(generation=2)
    log, net = method._log, method._net
    events = torch.arange(7)
    with torch.no_grad():
        generated = method._generated(events, log.item_of[:, None])[:, 0]
        own = log.words(net.words.weight)
        squares = (generated - own).square().mean(dim=1)[log.is_search]
    assert log.is_search.sum() == 3
    assert taught == pytest.approx(plain + 2 * float(squares.mean()), abs=1e-5)


def test_the_translation_brings_taste_and_demand_to_the_item():
    method, without = loss_of(translation=0, negatives=1)
    _, with_it = loss_of(translation=3, negatives=1)
    log, net = method._log, method._net
    events = torch.arange(7)
    drawn = method._with_negatives(log.item_of, np.random.default_rng(0))
    with torch.no_grad():
        demands, vectors = method._propagate()
        users = log.without(vectors[log.item_of] - demands, events)
        used = method._generated(events, drawn)
        used[log.is_search] = log.words(net.words.weight)[log.is_search][:, None]
        distance = (users[:, None] + used - vectors[drawn]).square().mean(dim=2)
        loss = torch.nn.functional.softplus(distance[:, 0] - distance[:, 1]).mean()
    assert with_it == pytest.approx(without + 3 * float(loss), abs=1e-5)


@pytest.fixture(scope="module")
def world():
    return searches(users=60, styles=2, topics=4, copies=3, seed=5)


@pytest.fixture(scope="module")
def fitted(world):
    return model(width=16, epochs=15).fit(world.data, RUN)


def topics_of(world, ids):
    return world.topics[world.data.catalogue.rows(ids)]


def test_searches_find_items_of_their_topic(world, fitted):
    shares = []
    for topic, words in enumerate(world.words):
        queries = [Query(text=" ".join(words[first : first + 2])) for first in range(5)]
        lists = fitted.recommend(queries, 6)
        shares += [(topics_of(world, ranking.ids) == topic).mean() for ranking in lists]
    assert np.mean(shares) > 0.5  # by chance .25


def test_earlier_queries_of_the_history_move_the_list(world, fitted):
    items = tuple(world.data.catalogue.ids[:2])
    scores = []
    for texts in (("", ""), (world.words[0][0], ""), (world.words[1][0], "")):
        query = Query(history=History(items, texts=texts))
        scores.append(fitted._scores(Queries.of([query]).reindexed(fitted.items_))[0])
    assert not np.allclose(scores[0], scores[1], atol=1e-3)
    assert not np.allclose(scores[1], scores[2], atol=1e-3)


def test_unknown_words_are_no_search(fitted, world):
    history = History((world.data.catalogue.ids[0],))
    plain, unknown = fitted.recommend([Query(history=history), Query(history=history, text="xx")])
    assert plain.ids == unknown.ids
    assert not fitted.recommend([Query(text="xx")])[0].ids


def test_without_searches_words_are_not_read(world):
    blind = model(reads_searches=False).fit(world.data, RUN)
    assert blind.words_ == []
    assert blind.fit_report_["searches"] == 0
    assert not blind.recommend([Query(text=world.words[0][0])])[0].ids


def test_nothing_is_kept_of_users(fitted, world):
    learned = set(fitted.state()) - {"items_", "fit_report_", "trained_on_", "net_weights_"}
    assert learned == {"words_", "item_words_", "vectors_"}
    assert "_log" not in vars(fitted)
    secret = world.data.tables["texts"].with_columns(
        text=pl.when(pl.int_range(pl.len()) == 0).then(pl.lit("secretword")).otherwise("text")
    )
    data = Dataset({**world.data.tables, "texts": secret})
    assert "secretword" not in model(epochs=0).fit(data, RUN).words_


@pytest.mark.parametrize(
    "wrong", [{"width": 0}, {"least": 0}, {"lr": 0}, {"generation": -1}, {"layers": -1}], ids=str
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(DataError):
        UDITSR(**wrong)
