"""A data set says the same before and after it is saved, notices every change, and refuses what is
damaged.
"""

import datetime as dt
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tailor.data.dataset import Dataset, Lists
from tailor.data.queries import Rankings
from tailor.errors import DataError
from tailor.testing.data import tiny_data

ODD = ["", "a b", "é", "日本", "a\0b", '"', "\n", "None"]

TABLES = {
    "events": pl.DataFrame(
        {
            "user_id": ["u", "v", "u", "ü"],
            "item_id": ["a", "b", "日本", "a"],
            "time_ms": [3, 1, 2, 2],
            "action": ["buy", None, "view", "buy"],
            "value": [1.5, None, float("nan"), -0.0],
            "extra": [[1, 2], None, [], [None]],
        }
    ),
    "items": pl.DataFrame(
        {
            "item_id": ["a", "never bought"],
            "title": ["Kettle", None],
            "categories": [["x", None], None],
            "price": [1.0, None],
        }
    ),
    "users": pl.DataFrame({"user_id": ["u"], "age": [3]}),
    "texts": pl.DataFrame(
        {"user_id": ["u"], "item_id": [None], "text": ["\U0001f600"], "time_ms": [4]},
        schema_overrides={"item_id": pl.String},
    ),
    "turns": pl.DataFrame(
        {"dialogue_id": ["d"], "turn": [1], "speaker": ["u"], "items": [["a", "b"]]}
    ),
    "requests": pl.DataFrame({"request_id": ["r"], "time_ms": [1]}),
    "impressions": pl.DataFrame(
        {"request_id": ["r"], "position": [1], "item_id": ["a"], "shown": [True]}
    ),
    "judgements": pl.DataFrame({"query_id": ["q"], "item_id": ["a"], "grade": [2.0]}),
    "candidates": pl.DataFrame({"query_id": ["q"], "item_id": ["a"], "rank": [1]}),
    "preferences": pl.DataFrame(
        {"user_id": ["u"], "prompt_id": ["p"], "a": ["x"], "b": ["y"], "choice": ["a"]}
    ),
    "relations": pl.DataFrame(
        {"head": ["a"], "relation": ["near"], "tail": ["b"], "weight": [0.5]}
    ),
    "assets": pl.DataFrame({"asset_id": ["i"], "path": ["a/b.png"], "sha256": ["0"]}),
}


def dataset(**tables) -> Dataset:
    return Dataset({**TABLES, **tables}, "näme", {"bought": "action == 'buy'"})


def events(n: int = 3, **columns) -> dict:
    return {"user_id": ["u"] * n, "item_id": [f"i{at}" for at in range(n)], **columns}


def same_sequences(a: Dataset, b: Dataset) -> None:
    one, other = a.sequences, b.sequences
    assert one.rows.offsets.tolist() == other.rows.offsets.tolist()
    assert one.rows.values.tolist() == other.rows.values.tolist()
    assert one.events.tolist() == other.events.tolist()
    assert (one.times_ms is None) == (other.times_ms is None)
    if one.times_ms is not None:
        assert one.times_ms.values.tolist() == other.times_ms.values.tolist()


# --- content


def changed(frame: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """One small change in every place of a frame."""
    out = {
        "rows": pl.concat([frame, frame[:1]]),
        "column": frame.with_columns(more=pl.lit(None, pl.Int8)),
    }
    for name, kind in frame.schema.items():
        values = frame[name].to_list()
        out[f"{name}: null"] = frame.with_columns(
            pl.Series(
                name, [None if values[0] is not None else values[-1], *values[1:]], dtype=kind
            )
        )
        other = {pl.String: f"{values[0]} ", pl.Boolean: not values[0]}.get(
            kind, [] if kind == pl.List else 99
        )
        out[f"{name}: value"] = frame.with_columns(
            pl.Series(name, [other, *values[1:]], dtype=kind)
        )
    return {what: one for what, one in out.items() if not one.equals(frame)}


@pytest.mark.parametrize("table", TABLES)
def test_the_content_hash_changes_with_anything_in_any_table(table):
    base = dataset().content_hash
    hashes, frame = {base}, dataset().tables[table]
    cases = changed(frame)
    for what, one in cases.items():
        try:
            made = Dataset({**TABLES, table: one}).content_hash
        except DataError:  # a null or a repeat where none may be
            cases = {name: case for name, case in cases.items() if name != what}
            continue
        assert made != base, what
        hashes.add(made)
    assert len(hashes) == len(cases) + 1
    if table != "events":
        assert (
            Dataset({name: one for name, one in TABLES.items() if name != table}).content_hash
            != base
        )


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([None, ["a"]], [[], ["a"]]),
        ([["a"], ["b"]], [["a", "b"], []]),
        ([[None], ["b"]], [[""], ["b"]]),
        ([["ab", "c"], None], [["a", "bc"], None]),
        ([[[1], [2]], None], [[[1, 2]], None]),
        ([None, 0], [0, None]),
        (["a", "bc"], ["ab", "c"]),
        (["a", None], ["a", ""]),
        ([0.0, 1.0], [-0.0, 1.0]),
        ([1, 2], [1.0, 2.0]),
        ([{"x": 1}, None], [{"x": None}, None]),
        ([b"a", b"b"], [b"a", b"c"]),
        ([Decimal("1.1"), Decimal("2")], [Decimal("1.2"), Decimal("2")]),
        ([dt.datetime(2020, 1, 1), None], [dt.datetime(2020, 1, 1, 0, 0, 0, 1), None]),
    ],
)
def test_the_content_hash_tells_values_apart_that_look_alike(a, b):
    one, other = (Dataset.from_events(events(2, extra=extra)).content_hash for extra in (a, b))
    assert one != other
    # and it says the same every time
    assert one == Dataset.from_events(events(2, extra=a)).content_hash


