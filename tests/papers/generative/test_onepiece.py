"""OnePiece: the steps, what teaches them, and anchors that know no future."""

import numpy as np
import polars as pl
import pytest

pytest.importorskip("torch")

import torch

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query
from tailor.data.queries import Queries
from tailor.data.requests import Requests
from tailor.errors import DataError
from tailor.papers.generative.onepiece import Context, OnePiece, _events_before
from tailor.text.hashing import HashingEncoder
from tailor.worlds.hops import hops

RUN = Run(workers=1, dtype="float32")


def model(**settings):
    defaults = {"encoder": HashingEncoder(64), "width": 16, "length": 20, "dropout": 0.0}
    return OnePiece(**(defaults | {"epochs": 2} | settings))


@pytest.fixture(scope="module")
def world():
    return hops(people=120, asked=20, values=(3, 3, 3), rare=0.5, rare_words=2)


def search_log(*late):
    """Six people search for "Hat" in turn; each clicks an item, the last three the same.

    `late` are further events: user, item, time, action, request.
    """
    people = list("abcdef")
    clicked = ["x", "y", "y", "z", "z", "z"]
    rows = [(u, i, 10 * n + 1, "click", f"r{n}") for n, (u, i) in enumerate(zip(people, clicked))]
    requests = [(f"r{n}", user, 10 * n, " Hat") for n, user in enumerate(people)]
    requests.append(("r6", "a", 99, "only ann"))
    rows += [("a", "w", 100, "click", "r6"), *late]
    schema = ["user_id", "item_id", "time_ms", "action", "request_id"]
    asked = pl.DataFrame(
        requests, schema=["request_id", "user_id", "time_ms", "text"], orient="row"
    )
    events = pl.DataFrame(rows, schema=schema, orient="row")
    items = pl.DataFrame({"item_id": list("wxyz"), "title": ["hat", "cap", "hood", "scarf"]})
    return Dataset({"events": events, "requests": asked, "items": items})


def context_of(method, queries):
    over_items = Queries.of(queries).reindexed(method.items_)
    situation = method._situation_vectors(over_items)
    method._ready()
    return method._context(over_items.histories, method.anchors_of(over_items), situation)


def whole_pass(net, context):
    """Return the states of `step_states`, each step computed by reading everything again."""
    tokens, is_token = net._tokens(context)
    length = tokens.shape[1]
    blocks = []
    for step in range(len(net.step_positions) + 1):
        hidden = torch.full((tokens.shape[1], tokens.shape[1]), float("-inf"))
        for place in range(tokens.shape[1]):  # a place reads its own block and those before it
            block = max(0, (place - length) // 2 + 1)
            hidden[place, : length + 2 * block] = 0
        bias = hidden[None, None] + torch.where(is_token, 0.0, float("-inf"))[:, None, None]
        x = tokens
        for layer in net.layers:
            x = x + layer.attention(layer.norm1(x), bias)
            x = x + layer.feed_forward(layer.norm2(x))
        blocks.append(x[:, -2:])
        if step < len(net.step_positions):
            tokens = torch.cat([tokens, blocks[-1] + net.step_positions[step]], dim=1)
            is_token = torch.nn.functional.pad(is_token, (0, 2), value=True)
    return [net.readout(block.mean(dim=1)) for block in blocks]


@pytest.mark.parametrize("blocks", [1, 2])
def test_steps_are_those_of_the_whole_sequence_read_again(world, blocks):
    method = model(blocks=blocks).fit(world.data, RUN)
    context = context_of(method, [*world.queries[:5], Query(text="red")])
    net = method._ready()
    with torch.inference_mode():
        states = net.step_states(context)
        expected = whole_pass(net, context)
    assert len(states) == 3
    for state, other in zip(states, expected, strict=True):
        torch.testing.assert_close(state, other, rtol=0, atol=1e-4)
    assert not torch.allclose(states[0], states[2], atol=1e-2)


def test_padding_changes_nothing(world):
    method = model().fit(world.data, RUN)
    context = context_of(method, world.queries[:1])
    longer = Context(
        torch.nn.functional.pad(context.history, (0, 3), value=5),
        context.history_lengths,
        torch.nn.functional.pad(context.anchors, (0, 2), value=5),
        context.anchor_counts,
        context.situation,
    )
    with torch.inference_mode():
        state = method._ready().step_states(context)[-1]
        other = method._ready().step_states(longer)[-1]
    torch.testing.assert_close(state, other, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({}, [0, 1, 2]),
        ({"reason_steps": 0}, [0, 0, 0]),
        ({"reason_steps": 3}, [0, 1, 3]),
        ({"reason_steps": 2, "actions": ("click", "order")}, [0, 2]),
        ({"reason_steps": 2, "actions": ("order",)}, [2]),
        ({"supervision": "final"}, [None, None, 2]),
    ],
)
def test_each_action_teaches_its_step(settings, steps):
    assert model(**settings)._step_of_action() == steps


def test_the_loss_by_hand(world):
    method = model(temperature=0.5).fit(world.data, RUN)
    states = [torch.randn(4, 16) for _ in range(3)]
    method._net.step_states = lambda context: states
    rows = [np.array([3, 5, 3, -1]), np.array([-1, 5, -1, 7]), np.array([-1, -1, -1, 2])]
    loss = method._loss(None, rows)
    items = method._net.table.all_items()

    def contrast(step):
        has_target = np.flatnonzero(rows[step] >= 0)
        left = torch.nn.functional.normalize(states[step][has_target], dim=1)
        right = torch.nn.functional.normalize(items[rows[step][has_target]], dim=1)
        logits = (left @ right.T / 0.5).detach().numpy()
        total = 0.0
        for matrix in (logits, logits.T):
            for i in range(len(matrix)):
                rivals = [
                    j
                    for j in range(len(matrix))
                    if j == i or rows[step][has_target[j]] != rows[step][has_target[i]]
                ]
                total += np.log(np.exp(matrix[i, rivals]).sum()) - matrix[i, i]
        return total / (2 * len(logits))

    # one request with an order has nothing to be told from
    assert loss.item() == pytest.approx((contrast(0) + contrast(1) + 0) / 3, rel=1e-4)


