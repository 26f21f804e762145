"""Losses against their formulas written plainly, values and gradients."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional as F  # noqa: E402

from tailor.nn import losses  # noqa: E402

M, D, N = 37, 6, 50


@pytest.fixture
def made(monkeypatch):
    monkeypatch.setattr(losses, "ROWS", 8)  # several blocks, the last one short
    torch.manual_seed(0)
    states, items = torch.randn(M, D, requires_grad=True), torch.randn(N, D, requires_grad=True)
    return states, items, torch.randint(0, N, (M,))


def gradients(value, *inputs):
    return [one.detach().clone() for one in torch.autograd.grad(value, inputs)]


def assert_same(found, wanted, inputs):
    assert torch.allclose(found, wanted, atol=1e-5)
    for one, other in zip(gradients(found, *inputs), gradients(wanted, *inputs), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_full_softmax_is_cross_entropy(made):
    states, items, targets = made
    assert_same(
        losses.FullSoftmax()(states, items, targets),
        F.cross_entropy(states @ items.T, targets),
        (states, items),
    )


def test_sampled_softmax_with_every_item_drawn_is_the_full_one(made):
    states, items, targets = made
    drawn = torch.arange(N)
    # all N drawn, the target left out: N - 1 others, each standing for (N - 1) / N of an item
    logits = states @ items.T + torch.where(F.one_hot(targets, N).bool(), 0.0, np.log((N - 1) / N))
    found = losses.SampledSoftmax()(states, items[targets], items, targets, drawn, N)
    assert_same(found, F.cross_entropy(logits, targets), (states, items))


def test_sampled_softmax_by_the_formula(made):
    states, items, targets = made
    drawn = torch.tensor([1, 4, 9, 20, 33])
    rows = []
    for m in range(M):
        others = [k for k in drawn.tolist() if k != targets[m]]
        negative = (
            torch.stack([(states[m] @ items[k]).exp() for k in others]).sum() * (N - 1) / len(drawn)
        )
        own = states[m] @ items[targets[m]]
        rows.append(torch.log(own.exp() + negative) - own)
    found = losses.SampledSoftmax()(states, items[targets], items[drawn], targets, drawn, N)
    assert_same(found, torch.stack(rows).mean(), (states, items))


def test_weights_multiply_the_losses_of_positions(made):
    states, items, targets = made
    weights = torch.rand(M) + 0.1
    plain = F.cross_entropy(states @ items.T, targets, reduction="none")
    full = losses.FullSoftmax()(states, items, targets, weights)
    assert_same(full, (weights * plain).mean(), (states, items))
    drawn = torch.arange(N)
    inputs = (states, items[targets], items, targets, drawn, N)
    logits = states @ items.T + torch.where(F.one_hot(targets, N).bool(), 0.0, np.log((N - 1) / N))
    plain = F.cross_entropy(logits, targets, reduction="none")
    sampled = losses.SampledSoftmax()(*inputs, weights=weights)
    assert_same(sampled, (weights * plain).mean(), (states, items))


def test_sampled_softmax_estimates_the_full_one(made):
    # a mean of logarithms falls short of the logarithm where logits spread
    states, items, targets = (made[0] * 0.3, made[1], made[2])
    full = F.cross_entropy(states @ items.T, targets).item()
    rng = np.random.default_rng(0)
    drawn = [torch.from_numpy(np.sort(rng.choice(N, 10, replace=False))) for _ in range(300)]
    values = [
        losses.SampledSoftmax()(states, items[targets], items[one], targets, one, N).item()
        for one in drawn
    ]
    assert abs(np.mean(values) - full) < 0.03 * full
    # what 10 negatives without correction could at most suggest of a chance guess
    assert full > 1.3 * np.log(11)


def test_softmax_survives_large_logits(made):
    states, items, targets = made
    value = losses.FullSoftmax()(states * 1000, items, targets)
    assert torch.isfinite(value)
    assert all(torch.isfinite(one).all() for one in gradients(value, states, items))


def test_no_negatives_leave_no_loss(made):
    states, items, targets = made
    none = torch.empty(0, dtype=torch.long)
    assert (
        losses.SampledSoftmax()(states, items[targets], items[none], targets, none, N).item() == 0
    )


def test_bfloat16_stays_close(made):
    states, items, targets = made
    with torch.autocast("cpu", torch.bfloat16):
        found = losses.FullSoftmax()(states, items, targets)
    assert found.dtype == torch.float32
    assert abs(found.item() - F.cross_entropy(states @ items.T, targets).item()) < 0.02


def test_clashes_are_the_pairs_of_equal_items():
    rows, columns = losses.find_clashes(torch.tensor([5, 2, 9, 5]), torch.tensor([2, 3, 5]))
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == [(0, 2), (1, 0), (3, 2)]


def test_in_batch_softmax_corrects_for_popularity(made):
    states, items, targets = made
    log_share = torch.randn(M)
    logits = states @ items[targets].T - log_share
    for i in range(M):
        for j in range(M):
            if i != j and targets[i] == targets[j]:
                logits[i, j] = -torch.inf
    assert_same(
        losses.InBatchSoftmax()(states, items[targets], targets, log_share),
        F.cross_entropy(logits, torch.arange(M)),
        (states, items),
    )


def test_pointwise_and_pairwise_losses_by_the_formula():
    positive, negative = torch.tensor([1.0, -0.5]), torch.tensor([[0.2, 2.0], [-1.0, 0.0]])
    plus, minus = torch.sigmoid(positive), torch.sigmoid(negative)
    assert torch.isclose(
        losses.BinaryCrossEntropy()(positive, negative),
        (-plus.log() - (1 - minus).log().mean(1)).mean(),
    )
    assert torch.isclose(
        losses.BPR()(positive, negative), -torch.sigmoid(positive[:, None] - negative).log().mean()
    )
    # K = 2 of N - 1 = 8: a = 1/4; t = 1 gives beta = a, t = 0 gives 1
    assert torch.isclose(
        losses.GBCE(1.0)(positive, negative, 9),
        (-0.25 * plus.log() - (1 - minus).log().sum(1)).mean(),
    )
    assert torch.isclose(
        losses.GBCE(0.0)(positive, negative, 9), (-plus.log() - (1 - minus).log().sum(1)).mean()
    )


def test_info_nce_leaves_false_negatives_out():
    left, right = torch.randn(4, 3), torch.randn(4, 3)
    same = torch.zeros(4, 4, dtype=torch.bool)
    same[0, 2] = same[1, 1] = True  # the pair itself stays
    logits = F.normalize(left, dim=1) @ F.normalize(right, dim=1).T / 0.2
    logits[0, 2] = -torch.inf
    assert torch.isclose(
        losses.InfoNCE(0.2)(left, right, same), F.cross_entropy(logits, torch.arange(4))
    )


@pytest.mark.parametrize("make", [lambda: losses.InfoNCE(0), lambda: losses.GBCE(1.5)])
def test_settings_out_of_range_are_refused(make):
    with pytest.raises(ValueError, match="it must be"):
        make()
