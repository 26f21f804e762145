"""Test MMHCL's graphs and contrasts by hand, its modalities, and new items found by their groups."""

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp
from retrieval.kind_shop import shop

pytest.importorskip("torch")

import torch

from tailor.core.run import Run
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query
from tailor.errors import DataError
from tailor.papers.retrieval.mmhcl import (
    MMHCL,
    _UserSteps,
    nearest_groups,
    number_rows,
    scaled_groups,
)
from tailor.text.hashing import HashingEncoder

RUN = Run(workers=1, dtype="float32")


def model(**settings):
    defaults = {
        "encoder": HashingEncoder(64),
        "width": 16,
        "epochs": 15,
        "patience": None,
        "negatives": 20,
        "lr": 0.02,
    }
    return MMHCL(**(defaults | settings))


def started(**settings):
    """Return a method about to learn from three users and four items in two groups."""
    method = model(**settings)
    method._rows = Ragged.of([[0, 1, 3], [1, 2], [0, 1]])
    method.degrees_ = np.array([2, 3, 1, 1], dtype=np.float32)
    method.items_ = range(4)
    groups = sp.csr_matrix(np.array([[1, 0], [1, 0], [0, 1], [1, 1]], dtype=np.float32))
    method._groups = scaled_groups(groups)
    method._start_net(RUN)
    return method


def test_users_step_to_those_who_share_items_and_not_to_themselves():
    choices = np.array([[1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 0, 1], [0, 0, 1, 0]], dtype=np.float32)
    shared = choices @ choices.T
    np.fill_diagonal(shared, 0)
    shared /= np.maximum(shared.sum(axis=1, keepdims=True), 1)
    vectors = torch.randn(4, 3)
    step = _UserSteps(sp.csr_matrix(choices))
    torch.testing.assert_close(step(vectors), torch.from_numpy(shared) @ vectors)


def test_groups_are_divided_by_the_roots_of_both_sums():
    groups = np.array([[1, 0, 1], [1, 1, 0], [0, 0, 0], [0, 1, 0]], dtype=np.float32)
    like = groups @ groups.T
    roots = np.sqrt(np.maximum(like.sum(axis=1), 1))
    scaled = scaled_groups(sp.csr_matrix(groups))
    expected = like / roots[:, None] / roots
    np.testing.assert_allclose((scaled @ scaled.T).toarray(), expected, rtol=1e-6)


def test_a_group_is_an_item_and_its_nearest():
    angles = np.radians([0, 10, 30, 90])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    vectors = np.vstack([vectors, np.zeros((1, 2), np.float32)])
    members = nearest_groups(vectors, 1, RUN).toarray()
    expected = np.array([[1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]])
    np.testing.assert_array_equal(members, expected)  # nothing is like the last item


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix], ids=["dense", "sparse"])
def test_equal_neighbours_are_drawn_and_not_the_first_ones(kind):
    members = nearest_groups(kind(np.full((40, 16), 0.25, np.float32)), 2, RUN)
    sizes = np.asarray(members.sum(axis=1)).ravel()
    assert sizes.max() < 12  # with the first ones, each would be in 40 groups


def test_negatives_of_a_contrast_are_all_others_of_both_views():
    left, right = torch.randn(3, 4), torch.randn(3, 4)
    cosines = torch.nn.functional.normalize(torch.cat([left, right]), dim=1)
    logits = cosines @ cosines.T / 0.6
    losses = []
    for row in range(6):
        others = [column for column in range(6) if column != row]
        partner = logits[row, (row + 3) % 6]
        losses.append(torch.logsumexp(logits[row, others], dim=0) - partner)
    expected = torch.stack(losses).mean()
    torch.testing.assert_close(model()._contrast(left, right), expected)


def loss_of(method):
    rng = np.random.default_rng(0)
    return float(method._loss(np.arange(5), rng).detach())


def test_both_contrasts_are_added_with_their_weights():
    plain = loss_of(started(item_weight=0, user_weight=0))
    method = started()
    with torch.no_grad():
        groups = method._net.group_vectors()
        vectors = method._net()
        items = float(method._contrast(vectors, groups))
        users = method._net.edges(vectors)[:2]
        companions = float(method._contrast(users, method._net.user_vectors()[:2]))
    both = loss_of(started(item_weight=2, user_weight=3))
    assert both == pytest.approx(plain + 2 * items + 3 * companions, abs=1e-5)


def test_an_item_is_its_average_plus_the_direction_of_its_group_vector():
    net = started()._net
    with torch.no_grad():
        sums = net.averaged() + torch.nn.functional.normalize(net.group_vectors(), dim=1)
        torch.testing.assert_close(net(), sums)
        groups = net.groups
        twice = groups(groups.back(groups(groups.back(net.group_table.weight))))
        torch.testing.assert_close(net.group_vectors(), twice)


def test_what_nobody_chose_is_found_by_its_group():
    method = model().fit(shop(), RUN)
    history = History.of("garden0", "garden1")
    query = Query("a stranger", history, exclude=frozenset(history.item_ids))
    assert "garden7" in method.recommend([query], 6)[0].ids
    blind = model(modalities=()).fit(shop(), RUN)
    assert "garden7" not in blind.recommend([query], 40)[0].ids


def test_nothing_is_kept_of_users():
    method = model(epochs=1).fit(shop(), RUN)
    assert set(method.state()) == {"items_", "vectors_", "degrees_", "fit_report_", "trained_on_"}
    assert set(vars(method)) == set(method.state()) | set(method.params())


def pictured(vectors):
    data = shop()
    column = pl.Series("picture", vectors, dtype=pl.List(pl.Float32))
    return Dataset({**data.tables, "items": data.tables["items"].with_columns(column)})


def test_columns_of_numbers_are_vectors():
    kinds = [row // 8 for row in range(32)]
    data = pictured([[float(kind == other) for other in range(4)] for kind in kinds])
    method = model(modalities=("picture",)).fit(data, RUN)
    query = Query(history=History.of("garden0", "garden1"))
    assert "garden7" in method.recommend([query], 8)[0].ids


def test_a_missing_picture_is_zeros_and_other_widths_are_refused():
    rows = number_rows(pl.Series("picture", [[1.0, 2.0], None]))
    np.testing.assert_array_equal(rows, [[1, 2], [0, 0]])
    with pytest.raises(DataError, match="lists of 1 to 2 numbers"):
        number_rows(pl.Series("picture", [[1.0, 2.0], [1.0]]))


def test_a_column_that_the_items_lack_is_refused():
    with pytest.raises(DataError, match='no column "colour"'):
        model(modalities=("colour",)).fit(shop(), RUN)


@pytest.mark.parametrize(
    "wrong",
    [{"neighbours": 0}, {"contrasted": 0}, {"contrast_temperature": 0}, {"item_weight": -1}],
    ids=str,
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(DataError):
        MMHCL(**wrong)
