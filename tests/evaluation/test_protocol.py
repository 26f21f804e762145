"""The one protocol: right numbers, no leak, nothing that depends on ids or positions."""

import json
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
import pytest

from tailor.core.methods import Recommender, ScoringRecommender
from tailor.data.dataset import Dataset
from tailor.data.queries import Rankings
from tailor.data.splits import by_ratio, by_time, inner_cut, last_out, new_users
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError, ModelError, NotFittedError
from tailor.evaluation.protocol import compare, evaluate
from tailor.metrics.ranking import PER_USER
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.popularity import Popularity
from tailor.testing.data import tiny_data

DATA = tiny_data(users=80, items=30, events=9)
METRICS = ("HR", "recall", "precision", "NDCG", "MRR", "MAP")


def naive(method: Recommender, split: Any, part: str, k: int, seen: str) -> dict[str, list[float]]:
    """Every metric by a loop over users, from the events table itself."""
    codes = {"train": 0, "valid": 1, "test": 2, "context": 3}
    known_codes = {codes["train"], codes["context"]} | (
        {codes["valid"]} if part == "test" else set()
    )
    histories: dict[str, list[str]] = {}
    targets: dict[str, list[str]] = {}
    for (user, item), code in zip(
        split.data.events.select("user_id", "item_id").iter_rows(), split.part, strict=True
    ):
        if code == codes[part]:
            targets.setdefault(user, []).append(item)
        elif code in known_codes:
            histories.setdefault(user, []).append(item)
    from tailor.data.nouns import History, Query

    out: dict[str, list[float]] = {metric: [] for metric in METRICS}
    for user in sorted(targets):
        past, wanted = histories.get(user, []), set(targets[user])
        query = Query(user, History(tuple(past)), exclude=tuple(past) if seen == "removed" else ())
        ids = method.recommend([query], k)[0].ids
        hits = [one in wanted for one in ids]
        out["HR"].append(float(any(hits)))
        out["recall"].append(sum(hits) / len(wanted))
        out["precision"].append(sum(hits) / k)
        ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(wanted)) + 1))
        out["NDCG"].append(
            sum(hit / math.log2(rank + 1) for rank, hit in enumerate(hits, 1)) / ideal
        )
        out["MRR"].append(next((1 / rank for rank, hit in enumerate(hits, 1) if hit), 0.0))
        precisions = [sum(hits[:rank]) / rank for rank, hit in enumerate(hits, 1) if hit]
        out["MAP"].append(sum(precisions) / min(k, len(wanted)))
    return out


@pytest.mark.parametrize(
    "split",
    [last_out(DATA), by_time(DATA, 0.2, 0.2), by_ratio(DATA, 0.2, 0.3), new_users(DATA, 0.2, 0.3)],
    ids=lambda one: one.kind,
)
@pytest.mark.parametrize("part", ["valid", "test"])
def test_every_users_value_is_that_of_a_loop_over_users(split, part):
    method = CoVisitation().fit(split.train)
    report = evaluate(method, split, part, k=(3, 10), metrics=METRICS)
    assert report.user_ids == sorted(report.user_ids)
    for seen in ("removed", "kept"):
        for k in (3, 10):
            for metric, values in naive(method, split, part, k, seen).items():
                np.testing.assert_allclose(
                    report.results["CoVisitation", seen].per_user[f"{metric}@{k}"],
                    values,
                    err_msg=f"{metric}@{k} {seen}",
                )


def test_the_mean_the_interval_and_the_dictionary_say_the_same():
    split = last_out(DATA)
    report = evaluate(CoVisitation().fit(split.train), split, k=(5,))
    values = report.results["CoVisitation", "removed"].per_user["NDCG@5"]
    assert report.mean("CoVisitation", "NDCG@5") == pytest.approx(values.mean())
    (row,) = [
        one
        for one in report.to_dict()["metrics"]
        if one["metric"] == "NDCG@5" and one["seen"] == "removed"
    ]
    assert (
        row["mean"] == pytest.approx(values.mean())
        and row["low"] < row["mean"] < row["high"]
        and row["users"] == 80
    )


# --- leaks
# ---------------------------------------------------------------------------------------------------------------------


SPLIT = last_out(DATA)
OTHER = by_ratio(DATA)


