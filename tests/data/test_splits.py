"""Nothing after the cut reaches a fit, and every query asks for what its history does not yet hold."""

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tailor.data.dataset import Dataset
from tailor.data.splits import (
    CONTEXT,
    DROPPED,
    KINDS,
    TEST,
    TRAIN,
    VALID,
    Split,
    by_ratio,
    by_time,
    inner_cut,
    last_out,
    new_users,
    split_by,
)
from tailor.errors import DataError
from tailor.testing.data import tiny_data

PARAMS = {
    "last": {},
    "time": {"valid": 0.2, "test": 0.2},
    "ratio": {"valid": 0.2, "test": 0.2},
    "new-users": {"valid": 0.2, "test": 0.3},
    "cold-start": {"known": 2, "valid": 0.2, "test": 0.3},
    "new-items": {"valid": 0.3, "test": 0.3},
}


def log(lengths: list[int], seed: int = 0, times: int = 10_000, items: int = 9) -> Dataset:
    """Users of the given numbers of events, in mixed order, with event ids, repeats and ties."""
    rng = np.random.default_rng(seed)
    users = rng.permutation(np.repeat(np.arange(len(lengths)), lengths))
    n = len(users)
    return Dataset.from_events(
        {
            "user_id": [f"u{at:02d}" for at in users],
            "item_id": [f"i{at}" for at in rng.integers(0, items, n)],
            "time_ms": rng.integers(0, times, n),
            "event_id": [f"e{at}" for at in range(n)],
            "action": rng.choice(["buy", "view"], n).tolist(),
        }
    )


MIXED = [1, 2, 3, 4, 5, 8, 12, 20, 3, 7, 1, 9, 6, 6, 10]
SPLITS = {
    **{kind: lambda kind=kind: split_by(log(MIXED), kind, **PARAMS[kind]) for kind in KINDS},
    **{
        f"{kind} only": lambda kind=kind: split_by(
            log(MIXED), kind, only="action = 'buy'", **PARAMS[kind]
        )
        for kind in KINDS
    },
    "inner": lambda: inner_cut(log(MIXED), most=5),
}


@pytest.fixture(params=SPLITS)
def split(request) -> Split:
    return SPLITS[request.param]()


def event_ids(data: Dataset) -> set[str]:
    return set(data.events["event_id"])


def in_part(split: Split, *codes: int) -> pl.DataFrame:
    return split.data.events.filter(pl.Series(np.isin(split.part, codes)))


def asked(split: Split) -> list[str]:
    return ["valid"] if split.kind == "inner" else ["valid", "test"]


# --- of every kind


def test_what_is_learned_from_holds_no_event_to_be_predicted(split):
    assert set(np.unique(split.part)) <= {TRAIN, VALID, TEST, CONTEXT, DROPPED}
    test, valid = set(in_part(split, TEST)["event_id"]), set(in_part(split, VALID)["event_id"])
    assert not event_ids(split.train) & (test | valid)
    assert not event_ids(split.train_valid) & test
    assert event_ids(split.train) <= event_ids(split.train_valid)
    assert valid <= event_ids(split.train_valid)
    dropped = set(in_part(split, DROPPED)["event_id"])
    assert not dropped & event_ids(split.train_valid)
    assert len(split.data.events) == sum(split.report["events"].values())


def test_catalogue_and_users_are_those_of_the_whole_in_every_part(split):
    for part in ("train", "train+valid", "all"):
        learned = split.learn_from(part)
        assert learned.catalogue is split.data.catalogue
        assert learned.users is split.data.users
        again = Dataset(learned.tables, catalogue=learned.catalogue, users=learned.users)
        assert learned.sequences.rows.values.tolist() == again.sequences.rows.values.tolist()
        assert learned.sequences.events.tolist() == again.sequences.events.tolist()


