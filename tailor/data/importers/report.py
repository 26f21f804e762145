"""The report of an import: what was understood, kept and put aside."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

PREVIEW = 10  # rows of each table that a dry run shows
UNITS = {
    "date": "written dates",
    "digits": "numbers written as dates (202405011030)",
    "cocoa": "seconds since 2001",
    "dotnet": ".NET ticks",
    "filetime": "ticks of Windows since 1601",
    "webkit": "microseconds since 1601",
    "excel": "days of a spreadsheet",
}


@dataclass(frozen=True)
class ImportReport:
    """Counts of one import; plain values throughout, so that it can be written as JSON."""

    folder: str
    format: str
    files: dict[str, str]
    """Table -> its file."""
    rows: dict[str, int]
    """Table -> rows kept."""
    rejected: dict[str, dict[str, int]]
    """Table -> reason -> rows."""
    columns: dict[str, dict[str, str]]
    """Table -> our column -> the file's."""
    further: dict[str, list[str]]
    """Table -> columns kept under their own name."""
    time_unit: str | None
    """Unit of the first table that has times: s, ms, us, ns, date for written dates, or another
    of --time-unit; None where there are no times.
    """
    time_units: dict[str, int]
    """Rows of each unit."""
    counts: dict[str, int] = field(default_factory=dict)
    """exact_duplicates, users_not_in_table, items_without_events, ..."""
    notes: list[str] = field(default_factory=list)
    """Remarks on what is odd, and on what was left empty."""
    preview: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """First rows of every table, for a dry run."""
    records: dict[str, int] = field(default_factory=dict)
    """Table -> records of its file: rows kept, rejected and left out."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Table -> records whose key came before and may."""
    time_range: list[str] | None = None
    """First and last time of the events, as ISO texts in UTC."""
    types: dict[str, dict[str, str]] = field(default_factory=dict)
    """Table -> further column -> int, float or bool, where it is no text."""

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as plain values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return plain text for a terminal."""
        lines = [line for table in self.files for line in self._table_lines(table)]
        if self.time_unit is not None:
            times = UNITS.get(self.time_unit, f"numbers in {self.time_unit}")
            if self.time_range is not None:
                times += f", from {self.time_range[0]} to {self.time_range[1]}"
            lines.append(f"times: {times}")
        lines += [f"{name.replace('_', ' ')}: {n:,}" for name, n in self.counts.items() if n]
        lines += [f"note: {note}" for note in self.notes]
        if self.preview:
            lines.append("nothing was written (dry run)")
        elif self.rejected:
            lines.append(
                f"rejected rows stand with file, line and reason in {self.folder}/rejected.parquet"
            )
        return lines

    def _table_lines(self, table: str) -> list[str]:
        rejected = self.rejected.get(table, {})
        records = f"{self.records[table]:,} records: {self.rows[table]:,} kept"
        records += f", {sum(rejected.values()):,} rejected"
        if self.left_out.get(table):
            records += f", {self.left_out[table]:,} repeats left out"
        lines = [f"{table}: {self.rows[table]:,} rows from {self.files[table]}", f"  {records}"]
        renamed = [
            ours if ours == theirs else f"{ours} (from {theirs})"
            for ours, theirs in self.columns[table].items()
        ]
        if renamed:
            lines.append(f"  understood: {', '.join(renamed)}")
        else:
            lines.append("  understood: user item item ..., oldest first")
        if self.further[table]:
            types = self.types.get(table, {})
            further = [
                f"{name} ({types[name]})" if name in types else name for name in self.further[table]
            ]
            lines.append(f"  kept as they are: {', '.join(further)}")
        return lines + [f"  rejected: {n:,} rows: {reason}" for reason, n in rejected.items()]


def by_reason(reasons: Mapping[str, int]) -> dict[str, int]:
    """Return counts by reason, most frequent first."""
    return dict(sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0])))
