"""QIN: sparse attention, quadratic layers against the formula, and vectors of texts."""

import numpy as np
import pytest
import torch

from tailor.core.run import Run
from tailor.data.examples import Outcome
from tailor.data.nouns import History, Query
from tailor.errors import DataError
from tailor.papers.ranking.qin import QIN, QuadraticLayer
from tailor.testing.data import tiny_data
from tailor.text.hashing import HashingEncoder


@pytest.fixture(scope="module")
def fitted():
    return QIN.tiny().fit(tiny_data(), Run(workers=1))


def batch_of(method, rows=60):
    examples = Outcome("drawn", length=8).learn(tiny_data(), np.random.default_rng(0))
    return method._encode_examples(examples.take(np.arange(rows))).batch(np.arange(rows))


def test_a_layer_sums_products_of_the_input_with_its_maps():
    torch.manual_seed(0)
    layer = QuadraticLayer(3, rank=2, dropout=0.5).eval()
    x = torch.randn(4, 3)
    first, second = layer.maps(x)[:, :3], layer.maps(x)[:, 3:]
    products = x * first + x * second
    assert torch.allclose(layer(x), layer.after(products) + x, atol=1e-6)
    layer.maps[0].weight.data.zero_()
    layer.maps[0].bias.data.zero_()
    assert torch.allclose(layer(x), layer.after(torch.zeros(4, 3)) + x), "the input is added"


def test_attention_is_the_positive_part_over_the_length(fitted):
    net = fitted._ready()
    batch = batch_of(fitted)
    weights = net.attention_of(batch)
    fields = net.vectors(batch.codes, batch.weights)
    for row in (5, 20, 40):
        real = batch.is_real[row]
        candidate = net.of_candidate(fields[row, : net.item_slots.fields].flatten())
        behaviours = net.of_behaviour(net.item_slots(batch.behaviours[row][real], net.vectors))
        scores = behaviours @ candidate / len(candidate) ** 0.5
        assert torch.allclose(weights[row][real], scores.relu() / real.sum(), atol=1e-5)
    real = batch.is_real
    share_of_zeros = (weights[real] == 0).float().mean()
    assert 0 < share_of_zeros < 1


def test_the_candidate_is_added_to_the_interest(fitted):
    net = fitted._ready()
    batch = batch_of(fitted)
    fields = net.vectors(batch.codes, batch.weights)
    lonely = batch._replace(is_real=torch.zeros_like(batch.is_real))
    inputs = net.inputs(lonely, fields)
    candidates = fields[:, : net.item_slots.fields].flatten(1)
    width = candidates.shape[1]
    assert torch.allclose(inputs[:, -width:], net.of_interest.bias + candidates, atol=1e-6)


def test_texts_tell_apart_items_that_nobody_chose():
    """Two items without a code of their own differ by their texts alone."""
    data = tiny_data()
    settings = QIN.tiny().params() | {"fields": ("item_id",), "least": 10_000}
    ids = [["thing-001", "thing-002"]]
    for encoder, differs in ((None, False), (HashingEncoder(16), True)):
        method = QIN(**settings | {"encoder": encoder}).fit(data, Run(workers=1))
        one, other = method.predict([Query(history=History.of("thing-005"))], ids)[0]
        assert (abs(one - other) > 1e-7) == differs


def test_settings_that_cannot_be_are_refused():
    for settings in ({"rank": 0}, {"quadratic_layers": 0}, {"dropout": 1.0}):
        with pytest.raises(DataError, match="at least 1 each"):
            QIN(**settings)
