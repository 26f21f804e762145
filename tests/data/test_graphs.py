"""The transition graph against a double loop, for every shape that blocks, threads and weights can
take.
"""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from tailor.data import graphs
from tailor.data.arrays import Ragged
from tailor.data.graphs import (
    AliasSteps,
    bipartite,
    draws_of,
    heaviest,
    means,
    mixed,
    transitions,
)
from tailor.errors import DataError


def naive(rows: list[list[int]], items: int, steps: dict[int, float]) -> np.ndarray:
    out = np.zeros((items, items))
    for row in rows:
        for at, item in enumerate(row):
            for step, weight in steps.items():
                if 0 <= at + step < len(row):
                    out[item, row[at + step]] += weight
    return out


def row_of(matrix: sp.csr_matrix, row: int) -> tuple[list[int], list[float]]:
    part = slice(matrix.indptr[row], matrix.indptr[row + 1])
    return matrix.indices[part].tolist(), matrix.data[part].tolist()


def best(weights: np.ndarray, top_n: int | None) -> list[int]:
    columns = [int(one) for one in np.flatnonzero(weights > 0)]
    return sorted(columns, key=lambda one: (-weights[one], one))[:top_n]


def check(matrix: sp.csr_matrix, expected: np.ndarray, top_n: int | None) -> None:
    assert matrix.shape == expected.shape
    assert matrix.dtype == np.float32
    for row, weights in enumerate(expected):
        columns, values = row_of(matrix, row)
        # also says: heaviest first, no zeros, ties by column
        assert columns == best(weights, top_n)
        np.testing.assert_allclose(values, weights[columns], rtol=1e-6)


QUARTERS = st.integers(1, 8).map(lambda n: n / 4)  # exact in float32, so that ties are ties


@settings(max_examples=120, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 5), max_size=12), max_size=6),
    st.dictionaries(st.integers(-14, 14).filter(bool), QUARTERS, max_size=5),
    st.booleans(),
    st.sampled_from([None, 1, 2, 5]),
    st.sampled_from([1, 2]),
    st.sampled_from([1, 3, 7, 500_000]),
)
def test_transitions_equal_the_double_loop(rows, steps, even, top_n, threads, block):
    steps = dict.fromkeys(steps, 0.5) if even else steps
    before, graphs.BLOCK_PAIRS = graphs.BLOCK_PAIRS, block
    try:
        made = transitions(Ragged.of(rows), 6, steps, top_n, threads)
    finally:
        graphs.BLOCK_PAIRS = before
    check(made, naive(rows, 6, steps), top_n)


@pytest.mark.parametrize("top_n", [None, 3])
@pytest.mark.parametrize("even", [True, False])
def test_long_sequences_and_far_steps(even, top_n):
    """Distances are kept in one byte: users longer than it holds must lose nothing."""
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 20, length).tolist() for length in (300, 128, 127, 101, 100, 1, 0)]
    steps = {
        step: 1.0 if even else 1 / 2 ** (abs(step) % 5)
        for step in (1, 2, 50, 99, 100, 126, 127, -1, -100, -127)
    }
    check(transitions(Ragged.of(rows), 20, steps, top_n), naive(rows, 20, steps), top_n)


@pytest.mark.parametrize(
    "steps", [{128: 1.0}, {-128: 1.0}, {0: 1.0}, {1: 0.0}, {1: -1.0}, {1: float("nan")}]
)
def test_a_step_or_weight_that_cannot_be_counted_is_refused(steps):
    with pytest.raises(DataError, match="step"):
        transitions(Ragged.of([[0, 1] * 100]), 2, steps)


@pytest.mark.parametrize(
    ("rows", "items", "steps"),
    [
        ([], 0, {1: 1.0}),
        ([[], []], 0, {1: 1.0}),
        ([], 4, {1: 1.0}),
        ([[], []], 4, {1: 1.0}),
        ([[0]], 1, {1: 1.0}),
        ([[0, 1]], 2, {}),
    ],
)
def test_no_pairs_make_an_empty_graph(rows, items, steps):
    made = transitions(Ragged.of(rows), items, steps)
    assert made.shape == (items, items)
    assert made.nnz == 0


