"""Lists from elsewhere and candidates: the same figures as the method that made them, and every bad
file refused with its place.
"""

import numpy as np
import polars as pl
import pytest

from tailor.data.dataset import Dataset
from tailor.data.splits import TEST, TRAIN, by_time, cold_start, last_out, new_items
from tailor.errors import DataError, ModelError
from tailor.evaluation.protocol import compare, evaluate, join_reports
from tailor.evaluation.runs import Candidates, ExternalRun, candidates_of, only_new_items, sampled
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.popularity import Popularity
from tailor.retrieval.text_neighbours import TextNeighbours
from tailor.testing.data import tiny_data

DATA = tiny_data(users=80, items=40, events=9)
SPLIT = last_out(DATA)


def as_table(method, split) -> pl.DataFrame:
    """What a method recommends with seen items kept, as a file of another program would hold it."""
    queries, _ = split.queries("test")
    rows = [
        (user, item, float(score))
        for user, one in zip(queries.user_ids, method.recommend(queries, 40), strict=True)
        for item, score in zip(one.ids, one.scores, strict=True)
    ]
    return pl.DataFrame(rows, schema=["user_id", "item_id", "score"], orient="row").sample(
        fraction=1, shuffle=True, seed=0
    )


@pytest.mark.parametrize(("ending", "mark"), [(".csv", ","), (".tsv", "\t")])
def test_ids_of_digits_stay_the_strings_they_are(tmp_path, ending, mark):
    file = tmp_path / f"lists{ending}"
    file.write_text(
        "\n".join(
            mark.join(row)
            for row in (
                ("user_id", "item_id", "score"),
                ("01", "007", "2"),
                ("01", "1.0", "1"),
                ("1", "7", "0.5"),
            )
        )
    )
    assert ExternalRun.read(file).table.rows() == [
        ("01", "007", 2.0),
        ("01", "1.0", 1.0),
        ("1", "7", 0.5),
    ]


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet", ".run"])
def test_lists_from_a_file_get_the_figures_of_the_method_that_made_them(tmp_path, ending):
    method = CoVisitation().fit(SPLIT.train)
    table, path = as_table(method, SPLIT), tmp_path / f"lists{ending}"
    if ending == ".run":
        path.write_text(
            "".join(f"{user} Q0 {item} 1 {score!r} x\n" for user, item, score in table.iter_rows()),
            encoding="utf-8",
        )
    else:
        {
            ".csv": table.write_csv,
            ".tsv": lambda to: table.write_csv(to, separator="\t"),
            ".jsonl": table.write_ndjson,
            ".parquet": table.write_parquet,
        }[ending](path)
    report = evaluate(
        {"method": method, "lists": ExternalRun.read(path)}, SPLIT, metrics=("HR", "NDCG", "MAP")
    )
    for seen in ("removed", "kept"):
        for metric in report.metrics:
            assert np.array_equal(
                report.results["method", seen].per_user[metric],
                report.results["lists", seen].per_user[metric],
            ), (
                seen,
                metric,
            )
    assert report.results["lists", "kept"].trained_on == "unknown" and all(
        one.difference == 0 for one in compare(report, "method")
    )


def test_tied_scores_are_ordered_by_a_hash_and_not_by_the_file():
    users = SPLIT.queries("test")[0].user_ids.tolist()
    ties = pl.DataFrame(
        {
            "user_id": [u for u in users for _ in range(3)],
            "item_id": ["thing-001", "thing-002", "thing-003"] * len(users),
            "score": 1.0,
        }
    )
    one, two = (
        evaluate({"x": ExternalRun(table)}, SPLIT, k=(1,)) for table in (ties, ties.reverse())
    )
    assert np.array_equal(
        one.results["x", "kept"].per_user["HR@1"], two.results["x", "kept"].per_user["HR@1"]
    )


def test_users_without_a_list_are_misses_and_unknown_items_are_too():
    users, (_, targets) = SPLIT.queries("test")[0].user_ids, SPLIT.queries("test")
    wanted = DATA.catalogue.named(targets.values)
    lists = {user: ["no such item", wanted[at]] for at, user in enumerate(users) if at % 2}
    report = evaluate({"x": ExternalRun.of(lists)}, SPLIT, k=(2,), seen=("kept",))
    assert (
        report.mean("x", "HR@2", "kept") == 0.5
        and report.results["x", "kept"].lists["empty"] == 0.5
    )
    # an item that the split does not know keeps its place: what follows it must not be judged as if
    # it had been shown higher
    first = evaluate({"x": ExternalRun.of(lists)}, SPLIT, k=(1, 2), metrics=("HR", "MRR"))
    assert first.mean("x", "HR@1", "kept") == 0 and first.mean("x", "MRR@2", "kept") == 0.25
    with pytest.raises(DataError, match="none of the users and items"):
        evaluate({"x": ExternalRun.of({users[0]: ["no such item"]})}, SPLIT)


