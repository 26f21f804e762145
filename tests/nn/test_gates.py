"""Soft choices that harden."""

import pytest
import torch

from tailor.nn.gates import cooled_softmax, gumbel_sigmoid, polariser


def test_a_cool_softmax_chooses():
    logits = torch.tensor([1.0, 2.0, 1.5])
    assert torch.allclose(cooled_softmax(logits, 1.0), logits.softmax(dim=0))
    assert cooled_softmax(logits, 0.01)[1] > 0.999
    assert cooled_softmax(logits, 100.0).max() < 0.34


def test_gates_are_open_as_often_as_their_probability():
    torch.manual_seed(0)
    probabilities = torch.full((20_000,), 0.3)
    gates = gumbel_sigmoid(probabilities, 0.1, torch.rand(20_000))
    assert (gates > 0.5).float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert ((gates < 0.05) | (gates > 0.95)).float().mean() > 0.8, "gates are not hard"
    assert torch.allclose(gumbel_sigmoid(probabilities, 1.0, None), probabilities)


def test_the_polariser_is_least_at_both_ends():
    assert polariser(torch.tensor([0.0, 1.0])) == 0
    assert polariser(torch.tensor([0.5])) == 0.25
    assert polariser(torch.tensor([0.1])) < polariser(torch.tensor([0.4]))


def test_gates_that_are_sure_have_finite_gradients_in_bfloat16():
    log_odds = torch.tensor([-200.0, 0.0, 200.0], dtype=torch.bfloat16, requires_grad=True)
    gumbel_sigmoid(log_odds.sigmoid(), 0.5, torch.tensor([0.0, 0.5, 1.0])).sum().backward()
    assert log_odds.grad.isfinite().all()
