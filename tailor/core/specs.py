"""Methods as plain values: describing them in a file, building them from one, finding what there
is.
"""

import ast
import dataclasses
import functools
import importlib
import importlib.metadata
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
ROOMS = (
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
TUNE = "tune"  # the table of a pipeline file that says which settings `tailor tune` searches
PORT_ROOMS = ("text", "llm")  # where encoders and language models live
STUDY_ROOMS = ("evaluation", "bench", "papers")  # where studies live
SECRET = ("api_key", "key", "token", "password", "secret")
# module of an earlier version -> where its classes are now; saved models and pipeline files of then
# still open
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
NONE = "none"  # how a file says that a setting is None where its default is another


def spec(method: Method | Port) -> dict[str, Any]:
    """A method, an encoder or a language model and its settings as plain values, nested where
    settings are such themselves.

    A field that is None is left out where that is its default, else it is written as "none", since
    TOML knows no null. Raises ModelError for a setting that is named like a secret: keys belong
    into environment variables.
    """

    def plain(value: Any) -> Any:
        if isinstance(value, Method | Port):
            return spec(value)
        if isinstance(value, list | tuple):
            return [plain(one) for one in value]
        if isinstance(value, Mapping):
            return {key: plain(one) for key, one in value.items()}
        return value.item() if isinstance(value, np.generic) else value

    defaults = {one.name: one.default for one in dataclasses.fields(_described(method)) if one.init}
    if isinstance(method, Port) and (
        secret := next((name for name in defaults if name in SECRET), None)
    ):
        raise ModelError(
            f"{type(method).__name__}.{secret} would be saved: settings hold the name of an"
            " environment variable, never a key"
        )
    about = {
        name: NONE if value is None else plain(value)
        for name, value in ((name, getattr(method, name)) for name in defaults)
        if value is not None or defaults[name] is not None
    }
    return {
        "class": f"{type(method).__module__.removeprefix('tailor.')}.{type(method).__qualname__}",
        **about,
    }


def _described(part: Method | Port) -> Any:
    if not dataclasses.is_dataclass(part):
        raise ModelError(
            f"{type(part).__name__} is no dataclass, so that its settings cannot be written down:"
            " make it one"
        )
    return part


@overload
def build(about: Mapping[str, Any] | str | Path) -> Method: ...
@overload
def build(about: Mapping[str, Any] | str | Path, kind: type[M]) -> M: ...
def build(about: Mapping[str, Any] | str | Path, kind: type[Method] = Method) -> Method:
    """Return the method that a spec, a TOML file or a class name describes.

    Raises ModelError naming what is wrong and the nearest valid name, or where the method is of
    another class than `kind`.
    """
    part = build_part(about)
    if not isinstance(part, Method):
        raise ModelError(
            f"{type(part).__name__} is a part that methods are given, not a method that can be"
            " fitted"
        )
    if not isinstance(part, kind):
        raise ModelError(f"{part.name} is not a {kind.__name__}")
    return part


def build_part(about: Mapping[str, Any] | str | Path) -> Method | Port:
    """The method, encoder or language model that a spec, a TOML file or a class name describes.
    Raises ModelError as `build` does.
    """
    if isinstance(about, str | Path):
        about = read_pipeline(about)
    return _made({name: value for name, value in about.items() if name != TUNE})


def _made(about: Mapping[str, Any]) -> Method | Port:
    if "class" not in about:
        raise ModelError(
            f'a method needs a line class = "...", got only {", ".join(about) or "nothing"}'
        )
    cls: Any = find_class(str(about["class"]))
    part: Method | Port = _with_settings(cls, about)
    return part


def _with_settings(cls: Any, about: Mapping[str, Any]) -> Any:
    """Return an instance with the settings of a spec, checked by the types of the fields."""
    known = {setting.name for setting in dataclasses.fields(cls) if setting.init}
    hints = typing.get_type_hints(cls)
    settings = {}
    for name, value in about.items():
        if name == "class":
            continue
        if name not in known:
            raise ModelError(f'{cls.__name__} has no setting "{name}".{nearest(name, known)}')
        settings[name] = _checked(cls, name, _built(value), hints.get(name))
    try:
        return cls(**settings)
    except TypeError as error:
        raise ModelError(f"{cls.__name__}: {error}") from None


def _built(value: Any) -> Any:
    if isinstance(value, Mapping) and "class" in value:
        return _made(value)
    return [_built(one) for one in value] if isinstance(value, list) else value


def _checked(cls: type, name: str, value: Any, hint: Any) -> Any:
    """The value as the field wants it: "none" as None, a list as a tuple. Raises ModelError where
    it is of another type.
    """
    union = typing.get_origin(hint) in (typing.Union, type(int | str))
    options = typing.get_args(hint) if union else (hint,)
    if isinstance(value, str) and value == NONE and type(None) in options and str not in options:
        value = None
    if not any(_fits(value, option) for option in options):
        names = [
            (
                getattr(one, "__name__", str(one))
                if isinstance(one, type) and not typing.get_args(one)
                else str(one)
            )
            for one in options
            if one is not type(None)
        ]
        none = f' or "{NONE}"' if type(None) in options else ""
        raise ModelError(
            f"{cls.__name__}.{name} = {value!r}: it must be {' or '.join(names)}{none}"
        )
    return (
        tuple(value)
        if isinstance(value, list) and any(typing.get_origin(one) is tuple for one in options)
        else value
    )


def check_settings(method: Method) -> None:
    """Raise ModelError for a setting of another type than its field has; what `build` does for
    files, for a `__post_init__`.
    """
    hints = typing.get_type_hints(type(method))
    for name, value in method.params().items():
        _checked(type(method), name, value, hints[name])


def _fits(value: Any, hint: Any) -> bool:
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return value in inside
    if origin in (list, tuple):
        return isinstance(value, list | tuple) and all(_fits(one, inside[0]) for one in value)
    if origin is dict:
        return isinstance(value, Mapping) and all(_fits(one, inside[1]) for one in value.values())
    if hint is float:  # NaN is no number
        return (
            isinstance(value, int | float | np.integer | np.floating)
            and not isinstance(value, bool)
            and not np.isnan(value)
        )
    if hint is int:
        return isinstance(value, int | np.integer) and not isinstance(value, bool)
    if hint in (str, bool):
        return isinstance(value, hint)
    if hint is type(None):
        return value is None
    # the class itself checks
    return (
        isinstance(value, hint)
        if isinstance(hint, type) and issubclass(hint, Method | Port)
        else True
    )


def read_pipeline(source: str | Path) -> dict[str, Any]:
    """What a TOML file holds, or a class by its name alone, as `build` takes it, with the table
    [tune] where there is one.
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


def find_class(path: str) -> type[Method] | type[Port]:
    """The class of an import path inside tailor (`retrieval.ease.EASE`), of a bare class name, or
    of a plug-in.

    Nothing outside tailor and the installed entry points of the group `tailor.methods` is ever
    imported.
    """
    plugins = {
        point.name: point for point in importlib.metadata.entry_points(group="tailor.methods")
    }
    paths = {point.value.replace(":", "."): point for point in plugins.values()}
    point = plugins.get(path) or paths.get(path)
    if point is not None:
        return _as_part(path, _loaded(point))
    known = (*_class_paths(ROOMS), *_class_paths(PORT_ROOMS))
    name = _present_path(path.removeprefix("tailor."))
    matches = [full for full in known if full == name or full.rsplit(".", 1)[1] == name]
    if len(matches) > 1:
        raise ModelError(
            f'several classes are called "{path}": {", ".join(matches)}; write the whole path'
        )
    if not matches:
        names = [full.rsplit(".", 1)[1] for full in known] if "." not in name else known
        raise ModelError(f'there is no class "{path}".{nearest(name, [*names, *plugins])}')
    return _as_part(path, _import(matches[0]))


def identity(method: Method | Port) -> dict[str, Any]:
    """Return the spec with classes at the paths where they first stood.

    What is drawn for a method depends on this, so that moving its file changes no answer.
    """
    first_module = {module: moved_from for moved_from, module in MOVED.items()}

    def with_first_paths(value: Any) -> Any:
        if isinstance(value, list):
            return [with_first_paths(part) for part in value]
        if not isinstance(value, dict):
            return value
        mapped = {name: with_first_paths(part) for name, part in value.items()}
        if "class" in mapped:
            module, _, name = mapped["class"].rpartition(".")
            mapped["class"] = f"{first_module.get(module, module)}.{name}"
        return mapped

    described: dict[str, Any] = with_first_paths(spec(method))
    return described


def _present_path(path: str) -> str:
    """Return the path where the class of `path` is now, if its module has moved since."""
    module, _, name = path.rpartition(".")
    return f"{MOVED[module]}.{name}" if module in MOVED else path


def _as_part(path: str, found: Any) -> type[Method] | type[Port]:
    if not (isinstance(found, type) and issubclass(found, Method | Port)):
        raise ModelError(f'"{path}" is not a method that can be fitted')
    return found


def _loaded(point: importlib.metadata.EntryPoint) -> Any:
    try:
        return point.load()
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f'the plug-in "{point.name}" ({point.value}) needs the package {error.name}: install it'
        ) from error
    except Exception as error:  # what a stranger's module does when imported is not ours to foresee
        raise ModelError(
            f'the plug-in "{point.name}" ({point.value}) cannot be imported: {error!r}'
        ) from error


def _import(path: str) -> Any:
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
def _class_paths(rooms: tuple[str, ...]) -> tuple[str, ...]:
    """Paths of all public classes in the rooms, read from their source so that nothing is imported."""
    root = Path(__file__).parents[1]
    found = []
    for room in rooms:
        for file in sorted((root / room).rglob("*.py")):
            module = ".".join(file.relative_to(root).with_suffix("").parts)
            tree = ast.parse(file.read_text(encoding="utf-8"))
            found += [
                f"{module}.{node.name}"
                for node in tree.body
                if isinstance(node, ast.ClassDef) and node.name[0] != "_"
            ]
    return tuple(found)


@dataclass(frozen=True)
class Found:
    """A method class that is there, or that would be with the extra named in `missing`."""

    path: str
    cls: type[Method] | None
    paper: Paper | None = None
    missing: str = ""


def discover() -> list[Found]:
    """Every concrete method class of the rooms and of installed plug-ins."""
    out = []
    points = importlib.metadata.entry_points(group="tailor.methods")
    loaders: list[tuple[str, Callable[[], Any]]] = [
        (path, functools.partial(_import, path)) for path in _class_paths(ROOMS)
    ]
    loaders += [
        (point.value.replace(":", "."), functools.partial(_loaded, point)) for point in points
    ]
    for path, loader in loaders:
        try:
            cls = loader()
        except (MissingExtraError, ModelError, ImportError) as error:
            out.append(Found(path, None, missing=str(error)))
            continue
        if (
            isinstance(cls, type)
            and issubclass(cls, Method)
            and not getattr(cls, "__abstractmethods__", None)
        ):
            paper = getattr(importlib.import_module(cls.__module__), "PAPER", None)
            out.append(Found(path, cls, paper))
    return out


def discover_studies() -> list[Found]:
    """Every study of the rooms: what measures, and is not fitted."""
    out = []
    for path in _class_paths(STUDY_ROOMS):
        cls = _import(path)
        if isinstance(cls, type) and issubclass(cls, Study):
            out.append(
                Found(
                    path,
                    cast(Any, cls),
                    getattr(importlib.import_module(cls.__module__), "PAPER", None),
                )
            )
    return out


def build_study(name: str, settings: Mapping[str, Any]) -> Study[Any]:
    """Return the study of a class name or path, with these settings.

    Raises ModelError for an unknown study or setting, with the nearest valid name.
    """
    classes: dict[str, Any] = {}
    for study in discover_studies():
        classes[study.path] = classes[study.path.rpartition(".")[2]] = study.cls
    cls = classes.get(name.removeprefix("tailor."))
    if cls is None:
        names = sorted(name for name in classes if "." not in name)
        raise ModelError(f'there is no study "{name}".{nearest(name, names)}')
    instance: Study[Any] = _with_settings(cls, settings)
    return instance


def clone(method: M) -> M:
    """Return a method with the same settings and nothing learned, and so for methods among them."""

    def copied(value: Any) -> Any:
        if isinstance(value, Method):
            return clone(value)
        if isinstance(value, list | tuple):
            return type(value)(copied(part) for part in value)
        return value

    return type(method)(**{name: copied(value) for name, value in method.params().items()})