def test_seen_items_leave_their_place_to_what_follows_also_behind_unknown_ones():
    queries, targets = SPLIT.queries("test")
    seen, wanted = (
        DATA.catalogue.named(queries.histories[3][:1])[0],
        DATA.catalogue.named(targets[3])[0],
    )
    report = evaluate(
        {"x": ExternalRun.of({queries.user_ids[3]: ["no such item", seen, wanted]})},
        SPLIT,
        k=(3,),
        metrics=("MRR",),
    )
    assert (
        report.results["x", "removed"].per_user["MRR@3"][3] == 1 / 2
        and report.results["x", "kept"].per_user["MRR@3"][3] == 1 / 3
    )


BAD = [
    ({"user_id": [], "item_id": [], "score": []}, "are empty"),
    ({"user_id": ["u"], "item": ["i"], "score": [1.0]}, 'item_id is missing. Did you mean "item"'),
    (
        {"user_id": ["u", "u"], "item_id": ["a", "b"], "score": [1.0, float("nan")]},
        "no finite score, the first",
    ),
    ({"user_id": ["u", "u"], "item_id": ["a", "b"], "score": [1.0, float("inf")]}, "inf"),
    (
        {"user_id": ["u"], "item_id": ["a"], "score": ["high"]},
        "1 rows have no user, no item or no finite score",
    ),
    ({"user_id": ["u", None], "item_id": ["a", "b"], "score": [1.0, 1.0]}, "1 rows have no user"),
    (
        {"user_id": ["u", "u"], "item_id": ["a", "a"], "score": [1.0, 2.0]},
        "a list holds an item once",
    ),
]


@pytest.mark.parametrize(("columns", "says"), BAD)
def test_bad_lists_are_refused(columns, says):
    with pytest.raises(DataError, match=says.replace(".", r"\.")):
        ExternalRun(pl.DataFrame(columns))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("lists.csv", "", "cannot be read as lists"),
        ("lists.csv", "user_id,item_id\na,b\n", "score is missing"),
        ("lists.xlsx", "x", "are read from"),
        ("lists.run", "u Q0 i 1\n", "cannot be read as lists"),
        ("lists.jsonl", "{", "cannot be read as lists"),
    ],
)
def test_bad_files_are_named(tmp_path, name, content, says):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=says) as error:
        ExternalRun.read(tmp_path / name)
    assert str(error.value).count(str(tmp_path / name)) == 1
    with pytest.raises(DataError, match="is no file"):
        ExternalRun.read(tmp_path / "absent.csv")


def test_lists_of_other_users_are_no_misses():
    with pytest.raises(DataError, match='begin with user "stranger"'):
        evaluate({"x": ExternalRun.of({"stranger": ["thing-001"]})}, SPLIT)


# --- candidates
# ----------------------------------------------------------------------------------------------------------------


def test_one_target_among_random_negatives_is_hit_as_often_as_chance_says():
    """A scorer of no worth among 19 negatives: one in twenty first, half in the first ten."""
    few = sampled(SPLIT, negatives=19)
    report = evaluate({"x": Popularity().fit(SPLIT.train)}, SPLIT, k=(20,), candidates=few)
    assert (
        (few.rows.lengths == 20).all()
        and report.mean("x", "HR@20", "kept") == 1
        and report.reachable == 1
    )
    queries, targets = SPLIT.queries("test")
    for at in range(len(few.user_ids)):
        assert targets[at][0] in few.rows[at] and not set(few.rows[at].tolist()) & set(
            queries.histories[at].tolist()
        ) - set(targets[at].tolist())
    place = [np.flatnonzero(few.rows[at] == targets[at][0])[0] for at in range(80)]
    assert np.mean(place) == pytest.approx(9.5, abs=2.5), (
        "the order of the candidates must not tell the target"
    )


def test_popular_negatives_are_harder():
    method = Popularity().fit(SPLIT.train)
    easy, hard = (
        evaluate(
            {"x": method},
            SPLIT,
            k=(5,),
            candidates=sampled(SPLIT, negatives=15, by=by),
            seen=("kept",),
        )
        for by in ("uniform", "popularity")
    )
    assert hard.mean("x", "NDCG@5", "kept") < easy.mean("x", "NDCG@5", "kept")
    assert (
        hard.ranked == "15 negatives drawn by popularity"
        and easy.to_dict()["ranked"] == "15 negatives drawn by uniform"
    )


def test_sampled_figures_are_never_put_beside_full_ranking():
    method = CoVisitation().fit(SPLIT.train)
    full, few = (
        evaluate({"a": method}, SPLIT),
        evaluate({"b": method}, SPLIT, candidates=sampled(SPLIT, negatives=9)),
    )
    with pytest.raises(
        DataError,
        match=r"different candidates \(the whole catalogue and 9 negatives drawn by uniform\)",
    ):
        join_reports([full, few])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"by": "chance"}, "chance"),
        ({"negatives": 40}, "negatives=40"),
        ({"negatives": 0}, "at least 1"),
    ],
)
def test_a_mistake_in_sampling_is_quoted(settings, says):
    with pytest.raises(DataError, match=says):
        sampled(SPLIT, **settings)


