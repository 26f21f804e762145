"""Dialogues as turns: LoCoMo's long conversations with questions about them, ReDial's talks about
films.
"""

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from tailor.data.importers.json_lines import objects
from tailor.data.importers.packed import opened
from tailor.data.importers.reading import text_file
from tailor.data.importers.sources import Record, Records, Source, nth
from tailor.errors import DataError
from tailor.progress import Progress, silent

SESSION = re.compile(r"session_(\d+)")
EVIDENCE = re.compile(r"[;,\s]+")
SAID = "%I:%M %p on %d %B, %Y"
CATEGORIES = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop", 5: "adversarial"}


def locomo(src: Path, encoding: str) -> dict[str, Source]:
    """locomo10.json: turns; questions as requests ("conv-26:q0"); their evidence as judgements of
    items, which are the turns.

    A turn's item_id is "dialogue:turn", turns counted from 0 through all sessions of a dialogue. A
    session's time is that of its turns; no zone is given, UTC is assumed. Evidence that names no
    turn is put aside.
    """
    path = _file(src, "locomo10.json")
    tables: dict[str, tuple[str, Callable[[str, dict[str, Any]], Iterator[Any]]]] = {
        "turns": ("dialogue_id turn speaker text time_ms session_id source_id caption", _turns),
        "items": ("item_id dialogue_id text created_ms", _passages),
        "requests": ("request_id text context answer category", _questions),
        "judgements": ("query_id item_id grade source_id", _evidence),
    }
    return {
        table: Records(path, tuple(columns.split()), partial(_of_samples, path, encoding, rows))
        for table, (columns, rows) in tables.items()
    }


def _of_samples(
    path: Path,
    encoding: str,
    rows: Callable[[str, dict[str, Any]], Iterator[Any]],
    progress: Progress,
) -> Iterator[Record]:
    """Records of every dialogue; their "line" is the dialogue's number in the file, which is one
    JSON array.
    """
    try:
        with opened(path) as file:
            samples = json.loads(file.read().decode(encoding))
        if not isinstance(samples, list):
            raise TypeError("no list of dialogues")
        for n, sample in enumerate(progress(samples, f"reading {path.name}", len(samples)), 1):
            for at, fields in enumerate(rows(str(sample.get("sample_id", n)), sample)):
                yield Record(
                    nth(n, at),
                    (
                        json.dumps(fields, ensure_ascii=False)[:2000]
                        if isinstance(fields, dict)
                        else fields[1]
                    ),
                    fields if isinstance(fields, dict) else fields[0],
                )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path} is not of LoCoMo's layout ({type(error).__name__}: {error}): name"
            " locomo10.json or its folder"
        ) from None


def _said(sample: dict[str, Any]) -> Iterator[tuple[int, int, int | None, dict[str, Any]]]:
    """Every turn of a dialogue with its number, its session and the session's time."""
    talk = sample["conversation"]
    sessions = sorted(int(found[1]) for name in talk if (found := SESSION.fullmatch(name)))
    turn = 0
    for session in sessions:
        written = talk.get(f"session_{session}_date_time")
        time_ms = (
            None
            if written is None
            else int(
                datetime.strptime(written.strip(), SAID).replace(tzinfo=UTC).timestamp() * 1000
            )
        )
        for one in talk[f"session_{session}"]:
            yield turn, session, time_ms, one
            turn += 1


def _turns(dialogue: str, sample: dict[str, Any]) -> Iterator[Any]:
    for turn, session, time_ms, one in _said(sample):
        yield {
            "dialogue_id": dialogue,
            "turn": turn,
            "speaker": one["speaker"],
            "text": one.get("text"),
            "time_ms": time_ms,
            "session_id": str(session),
            "source_id": one["dia_id"],
            "caption": one.get("blip_caption"),
        }


def _passages(dialogue: str, sample: dict[str, Any]) -> Iterator[Any]:
    for turn, _, time_ms, one in _said(sample):
        words = [
            f"{one['speaker']}: {one.get('text') or ''}",
            f"[shares {one['blip_caption']}]" if one.get("blip_caption") else "",
        ]
        yield {
            "item_id": f"{dialogue}:{turn}",
            "dialogue_id": dialogue,
            "text": " ".join(words).strip(),
            "created_ms": time_ms,
        }


