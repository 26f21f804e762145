"""Operations of pairs of fields, against values worked out by hand."""

import numpy as np
import pytest
import torch

from tailor.nn.fields import FieldBatch, FieldLayout
from tailor.nn.pair_operations import (
    NONE,
    PRODUCT,
    TABLE,
    CrossVectors,
    PairOperationsNet,
    cross_keys,
    field_pairs,
    first_slots,
)

LAYOUT = FieldLayout(9, [0, 1, 1, 2], np.zeros((1, 0), np.int64), np.zeros((1, 0)), 0)
PAIRS = field_pairs(3)


def batch_of(codes):
    codes = torch.tensor(codes)
    none = torch.zeros(0)
    return FieldBatch(codes, torch.ones(codes.shape), none, none, none, none, none, none)


def net_of(operations, keys=(), cooling=0.0):
    torch.manual_seed(0)
    keys = np.array(keys, dtype=np.int64)
    return PairOperationsNet(LAYOUT, 2, 3, (4,), keys, operations, cooling, std=0.5)


def test_pairs_and_first_slots_and_keys():
    assert PAIRS.tolist() == [[0, 1], [0, 2], [1, 2]]
    assert first_slots([0, 1, 1, 2]).tolist() == [0, 1, 3]
    keys = {
        cross_keys(left, right, pair, 9)
        for left in range(9)
        for right in range(9)
        for pair in (0, 1)
    }
    assert len(keys) == 2 * 81, "two combinations share a key"


def test_an_unknown_combination_has_the_common_vector():
    vectors = CrossVectors(np.array([5, 9]), 2, 1.0)
    found = vectors(torch.tensor([[9, 7, 5, 100]]))[0]
    table = vectors.table.weight
    assert torch.equal(found, table[[2, 0, 1, 0]])
    empty = CrossVectors(np.zeros(0, np.int64), 2, 1.0)
    assert torch.equal(empty(torch.tensor([[3]]))[0], empty.table.weight)


def test_each_pair_has_its_operation_and_no_other_numbers():
    key = cross_keys(0, 3, 0, 9)
    net = net_of(np.array([TABLE, NONE, PRODUCT]), [key])
    batch = batch_of([[0, 3, 4, 7], [1, 3, 4, 7]])
    fields = net.vectors(batch.codes, batch.weights)
    inputs = net.inputs(batch, fields)
    assert inputs.shape == (2, 3 * 2 + 2 * 3)
    factors = net.factors(batch.codes, batch.weights)
    assert torch.allclose(inputs[:, 6:9], net.crosses.table.weight[[1, 0]])
    assert torch.allclose(inputs[:, 9:], factors[:, 1] * factors[:, 2])


def test_the_search_mixes_by_shares_and_cools():
    net = net_of(None, cooling=0.1)
    batch = batch_of([[0, 3, 4, 7]])
    fields = net.vectors(batch.codes, batch.weights)
    tables, products = net.table_vectors(batch), net.product_vectors(batch)
    assert torch.allclose(net.inputs(batch, fields)[:, 6:], ((tables + products) / 3).flatten(1))
    with torch.no_grad():
        net.shares[:, NONE] = 9.0
    assert net.inputs(batch, fields)[:, 6:].abs().max() < 1e-6
    assert net.temperature.item() == pytest.approx(1.0)
    net.steps += 5
    assert net.temperature.item() == pytest.approx(0.5)
    net.steps += 500
    assert net.temperature.item() == pytest.approx(0.01)
