"""Describe methods as plain values, build them from such a description, and list the classes.

spec(EASE(l2=100.0))            # {"class": "retrieval.ease.EASE", "l2": 100.0, ...}
build({"class": "EASE", "l2": 100.0})
build(Path("mine.toml"))
discover()                      # every method class of Tailor and of plug-ins
"""

import ast
import contextlib
import dataclasses
import functools
import importlib
import importlib.metadata
import sys
import tomllib
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, overload

import numpy as np

from tailor.core.methods import Method, Paper
from tailor.core.studies import Study
from tailor.errors import MissingExtraError, ModelError, nearest
from tailor.ports.base import Port

M = TypeVar("M", bound=Method)
PLUGINS = "tailor.methods"  # entry-point group of plug-ins
METHOD_PACKAGES = (
    "retrieval",
    "ranking",
    "reranking",
    "generative",
    "profiles",
    "writing",
    "images",
    "conversation",
    "simulation",
    "evaluation",
    "pipeline",
    "papers",
)
PORT_PACKAGES = ("text", "llm")  # with classes of encoders and language models
STUDY_PACKAGES = ("evaluation", "bench", "papers")
TUNE = "tune"  # the table of a pipeline file that says which settings `tailor tune` searches
SECRETS = ("api_key", "key", "token", "password", "secret")  # names that no setting may have
NONE = "none"  # how a file writes None for a setting whose default is another value
# module of an earlier version -> where its classes are now: files of then can still be opened
MOVED = {
    **{
        f"retrieval.{name}": f"papers.retrieval.{name}"
        for name in (
            "alpharec",
            "genpas",
            "graph_heuristic",
            "hllm",
            "linkedin_feed",
            "personalized_pagerank",
            "pi2i",
            "recformer",
            "sesa",
        )
    },
    "bench.bars": "papers.evaluation.bars",
    "evaluation.recbench": "papers.evaluation.recbench",
    "evaluation.metric_survey": "papers.evaluation.evaluation_survey",
}
ADDED: dict[str, dict[str, Any]] = {
    "generative.tiger.TIGER": {"codes": "residual"},
    "papers.generative.onerec.OneRec": {"steps_per_batch": 1},
}
"""Settings that classes got later, with the value that they had before in effect."""


# --- describing


def spec(method: Method | Port) -> dict[str, Any]:
    """Return the class and the settings of a method or port as plain values.

    Methods and ports among the settings are described the same way. A setting that is None is left
    out if that is its default, and written "none" if not, since TOML has no null. Raises ModelError
    for a port's setting that is named like a secret: keys belong into environment variables.
    """
    settings: dict[str, Any] = {}
    for field in _settings_of(method):
        if isinstance(method, Port) and field.name in SECRETS:
            raise ModelError(
                f"{type(method).__name__}.{field.name} would be saved: settings hold the name of"
                " an environment variable, never a key"
            )
        value = getattr(method, field.name)
        if value is not None:
            settings[field.name] = _plain(value)
        elif field.default is not None:
            settings[field.name] = NONE
    cls = type(method)
    return {"class": f"{cls.__module__.removeprefix('tailor.')}.{cls.__qualname__}", **settings}


def _settings_of(part: Any) -> "list[dataclasses.Field[Any]]":
    """Return the fields that are settings. Raises ModelError for a class without fields."""
    if not dataclasses.is_dataclass(part):
        raise ModelError(
            f"{type(part).__name__} is no dataclass, so that its settings cannot be written down:"
            " make it one"
        )
    return [field for field in dataclasses.fields(part) if field.init]


def _plain(value: Any) -> Any:
    if isinstance(value, Method | Port):
        return spec(value)
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return value.item() if isinstance(value, np.generic) else value


def identity(method: Method | Port) -> dict[str, Any]:
    """Return the spec with the module paths and the settings that classes had at first.

    Random draws for a method are keyed by this, so that neither moving its file nor a further
    setting that is left alone changes an answer.
    """
    first_module = {module: moved_from for moved_from, module in MOVED.items()}

    def with_first_paths(value: Any) -> Any:
        if isinstance(value, list):
            return [with_first_paths(part) for part in value]
        if not isinstance(value, dict):
            return value
        mapped = {name: with_first_paths(part) for name, part in value.items()}
        if "class" in mapped:
            for setting, first_value in ADDED.get(mapped["class"], {}).items():
                if mapped.get(setting) == first_value:
                    del mapped[setting]
            module, _, name = mapped["class"].rpartition(".")
            mapped["class"] = f"{first_module.get(module, module)}.{name}"
        return mapped

    described: dict[str, Any] = with_first_paths(spec(method))
    return described


