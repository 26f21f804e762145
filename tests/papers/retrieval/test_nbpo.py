"""NBPO: losses worked out by hand, users without their target, Bayes' rule for hidden likes."""

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from tailor.core.run import Run
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query
from tailor.errors import DataError, ModelError
from tailor.papers.retrieval.nbpo import (
    NBPO,
    _exact_losses,
    _Factors,
    _released_losses,
    _Votes,
)
from tailor.worlds.interests import interests

LIKES = torch.tensor([[0.4, -0.3, 1.2]])
FLIPS = torch.tensor([[-1.0, 0.5, -2.0]])
ITEMS = "abcdef"


def sigmoid(value):
    return 1 / (1 + np.exp(-np.asarray(value, np.float64)))


def small_log() -> Dataset:
    rng = np.random.default_rng(0)
    return Dataset.from_events(
        [
            {"user_id": f"{user}", "item_id": item}
            for user in range(12)
            for item in rng.permutation(list(ITEMS))[:4].tolist()
        ]
    )


def test_the_exact_loss_is_minus_the_log_of_bayes_rule():
    losses = _exact_losses(LIKES, FLIPS)[0].tolist()
    event = sigmoid(LIKES) * sigmoid(-FLIPS)
    expected = -np.log(np.array([event[0, 0], 1 - event[0, 1], 1 - event[0, 2]]))
    assert losses == pytest.approx(expected.tolist(), abs=1e-6)
    certain = _exact_losses(torch.full((1, 2), 60.0), torch.full((1, 2), -60.0))
    assert torch.isfinite(certain).all()  # an absence that cannot be is no infinite loss


def test_the_released_form_has_the_gradients_of_the_authors_code():
    likes, flips = LIKES.clone().requires_grad_(), FLIPS.clone().requires_grad_()
    _released_losses(likes, flips).sum().backward()
    like, flip = sigmoid(LIKES)[0], sigmoid(FLIPS)[0]
    for_likes = [(1 - flip[0]) * (1 - like[0])]
    for_likes += [flip[z] * (1 - like[z]) - like[z] for z in (1, 2)]
    for_flips = [-flip[0] * like[0], *((1 - flip[z]) * like[z] for z in (1, 2))]
    assert (-likes.grad[0]).tolist() == pytest.approx(for_likes, abs=1e-6)
    assert (-flips.grad[0]).tolist() == pytest.approx(for_flips, abs=1e-6)


def test_a_user_is_the_mean_of_the_other_items():
    factors = _Factors(4, 3, 1.0, 1.0)
    votes = _Votes(
        Ragged.of([[0, 1, 2]]), np.array([0, 0]), np.array([[1, 3], [0, 3]]), np.ones((2, 2), bool)
    )
    chosen, offered = factors.chosen.weight.detach(), factors.offered.weight.detach()
    products, _ = factors(votes)
    first, second = (chosen[0] + chosen[2]) / 2, (chosen[1] + chosen[2]) / 2
    expected = [
        [first @ offered[1], first @ offered[3]],
        [second @ offered[0], second @ offered[3]],
    ]
    assert np.allclose(products.detach(), expected, atol=1e-6)


def test_flips_start_rare():
    method = NBPO(epochs=0, patience=None).fit(small_log())
    rows = Ragged.of([[0, 1, 2]])
    assert sigmoid(method._products("flips", rows)).max() < 0.05


def test_an_item_of_the_user_is_no_negative():
    method = NBPO(epochs=0, patience=None, negatives=30).fit(small_log())
    rows = small_log().sequences.rows.distinct()
    votes = method._draw(rows, np.arange(8), np.random.default_rng(0))
    for user, items, mask in zip(votes.user, votes.items, votes.mask, strict=True):
        voted = set(votes.histories[user].tolist())
        assert items[0] in voted and mask[0]
        assert [item not in voted for item in items[1:].tolist()] == mask[1:].tolist()


