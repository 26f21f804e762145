"""MovieLens as GroupLens publishes it: u.data of 100k, .dat of 1M and 10M, .csv of later sets."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tailor.data.importers.delimited import table_source
from tailor.data.importers.sources import Record, Records, Source, lines
from tailor.errors import DataError
from tailor.progress import Progress, silent

# file -> table and its columns; those without a name of ours are kept under their own
DAT = {
    "ratings.dat": ("events", ("user_id", "item_id", "value", "time_ms")),
    "movies.dat": ("items", ("item_id", "title", "categories")),
    "users.dat": ("users", ("user_id", "gender", "age", "occupation", "zip_code")),
    "tags.dat": ("texts", ("user_id", "item_id", "text", "time_ms")),
}
CSV = {"ratings.csv": "events", "movies.csv": "items", "tags.csv": "texts"}
GENRES = (
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
U_ITEM = ("item_id", "title", "release_date", "video_release_date", "imdb_url")
U_USER = ("user_id", "age", "gender", "occupation", "zip_code")
U_DATA = ("user_id", "item_id", "value", "time_ms")
Row = Mapping[str, str | None]


def movielens(src: Path, encoding: str) -> dict[str, Source]:
    """Return the tables of ratings, movies, users and tags that a folder holds."""
    if src.is_file() and src.name in ("u.data", "ratings.dat"):
        return {"events": _events(src, encoding)}
    if not src.is_dir():
        raise DataError(
            f"{src} is no folder: name the folder of ratings.csv, ratings.dat or u.data"
        )
    tables: dict[str, Source] = {}
    for file, (table, columns) in DAT.items():
        if (src / file).exists():
            tables[table] = _dat(src / file, columns, encoding)
    for file, table in CSV.items():
        if table not in tables and (src / file).exists():
            tables[table] = table_source(src / file, table, encoding)
    if (src / "u.data").exists():
        tables |= _of_100k(src, encoding)
    if not tables:
        raise DataError(
            f"{src} holds no u.data, ratings.dat, ratings.csv, movies.dat or movies.csv: name the"
            " folder of a MovieLens set"
        )
    return tables


def _events(path: Path, encoding: str) -> Source:
    if path.name == "u.data":
        return _split(path, "\t", U_DATA, encoding)
    return _dat(path, DAT["ratings.dat"][1], encoding)


def _of_100k(folder: Path, encoding: str) -> dict[str, Source]:
    """Return u.data, and u.item and u.user where they are there."""
    tables = {"events": _split(folder / "u.data", "\t", U_DATA, encoding)}
    if (folder / "u.item").exists():
        tables["items"] = _split(folder / "u.item", "|", U_ITEM, encoding, GENRES)
    if (folder / "u.user").exists():
        tables["users"] = _split(folder / "u.user", "|", U_USER, encoding)
    return dict(tables)


def _split(
    path: Path,
    separator: str,
    columns: tuple[str, ...],
    encoding: str,
    flags: tuple[str, ...] = (),
) -> Records:
    """Return a table of fields between separators; `flags` are columns of 0 and 1 after them."""
    width = len(columns) + len(flags)

    def row(text: str) -> Row | str:
        fields = text.split(separator)
        if len(fields) != width:
            return f"wrong number of fields: {len(fields)} instead of {width}"
        values: dict[str, str | None] = dict(zip(columns, fields))
        if flags:
            genres = [
                name for name, flag in zip(flags, fields[len(columns) :]) if flag.strip() == "1"
            ]
            values["categories"] = "|".join(name for name in genres if name != "unknown") or None
        return values

    names = (*columns, "categories") if flags else columns
    return _records(path, names, encoding, row)


def _dat(path: Path, columns: tuple[str, ...], encoding: str) -> Records:
    """Return a table of fields between "::"."""

    def row(text: str) -> Row | str:
        fields = text.split("::")
        if len(fields) > len(columns) and columns[1] == "title":  # a title may hold "::" itself
            fields = [fields[0], "::".join(fields[1:-1]), fields[-1]]
        if len(fields) != len(columns):
            return f"wrong number of fields: {len(fields)} instead of {len(columns)}"
        return {
            name: None if text == "(no genres listed)" else text
            for name, text in zip(columns, fields)
        }

    return _records(path, columns, encoding, row)


def _records(
    path: Path, columns: tuple[str, ...], encoding: str, row: Callable[[str], Row | str]
) -> Records:
    encoding = _encoding(path, encoding)

    def read(progress: Progress) -> Iterator[Record]:
        for line, text in lines(path, encoding, progress):
            yield Record(line, text, row(text))

    return Records(path, columns, read)


def _encoding(path: Path, encoding: str) -> str:
    """Return latin-1 for a file that is not UTF-8.

    The published files are latin-1, copies of them often UTF-8; text that can be read as UTF-8 is
    hardly ever anything else.
    """
    if encoding != "utf-8":
        return encoding
    try:
        for _ in lines(path, "utf-8", silent, strict=True):
            pass
    except DataError:
        return "latin-1"
    return "utf-8"