def test_one_item_over_and_over():
    made = transitions(Ragged.of([[0] * 5]), 1, {1: 1.0, 2: 0.5})
    assert made.toarray().tolist() == [[4 + 3 * 0.5]]


def test_a_million_small_weights_add_up():
    made = transitions(Ragged.of([[0, 1] * 300_000]), 2, {1: 1 / 3, 2: 0.1})
    assert made[0, 1] == pytest.approx(300_000 / 3, rel=1e-5)
    assert made[1, 1] == pytest.approx(299_999 / 10, rel=1e-5)


def test_memory_mapped_sequences_are_read_and_left_alone(tmp_path):
    rows = Ragged.of([[0, 1, 2], [2, 1]])
    for name, array in {"offsets": rows.offsets, "values": rows.values}.items():
        np.save(tmp_path / f"{name}.npy", array)
    mapped = Ragged(
        *(np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("offsets", "values"))
    )
    steps = {1: 1.0, -1: 0.5}
    check(transitions(mapped, 3, steps), naive([[0, 1, 2], [2, 1]], 3, steps), None)
    assert mapped.values.tolist() == rows.values.tolist()


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_heaviest_equals_a_sort_of_every_row(seed, top_n):
    rng = np.random.default_rng(seed)
    dense = rng.integers(-2, 4, (5, 7)).astype(np.float32)
    check(heaviest(sp.csr_matrix(dense), top_n), np.maximum(dense, 0), top_n)


@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csc_matrix, sp.csr_array])
def test_heaviest_leaves_its_argument_alone(form):
    dense = np.array([[1, -2, 0.5], [0, 3, 0]], np.float32)
    given_matrix = form(dense)
    for array in (given_matrix.data, given_matrix.indices, given_matrix.indptr):
        array.flags.writeable = False
    check(heaviest(given_matrix, 1), np.maximum(dense, 0), 1)
    assert given_matrix.toarray().tolist() == dense.tolist()


def test_heaviest_adds_up_entries_given_twice():
    twice = sp.csr_matrix(
        (np.array([1, 2, 2], np.float32), np.array([1, 0, 1]), np.array([0, 3])), shape=(1, 2)
    )
    assert row_of(heaviest(twice, 1), 0) == ([1], [3.0])


def edge_chances(steps: AliasSteps, node: int) -> dict[int, float]:
    """What the tables say each neighbour's chance is."""
    out: dict[int, float] = {}
    edges = range(steps.offsets[node], steps.offsets[node + 1])
    for edge in edges:
        keep = 1.0 if steps.keep is None else float(steps.keep[edge])
        out[int(steps.targets[edge])] = out.get(int(steps.targets[edge]), 0) + keep / len(edges)
        if keep < 1:
            out[int(steps.aliases[edge])] = out.get(int(steps.aliases[edge]), 0) + (1 - keep) / len(
                edges
            )
    return out


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 9),
    st.integers(1, 40),
    st.sampled_from(["even", "digits", "heavy tail", "one giant"]),
)
def test_alias_tables_hold_the_weights_exactly(seed, nodes, columns, kind):
    rng = np.random.default_rng(seed)
    graph = sp.random(nodes, columns, rng.random(), "csr", dtype=np.float64, random_state=rng)
    graph.data = {
        "even": np.ones(graph.nnz),
        "digits": rng.integers(1, 10, graph.nnz).astype(float),
        "heavy tail": rng.pareto(0.5, graph.nnz) + 1e-3,
        "one giant": np.where(np.arange(graph.nnz) % 7, 1e-6, 1e6),
    }[kind]
    steps = AliasSteps.of(graph)
    for node in range(nodes):
        row = graph[node].toarray().ravel()
        if row.sum():
            got = edge_chances(steps, node)
            np.testing.assert_allclose(
                [got.get(column, 0) for column in range(columns)], row / row.sum(), atol=2e-6
            )
    assert (steps.keep is None) or kind != "even"


