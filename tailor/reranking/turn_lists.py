"""Turns of dialogues as a data set has them, and the judged requests about each dialogue."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tailor.data.dataset import Dataset
from tailor.reranking.examples import grades_of
from tailor.text.turns import DialogueTurn


class TurnList(NamedTuple):
    """The turns of a dialogue, with the requests about them and the gains of the turns."""

    turns: tuple[DialogueTurn, ...]
    requests: list[str]
    gains: np.ndarray
    """(R, n) 1 for a turn that holds the answer."""


def item_id(turn: DialogueTurn) -> str:
    """Return the id of the item that a turn is: "dialogue:number"."""
    return f"{turn.dialogue_id}:{turn.number}"


def turns_of(data: Dataset) -> dict[str, list[DialogueTurn]]:
    """Return dialogue -> its turns in order, from the table `turns`."""
    dialogues: dict[str, list[DialogueTurn]] = {}
    if "turns" not in data.tables:
        return dialogues
    for row in data.tables["turns"].sort("dialogue_id", "turn").iter_rows(named=True):
        caption = f" [shares {row['caption']}]" if row.get("caption") else ""
        turn = DialogueTurn(
            row["speaker"] or "",
            f"{row['text'] or ''}{caption}".strip(),
            row.get("time_ms"),
            row["dialogue_id"],
            row["turn"],
            row.get("session_id") or "",
        )
        dialogues.setdefault(row["dialogue_id"], []).append(turn)
    return dialogues


def dialogues_of(data: Dataset) -> Iterator[TurnList]:
    """Yield the judged requests about each dialogue; a request's context is its dialogue."""
    if not {"requests", "judgements"} <= set(data.tables):
        return
    grades = grades_of(data)
    turns = turns_of(data)
    requests: dict[str, list[tuple[str, str]]] = {}
    for row in data.tables["requests"].iter_rows(named=True):
        if row["request_id"] in grades and row.get("context") in turns:
            requests.setdefault(row["context"], []).append((row["request_id"], row["text"]))
    for dialogue, rows in requests.items():
        ids = [item_id(turn) for turn in turns[dialogue]]
        gains = [
            [float(grades[request_id].get(name, 0) > 0) for name in ids] for request_id, _ in rows
        ]
        texts = [text for _, text in rows]
        yield TurnList(tuple(turns[dialogue]), texts, np.array(gains))
