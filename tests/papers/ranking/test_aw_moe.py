"""AW-MoE: gates from votes of events, experts apart, and the losses on gates."""

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from tailor.core.run import Run
from tailor.data.examples import Outcome
from tailor.data.nouns import History, Query
from tailor.errors import DataError
from tailor.nn.fields import penalty_of
from tailor.nn.gates import imbalance
from tailor.papers.ranking.aw_moe import AWMoE, same_histories
from tailor.testing.data import tiny_data


def fit(**settings):
    return AWMoE(**AWMoE.tiny().params() | settings).fit(tiny_data(), Run(workers=1))


@pytest.fixture(scope="module")
def fitted():
    return fit()


@pytest.fixture
def batch(fitted):
    examples = Outcome("drawn", length=8).learn(tiny_data(), np.random.default_rng(0))
    return fitted._encode_examples(examples.take(np.arange(60))).batch(np.arange(60))


def test_gates_are_the_softmax_of_votes_times_weights(fitted, batch):
    net = fitted._ready()
    gates = net.gates_of(batch)
    weights = net.attention_of(batch)
    for row in (5, 20, 40):
        real = batch.is_real[row]
        votes = net.vote(net.item_slots(batch.behaviours[row][real], net.vectors))
        wanted = (weights[row][real] @ votes + net.prior).softmax(dim=0)
        assert torch.allclose(gates[row], wanted, atol=1e-5)


def test_the_answer_is_the_sum_of_the_experts_by_their_shares(fitted, batch):
    net = fitted._ready()
    logits, _ = net(batch)
    fields = net.vectors(batch.codes, batch.weights)
    inputs = net.read(batch, fields).inputs
    heads = net.head.weight.view(3, -1)  # E, S
    apart = torch.stack(
        [expert(inputs) @ head for expert, head in zip(net.experts, heads, strict=True)], dim=1
    )
    wanted = (apart * net.gates_of(batch)).sum(dim=1) + net.intercept
    assert torch.allclose(logits, wanted, atol=1e-5)


def loss_of(method, batch, seed=0):
    method._ready()
    rng = np.random.default_rng(seed)
    labels = torch.tensor(np.arange(len(batch.codes)) % 2, dtype=torch.float32)
    return method._loss(batch, labels, np.arange(len(labels)), rng), labels


def test_the_loss_has_a_contrast_and_a_balance(batch):
    method = fit(contrast=0.0, balance=0.0, l2=0.1)
    loss, labels = loss_of(method, batch)
    net = method._ready()
    logits, penalty = net(batch)
    plain = binary_cross_entropy_with_logits(logits, labels)
    assert penalty.item() == penalty_of(net.vectors(batch.codes, batch.weights)).item()
    assert loss.item() == pytest.approx((plain + 0.1 * penalty).item(), rel=1e-5)
    method.balance = 1.0
    balanced, _ = loss_of(method, batch)
    assert (balanced - loss).item() == pytest.approx(
        imbalance(net.gates_of(batch)).item(), rel=1e-3
    )
    method.balance, method.contrast = 0.0, 1.0
    contrasts = [(loss_of(method, batch, seed)[0] - loss).item() for seed in (0, 0, 1)]
    assert contrasts[0] == contrasts[1] != contrasts[2]  # which events are left out is random
    method.left_out = 1e-9
    whole = (loss_of(method, batch)[0] - loss).item()
    cosines = torch.nn.functional.normalize(net.gates_of(batch), dim=1)
    logits = cosines @ cosines.T / method.temperature
    alike = same_histories(batch) & ~torch.eye(len(cosines), dtype=torch.bool)
    assert alike.any(), "some examples have the same history, or none"
    logits = logits.masked_fill(alike, -torch.inf)
    wanted = torch.nn.functional.cross_entropy(logits, torch.arange(len(logits)))
    assert whole == pytest.approx(wanted.item(), rel=1e-3)


def test_the_balance_takes_from_the_expert_with_most(batch):
    assert imbalance(torch.tensor([[1.0, 0.0], [0.0, 1.0]])).item() == 0
    assert imbalance(torch.tensor([[1.0, 0.0], [1.0, 0.0]])).item() == 1
    method = fit(contrast=0.0, balance=100.0)
    net = method._ready()
    torch.nn.init.zeros_(net.prior)
    net.prior.data[1] = 3.0
    loss_of(method, batch)[0].backward()
    assert net.prior.grad[1] > 0 > max(net.prior.grad[0], net.prior.grad[2])


def test_gates_are_given_for_every_pair(fitted):
    queries = [Query(history=History.of("thing-001", "thing-005")), Query()]
    gates = fitted.gates(queries, [["thing-001", "thing-002"], ["thing-003"]])
    assert [part.shape for part in gates] == [(2, 3), (1, 3)]
    assert all(np.allclose(part.sum(axis=1), 1) for part in gates)
    prior = fitted._ready().prior.softmax(dim=0).detach().numpy()
    assert np.allclose(gates[1][0], prior, atol=1e-6), "without events, the prior's"
    assert fitted.gates([], []) == []


def test_settings_that_cannot_be_are_refused():
    for settings in ({"experts": 1}, {"left_out": 1.0}, {"temperature": 0.0}, {"contrast": -1.0}):
        with pytest.raises(DataError, match=next(iter(settings))):
            AWMoE(**settings)