def test_a_history_ends_before_its_targets_and_holds_none_of_them(split):
    """By event, not by item: people do repeat items, and a repeat is a fair target."""
    everything = split.data.sequences
    for part in asked(split):
        queries, targets = split.queries(part)
        assert len(queries) == len(targets)
        assert (targets.lengths > 0).all()
        code = VALID if part == "valid" else TEST
        for at, query in enumerate(queries):
            row = int(split.data.users.rows([query.user_id])[0])
            events = everything.events[
                everything.rows.offsets[row] : everything.rows.offsets[row + 1]
            ]
            mine = split.part[events]
            expected = events[mine == code]
            assert (
                split.data.catalogue.named(targets[at])
                == split.data.events["item_id"].gather(expected).to_list()
            )
            first = int(np.flatnonzero(mine == code)[0])
            before = [event for event, kind in zip(events[:first], mine[:first]) if kind != DROPPED]
            assert (
                list(query.history.item_ids)
                == split.data.events["item_id"].gather(before).to_list()
            )
            assert query.time_ms >= max(query.history.times_ms, default=0)
            assert query.time_ms <= split.data.events["time_ms"].gather(expected).min()


def test_a_history_holds_exactly_what_the_second_fit_learned_of_that_user_or_is_context():
    for kind in ("last", "time", "ratio"):
        split = SPLITS[kind]()
        queries, _ = split.queries("test")
        learned = split.train_valid.queries(queries.user_ids.tolist())
        assert [q.history.item_ids for q in queries] == [q.history.item_ids for q in learned]


def test_provenance_says_which_part_was_seen(split):
    whole = split.data.content_hash
    assert [
        (one.provenance.data_hash, one.provenance.part)
        for one in (split.train, split.train_valid, split.learn_from("all"))
    ] == [(whole, "train"), (whole, "train+valid"), (whole, "all")]
    assert split.train.provenance.split_hash == split.hash
    with pytest.raises(DataError, match='"train"'):
        split.learn_from("trian")
    with pytest.raises(DataError, match="test"):
        split.queries("train")


# --- each kind


def test_the_last_event_is_the_test_the_one_before_validation():
    split = last_out(log([1, 2, 3, 5]))
    rows = split.data.sequences
    codes = split.part[rows.events]
    by_user = {
        split.data.users.ids[at]: codes[rows.rows.offsets[at] : rows.rows.offsets[at + 1]].tolist()
        for at in range(4)
    }
    assert by_user == {
        "u00": [TRAIN],
        "u01": [TRAIN] * 2,
        "u02": [TRAIN, VALID, TEST],
        "u03": [TRAIN] * 3 + [VALID, TEST],
    }


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.integers(1, 98), st.integers(1, 98))
def test_ratio_takes_the_last_shares_and_leaves_something_to_learn(lengths, valid, test):
    assume(valid + test < 100)
    split = by_ratio(log(lengths), valid / 100, test / 100)
    rows = split.data.sequences
    for at, length in enumerate(lengths):
        codes = split.part[rows.events[rows.rows.offsets[at] : rows.rows.offsets[at + 1]]].tolist()
        assert codes == sorted(codes)  # train, then validation, then test
        if length < 3:
            assert set(codes) == {TRAIN}
        else:
            assert {TRAIN, VALID, TEST} == set(codes)
            assert abs(codes.count(TEST) - length * test / 100) < 2
            assert abs(codes.count(VALID) - length * valid / 100) < 2


@pytest.mark.parametrize("times", [10_000, 12, 4])
def test_by_time_no_event_learned_from_is_as_new_as_one_to_be_predicted(times):
    split = by_time(log(MIXED, times=times), 0.3, 0.3)
    for older, newer in ((TRAIN, VALID), (VALID, TEST)):
        assert in_part(split, older)["time_ms"].max() < in_part(split, newer)["time_ms"].min()
    for part, cut in zip(("valid", "test"), split.params["cuts_ms"]):
        assert set(split.queries(part)[0].now_ms.tolist()) == {cut}
    assert split.report["users_whose_target_a_tie_decides"] == 0


def test_by_time_needs_times_that_differ():
    with pytest.raises(DataError, match="share the time"):
        by_time(log(MIXED, times=1))
    with pytest.raises(DataError, match="no times"):
        by_time(Dataset.from_events({"user_id": ["u"] * 3, "item_id": ["a"] * 3}))


