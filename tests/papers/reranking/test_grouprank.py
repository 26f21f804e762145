"""GroupRank: offsets of groups go, repeats help, lost groups keep their places; the reward."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from reranking.planted_words import worded_lists

from tailor.core.run import Run
from tailor.errors import ModelError
from tailor.llm.grammars import GRADES, Reasoned
from tailor.llm.scripted import ScriptedModel, rng_of
from tailor.papers.reranking.grouprank import (
    UNREADABLE,
    GroupRank,
    GroupRankStudent,
    grade_labels,
    group_reward,
    level_grades,
)
from tailor.reranking.examples import list_ndcg
from tailor.reranking.shortlist import Shortlist, deviations
from tailor.testing.data import tiny_data
from tailor.text.hashing import HashingEncoder

N = 24
TEXTS = tuple(f"passage {number:02d} on knots" for number in range(N))
WORTHS = np.random.default_rng(4).permutation(N) / N
KNOWS = dict(zip(TEXTS, WORTHS.tolist(), strict=True))
LIST = Shortlist.of_texts("how to tie knots", TEXTS)


@dataclass(frozen=True)
class Moody(ScriptedModel):
    """Grades every prompt with an offset of its own."""

    mood: float = 0.3

    def _line_worths(self, prompt, seed):
        offset = rng_of(prompt, "mood").standard_normal()
        return 0.5 + (super()._line_worths(prompt, seed) - 0.5) * 0.4 + self.mood * offset


def order_of(llm, shortlist=LIST, **settings):
    settings = {"prior_weight": 0.0, "group": 6} | settings
    return GroupRank(llm=llm, **settings).rerank([shortlist], trace=True)[0]


def quality(results):
    return np.mean([np.corrcoef(-np.arange(N), WORTHS[r.order])[0, 1] for r in results])


def over_requests(llm, **settings):
    lists = [replace(LIST, request=f"knots {i}") for i in range(30)]
    return quality([order_of(llm, shortlist, **settings) for shortlist in lists])


def test_least_squares_takes_offsets_away():
    truth = np.array([9.0, 7.0, 3.0, 1.0, 5.0])
    groups = [(0, 1, 4), (2, 3, 4)]
    answers = [truth[list(groups[0])] - 4, truth[list(groups[1])] + 4]
    grades = level_grades(5, groups, answers)
    assert np.argsort(-grades).tolist() == [0, 1, 4, 2, 3]
    # without a common document nothing can be told, and means remain
    apart = level_grades(4, [(0, 1), (2, 3)], [np.array([4.0, 2.0]), np.array([8.0, np.nan])])
    assert np.allclose(apart[:3], [4, 2, 8]) and np.isnan(apart[3])


def test_anchors_and_levelling_help_a_moody_judge_and_a_second_shuffle_helps():
    means = over_requests(Moody(knows=KNOWS), anchors=0, level=False)
    levelled = over_requests(Moody(knows=KNOWS), anchors=2)
    assert levelled > means + 0.05
    assert levelled > over_requests(Moody(knows=KNOWS), anchors=2, level=False) + 0.05
    once = over_requests(Moody(knows=KNOWS), repeats=1, anchors=0, level=False)
    assert means > once + 0.03
    one_shuffle = over_requests(Moody(knows=KNOWS), repeats=1, anchors=2)
    assert one_shuffle > once + 0.05  # anchors link groups of a single shuffle


def test_calls_are_repeats_by_groups_and_anchors_stand_in_every_group():
    result = order_of(ScriptedModel(knows=KNOWS), group=7, repeats=3)
    assert len(result.trace) == 3 * 4 == result.spent.calls
    assert all({0, 12} <= set(exchange.docs) for exchange in result.trace)
    assert len({exchange.docs for exchange in result.trace}) == 12
    assert WORTHS[result.order[0]] >= 0.95 and result.details[int(result.order[0])]["reason"]


def test_a_lost_group_keeps_its_places_and_is_never_graded_0():
    class Deaf(ScriptedModel):
        """Answers no prompt that shows passage 13."""

        def _answer(self, prompt, seed, grammar=None):
            lost = "passage 13" in prompt
            return "I cannot." if lost else super()._answer(prompt, seed, grammar)

    result = order_of(Deaf(knows=KNOWS), anchors=0, repeats=1, group=4)
    lost = [doc for doc in range(N) if result.statuses[doc] == "fallback"]
    assert 13 in lost and len(lost) < 4
    assert all(result.order[doc] == doc for doc in lost)
    blended = order_of(Deaf(knows=KNOWS), repeats=1, group=4, anchors=0, prior_weight=0.4)
    assert blended.order.tolist().index(13) < N - 1


def test_by_default_two_shuffles_are_blended_with_the_first_stage_as_in_the_paper():
    method = GroupRank(llm=ScriptedModel(knows=KNOWS), group=6)
    result = method.rerank([LIST])[0]
    assert result.spent.calls == 2 * 4 and result.score_kind == "grade with first stage"
    grades = order_of(ScriptedModel(knows=KNOWS)).scores
    expected = 0.6 * deviations(grades) + 0.4 * deviations(LIST.prior)
    assert result.scores == pytest.approx(expected)


def test_equal_grades_are_ordered_by_the_first_stage_and_counted():
    result = order_of(ScriptedModel(knows={TEXTS[20]: 1.0}), anchors=0, level=False)
    assert result.order.tolist() == [20, *(doc for doc in range(N) if doc != 20)]
    assert result.details[0]["tied"] == N - 1 and "tied" not in result.details[20]


def test_the_papers_form_of_answers_is_read():
    answer = '<reason>Two fits.</reason><answer>{"[1]": 2, "[2]": 9}</answer>'
    reading = Reasoned(GRADES).read(answer, 3)
    assert reading.scores[:2].tolist() == [2, 9] and np.isnan(reading.scores[2])
    assert reading.words == {1: {"reason": "Two fits."}}


def test_only_groups_are_graded():
    with pytest.raises(ModelError, match="strategy"):
        GroupRank(strategy="pairs")


def test_each_part_of_the_reward_counts():
    gains = np.array([0.0, 1.0, 0.0, 2.0])
    labels = grade_labels(gains)
    assert labels.tolist() == [0, 5, 0, 10]
    assert group_reward(labels, labels, gains) == pytest.approx(1)
    assert group_reward(np.array([0, 5, 0, UNREADABLE]), labels, gains) == 0
    swapped = group_reward(np.array([10, 0, 5, 0]), labels, gains)
    flat = group_reward(np.array([0, 1, 0, 2]), labels, gains)
    assert swapped < flat < 1  # same spread, wrong order; right order, other spread
    assert swapped == pytest.approx(0.4 + 0.6 * (list_ndcg(np.array([3, 1, 2, 0]), gains) + 1) / 2)
    assert flat == pytest.approx(1 - 0.2 * np.abs([0, 0, 1 - 5, 2 - 10]).mean() / 10)
    # of twelve documents the one that fits stands eleventh: outside NDCG@10 and recall@10
    one, far = np.eye(12)[11], np.r_[np.full(10, 9), 0, 0]
    missed = group_reward(far, grade_labels(one), one)
    found = group_reward(np.r_[np.full(9, 9), 0, 0, 9], grade_labels(one), one)
    same_spread = 0.2 + 0.2 * (1 - np.abs(np.sort(far) - np.sort(grade_labels(one))).mean() / 10)
    assert missed == pytest.approx(same_spread)
    assert found == pytest.approx(same_spread + 0.6 * (1 / np.log2(11) + 1) / 2)


def untaught(run):
    """Return a fitted student whose net is as it begins."""
    student = GroupRankStudent(encoder=HashingEncoder(32), epochs=1, lr=3e-2, patience=None)
    student.fit(tiny_data(), run)
    student._start_net(run)
    return student


# with the first seed a reward of chance passes, too
@pytest.mark.parametrize(("stage", "seed"), [("labels", 0), ("reward", 0), ("reward", 1)])
def test_each_stage_teaches_alone(stage, seed):
    run = Run(workers=1, dtype="float32", seed=seed)
    rng = np.random.default_rng(seed)
    learned, judged = worded_lists(16, rng), worded_lists(20, rng)
    student = untaught(run)
    student.epochs = 12
    stages = student._stages()
    assert list(stages) == ["labels", "reward"]
    student._stages = lambda: {stage: stages[stage]}
    student._learn(learned, tiny_data(), run)
    results = student.rerank([example.shortlist for example in judged])
    first = [example.gains[r.order[0]] for example, r in zip(judged, results, strict=True)]
    assert np.mean(first) > 1.5  # by chance .25


def test_a_document_whose_likeliest_answer_is_no_grade_keeps_its_place():
    student = untaught(Run(workers=1, dtype="float32"))
    bias = student._ready()[-1].bias
    with torch.no_grad():
        bias[UNREADABLE] = 50
    result = student.rerank([LIST])[0]
    assert result.order.tolist() == list(range(N)) and set(result.statuses) == {"fallback"}
