"""`tailor profile`, `tailor generate` and `tailor act`."""

import json as json_lines
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from tailor.cli.queries import QueryOptions, catalogue_of, query_of, split_ids
from tailor.cli.showing import print_json, say, table
from tailor.core.methods import Agent, Generator, Method, Profiler
from tailor.core.saving import SavedModel
from tailor.data.nouns import Evidence, Output, Profile, Query, Turn, plain
from tailor.errors import DataError, ModelError
from tailor.evaluation.explanation_text import clean_title, quote_title

A = TypeVar("A", bound=Method)
COMMANDS = {
    "Recommender": "tailor recommend",
    "Predictor": "tailor predict",
    "Profiler": "tailor profile",
    "Generator": "tailor generate",
    "Agent": "tailor act",
}
"""Base class of a method -> the command that asks it."""


def command_of(cls: type[Method]) -> str:
    """Return the command that asks methods of a class."""
    names = [base.__name__ for base in cls.__mro__]
    return next((COMMANDS[name] for name in names if name in COMMANDS), "tailor methods")


def answering(saved: SavedModel, kind: type[A]) -> A:
    """Return a saved method of one kind. Raises ModelError naming the command of another kind."""
    method = saved.method
    if isinstance(method, kind):
        return method
    raise ModelError(
        f"{saved.folder} holds the method {method.name}, which is no {kind.__name__}: ask it by"
        f" `{command_of(type(method))}`"
    )


def profile_command(model: Path, options: QueryOptions, json: bool) -> None:
    """Print what a model knows of a user; see `tailor profile --help`."""
    saved = SavedModel.open(model)
    method: Profiler = answering(saved, Profiler)  # type: ignore[type-abstract]
    profile = method.profile([query_of(saved, options, catalogue_of(saved))])[0]
    if json:
        print_json(plain(profile))
        return
    _show_profile(profile, saved.titles)


def _show_profile(profile: Profile, titles: dict[str, str]) -> None:
    if profile.text:
        say(profile.text)
    rows = [
        [
            fact.text,
            "-" if fact.confidence is None else f"{fact.confidence:.2f}",
            _evidence_text(fact.evidence, titles),
        ]
        for fact in profile.facts
    ]
    if rows:
        table(["fact", "confidence", "because of"], rows)
    values = [[name, json_lines.dumps(plain(value))] for name, value in profile.attributes.items()]
    if values:
        table(["attribute", "value"], values)
    say(*profile.notes)


def _evidence_text(evidence: tuple[Evidence, ...], titles: dict[str, str], most: int = 3) -> str:
    # titles may hold commas
    return "; ".join(clean_title(titles.get(part.id, part.id)) for part in evidence[:most])


def generate_command(
    model: Path,
    options: QueryOptions,
    exclude: list[str] | None,
    keep_seen: bool,
    out: Path | None,
    json: bool,
) -> None:
    """Print a text, or write a picture; see `tailor generate --help`."""
    saved = SavedModel.open(model)
    method: Generator = answering(saved, Generator)  # type: ignore[type-abstract]
    catalogue = catalogue_of(saved)
    query = query_of(saved, options, catalogue)
    seen = () if keep_seen else query.history.item_ids
    query = replace(query, exclude=(*query.exclude, *split_ids(exclude, catalogue), *seen))
    output = method.generate([query])[0]
    if output.image is not None:
        if out is None:
            raise DataError("the model draws a picture: name a file for it with --out FILE")
        out.write_bytes(output.image)
    if json:
        print_json(plain(output))
        return
    _show_output(output, saved.titles)


def _show_output(output: Output, titles: dict[str, str]) -> None:
    if output.text:
        say(output.text)
    rows = [
        [part.kind, clean_title(part.id), clean_title(titles.get(part.id, "")), f"{part.share:.1%}"]
        for part in output.evidence[:20]
    ]
    if rows:
        table(["evidence", "id", "title", "share"], rows)
    say(*output.notes)


def act_command(
    model: Path, options: QueryOptions, exclude: list[str] | None, turns: Path | None, json: bool
) -> None:
    """Answer dialogues of a file, or talk; see `tailor act --help`."""
    saved = SavedModel.open(model)
    method: Agent = answering(saved, Agent)  # type: ignore[type-abstract]
    catalogue = catalogue_of(saved)
    query = query_of(saved, options, catalogue)
    query = replace(query, exclude=(*query.exclude, *split_ids(exclude, catalogue)))
    titles = saved.titles
    if turns is None:
        _talk(method, query, titles, json)
        return
    dialogues = read_turns(turns)
    answers = method.act(list(dialogues.values()), [query] * len(dialogues))
    for dialogue_id, turn in zip(dialogues, answers, strict=True):
        if json:
            print_line({"dialogue_id": dialogue_id, **plain(turn)})
        else:
            prefix = f"{dialogue_id} " if len(dialogues) > 1 else ""
            _show_turn(turn, titles, prefix)


def _talk(method: Agent, query: Query, titles: dict[str, str], json: bool) -> None:
    """Keep a dialogue on standard input and output, one line a turn, until the input ends."""
    dialogue: list[Turn] = []
    for line in _lines():
        if line is not None:
            dialogue.append(Turn("user", line))
        turn = method.act([dialogue], [query])[0]
        dialogue.append(turn)
        if json:
            print_line(plain(turn))
        else:
            _show_turn(turn, titles, "")


def _lines() -> Iterator[str | None]:
    """Yield None to let the agent open the dialogue, then the lines of standard input."""
    yield None
    for line in sys.stdin:
        text = line.strip()
        if text:
            yield text


def print_line(value: Any) -> None:
    """Write one line of JSON."""
    sys.stdout.write(json_lines.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def _show_turn(turn: Turn, titles: dict[str, str], prefix: str) -> None:
    say(f"{prefix}{turn.speaker}: {turn.text}")
    if turn.item_ids:
        names = [f"{quote_title(item, titles)} ({clean_title(item)})" for item in turn.item_ids]
        say("  items: " + ", ".join(names))
    say(*turn.notes)


def read_turns(path: Path) -> dict[str, list[Turn]]:
    """Read dialogues from a file of JSON lines, by dialogue id in order of appearance.

    A line is an object with `text`, and perhaps `speaker` ("user" if absent), `item_ids`, `time_ms`
    and `dialogue_id`. Raises DataError naming the line.
    """
    dialogues: dict[str, list[Turn]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if line.strip():
            try:
                values = json_lines.loads(line)
                turn = _turn(values)
            except (ValueError, DataError) as error:
                raise DataError(f"{path}, line {number}: {error}") from None
            dialogues.setdefault(str(values.get("dialogue_id", "1")), []).append(turn)
    if not dialogues:
        raise DataError(f'{path} holds no turns: write lines like {{"text": "a tent for two"}}')
    return dialogues


def _turn(values: Any) -> Turn:
    if not isinstance(values, dict) or not isinstance(values.get("text"), str):
        raise DataError('a turn is an object with a "text", as in {"text": "a tent for two"}')
    time_ms = values.get("time_ms")
    if time_ms is not None and (isinstance(time_ms, bool) or not isinstance(time_ms, int)):
        raise DataError(f'"time_ms" is {time_ms!r}: write milliseconds since 1970')
    item_ids = values.get("item_ids", values.get("items", ()))
    if not isinstance(item_ids, list | tuple):
        raise DataError(f'"item_ids" is {item_ids!r}: write a list of ids')
    return Turn(str(values.get("speaker", "user")), values["text"], tuple(item_ids), time_ms)
