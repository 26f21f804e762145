"""Suites: files that say which methods are measured on what, by which protocol, with which random
states.
"""

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
WORLDS: dict[str, Callable[..., Any]] = {"shop": shop, "crossed": crossed}
JUDGEMENTS = "judgements"
DATA_VARIABLE = "TAILOR_DATA"  # the folder that the paths of [data] import start from


@dataclass(frozen=True)
class Suite:
    """What a suite file says; `methods` are specs as `tailor.core.specs` writes them, `waiting`
    what is not built and why.
    """

    name: str
    about: str
    seeds: list[int]
    baseline: str | None
    data: dict[str, Any]
    split: dict[str, Any]
    protocol: dict[str, Any]
    methods: dict[str, dict[str, Any]]
    waiting: dict[str, str]


def suite_names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read_suite(name: str | Path) -> Suite:
    """By its name, or by the path of a file. Raises ModelError naming the file and what is wrong
    with it.
    """
    path = Path(name)
    if path.suffix != ".toml":
        path = FOLDER / f"{name}.toml"
    if not path.is_file():
        raise ModelError(f'there is no suite "{name}".{nearest(str(name), suite_names())}')
    try:
        about = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} is no TOML: {error}") from None
    for key in about:
        if key not in KEYS:
            raise ModelError(f'{path}: a suite has no "{key}".{nearest(key, KEYS)}')
    _check_shape(path, about)
    methods = {}
    for label, one in about.get("methods", {}).items():
        try:
            methods[label] = spec(_built(one))
        except ModelError as error:
            raise ModelError(f"{path}, [methods.{label}]: {error}") from None
    if methods and not ("data" in about and "split" in about):
        raise ModelError(f"{path}: a suite with methods needs [data] and [split]")
    if methods and "by" not in about["split"]:
        raise ModelError(f'{path}: [split] needs a line by, such as by = "last"')
    baseline = about.get("baseline")
    if baseline is not None and baseline not in methods:
        raise ModelError(
            f'{path}: the baseline "{baseline}" is none of its methods.{nearest(baseline, methods)}'
        )
    seeds = about.get("seeds", [0])
    if (
        not isinstance(seeds, list)
        or not seeds
        or not all(type(one) is int and one >= 0 for one in seeds)
    ):
        raise ModelError(f"{path}: seeds is {seeds!r}: give a list of whole numbers from 0")
    return Suite(
        path.stem,
        about.get("about", ""),
        seeds,
        baseline,
        about.get("data", {}),
        about.get("split", {}),
        about.get("protocol", {}),
        methods,
        about.get("waiting", {}),
    )


def _check_shape(path: Path, about: Mapping[str, Any]) -> None:
    """Raise ModelError for what is no table, for a line of [protocol] that nothing would read, and
    for labels that are no names of folders.
    """
    for key in ("data", "split", "protocol", "methods", "waiting"):
        if not isinstance(about.get(key, {}), Mapping):
            raise ModelError(f"{path}: {key} is {about[key]!r}: it must be a table")
    for key, value in about.get("protocol", {}).items():
        if key not in PROTOCOL:
            raise ModelError(f'{path}: [protocol] has no "{key}".{nearest(key, PROTOCOL)}')
        if not PROTOCOL[key](value):
            raise ModelError(
                f"{path}: {key} is {value!r}: k is a list of depths from 1, metrics and seen lists"
                " of names, part a name"
            )
    for label in about.get("methods", {}):
        if not label or set(label) & set("/\\\0") or label.startswith("."):
            raise ModelError(
                f'{path}: a method is called "{label}": it must do as the name of a folder'
            )


def _names(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)


PROTOCOL: dict[str, Callable[[Any], bool]] = {
    "k": (
        lambda value: (
            isinstance(value, list)
            and bool(value)
            and all(type(one) is int and one > 0 for one in value)
        )
    ),
    "metrics": _names,
    "seen": _names,
    "part": lambda value: isinstance(value, str),
}


def _built(about: Mapping[str, Any]) -> Recommender | Predictor:
    method = build(pipeline_file(str(about["pipeline"]))) if "pipeline" in about else build(about)
    if not isinstance(method, Recommender | Predictor):
        raise ModelError(
            f"a {method.name} neither recommends nor predicts, and suites measure what does"
        )
    return method


def split_of(data: Mapping[str, Any], split: Mapping[str, Any]) -> Split | JudgedCollection:
    """What [data] and [split] of a suite or a card describe: a split, or by "judgements" a judged
    collection. Raises DataError where the data are not there.
    """
    params = dict(split)
    by = params.pop("by")
    try:
        return (
            JudgedCollection(data_of(data), **params)
            if by == JUDGEMENTS
            else split_by(data_of(data), by, **params)
        )
    except TypeError as error:
        raise DataError(f"[split] by {by}: {error}") from None


def data_of(about: Mapping[str, Any]) -> Dataset:
    """A planted world (`world = "shop"` and its knobs), a data set (`folder`), or files to import
    (`import`, under the folder TAILOR_DATA).
    """
    if "world" in about:
        if about["world"] not in WORLDS:
            raise DataError(
                f'there is no world "{about["world"]}".{nearest(about["world"], WORLDS)}'
            )
        try:
            return cast(
                Dataset,
                WORLDS[about["world"]](
                    **{name: value for name, value in about.items() if name != "world"}
                ).data,
            )
        except TypeError as error:
            raise DataError(f"the world of this suite: {error}") from None
    if "folder" in about:
        return Dataset.open(about["folder"])
    if "import" not in about:
        raise DataError(f"[data] says {dict(about)}: it needs world, folder or import")
    if not {"format", "name"} <= set(about):
        raise DataError(f"[data] says {dict(about)}: an import needs format and name")
    root = Path(os.environ.get(DATA_VARIABLE, "."))
    files = [
        root / one
        for one in ([about["import"]] if isinstance(about["import"], str) else about["import"])
    ]
    for one in files:
        if not one.exists():
            raise DataError(
                f"{one} is not there: set the variable {DATA_VARIABLE} to the folder of the shared"
                " data"
            )
    with tempfile.TemporaryDirectory() as out:
        source = files[0]
        if len(files) > 1:  # several files of a folder that holds others too
            source = Path(out) / "files"
            source.mkdir()
            for one in files:
                (source / one.name).symlink_to(one.resolve())
        items = {"items": root / about["items"]} if "items" in about else {}
        import_data(source, Path(out) / "data", format=about["format"], name=about["name"], **items)
        data = Dataset.open(Path(out) / "data")
        return Dataset(dict(data.tables), about["name"])  # read now: the folder goes
