"""Who answers: decided by the query, learned on validation, never past a filter."""

from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
import pytest
from says import Says

from tailor.core.methods import Recommender, ScoringRecommender
from tailor.core.run import Run
from tailor.core.specs import build, spec
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query, Ranking
from tailor.data.queries import Queries
from tailor.data.splits import last_out
from tailor.errors import DataError, ModelError
from tailor.pipeline.fallback import Fallback
from tailor.pipeline.filter import Filter
from tailor.pipeline.gate import Gate
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.popularity import Popularity
from tailor.testing.data import tiny_data

DATA = Dataset({"events": pl.DataFrame({"user_id": list("uuuvvv"), "item_id": list("abcabd")})})


def asked(n: int, **more) -> Query:
    return Query(history=History(tuple("abcd"[at % 4] for at in range(n))), **more)


def firsts(method: Recommender, *queries: Query) -> str:
    method.fit(DATA)
    batch = method.recommend(list(queries), 1)
    assert [one.ids for one in batch] == [method.recommend([one], 1)[0].ids for one in queries], (
        "the batch changes nothing"
    )
    return "".join(one.ids[0] if len(one) else "-" for one in batch)


def test_by_the_length_of_the_history_and_items_that_nobody_knows_do_not_count():
    gate = Gate([Says("a"), Says("b")], ["history_length < 3"])
    assert (
        firsts(
            gate,
            asked(0),
            asked(2),
            asked(3),
            asked(9),
            Query(history=History.of("a", "no", "such")),
        )
        == "aabba"
    )


def test_by_whether_there_is_a_text():
    gate = Gate([Says("a"), Says("b")], ["text is not missing"])
    assert (
        firsts(gate, Query(text="kettle"), Query(), Query(text="  \n"), asked(3, text="x"))
        == "abba"
    )


def test_the_first_condition_that_holds_decides():
    gate = Gate(
        [Says("a"), Says("b"), Says("c"), Says("d")],
        ["text contains 'tea'", "history_length = 0", "user_id in ('u', 'v')"],
    )
    assert (
        firsts(
            gate,
            Query(text="green TEA"),
            Query("u"),
            asked(1, user_id="v"),
            asked(1, user_id="w"),
            asked(1),
        )
        == "abcdd"
    )


@pytest.mark.parametrize(
    ("condition", "contexts", "answers"),
    [
        (
            "context.surface = 'app'",
            [{"surface": "app"}, {"surface": "web"}, {}, {"surface": 3}, {"surface": None}],
            "abbbb",
        ),
        (
            "context.surface != 'app'",
            [{"surface": "app"}, {"surface": "web"}, {}, {"surface": 3}],
            "babb",
        ),
        (
            "context.hour >= 18",
            [
                {"hour": 18},
                {"hour": 17.5},
                {"hour": "20"},
                {"hour": True},
                {"hour": np.int64(23)},
                {"hour": float("nan")},
            ],
            "abbbab",
        ),
        ("context.beta", [{"beta": True}, {"beta": False}, {"beta": 1}, {}], "abbb"),
        (
            "context.tags has 'new'",
            [{"tags": ["new", 3]}, {"tags": ("x",)}, {"tags": "new"}, {}],
            "abbb",
        ),
        (
            "context.any is missing",
            [{"any": 3}, {"any": "x"}, {"any": [1]}, {"any": None}, {}],
            "bbbaa",
        ),
        ("context.hour is missing or context.hour < 6", [{"hour": 5}, {"hour": 7}, {}], "aba"),
        ("context.least <= history_length", [{"least": 0}, {"least": 1}, {}], "abb"),
        (
            "context.low < context.high",
            [{"low": 1, "high": 2}, {"low": 2, "high": 1}, {"low": 1}],
            "abb",
        ),
        ("context.owner = user_id", [{"owner": "u"}, {}], "bb"),
        ("`context.page kind` = 'home'", [{"page kind": "home"}, {}], "ab"),
    ],
)
def test_by_a_value_of_the_context_and_no_other_query_changes_it(condition, contexts, answers):
    assert (
        firsts(Gate([Says("a"), Says("b")], [condition]), *(Query(context=one) for one in contexts))
        == answers
    )


