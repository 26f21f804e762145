"""The Open Bandit Dataset: every row an item shown at a position with the probability it was chosen by, and whether it was clicked."""

import csv
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tailor.data.importers.sources import Distinct, Fields, Parts, Record, Records, Source, lines
from tailor.errors import DataError
from tailor.progress import Progress

ITEMS = "item_context.csv"
PROPENSITY = ("propensity_score", "action_prob", "pscore")  # as the versions of the set call it


def open_bandit(src: Path, encoding: str) -> dict[str, Source]:
    """Folder of one policy and campaign (CAMPAIGN.csv, item_context.csv), or of such folders: requests, impressions, items.

    A row is a request of its own, "FOLDER:n"; users are not named, what is known about them stands in the request's context.
    `model` is the folder, which names the policy; `click` of the impressions is 0 or 1.
    """
    folders = [src] if (src / ITEMS).exists() else sorted(path.parent for path in src.glob(f"*/{ITEMS}"))
    logs = [path for folder in folders for path in sorted(folder.glob("*.csv")) if path.name != ITEMS]
    if not logs:
        raise DataError(f"{src} holds no CAMPAIGN.csv beside {ITEMS}: name a folder of the Open Bandit Dataset, such as random-men")
    contexts = [folder / ITEMS for folder in folders]
    return {
        "requests": _table(src, logs, encoding, "request_id time_ms surface context", _request),
        "impressions": _table(src, logs, encoding, "request_id position item_id propensity model shown click", _impression),
        "items": Distinct(_table(src, contexts, encoding, "item_id", _item), "item_id"),
    }


def _table(src: Path, paths: list[Path], encoding: str, columns: str, row: Any) -> Source:
    made = [Records(path, tuple(columns.split()), partial(_rows, path, encoding, row)) for path in paths]
    return made[0] if len(made) == 1 else Parts(src, tuple(made))


def _rows(path: Path, encoding: str, row: Any, progress: Progress) -> Iterator[Record]:
    header: list[str] = []
    for line, text in lines(path, encoding, progress):
        fields = next(csv.reader([text]))
        if not header:
            header = fields
            if "item_id" not in header:
                raise DataError(f"{path}:{line}: no column item_id; its first line names {', '.join(header)}")
            continue
        wrong = f"wrong number of fields: {len(fields)} instead of {len(header)}"
        yield Record(line, text, row(path, dict(zip(header, fields))) if len(fields) == len(header) else wrong)


def _request(path: Path, fields: dict[str, str]) -> Fields:
    about = {name: value for name, value in fields.items() if name.startswith("user_feature")}
    liked = {
        name.rpartition("_")[2]: float(value) for name, value in fields.items() if name.startswith("user-item_affinity") and float(value)
    }
    return {"request_id": _name(path, fields), "time_ms": fields["timestamp"], "surface": path.stem,
            "context": json.dumps({**about, "affinity": liked})}  # fmt: skip


def _impression(path: Path, fields: dict[str, str]) -> Fields:
    chance = next((fields[name] for name in PROPENSITY if name in fields), None)
    return {"request_id": _name(path, fields), "position": fields["position"], "item_id": fields["item_id"], "propensity": chance,
            "model": path.parent.name, "shown": True, "click": fields.get("click")}  # fmt: skip


def _item(path: Path, fields: dict[str, str]) -> Fields:
    return {name: value for name, value in fields.items() if name}


def _name(path: Path, fields: dict[str, str]) -> str:
    return f"{path.parent.name}:{path.stem}:{fields['']}"
