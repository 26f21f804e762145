"""The Open Bandit Dataset: items shown, the probability of each, and whether it was clicked."""

import csv
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from tailor.data.importers.sources import Distinct, Fields, Record, Records, Source, lines, together
from tailor.errors import DataError
from tailor.progress import Progress

ITEMS = "item_context.csv"
Row = Callable[[Path, dict[str, str]], Fields]
PROPENSITY = ("propensity_score", "action_prob", "pscore")  # as the versions of the set call it


def open_bandit(src: Path, encoding: str) -> dict[str, Source]:
    """Return requests, impressions and items of a folder CAMPAIGN.csv, item_context.csv.

    `src` is such a folder of one policy and campaign, or a folder of such folders. A row is a
    request of its own, "FOLDER:n". Users are not named; their features are in the request's
    context. `model` is the folder, which names the policy; `click` of the impressions is 0 or 1. An
    item's features are those of the first folder (they are hashed anew in each).
    """
    folders = sorted(path.parent for path in src.glob(f"*/{ITEMS}"))
    if (src / ITEMS).exists():
        folders = [src]
    logs = [
        path for folder in folders for path in sorted(folder.glob("*.csv")) if path.name != ITEMS
    ]
    if not logs:
        raise DataError(
            f"{src} holds no CAMPAIGN.csv beside {ITEMS}: name a folder of the Open Bandit Dataset,"
            " such as random-men"
        )
    contexts = [folder / ITEMS for folder in folders]
    return {
        "requests": _table(src, logs, encoding, "request_id time_ms surface context", _request),
        "impressions": _table(
            src,
            logs,
            encoding,
            "request_id position item_id propensity model shown click",
            _impression,
        ),
        "items": Distinct(_table(src, contexts, encoding, "item_id", _item), "item_id"),
    }


def _table(src: Path, paths: list[Path], encoding: str, columns: str, row: Row) -> Source:
    sources = [
        Records(path, tuple(columns.split()), partial(_rows, path, encoding, row)) for path in paths
    ]
    return together(src, sources)


def _rows(path: Path, encoding: str, row: Row, progress: Progress) -> Iterator[Record]:
    header: list[str] = []
    for line, text in lines(path, encoding, progress):
        fields = _fields(text)
        if not header:
            header = fields
            if "item_id" not in header or "" not in header:
                raise DataError(
                    f"{path}:{line}: the first line reads {text[:200]!r}; a column without a name,"
                    " item_id and others are needed"
                )
            continue
        if len(fields) != len(header):
            reason = f"wrong number of fields: {len(fields)} instead of {len(header)}"
            yield Record(line, text, reason)
        else:
            yield Record(line, text, row(path, dict(zip(header, fields))))


def _fields(text: str) -> list[str]:
    """Return the fields of a line; none where it is no CSV."""
    try:
        return next(csv.reader([text]), [])
    except csv.Error:
        return []


def _request(path: Path, fields: dict[str, str]) -> Fields:
    features = {name: value for name, value in fields.items() if name.startswith("user_feature")}
    affinities = (
        (name.rpartition("_")[2], value)
        for name, value in fields.items()
        if name.startswith("user-item_affinity")
    )
    affinity = {item: value for item, value in affinities if value.strip("0.")}  # most are 0.0
    return {
        "request_id": _name(path, fields),
        "time_ms": fields.get("timestamp"),
        "surface": path.stem,
        "context": json.dumps({**features, "affinity": affinity}),
    }


def _impression(path: Path, fields: dict[str, str]) -> Fields:
    propensities = [fields[name] for name in PROPENSITY if name in fields]
    return {
        "request_id": _name(path, fields),
        "position": fields.get("position"),
        "item_id": fields["item_id"],
        "propensity": propensities[0] if propensities else None,
        "model": path.parent.name,
        "shown": True,
        "click": fields.get("click"),
    }


def _item(path: Path, fields: dict[str, str]) -> Fields:
    return {name: value for name, value in fields.items() if name}


def _name(path: Path, fields: dict[str, str]) -> str:
    return f"{path.parent.name}:{path.stem}:{fields['']}"
