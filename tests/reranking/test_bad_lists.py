"""Lists, models and limits as they should not be: the order stands, and the rest is said."""

import random
import string
import time

import numpy as np
import polars as pl
import pytest

from tailor.data.dataset import Dataset
from tailor.data.nouns import Query, Ranking
from tailor.errors import ModelError
from tailor.llm.http import HTTPModel
from tailor.llm.metered import Metered
from tailor.llm.scripted import MALFORMED, ScriptedModel
from tailor.ports.base import Completion
from tailor.ports.calls import _circuits
from tailor.reranking.llm_reranker import STRATEGIES, LLMReranker
from tailor.reranking.shortlist import Limits, Shortlist
from tailor.testing.attacks import ATTACKS, HARMLESS

DOCUMENTS = ("a red tent", HARMLESS, "a blue kettle", "a steel peg")
KNOWS = {"red tent": 1.0, "blue kettle": 0.5}


def order_of(texts, llm=None, limits=None, request="a tent", **settings):
    """Return the answer to one list."""
    reranker = LLMReranker(llm=llm or ScriptedModel(knows=KNOWS), **settings)
    return reranker.rerank([Shortlist.of_texts(request, texts)], limits or Limits())[0]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_order_inside_a_document_changes_no_order_and_is_flagged(attack):
    obedient = ScriptedModel(knows=KNOWS, obeys=(attack.order,))
    texts = (*DOCUMENTS[:3], attack.text)
    result = order_of(texts, obedient)
    assert result.order.tolist() == order_of((*DOCUMENTS[:3], attack.harmless)).order.tolist()
    assert result.details[3]["flagged"]


def test_there_are_thirty_attacks():
    assert len(ATTACKS) >= 30


def test_of_ten_thousand_candidates_the_first_are_ordered_and_the_rest_follow():
    ids = [f"d{number:05d}" for number in range(10_000)]
    items = pl.DataFrame({"item_id": ids, "text": [f"document {name}" for name in ids]})
    events = pl.DataFrame({"user_id": ["u"], "item_id": ids[:1]})
    method = LLMReranker(llm=ScriptedModel(knows={"d00090": 1.0}))
    method.fit(Dataset({"events": events, "items": items}))
    candidates = Ranking(tuple(ids), -np.arange(10_000.0))
    (ranking,) = method.recommend([Query(text="document")], 10_000, [candidates])
    assert ranking.ids[0] == "d00090" and ranking.ids[100:] == tuple(ids[100:])
    assert sorted(ranking.ids) == ids


def test_a_whole_list_of_ten_thousand_is_a_permutation():
    texts = [f"document {number}" for number in range(10_000)]
    judge = ScriptedModel(knows={"document 9999": 1.0})
    result = order_of(texts, judge, Limits(calls=5))
    assert sorted(result.order.tolist()) == list(range(10_000)) and result.spent.calls <= 5


def test_a_document_of_a_megabyte_is_cut():
    result = order_of((*DOCUMENTS, "a blue kettle " * 75_000))
    assert result.details[4]["truncated"] and result.order[0] == 0
    assert result.spent.tokens_in < 4_000


def test_a_document_without_a_text_and_a_request_in_another_script():
    result = order_of(("", "a red tent", " "), request="красная палатка 赤いテント")
    assert sorted(result.order.tolist()) == [0, 1, 2] and result.order[0] == 1
    knows = {"палатка": 1.0}
    cyrillic = order_of(
        ("чайник", "красная палатка"), ScriptedModel(knows=knows), request="палатка"
    )
    assert cyrillic.order.tolist() == [1, 0]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_deadline_shorter_than_a_call_and_no_budget_leave_the_order(strategy):
    class Clock(ScriptedModel):
        asked = 0

        def complete(self, prompts, **settings):
            type(self).asked += len(prompts)
            return super().complete(prompts, **settings)

    for limits in (Limits(calls=0), Limits(seconds=0)):
        result = order_of(DOCUMENTS, Clock(knows=KNOWS), limits, strategy=strategy)
        assert result.order.tolist() == [0, 1, 2, 3] and result.spent.calls == 0
        assert set(result.statuses) == {"fallback"} and result.notes
    assert Clock.asked == 0
    priced = Metered(Clock(knows=KNOWS), usd_per_million_in=1.0)
    assert order_of(DOCUMENTS, priced, Limits(usd=0.0), strategy=strategy).spent.usd == 0


def test_time_that_ends_between_calls_leaves_what_is_read(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    class Slow(ScriptedModel):
        def complete(self, prompts, **settings):
            now[0] += 10.0
            return super().complete(prompts, **settings)

    texts = [f"document {number}" for number in range(30)]
    judge = Slow(knows={"document 29": 1.0})
    result = order_of(texts, judge, Limits(seconds=5.0), window=10, step=5)
    assert sorted(result.order.tolist()) == list(range(30))
    assert result.spent.calls == 1 and "time was over" in result.notes[0]
    assert result.order.tolist().index(29) == 20  # its window was read, those above were not


def test_a_server_that_is_always_busy_is_named():
    pytest.importorskip("openai")
    from scripted_server import scripted

    _circuits.clear()
    with scripted(
        lambda *_: (429, {"error": {"message": "busy"}}, {"Retry-After": "0.01"})
    ) as server:
        llm = HTTPModel("m", server.url, "", retries=1)
        with pytest.raises(ModelError, match="HTTP 429"):
            order_of(DOCUMENTS, llm, Limits(seconds=30))
        assert len(server.bodies) <= 4


class Garbage(ScriptedModel):
    """Answers with characters, numbers and broken JSON drawn by the prompt."""

    def complete(self, prompts, **settings):
        return [Completion((garbage(prompt),), 9, 9) for prompt in prompts]


def garbage(prompt):
    rng = random.Random(prompt)
    kinds = (
        lambda: "".join(rng.choices(string.printable, k=rng.randrange(80))),
        lambda: str([rng.randrange(-3, 40) for _ in range(rng.randrange(30))]),
        lambda: '{"order": [' + ",".join(str(rng.randrange(99)) for _ in range(5)),
        lambda: '{"grades": {"1": ' + str(rng.random() * 1e9) + ', "x": null}}',
        lambda: rng.choice(list(MALFORMED)) * rng.randrange(4),
        lambda: chr(0x1F600 + rng.randrange(40)) + "\u202e" + "9" * rng.randrange(500),
    )
    return rng.choice(kinds)()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_whatever_is_answered_every_document_comes_back_once(strategy):
    for n in (1, 3, 9):
        texts = [f"document {number}" for number in range(n)]
        for seed in range(4):
            result = order_of(
                texts, Garbage(), request=f"try {seed}", strategy=strategy, group=4, top=3, window=6
            )
            assert sorted(result.order.tolist()) == list(range(n))
            assert np.isfinite(result.scores).all()
            assert np.all(np.diff(result.scores[result.order]) <= 0)
