"""Check the text of a pipeline part by part: every problem with its line, or the tree of parts.

Nothing is fitted. Nothing but the classes of Tailor and of installed plug-ins is imported.
"""

import dataclasses
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tailor.core.methods import Method
from tailor.core.specs import TUNE, build_part, find_class
from tailor.errors import ModelError, TailorError, nearest
from tailor.ports.base import Port

Path = tuple[str | int, ...]
# no two parts of it match the same characters, so that it takes linear time
HEADER = re.compile(r"\s*(\[\[?)([^\[\]#]+)\]")
KEY = re.compile(r"""\s*([A-Za-z0-9_-]+|"[^"]*"|'[^']*')\s*=""")
TOML_PLACE = re.compile(r"\s*\(at (?:line (\d+), column \d+|end of document)\)$")
# settings by which a pipeline would read files, call addresses or send keys of the machine it runs
# on: whoever writes it here need not be who may do that
OUTSIDE = {
    "folder": "names a folder of the machine",
    "base_url": "names an address that the machine would call",
    "api_key_env": "names a key of the machine",
    "adapter": "names a folder of the machine",
    "scores": "names a file of the machine",
}
OUTSIDE_REMEDY = "leave it out; who runs the server can set it in tailor.toml"


@dataclass(frozen=True)
class Problem:
    """A mistake in the text of a pipeline."""

    problem: str
    """A clause that says what is wrong."""
    remedy: str = ""
    """A clause that says what to do."""
    line: int | None = None
    """Line of the text, from 1; None: of no line in particular."""


@dataclass(frozen=True)
class Part:
    """A method, encoder or language model of a pipeline, with the parts among its settings."""

    name: str
    class_path: str
    """Path of the class, as pipeline files name it."""
    setting: str
    """The setting of its owner that holds it; empty for the outermost."""
    settings: dict[str, Any]
    """Its plain settings."""
    parts: list["Part"]


@dataclass(frozen=True)
class Checked:
    """The result of a check: what the text describes, or what is wrong with it."""

    description: dict[str, Any] = field(default_factory=dict)
    """The parsed text."""
    method: Method | None = None
    """The method, not fitted; None where there are problems."""
    problems: tuple[Problem, ...] = ()
    """In the order of their lines; none where it can be built."""


def check_pipeline(text: str, is_outside_allowed: bool = False) -> Checked:
    """Return the method that a text describes, or every problem of the text.

    Settings that reach outside (`OUTSIDE`) are problems unless they are allowed.
    """
    try:
        description = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return Checked(problems=(_toml_problem(str(error), text),))
    except RecursionError:
        return Checked(problems=(Problem("it is nested too deeply", "write fewer levels"),))
    tables = {name: value for name, value in description.items() if name != TUNE}
    lines = _lines_of(text)
    problems = [
        dataclasses.replace(problem, line=_line_of(path, lines))
        for path, problem in _problems_in(tables, (), is_outside_allowed)
    ]
    if problems:
        ordered = sorted(problems, key=lambda problem: problem.line or 0)
        return Checked(description, problems=tuple(ordered))
    part = build_part(tables)
    if isinstance(part, Method):
        return Checked(description, part)
    problem = Problem(
        f"{type(part).__name__} is a part that methods are given",
        "name a method that can be fitted",
        _line_of(("class",), lines),
    )
    return Checked(description, problems=(problem,))


def _toml_problem(message: str, text: str) -> Problem:
    """Return what is wrong with a text that is no TOML."""
    mark = TOML_PLACE.search(message)
    if mark is None:
        return Problem(f"it is no TOML: {message}", "mend the text")
    line = int(mark[1]) if mark[1] else text.count("\n") + 1
    return Problem(f"it is no TOML: {message[: mark.start()]}", "mend this line", line)


def _problems_in(
    table: Mapping[str, Any], path: Path, is_outside_allowed: bool
) -> Iterator[tuple[Path, Problem]]:
    """Yield the problems of a part and of the parts within it, each with its path."""
    inner = [
        inner_problem
        for setting_path, part in _parts_in(table, path)
        for inner_problem in _problems_in(part, setting_path, is_outside_allowed)
    ]
    yield from inner
    cls = None
    try:
        cls = _class_of(table)
    except TailorError as error:
        yield (*path, "class"), _split(str(error))
    if cls is None:
        return
    unknown = list(_unknown_settings(cls, table))
    yield from (((*path, name), problem) for name, problem in unknown)
    outside = [] if is_outside_allowed else list(_outside_settings(cls, table))
    yield from (((*path, name), problem) for name, problem in outside)
    if inner or unknown or outside:
        return
    try:
        build_part(table)
    except TailorError as error:
        yield (*path, *_named_setting(str(error), table)), _split(str(error))
    except Exception as error:  # a plug-in's class may raise anything
        yield path, Problem(f"it cannot be built ({type(error).__name__})", "look at its settings")