def _questions(dialogue: str, sample: dict[str, Any]) -> Iterator[Any]:
    for n, one in enumerate(sample["qa"]):
        answer = one.get("answer", one.get("adversarial_answer"))
        yield {
            "request_id": f"{dialogue}:q{n}",
            "text": one["question"],
            "context": dialogue,
            "answer": answer,
            "category": CATEGORIES.get(one["category"], one["category"]),
        }


def _evidence(dialogue: str, sample: dict[str, Any]) -> Iterator[Any]:
    """One judgement a turn named; a string may name several, or what is no turn of the dialogue."""
    known = {one["dia_id"]: turn for turn, _, _, one in _said(sample)}
    for n, one in enumerate(sample["qa"]):
        named = [part for text in one.get("evidence", ()) for part in EVIDENCE.split(text) if part]
        for part in dict.fromkeys(named):
            if part in known:
                yield {
                    "query_id": f"{dialogue}:q{n}",
                    "item_id": f"{dialogue}:{known[part]}",
                    "grade": 1,
                    "source_id": part,
                }
            else:
                yield (
                    f'evidence that is no turn of the dialogue: "{part}"',
                    f"{dialogue}:q{n} {part}",
                )


def redial(src: Path, encoding: str) -> dict[str, Source]:
    """Lines {dialog_id, turn_id, context, resp, rec}: whole dialogues, what was recommended as a
    turn's items; films as items.

    A line repeats what was said before it, so a dialogue is the longest of its lines. Answers are
    the system's, and the two take turns: speakers are counted back from the last answer. (The
    labels in the lines' `input` are counted from the beginning, where in two dialogues of three an
    empty turn too many stands, and name the wrong one there.) Entities are named by entity2id.json
    beside the file.
    """
    path = _file(src, "test.jsonl")
    names = path.with_name("entity2id.json")

    def turns(progress: Progress) -> Iterator[Record]:
        for dialogue, (record, said, items) in _dialogues(path, encoding, progress).items():
            for turn, text in enumerate(said):
                if turn or text:  # a dialogue that the user opens begins with an empty turn
                    yield record._replace(
                        fields={
                            "dialogue_id": dialogue,
                            "turn": turn,
                            "speaker": "user" if (len(said) - turn) % 2 == 0 else "system",
                            "text": text,
                            "items": items.get(turn),
                        },
                        place=nth(record.place, turn),
                    )

    def films(progress: Progress) -> Iterator[Record]:
        called = _entities(names) if names.exists() else {}
        dialogues = _dialogues(path, encoding, silent).values()
        recommended = dict.fromkeys(
            one for _, _, items in dialogues for rec in items.values() for one in rec
        )
        for n, one in enumerate(recommended, 1):
            yield Record(n, one, {"item_id": one, "title": called.get(one)})

    return {
        "turns": Records(
            path,
            ("dialogue_id", "turn", "speaker", "text", "items"),
            turns,
            ("", "", "", "", "list"),
        ),
        "items": Records(path, ("item_id", "title"), films),
    }


# where it ends, what was said, the items of a turn
Dialogue = tuple[Record, list[str], dict[int, list[str]]]


def _dialogues(path: Path, encoding: str, progress: Progress) -> dict[str, Dialogue]:
    found: dict[str, Dialogue] = {}
    for record in objects(path, encoding, progress):
        try:
            fields: Any = record.fields
            said, recommended = (
                [*fields["context"], fields["resp"]],
                [str(one) for one in fields["rec"]],
            )
            before = found.get(fields["dialog_id"])
        except (KeyError, TypeError) as error:
            raise DataError(
                f"{path}:{record.place} is not of ReDial's layout ({error}): dialog_id, context,"
                " resp and rec are needed"
            ) from None
        items = {**(before[2] if before else {}), len(said) - 1: recommended}
        found[fields["dialog_id"]] = (
            (before[0], before[1], items)
            if before and len(before[1]) >= len(said)
            else (record, said, items)
        )
    return found


def _entities(path: Path) -> dict[str, str]:
    """Number -> name, from <http://dbpedia.org/resource/Police_Academy> and the like."""
    try:
        named = json.loads(path.read_text(encoding="utf-8"))
        return {
            str(number): name.strip("<>").rpartition("/resource/")[2].replace("_", " ")
            for name, number in named.items()
        }
    except (ValueError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path} is no object of names and numbers ({error}): fetch it again, or remove it to"
            " do without titles"
        ) from None


def _file(src: Path, usual: str) -> Path:
    return text_file(src / usual if src.is_dir() else src, "dialogues")
