"""Dialogues as turns: LoCoMo's long conversations with questions, ReDial's talks about films."""

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tailor.data.importers.json_lines import objects
from tailor.data.importers.packed import opened
from tailor.data.importers.reading import text_file
from tailor.data.importers.sources import Record, Records, Source, nth
from tailor.errors import DataError
from tailor.progress import Progress, silent

SESSION = re.compile(r"session_(\d+)")
EVIDENCE = re.compile(r"[;,\s]+")
SESSION_TIME = "%I:%M %p on %d %B, %Y"
CATEGORIES = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop", 5: "adversarial"}


def locomo(src: Path, encoding: str) -> dict[str, Source]:
    """Return the tables of locomo10.json.

    Questions are requests ("conv-26:q0"), their evidence judgements of items, which are the turns.
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
    """Yield the records of every dialogue.

    Their "line" is the dialogue's number in the file, which is one JSON array.
    """
    try:
        with opened(path) as file:
            samples = json.loads(file.read().decode(encoding))
        if not isinstance(samples, list):
            raise TypeError("no list of dialogues")
        for n, sample in enumerate(progress(samples, f"reading {path.name}", len(samples)), 1):
            for position, row in enumerate(rows(str(sample.get("sample_id", n)), sample)):
                yield _record(nth(n, position), row)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path} is not of LoCoMo's layout ({type(error).__name__}: {error}): name"
            " locomo10.json or its folder"
        ) from None


def _record(position: int, row: dict[str, Any] | tuple[str, str]) -> Record:
    """Return the record of a row, or of why there is none and its text."""
    if isinstance(row, dict):
        return Record(position, json.dumps(row, ensure_ascii=False)[:2000], row)
    reason, raw = row
    return Record(position, raw, reason)


class Utterance(NamedTuple):
    """One turn of a dialogue."""

    turn: int
    session: int
    time_ms: int | None
    fields: dict[str, Any]


def _utterances(sample: dict[str, Any]) -> Iterator[Utterance]:
    """Yield every turn of a dialogue with its number, its session and the session's time."""
    talk = sample["conversation"]
    matches = [SESSION.fullmatch(name) for name in talk]
    turn = 0
    for session in sorted(int(match[1]) for match in matches if match):
        time_ms = _session_time(talk.get(f"session_{session}_date_time"))
        for fields in talk[f"session_{session}"]:
            yield Utterance(turn, session, time_ms, fields)
            turn += 1


def _session_time(text: str | None) -> int | None:
    if text is None:
        return None
    moment = datetime.strptime(text.strip(), SESSION_TIME).replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)


def _turns(dialogue: str, sample: dict[str, Any]) -> Iterator[Any]:
    for utterance in _utterances(sample):
        yield {
            "dialogue_id": dialogue,
            "turn": utterance.turn,
            "speaker": utterance.fields["speaker"],
            "text": utterance.fields.get("text"),
            "time_ms": utterance.time_ms,
            "session_id": str(utterance.session),
            "source_id": utterance.fields["dia_id"],
            "caption": utterance.fields.get("blip_caption"),
        }


def _passages(dialogue: str, sample: dict[str, Any]) -> Iterator[Any]:
    for utterance in _utterances(sample):
        fields = utterance.fields
        text = f"{fields['speaker']}: {fields.get('text') or ''}"
        caption = f"[shares {fields['blip_caption']}]" if fields.get("blip_caption") else ""
        yield {
            "item_id": f"{dialogue}:{utterance.turn}",
            "dialogue_id": dialogue,
            "text": f"{text} {caption}".strip(),
            "created_ms": utterance.time_ms,
        }


def _questions(dialogue: str, sample: dict[str, Any]) -> Iterator[Any]:
    for n, question in enumerate(sample["qa"]):
        category = question["category"]
        yield {
            "request_id": f"{dialogue}:q{n}",
            "text": question["question"],
            "context": dialogue,
            "answer": question.get("answer", question.get("adversarial_answer")),
            "category": CATEGORIES.get(category, category),
        }


