"""DARE: the two tables do not touch each other, and the search keeps the best events."""

import numpy as np
import pytest
import torch

from tailor.core.run import Run
from tailor.data.examples import Outcome
from tailor.errors import DataError
from tailor.papers.ranking.dare import BINS_PER_STEP, DARE, GAP_BINS
from tailor.testing.data import tiny_data


@pytest.fixture(scope="module")
def fitted():
    return DARE.tiny().fit(tiny_data(), Run(workers=1))


@pytest.fixture
def batch(fitted):
    examples = Outcome("drawn", length=8).learn(tiny_data(), np.random.default_rng(0))
    rows = np.flatnonzero(examples.queries.histories.lengths >= 5)[:4]
    return fitted._encode_examples(examples.take(rows)).batch(np.arange(4))


def fresh(attention_width=4):
    torch.manual_seed(0)
    settings = DARE.tiny().params() | {"attention_width": attention_width}
    return DARE(**settings).fit(tiny_data(), Run(workers=1))._ready()


@pytest.mark.parametrize("attention_width", [4, None])
def test_representation_changes_no_weight_unless_the_table_is_shared(batch, attention_width):
    net = fresh(attention_width)
    before = net.attention_of(batch)
    with torch.no_grad():
        net.vectors.table.weight.mul_(-3.0).add_(torch.randn_like(net.vectors.table.weight))
    changed = not torch.allclose(net.attention_of(batch), before)
    assert changed == (attention_width is None)


def test_attention_vectors_change_no_representation(batch):
    net = fresh()
    with torch.no_grad():
        net.attention_vectors.table.weight.zero_()
        net.gap_scores.weight.zero_()
    interest = net.interest(torch.zeros(len(batch.codes), net.item_width), batch)
    behaviours = net.item_slots(batch.behaviours, net.vectors)
    for row in range(len(batch.codes)):  # without any preference, the kept events count the same
        kept = net.attention_of(batch)[row] > 0
        assert torch.allclose(interest[row], behaviours[row][kept].mean(dim=0), atol=1e-6)


def test_weights_are_shares_of_products_and_ages_among_the_best(batch):
    net = fresh()
    with torch.no_grad():
        net.gap_scores.weight.normal_()
    weights = net.attention_of(batch)
    slots = net.item_slot_count
    table = net.attention_vectors
    for row in range(len(batch.codes)):
        candidate = table.of_items(
            batch.codes[[row], :slots], batch.weights[[row], :slots], net.item_slots.fields
        )[0]
        real = batch.is_real[row]
        events = net.item_slots(batch.behaviours[row][real], table)
        bins = [min(int(gap * BINS_PER_STEP), GAP_BINS - 1) for gap in batch.gaps[row][real]]
        scores = events @ candidate / len(candidate) ** 0.5 + net.gap_scores.weight[bins, 0]
        best = scores.topk(4).indices
        wanted = torch.zeros(len(scores))
        wanted[best] = scores[best].softmax(dim=0)
        assert torch.allclose(weights[row][real], wanted, atol=1e-5)


def test_both_tables_and_the_ages_learn(fitted):
    weights = fitted.net_weights_
    start = DARE.tiny()
    start.items_, start.features_, start.item_codes_ = (
        fitted.items_,
        fitted.features_,
        fitted.item_codes_,
    )
    start._start_net(Run(workers=1))
    untrained = dict(start._net.named_parameters())
    for name in ("vectors.table.weight", "attention_vectors.table.weight", "gap_scores.weight"):
        assert not np.allclose(weights[name], untrained[name].detach().numpy()), name


def test_settings_that_cannot_be_are_refused():
    for settings in ({"top": 0}, {"attention_width": 0}):
        with pytest.raises(DataError, match="at least 1"):
            DARE(**settings)