@pytest.mark.parametrize("likelihood", ["no flips", "pairs"])
def test_the_rivals_losses_are_those_of_bpo_and_bpr(likelihood):
    method = NBPO(likelihood=likelihood, l2=0.0, width=3)
    method.items_ = small_log().catalogue
    method._start_net(Run())
    votes = _Votes(
        Ragged.of([[0, 1, 2]]),
        np.array([0]),
        np.array([[1, 3, 2]]),
        np.array([[True, True, False]]),
    )
    products = method._net["likes"](votes)[0].detach().numpy()[0]
    if likelihood == "pairs":
        expected = -np.log(sigmoid(products[0] - products[1]))
    else:
        expected = -np.log(sigmoid(products[0])) - np.log(sigmoid(-products[1]))
    assert method._loss(votes).item() == pytest.approx(float(expected), abs=1e-6)


def test_hidden_likes_follow_bayes_rule_and_lists_follow_likes_alone():
    method = NBPO(epochs=2, patience=None, width=4).fit(small_log())
    query = Query(history=History.of("a", "b"))
    rows = Ragged.of([method.items_.rows(["a", "b"]).tolist()])
    like = sigmoid(method._products("likes", rows))
    flip = sigmoid(method._products("flips", rows))
    expected = like * flip / (1 - like * (1 - flip))
    assert np.allclose(method.hidden_likes([query]), expected, atol=1e-5)
    assert np.allclose(method.sampling_weights([query]), 1 - expected, atol=1e-5)
    before = method.recommend([query], 4)[0].ids
    method._net["flips"].offered.weight.data.mul_(-3)
    assert method.recommend([query], 4)[0].ids == before
    assert not np.allclose(method.hidden_likes([query]), expected)


def test_items_that_nobody_chose_say_nothing():
    events = small_log().tables["events"].to_dicts()
    data = Dataset.from_events(events, [{"item_id": "cold"}])
    method = NBPO(epochs=2, patience=None, width=4).fit(data)
    cold = method.items_.rows(["cold"])[0]
    with_cold, without, alone = (
        Query(history=History.of(*names)) for names in (("a", "cold"), ("a",), ("cold",))
    )
    hidden = method.hidden_likes([with_cold, without, alone])
    assert np.allclose(hidden[0], hidden[1], equal_nan=True)
    assert np.isnan(hidden[:, cold]).all() and np.isfinite(np.delete(hidden[0], cold)).all()
    assert np.isnan(hidden[2]).all() and np.isnan(method.sampling_weights([Query()])).all()
    assert not method.recommend([alone], 3)[0].ids


@pytest.mark.parametrize("part", ["l2", "flip_l2"])
def test_penalties_make_factors_shorter(part):
    name = {"l2": "likes", "flip_l2": "flips"}[part]
    lengths = []
    for penalty in (0.0, 1.0):
        method = NBPO(**{part: penalty}, epochs=20, patience=None, width=4, batch=8)
        method.fit(small_log())
        lengths.append(method._net[name].offered.weight.square().sum().item())
    assert lengths[1] < 0.9 * lengths[0]


def test_flips_need_a_likelihood_that_has_them():
    method = NBPO(likelihood="no flips", epochs=1, patience=None, width=4).fit(small_log())
    with pytest.raises(ModelError, match="no flips"):
        method.hidden_likes([Query()])


@pytest.mark.parametrize("likelihood", ["exact", "released"])
def test_training_finds_the_groups_of_planted_interests(likelihood):
    world = interests(people=150, items=60, groups=6, own=1, noise=0.0, visits=1, slate=1, length=8)
    settings = {"width": 16, "epochs": 40, "patience": None, "batch": 200, "lr": 2e-2}
    method = NBPO(likelihood, **settings).fit(world.data, Run(seed=1))
    lists = method.recommend(world.data.queries().without_history(), 5)
    liked = world.likes[np.arange(150)[:, None], world.groups[lists.rows]]
    assert liked.mean() > 0.7  # by chance one in six


@pytest.mark.parametrize("wrong", [{"width": 0}, {"negatives": 0}, {"lr": 0.0}, {"l2": -1.0}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(DataError):
        NBPO(**wrong)