# --- building


@overload
def build(source: Mapping[str, Any] | str | Path) -> Method: ...
@overload
def build(source: Mapping[str, Any] | str | Path, kind: type[M]) -> M: ...
def build(source: Mapping[str, Any] | str | Path, kind: type[Method] = Method) -> Method:
    """Return the method that a spec, a TOML file or a class name describes.

    Raises ModelError naming what is wrong and the nearest valid name, or if the method is of
    another class than `kind`.
    """
    part = build_part(source)
    if not isinstance(part, Method):
        raise ModelError(
            f"{type(part).__name__} is a part that methods are given, not a method that can be"
            " fitted"
        )
    if not isinstance(part, kind):
        raise ModelError(f"{part.name} is not a {kind.__name__}")
    return part


def build_part(source: Mapping[str, Any] | str | Path) -> Method | Port:
    """Return the method, encoder or language model that a description names.

    Raises ModelError as `build` does.
    """
    table = read_pipeline(source) if isinstance(source, str | Path) else source
    return _build_table({name: value for name, value in table.items() if name != TUNE})


def _build_table(table: Mapping[str, Any]) -> Method | Port:
    """Return the part that a table with a line class describes."""
    if "class" not in table:
        raise ModelError(
            f'a method needs a line class = "...", got only {", ".join(table) or "nothing"}'
        )
    cls: Any = find_class(str(table["class"]))
    part: Method | Port = _with_settings(cls, table)
    return part