@pytest.mark.parametrize(
    ("data", "part", "fine"),
    [
        (SPLIT.train, "valid", True),
        (SPLIT.train, "test", True),
        (SPLIT.train_valid, "test", True),
        (SPLIT.train_valid, "valid", False),
        (SPLIT.learn_from("all"), "test", False),
        (SPLIT.learn_from("all"), "valid", False),
        (DATA, "test", False),
        (DATA, "valid", False),
        (tiny_data(users=80, items=30, events=9), "test", False),
        (OTHER.train, "test", False),
        (OTHER.train_valid, "test", False),
        (DATA.cut(np.ones(len(DATA.events), bool)), "test", False),
        (inner_cut(DATA).train, "test", False),
        (inner_cut(SPLIT.train).train, "test", True),
        (tiny_data(seed=9), "test", True),
    ],
    ids=range(15),
)
def test_a_method_is_refused_where_it_may_have_seen_the_targets(data, part, fine):
    method = Popularity().fit(data)
    if fine:
        assert len(evaluate(method, SPLIT, part).user_ids) == 80
    else:
        with pytest.raises(ModelError, match="was fitted on"):
            evaluate({"fine": Popularity().fit(SPLIT.train), "leak": method}, SPLIT, part)


def test_a_method_that_saw_the_larger_data_set_is_refused_on_a_split_of_a_part_of_it():
    inner = last_out(SPLIT.train)
    for data in (DATA, SPLIT.train, SPLIT.train_valid):
        with pytest.raises(ModelError, match="was fitted on"):
            evaluate(Popularity().fit(data), inner)
    assert evaluate(Popularity().fit(inner.train), inner)


def test_a_loaded_method_is_refused_as_the_fitted_one(tmp_path):
    from tailor.core.saving import load

    with pytest.raises(ModelError, match="was fitted on"):
        evaluate(load(Popularity().fit(DATA).save(tmp_path / "model")), SPLIT)


def test_an_unfitted_method_is_refused():
    with pytest.raises(NotFittedError):
        evaluate(Popularity(), SPLIT)


# --- ids and positions
# ---------------------------------------------------------------------------------------------------------


def numbered(rename: dict[int, int] | None = None) -> Dataset:
    """People walk through items that get the next number when first seen, as in the public data
    sets.
    """
    rng = np.random.default_rng(0)
    numbers: dict[int, int] = {}
    users, items = [], []
    for user in range(400):
        at = int(rng.integers(300))
        for _ in range(6):
            number = numbers.setdefault(at, len(numbers))
            users.append(f"u{user:03d}")
            items.append(f"{(rename or {}).get(number, number):05d}")
            at = (
                (at + int(rng.integers(1, 4))) % 300
                if rng.random() < 0.7
                else int(rng.integers(300))
            )
    return Dataset({"events": pl.DataFrame({"user_id": users, "item_id": items})})


@dataclass(eq=False)
class NextIds(ScoringRecommender):
    """Plants the known trap: recommends the ids that follow the history's largest."""

    def _fit(self, data, run, valid):
        self.items_ = data.catalogue

    def _scores(self, queries):
        numbers = np.array([int(one) for one in self.items_.ids])
        out = np.zeros((len(queries), len(numbers)), np.float32)
        for i in range(len(queries)):
            away = numbers - numbers[queries.histories[i]].max()
            out[i] = np.where(away > 0, 1 / np.maximum(away, 1), 0)
        return out


def test_renumbering_all_items_moves_no_figure_out_of_its_interval_and_takes_the_trap_away():
    shuffled = dict(enumerate(np.random.default_rng(1).permutation(300).tolist()))
    reports = []
    for data in (numbered(), numbered(shuffled)):
        split = last_out(data)
        methods = {"co": CoVisitation(), "popular": Popularity(), "trap": NextIds()}
        reports.append(
            evaluate(
                {name: one.fit(split.train) for name, one in methods.items()},
                split,
                metrics=("HR", "NDCG"),
            )
        )
    before, after = reports
    for name in ("co", "popular"):
        for metric in ("HR@10", "NDCG@10"):
            low, high = before.interval[name, "removed"][metric]
            assert low <= after.mean(name, metric) <= high
    assert before.mean("co", "HR@10") == pytest.approx(after.mean("co", "HR@10"), abs=0.02)
    floor = 10 / 295
    assert before.mean("trap", "HR@10") > 2 * floor, (
        "the planted trap does not work on the unshuffled ids"
    )
    low, high = after.interval["trap", "removed"]["HR@10"]
    assert low <= floor + 0.01 and after.mean("trap", "HR@10") < 2 * floor


