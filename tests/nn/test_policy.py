"""Rewards and preferences: exact values, and what learning by them reaches."""

import itertools
import math

import numpy as np
import pytest
import torch

from tailor.nn import policy


def test_the_expected_reward_is_the_sum_over_all_answers():
    logits = torch.tensor([[0.0, math.log(3.0)], [2.0, 2.0]])
    rewards = torch.tensor([[1.0, 0.0], [1.0, 3.0]])
    assert float(policy.expected_reward(logits, rewards)) == pytest.approx((0.25 + 2.0) / 2)


def test_learning_by_exact_rewards_finds_the_best_answer():
    logits = torch.zeros(5, 4, requires_grad=True)
    rewards = torch.rand(5, 4, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam([logits], lr=0.3)
    for _ in range(100):
        optimizer.zero_grad()
        (-policy.expected_reward(logits, rewards)).backward()
        optimizer.step()
    assert logits.argmax(dim=1).tolist() == rewards.argmax(dim=1).tolist()


def test_a_policy_diverges_from_itself_by_nothing():
    logits = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    assert float(policy.divergence(logits, logits + 7)) == pytest.approx(0, abs=1e-6)
    assert float(policy.divergence(logits, -logits)) > 0


def test_advantages_are_deviations_within_a_group_and_nothing_where_all_are_equal():
    rewards = torch.tensor([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]])
    found = policy.advantages(rewards)
    assert found[0].tolist() == pytest.approx([-1.2247, 0, 1.2247], abs=1e-3)
    assert found[1].tolist() == [0, 0, 0]
    assert policy.advantages(rewards, scaled=False)[0].tolist() == [-1, 0, 1]


def test_a_ratio_is_clipped_on_the_side_where_it_gains():
    old = torch.zeros(1)
    far = torch.tensor([math.log(3.0)], requires_grad=True)
    policy.clipped(far, old, torch.tensor([1.0])).backward()
    assert float(far.grad) == 0, "beyond the bound nothing more is gained"
    policy.clipped(far, old, torch.tensor([-1.0])).backward()
    assert float(far.grad) == pytest.approx(3.0), "a loss counts in full"


def test_preferences_are_measured_against_the_reference():
    chosen, rejected = torch.tensor([-1.0]), torch.tensor([-2.0])
    assert float(policy.dpo(chosen, rejected, chosen, rejected)) == pytest.approx(math.log(2))
    better = policy.dpo(chosen + 1, rejected, chosen, rejected, beta=1.0)
    assert float(better) == pytest.approx(-math.log(1 / (1 + math.exp(-1))))


def slope_of(loss, old, advantage):
    """The gradient of a loss at a ratio of 5 to the old probability."""
    log_probs = torch.tensor([math.log(5.0)], requires_grad=True)
    loss(log_probs, torch.tensor([old]), torch.tensor([advantage])).backward()
    return float(log_probs.grad)


def test_the_slope_of_a_bad_answer_is_bounded_by_early_clipping():
    assert slope_of(policy.clipped, 0.0, -1.0) == pytest.approx(5)
    assert slope_of(policy.early_clipped, 0.0, -1.0) == pytest.approx(1.3)
    assert slope_of(policy.early_clipped, 0.0, 1.0) == slope_of(policy.clipped, 0.0, 1.0) == 0
    near = math.log(4.9)
    assert slope_of(policy.early_clipped, near, -1.0) == slope_of(policy.clipped, near, -1.0)


def test_several_rejected_answers_weigh_by_how_likely_they_are():
    chosen, reference = torch.tensor([-2.0]), torch.tensor([-3.0])
    one = torch.tensor([[-1.0]])
    plain = policy.dpo(chosen, one[:, 0], reference, one[:, 0] - 0.5, beta=0.7)
    several = policy.softmax_dpo(chosen, one, reference, one - 0.5, beta=0.7)
    assert float(several) == pytest.approx(float(plain))
    rejected = torch.tensor([[-1.0, -9.0]], requires_grad=True)
    policy.softmax_dpo(chosen, rejected, reference, torch.zeros(1, 2) - 5, beta=1.0).backward()
    assert rejected.grad[0, 0] > rejected.grad[0, 1] > 0


def test_groups_gain_weight_by_their_excess_over_what_is_reachable():
    losses, even = torch.tensor([2.0, 2.0, 0.5]), torch.ones(3) / 3
    found = policy.group_weights(losses, even, torch.tensor([1.0, 2.0, 0.6]), eta=1.0)
    assert float(found.sum()) == pytest.approx(1)
    assert float(found[0] / found[1]) == pytest.approx(math.e)
    assert float(found[1]) == pytest.approx(float(found[2]))  # noise, and better than reachable


