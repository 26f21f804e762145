"""MQSATED: two stacks whose logits are blended, and what follows an item teaches its vector."""

import numpy as np
import polars as pl
import pytest

pytest.importorskip("torch")

import torch
from torch.nn.functional import normalize

from tailor.core.run import Run
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query
from tailor.data.splits import last_out
from tailor.errors import DataError
from tailor.papers.retrieval import mqsa_ted
from tailor.papers.retrieval.mqsa_ted import MQSATED, transition_shares
from tailor.training.sequences import TrainingData, whole_windows

RUN = Run(workers=1, dtype="float32")
PAIRS = 12  # items a0 .. a11, each followed by b0 .. b11 three times of four


def pair_data(users=60, seed=0):
    """Everybody chooses pairs: a_i and then b_i, or now and then another b."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        for step, pair in enumerate(rng.permutation(PAIRS)[:4].tolist()):
            follower = pair if rng.random() < 0.75 else int(rng.integers(PAIRS))
            rows += [(f"u{user}", f"a{pair}", 2 * step), (f"u{user}", f"b{follower}", 2 * step + 1)]
    schema = ["user_id", "item_id", "time_ms"]
    return Dataset({"events": pl.DataFrame(rows, schema=schema, orient="row")})


def model(**settings):
    defaults = {
        "width": 16,
        "length": 8,
        "dropout": 0.1,
        "negatives": None,
        "lr": 0.01,
        "epochs": 5,
        "patience": None,
        "batch_places": 256,
    }
    return MQSATED(**(defaults | settings))


def training_of(histories, items):
    rows = Ragged.of(histories)
    return TrainingData(None, rows, None, np.arange(items))


def test_shares_are_counts_of_adjacent_pairs_over_the_largest_of_an_item():
    training = training_of([[0, 1, 2], [0, 1, 1, 0], [0, 2]], 4)
    shares = transition_shares(training, 4, threads=1).toarray()
    # 0 -> 1 twice, 0 -> 2 once; 1 -> 2 and 1 -> 0 once, 1 -> 1 is left out; 3 has no event
    expected = [[0, 1, 0.5, 0], [1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert shares.tolist() == expected


def test_validation_targets_teach_nothing(monkeypatch):
    split = last_out(pair_data())
    counted = []

    def counting(training, items, threads):
        counted.append(training.rows.lengths.sum())
        return transition_shares(training, items, threads)

    monkeypatch.setattr(mqsa_ted, "transition_shares", counting)
    model(epochs=1).fit(split.train, RUN, split)
    model(epochs=1, patience=1).fit(split.train, RUN)  # holds out a validation of its own
    events = len(split.train.events)
    assert counted == [events, events - len(split.train.users)]


def test_the_distillation_is_the_cross_entropy_of_teacher_and_student():
    method = model(epochs=1).fit(pair_data(), RUN)
    training = training_of([[0, 1, 2], [0, 1, 1, 0]], len(method.items_))
    method._transitions = transition_shares(training, len(method.items_), 1)
    batch = whole_windows(training.rows, 8)
    loss = method._distillation_loss(batch, np.random.default_rng(0)).item()
    vectors = method._ready().catalogue().detach().numpy()
    expected = []
    for head, counts in {0: {1: 1.0}, 1: {2: 1.0, 0: 1.0}}.items():
        others = np.arange(len(vectors)) != head  # an item does not choose itself
        teacher = np.ones(len(vectors))
        teacher[list(counts)] = np.exp(np.array(list(counts.values())) / 0.1)
        teacher = teacher[others] / teacher[others].sum()
        student = np.exp(vectors @ vectors[head] / 0.1)[others]
        expected.append(-(teacher * np.log(student / student.sum())).sum())
    assert loss == pytest.approx(np.mean(expected), rel=1e-4)


def test_items_learn_what_follows_them():
    def share_of_right_followers(**settings):
        method = model(epochs=10, **settings).fit(pair_data(), RUN)
        rows = method.items_.rows([f"a{i}" for i in range(PAIRS)])
        vectors = method._ready().catalogue().detach().numpy()
        cosines = vectors[rows] @ vectors.T
        cosines[np.arange(PAIRS), rows] = -np.inf
        nearest = method.items_.named(cosines.argmax(axis=1))
        return np.mean([item_id == f"b{i}" for i, item_id in enumerate(nearest)])

    assert share_of_right_followers(ted=0.3) >= 0.8
    assert share_of_right_followers(ted=0.0) <= 0.6


def test_only_as_many_items_are_taught_in_a_step_as_logits_fit(monkeypatch):
    method = model(epochs=1).fit(pair_data(), RUN)
    # item 0 follows something, too: it must not be taught for standing in the padding
    training = training_of([list(range(1, 11)), [1, 2], [0, 3]], len(method.items_))
    method._transitions = transition_shares(training, len(method.items_), 1)
    batch = whole_windows(training.rows, 20).take(np.array([0, 1]))
    assert method._heads(batch, np.random.default_rng(0)).tolist() == list(range(1, 10))
    monkeypatch.setattr(mqsa_ted, "LOGITS", 3 * len(method.items_))
    heads = method._heads(batch, np.random.default_rng(0))
    assert len(np.unique(heads)) == 3 and set(heads.tolist()) <= set(range(1, 10))


def test_logits_are_the_blend_of_both_stacks():
    method = model(alpha=0.25).fit(pair_data(), RUN)
    net = method._ready()
    vectors = net.table(torch.tensor([[3, 1, 4]]))
    short_block, long_block = net.layers
    with torch.inference_mode():
        blended = net.states(vectors) @ net.catalogue().T
        placed = vectors + net.positions.table[:3]
        short = normalize(net.norm(short_block(placed)), dim=-1) @ net.catalogue().T
        long = normalize(net.long_norm(long_block(placed)), dim=-1) @ net.catalogue().T
    assert torch.allclose(blended, (0.25 * short + 0.75 * long) / method.temperature, atol=1e-4)
    assert (short - long).abs().max() > 0.01


def test_the_long_stack_asks_with_the_mean_of_the_latest_events():
    net = model(window=3, epochs=1).fit(pair_data(), RUN)._ready()
    short, long = net.layers
    generator = torch.Generator().manual_seed(0)
    for weights in [*short.attention.parameters(), *long.attention.parameters()]:
        weights.data.normal_(std=0.5, generator=generator)
    x = torch.randn(1, 6, 16, generator=generator)
    other_order = x[:, [0, 1, 2, 4, 5, 3]]
    last = slice(-1, None)
    with torch.inference_mode():
        assert torch.allclose(
            long.attention(x)[:, last], long.attention(other_order)[:, last], atol=1e-5
        )
        difference = short.attention(x)[:, last] - short.attention(other_order)[:, last]
    assert difference.abs().max() > 0.1


def test_one_query_is_answered_by_both_stacks():
    method = model(alpha=0.0).fit(pair_data(), RUN)
    query = Query(history=History.of("a0", "b0", "a3"))
    alone = method.recommend([query], 5)[0]
    beside = method.recommend([query] * 5, 5)[0]
    assert alone.ids == beside.ids
    assert np.allclose(alone.scores, beside.scores, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 0}, "window is 0"),
        ({"alpha": 1.5}, "alpha 1.5"),
        ({"ted": -0.1}, "ted is -0.1"),
        ({"ted_temperature": 0.0}, "ted_temperature 0.0"),
        ({"heads": 3}, "heads must divide the width"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(DataError, match=message):
        MQSATED(**settings)
