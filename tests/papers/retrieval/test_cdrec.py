"""Test CDRec's noise, teacher and restoring by hand, that nothing hidden is read, what it learns."""

import numpy as np
import pytest
from retrieval.kind_shop import shop

pytest.importorskip("torch")

import torch

from tailor.core.run import Run
from tailor.data.arrays import Ragged
from tailor.data.nouns import History, Query
from tailor.errors import DataError
from tailor.papers.retrieval.cdrec import (
    CDRec,
    _Denoiser,
    _Neighbours,
    hiding_rates,
    history_draws,
    padded,
)
from tailor.retrieval.lightgcn import LightGCN

RUN = Run(workers=1, dtype="float32")


def model(**settings):
    base = LightGCN(width=16, epochs=10, patience=None, negatives=20, lr=0.02)
    defaults = {"base": base, "length": 6, "blocks": 1, "epochs": 10, "patience": None}
    return CDRec(**(defaults | {"negatives": 20, "lr": 0.005, "dropout": 0.0} | settings))


@pytest.fixture(scope="module")
def fitted():
    return model(diffusion=1, batch=24).fit(shop(), RUN)


@pytest.fixture
def denoiser():
    torch.manual_seed(0)
    return _Denoiser(torch.randn(6, 8), steps=10, blocks=2, dropout=0.0).eval()


def test_items_are_hidden_evenly_and_popular_ones_late():
    rates = hiding_rates(np.array([0.0, 0.5, 1.0]), 30, 0.8)
    np.testing.assert_allclose(rates[:, 0], np.linspace(0, 1, 31), atol=1e-4)
    middle = 15 / 30 - 0.8 * 0.5 * np.exp(-(0.5**2) / 18)
    assert rates[15, 1] == pytest.approx(middle)
    assert rates[15, 2] < rates[15, 1] < rates[15, 0]
    assert not rates[0].any()
    np.testing.assert_allclose(hiding_rates(np.ones(1), 30, 0)[:, 0], rates[:, 0])


def test_one_item_of_a_set_stays_and_padding_is_never_hidden(fitted):
    rows = padded(Ragged.of([[0, 1, 2], [3], []]))
    draws = np.array([[0.5, 0.7, 0.1], [0.2, 0, 0], [0, 0, 0]])
    is_hidden = fitted._hidden(rows, np.full(3, fitted.noise_steps), draws)
    expected = [[True, False, True], [False, False, False], [False, False, False]]
    np.testing.assert_array_equal(is_hidden, expected)
    assert not fitted._hidden(rows, np.zeros(3, int), draws).any()


def test_hidden_items_are_not_read(denoiser):
    is_hidden = np.array([[False, True, False]])
    states = []
    for item in (1, 4):
        rows = torch.tensor([[0, item, 2]])
        states.append(denoiser(rows, torch.from_numpy(is_hidden), torch.tensor([3])))
    torch.testing.assert_close(*states)
    visible = denoiser(torch.tensor([[0, 4, 3]]), torch.from_numpy(is_hidden), torch.tensor([3]))
    assert not torch.allclose(visible, states[0])


def test_a_hidden_item_is_another_token_than_none_and_than_the_first_item(denoiser):
    none_hidden = torch.zeros(1, 2, dtype=torch.bool)
    step = torch.tensor([3])
    hidden = denoiser(torch.tensor([[2, 0]]), torch.tensor([[False, True]]), step)
    absent = denoiser(torch.tensor([[2, -1]]), none_hidden, step)
    first = denoiser(torch.tensor([[2, 0]]), none_hidden, step)
    assert not torch.allclose(hidden, absent)
    assert not torch.allclose(hidden, first)


def test_order_does_not_count_and_the_step_does(denoiser):
    hidden = torch.zeros(1, 3, dtype=torch.bool)
    states = [
        denoiser(torch.tensor([row]), hidden, torch.tensor([3])) for row in ([0, 1, 2], [2, 0, 1])
    ]
    torch.testing.assert_close(*states)
    later = denoiser(torch.tensor([[0, 1, 2]]), hidden, torch.tensor([8]))
    assert not torch.allclose(later, states[0])


def test_the_teacher_follows_slowly(denoiser):
    inputs = (torch.tensor([[0, 1, 2]]), torch.zeros(1, 3, dtype=torch.bool), torch.tensor([3]))
    before = denoiser(*inputs)
    torch.testing.assert_close(denoiser.taught_state(*inputs), before)
    old = denoiser.norm.bias.detach().clone()
    with torch.no_grad():
        denoiser.norm.bias += 1
    torch.testing.assert_close(denoiser.taught_state(*inputs), before)
    denoiser.follow(0.9)
    torch.testing.assert_close(denoiser.teacher_norm_bias, old + 0.1)
    torch.testing.assert_close(denoiser.taught_state(*inputs), before + 0.1)


def test_the_teacher_is_saved_and_learns_nothing_itself(denoiser):
    assert "teacher_mask" in denoiser.state_dict()
    assert not any(name.startswith("teacher") for name, _ in denoiser.named_parameters())


def started(**settings):
    method = model(**settings)
    data = shop()
    method.base_ = method.base.fit(data, RUN)
    method.items_ = method.base_.items_
    method.degrees_ = method.base_.degrees_
    method._rows = data.sequences.rows.distinct()
    method._neighbours = _Neighbours(method._rows, len(method.items_))
    method._start_net(RUN)
    return method