def _with_settings(cls: Any, table: Mapping[str, Any]) -> Any:
    """Return an instance with the settings of a table, checked by the fields' types."""
    setting_names = {field.name for field in dataclasses.fields(cls) if field.init}
    hints = typing.get_type_hints(cls)
    settings: dict[str, Any] = {}
    for name, value in table.items():
        if name == "class":
            continue
        if name not in setting_names:
            raise ModelError(
                f'{cls.__name__} has no setting "{name}".{nearest(name, setting_names)}'
            )
        settings[name] = _checked(cls, name, _build_value(value), hints.get(name))
    missing = [
        field.name
        for field in dataclasses.fields(cls)
        if field.init
        and field.name not in settings
        and field.default is field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ModelError(
            f'{cls.__name__} needs the setting "{missing[0]}": write it to a pipeline file.'
            f" `tailor methods {cls.__name__}` lists the settings"
        )
    try:
        return cls(**settings)
    except TypeError as error:
        raise ModelError(f"{cls.__name__}: {error}") from None


def _build_value(value: Any) -> Any:
    if isinstance(value, Mapping) and "class" in value:
        return _build_table(value)
    return [_build_value(entry) for entry in value] if isinstance(value, list) else value


def _checked(cls: type, name: str, value: Any, hint: Any) -> Any:
    """Return a setting's value as its field wants it: "none" as None, a list as a tuple.

    Raises ModelError for a value of another type.
    """
    is_union = typing.get_origin(hint) in (typing.Union, type(int | str))
    options = typing.get_args(hint) if is_union else (hint,)
    allows_none = type(None) in options
    if isinstance(value, str) and value == NONE and allows_none and str not in options:
        value = None
    if not any(_fits(value, option) for option in options):
        names = [_type_name(option) for option in options if option is not type(None)]
        names += [f'"{NONE}"'] if allows_none else []
        raise ModelError(f"{cls.__name__}.{name} = {value!r}: it must be {' or '.join(names)}")
    if isinstance(value, list) and any(typing.get_origin(option) is tuple for option in options):
        return tuple(value)
    return value


def _type_name(hint: Any) -> str:
    """Return how an error names a type: `int`, `list[str]`."""
    if isinstance(hint, type) and not typing.get_args(hint):
        return hint.__name__
    return str(hint)


def check_settings(method: Method) -> None:
    """Raise ModelError for a setting of another type than its field has.

    `build` checks descriptions; a `__post_init__` may call this to check what Python hands over.
    """
    hints = typing.get_type_hints(type(method))
    for name, value in method.params().items():
        _checked(type(method), name, value, hints[name])


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a value has the type of a hint."""
    if typing.get_origin(hint) is Literal:
        return value in typing.get_args(hint)
    if typing.get_origin(hint) in (list, tuple, dict):
        return _fits_container(value, hint)
    if hint in (int, float):
        return _is_number(value, hint)
    if hint in (str, bool):
        return isinstance(value, hint)
    if hint is type(None):
        return value is None
    if isinstance(hint, type) and issubclass(hint, Method | Port):
        return isinstance(value, hint)
    return True  # the class itself checks


def _fits_container(value: Any, hint: Any) -> bool:
    """Return whether a value is a list, tuple or mapping whose entries have the hint's type."""
    entry_hint = typing.get_args(hint)[-1 if typing.get_origin(hint) is dict else 0]
    if typing.get_origin(hint) is not dict:
        return isinstance(value, list | tuple) and all(_fits(entry, entry_hint) for entry in value)
    is_mapping = isinstance(value, Mapping)
    return is_mapping and all(_fits(entry, entry_hint) for entry in value.values())


def _is_number(value: Any, kind: type) -> bool:
    """Return whether a value is a number of this kind, not NaN or a truth value."""
    if isinstance(value, bool):
        return False
    if isinstance(value, int | np.integer):
        return True
    return kind is float and isinstance(value, float | np.floating) and not np.isnan(value)


def read_pipeline(source: str | Path) -> dict[str, Any]:
    """Return the content of a TOML file, with its table [tune] if there is one.

    A name without the ending .toml is that of a class: {"class": name}. Raises ModelError for a
    file that is missing or no TOML.
    """
    path = Path(source)
    if path.suffix != ".toml":
        return {"class": str(source)}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"there is no pipeline file {path}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from None


def clone(method: M) -> M:
    """Return an unfitted method with the same settings; methods among them are cloned too."""
    return type(method)(**{name: _cloned(value) for name, value in method.params().items()})


def _cloned(value: Any) -> Any:
    if isinstance(value, Method):
        return clone(value)
    if isinstance(value, list | tuple):
        return type(value)(_cloned(entry) for entry in value)
    return value


# --- classes


def find_class(path: str) -> type[Method] | type[Port]:
    """Return the class of a path, of a bare class name, or of a plug-in.

    Paths are inside tailor, such as `retrieval.ease.EASE`. Nothing but tailor and the installed
    entry points of the group `tailor.methods` is ever imported. Raises ModelError for an unknown or
    ambiguous name, MissingExtraError if its module needs a package that is not installed.
    """
    point = _plugin(path)
    if point is not None:
        return _as_part(path, _import_plugin(point))
    try:
        full = _full_path(path)
    except ModelError:
        _plugins_on.cache_clear()  # it may have been installed since
        point = _plugin(path)
        if point is None:
            raise
        return _as_part(path, _import_plugin(point))
    return _as_part(path, _import(full))


def _plugin(path: str) -> importlib.metadata.EntryPoint | None:
    """Return the plug-in with this name or path, None where there is none."""
    points = _plugins_on(tuple(sys.path))
    return next((point for point in points if path in (point.name, _plugin_path(point))), None)


@functools.lru_cache(maxsize=4)
def _plugins_on(search_path: tuple[str, ...]) -> tuple[importlib.metadata.EntryPoint, ...]:
    """Return the installed plug-ins; reading the metadata of all packages takes 7 ms."""
    return tuple(importlib.metadata.entry_points(group=PLUGINS))


def _full_path(path: str) -> str:
    """Return the full path of a class inside tailor. Raises ModelError with the nearest name."""
    all_paths = (*_class_paths(METHOD_PACKAGES), *_class_paths(PORT_PACKAGES))
    name = _present_path(path.removeprefix("tailor."))
    matches = [full for full in all_paths if full == name or full.rsplit(".", 1)[1] == name]
    if len(matches) > 1:
        raise ModelError(
            f'several classes are called "{path}": {", ".join(matches)}; write the whole path'
        )
    if not matches:
        names = [full.rsplit(".", 1)[1] for full in all_paths] if "." not in name else all_paths
        plugins = [point.name for point in _plugins_on(tuple(sys.path))]
        raise ModelError(f'there is no class "{path}".{nearest(name, [*names, *plugins])}')
    return matches[0]


def _present_path(path: str) -> str:
    """Return where the class of a path is now, if its module has moved since."""
    module, _, name = path.rpartition(".")
    return f"{MOVED[module]}.{name}" if module in MOVED else path


def _plugin_path(point: importlib.metadata.EntryPoint) -> str:
    return point.value.replace(":", ".")


def _as_part(path: str, cls: Any) -> type[Method] | type[Port]:
    if not (isinstance(cls, type) and issubclass(cls, Method | Port)):
        raise ModelError(f'"{path}" is not a method that can be fitted')
    return cls


def _import_plugin(point: importlib.metadata.EntryPoint) -> Any:
    try:
        return point.load()
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f'the plug-in "{point.name}" ({point.value}) needs the package {error.name}: install it'
        ) from error
    except Exception as error:  # a plug-in's module may do anything when it is imported
        raise ModelError(
            f'the plug-in "{point.name}" ({point.value}) cannot be imported: {error!r}'
        ) from error


