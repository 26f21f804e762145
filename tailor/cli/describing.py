"""`tailor methods`: the list of methods, and what one of them is and can be set to."""

import dataclasses
import inspect
import typing
from typing import Any

from tailor.cli.showing import print_json, say, table
from tailor.core.methods import (
    Agent,
    Generator,
    Predictor,
    Profiler,
    Recommender,
)
from tailor.core.search_space import Choices, Range
from tailor.core.settings import setting_descriptions
from tailor.core.specs import Found, discover, discover_studies, find_class
from tailor.core.studies import Study
from tailor.errors import ModelError, nearest

VERBS: tuple[tuple[type[Any], str], ...] = (
    (Recommender, "recommend"),
    (Predictor, "predict"),
    (Profiler, "profile"),
    (Generator, "generate"),
    (Agent, "act"),
    (Study, "study"),
)


def methods_command(json: bool) -> None:
    """Print every method class in one line each."""
    classes = discover()
    if json:
        print_json([_summary(entry) for entry in classes])
        return
    rows = [
        [
            entry.path.rpartition(".")[2],
            ", ".join(_verbs_of(entry.cls)),
            entry.missing or _first_paragraph(entry.cls),
        ]
        for entry in (*classes, *discover_studies())
    ]
    table(["class", "command", "what it does"], rows)
    say("Next: tailor methods CLASS")


def _summary(entry: Found) -> dict[str, Any]:
    """Return a class with its settings' defaults, as plain values."""
    fields = [] if entry.cls is None else dataclasses.fields(entry.cls)
    return {
        "class": entry.path,
        "summary": _first_paragraph(entry.cls),
        "paper": entry.paper.slug if entry.paper else "",
        "settings": {
            field.name: field.default
            for field in fields
            if field.init and field.default is not dataclasses.MISSING
        },
        "missing": entry.missing,
    }


def _verbs_of(cls: type | None) -> list[str]:
    """Return the commands that use a class."""
    return [verb for kind, verb in VERBS if cls is not None and issubclass(cls, kind)]


def _first_paragraph(cls: type | None) -> str:
    text = "" if cls is None else inspect.cleandoc(cls.__doc__ or "")
    return " ".join(text.split("\n\n")[0].split())


def method_command(name: str, json: bool) -> None:
    """Print what one method is, and its settings.

    Raises ModelError for a name that is no class, with the nearest one; MissingExtraError for a
    class whose extra is not installed.
    """
    entry = _found(name)
    cls = entry.cls
    assert cls is not None
    settings = settings_of(cls)
    verbs = _verbs_of(cls)
    text = inspect.cleandoc(cls.__doc__ or "")
    if json:
        print_json(
            {
                "class": entry.path,
                "verbs": verbs,
                "doc": text,
                "paper": dataclasses.asdict(entry.paper) if entry.paper else None,
                "settings": settings,
            }
        )
        return
    commands = " or ".join(f"`tailor {verb}`" for verb in verbs)
    say(f"{cls.__name__}  ({entry.path}; used by {commands})")
    _show_method(entry, text, settings)


def _show_method(entry: Found, text: str, settings: list[dict[str, Any]]) -> None:
    """Print a method's paper, its docstring and its settings."""
    if entry.paper:
        say(f"Paper: {entry.paper.title}, {entry.paper.url}")
    say("", *(" ".join(paragraph.split()) for paragraph in text.split("\n\n")), "")
    if not settings:
        say("It has no settings.")
        return
    rows = [
        [setting["name"], setting["type"], _default_text(setting), _range_text(setting["tuned"])]
        for setting in settings
    ]
    table(["setting", "type", "default", "tuned"], rows)
    for setting in settings:
        if setting["description"]:
            say(f"{setting['name']}: {setting['description']}")
    if any(setting["needed"] for setting in settings):
        say(
            "A needed setting stands in a pipeline file (TOML); one that is a method is a table"
            ' with its class, as in recommender = {class = "CoVisitation"}.'
        )


def _found(name: str) -> Found:
    """Return the entry of a method or study by its name or path."""
    for entry in discover_studies():
        if name.removeprefix("tailor.") in (entry.path, entry.path.rpartition(".")[2]):
            return entry
    cls = find_class(name)  # raises for an unknown name, and says which extra is missing
    for entry in discover():
        if entry.cls is cls:
            return entry
    names = [entry.path.rsplit(".", 1)[1] for entry in discover()]
    raise ModelError(f'"{name}" is no method that can be fitted.{nearest(name, names)}')


def settings_of(cls: Any) -> list[dict[str, Any]]:
    """Return name, type, default, description and tuned range of each setting, as plain values.

    `needed` is True for a setting without a default; `tuned` is None where nothing is declared.
    """
    descriptions = setting_descriptions(cls)
    hints = typing.get_type_hints(cls, include_extras=True)
    return [
        {
            "name": field.name,
            "type": _type_text(hints[field.name]),
            "needed": field.default is field.default_factory is dataclasses.MISSING,
            "default": _default(field),
            "description": descriptions.get(field.name, ""),
            "tuned": _tuned(hints[field.name]),
        }
        for field in dataclasses.fields(cls)
        if field.init
    ]


def _default(field: "dataclasses.Field[Any]") -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None


def _type_text(hint: Any) -> str:
    """Return a type as it is written in code: `int`, `list[str]`, `"score" | "rank"`."""
    if typing.get_origin(hint) is typing.Annotated:
        hint = typing.get_args(hint)[0]
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return " | ".join(repr(value) for value in typing.get_args(hint))
    arguments = [
        "..." if argument is ... else _type_text(argument) for argument in typing.get_args(hint)
    ]
    if origin in (typing.Union, type(int | str)):
        return " | ".join(arguments)
    if isinstance(hint, type) and not arguments:
        return "None" if hint is type(None) else hint.__name__
    name = getattr(origin, "__name__", str(hint).removeprefix("typing."))
    return f"{name}[{', '.join(arguments)}]" if arguments else name


def _tuned(hint: Any) -> dict[str, Any] | None:
    """Return what `tailor tune` searches of a setting, as a [tune] table writes it."""
    for metadata in getattr(hint, "__metadata__", ()):
        if isinstance(metadata, Range):
            log = {"log": True} if metadata.log else {}
            return {"low": metadata.low, "high": metadata.high, **log}
        if isinstance(metadata, Choices):
            return {"choices": list(metadata.values)}
    return None


def _default_text(setting: dict[str, Any]) -> str:
    return "needed" if setting["needed"] else repr(setting["default"])


def _range_text(tuned: dict[str, Any] | None) -> str:
    if tuned is None:
        return ""
    if "choices" in tuned:
        return ", ".join(map(str, tuned["choices"]))
    return f"{tuned['low']:g} to {tuned['high']:g}{', log' if 'log' in tuned else ''}"