def test_a_target_is_not_among_the_other_items():
    method = started()
    users = np.arange(20)
    targets, others = method._split_off_targets(users, np.random.default_rng(0))
    for user, target, rest in zip(users, targets, others, strict=True):
        assert sorted([target, *rest[rest >= 0]]) == sorted(method._rows[user])


def test_losses_are_weighted():
    losses = {}
    for name, settings in {
        "plain": {"diffusion": 0, "contrast": 0},
        "naming": {"diffusion": 1, "contrast": 0, "consistency": 0},
        "agreeing": {"diffusion": 1, "contrast": 0, "consistency": 1},
        "both": {"diffusion": 2, "contrast": 0, "consistency": 0.25},
    }.items():
        method = started(**settings)
        loss = method._loss(np.arange(40), np.random.default_rng(0))
        losses[name] = float(loss.detach())
    naming, agreeing = (losses[name] - losses["plain"] for name in ("naming", "agreeing"))
    assert min(naming, agreeing) > 0.1
    expected = losses["plain"] + 2 * (0.75 * naming + 0.25 * agreeing)
    assert losses["both"] == pytest.approx(expected, rel=1e-4)


def test_the_contrast_tells_a_near_item_from_drawn_ones():
    method = started(contrast_negatives=3)
    users = np.arange(12)
    near = method._neighbours.draw(users, np.random.default_rng(4))
    sums = torch.from_numpy(np.eye(16, dtype=np.float32)[:12])
    table = method._net.items.weight.detach()
    rng = np.random.default_rng(4)
    for _ in range(3):
        rng.random(12)  # the three random steps
    drawn = rng.choice(np.flatnonzero(method.degrees_), (12, 3))
    losses = []
    for user in users:
        items = table[torch.from_numpy(np.r_[near[user], drawn[user]].astype(int))]
        logits = torch.nn.functional.cosine_similarity(sums[user][None], items) / 0.6
        losses.append(torch.nn.functional.cross_entropy(logits[None], torch.tensor([0])))
    value = method._contrast(users, sums, np.random.default_rng(4))
    assert float(value.detach()) == pytest.approx(float(torch.stack(losses).mean()), abs=1e-5)


def test_neighbours_are_items_of_users_who_share_an_item():
    rows = Ragged.of([[0, 1], [1, 2], [3, 4]])
    near = _Neighbours(rows, 5).draw(np.repeat([0, 2], 200), np.random.default_rng(0))
    assert set(near[:200].tolist()) == {0, 1, 2}
    assert set(near[200:].tolist()) == {3, 4}


def test_hidden_items_are_restored_by_their_kind(fitted):
    ids = [f"{kind}{number}" for kind in ("garden", "tea") for number in range(5)]
    rows = fitted.items_.rows(ids).reshape(2, 5).astype(np.int64)
    is_hidden = np.tile([False, False, True, True, False], (2, 1))
    best = fitted._best_items(rows, is_hidden, 12, 3)
    for kind, found in zip(("garden", "tea"), best, strict=True):
        names = fitted.items_.named(found)
        assert all(name.startswith(kind) for name in names)
    visible = set(rows[~is_hidden].tolist())
    assert not visible & set(best.ravel().tolist())


def test_restoring_fills_the_hidden_places_alone_and_with_different_items():
    method = model(start=20).fit(shop(), RUN)
    rows = padded(shop().sequences.rows.distinct().slice(0, 40))
    draws = history_draws(rows, method.seed_)
    is_hidden = method._hidden(rows, np.full(40, 20), draws)
    restored = method._restore(rows)
    assert is_hidden.any()
    np.testing.assert_array_equal(restored[~is_hidden], rows[~is_hidden])
    for row in restored:
        assert len(set(row[row >= 0])) == (row >= 0).sum()
    np.testing.assert_array_equal(restored < 0, rows < 0)


def test_what_is_hidden_depends_on_the_history_and_the_seed_alone():
    rows = padded(Ragged.of([[3, 1, 2], [5]]))
    draws = history_draws(rows, 0)
    np.testing.assert_array_equal(history_draws(rows[1:], 0)[0, 0], draws[1, 0])
    np.testing.assert_array_equal(history_draws(rows[:, [1, 0, 2]], 0)[0, 0], draws[0, 1])
    assert (draws != history_draws(rows, 1)).all()
    many = history_draws(np.arange(20_000).reshape(-1, 4), 0)
    assert many.mean() == pytest.approx(0.5, abs=0.02)


def test_strangers_are_served_and_nothing_is_kept_of_users(fitted):
    history = History.of("garden0", "garden1")
    query = Query("a stranger", history, exclude=frozenset(history.item_ids))
    ids = fitted.recommend([query], 5)[0].ids
    assert all(item_id.startswith("garden") for item_id in ids)
    assert {"_rows", "_neighbours"}.isdisjoint(vars(fitted))
    assert not fitted.keeps_people()


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"popularity": 2}, {"start": 31}, {"temperature": 0}, {"negatives": 0}],
    ids=str,
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(DataError):
        CDRec(**wrong)
