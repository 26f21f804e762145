"""Prism-Reranker: yes first; contribution and evidence after it, and nothing in them made up."""

import json

import numpy as np
import polars as pl
import pytest

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.errors import ModelError
from tailor.llm.scripted import ScriptedModel
from tailor.papers.reranking.prism_reranker import PrismReranker
from tailor.reranking.evidence import contribution, describe
from tailor.reranking.llm_reranker import LLMReranker
from tailor.reranking.reranker import NO_LIMITS
from tailor.reranking.shortlist import Limits, Shortlist
from tailor.text.hashing import HashingEncoder
from tailor.text.passages import Span

ENCODER = HashingEncoder(64)
RUN = Run(workers=1)
FILLER = [f"Filler sentence number {word} goes on about weather." for word in "abcdefghi"]
FACT = "The copper kettle was sold for 41.50 euros in Delft."
DOCUMENT = " ".join([*FILLER[:6], FACT, *FILLER[6:]])
TEXTS = (DOCUMENT, "A tent. It has poles.", " ".join(FILLER))
REQUEST = "price of the copper kettle"


class Writing(ScriptedModel):
    """Says yes to the kettle, and writes the words of `WORDS`; keeps what it was asked."""

    asked: list = []
    told = {"answer": "yes", "contribution": "names the price", "evidence": FACT}

    def complete(self, prompts, **settings):
        Writing.asked.extend(prompts)
        return super().complete(prompts, **settings)

    def _answer(self, prompt, seed, grammar=None):
        return json.dumps(self.told)


@pytest.fixture(autouse=True)
def nothing_asked():
    Writing.asked.clear()


def reranked(texts=TEXTS, request=REQUEST, limits=NO_LIMITS, **settings):
    method = PrismReranker(**{"encoder": ENCODER} | settings)
    return method.rerank([Shortlist.of_texts(request, texts)], limits, trace=True)[0]


def test_evidence_is_cut_out_word_for_word_and_keeps_to_its_share():
    result = reranked()
    assert result.order[0] == 0
    evidence = result.details[0]["evidence"]
    assert FACT in " ".join(passage["text"] for passage in evidence)
    for passage in evidence:
        assert DOCUMENT[passage["start"] : passage["end"]] == passage["text"]
    words = sum(len(passage["text"].split()) for passage in evidence)
    assert words <= 0.3 * len(DOCUMENT.split())
    assert result.details[0]["contribution"] == "Names copper, kettle; does not name price."


def test_a_document_without_a_yes_gets_a_probability_and_no_words():
    result = reranked()
    assert result.details[2]["probability"] < 0.5 and "evidence" not in result.details[2]
    assert "evidence" not in reranked(threshold=1.0).details[0]
    assert all("evidence" not in of_doc for of_doc in reranked(described=0).details.values())


def test_a_model_is_asked_for_words_after_a_yes_only():
    result = reranked(llm=Writing(knows={"kettle": 1.0, REQUEST: 0.0, FACT: 1.0}), request="price")
    assert len(Writing.asked) == 1 and FACT in Writing.asked[0]
    assert result.spent.calls == 4  # three verdicts by log-probabilities, one pair of words
    assert result.details[0]["contribution"] == "names the price"
    (passage,) = result.details[0]["evidence"]
    assert DOCUMENT[passage["start"] : passage["end"]] == FACT
    assert "evidence" not in result.details[1]


def test_numbers_and_names_that_the_document_lacks_are_refused_and_named():
    spans = [Span(0, 10)]
    lie = {"contribution": "price in Ghent", "evidence": "It was sold for 41.5 euros in Delft."}
    told = describe(REQUEST, DOCUMENT, spans, lie)
    assert told["unsupported"] == ["Ghent", "41.5"]
    assert told["evidence"] == [{"text": DOCUMENT[:10], "start": 0, "end": 10}]
    assert told["contribution"].startswith("Names none")
    rewritten = describe(REQUEST, DOCUMENT, spans, {"evidence": "Delft: sold for 41.50 euros"})
    assert rewritten["evidence"][0] == {
        "text": "Delft: sold for 41.50 euros",
        "start": None,
        "end": None,
    }
    capital = describe(REQUEST, DOCUMENT, spans, {"contribution": "States the price in Delft."})
    assert capital["contribution"] == "States the price in Delft." and "unsupported" not in capital
    longer = describe(REQUEST, "sold", [Span(0, 4)], {"evidence": "it was sold and sold again"})
    assert longer["evidence"][0]["text"] == "sold"


