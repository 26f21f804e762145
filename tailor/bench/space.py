"""Find the settings of a pipeline to search, and their domains.

They come from the table [tune] of the pipeline, or from the declarations of its classes.
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

Path = tuple[str | int, ...]  # keys of a nested description


@dataclass(frozen=True)
class Dimension:
    """One setting that is searched."""

    path: Path
    """Where it is in the pipeline's description."""
    domain: Range | Choices
    initial: Any
    """Value of the pipeline, or the default of the class."""

    @property
    def name(self) -> str:
        return ".".join(map(str, self.path))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as a [tune] table has them."""
        if isinstance(self.domain, Choices):
            return {"choices": list(self.domain.values)}
        values = {"low": self.domain.low, "high": self.domain.high}
        return {**values, "log": True} if self.domain.log else values


def space_of(description: Mapping[str, Any]) -> list[Dimension]:
    """Return the dimensions of a pipeline's description, as `read_pipeline` returns it.

    Raises ModelError where [tune] names a setting that does not exist, the class refuses an end of
    a range, or nothing is left to search.
    """
    plain = {name: value for name, value in description.items() if name != TUNE}
    build(plain)  # the pipeline must be valid before its space is
    if TUNE in description:
        table = description[TUNE]
        if not isinstance(table, Mapping):
            raise ModelError(f"{TUNE} = {table!r}: it must be a table of settings and their ranges")
        space = list(_named_dimensions(plain, table, ()))
    else:
        # a class may refuse the range of a parent class, and is then not searched there
        space = [
            dimension
            for dimension in _declared_dimensions(plain, ())
            if not (_is_inherited(plain, dimension) and _refusal(plain, dimension))
        ]
    if not space:
        raise ModelError(
            f"no setting is searched: name some in a table [{TUNE}] of the pipeline file, as in"
            ' "window = { low = 1, high = 15 }"'
        )
    for dimension in space:
        if refusal := _refusal(plain, dimension):
            raise ModelError(f"[{TUNE}] {dimension.name} = {refusal}")
    return space


def apply_settings(
    description: Mapping[str, Any], settings: Mapping[str, Any], space: Sequence[Dimension]
) -> dict[str, Any]:
    """Return a copy of the description with settings, which are by dimension name."""
    changed = copy.deepcopy(dict(description))
    for dimension in space:
        if dimension.name in settings:
            value = copy.deepcopy(settings[dimension.name])
            part_at(changed, dimension.path[:-1])[dimension.path[-1]] = value
    return changed


def short_names(description: Mapping[str, Any], space: Sequence[Dimension]) -> dict[str, str]:
    """Return a readable name for each dimension name.

    `window` for one method, `EASE.l2` for several, `TwoStep 2.window` for several of a class.
    """
    if len({dimension.path[:-1] for dimension in space}) == 1:
        return {dimension.name: str(dimension.path[-1]) for dimension in space}
    class_names = {path: _class_name(method) for path, method in _methods_inside(description, ())}
    names = {}
    for dimension in space:
        owner = dimension.path[:-1]
        class_name = class_names[owner]
        same_class = [path for path, other in class_names.items() if other == class_name]
        number = f" {same_class.index(owner) + 1}" if len(same_class) > 1 else ""
        names[dimension.name] = f"{class_name}{number}.{dimension.path[-1]}"
    return names


def _class_name(method: Mapping[str, Any]) -> str:
    """Return the class of a method's description without its module."""
    return str(method["class"]).rsplit(".", 1)[-1]


