"""MovieLens as GroupLens publishes it: the .dat files of 1M and 10M ("::" between fields), the .csv
files of the later sets.
"""

from collections.abc import Iterator
from pathlib import Path

from tailor.data.importers.delimited import table_source
from tailor.data.importers.sources import Record, Records, Source, lines
from tailor.errors import DataError
from tailor.progress import Progress, silent

DAT = {  # file -> table and its columns; what has no name of ours is kept under its own
    "ratings": ("events", ("user_id", "item_id", "value", "time_ms")),
    "movies": ("items", ("item_id", "title", "categories")),
    "users": ("users", ("user_id", "gender", "age", "occupation", "zip_code")),
    "tags": ("texts", ("user_id", "item_id", "text", "time_ms")),
}
CSV = {"ratings": "events", "movies": "items", "tags": "texts"}


def movielens(src: Path, encoding: str) -> dict[str, Source]:
    """What a folder holds of ratings, movies, users and tags."""
    if not src.is_dir():
        raise DataError(f"{src} is no folder: name the folder of ratings.csv or ratings.dat")
    found: dict[str, Source] = {}
    for file, (table, columns) in DAT.items():
        if (path := src / f"{file}.dat").exists():
            found[table] = _dat(path, columns, encoding)
    for file, table in CSV.items():
        if table not in found and (path := src / f"{file}.csv").exists():
            found[table] = table_source(path, table, encoding)
    if not found:
        raise DataError(
            f"{src} holds no ratings.dat, ratings.csv, movies.dat or movies.csv: name the folder of"
            " a MovieLens set"
        )
    return found


def _dat(path: Path, columns: tuple[str, ...], encoding: str) -> Records:
    encoding = _encoding(path, encoding)

    def read(progress: Progress) -> Iterator[Record]:
        for line, text in lines(path, encoding, progress):
            fields = text.split("::")
            if len(fields) > len(columns) and columns[1] == "title":  # a title may hold "::" itself
                fields = [fields[0], "::".join(fields[1:-1]), fields[-1]]
            wrong = f"wrong number of fields: {len(fields)} instead of {len(columns)}"
            row = {
                name: None if field == "(no genres listed)" else field
                for name, field in zip(columns, fields)
            }
            yield Record(line, text, row if len(fields) == len(columns) else wrong)

    return Records(path, columns, read)


def _encoding(path: Path, encoding: str) -> str:
    """The published files are latin-1, copies of them often UTF-8: text that can be read as UTF-8
    is hardly ever anything else.
    """
    if encoding != "utf-8":
        return encoding
    try:
        for _ in lines(path, "utf-8", silent):
            pass
    except DataError:
        return "latin-1"
    return "utf-8"
