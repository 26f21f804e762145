"""A data set to files that any tool reads, and that an import by table makes the same data set of
again.
"""

from pathlib import Path

import polars as pl

from tailor.data.dataset import Dataset
from tailor.data.folders import written_aside
from tailor.data.importers.parquet import as_text
from tailor.errors import DataError, nearest

FORMATS = ("csv", "jsonl", "parquet")


def export_data(
    data: Dataset, out: str | Path, format: str = "csv", overwrite: bool = False
) -> dict[str, Path]:
    """One file a table in the folder `out`; table -> file. Raises DataError for an unknown format
    and where the disk refuses.

    Times are milliseconds since 1970. CSV holds lists (categories, items of a turn) as JSON, quotes
    every text, and cannot tell an empty text from a missing one; JSON Lines and Parquet hold lists
    as lists. What does not come back through an import: labels, `order` beside times, ids such as
    "None" or with blanks at their ends, the types of further columns (they are texts then), and
    times before 1972, whose milliseconds an import takes for seconds.
    """
    if format not in FORMATS:
        raise DataError(f'no format "{format}".{nearest(format, FORMATS)}')
    with written_aside(out, overwrite) as folder:
        for table, frame in data.tables.items():
            _write(frame, folder / f"{table}.{format}", format)
    return {table: Path(out) / f"{table}.{format}" for table in data.tables}


def _write(frame: pl.DataFrame, path: Path, format: str) -> None:
    try:
        if format == "parquet":
            frame.write_parquet(path)
        elif format == "jsonl":
            frame.write_ndjson(path)
        else:
            nested = [
                as_text(frame[name]) for name, kind in frame.schema.items() if kind.is_nested()
            ]
            frame.with_columns(nested).write_csv(path, quote_style="non_numeric")
    except pl.exceptions.PolarsError as error:  # what Polars makes of a full disk
        raise OSError(f"{path.name}: {error}") from error