def test_the_content_hash_reads_nanoseconds_and_big_numbers():
    for dtype in (pl.Datetime("ns"), pl.Int128, pl.Duration("ns")):
        one, other = (
            Dataset.from_events(events(1, extra=pl.Series([at]).cast(dtype))).content_hash
            for at in (10**12, 10**12 + 1)
        )
        assert one != other


def test_the_content_hash_does_not_depend_on_chunks_name_or_order_of_columns():
    base = dataset()
    pieces = {
        name: pl.concat([frame[:1], frame[1:2], frame[2:]], rechunk=False)
        for name, frame in TABLES.items()
    }
    assert pieces["events"].n_chunks() > 1
    assert Dataset(pieces, "other").content_hash == base.content_hash
    assert dataset(events=TABLES["events"][:, ::-1]).content_hash == base.content_hash


# --- order


def test_events_are_sorted_by_time_and_ties_keep_the_order_given():
    n = 5000
    times = np.random.default_rng(0).integers(0, 50, n)
    data = Dataset.from_events(
        {"user_id": ["u"] * n, "item_id": [f"i{at}" for at in range(n)], "time_ms": times}
    )
    expected = [f"i{at}" for at in np.argsort(times, kind="stable")]
    assert data.events["item_id"].to_list() == expected
    assert data.catalogue.named(data.sequences.rows[0]) == expected


@pytest.mark.parametrize(
    "times", [[2.7, 2.1, 2.4], [dt.datetime(2020, 1, 1, microsecond=at) for at in (700, 100, 400)]]
)
def test_times_finer_than_a_millisecond_are_sorted_before_they_are_rounded(times):
    assert Dataset.from_events(events(time_ms=times)).events["item_id"].to_list() == [
        "i1",
        "i2",
        "i0",
    ]


def test_without_times_the_order_column_counts_and_without_that_the_file():
    assert Dataset.from_events(events()).events["item_id"].to_list() == ["i0", "i1", "i2"]
    assert Dataset.from_events(events(order=[3, 1, 2])).events["item_id"].to_list() == [
        "i1",
        "i2",
        "i0",
    ]
    assert Dataset.from_events(events(order=[3, 1, 2], time_ms=[1, 2, 3])).events[
        "item_id"
    ].to_list() == ["i0", "i1", "i2"]


def test_a_missing_time_is_refused():
    with pytest.raises(DataError, match="time_ms is empty in 1 rows"):
        Dataset.from_events(events(time_ms=[1, None, 3]))
    with pytest.raises(DataError, match="order is empty in 1 rows"):
        Dataset.from_events(events(order=[1, None, 3]))


def test_sequences_equal_a_loop():
    rng = np.random.default_rng(0)
    n = 2000
    users, items = [[f"{kind}{at}" for at in rng.integers(0, 40, n)] for kind in ("u", "i")]
    data = Dataset.from_events(
        {"user_id": users, "item_id": items, "time_ms": rng.integers(0, 300, n)}
    )
    for row, user in enumerate(data.users.ids):
        mine = data.events.with_row_index("at").filter(pl.col("user_id") == user)
        assert data.catalogue.named(data.sequences.rows[row]) == mine["item_id"].to_list()
        assert data.sequences.times_ms[row].tolist() == mine["time_ms"].to_list()
        span = slice(data.sequences.rows.offsets[row], data.sequences.rows.offsets[row + 1])
        assert data.sequences.events[span].tolist() == mine["at"].to_list()


