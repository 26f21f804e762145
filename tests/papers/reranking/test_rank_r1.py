"""Rank-R1: the ten best within the bound, both ways against a love of places, learned picks."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from reranking.planted_words import worded_lists

from tailor.core.run import Run
from tailor.errors import ModelError
from tailor.llm.grammars import BEST, Reasoned
from tailor.llm.scripted import ScriptedModel
from tailor.papers.reranking.rank_r1 import RankR1, RankR1Student, pick_rewards
from tailor.reranking.shortlist import Shortlist
from tailor.testing.data import tiny_data
from tailor.text.hashing import HashingEncoder

N = 100
TEXTS = tuple(f"passage {number:02d} on knots" for number in range(N))
WORTHS = np.random.default_rng(4).permutation(N) / N
KNOWS = dict(zip(TEXTS, WORTHS.tolist(), strict=True))
LIST = Shortlist.of_texts("how to tie knots", TEXTS)
BEST_TEN = np.argsort(-WORTHS)[:10].tolist()


def order_of(llm, shortlist=LIST, **settings):
    settings = {"budget": 8_000} | settings
    return RankR1(llm=llm, **settings).rerank([shortlist], trace=True)[0]


def test_a_perfect_picker_gives_the_ten_best_within_the_bound():
    result = order_of(ScriptedModel(knows=KNOWS))
    assert result.order[:10].tolist() == BEST_TEN
    assert result.spent.calls == len(result.trace) <= 32
    assert max(len(exchange.docs) for exchange in result.trace) == 20  # a parent and 19 children
    rest = result.order[10:].tolist()
    assert rest == sorted(rest)  # all others keep their order
    assert "compared" in result.details[BEST_TEN[0]]["reason"]


def test_both_ways_regain_what_a_love_of_first_places_costs():
    biased = ScriptedModel(knows=KNOWS, position_bias=0.03)
    hits = {
        both_ways: len(set(order_of(biased, both_ways=both_ways).order[:10]) & set(BEST_TEN))
        for both_ways in (False, True)
    }
    assert hits[True] > hits[False] + 3
    result = order_of(biased, both_ways=True)
    sets = {frozenset(exchange.docs) for exchange in result.trace if len(exchange.docs) > 2}
    assert len(result.trace) <= 4 * len(sets) + 4 * 32
    ways = [exchange.docs for exchange in result.trace]
    assert all(way[::-1] in ways for way in ways)
    assert ways[0] != tuple(sorted(ways[0]))


def test_a_sure_picker_is_asked_twice_a_set_both_ways():
    once, twice = (order_of(ScriptedModel(knows=KNOWS), both_ways=way) for way in (False, True))
    assert twice.order.tolist() == once.order.tolist()
    assert twice.spent.calls == 2 * once.spent.calls


@pytest.mark.parametrize("both_ways", [False, True])
def test_unread_picks_keep_the_order_and_are_counted(both_ways):
    llm = ScriptedModel(malformed="refusal")
    few = replace(LIST, texts=TEXTS[:12], prior=LIST.prior[:12])
    result = order_of(llm, few, both_ways=both_ways)
    assert result.order.tolist() == list(range(12)) and set(result.statuses) == {"fallback"}
    assert "could not be read" in result.notes[0]


def test_the_papers_form_of_answers_is_read_and_thoughts_are_no_answers():
    answer = "<think>[2] is long, [1] is off.</think> <answer>[3]</answer>"
    reading = Reasoned(BEST).read(answer, 4)
    assert reading.scores.tolist() == [0, 0, 1, 0]
    assert reading.words == {2: {"reason": "[2] is long, [1] is off."}}
    assert Reasoned(BEST).read("<think>[2] is long", 4).is_unread


def test_only_sets_are_asked():
    with pytest.raises(ModelError, match="strategy"):
        RankR1(strategy="pairs")
    with pytest.raises(ModelError, match="choose one"):
        RankR1(both_ways=True, shuffled=True)


def test_rewards_are_for_right_readable_picks_only():
    unreadable = 3  # of a set of three
    assert pick_rewards(torch.tensor([0, 2, unreadable]), 2).tolist() == [0, 1, 0]


# with the first seed a reward of chance teaches, too
@pytest.mark.parametrize(("teacher", "seed"), [("reward", 0), ("reward", 1), ("labels", 0)])
def test_rewards_and_labels_teach_picks_and_readable_answers_from_nothing(teacher, seed):
    run = Run(workers=1, dtype="float32", seed=seed)
    rng = np.random.default_rng(seed)
    learned, judged = worded_lists(16, rng), worded_lists(20, rng)
    student = RankR1Student(
        encoder=HashingEncoder(32), teacher=teacher, epochs=1, lr=5e-2, patience=None
    )
    student.fit(tiny_data(), run)
    student.epochs = 10
    student._start_net(run)
    before = student._list_scores(student._inputs([judged[0].shortlist])[0])
    assert np.ptp(before) == 0
    student._learn(learned, tiny_data(), run)
    results = student.rerank([example.shortlist for example in judged])
    first = np.mean([example.gains[r.order[0]] for example, r in zip(judged, results)])
    assert first > 1.5  # by chance .25
    assert student._ready().unreadable.item() < 0  # answers that cannot be read earn nothing


def test_sets_whose_picks_all_earn_the_same_are_counted():
    student = RankR1Student(encoder=HashingEncoder(32), draws=2)
    student._start_net(Run(workers=1, dtype="float32"))
    student._sets = student._silent = 0
    torch.manual_seed(0)
    features, gains = np.eye(8, 7, dtype=np.float32), torch.eye(8)[0]
    silent = 0
    for _ in range(40):
        student._net.zero_grad()
        student._reward_loss(features, gains).backward()
        silent += not student._net.score_proj.weight.grad.any()
    assert (student._sets, student._silent) == (40, silent) and 20 < silent < 40


def test_a_set_holds_one_right_document_above_all_others():
    student = RankR1Student(group=4)
    gains = torch.tensor([0.0, 2.0, 1.0, 0.0, 1.0, 0.0])
    torch.manual_seed(0)
    for _ in range(20):
        docs, right = student._draw_set(gains)
        of_set = gains.numpy()[docs]
        assert 2 <= len(docs) <= 4 and (np.delete(of_set, right) < of_set[right]).all()