def test_a_model_without_log_probabilities_says_yes_and_words_at_once():
    class Plain(Writing):
        def capabilities(self):
            return frozenset({"schema"})

    result = reranked(llm=Plain())
    assert len(Writing.asked) == 3 and result.details[0]["evidence"][0]["text"] == FACT
    assert result.details[1]["unsupported"] == ["41.50", "Delft"]


def test_limits_cover_both_rounds_of_questions():
    llm = Writing(knows={FACT: 1.0})
    few = reranked(llm=llm, request="price", limits=Limits(calls=3))
    assert few.spent.calls == 3 and not Writing.asked
    assert few.details[0]["evidence"]  # cut out instead


def judged():
    """Return 30 requests over 120 documents; the relevant ones share the request's word."""
    rng = np.random.default_rng(3)
    texts = [f"topic{number % 30} " + "filler " * int(rng.integers(1, 9)) for number in range(120)]
    ids = [f"d{number}" for number in range(120)]
    requests = [{"request_id": f"q{n}", "text": f"topic{n} filler"} for n in range(30)]
    pairs = [(f"q{n}", ids[n + 30 * (n % 4)]) for n in range(30)]
    judgements = [{"query_id": q, "item_id": item, "grade": 1} for q, item in pairs]
    events = pl.DataFrame({"user_id": ["u"], "item_id": ids[:1]})
    items = pl.DataFrame({"item_id": ids, "text": texts})
    tables = {"events": events, "items": items}
    tables |= {"requests": pl.DataFrame(requests), "judgements": pl.DataFrame(judgements)}
    return Dataset(tables)


def test_the_scorer_learns_from_judgements_or_from_a_teacher_s_probabilities():
    data = judged()
    method = PrismReranker(encoder=ENCODER, depth=12).fit(data, RUN)
    assert method.fit_report_["lists"] > 20 and method.weights_[7] < 0  # most are not relevant
    likes_short = LLMReranker(
        llm=ScriptedModel(knows={"filler filler filler filler": -1.0, "topic": 0.9}),
        strategy="yes-no",
        reads="log-probs",
    )
    taught = PrismReranker(encoder=ENCODER, depth=12, teacher=likes_short).fit(data, RUN)
    assert not np.allclose(taught.weights_, method.weights_)
    assert taught.weights_[7] > method.weights_[7]  # its teacher says yes more often
    shortlist = Shortlist.of_texts("topic3 filler", ["topic3 filler", "topic4 filler"])
    scores = [of_weights.rerank([shortlist])[0].scores for of_weights in (method, taught)]
    assert not np.allclose(*scores)  # what is learned is what scores
    with pytest.raises(ModelError, match="probabilities"):
        PrismReranker(encoder=ENCODER, teacher=LLMReranker(llm=ScriptedModel())).fit(data, RUN)


def test_contributions_name_what_is_there_and_what_is_not():
    assert contribution("blue kettles", "a kettle") == "Names kettles; does not name blue."
    assert "near in meaning" in contribution("blue", "a kettle")
    # one sentence is too long to be cut, and its words are told of all the same
    short = reranked(texts=(FACT,), threshold=0.0).details[0]
    assert short["evidence"] == []
    assert short["contribution"] == "Names copper, kettle; does not name price."


def test_wrong_settings_are_named():
    for settings in ({"threshold": 2}, {"share": 0}, {"described": -1}, {"sentences": 0}):
        with pytest.raises(ModelError, match=next(iter(settings))):
            PrismReranker(**settings)