def test_new_users_are_never_learned_from():
    split = SPLITS["new-users"]()
    test, valid = set(in_part(split, TEST)["user_id"]), set(in_part(split, VALID)["user_id"])
    assert test
    assert valid
    assert not test & valid
    assert not (test | valid) & set(split.train.events["user_id"])
    assert not test & set(split.train_valid.events["user_id"])
    assert valid <= set(split.train_valid.events["user_id"])
    queries, targets = split.queries("test")
    assert (targets.lengths == 1).all()
    assert (queries.histories.lengths >= 1).all()
    other = split_by(split.data, "new-users", seed=1, **PARAMS["new-users"])
    assert set(in_part(other, TEST)["user_id"]) != test


def test_only_some_events_are_split_and_the_others_reach_nobody():
    split = split_by(log(MIXED), "last", only="action = 'buy'")
    buys = split.data.events.filter(pl.col("action") == "buy")
    alone = last_out(Dataset({"events": buys}))
    assert event_ids(split.train) == event_ids(alone.train)
    assert set(in_part(split, TEST)["event_id"]) == set(in_part(alone, TEST)["event_id"])
    assert set(in_part(split, DROPPED)["action"]) == {"view"}
    assert [q.history.item_ids for q in split.queries()[0]] == [
        q.history.item_ids for q in alone.queries()[0]
    ]