def test_alias_tables_of_a_large_graph_lose_nothing_to_rounding():
    rng = np.random.default_rng(0)
    graph = sp.random(50_000, 3_000, 0.005, "csr", dtype=np.float64, random_state=rng)
    graph.data = rng.pareto(0.7, graph.nnz) + 1e-3
    steps = AliasSteps.of(graph)
    node = np.repeat(np.arange(50_000), np.diff(graph.indptr))
    share = np.diff(graph.indptr)[node]
    entries = (
        np.r_[steps.keep / share, (1 - steps.keep) / share],
        (
            np.r_[node, node],
            np.r_[steps.targets, steps.aliases],
        ),
    )
    difference = (
        sp.csr_matrix(entries, shape=graph.shape) - sp.diags(1 / graph.sum(axis=1).A1) @ graph
    )
    assert abs(difference).max() < 1e-6


def test_steps_go_where_the_weights_say():
    steps = AliasSteps.of(
        sp.csr_matrix(np.array([[0, 1, 5, 2], [3, 0, 0, 0], [1, 1, 1, 1], [0.5, 0, 0, 9.5]]))
    )
    keys = mixed(np.arange(400_000, dtype=np.uint64))
    got = (
        np.bincount(steps.step(np.zeros(400_000, np.int64), draws_of(keys, 0)), minlength=4)
        / 400_000
    )
    np.testing.assert_allclose(got, [0, 1 / 8, 5 / 8, 2 / 8], atol=0.004)
    assert (steps.step(np.ones(9, np.int64), draws_of(keys[:9], 1)) == 0).all()
    np.testing.assert_allclose(
        np.bincount(steps.step(np.full(400_000, 2), draws_of(keys, 7)), minlength=4) / 4e5,
        0.25,
        atol=0.004,
    )


@pytest.mark.parametrize("weight", [0.0, -1.0, np.nan, np.inf])
def test_a_weight_that_is_no_weight_is_refused(weight):
    with pytest.raises(DataError, match="weight"):
        AliasSteps.of(
            sp.csr_matrix(
                (np.array([1.0, weight]), np.array([0, 1]), np.array([0, 2])), shape=(1, 2)
            )
        )


def test_draws_are_even_and_of_no_pattern_across_keys_and_numbers():
    keys = mixed(np.arange(100_000, dtype=np.uint64))
    table = np.stack([draws_of(keys, number) for number in range(6)])
    assert table.min() >= 0 and table.max() < 1
    np.testing.assert_allclose(table.mean(axis=1), 0.5, atol=0.004)
    np.testing.assert_allclose(np.corrcoef(table) - np.eye(6), 0, atol=0.015)
    for row in table:  # neighbours in key
        assert abs(np.corrcoef(row[1:], row[:-1])[0, 1]) < 0.015
        assert np.histogram(row, 50, (0, 1))[0].min() > 1_800


def test_edges_are_divided_by_the_roots_of_both_degrees():
    rows = Ragged.of([[0, 1], [1], [], [1, 2]])
    edges = bipartite(rows, np.array([1, 4, 0, 9]))
    expected = np.zeros((4, 4))
    expected[0, :2] = [1 / np.sqrt(2), 1 / np.sqrt(8)]
    expected[1, 1] = 1 / 2
    expected[3, 1:3] = [1 / np.sqrt(8), 1 / np.sqrt(2)]  # an item of no user counts as one of one
    np.testing.assert_allclose(edges.toarray(), expected, rtol=1e-6)


def test_means_average_the_items_of_a_row():
    weights = means(Ragged.of([[0, 1], [], [2]]), 3)
    expected = [[0.5, 0.5, 0], [0, 0, 0], [0, 0, 1]]
    np.testing.assert_allclose(weights.toarray(), expected)
