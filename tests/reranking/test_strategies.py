"""Strategies: their calls by the published formulas, and the order of a judge that is right."""

import math

import numpy as np
import pytest

from tailor.errors import DataError
from tailor.reranking import strategies

SIZES = [0, 1, 2, 3, 19, 20, 21, 57, 100]
TOP = 10


def follow(plan, judge):
    """Return the scores of a plan, the groups it asked for, and the number of its steps."""
    groups, answers, steps = [], None, 0
    while True:
        try:
            asked = plan.send(answers)
        except StopIteration as stop:
            return stop.value, groups, steps
        steps += 1
        groups += asked
        answers = [judge(group) for group in asked]


def right(worths):
    return lambda group: worths[list(group)]


def best_only(worths):
    def judge(group):
        scores = np.zeros(len(group))
        scores[int(np.argmax(worths[list(group)]))] = 1
        return scores

    return judge


def best_first(scores):
    return np.argsort(-scores, kind="stable")


def plans(n):
    rng = np.random.default_rng(1)
    return {
        "pointwise": strategies.pointwise(n),
        "windows": strategies.windows(n, 20, 10),
        "groups": strategies.groupwise(n, 10, 2, rng),
        "tournament": strategies.tournament(n, 10, 5, 2, rng),
        "pairs": strategies.all_pairs(n),
        "pair heap": strategies.pair_heap(n, TOP),
        "set heap": strategies.set_heap(n, TOP, 20),
        "pair bubble": strategies.pair_bubble(n, TOP),
        "set bubble": strategies.set_bubble(n, TOP, 20),
    }


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("name", plans(0))
def test_a_judge_that_is_right_gives_the_best_order(name, n):
    worths = np.random.default_rng(n).permutation(n).astype(float)
    judge = best_only(worths) if name.startswith("set") else right(worths)
    scores, _, _ = follow(plans(n)[name], judge)
    assert len(scores) == n and not np.isnan(scores).any()
    # windows move ten documents to the front, a tournament orders those that reach its end
    depth = {"tournament": 1}.get(name, TOP)
    assert best_first(scores)[:depth].tolist() == np.argsort(-worths)[:depth].tolist()


@pytest.mark.parametrize("n", SIZES)
def test_calls_are_those_of_the_formulas(n):
    worths = np.random.default_rng(n).permutation(n).astype(float)

    def calls(plan, judge=None):
        return len(follow(plan, judge or right(worths))[1])

    assert calls(strategies.pointwise(n)) == n
    for width, step, passes in ((20, 10, 1), (20, 10, 2), (20, 20, 1), (5, 3, 1)):
        expected = passes * (math.ceil(max(n - width, 0) / step) + 1) if n else 0
        assert calls(strategies.windows(n, width, step, passes)) == expected
    for size, repeats in ((10, 1), (10, 3), (7, 2)):
        rng = np.random.default_rng(0)
        assert calls(strategies.groupwise(n, size, repeats, rng)) == repeats * math.ceil(n / size)
    assert calls(strategies.all_pairs(n)) == n * (n - 1)
    k = TOP
    heap_bound = 2 * (2 * n + 2 * k * math.ceil(math.log2(max(n, 2))))
    assert calls(strategies.pair_heap(n, k)) <= heap_bound
    assert calls(strategies.pair_bubble(n, k)) <= 2 * sum(max(n - 1 - i, 0) for i in range(k))
    for size in (2, 3, 20):
        inner = math.ceil(max(n - 1, 0) / (size - 1))
        levels, nodes = 1, 1
        while nodes < n:
            nodes += (size - 1) ** levels
            levels += 1
        judge = best_only(worths)
        assert calls(strategies.set_heap(n, k, size), judge) <= (inner + k) * (levels - 1)
        assert calls(strategies.set_bubble(n, k, size), judge) <= k * inner


def test_a_tournament_asks_a_call_a_group_and_round():
    worths = np.random.default_rng(3).permutation(100).astype(float)
    plan = strategies.tournament(100, 20, 10, 3, np.random.default_rng(0))
    scores, groups, steps = follow(plan, right(worths))
    # 100 documents in 5 groups, 50 in 3, 30 in 2, and 20 in the last
    assert len(groups) == 3 * (5 + 3 + 2 + 1) and steps == 4
    assert best_first(scores)[0] == np.argmax(worths)


