"""Which settings of a pipeline are searched, and between what: its table [tune], or what its
classes declare.
"""

import copy
import dataclasses
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tailor.core.search_space import Choices, Range
from tailor.core.specs import TUNE, build, find_class
from tailor.errors import ModelError, TailorError, nearest

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Dimension:
    """One setting that is searched: where it stands in the pipeline's description, and what it may
    be.
    """

    path: Path
    among: Range | Choices
    written: Any
    """What the pipeline says, or the class where it says nothing."""

    @property
    def name(self) -> str:
        return ".".join(map(str, self.path))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a [tune] table writes them."""
        if isinstance(self.among, Choices):
            return {"choices": list(self.among.values)}
        return {
            "low": self.among.low,
            "high": self.among.high,
            **({"log": True} if self.among.log else {}),
        }


def space_of(about: Mapping[str, Any]) -> list[Dimension]:
    """The dimensions of a pipeline's description, as `read_pipeline` gives it.

    Raises ModelError where [tune] names what is not there, an end of a range is refused by the
    class, or nothing is left to search.
    """
    plain = {name: value for name, value in about.items() if name != TUNE}
    build(plain)  # the pipeline itself must be right before its space is
    if TUNE in about:
        if not isinstance(about[TUNE], Mapping):
            raise ModelError(
                f"{TUNE} = {about[TUNE]!r}: it must be a table of settings and their ranges"
            )
        found = list(_named(plain, about[TUNE], ()))
    else:
        found = [
            one
            for one in _declared(plain, ())
            if not (_inherited(plain, one) and _refused(plain, one))
        ]
    if not found:
        raise ModelError(
            f"no setting is searched: name some in a table [{TUNE}] of the pipeline file, as in"
            ' "window = { low = 1, high = 15 }"'
        )
    for one in found:
        _check_ends(plain, one)
    return found


def placed(
    about: Mapping[str, Any], values: Mapping[str, Any], space: Sequence[Dimension]
) -> dict[str, Any]:
    """The description with these values, by the dimensions' names, in their places."""
    made = copy.deepcopy(dict(about))
    for one in space:
        if one.name in values:
            part_at(made, one.path[:-1])[one.path[-1]] = copy.deepcopy(values[one.name])
    return made


def short_names(about: Mapping[str, Any], space: Sequence[Dimension]) -> dict[str, str]:
    """A name for people, by a dimension's name: `window`, of one of several methods `EASE.l2`, of
    one of several of a class `TwoStep 2.window`.
    """
    if len({one.path[:-1] for one in space}) == 1:
        return {one.name: str(one.path[-1]) for one in space}
    holders = {path: str(inner["class"]).rsplit(".", 1)[-1] for path, inner in _methods(about, ())}
    out = {}
    for one in space:
        cls = holders[one.path[:-1]]
        alike = [path for path, other in holders.items() if other == cls]
        which = f" {alike.index(one.path[:-1]) + 1}" if len(alike) > 1 else ""
        out[one.name] = f"{cls}{which}.{one.path[-1]}"
    return out


