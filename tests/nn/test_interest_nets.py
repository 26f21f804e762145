"""Interests of a history read the events of their reading, and nothing else."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tailor.nn.interests import (  # noqa: E402
    InterestNet,
    SelfAttentive,
    best_logits,
    causal_readings,
    nearest_interests,
    whole_readings,
)


def states(batch=3, positions=6, width=4, seed=0):
    return torch.randn(batch, positions, width, generator=torch.Generator().manual_seed(seed))


def test_a_head_weighs_events_by_a_softmax_of_its_scores():
    torch.manual_seed(0)
    heads = SelfAttentive(4, interests=2, hidden=5)
    x = states()
    lengths = torch.tensor([6, 1, 3])
    interests = heads(x, whole_readings(lengths, 6))
    assert interests.shape == (3, 1, 2, 4)
    inner, outer = (layer.weight.detach().numpy() for layer in (heads.hidden_proj, heads.head_proj))
    for b, length in enumerate(lengths.tolist()):
        events = x[b, :length].numpy()
        scores = np.exp(np.tanh(events @ inner.T) @ outer.T)
        wanted = (scores / scores.sum(axis=0)).T @ events
        assert np.allclose(interests[b, 0].detach().numpy(), wanted, atol=1e-6)


def test_reading_t_is_the_history_up_to_t():
    torch.manual_seed(0)
    net = InterestNet(SelfAttentive(4, 2), items=9, width=4, layers=[], temperature=0.1).eval()
    x = states(batch=1)
    together = net.interests(x, causal_readings(6))[0]
    for stop in range(1, 7):
        alone = net.interests(x[:, :stop], whole_readings(torch.tensor([stop]), stop))[0, 0]
        assert torch.allclose(alone, together[stop - 1], atol=1e-5)


def test_the_nearest_interest_is_chosen_and_learns_alone():
    interests = torch.eye(3).repeat(2, 1, 1).requires_grad_()
    items = torch.tensor([[0.1, 0.9, 0.0], [0.2, 0.1, 0.7]])
    chosen = nearest_interests(interests, items)
    assert torch.equal(chosen.detach(), torch.eye(3)[[1, 2]])
    chosen.sum().backward()
    assert interests.grad.sum(dim=2).tolist() == [[0, 3, 0], [0, 0, 3]]


def test_an_item_is_scored_by_its_nearest_interest():
    interests, items = states(3, 4, 5), states(1, 7, 5, seed=1)[0]
    wanted = np.einsum("bkd,nd->bkn", interests.numpy(), items.numpy()).max(axis=1)
    assert np.allclose(best_logits(interests, items).numpy(), wanted, atol=1e-6)