# --- what comes in


def test_data_frames_of_other_libraries():
    frame = pl.DataFrame(events(time_ms=[1, 2, 3]))
    base = Dataset.from_events(frame).content_hash
    assert Dataset.from_events(frame.to_arrow()).content_hash == base
    assert Dataset.from_events(frame.to_dict(as_series=False)).content_hash == base


@pytest.mark.parametrize(
    "ids", [["u", None, "v"], ["u", 1, 2.5], [1.0, 2.0, None], [object()] * 3, [["u"]] * 3]
)
def test_ids_that_are_no_ids_are_a_data_error(ids):
    with pytest.raises(DataError, match="user_id"):
        Dataset.from_events({"user_id": ids, "item_id": ["a", "b", "c"]})


def test_columns_of_different_lengths_are_a_data_error():
    with pytest.raises(DataError, match="events"):
        Dataset.from_events({"user_id": ["u"] * 3, "item_id": ["a"] * 2})


def test_something_must_be_learned_from():
    with pytest.raises(DataError, match="events or of judgements"):
        Dataset({"items": TABLES["items"]})
    with pytest.raises(DataError, match='Did you mean "texts"'):
        Dataset.from_events(events(), text=TABLES["texts"])


def test_a_data_set_of_judgements_alone(tmp_path):
    """A retrieval benchmark: passages, queries, grades, and nobody who clicked."""
    tables = {
        "judgements": pl.DataFrame(
            {"query_id": ["q", "q"], "item_id": ["p1", "p2"], "grade": [1.0, 0.0]}
        ),
        "items": pl.DataFrame({"item_id": ["p1", "p3"], "text": ["one", "three"]}),
    }
    data = Dataset(tables)
    assert set(data.catalogue.ids) == {"p1", "p2", "p3"}
    assert sorted(data.item_texts) == ["", "one", "three"]
    assert len(data.users) == 0
    data.save(tmp_path / "data")
    opened = Dataset.open(tmp_path / "data")
    assert opened.content_hash == data.content_hash
    assert opened.catalogue.fingerprint == data.catalogue.fingerprint
    for ask in (lambda: data.sequences, lambda: data.events, lambda: data.where("value > 1")):
        with pytest.raises(DataError, match="has no events"):
            ask()


def test_item_table_stands_in_catalogue_order_with_nulls_for_the_unknown():
    table = dataset().item_table
    assert table["item_id"].to_list() == dataset().catalogue.ids.tolist()
    assert dict(table.select("item_id", "title").iter_rows()) == {
        "a": "Kettle",
        "b": None,
        "日本": None,
        "never bought": None,
    }
    texts = dict(zip(table["item_id"], dataset().item_texts))
    assert texts == {"a": "Kettle x", "b": "", "日本": "", "never bought": ""}


# --- where


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("bought", ["u", "ü"]),
        ("action == 'buy'", ["u", "ü"]),
        ("action = 'buy' AND value > 1", ["u"]),
        ("value IS NULL", ["u", "v"]),  # NaN is no value either
        ("action IN ('view', 'a==b', 'SELECT')", ["u"]),
        ("item_id = '日本'", ["u"]),
        ("action = 'from'", []),
    ],
)
def test_where_a_condition_holds(condition, expected):
    data = dataset()
    mask = data.where(condition)
    assert mask.dtype == bool
    assert sorted(data.events.filter(pl.Series(mask))["user_id"]) == sorted(expected)


def test_a_text_with_two_equal_signs_stays_as_it_is():
    assert Dataset.from_events(events(action=["a==b", "a=b", "x"])).where(
        "action == 'a==b'"
    ).tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        ("bougth", 'Did you mean "bought"'),
        ("actoin = 'buy'", "actoin"),
        ("action = ", "action = "),
        ("value", "value"),
        ("value + 1", '"+" (character 7)'),
        ("(action)", "compare it"),
        ("MAX(value) > 1", '"(" (character 4)'),
        ("1 = 1", "a column is expected"),
        ("value = 'x'", "value = 'x'"),
    ],
)
def test_a_condition_that_cannot_be_meant_is_refused(condition, says):
    with pytest.raises(DataError) as error:
        dataset().where(condition)
    assert says in str(error.value)


