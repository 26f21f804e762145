"""Which reader a file needs, by its name; CSV files and RecBole's atomic files; folders of part
files.
"""

from pathlib import Path

from tailor.data.importers.json_lines import json_lines
from tailor.data.importers.packed import inner_name
from tailor.data.importers.parquet import Parquet
from tailor.data.importers.reading import layout, text_file
from tailor.data.importers.sources import Source, together
from tailor.data.tables import TABLES
from tailor.errors import DataError

ENDINGS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
ATOMIC = {".inter": "events", ".item": "items", ".user": "users"}


def table_source(path: str | Path, what: str, encoding: str, format: str = "csv") -> Source:
    """A file, or a folder of part files, of one table. The ending .csv, .jsonl or .parquet decides
    how it is read, else `format`.
    """
    path = Path(path)
    if path.is_dir():
        return _parts(path, what, encoding, format)
    kind = ENDINGS.get(Path(inner_name(path)).suffix.lower(), format)
    if kind == "parquet":
        return Parquet(_parquet_file(path, what))
    text_file(path, what)
    if kind == "jsonl":
        return json_lines(path, encoding)
    return layout(path, encoding, atomic=path.suffix in ATOMIC)


def _parquet_file(path: Path, what: str) -> Path:
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist: name the file of {what}") from None
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from None
    if not head.startswith(b"PAR1"):
        raise DataError(f"{path} is no Parquet file: give its format (--format csv or jsonl)")
    return path


def _parts(folder: Path, what: str, encoding: str, format: str) -> Source:
    files = _files(folder)
    if not files:
        raise DataError(
            f"{folder} is a folder, a file of {what} is needed: name the file in it (no .csv,"
            " .jsonl or .parquet file is there)"
        )
    files = [path for path in files if path.stat().st_size] or files  # writers leave empty parts
    return together(folder, [table_source(path, what, encoding, format) for path in files])


def _files(folder: Path) -> list[Path]:
    """Every file of a known ending; hidden files and those that begin with _ are a writer's own."""
    inside = sorted(
        path for path in folder.iterdir() if path.is_file() and not path.name.startswith((".", "_"))
    )
    return [path for path in inside if Path(inner_name(path)).suffix.lower() in ENDINGS]


def delimited(src: Path, encoding: str, format: str = "csv") -> dict[str, Source]:
    """The events; or, of a folder whose files are all called like tables (as an export makes it),
    those tables.
    """
    if not src.is_dir():
        return {"events": table_source(src, "events", encoding, format)}
    _no_known_layout(src)
    named = {Path(inner_name(path)).stem: path for path in _files(src)}
    if named and named.keys() <= TABLES.keys() and len(named) == len(_files(src)):
        return {table: table_source(path, table, encoding, format) for table, path in named.items()}
    return {"events": table_source(src, "events", encoding, format)}


def _no_known_layout(folder: Path) -> None:
    """Folders that would make parts of one table of what are several."""
    if (folder / "dataset.toml").exists():
        raise DataError(f"{folder} is a data set already: use it as it is")
    if any(folder.glob("*.inter")):
        raise DataError(
            f"{folder} is a folder of RecBole's atomic files: say so (--format recbole)"
        )
    if (folder / "movies.csv").exists() and (folder / "ratings.csv").exists():
        raise DataError(f"{folder} is a folder of MovieLens: say so (--format movielens)")


def recbole(src: Path, encoding: str) -> dict[str, Source]:
    """NAME.inter, and NAME.item and NAME.user where they stand beside it in a folder."""
    if not src.is_dir():
        return {"events": table_source(src, "events", encoding)}
    events = sorted(src.glob("*.inter"))
    if len(events) != 1:
        has = ", ".join(path.name for path in events) or "none"
        raise DataError(f"{src} must hold one file NAME.inter, it has {has}: name the file itself")
    files = {table: events[0].with_suffix(ending) for ending, table in ATOMIC.items()}
    return {
        table: table_source(path, table, encoding) for table, path in files.items() if path.exists()
    }