def _evidence(dialogue: str, sample: dict[str, Any]) -> Iterator[Any]:
    """Yield one judgement for each turn that a question names as its evidence.

    A string may name several, or what is no turn of the dialogue.
    """
    turns = {utterance.fields["dia_id"]: utterance.turn for utterance in _utterances(sample)}
    for n, question in enumerate(sample["qa"]):
        parts = [EVIDENCE.split(text) for text in question.get("evidence", ())]
        sources = [source for texts in parts for source in texts if source]
        for source in dict.fromkeys(sources):
            if source in turns:
                yield {
                    "query_id": f"{dialogue}:q{n}",
                    "item_id": f"{dialogue}:{turns[source]}",
                    "grade": 1,
                    "source_id": source,
                }
            else:
                reason = f'evidence that is no turn of the dialogue: "{source}"'
                yield reason, f"{dialogue}:q{n} {source}"


def redial(src: Path, encoding: str) -> dict[str, Source]:
    """Return turns and items of lines {dialog_id, turn_id, context, resp, rec}.

    Films are items; what was recommended is a turn's items. A line repeats the turns before it, so
    a dialogue is the longest of its lines. Answers are the system's, and the two take turns:
    speakers are counted back from the last answer. (The labels in the lines' `input` are counted
    from the beginning, where in two dialogues of three an empty turn too many stands, and name the
    wrong one there.) Entities are named by entity2id.json beside the file.
    """
    path = _file(src, "test.jsonl")
    names = path.with_name("entity2id.json")

    def turns(progress: Progress) -> Iterator[Record]:
        for dialogue_id, dialogue in _dialogues(path, encoding, progress).items():
            yield from _dialogue_turns(dialogue_id, dialogue)

    def films(progress: Progress) -> Iterator[Record]:
        titles = _entities(names) if names.exists() else {}
        dialogues = _dialogues(path, encoding, silent).values()
        lists = [items for dialogue in dialogues for items in dialogue.items.values()]
        item_ids = dict.fromkeys(item_id for items in lists for item_id in items)
        for n, item_id in enumerate(item_ids, 1):
            yield Record(n, item_id, {"item_id": item_id, "title": titles.get(item_id)})

    columns = ("dialogue_id", "turn", "speaker", "text", "items")
    return {
        "turns": Records(path, columns, turns, ("", "", "", "", "list")),
        "items": Records(path, ("item_id", "title"), films),
    }


class Dialogue(NamedTuple):
    """A dialogue of ReDial: its longest line, the texts of its turns, the items of some turns."""

    record: Record
    texts: list[str]
    items: dict[int, list[str]]


def _dialogue_turns(dialogue_id: str, dialogue: Dialogue) -> Iterator[Record]:
    n = len(dialogue.texts)
    for turn, text in enumerate(dialogue.texts):
        if not turn and not text:
            continue  # a dialogue that the user opens begins with an empty turn
        fields = {
            "dialogue_id": dialogue_id,
            "turn": turn,
            "speaker": "user" if (n - turn) % 2 == 0 else "system",
            "text": text,
            "items": dialogue.items.get(turn),
        }
        position = nth(dialogue.record.position, turn)
        yield dialogue.record._replace(fields=fields, position=position)


def _dialogues(path: Path, encoding: str, progress: Progress) -> dict[str, Dialogue]:
    """Return each dialogue by its id."""
    dialogues: dict[str, Dialogue] = {}
    for record in objects(path, encoding, progress):
        try:
            fields: Any = record.fields
            texts = [*fields["context"], fields["resp"]]
            recommended = [str(item_id) for item_id in fields["rec"]]
            dialogue_id = fields["dialog_id"]
            before = dialogues.get(dialogue_id)
        except (KeyError, TypeError) as error:
            raise DataError(
                f"{path}:{record.position} is not of ReDial's layout ({error}): dialog_id, context,"
                " resp and rec are needed"
            ) from None
        items = {**(before.items if before else {}), len(texts) - 1: recommended}
        if before and len(before.texts) >= len(texts):
            record, texts = before.record, before.texts
        dialogues[dialogue_id] = Dialogue(record, texts, items)
    return dialogues


def _entities(path: Path) -> dict[str, str]:
    """Return number -> name, of <http://dbpedia.org/resource/Police_Academy> and the like."""
    try:
        numbers = json.loads(path.read_text(encoding="utf-8"))
        return {
            str(number): name.strip("<>").rpartition("/resource/")[2].replace("_", " ")
            for name, number in numbers.items()
        }
    except (ValueError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path} is no object of names and numbers ({error}): fetch it again, or remove it to"
            " do without titles"
        ) from None


def _file(src: Path, usual: str) -> Path:
    return text_file(src / usual if src.is_dir() else src, "dialogues")