@pytest.mark.parametrize(
    "condition",
    [
        "value IN (SELECT value FROM read_csv('{path}'))",
        "value IN (FROM read_csv('{path}'))",
        "value IN (sElEcT 1\nfrom\nread_csv('{path}'))",
        "value IN (/**/SELECT/**/'1'FROM read_csv('{path}'))",
        "EXISTS (SELECT * FROM read_parquet('{path}'))",
        "(SELECT MAX(secret) FROM '{path}') = 'x'",
        "read_csv('{path}') = 1",
        "value = 1; SELECT * FROM read_csv('{path}')",
    ],
)
def test_a_condition_reads_no_file(tmp_path, condition):
    """A label may come with a data set that somebody else made: it must reach no file and no
    address.
    """
    path = tmp_path / "secret.csv"
    path.write_text("secret\nhunter2\n")
    labelled = Dataset(TABLES, labels={"evil": condition.format(path=path)})
    for ask in (
        lambda: dataset().where(condition.format(path=path)),
        lambda: labelled.where("evil"),
    ):
        with pytest.raises(DataError) as error:
            ask()
        assert "hunter2" not in str(error.value)
        assert 'valid columns: ["secret"]' not in str(error.value)


# --- cut, lists, queries


def test_a_cut_keeps_rows_of_catalogue_and_users_and_its_sequences_are_those_of_its_events():
    data = tiny_data(users=12)
    rng = np.random.default_rng(0)
    first = data.cut(rng.random(len(data.events)) < 0.6)
    second = first.cut(rng.random(len(first.events)) < 0.5)
    for part in (
        first,
        second,
        data.cut(np.zeros(len(data.events), bool)),
        data.cut(np.ones(len(data.events), bool)),
    ):
        assert part.catalogue is data.catalogue
        assert part.users is data.users
        again = Dataset(part.tables, catalogue=data.catalogue, users=data.users)
        same_sequences(part, again)
        assert part.provenance == data.provenance  # still of the whole
    assert second.content_hash != first.content_hash != data.content_hash


def test_lists_travel_with_a_data_set_and_not_with_its_cuts():
    data = tiny_data(users=6)
    lists = Lists(data.queries(), Rankings.empty(data.catalogue, 6, 1), data.sequences.rows)
    carrying = data.with_lists(lists)
    assert carrying.lists is lists
    assert data.lists is None
    assert carrying.cut(np.ones(len(data.events), bool)).lists is None
    assert carrying.content_hash == data.content_hash
    assert carrying.provenance == data.provenance
    same_sequences(carrying, data)


def test_queries_of_known_and_unknown_users():
    data = dataset()
    queries = data.queries(["nobody", "u", "u"])
    assert [q.user_id for q in queries] == ["nobody", "u", "u"]
    assert [q.history.item_ids for q in queries] == [(), ("日本", "a"), ("日本", "a")]
    assert queries[1].history.times_ms == (2, 3)
    assert [q.user_id for q in data.queries()] == data.users.ids.tolist()


# --- saved and opened


def test_every_table_comes_back_from_a_folder_as_it_was(tmp_path):
    data = dataset(items=pl.DataFrame({"item_id": ODD, "categories": [[one] for one in ODD]}))
    data.save(tmp_path / "data")
    opened = Dataset.open(tmp_path / "data")
    assert opened.name == "näme"
    assert opened.labels == data.labels
    assert opened.tables.keys() == data.tables.keys()
    for table, frame in data.tables.items():
        assert opened.tables[table].equals(frame), table
        assert opened.tables[table].schema == frame.schema
    assert opened.content_hash == data.content_hash
    assert Dataset(opened.tables).content_hash == data.content_hash
    assert opened.catalogue.fingerprint == data.catalogue.fingerprint
    same_sequences(opened, data)


def test_memory_mapped_sequences_equal_recomputed_ones(tmp_path):
    data = tiny_data()
    data.save(tmp_path / "data")
    opened = Dataset.open(tmp_path / "data")
    assert isinstance(opened.sequences.rows.values, np.memmap)
    same_sequences(opened, Dataset(opened.tables))
    opened.save(tmp_path / "data", overwrite=True)  # over the very files that are mapped
    same_sequences(Dataset.open(tmp_path / "data"), data)
    same_sequences(opened, data)


def test_a_data_set_without_times_stays_one(tmp_path):
    data = Dataset.from_events(events())
    data.save(tmp_path / "data")
    assert Dataset.open(tmp_path / "data").sequences.times_ms is None


