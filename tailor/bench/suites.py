"""Read suites: files that name methods, data, split, protocol and random states."""

import os
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tailor.core.methods import Predictor, Recommender
from tailor.core.specs import build, spec
from tailor.data.dataset import Dataset
from tailor.data.importers.importing import import_data
from tailor.data.splits import Split, split_by
from tailor.errors import DataError, ModelError, nearest
from tailor.evaluation.relevance import JudgedCollection
from tailor.pipeline.default import pipeline_file
from tailor.worlds.crossed import crossed
from tailor.worlds.shop import shop

FOLDER = Path(__file__).parent / "suites"
KEYS = ("about", "seeds", "baseline", "data", "split", "protocol", "methods", "waiting")
TABLES = ("data", "split", "protocol", "methods", "waiting")
WORLDS: dict[str, Callable[..., Any]] = {"shop": shop, "crossed": crossed}
JUDGEMENTS = "judgements"
DATA_VARIABLE = "TAILOR_DATA"  # the folder that the paths of [data] import are relative to


@dataclass(frozen=True)
class Suite:
    """The content of a suite file."""

    name: str
    about: str
    seeds: list[int]
    baseline: str | None
    data: dict[str, Any]
    split: dict[str, Any]
    protocol: dict[str, Any]
    methods: dict[str, dict[str, Any]]
    """Label -> spec, as `tailor.core.specs` writes it."""
    waiting: dict[str, str]
    """Methods that are not built yet -> reason."""


def suite_names() -> list[str]:
    """Return the names of the suites that come with Tailor."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read_suite(name: str | Path) -> Suite:
    """Read a suite by its name or the path of a file.

    Raises ModelError naming the file and what is wrong with it.
    """
    path = Path(name)
    if path.suffix != ".toml":
        path = FOLDER / f"{name}.toml"
    if not path.is_file():
        raise ModelError(f'there is no suite "{name}".{nearest(str(name), suite_names())}')
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} is no TOML: {error}") from None
    for key in content:
        if key not in KEYS:
            raise ModelError(f'{path}: a suite has no "{key}".{nearest(key, KEYS)}')
    _check_tables(path, content)
    methods = {}
    for label, description in content.get("methods", {}).items():
        try:
            methods[label] = spec(_build_method(description))
        except ModelError as error:
            raise ModelError(f"{path}, [methods.{label}]: {error}") from None
    _check_entries(path, content, methods)
    return Suite(
        path.stem,
        content.get("about", ""),
        content.get("seeds", [0]),
        content.get("baseline"),
        content.get("data", {}),
        content.get("split", {}),
        content.get("protocol", {}),
        methods,
        content.get("waiting", {}),
    )


def _check_tables(path: Path, content: Mapping[str, Any]) -> None:
    """Raise ModelError for entries that are no tables, and for a wrong [protocol] or label."""
    for key in TABLES:
        if not isinstance(content.get(key, {}), Mapping):
            raise ModelError(f"{path}: {key} is {content[key]!r}: it must be a table")
    for key, value in content.get("protocol", {}).items():
        if key not in PROTOCOL:
            raise ModelError(f'{path}: [protocol] has no "{key}".{nearest(key, PROTOCOL)}')
        if not PROTOCOL[key](value):
            raise ModelError(
                f"{path}: {key} is {value!r}: k is a list of depths from 1, metrics and seen lists"
                " of names, part a name"
            )
    for label in content.get("methods", {}):
        if not label or set(label) & set("/\\\0") or label.startswith("."):
            raise ModelError(
                f'{path}: a method is called "{label}": it must do as the name of a folder'
            )


def _check_entries(
    path: Path, content: Mapping[str, Any], methods: Mapping[str, Mapping[str, Any]]
) -> None:
    """Raise ModelError for missing data or split, another baseline, or wrong seeds."""
    if methods and not ("data" in content and "split" in content):
        raise ModelError(f"{path}: a suite with methods needs [data] and [split]")
    if methods and "by" not in content["split"]:
        raise ModelError(f'{path}: [split] needs a line by, such as by = "last"')
    baseline = content.get("baseline")
    if baseline is not None and baseline not in methods:
        raise ModelError(
            f'{path}: the baseline "{baseline}" is none of its methods.{nearest(baseline, methods)}'
        )
    seeds = content.get("seeds", [0])
    if not isinstance(seeds, list) or not seeds or not all(map(_is_seed, seeds)):
        raise ModelError(f"{path}: seeds is {seeds!r}: give a list of whole numbers from 0")


def _is_seed(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_depth_list(value: Any) -> bool:
    if not isinstance(value, list) or not value:
        return False
    return all(type(depth) is int and depth > 0 for depth in value)


def _is_name_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_name, value))


def _is_name(value: Any) -> bool:
    return isinstance(value, str)


# entries of [protocol] with the check of their value
PROTOCOL: dict[str, Callable[[Any], bool]] = {
    "k": _is_depth_list,
    "metrics": _is_name_list,
    "seen": _is_name_list,
    "part": _is_name,
}


def _build_method(description: Mapping[str, Any]) -> Recommender | Predictor:
    """Build a method from its settings or from a pipeline's name."""
    if "pipeline" in description:
        method = build(pipeline_file(str(description["pipeline"])))
    else:
        method = build(description)
    if not isinstance(method, Recommender | Predictor):
        raise ModelError(
            f"a {method.name} neither recommends nor predicts, and suites measure what does"
        )
    return method