@dataclass(eq=False)
class Same(ScoringRecommender):
    """The same score for every item."""

    def _fit(self, data, run, valid):
        self.items_ = data.catalogue

    def _scores(self, queries):
        return np.ones((len(queries), len(self.items_)), np.float32)


def test_a_method_that_scores_all_items_alike_stands_at_the_floor_of_chance():
    split = last_out(numbered())
    report = evaluate(
        Same().fit(split.train), split, k=(10, 50), metrics=("HR",), seen=("removed",)
    )
    for k in (10, 50):
        low, high = report.interval["Same", "removed"][f"HR@{k}"]
        assert low - 0.01 <= k / 295 <= high + 0.01


@dataclass(eq=False)
class Foreign(Recommender):
    """Puts `strangers` items that the data does not know before the right ones."""

    strangers: int = 0
    right: dict[str, str] = field(default_factory=dict)

    def _fit(self, data, run, valid): ...

    def _recommend(self, queries, k, candidates):
        catalogue = Vocabulary.of_items(
            [*(f"foreign {n}" for n in range(self.strangers)), *set(self.right.values())]
        )
        ids = [
            [*(f"foreign {n}" for n in range(self.strangers)), self.right[user]]
            for user in queries.user_ids
        ]
        rows = np.array([catalogue.rows(one) for one in ids], np.int32)[:, :k]
        return Rankings(
            catalogue,
            rows,
            np.tile(np.arange(rows.shape[1], 0, -1).astype(np.float32), (len(rows), 1)),
        )


def test_items_that_the_data_does_not_know_take_their_places_and_are_misses():
    queries, targets = SPLIT.queries("test")
    right = {
        user: str(DATA.catalogue.ids[targets[i][0]]) for i, user in enumerate(queries.user_ids)
    }
    for strangers, expected in ((0, 1.0), (1, 1 / math.log2(3)), (3, 1 / math.log2(5)), (10, 0.0)):
        method = Foreign(strangers, right).fit(tiny_data(seed=9))
        report = evaluate(method, SPLIT, metrics=("NDCG",), seen=("kept",))
        assert report.mean("Foreign", "NDCG@10", "kept") == pytest.approx(expected)
        assert report.results["Foreign", "kept"].lists["empty"] == 0


# --- what is asked for
# ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"metrics": ("NDGC",)}, "NDGC"),
        ({"metrics": "NDCG"}, "metrics"),
        ({"metrics": ()}, "metric"),
        ({"k": ()}, "k is"),
        ({"k": (0,)}, "k is"),
        ({"k": 10}, "k is"),
        ({"k": ("10",)}, "k is"),
        ({"k": "10"}, "k is"),
        ({"seen": ("remove",)}, "remove"),
        ({"seen": "removed"}, "seen"),
        ({"seen": ()}, "seen"),
        ({"part": "train"}, "train"),
    ],
    ids=str,
)
def test_a_mistake_in_what_is_asked_for_is_quoted_and_never_read_as_something_else(settings, says):
    with pytest.raises(DataError, match=says):
        evaluate(Popularity().fit(SPLIT.train), SPLIT, **settings)


def test_no_methods_is_an_error():
    with pytest.raises(DataError, match="method"):
        evaluate({}, SPLIT)


def test_users_without_targets_are_in_no_figure():
    events = pl.concat(
        [
            DATA.events,
            pl.DataFrame(
                {"user_id": ["short"] * 2, "item_id": ["thing-001", "thing-002"], "time_ms": [1, 2]}
            ),
        ],
        how="diagonal",
    )
    split = last_out(Dataset({"events": events}))
    report = evaluate(Popularity().fit(split.train), split)
    assert "short" not in report.user_ids and len(report.user_ids) == 80 == len(
        report.results["Popularity", "kept"].per_user["HR@10"]
    )


def test_repeated_targets_are_counted():
    events = pl.DataFrame(
        {"user_id": ["u"] * 4 + ["v"] * 4, "item_id": ["a", "b", "c", "a", "a", "b", "c", "d"]}
    )
    split = last_out(Dataset({"events": events}))
    report = evaluate(Same().fit(split.train), split, k=(4,))
    assert report.repeat_targets == 0.5
    assert (
        report.mean("Same", "HR@4", "kept") == 1.0 and report.mean("Same", "HR@4", "removed") == 0.5
    )