def test_candidates_by_file_and_by_table():
    queries, targets = SPLIT.queries("test")
    ids = [
        list(dict.fromkeys(DATA.catalogue.named([*targets[at], *range(4)][0 if at % 4 else 1 :])))
        for at in range(80)
    ]
    rows = [
        (user, item) for user, items in zip(queries.user_ids, ids, strict=True) for item in items
    ]
    table = pl.DataFrame(rows, schema=["query_id", "item_id"], orient="row").with_columns(rank=1)
    by_table = candidates_of(Dataset({**DATA.tables, "candidates": table}), SPLIT)
    by_file = candidates_of(ExternalRun.of(dict(zip(queries.user_ids, ids, strict=True))), SPLIT)
    assert np.array_equal(by_table.rows.values, by_file.rows.values)
    method = Popularity().fit(SPLIT.train)
    report = evaluate({"x": method}, SPLIT, k=(5,), candidates=by_table, seen=("kept",))
    assert report.mean("x", "HR@5", "kept") == report.reachable and 0.7 < report.reachable < 0.9
    with pytest.raises(DataError, match="1 of 80 users have no candidates"):
        evaluate(
            {"x": method},
            SPLIT,
            candidates=candidates_of(
                ExternalRun.of(dict(list(zip(queries.user_ids, ids, strict=True))[:-1])), SPLIT
            ),
        )
    with pytest.raises(DataError, match="no table of candidates"):
        candidates_of(DATA, SPLIT)
    with pytest.raises(DataError, match="cannot be restricted"):
        evaluate(
            {"x": ExternalRun.of({queries.user_ids[0]: ["thing-001"]})}, SPLIT, candidates=by_table
        )


# --- what is new
# -----------------------------------------------------------------------------------------------------------------


def test_items_held_back_are_found_by_their_words_alone():
    split = new_items(DATA, 0.2, 0.3)
    tests = split.data.events.filter(pl.Series(split.part == TEST))["item_id"]
    assert len(tests) and not set(tests) & set(split.train.events["item_id"])
    only = only_new_items(split)
    assert set(tests) <= set(DATA.catalogue.named(only.rows[0]))
    report = evaluate(
        {"words": TextNeighbours().fit(split.train), "visits": CoVisitation().fit(split.train)},
        split,
        k=(5,),
        candidates=only,
    )
    assert (
        report.mean("visits", "HR@5") == 0 < report.mean("words", "HR@5")
        and list(report.strata)[-1] == "target new"
    )
    with pytest.raises(DataError, match="no item without a training event"):
        only_new_items(everything_learned())


def everything_learned():
    """A split in which every item was learned from."""
    events = {
        "user_id": [f"u{u}" for u in range(4) for _ in range(4)],
        "item_id": ["a", "b", "a", "b"] * 4,
    }
    return last_out(Dataset.from_events(events))


@pytest.mark.parametrize("known", [0, 1, 4])
def test_of_strangers_the_first_events_are_known_and_the_next_is_asked(known):
    split = cold_start(DATA, known, 0.2, 0.3)
    queries, targets = split.queries("test")
    assert (queries.histories.lengths == known).all() and (targets.lengths == 1).all()
    strangers = set(queries.user_ids)
    assert not strangers & set(split.train.events["user_id"]) and (split.part == TRAIN).any()
    for at, user in enumerate(queries.user_ids):
        own = DATA.sequences.rows[DATA.users.rows([user])[0]]
        assert queries.histories[at].tolist() == own[:known].tolist() and targets[at].tolist() == [
            own[known]
        ]
    report = evaluate({"popular": Popularity().fit(split.train)}, split)
    assert len(report.user_ids) == len(strangers)
    with pytest.raises(ModelError, match="may hold"):
        evaluate({"popular": Popularity().fit(DATA)}, split)


def test_more_known_than_anybody_has_leaves_nobody_to_ask():
    with pytest.raises(DataError, match="no user"):
        cold_start(DATA, 500).queries("test")
    with pytest.raises(DataError, match="known=-1"):
        cold_start(DATA, -1)


def test_new_items_of_a_split_by_time():
    events = pl.DataFrame(
        {
            "user_id": ["a", "b", "c", "d"] * 10,
            "item_id": [f"i{at % 5}" for at in range(38)] + ["new", "new"],
            "time_ms": range(40),
        }
    )
    split = by_time(Dataset({"events": events}), 0.1, 0.1)
    candidates = only_new_items(split)
    assert isinstance(candidates, Candidates) and split.data.catalogue.named(
        candidates.rows[0]
    ) == ["new"]