def split_of(data: Mapping[str, Any], split: Mapping[str, Any]) -> Split | JudgedCollection:
    """Return the split that [data] and [split] of a suite or a card describe.

    By "judgements" it is a judged collection. Raises DataError where the data are missing.
    """
    params = dict(split)
    by = params.pop("by")
    try:
        if by == JUDGEMENTS:
            return JudgedCollection(data_of(data), **params)
        return split_by(data_of(data), by, **params)
    except TypeError as error:
        raise DataError(f"[split] by {by}: {error}") from None


def data_of(description: Mapping[str, Any]) -> Dataset:
    """Return the data set of a description.

    A planted world (`world = "shop"` and its settings), a data set (`folder`), or files to import
    (`import`, under the folder TAILOR_DATA).
    """
    if "world" in description:
        return _world_data(description)
    if "folder" in description:
        return Dataset.open(description["folder"])
    if "import" not in description:
        raise DataError(f"[data] says {dict(description)}: it needs world, folder or import")
    if not {"format", "name"} <= set(description):
        raise DataError(f"[data] says {dict(description)}: an import needs format and name")
    return _imported_data(description)


def _world_data(description: Mapping[str, Any]) -> Dataset:
    """Make the data of a world."""
    settings = dict(description)
    name = settings.pop("world")
    if name not in WORLDS:
        raise DataError(f'there is no world "{name}".{nearest(name, WORLDS)}')
    try:
        return cast(Dataset, WORLDS[name](**settings).data)
    except TypeError as error:
        raise DataError(f"the world of this suite: {error}") from None


def _imported_data(description: Mapping[str, Any]) -> Dataset:
    """Import files into memory."""
    root = Path(os.environ.get(DATA_VARIABLE, "."))
    names = description["import"]
    files = [root / name for name in ([names] if isinstance(names, str) else names)]
    for path in files:
        if not path.exists():
            raise DataError(
                f"{path} is not there: set the variable {DATA_VARIABLE} to the folder of the shared"
                " data"
            )
    with tempfile.TemporaryDirectory() as temporary:
        source = files[0]
        if len(files) > 1:  # several files of a folder that holds others too
            source = Path(temporary) / "files"
            source.mkdir()
            for path in files:
                (source / path.name).symlink_to(path.resolve())
        out = Path(temporary) / "data"
        options = {"items": root / description["items"]} if "items" in description else {}
        name = description["name"]
        import_data(source, out, format=description["format"], name=name, **options)
        # read into memory now: the folder is deleted
        return Dataset(dict(Dataset.open(out).tables), name)
