"""Sy-SE-PQA: a map learned from written answers, fused with first stage and tags."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from tailor.core.run import Run
from tailor.core.saving import load
from tailor.data.dataset import Dataset
from tailor.data.nouns import Query, Ranking, same
from tailor.errors import DataError, ModelError
from tailor.papers.reranking.sy_se_pqa import (
    Answered,
    SySePQA,
    _gains,
    asker_tags,
    held_requests,
    list_reciprocal_rank,
    tag_overlap,
    weight_grid,
)
from tailor.reranking.shortlist import Shortlist
from tailor.reranking.synthetic_answers import questions_of, with_answers, write_answers
from tailor.text.hashing import HashingEncoder
from tailor.worlds.community import community

ENCODER = HashingEncoder(128)
RUN = Run(workers=1)
WORLD = community(questions=120, circles=4, seed=1)
TRAIN = WORLD.within([0, 1, 2])


def method(data=TRAIN, **settings):
    fresh = SySePQA(
        **{"encoder": ENCODER, "depth": 30, "epochs": 3, "batch": 32, "lr": 3e-3} | settings
    )
    return fresh.fit(data, RUN)


def ranks(fitted, texts, question="gears", **shortlist):
    listed = replace(Shortlist.of_texts(question, texts), prior=np.zeros(len(texts)), **shortlist)
    return fitted.rerank([listed])[0].order.tolist()


def cured(count=60, wrong=False):
    """Questions about one of two parts, whose cures share no word with them; written answers.

    Where the answers are wrong, each question names its cure in the plural, which a first stage by
    words does not see.
    """
    cures = {"gears": "cable", "pump": "valve"}
    written_cures = {"gears": "valve", "pump": "cable"} if wrong else cures
    parts = [list(cures)[number % 2] for number in range(count)]
    hints = [f"{cures[part]}s" if wrong else "" for part in parts]
    keys = [f"q{number}" for number in range(count)]
    requests = {
        "request_id": keys,
        "user_id": [f"asker{number}" for number in range(count)],
        "text": [f"my {part} fail {hint} {key}" for part, hint, key in zip(parts, hints, keys)],
    }
    items = {"item_id": list(cures.values()), "text": [f"my {cure}" for cure in cures.values()]}
    judgements = {
        "query_id": keys,
        "item_id": [cures[part] for part in parts],
        "grade": [1.0] * count,
    }
    written = {
        "text_id": keys,
        "user_id": ["model"] * count,
        "kind": ["synthetic answer"] * count,
        "text": [f"replace that {written_cures[part]} {key}" for part, key in zip(parts, keys)],
        "request_id": keys,
    }
    tables = {"requests": requests, "items": items, "judgements": judgements}
    data = Dataset({name: pl.DataFrame(columns) for name, columns in tables.items()})
    return with_answers(data, pl.DataFrame(written))


def test_the_map_learns_from_written_answers_what_no_word_tells():
    texts = ["mend your valve", "mend your cable"]
    untaught = method(cured(), learns_from="nothing")
    assert untaught.fit_report_["pairs"] == 0
    fitted = method(cured(), epochs=30, lr=3e-3, batch=32)
    assert fitted.fit_report_["synthetic"] == 60 and fitted.fit_report_["pairs"] < 60
    fitted.weights_ = np.array([0.0, 1.0, 0.0])
    assert ranks(fitted, texts, "the gears") == [1, 0]
    assert ranks(fitted, texts[::-1], "the gears") == [0, 1]
    assert ranks(fitted, texts, "the pump") == [0, 1]


def test_a_map_that_makes_lists_worse_is_dropped():
    fitted = method(cured(wrong=True), epochs=30, lr=3e-3, batch=32)
    assert fitted.fit_report_["epochs"] == 0 and "worse than none" in fitted.fit_report_["stopped"]
    untaught = method(cured(wrong=True), learns_from="nothing")
    assert fitted.fit_report_["MRR"] == untaught.fit_report_["MRR"] == 1
    shortlist = Shortlist.of_texts("my gears fail", ["mend your valve", "mend your cable"])
    assert same(fitted.rerank([shortlist])[0].scores, untaught.rerank([shortlist])[0].scores)


def test_human_answers_are_learned_from_where_they_are_asked_for():
    fitted = method(cured(), learns_from="human", epochs=30, lr=3e-3, batch=32)
    assert "synthetic" not in fitted.fit_report_ and fitted.fit_report_["human"] > 0
    fitted.weights_ = np.array([0.0, 1.0, 0.0])
    assert ranks(fitted, ["mend your valve", "mend your cable"]) == [1, 0]
    both = method(cured(), learns_from="both").fit_report_
    assert both["pairs"] == 2 * both["human"]


def test_a_model_writes_where_the_data_has_no_answers():
    fitted = method(llm=WORLD.writer(), styles=("basic",), most_written=10)
    assert fitted.fit_report_["synthetic"] == fitted.fit_report_["pairs"] == 10
    answers = write_answers(WORLD.writer(), questions_of(TRAIN)[:7]).answers
    assert method(with_answers(TRAIN, answers), llm=WORLD.writer()).fit_report_["synthetic"] == 21
    silent = method().fit_report_
    assert silent["synthetic"] == 0 and "stopped" in silent


def test_another_answer_to_the_question_or_in_the_same_words_is_no_negative():
    pairs = [
        Answered("q1", "how", "so"),
        Answered("q1", "how", "thus"),
        Answered("q2", "why", "so"),
        Answered("q3", "how", "never"),
        Answered("q4", "when", "now"),
    ]
    gains = _gains(pairs).numpy()
    assert (np.diag(gains) == 1).all()
    assert np.isnan(gains[0]).tolist() == [False, True, True, True, False]
    assert gains[4, :4].tolist() == [0, 0, 0, 0]


# ---- tags and weights


def test_tags_order_what_words_do_not():
    fitted = method()
    fitted.weights_ = np.array([0.4, 0.2, 0.4])
    tags = (("speed",), ("thrift", "thrift", "speed"), ())
    query = Query(text="gears", context={"tags": ["thrift"]})
    assert ranks(fitted, ["same"] * 3, query=query, tags=tags) == [1, 0, 2]
    assert ranks(fitted, ["same"] * 3, tags=tags) == [0, 1, 2]
    with pytest.raises(DataError, match="3 documents with 2 tags"):
        ranks(fitted, ["same"] * 3, tags=tags[:2])


def test_overlap_of_tags_is_the_cosine_of_their_counts():
    overlap = tag_overlap(("a", "a", "b"), [("a",), ("b", "b"), ("c",), ()])
    assert overlap == pytest.approx([2 / 5**0.5, 1 / 5**0.5, 0, 0])
    assert asker_tags(Query(context={"tags": "a, b ,"})) == ("a", "b")
    assert asker_tags(Query()) == asker_tags(Query(context={"tags": None})) == ()


def test_candidates_of_the_catalogue_bring_their_authors_tags():
    fitted = method()
    item = TRAIN.item_table.row(0, named=True)
    tags = dict(TRAIN.tables["users"].select("user_id", "tags").iter_rows())
    query = Query(text="gears", context={"tags": tags[item["author"]]})
    ids = (item["item_id"], *TRAIN.catalogue.ids[1:6])
    lists = fitted.recommend([query], 6, [Ranking(ids, np.zeros(6))])
    details = lists[0].details
    assert details[item["item_id"]]["tags"] == max(of["tags"] for of in details.values())
    assert set(details[item["item_id"]]) >= {"first stage", "dense", "tags"}


def test_weights_are_those_of_the_best_reciprocal_rank_and_even_without_a_reason():
    fitted = method()
    gains = np.array([0.0, 1.0, 0.0])
    terms = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    weights, value = fitted._best_weights([(terms, gains)])
    assert value == 1 and weights.argmax() == 1 and weights.sum() == pytest.approx(1)
    same_terms = np.zeros((3, 3))
    even, _ = fitted._best_weights([(same_terms, gains)])
    assert np.abs(even - 1 / 3).max() < 0.1
    assert fitted._best_weights([(terms, np.zeros(3))])[1] is None
    assert len(list(weight_grid())) == 66
    assert list_reciprocal_rank(np.array([1.0, 3.0, 2.0]), np.array([1.0, 0.0, 0.0])) == 1 / 3


def test_weights_are_chosen_on_askers_who_are_not_learned_from():
    held = held_requests(TRAIN, 0.3, np.random.default_rng(0))
    askers = dict(TRAIN.tables["requests"].select("request_id", "user_id").iter_rows())
    others = {askers[key] for key in askers if key not in held}
    assert held and others and not others & {askers[key] for key in held}
    fitted = method(learns_from="human")
    assert fitted.fit_report_["pairs"] + fitted.fit_report_["held out"] == len(askers)
    assert fitted.weights_.tolist() == list(fitted.fit_report_["weights"].values())
    assert fitted.weights_.max() > 0.4  # of equal weights a third each


# ---- as a reranker


def test_it_orders_texts_before_any_fit_and_is_saved_whole(tmp_path):
    assert SySePQA(encoder=ENCODER).rerank([Shortlist.of_texts("pump", ["a", "pump"])])
    fitted = method(cured())
    loaded = load(fitted.save(tmp_path / "model"))
    query = [Query(text="my gears fail")]
    lists = [Ranking(("cable", "valve"), np.ones(2))]
    assert same(loaded.recommend(query, 2, lists), fitted.recommend(query, 2, lists))


def test_settings_out_of_range_are_refused():
    for setting in ({"epochs": 0}, {"held_out": 1.0}, {"margin": 0.0}, {"most_written": 0}):
        with pytest.raises(ModelError, match="between 0 and 1"):
            SySePQA(**setting)
    with pytest.raises(DataError, match="rude"):
        SySePQA(styles=("rude",))
