import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tailor.nn.packing import pack_batches, pad_rows, split_by_budget


@given(st.lists(st.integers(0, 60), max_size=300), st.integers(1, 200), st.integers(0, 5))
def test_every_row_comes_once_and_within_the_budget(lengths, budget, seed):
    lengths = np.array(lengths, dtype=int)
    batches = pack_batches(lengths, budget, np.random.default_rng(seed))
    rows = np.concatenate([*batches, np.empty(0, int)])
    assert sorted(rows.tolist()) == np.flatnonzero(lengths > 0).tolist()
    for batch in batches:
        assert len(batch) == 1 or lengths[batch].max() * len(batch) <= budget


def test_like_lengths_stand_together():
    lengths = np.random.default_rng(0).geometric(0.12, 20_000).clip(1, 50)
    batches = pack_batches(lengths, 2048, np.random.default_rng(1))
    padding = sum(lengths[one].max() * len(one) for one in batches) / lengths.sum()
    assert padding < 1.1  # padding all to 50 would make it six


def test_two_epochs_differ():
    lengths = np.full(500, 3)
    rng = np.random.default_rng(0)
    assert any(
        (a != b).any()
        for a, b in zip(pack_batches(lengths, 30, rng), pack_batches(lengths, 30, rng), strict=True)
    )


def test_cut_makes_progress_with_rows_beyond_the_budget():
    assert [
        one.tolist() for one in split_by_budget(np.array([0, 1, 2]), np.array([1, 9, 9]), 4)
    ] == [
        [0],
        [1],
        [2],
    ]


def test_padding_stands_at_the_right():
    out, real = pad_rows(np.arange(10), np.array([2, 7]), np.array([3, 1]))
    assert out.tolist() == [[2, 3, 4], [7, 0, 0]]
    assert real.tolist() == [[True, True, True], [True, False, False]]


def test_as_many_rows_a_batch_are_as_many_steps_however_long_they_are():
    rng = np.random.default_rng(0)
    for lengths in (np.full(1000, 2), rng.integers(1, 50, 1000)):
        batches = pack_batches(lengths, 7, rng, batch_rows=32)
        assert len(batches) == 32
        assert sorted(np.concatenate(batches).tolist()) == list(range(1000))