def test_anchors_of_learning_come_from_earlier_requests():
    method = model(anchors=2)
    data = search_log()
    method.items_ = data.catalogue
    requests = Requests.of(data, method.actions, 5)
    earlier = method._learn_anchors(requests)
    named = [set(data.catalogue.named(earlier[i])) for i in range(7)]
    assert named == [set(), {"x"}, {"x", "y"}, {"x", "y"}, named[4], named[5], set()]
    assert "y" in named[4] and len(named[4]) == 2 and named[5] == {"y", "z"}


def test_what_a_search_led_to_later_is_no_anchor_of_learning():
    method = model(anchors=3)
    # the first search led to "w" two days on, after four other searches, at the time of the fifth
    orders = [("a", "w", 40, "order", "r0")] * 3 + [("c", "x", 15, "order", "r2")]
    data = search_log(*orders)
    method.items_ = data.catalogue
    earlier = method._learn_anchors(Requests.of(data, method.actions, 5))
    named = [set(data.catalogue.named(earlier[i])) for i in range(7)]
    # an event before its own request, by a wrong clock, counts from that request on
    assert named[:5] == [set(), {"x"}, {"x", "y"}, {"x", "y"}, {"x", "y", "z"}]
    assert data.catalogue.named(earlier[5])[0] == "w"
    assert method.anchors_of(Queries.of([Query(text="hat")])).lengths.tolist() == [3]


def test_without_times_all_earlier_requests_are_before():
    rows = [{"user_id": f"u{n}", "item_id": item} for n, item in enumerate("xxyz")]
    requests = Requests.of(Dataset.from_events(rows), ("click",), 5)
    assert requests.reached_ms() is None
    order, stops = _events_before(requests)
    assert order.tolist() == [0, 1, 2, 3] and stops.tolist() == [0, 1, 2, 3, 4]


def test_anchors_are_the_most_frequent_items_of_searches_by_several_users():
    method = model(anchors=2).fit(search_log(), RUN)
    queries = Queries.of([Query(text="hat "), Query(text="only ann"), Query(text="new"), Query()])
    rows = method.anchors_of(queries)
    assert method.items_.named(rows[0]) == ["z", "y"]
    assert rows.lengths.tolist() == [2, 0, 0, 0]  # of one user's search nothing is kept
    assert method.searches_.ids.tolist() == ["hat"]


def test_without_anchors_no_search_is_kept():
    method = model(anchors=0).fit(search_log(), RUN)
    assert len(method.searches_) == 0
    assert method.anchors_of(Queries.of([Query(text="hat")])).lengths.tolist() == [0]


def test_anchors_attributes_and_searches_change_the_answer(world):
    method = model(epochs=4).fit(world.data, RUN)
    base = Query(history=world.queries[0].history, text=world.queries[0].text)

    def scores(query):
        return method._scores(Queries.of([query]).reindexed(method.items_))

    before = scores(base)
    other_text = next(q.text for q in world.queries if q.text != base.text)
    for change in ({"text": other_text}, {"context": {"country": "France"}}):
        assert not np.allclose(scores(Query(history=base.history, **change)), before)
    assert method.anchors_of(Queries.of([base])).lengths[0] > 0
    method.anchors_of = lambda queries: method.anchors_.take(np.array([0] * len(queries))).last(0)
    assert not np.allclose(scores(base), before)


def test_a_request_needs_a_history_or_a_text(world):
    method = model().fit(world.data, RUN)
    lists = method.recommend([Query(), Query(text="hat"), world.queries[0]], 3)
    assert [len(ranking) for ranking in lists] == [0, 3, 3]


def test_the_report_counts_the_requests_of_each_depth():
    world = hops(people=80, asked=1, values=(3, 3, 3), deeper=0.5)
    report = model().fit(world.data, RUN).fit_report_
    counts = dict(world.data.events["action"].value_counts().iter_rows())
    assert report["requests with click"] == 80
    assert report["requests with order"] == counts["order"] < report["requests with cart"]


@pytest.mark.slow
def test_two_steps_find_what_hangs_on_two_look_ups():
    world = hops(people=3_000, asked=300, values=(4, 4, 4), length=6, seed=0)

    def share(**settings):
        method = OnePiece(
            encoder=HashingEncoder(256), lr=3e-3, batch=128, epochs=30, anchors=0, **settings
        ).fit(world.data, RUN)
        lists = method.recommend(world.queries, 1)
        return np.mean([ranking.ids[0] for ranking in lists] == np.array(world.orders))

    assert share() > share(reason_steps=0) + 0.2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reason_steps": -1}, "reason_steps is -1"),
        ({"anchors": -1}, "anchors is -1"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"dropout": 1.0}, "dropout 1.0"),
        ({"actions": ()}, "actions is empty"),
        ({"heads": 3}, "heads 3"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(DataError, match=message):
        model(**settings)


def test_a_history_without_a_known_item_is_read_as_none(world):
    method = model().fit(world.data, RUN)
    known = Query(text="hat")
    unknown = Query(history=History.of("never seen"), text="hat")
    lists = method.recommend([known, unknown], 5)
    assert lists[0].ids == lists[1].ids
