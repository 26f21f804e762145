"""What an import understood, kept and put aside."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

PREVIEW = 10  # rows of each table that a dry run shows


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
    """Table -> columns kept under their own name, as text."""
    time_unit: str | None
    """Of the first table that has times: s, ms, us, ns, or date for written dates; None where there
    are no times.
    """
    time_units: dict[str, int]
    """Rows of each."""
    counts: dict[str, int] = field(default_factory=dict)
    """exact_duplicates, users_not_in_table, items_without_events, ..."""
    notes: list[str] = field(default_factory=list)
    preview: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Of a dry run: the first rows of every table."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        """Plain text for a terminal."""
        out = []
        for table, file in self.files.items():
            out.append(f"{table}: {self.rows[table]:,} rows from {file}")
            renamed = [
                ours if ours == theirs else f"{ours} (from {theirs})"
                for ours, theirs in self.columns[table].items()
            ]
            out.append(
                f"  understood: {', '.join(renamed)}"
                if renamed
                else "  understood: user item item ..., oldest first"
            )
            if self.further[table]:
                out.append(f"  kept as they are: {', '.join(self.further[table])}")
            out += [
                f"  rejected: {n:,} rows: {reason}"
                for reason, n in self.rejected.get(table, {}).items()
            ]
        if self.time_unit is not None:
            out.append(
                "times: written dates"
                if self.time_unit == "date"
                else f"times: numbers in {self.time_unit}"
            )
        out += [f"{name.replace('_', ' ')}: {n:,}" for name, n in self.counts.items() if n]
        out += [f"note: {note}" for note in self.notes]
        if self.preview:
            out.append("nothing was written (dry run)")
        elif self.rejected:
            out.append(
                f"rejected rows stand with file, line and reason in {self.folder}/rejected.parquet"
            )
        return out


def by_reason(reasons: Mapping[str, int]) -> dict[str, int]:
    """Most frequent first."""
    return dict(sorted(reasons.items(), key=lambda one: (-one[1], one[0])))