def test_strata_hold_every_user_once_in_each_grouping():
    for split in (SPLIT, new_users(DATA, 0.2, 0.3), by_time(DATA, 0.2, 0.2)):
        report = evaluate(Popularity().fit(split.train), split)
        for grouping in ("history", "target"):
            assert sum(
                mask.sum() for name, mask in report.strata.items() if name.startswith(grouping)
            ) == len(report.user_ids)
        parts = [
            report.mean("Popularity", "HR@10", stratum=name) * mask.sum()
            for name, mask in report.strata.items()
            if name.startswith("history")
        ]
        assert sum(parts) / len(report.user_ids) == pytest.approx(
            report.mean("Popularity", "HR@10")
        )


def test_head_middle_and_tail_by_hand():
    counts = {"h": 20, "m": 60, "t": 20}
    rows = [(f"u{n}", item) for item, times in counts.items() for n in range(times)]
    rows = [
        *rows,
        *((f"u{n}", item) for n, item in enumerate(("h", "m", "t", "new")) for item in ("m", item)),
    ]
    data = Dataset({"events": pl.DataFrame([*rows], schema=["user_id", "item_id"], orient="row")})
    split = last_out(data)
    report = evaluate(Popularity().fit(split.train), split)
    groups = {
        user: name
        for name, mask in report.strata.items()
        if name.startswith("target")
        for user in np.array(report.user_ids)[mask]
    }
    assert groups["u3"] == "target new" and groups["u1"] == "target head"


@dataclass(eq=False)
class Nothing(ScoringRecommender):
    """Answers nobody."""

    def _fit(self, data, run, valid):
        self.items_ = data.catalogue

    def _scores(self, queries):
        return np.full((len(queries), len(self.items_)), -np.inf, np.float32)


def test_the_dictionary_is_json_even_where_a_figure_is_undefined():
    report = evaluate(
        {"Nothing": Nothing().fit(SPLIT.train), "co": CoVisitation().fit(SPLIT.train)},
        SPLIT,
        k=(1, 5),
    )
    written = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    (lists,) = [
        one for one in written["lists"] if one["method"] == "Nothing" and one["seen"] == "removed"
    ]
    assert lists["gini"] is None and lists["empty"] == 1.0 and lists["coverage"] == 0.0
    assert written["users"] == 80 and written["split"]["hash"] == SPLIT.hash
    assert all(row["mean"] is not None for row in written["metrics"])


@pytest.mark.parametrize(
    "split", [by_time(DATA, 0.2, 0.2), new_users(DATA, 0.2, 0.3)], ids=lambda one: one.kind
)
def test_the_dictionary_is_json_for_every_split(split):
    json.dumps(evaluate(Popularity().fit(split.train), split).to_dict(), allow_nan=False)


def test_empty_lists_are_misses_and_counted():
    report = evaluate(Nothing().fit(SPLIT.train), SPLIT)
    assert (
        report.mean("Nothing", "HR@10") == 0.0
        and report.results["Nothing", "removed"].lists["short"] == 1.0
    )


# --- comparing
# -----------------------------------------------------------------------------------------------------------------


def test_a_comparison_is_paired_and_corrected():
    report = evaluate(
        {
            "popular": Popularity().fit(SPLIT.train),
            "co": CoVisitation().fit(SPLIT.train),
            "same": Same().fit(SPLIT.train),
        },
        SPLIT,
    )
    found = {(one.b, one.metric): one for one in compare(report, "popular")}
    assert len(found) == 4
    one = found["co", "NDCG@10"]
    difference = (
        report.results["co", "removed"].per_user["NDCG@10"]
        - report.results["popular", "removed"].per_user["NDCG@10"]
    )
    assert one.difference == pytest.approx(difference.mean()) and (one.wins, one.losses) == (
        (difference > 0).sum(),
        (difference < 0).sum(),
    )
    assert (
        one.low <= one.difference <= one.high
        and one.p <= one.p_holm <= 1
        and one.is_significant == (one.p_holm < 0.05)
    )
    assert compare(report, "popular", ["HR@10"], "kept")[0].seen == "kept"


def test_both_treatments_of_seen_items_are_compared_and_corrected_together():
    report = evaluate(
        {"popular": Popularity().fit(SPLIT.train), "co": CoVisitation().fit(SPLIT.train)}, SPLIT
    )
    both = compare(report, "popular", seen=("removed", "kept"))
    assert [(one.seen, one.metric) for one in both] == [
        ("removed", "HR@10"),
        ("removed", "NDCG@10"),
        ("kept", "HR@10"),
        ("kept", "NDCG@10"),
    ]
    for one in both:
        alone = next(
            other
            for other in compare(report, "popular", seen=one.seen)
            if other.metric == one.metric
        )
        assert one.difference == alone.difference and one.p_holm >= alone.p_holm
    with pytest.raises(DataError, match="seen"):
        compare(report, "popular", seen=())