def test_the_inner_cut_hides_the_last_event_of_some_users():
    split = inner_cut(log(MIXED), seed=3, most=4)
    hidden = in_part(split, VALID)
    assert len(hidden) == 4
    assert hidden["user_id"].n_unique() == 4
    assert len(split.train.events) == sum(MIXED) - 4
    assert inner_cut(log([1, 2, 2])) is None
    assert set(in_part(inner_cut(log(MIXED), seed=4, most=4), VALID)["event_id"]) != set(
        hidden["event_id"]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_an_inner_cut_of_a_part_sees_nothing_that_the_part_does_not_hold(kind):
    outer = split_by(log(MIXED), kind, **PARAMS[kind])
    for part in ("train", "train+valid"):
        learned = outer.learn_from(part)
        inner = inner_cut(learned)
        assert event_ids(inner.train) < event_ids(learned)
        queries, targets = inner.queries("valid")
        known = learned.queries(queries.user_ids.tolist())
        whole = [
            (*q.history.item_ids, *outer.data.catalogue.named(targets[at]))
            for at, q in enumerate(queries)
        ]
        assert whole == [q.history.item_ids for q in known]


@pytest.mark.parametrize(
    ("kind", "params", "says"),
    [
        ("lats", {}, 'Did you mean "last"'),
        ("last", {"test": 0.1}, 'takes no "test"'),
        ("time", {"tset": 0.1}, 'Did you mean "test"'),
        ("time", {"valid": 0.5, "test": 0.5}, "below 1"),
        ("ratio", {"test": 0.0}, "above 0"),
        ("new-users", {"valid": -0.1}, "above 0"),
        ("last", {"only": "action = 'sell'"}, "no event"),
    ],
)
def test_a_split_that_cannot_be_meant_is_refused(kind, params, says):
    with pytest.raises(DataError) as error:
        split_by(log(MIXED), kind, **params)
    assert says in str(error.value)


def test_a_part_without_users_is_an_error_not_an_empty_answer():
    with pytest.raises(DataError, match="no user"):
        last_out(log([1, 2])).queries()


# --- texts and other tables


def with_texts(split_kind: str, texts: dict, times: list[int] | None = None, **more) -> Split:
    """User u buys a, b, c, d (d is the test, c validation); v buys a, b, c, d later."""
    events = {"user_id": ["u"] * 4 + ["v"] * 4, "item_id": list("abcd") * 2}
    if times != []:
        events["time_ms"] = times or [10, 20, 30, 40, 110, 120, 130, 140]
    return split_by(Dataset.from_events(events, texts=texts, **more), split_kind)


def texts_of(data: Dataset) -> list[str]:
    return sorted(data.tables["texts"]["text"])


def test_texts_written_at_or_after_the_first_hidden_event_are_not_learned_from():
    texts = {
        "user_id": ["u"] * 5 + ["w"],
        "time_ms": [5, 29, 30, 39, 40, 999],
        "text": ["5", "29", "30", "39", "40", "w"],
    }
    split = with_texts("last", texts)
    assert texts_of(split.train) == ["29", "5", "w"]
    assert texts_of(split.train_valid) == ["29", "30", "39", "5", "w"]
    assert texts_of(split.learn_from("all")) == sorted(texts["text"])


def test_texts_about_a_hidden_pair_are_not_learned_from_whenever_they_were_written():
    texts = {
        "user_id": ["u", "u", "u", "v", "w"],
        "item_id": ["d", "c", "a", "d", "d"],
        "text": ["ud", "uc", "ua", "vd", "wd"],
    }
    for more in ({}, {"time_ms": [1, 1, 1, 1, 1]}):
        split = with_texts("last", {**texts, **more})
        assert texts_of(split.train) == ["ua", "wd"]
        assert texts_of(split.train_valid) == ["ua", "uc", "wd"]


def test_a_text_without_a_time_is_not_taken_for_an_old_one():
    """Among timed texts, one of a user with hidden events may be anything: also what was written
    about them.
    """
    texts = {
        "user_id": ["u", "u", "w"],
        "time_ms": [None, 5, None],
        "text": ["when?", "old", "of nobody hidden"],
    }
    assert texts_of(with_texts("last", texts).train) == ["of nobody hidden", "old"]


def test_by_time_texts_of_everybody_end_at_the_cut():
    rng = np.random.default_rng(0)
    data = log(MIXED)
    times = rng.integers(0, 10_000, 200)
    texts = pl.DataFrame(
        {
            "user_id": [f"u{at:02d}" for at in rng.integers(0, 20, 200)],
            "text": [str(at) for at in times],
            "time_ms": times,
        }
    )
    split = by_time(Dataset({"events": data.events, "texts": texts}))
    assert split.train.tables["texts"]["time_ms"].max() < split.params["cuts_ms"][0]
    assert split.train_valid.tables["texts"]["time_ms"].max() < split.params["cuts_ms"][1]
    assert len(split.train.tables["texts"]) == (times < split.params["cuts_ms"][0]).sum()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", ["train", "train+valid"])
def test_texts_never_say_more_than_the_events_that_are_known(kind, part):
    data = log(MIXED, seed=1)
    # a review of every event
    texts = data.events.select("user_id", "item_id", "time_ms", text=pl.col("event_id"))
    split = split_by(Dataset({"events": data.events, "texts": texts}), kind, **PARAMS[kind])
    learned = split.learn_from(part)
    assert set(learned.tables["texts"]["text"]) <= event_ids(learned)
    assert len(learned.tables["texts"])


def test_repeats_of_a_hidden_pair_cost_their_text():
    """The same person, the same item, once to learn from and once to predict: the text may be about
    either.
    """
    data = Dataset.from_events(
        {"user_id": ["u"] * 4, "item_id": ["a", "b", "c", "a"]},
        texts={"user_id": ["u"], "item_id": ["a"], "text": ["x"]},
    )
    split = last_out(data)
    assert texts_of(split.train_valid) == []
    queries, targets = split.queries()
    assert queries[0].history.item_ids == ("a", "b", "c")
    assert data.catalogue.named(targets[0]) == ["a"]


def test_requests_lists_shown_and_dialogues_after_the_cut_are_not_learned_from():
    """User u: train 10, 20; validation 30; test 40, which request r4 of time 38 led to; v: 110,
    120; 130; 140.
    """
    frames = {
        "requests": {
            "request_id": ["r1", "r3", "r4", "r5", "r6"],
            "user_id": ["u", "u", "u", "w", "v"],
            "time_ms": [9, 30, 38, 999, 110],
        },
        "impressions": {
            "request_id": ["r1", "r3", "r4", "r5", "r6", "r9"],
            "position": [1] * 6,
            "item_id": list("abdaax"),
        },
        "turns": {
            "dialogue_id": ["x", "y"],
            "turn": [1, 1],
            "speaker": ["u", "v"],
            "time_ms": [29, 30],
        },
        "preferences": {
            "user_id": ["u", "u"],
            "prompt_id": ["p", "q"],
            "a": ["a"] * 2,
            "b": ["b"] * 2,
            "choice": ["a"] * 2,
            "time_ms": [29, 31],
        },
        "relations": {
            "head": ["a", "b", "c"],
            "relation": ["near"] * 3,
            "tail": ["b", "c", "d"],
            "time_ms": [None, 5, 35],
        },
        "judgements": {"query_id": ["q"], "item_id": ["d"], "grade": [1.0]},
    }
    events = {
        "user_id": ["u"] * 4 + ["v"] * 4,
        "item_id": list("abcd") * 2,
        "time_ms": [10, 20, 30, 40, 110, 120, 130, 140],
        "request_id": ["r1", None, "r3", "r4", "r6", None, None, None],
    }
    split = last_out(Dataset.from_events(events, **frames))

    def left(part: str, table: str, column: str) -> list[str]:
        return split.learn_from(part).tables[table][column].to_list()

    expected = {
        ("requests", "request_id"): (["r1", "r5", "r6"], ["r1", "r3", "r5", "r6"]),
        ("turns", "dialogue_id"): (["x"], ["x", "y"]),
        ("impressions", "request_id"): (["r1", "r5", "r6"], ["r1", "r3", "r5", "r6"]),
        ("preferences", "prompt_id"): (["p"], ["p", "q"]),
        ("relations", "head"): (["a", "b"], ["a", "b", "c"]),
        ("judgements", "query_id"): (["q"], ["q"]),
    }
    for (table, column), (train, both) in expected.items():
        assert left("train", table, column) == train, table
        assert left("train+valid", table, column) == both, table
        assert len(left("all", table, column)) == len(frames[table][column])
    alone = last_out(Dataset.from_events(events, impressions=frames["impressions"]))
    assert alone.train.tables["impressions"]["request_id"].to_list() == ["r1", "r5", "r6", "r9"]


# --- ties


def test_the_report_says_whose_target_only_the_order_of_the_file_decides():
    times = [10, 20, 30, 30, 110, 120, 130, 140]
    split = with_texts("last", {"user_id": ["u"], "text": ["x"]}, times)
    assert split.report["users_whose_target_a_tie_decides"] == 0.5
    assert (
        with_texts("last", {"user_id": ["u"], "text": ["x"]}).report[
            "users_whose_target_a_tie_decides"
        ]
        == 0
    )
    assert (
        with_texts("last", {"user_id": ["u"], "text": ["x"]}, []).report[
            "users_whose_target_a_tie_decides"
        ]
        == 0
    )


def test_a_tie_across_dropped_events_is_a_tie():
    events = {
        "user_id": ["u"] * 5,
        "item_id": list("abcde"),
        "time_ms": [1, 2, 3, 3, 3],
        "action": ["buy", "buy", "buy", "view", "buy"],
    }
    assert (
        split_by(Dataset.from_events(events), "last", only="action = 'buy'").report[
            "users_whose_target_a_tie_decides"
        ]
        == 1
    )
    events["time_ms"] = [1, 2, 3, 4, 4]  # the tie is with an event that nobody is asked about
    assert (
        split_by(Dataset.from_events(events), "last", only="action = 'buy'").report[
            "users_whose_target_a_tie_decides"
        ]
        == 0
    )


# --- hash, saved and opened


def test_the_hash_says_data_kind_parameters_and_parts():
    data = log(MIXED)
    splits = [
        last_out(data),
        by_ratio(data),
        by_ratio(data, 0.2),
        new_users(data),
        new_users(data, seed=1),
        inner_cut(data),
        by_time(data),
        split_by(data, "last", only="action = 'buy'"),
        last_out(log(MIXED, seed=1)),
    ]
    assert len({one.hash for one in splits}) == len(splits)
    assert last_out(log(MIXED)).hash == splits[0].hash


@pytest.mark.parametrize("kind", KINDS)
def test_a_split_comes_back_from_a_folder_as_it_was(tmp_path, kind):
    data = log(MIXED)
    data.save(tmp_path / "data")
    split = split_by(data, kind, only="action IN ('buy', 'view')", **PARAMS[kind])
    split.save(tmp_path / "split", tmp_path / "data")
    opened = Split.open(tmp_path / "split")
    assert opened.hash == split.hash
    assert opened.part.tolist() == split.part.tolist()
    assert opened.report == split.report
    assert event_ids(opened.train) == event_ids(split.train)
    assert opened.train.provenance == split.train.provenance


def saved(tmp_path) -> None:
    data = log(MIXED)
    data.save(tmp_path / "data")
    last_out(data).save(tmp_path / "split", tmp_path / "data")


def test_a_data_set_that_changed_is_refused(tmp_path):
    saved(tmp_path)
    log(MIXED, seed=1).save(tmp_path / "data", overwrite=True)
    with pytest.raises(DataError, match="changed"):
        Split.open(tmp_path / "split")


def test_a_data_set_that_moved_is_named_anew(tmp_path):
    saved(tmp_path)
    (tmp_path / "data").rename(tmp_path / "moved")
    with pytest.raises(DataError, match="--data"):
        Split.open(tmp_path / "split")
    assert Split.open(tmp_path / "split", tmp_path / "moved").kind == "last"


def test_a_damaged_split_is_refused(tmp_path):
    saved(tmp_path)
    path, text = (
        tmp_path / "split" / "part.npy",
        (tmp_path / "split" / "split.toml").read_text(encoding="utf-8"),
    )
    whole = path.read_bytes()
    for damaged in (b"", whole[:-3], b"not this", whole[:-1] + bytes([whole[-1] ^ 1])):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="split"):
            Split.open(tmp_path / "split")
    path.write_bytes(whole)
    for old, new in (
        ("kind = ", "kin = "),
        ("data_hash = ", "hash_of = "),
        ("[params]", "[parameters]"),
        ("data = ", "date = "),
        ('kind = "last"', "kind = 3"),
    ):
        assert old in text
        (tmp_path / "split" / "split.toml").write_text(text.replace(old, new, 1), encoding="utf-8")
        with pytest.raises(DataError, match="split"):
            Split.open(tmp_path / "split")
    with pytest.raises(DataError, match="not a split"):
        Split.open(tmp_path / "data")