def _import(path: str) -> Any:
    """Return the class of a path inside tailor."""
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(f"tailor.{module}"), name)
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("tailor"):
            raise
        raise MissingExtraError(
            f"{name} needs the package {error.name}: pip install 'tailor-engine[all]'"
        ) from error


@functools.cache
def _class_paths(packages: tuple[str, ...]) -> tuple[str, ...]:
    """Return the paths of all public classes of packages, read from the source, not imported."""
    root = Path(__file__).parents[1]
    paths: list[str] = []
    for package in packages:
        for file in sorted((root / package).rglob("*.py")):
            module = ".".join(file.relative_to(root).with_suffix("").parts)
            tree = ast.parse(file.read_text(encoding="utf-8"))
            classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
            paths += [f"{module}.{cls.name}" for cls in classes if cls.name[0] != "_"]
    return tuple(paths)


@dataclass(frozen=True)
class Found:
    """A class that `discover` found."""

    path: str
    """Path inside tailor, or of a plug-in."""
    cls: type[Method] | None
    """The class; None if it cannot be imported."""
    paper: Paper | None = None
    """The paper that its file implements."""
    missing: str = ""
    """The message of the error if it cannot be imported: as a rule, the extra to install."""


def discover() -> list[Found]:
    """Return every concrete method class of Tailor and of installed plug-ins."""
    importers: list[tuple[str, Callable[[], Any]]] = [
        (path, functools.partial(_import, path)) for path in _class_paths(METHOD_PACKAGES)
    ]
    for point in importlib.metadata.entry_points(group=PLUGINS):
        importers.append((_plugin_path(point), functools.partial(_import_plugin, point)))
    classes: list[Found] = []
    for path, import_class in importers:
        try:
            cls = import_class()
        except (MissingExtraError, ModelError, ImportError) as error:
            classes.append(Found(path, None, missing=str(error)))
            continue
        if _is_concrete_method(cls):
            classes.append(Found(path, cls, _paper_of(cls)))
    return classes


def discover_studies() -> list[Found]:
    """Return every study: a measurement, which is run and not fitted.

    Those that need a package which is not installed are left out.
    """
    classes: dict[str, Any] = {}
    for path in _class_paths(STUDY_PACKAGES):
        with contextlib.suppress(MissingExtraError):
            classes[path] = _import(path)
    return [
        Found(path, cast(Any, cls), _paper_of(cls))
        for path, cls in classes.items()
        if isinstance(cls, type) and issubclass(cls, Study)
    ]


def build_study(name: str, settings: Mapping[str, Any]) -> Study[Any]:
    """Return the study of a class name or path, with these settings.

    Raises ModelError for an unknown study or setting, with the nearest valid name, and
    MissingExtraError for a study whose extra is not installed.
    """
    classes: dict[str, Any] = {}
    for entry in discover_studies():
        classes[entry.path] = entry.cls
        classes[entry.path.rpartition(".")[2]] = entry.cls
    cls = classes.get(name.removeprefix("tailor."))
    if cls is None:
        for path in _class_paths(STUDY_PACKAGES):
            if name.removeprefix("tailor.") in (path, path.rpartition(".")[2]):
                _import(path)  # raises where a package is missing
        names = sorted(path for path in classes if "." not in path)
        raise ModelError(f'there is no study "{name}".{nearest(name, names)}')
    study: Study[Any] = _with_settings(cls, settings)
    return study


def _is_concrete_method(cls: Any) -> bool:
    is_method = isinstance(cls, type) and issubclass(cls, Method)
    return is_method and not getattr(cls, "__abstractmethods__", None)


def _paper_of(cls: type) -> Paper | None:
    return getattr(importlib.import_module(cls.__module__), "PAPER", None)