@dataclass(eq=False)
class AsksFor(Popularity):
    """Remembers how many items it was asked for."""

    def _recommend(self, queries, k, candidates):
        ASKED_FOR.append(k)
        return super()._recommend(queries, k, candidates)


ASKED_FOR: list[int] = []


def test_no_more_items_are_asked_for_than_there_are():
    ASKED_FOR.clear()
    method = AsksFor().fit(SPLIT.train)
    deep = evaluate(method, SPLIT, k=(10, 10**30), metrics=tuple(PER_USER))
    assert set(ASKED_FOR) == {len(SPLIT.data.catalogue)}
    whole = evaluate(method, SPLIT, k=(10, len(SPLIT.data.catalogue)), metrics=("HR", "NDCG"))
    for seen in ("removed", "kept"):
        for metric in ("HR", "NDCG"):
            assert deep.mean("AsksFor", f"{metric}@10", seen) == whole.mean(
                "AsksFor", f"{metric}@10", seen
            )
            assert deep.mean("AsksFor", f"{metric}@{10**30}", seen) == pytest.approx(
                whole.mean("AsksFor", f"{metric}@{len(SPLIT.data.catalogue)}", seen)
            )


def test_a_method_against_itself_differs_in_nothing():
    method = Popularity().fit(SPLIT.train)
    one, two = compare(evaluate({"a": method, "b": method}, SPLIT), "a")
    assert (
        one.difference == two.difference == 0
        and one.p == one.p_holm == 1
        and not one.is_significant
    )


def test_what_was_trained_on_train_is_not_compared_with_what_was_trained_on_more():
    report = evaluate(
        {"a": Popularity().fit(SPLIT.train), "b": Popularity().fit(SPLIT.train_valid)}, SPLIT
    )
    with pytest.raises(DataError, match=r"train\+valid"):
        compare(report, "a")


@pytest.mark.parametrize(
    ("settings", "says"),
    [(("nobody",), "nobody"), (("a", ["NDGC@10"]), "NDGC@10"), (("a", None, "remvoed"), "remvoed")],
)
def test_a_mistake_in_a_comparison_is_quoted(settings, says):
    method = Popularity().fit(SPLIT.train)
    report = evaluate({"a": method, "b": method}, SPLIT)
    with pytest.raises(DataError, match=says):
        compare(report, *settings)


def test_a_cut_of_a_cut_does_not_hide_what_was_learned_from():
    """Fitted on a cut of train+valid, a method has seen the validation targets, however often that
    part was cut again.
    """
    data = tiny_data()
    split = last_out(data)
    sly = Popularity().fit(inner_cut(split.train_valid).train)
    with pytest.raises(ModelError, match="train\\+valid"):
        evaluate(sly, split, "valid")
    evaluate(sly, split, "test")  # train+valid may be judged on the test part
    half = data.cut(np.arange(len(data.events)) % 2 == 0)
    with pytest.raises(ModelError, match=r"another split|whole data set"):
        evaluate(Popularity().fit(last_out(half).train), split)


def test_the_chain_of_cuts_survives_saving(tmp_path):
    split = last_out(tiny_data())
    sly = Popularity().fit(inner_cut(split.train_valid).train)
    sly.save(tmp_path / "model")
    with pytest.raises(ModelError, match="train\\+valid"):
        evaluate(Popularity.load(tmp_path / "model"), split, "valid")


def test_novelty_counts_the_users_learned_from():
    """Everybody has the item everybody has: 0 bits; an item of half the users has 1 bit."""
    events = [
        (f"u{u}", item)
        for u in range(4)
        for item in ("a", "b" if u % 2 else "c", f"own{u}", f"last{u}")
    ]
    data = Dataset.from_events(
        {"user_id": [u for u, _ in events], "item_id": [i for _, i in events]}
    )
    report = evaluate(
        Popularity().fit(last_out(data).train), last_out(data), k=(3,), seen=("kept",)
    )
    assert report.results["Popularity", "kept"].lists["novelty_bits"] == pytest.approx(
        (0 + 1 + 1) / 3
    )