def _class_of(table: Mapping[str, Any]) -> type[Method] | type[Port]:
    """Return the class of a table. Raises ModelError where it names none."""
    name = table.get("class")
    if not isinstance(name, str):
        raise ModelError('a method needs a line class = "...". Add it: `tailor methods` lists them')
    return find_class(name)


def _parts_in(table: Mapping[str, Any], path: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield the tables with a class among settings, also in lists, with their paths."""
    for name, value in table.items():
        if isinstance(value, Mapping) and "class" in value:
            yield (*path, name), value
        elif isinstance(value, list):
            for number, entry in enumerate(value):
                if isinstance(entry, Mapping) and "class" in entry:
                    yield (*path, name, number), entry


def _unknown_settings(cls: Any, table: Mapping[str, Any]) -> Iterator[tuple[str, Problem]]:
    """Yield the settings of a table that its class does not have."""
    names = {setting.name for setting in dataclasses.fields(cls) if setting.init}
    for name in table:
        if name != "class" and name not in names:
            suggestion = nearest(name, names).strip()
            remedy = suggestion or f"`tailor methods {cls.__name__}` lists its settings"
            yield name, Problem(f'{cls.__name__} has no setting "{name}"', remedy)


def _outside_settings(cls: Any, table: Mapping[str, Any]) -> Iterator[tuple[str, Problem]]:
    """Yield the settings of a table that reach outside of the pipeline, and a default that does."""
    is_port = issubclass(cls, Port)
    for name, value in table.items():
        if not isinstance(value, str):
            continue
        if name in OUTSIDE and value != "none":
            yield name, Problem(f"{name} {OUTSIDE[name]}", OUTSIDE_REMEDY)
        elif is_port and name == "model" and _is_path(value):
            yield name, Problem("model is a path", "give the name of a model that was pulled")
    address = getattr(cls, "base_url", "") if is_port and "base_url" not in table else ""
    if address:
        yield "class", Problem(f"{cls.__name__} would call {address}", OUTSIDE_REMEDY)


def _is_path(name: str) -> bool:
    return "/" in name or "\\" in name or name.startswith((".", "~"))


def _named_setting(message: str, table: Mapping[str, Any]) -> Path:
    """Return the setting that a message is about, as the end of a path; else the class."""
    for name in re.findall(r"\w+", message):
        if name in table and name != "class":
            return (name,)
    return ("class",)


def _split(message: str) -> Problem:
    """Return a message as a problem and, where it has one, a remedy."""
    for mark in (" Did you mean ", " Known: "):
        if mark in message:
            problem, _, remedy = message.partition(mark)
            return Problem(problem.rstrip("."), (mark + remedy).strip())
    problem, separator, remedy = message.partition(": ")
    return Problem(problem, remedy) if separator else Problem(message)


# --- lines


def _lines_of(text: str) -> dict[Path, int]:
    """Return the line of each table and each key, by its path; tables of a list are numbered."""
    lines: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    table: Path = ()
    for number, line in enumerate(text.splitlines(), 1):
        header = HEADER.match(line)
        if header is not None:
            table = _header_path(header[2].strip(), header[1] == "[[", counts)
            lines.setdefault(table, number)
            continue
        key = KEY.match(line)
        if key is not None:
            lines.setdefault((*table, key[1].strip("\"'")), number)
    return lines


def _header_path(name: str, is_list: bool, counts: dict[Path, int]) -> Path:
    """Return the path of a header such as `inner.parts`; `counts` holds the tables of each list."""
    path: Path = ()
    segments = [segment.strip().strip("\"'") for segment in name.split(".")]
    for depth, segment in enumerate(segments, 1):
        path = (*path, segment)
        if is_list and depth == len(segments):
            counts[path] = counts.get(path, 0) + 1
        if path in counts:
            path = (*path, counts[path] - 1)
    return path


def _line_of(path: Path, lines: Mapping[Path, int]) -> int | None:
    """Return the line of a path, or of the nearest table around it."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return None


# --- the tree


def part_tree(part: Method | Port, setting: str = "") -> Part:
    """Return a method with the parts among its settings as a tree."""
    plain: dict[str, Any] = {}
    parts: list[Part] = []
    for name, value in _settings(part).items():
        values = list(value) if isinstance(value, list | tuple) else [value]
        inner = [entry for entry in values if isinstance(entry, Method | Port)]
        if inner:
            parts += [part_tree(entry, name) for entry in inner]
        else:
            plain[name] = value
    cls = type(part)
    path = f"{cls.__module__.removeprefix('tailor.')}.{cls.__qualname__}"
    return Part(cls.__name__, path, setting, plain, parts)


def _settings(part: Any) -> dict[str, Any]:
    names = [setting.name for setting in dataclasses.fields(part) if setting.init]
    return {name: getattr(part, name) for name in names}