def _methods(about: Any, path: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Every method in a description, with its path."""
    if isinstance(about, Mapping):
        if "class" in about:
            yield path, about
        for name, value in about.items():
            if name != TUNE:
                yield from _methods(value, (*path, name))
    elif isinstance(about, list):
        for i, value in enumerate(about):
            yield from _methods(value, (*path, i))


def _fields(about: Mapping[str, Any]) -> tuple[Any, dict[str, dataclasses.Field[Any]]]:
    """The class of a method, encoder or language model, and its settings by name."""
    cls: Any = find_class(str(about["class"]))
    return cls, {one.name: one for one in dataclasses.fields(cls) if one.init}


def _declared(about: Any, path: Path) -> Iterator[Dimension]:
    """What the classes of a description and of its parts say of their fields."""
    for where, method in _methods(about, path):
        for name in _fields(method)[1]:
            among = _declaration(method, name)
            if among is not None:
                yield Dimension((*where, name), among, _written(method, name))


def _declaration(about: Mapping[str, Any], name: str) -> Range | Choices | None:
    hint = typing.get_type_hints(_fields(about)[0], include_extras=True)[name]
    return next(
        (one for one in getattr(hint, "__metadata__", ()) if isinstance(one, Range | Choices)), None
    )


def _written(about: Mapping[str, Any], name: str) -> Any:
    one = _fields(about)[1][name]
    value = about.get(name, None if one.default is dataclasses.MISSING else one.default)
    return list(value) if isinstance(value, tuple) else value  # as it comes back out of a file


def _named(about: Any, table: Mapping[str, Any], path: Path) -> Iterator[Dimension]:
    """What a table [tune] says; it is nested as the description is, parts of a list are named by
    number (from 0) or by class.
    """
    for key, value in table.items():
        here = ".".join(map(str, (*path, key)))
        if isinstance(about, list):
            at = _part(about, key, here)
            yield from _below(about[at], value, (*path, at), here)
            continue
        cls, known = _fields(about)
        if key not in known:
            raise ModelError(
                f'[{TUNE}] {here}: {cls.__name__} has no setting "{key}".{nearest(key, known)}'
            )
        inner = about.get(key)
        if (
            isinstance(inner, list | Mapping)
            and any(True for _ in _methods(inner, ()))
            and not isinstance(value, list)
        ):
            yield from _below(inner, value, (*path, key), here)
        else:
            yield Dimension((*path, key), _among(about, key, value, here), _written(about, key))


def _below(about: Any, value: Any, path: Path, here: str) -> Iterator[Dimension]:
    if value is True:
        yield from _declared(about, path)
    elif isinstance(value, Mapping):
        yield from _named(about, value, path)
    else:
        raise ModelError(
            f"[{TUNE}] {here} = {value!r}: it must be a table of its settings, or true for all that"
            " its class declares"
        )


def _part(parts: Sequence[Any], key: str, here: str) -> int:
    if key.isdigit():
        if int(key) >= len(parts):
            raise ModelError(f"[{TUNE}] {here}: there are {len(parts)} parts, numbered from 0")
        return int(key)
    classes = [
        (
            str(part["class"]).rsplit(".", 1)[-1]
            if isinstance(part, Mapping) and "class" in part
            else ""
        )
        for part in parts
    ]
    if classes.count(key) != 1:
        says = (
            f"{classes.count(key)} parts are of this class: name one by its number, from 0"
            if key in classes
            else "no part is of this class"
        )
        raise ModelError(
            f"[{TUNE}] {here}: {says}.{nearest(key, classes) if key not in classes else ''}"
        )
    return classes.index(key)


def _among(about: Mapping[str, Any], name: str, value: Any, here: str) -> Range | Choices:
    """A range from { low, high, log }, choices from a list, what the class declares from true."""
    if value is True:
        declared = _declaration(about, name)
        if declared is None:
            raise ModelError(
                f"[{TUNE}] {here} = true: the class declares no range for it; write {{ low = ...,"
                " high = ... } or a list"
            )
        return declared
    try:
        if isinstance(value, list):
            return Choices(*value)
        if (
            isinstance(value, Mapping)
            and {"low", "high"} <= value.keys() <= {"low", "high", "log"}
            and isinstance(value.get("log", False), bool)
        ):
            hint = typing.get_type_hints(_fields(about)[0])[name]
            takes_fractions = hint is float or float in typing.get_args(hint)
            low, high = (
                float(one) if takes_fractions and type(one) is int else one
                for one in (value["low"], value["high"])
            )
            return Range(low, high, value.get("log", False))
    except (TypeError, ValueError) as error:
        raise ModelError(f"[{TUNE}] {here}: {error}") from None
    raise ModelError(
        f"[{TUNE}] {here} = {value!r}: write {{ low = 1, high = 20 }} (with log = true where"
        " doublings count alike), a list of choices, or true for what the class declares"
    )


def _check_ends(about: Mapping[str, Any], one: Dimension) -> None:
    """Raise ModelError where the class refuses a choice or an end of a range."""
    if refused := _refused(about, one):
        raise ModelError(f"[{TUNE}] {one.name} = {refused}")


def _refused(about: Mapping[str, Any], one: Dimension) -> str:
    """The first choice or end that the class refuses, and why; empty where it takes them all."""
    for value in (
        one.among.values if isinstance(one.among, Choices) else (one.among.low, one.among.high)
    ):
        try:
            build(placed(about, {one.name: value}, [one]))
        except TailorError as error:
            return f"{value!r} cannot be: {error}"
    return ""


def _inherited(about: Mapping[str, Any], one: Dimension) -> bool:
    """Whether a parent of the class declares the range: the class may refuse what it says, and is
    then not searched there.
    """
    return one.path[-1] not in vars(_fields(part_at(about, one.path[:-1]))[0]).get(
        "__annotations__", {}
    )


def untouched(about: Mapping[str, Any], space: Sequence[Dimension]) -> list[Path]:
    """The largest parts below the root in which nothing is searched."""
    paths = [
        path
        for path, _ in _methods(about, ())
        if path and not any(one.path[: len(path)] == path for one in space)
    ]
    return [
        path
        for path in paths
        if not any(path[: len(other)] == other for other in paths if other != path)
    ]


def part_at(about: Mapping[str, Any], path: Path) -> Any:
    inner: Any = about
    for step in path:
        inner = inner[step]
    return inner
