"""Which reader a file needs, by its name and beginning; RecBole's atomic files; part files."""

from pathlib import Path
from urllib.parse import unquote

from tailor.data.importers.json_lines import json_lines
from tailor.data.importers.packed import inner_name
from tailor.data.importers.parquet import Parquet
from tailor.data.importers.reading import Layout, layout, text_file
from tailor.data.importers.sources import Partition, Source, together
from tailor.data.tables import TABLES
from tailor.errors import DataError

ENDINGS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
ATOMIC = {".inter": "events", ".item": "items", ".user": "users"}
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"  # names the folder of rows without a value


def table_source(
    path: str | Path, table: str, encoding: str, format: str = "csv", header: bool | None = None
) -> Source:
    """Return the source of one table: a file, or a folder of part files.

    The ending .csv, .json, .jsonl or .parquet decides how it is read, else `format`.
    """
    path = Path(path)
    if path.is_dir():
        return _parts(path, table, encoding, format, header)
    kind = ENDINGS.get(_ending(path), format)
    if kind == "parquet":
        return Parquet(_parquet_file(path, table))
    text_file(path, table)
    if kind == "jsonl":
        return json_lines(path, encoding)
    source = layout(path, encoding, atomic=path.suffix in ATOMIC, header=header)
    _one_event_a_row(source)
    return source


def _one_event_a_row(source: Layout) -> None:
    """Raise DataError for RecBole's files of whole histories: a row of them is no event."""
    histories = [name for name in source.columns if name.endswith("item_id_list")]
    if source.path.suffix == ".inter" and histories:
        raise DataError(
            f"{source.path} holds a whole history in each row ({histories[0]}): one event a row is"
            " needed. Import the .inter file that it was made of, or write lines of `user item"
            " item ...`, oldest first, and import them with --format sequences"
        )


def other_format(source: Source) -> str:
    """Return a hint for a file whose columns are unknown: the format that it may have."""
    if not isinstance(source, Layout):
        return ""
    first = (source.first or source.columns)[0]
    if "::" in first:
        return '. "::" between fields is how MovieLens writes: --format movielens reads its folder'
    if first.lstrip().startswith("{"):
        return ". Its lines look like JSON: --format jsonl"
    if len(source.columns) == 1 and len(first.split()) > 1:
        return ". If its lines read `user item item ...`, say so: --format sequences"
    if not source.first:
        return ". If its first line is a row and no header: --no-header --columns user_id=1,..."
    values = ", ".join(f"{n} = {text[:40]}" for n, text in enumerate(source.first, 1))
    return f". Columns of a file without a header have numbers; its first row: {values}"


def _parquet_file(path: Path, table: str) -> Path:
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist: name the file of {table}") from None
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from None
    if not head.startswith(b"PAR1"):
        raise DataError(f"{path} is no Parquet file: give its format (--format csv or jsonl)")
    return path


def _parts(folder: Path, table: str, encoding: str, format: str, header: bool | None) -> Source:
    files = _part_files(folder) + _partitioned(folder)
    if not files:
        raise DataError(
            f"{folder} is a folder, a file of {table} is needed: name the file in it (no .csv,"
            " .json, .jsonl or .parquet file is there)"
        )
    files = [path for path in files if path.stat().st_size] or files  # writers leave empty parts
    sources = []
    for path in files:
        source = table_source(path, table, encoding, format, header)
        values = _partition_values(path.relative_to(folder))
        sources.append(Partition(source, values) if values else source)
    return together(folder, sources)


def _files(folder: Path) -> list[Path]:
    """Return every file of a known ending; hidden ones and those that begin with _ are left out."""
    files = [path for path in folder.iterdir() if path.is_file() and _is_public(path)]
    return sorted(path for path in files if _ending(path) in ENDINGS)


def _part_files(folder: Path) -> list[Path]:
    """Return the part files of a folder; .json beside others describes them and is none."""
    files = _files(folder)
    return [path for path in files if _ending(path) != ".json"] or files


def _ending(path: Path) -> str:
    return Path(inner_name(path)).suffix.lower()


def _partitioned(folder: Path) -> list[Path]:
    """Return the files in folders called like date=2024-01-01, at any depth."""
    files: list[Path] = []
    for path in sorted(folder.iterdir()):
        if path.is_dir() and "=" in path.name and _is_public(path):
            files += _part_files(path) + _partitioned(path)
    return files


def _is_public(path: Path) -> bool:
    return not path.name.startswith((".", "_"))


def _partition_values(path: Path) -> tuple[tuple[str, str | None], ...]:
    """Return the names and values of the folders of a part file."""
    pairs = [folder.partition("=") for folder in path.parts[:-1]]
    values = [(name, None if value == NO_VALUE else unquote(value)) for name, _, value in pairs]
    return tuple(values)


def delimited(
    src: Path, encoding: str, format: str = "csv", header: bool | None = None
) -> dict[str, Source]:
    """Return the source of the events.

    A folder whose files are all called like tables, as an export makes it, gives those tables.
    """
    if not src.is_dir():
        return {"events": table_source(src, "events", encoding, format, header)}
    _no_known_layout(src)
    files = _files(src)
    by_name = {Path(inner_name(path)).stem: path for path in files}
    if by_name and by_name.keys() <= TABLES.keys() and len(by_name) == len(files):
        return {
            table: table_source(path, table, encoding, format, header)
            for table, path in by_name.items()
        }
    return {"events": table_source(src, "events", encoding, format, header)}


def _no_known_layout(folder: Path) -> None:
    """Raise DataError for folders that would make parts of one table of several tables."""
    if (folder / "dataset.toml").exists():
        raise DataError(f"{folder} is a data set already: use it as it is")
    if any(folder.glob("*.inter")):
        raise DataError(
            f"{folder} is a folder of RecBole's atomic files: say so (--format recbole)"
        )
    if (folder / "movies.csv").exists() and (folder / "ratings.csv").exists():
        raise DataError(f"{folder} is a folder of MovieLens: say so (--format movielens)")
    if (folder / "u.data").exists():
        raise DataError(f"{folder} is a folder of MovieLens: say so (--format movielens)")


def recbole(src: Path, encoding: str) -> dict[str, Source]:
    """Return NAME.inter, and NAME.item and NAME.user of the same folder where they are there."""
    if not src.is_dir():
        return {"events": table_source(src, "events", encoding)}
    events = sorted(src.glob("*.inter"))
    if len(events) != 1:
        names = ", ".join(path.name for path in events) or "none"
        raise DataError(
            f"{src} must hold one file NAME.inter, it has {names}: name the file itself"
        )
    files = {table: events[0].with_suffix(ending) for ending, table in ATOMIC.items()}
    return {
        table: table_source(path, table, encoding) for table, path in files.items() if path.exists()
    }
