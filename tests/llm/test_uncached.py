"""A cap of the user's holds over every call, and people's words pass the cache."""

import pytest

from tailor.errors import ModelError
from tailor.llm.cached import Cached
from tailor.llm.metered import Metered, without_cache
from tailor.llm.scripted import ScriptedModel
from tailor.reranking.llm_reranker import LLMReranker, metered
from tailor.reranking.shortlist import Limits, Shortlist

LISTS = [Shortlist.of_texts(f"request {n}", ["a tent", "a lamp"]) for n in range(4)]


def test_a_cap_of_the_users_own_holds_over_all_calls():
    capped = Metered(ScriptedModel(), max_calls=3)
    reranker = LLMReranker(llm=capped, strategy="grade")
    results = [reranker.rerank([shortlist])[0] for shortlist in LISTS]
    assert capped.spent.calls == 3
    statuses = [status for result in results for status in result.statuses]
    assert statuses.count("fallback") == 5
    # and a limit of one call of `rerank` holds beside it
    other = LLMReranker(llm=Metered(ScriptedModel(), max_calls=100), strategy="grade")
    assert other.rerank(LISTS[:1], Limits(calls=1))[0].spent.calls == 1


@pytest.mark.parametrize("reads", ["reply", "log-probs"])
def test_a_cap_inside_refuses_and_does_not_break(reads):
    capped = Metered(ScriptedModel(), max_calls=1)
    reranker = LLMReranker(llm=capped, strategy="yes-no", reads=reads)
    for shortlist in LISTS:
        assert sorted(reranker.rerank([shortlist])[0].order.tolist()) == [0, 1]
    assert capped.spent.calls <= 1 and capped.spent.refused > 0


def test_money_of_the_users_own_is_counted_once():
    capped = Metered(ScriptedModel(), 1.0, 1.0, max_usd=1e-9)
    result = LLMReranker(llm=capped, strategy="grade").rerank(LISTS[:1])[0]
    assert result.spent.calls == 0 and capped.spent.refused > 0
    with pytest.raises(ModelError, match="prices"):
        metered(ScriptedModel(), Limits(usd=1.0))


def test_without_a_cache_counts_go_on(tmp_path):
    cached = Cached(ScriptedModel(), str(tmp_path))
    capped = Metered(cached, max_calls=2)
    uncached = without_cache(capped)
    uncached.complete(["a", "b", "c"])
    assert capped.spent.calls == 2 and capped.spent.refused == 1
    assert not list(tmp_path.iterdir())
    assert without_cache(Cached(capped, str(tmp_path))).spent is capped.spent
    assert without_cache(ScriptedModel()) == ScriptedModel()