def test_places_of_an_order_are_softmaxes_over_what_is_left():
    torch.manual_seed(0)
    scores = torch.randn(2, 5, requires_grad=True)
    orders = torch.tensor([[3, 0, 4], [1, 2, 0]])
    places = policy.place_log_probs(scores, orders)
    for row in range(2):
        left = list(range(5))
        for place, document in enumerate(orders[row].tolist()):
            shares = scores[row, left].softmax(dim=0)
            wanted = shares[left.index(document)].log()
            assert places[row, place].item() == pytest.approx(wanted.item(), abs=1e-5)
            left.remove(document)
    assert torch.allclose(places.sum(dim=1), policy.plackett_luce(scores, orders), atol=1e-5)


def test_a_whole_order_has_finite_slopes_beside_documents_that_are_none():
    scores = torch.tensor([0.3, -torch.inf, 1.0], requires_grad=True)
    places = policy.place_log_probs(scores, torch.tensor([2, 0]))
    places.sum().backward()
    assert places[1].item() == pytest.approx(0.0, abs=1e-6)
    assert scores.grad[[0, 2]].isfinite().all()


def test_orders_of_plackett_luce_have_a_sum_of_one():
    scores = torch.tensor([0.3, -1.0, 2.0, 0.0])
    orders = torch.tensor(list(itertools.permutations(range(4))))
    log_probs = policy.plackett_luce(scores.expand(24, 4), orders)
    assert float(log_probs.exp().sum()) == pytest.approx(1)
    firsts = torch.tensor(list(itertools.permutations(range(4), 2)))
    partial = policy.plackett_luce(scores.expand(12, 4), firsts)
    assert float(partial.exp().sum()) == pytest.approx(1)
    assert float(partial[0]) == pytest.approx(
        math.log(scores.softmax(0)[0]) + math.log(scores[1:].softmax(0)[0]), abs=1e-6
    )


def test_documents_that_are_absent_are_drawn_last_and_take_no_share():
    scores = torch.tensor([0.5, -torch.inf, 0.1])
    orders = policy.draw_orders(scores, 200, torch.Generator().manual_seed(0))
    assert (orders[:, -1] == 1).all()
    log_prob = policy.plackett_luce(scores, torch.tensor([0, 2]))
    assert float(log_prob) == pytest.approx(math.log(scores.softmax(0)[0]), abs=1e-6)


def test_drawn_orders_come_as_often_as_their_probability():
    scores = torch.tensor([1.0, 0.0, -0.5])
    orders = policy.draw_orders(scores, 20_000, torch.Generator().manual_seed(1)).numpy()
    codes, counts = np.unique(orders @ [9, 3, 1], return_counts=True)
    for code, count in zip(codes, counts, strict=True):
        order = orders[(orders @ [9, 3, 1]) == code][0]
        expected = float(policy.plackett_luce(scores, torch.tensor(order)).exp())
        assert count / 20_000 == pytest.approx(expected, abs=0.015)


def test_ranknet_counts_pairs_of_different_gains_once():
    scores, gains = torch.tensor([[1.0, 0.0, 5.0]]), torch.tensor([[2.0, 1.0, torch.nan]])
    assert float(policy.ranknet(scores, gains)) == pytest.approx(math.log(1 + math.exp(-1)))
    flat = torch.zeros(1, 3, requires_grad=True)
    policy.ranknet(flat, torch.ones(1, 3)).backward()
    assert flat.grad.abs().sum() == 0


def test_the_margin_of_a_pair_grows_with_the_difference_of_its_gains():
    scores, gains = torch.tensor([[2.0, 1.5, 0.0, 9.0]]), torch.tensor([[3.0, 2.0, 1.0, torch.nan]])
    # pairs ahead by .5, 2 and 1.5, which must be ahead by 1, 2 and 1
    assert float(policy.margin_loss(scores, gains)) == pytest.approx((0.5 + 0 + 0) / 3)
    assert float(policy.margin_loss(scores, gains, 2.0)) == pytest.approx((1.5 + 2 + 0.5) / 3)
    flat = torch.zeros(1, 3, requires_grad=True)
    policy.margin_loss(flat, torch.ones(1, 3)).backward()
    assert flat.grad.abs().sum() == 0
    held = torch.zeros(1, 3, requires_grad=True)
    policy.margin_loss(held, torch.tensor([[1.0, 0.0, torch.nan]])).backward()
    assert held.grad.tolist() == [[-1.0, 1.0, 0.0]]