def _methods_inside(description: Any, path: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield every method in a description with its path."""
    if isinstance(description, Mapping):
        if "class" in description:
            yield path, description
        for name, value in description.items():
            if name != TUNE:
                yield from _methods_inside(value, (*path, name))
    elif isinstance(description, list):
        for i, value in enumerate(description):
            yield from _methods_inside(value, (*path, i))


def _fields(description: Mapping[str, Any]) -> tuple[Any, dict[str, dataclasses.Field[Any]]]:
    """Return the class of a method, encoder or language model, and its settings by name."""
    cls: Any = find_class(str(description["class"]))
    return cls, {field.name: field for field in dataclasses.fields(cls) if field.init}


def _declared_dimensions(description: Any, path: Path) -> Iterator[Dimension]:
    """Yield the dimensions that the classes of a description declare."""
    for method_path, method in _methods_inside(description, path):
        for name in _fields(method)[1]:
            domain = _declared_domain(method, name)
            if domain is not None:
                yield Dimension((*method_path, name), domain, _initial_value(method, name))


def _declared_domain(description: Mapping[str, Any], name: str) -> Range | Choices | None:
    """Return the domain in the annotation of a setting, or None."""
    hint = typing.get_type_hints(_fields(description)[0], include_extras=True)[name]
    metadata = getattr(hint, "__metadata__", ())
    return next((entry for entry in metadata if isinstance(entry, Range | Choices)), None)


def _initial_value(description: Mapping[str, Any], name: str) -> Any:
    """Return the value of a setting in the description, or its default."""
    field = _fields(description)[1][name]
    default = None if field.default is dataclasses.MISSING else field.default
    value = description.get(name, default)
    return list(value) if isinstance(value, tuple) else value  # as a file has it


def _named_dimensions(
    description: Any, table: Mapping[str, Any], path: Path
) -> Iterator[Dimension]:
    """Yield the dimensions of a table [tune].

    It is nested as the description is; parts of a list are named by number (from 0) or by class.
    """
    for key, value in table.items():
        label = ".".join(map(str, (*path, key)))
        if isinstance(description, list):
            position = _part_position(description, key, label)
            yield from _nested_dimensions(description[position], value, (*path, position), label)
            continue
        cls, fields = _fields(description)
        if key not in fields:
            raise ModelError(
                f'[{TUNE}] {label}: {cls.__name__} has no setting "{key}".{nearest(key, fields)}'
            )
        inner = description.get(key)
        has_methods = any(True for _ in _methods_inside(inner, ()))
        if has_methods and not isinstance(value, list):
            yield from _nested_dimensions(inner, value, (*path, key), label)
        else:
            domain = _domain(description, key, value, label)
            yield Dimension((*path, key), domain, _initial_value(description, key))


def _nested_dimensions(description: Any, value: Any, path: Path, label: str) -> Iterator[Dimension]:
    """Yield the dimensions of a part: of its table, or all that its classes declare."""
    if value is True:
        yield from _declared_dimensions(description, path)
    elif isinstance(value, Mapping):
        yield from _named_dimensions(description, value, path)
    else:
        raise ModelError(
            f"[{TUNE}] {label} = {value!r}: it must be a table of its settings, or true for all"
            " that its class declares"
        )


def _part_position(parts: Sequence[Any], key: str, label: str) -> int:
    """Return the position of a part that is named by number or class."""
    if key.isdigit():
        if int(key) >= len(parts):
            raise ModelError(f"[{TUNE}] {label}: there are {len(parts)} parts, numbered from 0")
        return int(key)
    classes = [
        _class_name(part) if isinstance(part, Mapping) and "class" in part else "" for part in parts
    ]
    if key not in classes:
        hint = nearest(key, classes)
        raise ModelError(f"[{TUNE}] {label}: no part is of this class.{hint}")
    if classes.count(key) > 1:
        raise ModelError(
            f"[{TUNE}] {label}: {classes.count(key)} parts are of this class: name one by its"
            " number, from 0."
        )
    return classes.index(key)


def _domain(description: Mapping[str, Any], name: str, value: Any, label: str) -> Range | Choices:
    """Return a domain from an entry of [tune].

    { low, high, log } is a range, a list are choices, true means the declaration of the class.
    """
    if value is True:
        declared = _declared_domain(description, name)
        if declared is None:
            raise ModelError(
                f"[{TUNE}] {label} = true: the class declares no range for it; write {{ low = ...,"
                " high = ... } or a list"
            )
        return declared
    try:
        if isinstance(value, list):
            return Choices(*value)
        if _is_range(value):
            hint = typing.get_type_hints(_fields(description)[0])[name]
            return _range(value, hint is float or float in typing.get_args(hint))
    except (TypeError, ValueError) as error:
        raise ModelError(f"[{TUNE}] {label}: {error}") from None
    raise ModelError(
        f"[{TUNE}] {label} = {value!r}: write {{ low = 1, high = 20 }} (with log = true where"
        " doublings count alike), a list of choices, or true for what the class declares"
    )


def _is_range(value: Any) -> bool:
    """Return whether an entry of [tune] is a table of low, high and perhaps log."""
    if not isinstance(value, Mapping) or not isinstance(value.get("log", False), bool):
        return False
    return {"low", "high"} <= value.keys() <= {"low", "high", "log"}


def _range(value: Mapping[str, Any], takes_fractions: bool) -> Range:
    """Return a range; whole numbers become fractions where the setting takes fractions."""
    ends = [value["low"], value["high"]]
    low, high = [float(end) if takes_fractions and type(end) is int else end for end in ends]
    return Range(low, high, value.get("log", False))


def _refusal(description: Mapping[str, Any], dimension: Dimension) -> str:
    """Return the first choice or end of a range that the class refuses, and why; or ""."""
    domain = dimension.domain
    values = domain.values if isinstance(domain, Choices) else (domain.low, domain.high)
    for value in values:
        try:
            build(apply_settings(description, {dimension.name: value}, [dimension]))
        except TailorError as error:
            return f"{value!r} cannot be: {error}"
    return ""


def _is_inherited(description: Mapping[str, Any], dimension: Dimension) -> bool:
    """Return whether a parent of the class declares the setting."""
    cls, _ = _fields(part_at(description, dimension.path[:-1]))
    return dimension.path[-1] not in vars(cls).get("__annotations__", {})


def untouched(description: Mapping[str, Any], space: Sequence[Dimension]) -> list[Path]:
    """Return the paths of the largest parts in which nothing is searched, without the root."""
    paths = [
        path
        for path, _ in _methods_inside(description, ())
        if path and not any(_starts_with(dimension.path, path) for dimension in space)
    ]
    return [
        path
        for path in paths
        if not any(other != path and _starts_with(path, other) for other in paths)
    ]


def _starts_with(path: Path, prefix: Path) -> bool:
    return path[: len(prefix)] == prefix


def part_at(description: Mapping[str, Any], path: Path) -> Any:
    """Return the part of a nested description at a path."""
    part: Any = description
    for key in path:
        part = part[key]
    return part
