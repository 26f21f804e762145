"""Lists of passages: the first stage by words, shortlists, and limits over all batches."""

import time
from dataclasses import dataclass, field

import numpy as np
import pytest

from tailor.data.passage_lists import Passage, PassageList
from tailor.errors import DataError
from tailor.llm.cached import Cached
from tailor.llm.metered import Metered
from tailor.llm.prompts import estimated_tokens
from tailor.llm.scripted import ScriptedModel
from tailor.reranking.llm_reranker import LLMReranker
from tailor.reranking.passage_lists import (
    BATCH,
    rerank_in_batches,
    retrieved_by_words,
    shortlist_of,
)
from tailor.reranking.shortlist import Limits, Shortlist

DOCUMENTS = {
    "d1": Passage("d1", "a kettle of copper"),
    "d2": Passage("d2", "red", "Tents"),
    "d3": Passage("d3", "a tent and another tent"),
    "d4": Passage("d4", "nothing"),
}


def test_bare_lists_get_documents_by_words_and_then_by_their_order():
    mine = PassageList("tent", (Passage("x", "y"),), id="q2", is_retrieved=True)
    first, second = retrieved_by_words([PassageList("tent", id="q1"), mine], DOCUMENTS)
    assert {passage.id for passage in first.passages[:2]} == {"d2", "d3"}, "titles are searched"
    assert [passage.id for passage in first.passages[2:]] == ["d1", "d4"]
    scores = [passage.score for passage in first.passages]
    assert scores == sorted(scores, reverse=True) and scores[2:] == [0.0, 0.0]
    assert second is mine and first.is_retrieved
    (short,) = retrieved_by_words([PassageList("tent")], DOCUMENTS, depth=3)
    assert len(short.passages) == 3


def test_a_bare_list_needs_documents():
    with pytest.raises(DataError, match='"tent" has no candidates, and there are no documents'):
        retrieved_by_words([PassageList("tent")], {})


def test_a_shortlist_has_what_the_list_says():
    passages = (Passage("d1", "red", "Tents", 2.0), Passage("d2", "blue", "", 3.0))
    shortlist = shortlist_of(PassageList("tent", passages, (), "q1", "likes red", ("a cup",)))
    assert shortlist.texts == ("Tents. red", "blue") and shortlist.titles == ("Tents", "")
    assert shortlist.prior.tolist() == [2.0, 3.0] and shortlist.request == "tent"
    assert shortlist.profile.text == "likes red" and shortlist.history == ("a cup",)
    assert shortlist.query.request_id == "q1"
    bare = shortlist_of(PassageList("tent", (passages[0], Passage("d3", "x"))))
    assert bare.prior.tolist() == [0.0, -1.0], "one unknown score, and only places are known"


def lists(n):
    return [
        Shortlist.of_texts(f"request {number}", ["a kettle", "a tent", "a rope"])
        for number in range(n)
    ]


def test_limits_hold_for_all_batches_together():
    judge = LLMReranker(llm=ScriptedModel(knows={"tent": 1.0}), strategy="yes-no")
    results = rerank_in_batches(judge, lists(BATCH + 2), Limits(calls=3 * BATCH + 1))
    assert sum(result.spent.calls for result in results) == 3 * BATCH + 1
    assert all(result.order[0] == 1 for result in results[:BATCH])
    assert results[-1].order.tolist() == [0, 1, 2]
    assert set(results[-1].statuses) == {"fallback"}


def test_money_is_counted_and_limited():
    llm = Metered(
        ScriptedModel(knows={"tent": 1.0}), usd_per_million_in=1e3, usd_per_million_out=2e3
    )
    judge = LLMReranker(llm=llm, strategy="yes-no")
    (result,) = judge.rerank(lists(1), trace=True)
    tokens_in = sum(estimated_tokens(exchange.prompt) for exchange in result.trace)
    tokens_out = sum(estimated_tokens(exchange.answer) for exchange in result.trace)
    assert (result.spent.tokens_in, result.spent.tokens_out) == (tokens_in, tokens_out)
    assert result.spent.usd == pytest.approx((1e3 * tokens_in + 2e3 * tokens_out) / 1e6)
    enough = result.spent.usd * BATCH * 1.5
    results = rerank_in_batches(judge, lists(3 * BATCH), Limits(usd=enough))
    total = sum(answer.spent.usd for answer in results)
    assert 0.5 * enough < total <= enough


def test_tokens_of_probabilities_are_those_read():
    for strategy, reads in (("yes-no", "log-probs"), ("likelihood", "reply")):
        judge = LLMReranker(llm=ScriptedModel(), strategy=strategy, reads=reads)
        (result,) = judge.rerank(lists(1), trace=True)
        prompts = [exchange.prompt for exchange in result.trace]
        assert result.spent.calls == len(prompts) == 3
        read = lists(1)[0].request if strategy == "likelihood" else ""
        assert result.spent.tokens_in == sum(estimated_tokens(text + read) for text in prompts)
        assert result.spent.tokens_out == 0


def test_cached_answers_cost_no_tokens(tmp_path):
    judge = LLMReranker(llm=Cached(ScriptedModel(), str(tmp_path)), strategy="windows")
    first, second = (judge.rerank(lists(1))[0].spent for _ in range(2))
    assert first.tokens_in > 0 and first.cached == 0
    assert second.tokens_in == 0 and second.cached == second.calls == 1


@dataclass(frozen=True)
class Slow(ScriptedModel):
    """Takes a second a call, by the clock of the test."""

    seconds: list = field(default_factory=lambda: [0.0], hash=False, compare=False)

    def complete(self, prompts, **settings):
        self.seconds[0] += 1
        return super().complete(prompts, **settings)


def test_lists_that_the_time_is_too_short_for_keep_their_order(monkeypatch):
    slow = Slow(knows={"tent": 1.0})
    monkeypatch.setattr(time, "monotonic", lambda: slow.seconds[0])
    judge = LLMReranker(llm=slow, strategy="windows")
    results = rerank_in_batches(judge, lists(2 * BATCH), Limits(seconds=0.5))
    assert results[0].order[0] == 1
    assert results[-1].order.tolist() == [0, 1, 2] and results[-1].spent.calls == 0
    assert "the time was over before this list was begun" in results[-1].notes[0]
    assert np.isfinite(results[-1].scores).all()


def test_batches_change_nothing():
    judge = LLMReranker(llm=ScriptedModel(knows={"tent": 0.6}, noise=1.0), strategy="groups")
    together = judge.rerank(lists(BATCH + 3))
    in_batches = rerank_in_batches(judge, lists(BATCH + 3))
    assert [a.order.tolist() for a in together] == [b.order.tolist() for b in in_batches]
