"""Every table to files and back again."""

import errno

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tailor.data.dataset import Dataset
from tailor.data.exporting import FORMATS, export_data
from tailor.data.ids import id_problem
from tailor.data.importers.importing import import_data
from tailor.data.tables import ITEMS, NUMBER, ROW, TABLES, TEXT, TIME
from tailor.errors import DataError

NOW = 1_600_000_000_000


def back(data: Dataset, folder, format: str) -> Dataset:
    """The data set made of the exported tables, each imported by its name."""
    files = export_data(data, folder / "files", format)
    import_data(None, folder / "back", tables=files, name=data.name, strict=True)
    return Dataset.open(folder / "back")


def same(one: Dataset, other: Dataset) -> None:
    assert one.tables.keys() == other.tables.keys()
    for table, frame in one.tables.items():
        assert sorted(other.tables[table].columns) == sorted(frame.columns), table
        assert other.tables[table].select(frame.columns).rows() == frame.rows(), table
    assert one.content_hash == other.content_hash


def value(name: str, kind: pl.DataType, n: int):
    if kind == TEXT:
        return (
            f"{name} {n}, \"quoted\"; 'single' | \t bar\r\nline é👍 \r"
            if name in {"text", "title"}
            else f'{name}-{n}👍,"x"'
        )
    if kind == ITEMS:
        return [None, [], ["a|b", 'c "d", e', "[", "é"]][n % 3]
    return {NUMBER: n + 0.1, TIME: n if name == "order" else NOW + n, ROW: n}.get(kind, n % 2 == 0)


def everything() -> Dataset:
    """Three rows of every table of the schema with every column of it, and a further one."""
    tables = {}
    for table, about in TABLES.items():
        columns = {
            name: [value(name, kind, n) for n in range(3)]
            for name, kind in about.columns.items()
            if (table, name) != ("events", "order")
        }
        tables[table] = pl.DataFrame(
            {**columns, "more": ["x", None, "z, y"]},
            schema={**about.columns, "more": TEXT} if "order" not in about.columns else None,
        )
    return Dataset(tables, "everything")


@pytest.mark.parametrize("format", FORMATS)
def test_every_table_of_the_design_comes_back(tmp_path, format):
    data = everything()
    assert set(data.tables) == set(TABLES)
    same(data, back(data, tmp_path, format))


@pytest.mark.parametrize("format", FORMATS)
def test_the_folder_of_an_export_is_imported_as_it_is(tmp_path, format):
    data = everything()
    export_data(data, tmp_path / "files", format)
    import_data(tmp_path / "files", tmp_path / "back", strict=True)
    same(data, Dataset.open(tmp_path / "back"))
    with pytest.raises(DataError, match="is a data set already: use it as it is"):
        import_data(tmp_path / "back", tmp_path / "again")


@pytest.mark.parametrize("format", FORMATS)
def test_every_table_alone_comes_back(tmp_path, format):
    """With nothing but its required columns (an import gives texts a kind), beside the one table
    that a data set must have.
    """
    for table, about in TABLES.items():
        frame = pl.DataFrame(
            {
                name: [value(name, about.columns[name], n) for n in range(2)]
                for name in (*about.required, *(("kind",) if table == "texts" else ()))
            }
        )
        judged = pl.DataFrame({"query_id": ["q"], "item_id": ["i"], "grade": [1.0]})
        data = Dataset({"judgements": judged, table: frame}, "one")
        (tmp_path / table).mkdir()
        same(data, back(data, tmp_path / table, format))


@pytest.mark.parametrize("format", FORMATS)
def test_events_without_times_keep_their_order(tmp_path, format):
    data = Dataset.from_events(
        {"user_id": ["u", "v", "u"], "item_id": ["b", "a", "a"], "order": [0, 0, 1]}, name="x"
    )
    same(data, back(data, tmp_path, format))


WORD = (
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1, max_size=6)
    .map(str.strip)
    .filter(lambda text: id_problem(text) is None)
)
TITLE = (
    st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12
    )
    | st.none()
)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(
            WORD, WORD, st.integers(NOW, NOW + 99), st.floats(allow_nan=False, allow_infinity=False)
        ),
        min_size=1,
        max_size=6,
    ),
    st.dictionaries(
        WORD, st.tuples(TITLE, st.lists(WORD, max_size=3) | st.none()), min_size=1, max_size=4
    ),
    st.sampled_from(FORMATS),
)
def test_any_ids_titles_and_lists_come_back(tmp_path_factory, rows, items, format):
    users, chosen, times, values = zip(*rows)
    events = pl.DataFrame({"user_id": users, "item_id": chosen, "time_ms": times, "value": values})
    catalogue = pl.DataFrame(
        {
            "item_id": list(items),
            "title": [title for title, _ in items.values()],
            "categories": [kinds for _, kinds in items.values()],
        },
        schema={"item_id": TEXT, "title": TEXT, "categories": ITEMS},
    )
    data = Dataset({"events": events, "items": catalogue}, "any")
    same(data, back(data, tmp_path_factory.mktemp("any"), format))


def test_lists_in_csv_are_json_and_texts_are_quoted(tmp_path):
    files = export_data(everything(), tmp_path / "out", "csv")
    turns = files["turns"].read_text().splitlines()
    assert turns[0] == '"dialogue_id","turn","speaker","text","items","time_ms","more"'
    assert set(files) == set(TABLES) and files["turns"] == tmp_path / "out" / "turns.csv"
    assert '"[""a|b"", ""c \\""d\\"", e"", ""["", ""é""]"' in files["turns"].read_text()


def test_what_cannot_be_exported(tmp_path, monkeypatch):
    data = everything()
    with pytest.raises(DataError, match=r'no format "cvs". Did you mean "csv"'):
        export_data(data, tmp_path / "out", "cvs")
    export_data(data, tmp_path / "out")
    with pytest.raises(DataError, match="is there already"):
        export_data(data, tmp_path / "out")

    def full(*args, **options):
        raise (
            pl.exceptions.ComputeError("No space left on device")
            if args
            else OSError(errno.ENOSPC, "x")
        )

    monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    with pytest.raises(DataError, match=r"No space left on device.*nothing was left there"):
        export_data(data, tmp_path / "full", "parquet")
    assert not (tmp_path / "full").exists()
