"""The beam against the exact answer, and that against one item after the other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from tailor.data.arrays import Ragged  # noqa: E402
from tailor.nn.decoding import AllowedItems, Trie, beam_search, exact_scores  # noqa: E402

DIGITS = 4  # of every level
WIDTH = 5


class Scribe:
    """Says digits by random tables: what is next depends on all that was said."""

    def __init__(self, levels, seed=0):
        made = torch.Generator().manual_seed(seed)
        self.out = torch.randn(levels, WIDTH, DIGITS, generator=made) * 2
        self.said = torch.randn(levels, DIGITS, WIDTH, generator=made)
        self.asked = 0

    def logits(self, level, state):
        self.asked += len(state)
        return state @ self.out[level]

    def advance(self, level, state, digit):
        return torch.tanh(state + self.said[level, digit])


def one_by_one(scribe, state, codes, closed=True):
    """(N,) the log-probability of each code, with sets of prefixes and no trie."""
    out = []
    for code in codes.tolist():
        total, own = 0.0, state
        for level, digit in enumerate(code):
            logits = scribe.logits(level, own[None])[0]
            there = (
                sorted({other[level] for other in codes.tolist() if other[:level] == code[:level]})
                if closed
                else range(DIGITS)
            )
            total += float(logits[digit] - torch.logsumexp(logits[list(there)], 0))
            own = scribe.advance(level, own[None], torch.tensor([digit]))[0]
        out.append(total)
    return np.array(out)


@st.composite
def worlds(draw):
    levels = draw(st.integers(1, 4))
    codes = draw(
        st.lists(
            st.tuples(*[st.integers(0, DIGITS - 1)] * levels), min_size=1, max_size=40, unique=True
        )
    )
    return np.array(codes), draw(st.integers(0, 10**6)), draw(st.integers(1, 4))


def states_of(seed, queries):
    return torch.randn(queries, WIDTH, generator=torch.Generator().manual_seed(seed + 1))


@settings(max_examples=80, deadline=None)
@given(worlds(), st.booleans())
def test_exact_is_what_one_item_after_the_other_gives(world, closed):
    codes, seed, queries = world
    scribe, states = Scribe(codes.shape[1], seed), states_of(seed, queries)
    found = exact_scores(scribe, states, Trie.of(codes), closed)
    for state, row in zip(states, found, strict=True):
        assert row.numpy() == pytest.approx(one_by_one(scribe, state, codes, closed), abs=1e-4)
    if closed:  # the items share one whole
        assert found.exp().sum(dim=1).numpy() == pytest.approx(np.ones(queries), abs=1e-4)


@settings(max_examples=80, deadline=None)
@given(worlds(), st.booleans())
def test_a_beam_as_wide_as_the_tree_is_exact(world, closed):
    codes, seed, queries = world
    scribe, states, trie = Scribe(codes.shape[1], seed), states_of(seed, queries), Trie.of(codes)
    rows, scores = beam_search(scribe, states, trie, len(codes), closed=closed)
    every = exact_scores(scribe, states, trie, closed)
    assert (rows.sort(dim=1).values == torch.arange(len(codes))).all()
    assert scores.numpy() == pytest.approx(every.gather(1, rows).numpy(), abs=1e-5)
    assert (scores[:, 1:] <= scores[:, :-1]).all()


@settings(max_examples=150, deadline=None)
@given(worlds(), st.data(), st.integers(1, 6))
def test_whatever_is_excluded_a_narrow_beam_fills_its_places_with_what_may_be_answered(
    world, data, width
):
    codes, seed, queries = world
    n = len(codes)
    scribe, states, trie = Scribe(codes.shape[1], seed), states_of(seed, queries), Trie.of(codes)
    some = st.lists(st.integers(0, n - 1), max_size=n)
    exclude = [data.draw(some) for _ in range(queries)]
    blocked = data.draw(some)
    candidates = data.draw(st.none() | st.lists(some, min_size=queries, max_size=queries))
    choosable = AllowedItems(
        trie,
        Ragged.of(exclude),
        np.array(blocked, dtype=np.int64),
        None if candidates is None else Ragged.of(candidates),
    )
    rows, scores = beam_search(scribe, states, trie, width, choosable)
    every = exact_scores(scribe, states, trie)
    for i, row in enumerate(rows.tolist()):
        may = (
            (set(range(n)) if candidates is None else set(candidates[i]))
            - set(exclude[i])
            - set(blocked)
        )
        got = [one for one in row if one >= 0]
        # as many as there can be, none twice, none made up
        assert len(got) == len(set(got)) == min(width, len(may))
        assert set(got) <= may
        assert row[len(got) :] == [-1] * (width - len(got))
        # what is excluded changes no other's score
        assert scores[i, : len(got)].numpy() == pytest.approx(every[i, got].numpy(), abs=1e-5)


@settings(max_examples=40, deadline=None)
@given(worlds(), st.integers(1, 6))
def test_one_query_is_answered_as_among_others(world, width):
    codes, seed, queries = world
    scribe, states, trie = Scribe(codes.shape[1], seed), states_of(seed, queries), Trie.of(codes)
    exclude = Ragged.of([[i % len(codes)] for i in range(queries)])
    rows, scores = beam_search(scribe, states, trie, width, AllowedItems(trie, exclude))
    for i in range(queries):
        row, score = beam_search(
            scribe, states[i : i + 1], trie, width, AllowedItems(trie, exclude.slice(i, i + 1))
        )
        assert (row == rows[i]).all()
        assert score.numpy() == pytest.approx(scores[i : i + 1].numpy(), abs=1e-5)


def test_the_tree_by_hand():
    trie = Trie.of(np.array([[1, 0], [0, 2], [1, 1], [0, 0]]))
    assert trie.items.tolist() == [3, 1, 0, 2]
    assert [one.tolist() for one in trie.digits] == [[0, 1], [0, 2, 0, 1]]
    assert [one.tolist() for one in trie.children] == [[0, 2], [0, 2, 4]]
    assert [one.tolist() for one in trie.leaves] == [[0, 2, 4], [0, 1, 2, 3, 4]]
    assert trie.paths().tolist() == [[1, 2], [0, 1], [1, 3], [0, 0]]
    assert trie.allowed(0, 3).tolist() == [[True, True, False]]
    assert trie.allowed(1, 3).tolist() == [[True, False, True], [True, True, False]]


def test_where_there_is_no_choice_the_net_is_not_asked():
    scribe = Scribe(3)
    codes = np.array([[0, 0, 0], [1, 2, 3]])
    beam_search(scribe, states_of(0, 1), Trie.of(codes), 2)
    assert scribe.asked == 1  # for the first digit only


def test_equal_scores_stand_by_row():
    class Even(Scribe):
        def logits(self, level, state):
            return torch.zeros(len(state), DIGITS)

    codes = np.random.default_rng(0).permutation(
        [[a, b] for a in range(DIGITS) for b in range(DIGITS)]
    )
    rows, scores = beam_search(Even(2), states_of(0, 1), Trie.of(codes), 16)
    assert rows.tolist() == [list(range(16))]
    assert scores.numpy() == pytest.approx(np.full((1, 16), -np.log(16)), abs=1e-5)


def test_two_items_of_one_code_are_refused():
    with pytest.raises(ValueError, match="3 items, 2 codes"):
        Trie.of(np.array([[0, 1], [0, 1], [1, 1]]))