def test_an_opened_data_set_splits_as_the_one_in_memory_does(tmp_path):
    data = tiny_data()
    data.save(tmp_path / "data")
    for kind in KINDS:
        assert split_by(Dataset.open(tmp_path / "data"), kind).hash == split_by(data, kind).hash


def test_a_table_changed_in_place_is_noticed(tmp_path):
    data = tiny_data()
    data.save(tmp_path / "data")
    last_out(Dataset.open(tmp_path / "data")).save(tmp_path / "split", tmp_path / "data")
    table = pl.read_parquet(tmp_path / "data" / "items.parquet")
    table.with_columns(price=pl.col("price") + 1).write_parquet(tmp_path / "data" / "items.parquet")
    with pytest.raises(DataError, match="changed in place"):
        Split.open(tmp_path / "split")


def test_queries_bring_columns_of_their_history_alone():
    """The texts of held-out events are no part of a query."""
    events = {
        "user_id": ["u", "u", "u"],
        "item_id": ["a", "b", "c"],
        "time_ms": [1, 2, 3],
        "value": [1.0, 2.0, 3.0],
    }
    texts = pl.DataFrame(events).select("user_id", "item_id", "time_ms")
    texts = texts.with_columns(text=pl.Series(["on a", "on b", "on c"]))
    split = last_out(Dataset({"events": pl.DataFrame(events), "texts": texts}))
    for part, known in (("valid", ["on a"]), ("test", ["on a", "on b"])):
        queries, _ = split.queries(part, columns=["texts", "values"])
        assert queries.columns["texts"][0].tolist() == known
        assert queries.columns["values"][0].tolist() == [1.0, 2.0][: len(known)]
        assert queries[0].history.texts == tuple(known)
