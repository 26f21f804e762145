"""Exports of a data set to files that any tool reads, and that an import reads back."""

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
    """Write one file a table into the folder `out`; return table -> file.

    Times are milliseconds since 1970. CSV holds lists (categories, items of a turn) as JSON, quotes
    every text, and cannot tell an empty text from a missing one; JSON Lines and Parquet hold lists
    as lists. An import does not bring back labels, `order` beside times, ids with blanks at their
    ends, texts that read \\N, further columns of texts that look like numbers (CSV and JSON Lines),
    and times before 1972, whose milliseconds it takes for seconds. Raises DataError for an unknown
    format and where the disk refuses.
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