@pytest.mark.parametrize(
    ("conditions", "error", "says"),
    [
        (["history_lenght < 3"], DataError, 'Did you mean "history_length"'),
        (["history_length < "], DataError, "at its end"),
        (["text = 3"], DataError, "text is a text, 3 is a number"),
        (["context.a = 1 or context.a = 'x'"], DataError, "'x' is a text"),
        ([], ModelError, "2 parts and 0 conditions"),
        (["text is missing"] * 2, ModelError, "2 parts and 2 conditions"),
        ("text", ModelError, "Gate.conditions"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_fitted(conditions, error, says):
    with pytest.raises(error, match=says):
        Gate([Says("a"), Says("b")], conditions)


def test_bad_parts_and_an_empty_grid():
    for bad in (
        {"parts": []},
        {"parts": ["CoVisitation"], "conditions": []},
        {"parts": [Says("a"), Says("b")], "grid": ()},
    ):
        with pytest.raises(ModelError, match="Gate"):
            Gate(**bad)
    assert firsts(Gate([Says("a")], []), asked(1)) == "a"


def test_settings_survive_a_file(tmp_path):
    gate = Gate(
        [Popularity(), CoVisitation(window=3), Popularity()],
        ["history_length < threshold", "context.surface = 'app'"],
        4.0,
        (2.0, 4.0),
    )
    import tomli_w

    (tmp_path / "gate.toml").write_text(tomli_w.dumps(spec(gate)))
    assert spec(build(tmp_path / "gate.toml")) == spec(gate)


# --- the threshold
# -------------------------------------------------------------------------------------------------------------


def short_and_long(seed: int = 0) -> Dataset:
    """People with 3 to 10 events: those with fewer than 7 end on the popular item, the others on
    what always follows.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(200):
        n = int(rng.integers(3, 11))
        start = int(rng.integers(20))
        walk = [f"w{(start + step) % 20}" for step in range(n)]
        if n < 7:
            walk[-2:] = ["popular", "popular"] if user % 2 else [walk[-2], "popular"]
        rows += [(f"u{user}", item, user * 100 + at) for at, item in enumerate(walk)]
    return Dataset(
        {"events": pl.DataFrame(rows, schema=["user_id", "item_id", "time_ms"], orient="row")}
    )


@pytest.mark.parametrize("on", ["validation", "inner"])
def test_the_best_threshold_is_found_and_reported(on):
    split = last_out(short_and_long())
    gate = Gate([Popularity(), CoVisitation()], grid=(1, 3, 5, 7, 9), exclude_history=False)
    gate.fit(split.train, Run(), split if on == "validation" else None)
    report = gate.fit_report_
    assert report["learned_on"].startswith("validation" if on == "validation" else "an inner cut")
    tried = report["validation_ndcg@10"]
    assert set(tried) == {"1", "3", "5", "7", "9"} and tried[f"{gate.threshold_:g}"] == max(
        tried.values()
    )
    if on == "validation":  # by hand: a gate that is told the threshold, measured by itself
        queries, targets = split.queries("valid")
        for threshold, quality in tried.items():
            told = Gate([Popularity(), CoVisitation()], threshold=float(threshold)).fit(split.train)
            gains = []
            for query, ranking, at in zip(
                queries, told.recommend(queries, 10), range(len(queries)), strict=True
            ):
                ids = list(ranking.ids)
                target = queries.catalogue.ids[targets[at][0]]
                gains.append(1 / np.log2(2 + ids.index(target)) if target in ids else 0.0)
                assert query.user_id
            assert quality == pytest.approx(np.mean(gains), abs=1e-5)


def test_a_given_threshold_is_taken_and_nothing_to_learn_from_is_no_failure():
    assert firsts(Gate([Says("a"), Says("b")], threshold=2.0), asked(1), asked(2)) == "ab"
    few = Dataset({"events": pl.DataFrame({"user_id": ["u", "v"], "item_id": ["a", "b"]})})
    gate = Gate([Says("a"), Says("b")], grid=(4, 2)).fit(few)
    assert gate.threshold_ == 2 and "nobody has" in gate.fit_report_["threshold"]
    without = Gate([Says("a"), Says("b")], ["text is missing"]).fit(few)
    assert np.isnan(without.threshold_) and "threshold" not in without.fit_report_


# --- composing
# -----------------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Failing(Filter):
    def restrict(self, queries: Queries) -> Queries:
        raise OSError("the rule service does not answer")


@pytest.mark.parametrize("place", [0, 1])
def test_a_filter_in_any_part_binds_all(place):
    parts: list[Recommender] = [Says("abcd"), Says("bacd")]
    parts[place] = Filter(parts[place], blocked=["a", "b"])
    gate = Gate(parts, ["history_length < 3"]).fit(DATA)
    for method in (gate, Fallback([gate, Says("dcba")]).fit(DATA)):
        assert all(set(one.ids) == {"c", "d"} for one in method.recommend([asked(0), asked(4)], 10))
    parts[place] = Failing(Says("abcd"), blocked=["a"])
    failed = Gate(parts, ["history_length < 3"]).fit(DATA).recommend([asked(0), asked(4)], 10)
    assert all(not len(one) and "does not answer" in one.notes[0] for one in failed)


def test_candidates_exclusions_columns_and_notes_stay_with_their_query():
    gate = Gate([Says("abc"), Fallback([Says("d"), Says("ba")])], ["history_length < 2"]).fit(DATA)
    queries = [asked(0), asked(3, exclude=("b",)), asked(1, exclude=("a",)), asked(2)]
    lists = gate.recommend(queries, 3)
    assert ["".join(one.ids) for one in lists] == ["abc", "da", "bc", "dba"]
    assert "stage" in lists[3].columns and np.isnan(lists[0].columns["stage"]).all()
    assert lists[2].notes and not lists[0].notes
    only = [Ranking(("b", "a"), np.array([2, 1], np.float32))] * 4
    assert ["".join(one.ids) for one in gate.recommend(queries, 3, only)] == ["ab", "a", "b", "ba"]
    assert len(gate.recommend([], 3)) == 0


def test_explanations_are_those_of_the_part_that_answers():
    data = tiny_data()
    gate = Gate(
        [Popularity(), CoVisitation(), Says("thing-001")], ["history_length < 3", "text is missing"]
    ).fit(data)
    gate.parts_[2] = Popularityless().fit(data)
    history = data.queries()[0].history
    queries = [Query(history=history), Query(), replace(Query(history=history), text="tea")]
    lists = gate.recommend(queries, 3)
    kinds = [
        {evidence.kind for one in reasons for evidence in one.evidence}
        for reasons in gate.explain(queries, lists)
    ]
    assert kinds == [{"item"}, {"popularity"}, {"part"}]
    assert gate.explain([], []) == []


@dataclass(eq=False)
class Popularityless(ScoringRecommender):
    seen: list = field(default_factory=list)

    def _fit(self, data, run, valid):
        self.items_ = data.catalogue

    def _scores(self, queries):
        return np.ones((len(queries), len(self.items_)), np.float32)


def test_queries_of_a_data_set_say_what_the_users_table_knows():
    users = pl.DataFrame({"user_id": ["u", "v"], "country": ["DE", "FR"]})
    gate = Gate([Says("a"), Says("b")], ["context.country = 'DE'"]).fit(DATA)
    asked = Dataset({"events": DATA.events, "users": users}).queries()
    assert [one.ids for one in gate.recommend(asked, 1)] == [("a",), ("b",)]
    assert [gate.recommend([one], 1)[0].ids for one in asked] == [("a",), ("b",)]


def test_a_time_not_given_is_missing_beside_queries_that_give_one():
    assert (
        firsts(
            Gate([Says("a"), Says("b")], ["time_ms < 100"]),
            asked(1),
            asked(1, time_ms=5),
            asked(1, time_ms=500),
        )
        == "bab"
    )
    assert (
        firsts(Gate([Says("a"), Says("b")], ["time_ms is missing"]), asked(1), asked(1, time_ms=5))
        == "ab"
    )