def test_a_bubble_ends_with_a_pass_without_a_swap():
    worths = -np.arange(30.0)
    _, groups, _ = follow(strategies.pair_bubble(30, 10), right(worths))
    assert len(groups) == 2 * 29


def test_groups_of_a_step_are_asked_side_by_side():
    worths = np.arange(40.0)
    rng = np.random.default_rng(0)
    assert follow(strategies.groupwise(40, 10, 3, rng), right(worths))[2] == 1
    assert follow(strategies.all_pairs(40), right(worths))[2] == 1


def test_anchors_stand_in_every_group_once():
    plan = strategies.groupwise(25, 10, 2, np.random.default_rng(0), anchors=(3, 7))
    _, groups, _ = follow(plan, right(np.arange(25.0)))
    assert all(group.count(3) == 1 and group.count(7) == 1 for group in groups)


def test_pairs_that_contradict_themselves_count_half():
    def first_shown_wins(group):
        return np.array([1.0, 0.0])

    scores, _, _ = follow(strategies.all_pairs(6), first_shown_wins)
    assert scores.tolist() == [2.5] * 6
    for plan in (strategies.pair_heap(6, 6), strategies.pair_bubble(6, 6)):
        scores, _, _ = follow(plan, first_shown_wins)
        assert best_first(scores).tolist() == list(range(6)), "ties keep the first-stage order"


@pytest.mark.parametrize("name", plans(0))
def test_where_nothing_can_be_read_the_order_stays(name):
    scores, _, _ = follow(plans(33)[name], lambda group: np.full(len(group), np.nan))
    scores = np.where(np.isnan(scores), 0, scores)
    if name != "tournament":  # whose draw decides who goes on
        assert best_first(scores).tolist() == list(range(33))


def test_a_document_without_a_score_stays_where_it_stood():
    order = strategies.settled((4, 5, 6, 7), np.array([1.0, np.nan, 3.0, 2.0]))
    assert order == [6, 5, 7, 4]


def test_the_same_documents_in_another_order_are_the_same_documents():
    worths = np.random.default_rng(0).permutation(30).astype(float)
    order = np.random.default_rng(1).permutation(30).tolist()
    scores, _, _ = follow(strategies.permuted(strategies.windows(30, 10, 5), order), right(worths))
    assert best_first(scores)[:5].tolist() == np.argsort(-worths)[:5].tolist()
    for n in (0, 1):
        scores, _, _ = follow(
            strategies.permuted(strategies.windows(n), list(range(n))), right(worths)
        )
        assert len(scores) == n


def test_settings_that_cover_nothing_are_refused():
    for wrong in (lambda: strategies.windows(9, 5, 0), lambda: strategies.windows(9, 5, 6)):
        with pytest.raises(DataError, match="step"):
            next(wrong())
    with pytest.raises(DataError, match="at least 2"):
        strategies.set_heap(9, 3, 1)
    with pytest.raises(DataError, match="go on"):
        next(strategies.tournament(9, 3, 3, 1, np.random.default_rng(0)))


def test_shuffled_plans_show_other_orders_and_end_as_they_would():
    worths = np.random.default_rng(3).permutation(57) / 57
    plain, groups, _ = follow(strategies.windows(57, 20, 10), right(worths))
    rng = np.random.default_rng(5)
    shuffled, shown, _ = follow(
        strategies.shuffled(strategies.windows(57, 20, 10), rng), right(worths)
    )
    assert shuffled.tolist() == plain.tolist()
    assert [sorted(group) for group in shown] == [sorted(group) for group in groups]
    assert all(a != b for a, b in zip(shown, groups, strict=True))


def test_shuffled_plans_leave_unread_groups_as_they_stood():
    rng = np.random.default_rng(5)
    plan = strategies.shuffled(strategies.windows(30, 20, 10), rng)
    scores, _, _ = follow(plan, lambda group: np.full(len(group), np.nan))
    assert best_first(scores).tolist() == list(range(30))
