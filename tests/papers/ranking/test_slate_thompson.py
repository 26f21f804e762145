"""Slates: the likelihood by hand, what draws do, and what is learned from a planted world."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from scipy.stats import spearmanr

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query
from tailor.data.shown import ShownLists
from tailor.errors import DataError
from tailor.papers.ranking.slate_thompson import SlateNet, SlateThompson, interleave
from tailor.testing.data import tiny_data
from tailor.worlds.slates import Slates

RUN = Run(workers=1)
SMALL = SlateThompson(width=4, epochs=20, batch=128, draws=30)


@pytest.fixture(scope="module")
def world():
    return Slates(people=100, items=60, groups=5, size=5, warm=6)


@pytest.fixture(scope="module")
def fitted(world):
    return SMALL.fit(world.log(), RUN)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return SlateNet(np.array([0, 0, 1, 1]), 3, 2, "gru")


def test_a_choice_is_a_softmax_over_the_slate_and_nothing(net):
    users = torch.randn(2, 3)
    vectors = torch.randn(4, 3)
    net.nothing.data = torch.tensor([9.0, 0.3, -0.7])
    logits = net.slate_logits(users, vectors, torch.tensor([[2, 0], [3, -1]]))
    sharpness = net.log_sharpness.exp()
    for row, slate in enumerate([[2, 0], [3]]):
        distances = (users[row] - vectors[slate]).norm(dim=1)
        nothing = net.nothing[len(slate)].item()
        assert torch.allclose(logits[row, : len(slate)], -sharpness * distances, atol=1e-4)
        assert logits[row, 2].item() == pytest.approx(nothing)
    assert logits[1, 1] == -torch.inf, "no item has no share"


def test_a_slate_longer_than_those_learned_from_is_answered(net):
    slates = torch.tensor([[0, 1, 2, 3]])
    logits = net.slate_logits(torch.randn(1, 3), torch.randn(4, 3), slates)
    assert logits.shape == (1, 5) and logits.isfinite().all()


def test_the_divergence_is_that_of_gaussians(net):
    torch.nn.init.normal_(net.offsets)
    posterior = torch.distributions.Normal(net.means, net.log_scales.exp())
    scales = net.log_group_scales.exp()[net.groups]
    prior = torch.distributions.Normal(net.group_means[net.groups], scales)
    items = torch.distributions.kl_divergence(posterior, prior).sum()
    groups = 0.5 * (net.group_means / 5).pow(2).sum()
    assert net.divergence(5.0).item() == pytest.approx((items + groups).item(), rel=1e-5)


@pytest.mark.parametrize("user", ["gru", "linear"])
def test_users_move_with_choices_alone(user):
    torch.manual_seed(0)
    net = SlateNet(np.array([0, 0, 1, 1]), 3, 2, user)
    vectors = torch.randn(4, 3)
    histories = torch.tensor([[1, 3, 0], [1, 0, 0], [0, 0, 0]])
    users = net.users(vectors, histories, torch.tensor([2, 1, 0]))
    alone = net.users(vectors, histories[:1, :2], torch.tensor([2]))
    assert torch.allclose(users[0], alone[0], atol=1e-6), "padding moved a user"
    assert torch.equal(users[2], net.start)
    if user == "linear":
        share = net.inertia.sigmoid()
        assert torch.allclose(users[1], share * net.start + (1 - share) * vectors[1])


def test_each_place_takes_the_best_unused_item_of_its_own_draw():
    orders = np.array([[2, 0, 1, 3], [2, 1, 0, 3], [2, 1, 3, 0]])
    assert interleave(orders, 3).tolist() == [2, 1, 3]
    assert interleave(orders[:1], 3).tolist() == [2, 0, 1], "one draw is plain Thompson"


def test_draws_of_a_place_are_independent_and_those_of_a_slate_are_not(fitted):
    means = np.array([[1.0, 0, 0, 0], [1.4, 0, 0, 0], [1.4001, 0, 0, 0]], np.float32)
    scales = np.zeros_like(means)
    scales[0] = 0.8  # the first item may be nearer than the others, or farther
    for policy in ("in_slate", "thompson"):
        method = fitted._with_state()
        method.policy, method.draws = policy, 2_000
        rng = np.random.default_rng(0)
        slates = method._draw(np.zeros(4, np.float32), means, scales, 2, rng)
        first = (slates[:, 0] == 0).mean()
        either = (slates == 0).any(axis=1).mean()
        assert 0.2 < first < 0.8
        wanted = 1 - (1 - first) ** 2 if policy == "in_slate" else first
        assert either == pytest.approx(wanted, abs=0.03)


def test_only_requests_with_an_id_are_drawn_and_the_same_one_alike(fitted, world):
    history = History.of(*world.catalogue.ids[:3])
    plain = Query(history=history)
    asked = [replace_id(plain, request_id) for request_id in ("a", "b", "c", "a")]
    lists = fitted.recommend([plain, *asked], 5)
    greedy = replace(fitted, policy="greedy")
    greedy.__dict__ |= fitted.state()
    assert lists[0].ids == greedy.recommend([plain], 5)[0].ids
    assert lists[1].ids == lists[4].ids
    assert len({ranking.ids for ranking in lists}) > 2
    assert (lists[0].columns["propensity"] == 1).all()
    for ranking in lists[1:]:
        shares = ranking.columns["propensity"]
        assert (shares >= 1 / 30 - 1e-6).all() and shares.min() < 1


def replace_id(query, request_id):
    return Query(history=query.history, request_id=request_id)


def test_choices_from_slates_are_learned(fitted, world):
    shown = ShownLists.of(world.log(), 20)
    chosen = np.flatnonzero(shown.is_chosen.any(axis=1))
    values = np.exp(fitted.choice_log_probabilities(shown.take(chosen)))
    place = shown.is_chosen[chosen].argmax(axis=1)
    assert values[np.arange(len(place)), place].mean() > 1.3 / 5
    assert np.allclose(values.sum(axis=1), 1, atol=1e-5)


def test_items_shown_more_often_are_known_better(world):
    log = world.log()
    rare = set(world.catalogue.ids[:30].tolist())
    requests = log.tables["impressions"].filter(~pl.col("item_id").is_in(rare))
    tables = {**log.tables, "impressions": requests}
    method = replace(SMALL, seed=1).fit(Dataset(tables, "half"), RUN)
    counts = np.bincount(method.items_.codes(requests["item_id"]), minlength=60)
    _, scales = method.posterior()
    assert spearmanr(counts, scales.mean(axis=1)).statistic < -0.5


def test_a_new_item_stands_at_its_group(world):
    log = world.log()
    new = pl.DataFrame({"item_id": ["new"], "categories": [["group 0"]]})
    items = pl.concat([log.tables["items"], new])
    method = replace(SMALL, seed=1).fit(Dataset({**log.tables, "items": items}, "new"), RUN)
    means, scales = method.posterior()
    row = method.items_.rows(["new"])[0]
    groups = method._ready().group_means.detach().numpy()
    distances = np.linalg.norm(groups - means[row], axis=1)
    assert distances.argmin() == method.groups_[row] and distances.min() < 0.2
    assert scales[row].mean() > np.quantile(scales.mean(axis=1), 0.9)


def test_without_impressions_events_are_choices_among_all_items():
    method = SlateThompson.tiny().fit(tiny_data(), RUN)
    assert method.fit_report_["learned from"] == "choices among all items"
    assert method.fit_report_["slates"] == len(tiny_data().events)


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(DataError, match="draws 1"):
        SlateThompson(draws=1)
    with pytest.raises(DataError, match="temper is 2"):
        SlateThompson(temper=2)
