"""Test products with sparse weights, and layers of them, against dense products."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from tailor.nn.graphs import Edges, GraphItems, propagate


@pytest.fixture
def matrix():
    dense = np.random.default_rng(0).random((5, 4)).astype(np.float32)
    dense[dense < 0.6] = 0
    dense[2] = 0  # a row without entries
    dense[:, 1] = 0  # a column without entries
    return dense


def test_products_and_gradients_are_those_of_the_dense_matrix(matrix):
    vectors = torch.randn(4, 3, requires_grad=True)
    weights = torch.randn(5, 3)
    (Edges(sp.csr_matrix(matrix))(vectors) * weights).sum().backward()
    expected = torch.from_numpy(matrix)
    torch.testing.assert_close(Edges(sp.csr_matrix(matrix))(vectors), expected @ vectors)
    torch.testing.assert_close(vectors.grad, expected.T @ weights)


def test_the_transpose_mixes_the_other_way(matrix):
    edges = Edges(sp.csr_matrix(matrix))
    users = torch.randn(5, 3, requires_grad=True)
    product = edges.back(users)
    product.sum().backward()
    torch.testing.assert_close(product, torch.from_numpy(matrix.T) @ users)
    torch.testing.assert_close(users.grad, torch.from_numpy(matrix) @ torch.ones(4, 3))


def test_edges_without_entries_give_zeros():
    edges = Edges(sp.csr_matrix((3, 2), dtype=np.float32))
    assert torch.equal(edges(torch.ones(2, 4)), torch.zeros(3, 4))


def test_gradients_in_bfloat16_have_the_format_of_the_vectors(matrix):
    vectors = torch.randn(4, 3, dtype=torch.bfloat16, requires_grad=True)
    Edges(sp.csr_matrix(matrix))(vectors).sum().backward()
    assert vectors.grad.dtype == torch.bfloat16


def test_each_layer_goes_to_the_users_and_back(matrix):
    edges = Edges(sp.csr_matrix(matrix))
    vectors = torch.randn(4, 3)
    states = propagate([edges, edges.back], vectors, 2)
    step = torch.from_numpy(matrix.T @ matrix)
    assert len(states) == 3
    torch.testing.assert_close(states[0], vectors)
    torch.testing.assert_close(states[2], step @ step @ vectors)


def test_edges_move_with_the_net_and_are_not_saved_with_it(matrix):
    edges = Edges(sp.csr_matrix(matrix)).to("meta")
    assert edges.forth_weights.device.type == "meta"
    assert not edges.state_dict()


def test_items_are_the_mean_of_their_layers_computed_once_in_evaluation_mode(matrix):
    net = GraphItems(Edges(sp.csr_matrix(matrix)), items=4, width=3, layers=2).eval()
    step = torch.from_numpy(matrix.T @ matrix)
    table = net.table.weight.detach()
    expected = (table + step @ table + step @ step @ table) / 3
    with torch.no_grad():
        torch.testing.assert_close(net(), expected)
        assert net() is net()
        assert net.table.weight[matrix.any(axis=0)].any(dim=1).all()
        assert not net.table.weight[~matrix.any(axis=0)].any()  # the column without entries
        net.train().eval()
        net.table.weight.zero_()
        assert not net().any()


def test_degrees_count_the_entries_of_rows_and_columns(matrix):
    rows, columns = Edges(sp.csr_matrix(matrix)).degrees()
    assert rows.tolist() == (matrix > 0).sum(axis=1).tolist()
    assert columns.tolist() == (matrix > 0).sum(axis=0).tolist()