def test_names_that_need_another_alphabet_do_not_depend_on_the_locale(tmp_path, monkeypatch):
    import locale

    monkeypatch.setattr(locale, "getencoding", lambda: "ascii")
    monkeypatch.setattr(locale, "getpreferredencoding", lambda *_: "ascii")
    dataset().save(tmp_path / "data")
    assert Dataset.open(tmp_path / "data").name == "näme"


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def garbage(path: Path) -> None:
    path.write_bytes(b"\xff\x00 not this " * 50)


def removed(path: Path) -> None:
    path.unlink()


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGED = ["events.parquet", "items.parquet", "dataset.toml"] + [
    f"sequences/{name}.npy" for name in ("offsets", "item_rows", "events", "times_ms")
]


@pytest.mark.parametrize("damage", [cut_short, emptied, garbage, removed, folder_instead])
@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_a_data_error_with_a_remedy(tmp_path, name, damage):
    dataset().save(tmp_path / "data")
    damage(tmp_path / "data" / name)
    with pytest.raises(DataError) as error:
        Dataset.open(tmp_path / "data")
    assert str(tmp_path / "data") in str(error.value)
    assert any(word in str(error.value) for word in ("import", "make one", "cannot be read"))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("schema = 1", "schema = 99", "update tailor"),
        ("schema = 1", 'schema = "one"', "schema"),
        ("events = 4", "events = 5", "holds 4 rows"),
        ("items = 2", "itmes = 2", 'Did you mean "items"'),
        ("content_hash", "hash", "content_hash"),
        ("[rows]", "[lines]", "rows"),
        ("name = ", "nom = ", "name"),
        ("[labels]", "[tags]", "labels"),
        ('bought = "', 'bought = 3 # "', "labels"),
    ],
)
def test_a_changed_description_is_a_data_error(tmp_path, old, new, says):
    path = dataset().save(tmp_path / "data") / "dataset.toml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(DataError) as error:
        Dataset.open(tmp_path / "data")
    assert says in str(error.value)


@pytest.mark.parametrize("name", ["offsets", "item_rows", "events", "times_ms"])
def test_sequences_of_another_data_set_are_noticed(tmp_path, name):
    dataset().save(tmp_path / "data")
    tiny_data(users=3).save(tmp_path / "other")
    (tmp_path / "other" / "sequences" / f"{name}.npy").replace(
        tmp_path / "data" / "sequences" / f"{name}.npy"
    )
    with pytest.raises(DataError, match="import again"):
        Dataset.open(tmp_path / "data")


def test_what_is_no_data_set_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    for wrong in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(DataError, match="not a data set"):
            Dataset.open(wrong)


def test_tables_are_read_only_when_asked_for(tmp_path, monkeypatch):
    """A fit on sequences alone does not read the events, which may be larger than memory."""
    tiny_data().save(tmp_path / "data")
    opened = Dataset.open(tmp_path / "data")

    def refuse(path):
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr("tailor.data.dataset.read_parquet", refuse)
    assert len(opened.sequences.rows) == len(opened.users) == 60
    assert opened.has_times and len(opened.catalogue) == 40
    assert len(opened.queries()) == 60
    kept = opened.cut(np.arange(480) < 100)
    assert len(kept.sequences.rows.values) == 100
    with pytest.raises(AssertionError, match=r"events\.parquet was read"):
        _ = kept.events


def test_a_folder_overwritten_after_opening_is_not_mixed_with_the_old_one(tmp_path):
    tiny_data(seed=1).save(tmp_path / "data")
    opened = Dataset.open(tmp_path / "data")
    tiny_data(seed=2).save(tmp_path / "data", overwrite=True)
    assert len(opened.sequences.rows) == 60, "what was mapped stays"
    with pytest.raises(DataError, match="open it again"):
        _ = opened.events


def test_the_finest_category_is_the_last_of_the_list_and_those_without_share_one():
    items = pl.DataFrame(
        {"item_id": list("abcde"), "categories": [["x", "y"], ["z", "y"], ["y", "x"], [], None]}
    )
    data = Dataset({"events": pl.DataFrame({"user_id": ["u"], "item_id": ["f"]}), "items": items})
    number = dict(zip(data.catalogue.ids, data.finest_categories.tolist(), strict=True))
    assert number["a"] == number["b"] != number["c"] and number["d"] == number["e"] == number[
        "f"
    ] not in (number["a"], number["c"])
    assert Dataset({"events": data.events}).finest_categories.tolist() == [0]
