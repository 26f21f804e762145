"""The verbs: what every method can do, how it is described in a file, saved, loaded and found."""

import ast
import copy
import dataclasses
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import os
import threading
import tomllib
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar

import numpy as np
import polars as pl
import scipy.sparse as sp

from tailor.data.arrays import Ragged, top_k
from tailor.data.dataset import Dataset, Provenance
from tailor.data.folders import written_aside
from tailor.data.nouns import Explanation, Output, Profile, Query, Ranking, Turn
from tailor.data.queries import Queries, Rankings
from tailor.data.splits import Split
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError, MissingExtraError, ModelError, NotFittedError, nearest
from tailor.progress import Progress, silent

ROOMS = ("retrieval", "ranking", "reranking", "generative", "profiles", "writing", "images", "conversation", "simulation",
         "evaluation", "pipeline")  # fmt: skip
FORMAT = 1  # of saved models
SCORES_BYTES = 64 * 2**20  # of one dense block of scores
NONE = "none"  # how a file says that a setting is None where its default is another


@dataclass(frozen=True)
class Run:
    """What concerns this run and not the method: seed, device, workers, progress, deadline, number format."""

    seed: int = 0
    device: str = "cpu"
    workers: int = field(default_factory=lambda: min(os.cpu_count() or 1, 8))
    progress: Progress = silent
    deadline_s: float | None = None
    dtype: str = "float32"

    def rng(self, *key: str | int) -> np.random.Generator:
        """A generator of its own for every key, the same for the same seed and key: `run.rng("sample", request_id)`."""
        digest = hashlib.blake2b(json.dumps([self.seed, *key]).encode(), digest_size=16).digest()
        return np.random.default_rng(int.from_bytes(digest, "little"))


@dataclass(frozen=True)
class Paper:
    """Which paper a file holds; a module constant `PAPER` of every paper's file."""

    slug: str
    title: str
    url: str
    claim: str  # what must be measured for the paper to count as working


def may_hold_targets(seen: Provenance, split: Split) -> bool:
    """Whether what was learned from is the data that was split, or the larger data that this was itself cut from."""
    return seen.data_hash in (split.data.content_hash, split.data.provenance.data_hash)


@dataclass(eq=False)
class Method(ABC):
    """A dataclass whose fields are the settings; what `fit` learns stands in attributes that end in `_`."""

    is_personal: ClassVar[bool] = False  # whether learned state holds rows of single users

    def fit(self, data: Dataset, run: Run = Run(), valid: Split | None = None) -> Self:
        """Learn from `data`; `valid` may be used for early stopping, weights and calibration only.

        An interrupted or failed fit leaves the method as it was. Raises DataError where `data` holds the targets of `valid`.
        """
        seen = data.provenance
        if valid is not None and may_hold_targets(seen, valid) and (seen.split_hash, seen.part) != (valid.hash, "train"):
            raise DataError(f'the data to fit (part "{seen.part}") holds the validation targets: fit on valid.train, or pass no valid')
        fresh = copy.copy(self)
        fresh.__dict__ = {name: value for name, value in self.__dict__.items() if not name.endswith("_")}
        fresh.fit_report_ = {}
        fresh._fit(data, run, valid)
        fresh.trained_on_ = seen
        self.__dict__ = fresh.__dict__
        return self

    @abstractmethod
    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        """Set the learned attributes."""

    fit_report_: dict[str, Any] = field(init=False, repr=False)  # what fitting did: sizes, choices, what was left out
    trained_on_: Provenance = field(init=False, repr=False)

    @property
    def name(self) -> str:
        return type(self).__name__

    @property
    def is_fitted(self) -> bool:
        return "trained_on_" in self.__dict__

    def _check_fitted(self) -> None:
        if not self.is_fitted:
            raise NotFittedError(f"{self.name} is not fitted: call fit(data) first, or load a saved one")

    def params(self) -> dict[str, Any]:
        """The settings, by field name."""
        return {one.name: getattr(self, one.name) for one in dataclasses.fields(self) if one.init}

    def state(self) -> dict[str, Any]:
        """What was learned, by attribute name."""
        return {name: value for name, value in self.__dict__.items() if name.endswith("_") and not name.startswith("_")}

    @classmethod
    def tiny(cls) -> Self:
        """A setting that fits in half a second, for the contract tests."""
        return cls()

    def save(
        self, folder: str | Path, overwrite: bool = False, histories: Queries | None = None, titles: pl.DataFrame | None = None
    ) -> Path:
        """Write a folder that `load` reads back without the training data.

        It holds nobody's events unless `histories` are given, which go into a part of their own, `personal/`.
        `titles` (item_id, title) may go along, so that lists can be shown with names.
        """
        return save(self, folder, overwrite, histories, titles)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a saved method. Raises ModelError where the folder is damaged or holds another class."""
        method = load(folder)
        if not isinstance(method, cls):
            raise ModelError(f"{folder} holds a {method.name}, not a {cls.__name__}")
        return method


@dataclass(eq=False)
class Recommender(Method):
    """Orders items for queries: the whole catalogue's, or those of given candidates."""

    uses_lists: ClassVar[bool] = False  # whether fit learns from `data.lists`, the lists of an earlier stage

    def recommend(self, queries: Sequence[Query], k: int = 10, candidates: Sequence[Ranking] | None = None) -> Sequence[Ranking]:
        """Up to k items a query, best first; only from `candidates` where given, never one of `Query.exclude`.

        Where fewer can be recommended, `Ranking.notes` says why. Where a filter among the parts fails, nothing is recommended.
        """
        self._check_fitted()
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
            raise DataError(f"k is {k!r}: ask for at least 1 item")
        asked = Queries.of(queries)
        given = None if candidates is None else Rankings.of(candidates)
        if given is not None and len(given) != len(asked):
            raise DataError(f"{len(given)} candidate lists for {len(asked)} queries: give one each")
        try:
            asked = self.restrict(asked)
        except Exception as error:  # whatever went wrong, a list that was not filtered must not leave
            return Rankings.empty(asked.catalogue, len(asked), int(k), f"Filter failed, nothing is recommended: {error}")
        return _without_blocked(self._recommend(asked, int(k), given), asked, self.name).first(int(k))

    @abstractmethod
    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        """`recommend` on arrays, for queries that are restricted already."""

    def restrict(self, queries: Queries) -> Queries:
        """The queries with everything excluded that this recommender must never return, whoever answers in its place."""
        return queries

    def explain(self, queries: Sequence[Query], rankings: Sequence[Ranking]) -> list[list[Explanation]]:
        """For every ranking, one explanation an item, in the ranking's order."""
        raise ModelError(f"{self.name} cannot explain its rankings")

    @classmethod
    def explains(cls) -> bool:
        return cls.explain is not Recommender.explain


def _without_blocked(lists: Rankings, queries: Queries, name: str) -> Rankings:
    """The same rankings, should a method have answered what a filter forbids; a list that loses items says so."""
    if queries.blocked is None or not len(queries.blocked):
        return lists
    to = queries.catalogue.mapping_to(lists.catalogue)
    rows = queries.blocked if to is None else to[queries.blocked]
    forbidden = np.zeros(len(lists.catalogue) + 1, dtype=bool)  # the last place is that of row -1, no item
    forbidden[rows[rows >= 0]] = True
    bad = forbidden[lists.rows]
    if not bad.any():
        return lists
    order = np.argsort(bad | (lists.rows < 0), axis=1, kind="stable")
    kept_rows = np.take_along_axis(np.where(bad, -1, lists.rows), order, 1)
    kept_scores = np.take_along_axis(np.where(bad, -np.inf, lists.scores), order, 1).astype(np.float32)
    columns = {column: np.take_along_axis(values, order, 1) for column, values in lists.columns.items()}
    notes = dict(lists.notes)
    for i in np.flatnonzero(bad.any(axis=1)).tolist():
        notes[i] = (*notes.get(i, ()), f"{name} answered {int(bad[i].sum())} items that a filter forbids; they were taken out")
    return replace(lists, rows=kept_rows, scores=kept_scores, columns=columns, notes=notes)


@dataclass(eq=False)
class ScoringRecommender(Recommender):
    """A recommender that gives every item a number; exclusion, candidates, ties, top-k and notes are done here, once."""

    items_: Vocabulary = field(init=False, repr=False)

    @abstractmethod
    def _scores(self, queries: Queries) -> np.ndarray | sp.csr_matrix:
        """(B, N) float32 over the rows of `items_`, for queries given over `items_`.

        Dense with -inf, or sparse with no entry, where there is nothing to say about an item.
        """

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        queries = queries.over(self.items_)
        lists = None if candidates is None else candidates.over(self.items_).ragged()
        block = max(1, min(2048, SCORES_BYTES // (4 * max(len(self.items_), 1))))
        parts = []
        for start in range(0, len(queries), block):
            some = queries[start : start + block]
            only = None if lists is None else lists.slice(start, start + len(some))
            rows, scores = top_k(self._scores(some), k, some.exclude, some.blocked, only)
            parts.append(Rankings(self.items_, rows, scores, notes=self._notes(some, rows, k)))
        return Rankings.stack(parts) if parts else Rankings.empty(self.items_, 0, k)

    def _notes(self, queries: Queries, rows: np.ndarray, k: int) -> dict[int, tuple[str, ...]]:
        short = (rows >= 0).sum(axis=1)
        notes: dict[int, tuple[str, ...]] = {}
        for i in np.flatnonzero(short < k).tolist():
            unknown = not queries.histories.lengths[i] and not queries.text(i).strip()
            reason = "no known item in the history" if unknown else f"{short[i]} of {k} items could be scored"
            notes[i] = (f"{self.name}: {reason}",)
        return notes


class Predictor(Method):
    """Calibrated numbers for given items: the probability of a click, a rating, a fit, a correct answer."""

    @abstractmethod
    def predict(self, queries: Sequence[Query], item_ids: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """A (K,) or (K, C) array a query, in the order of its item ids."""


class Profiler(Method):
    """Says who a user is."""

    @abstractmethod
    def profile(self, queries: Sequence[Query]) -> list[Profile]: ...


class Generator(Method):
    """Writes text or draws an image for a query, with the evidence used."""

    @abstractmethod
    def generate(self, queries: Sequence[Query]) -> list[Output]: ...


class Agent(Method):
    """Answers a dialogue: assistant, tutor and simulated user alike."""

    @abstractmethod
    def act(self, turns: Sequence[Sequence[Turn]]) -> list[Turn]: ...


class Study(ABC):
    """A measurement over methods: a benchmark, an audit, an arena, an experiment."""

    @abstractmethod
    def run(self, data: Dataset, methods: Mapping[str, Method], run: Run) -> Any: ...


class LanguageModel(ABC):
    """The port to language models; adapters live in `tailor.llm`."""

    @abstractmethod
    def complete(self, prompts: Sequence[str], *, max_tokens: int = 256, temperature: float = 0.0, n: int = 1, seed: int = 0,
                 schema: Mapping[str, Any] | None = None, images: Sequence[bytes] = ()) -> list[Any]: ...  # fmt: skip

    @abstractmethod
    def score(self, prompts: Sequence[str], answers: Sequence[str]) -> np.ndarray:
        """(n,) log-probability of each answer after its prompt."""

    @abstractmethod
    def capabilities(self) -> frozenset[str]: ...


class Encoder(ABC):
    """The port to text encoders; adapters live in `tailor.text`."""

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """(n, D) float32 of unit length."""


# --- describing a method in a file ---------------------------------------------------------------------------------------------


def spec(method: Method) -> dict[str, Any]:
    """A method and its settings as plain values, nested where settings are methods.

    A field that is None is left out where that is its default, else it is written as "none", since TOML knows no null.
    """

    def plain(value: Any) -> Any:
        if isinstance(value, Method):
            return spec(value)
        if isinstance(value, list | tuple):
            return [plain(one) for one in value]
        if isinstance(value, Mapping):
            return {key: plain(one) for key, one in value.items()}
        return value.item() if isinstance(value, np.generic) else value

    defaults = {one.name: one.default for one in dataclasses.fields(method)}
    about = {name: NONE if value is None else plain(value) for name, value in method.params().items()
             if value is not None or defaults[name] is not None}  # fmt: skip
    return {"class": f"{type(method).__module__.removeprefix('tailor.')}.{type(method).__qualname__}", **about}


def build(about: Mapping[str, Any] | str | Path) -> Method:
    """The method that a spec, a TOML file or a class name describes. Raises ModelError naming what is wrong and the nearest valid name."""
    if isinstance(about, str | Path):
        return build(_read_pipeline(about))
    if "class" not in about:
        raise ModelError(f'a method needs a line class = "...", got only {", ".join(about) or "nothing"}')
    cls = find_class(str(about["class"]))
    known = {one.name: one for one in dataclasses.fields(cls) if one.init}
    settings = {}
    hints = typing.get_type_hints(cls)
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
        return build(value)
    return [_built(one) for one in value] if isinstance(value, list) else value


def _checked(cls: type, name: str, value: Any, hint: Any) -> Any:
    """The value as the field wants it: "none" as None, a list as a tuple. Raises ModelError where it is of another type."""
    union = typing.get_origin(hint) in (typing.Union, type(int | str))
    options = typing.get_args(hint) if union else (hint,)
    if isinstance(value, str) and value == NONE and type(None) in options and str not in options:
        value = None
    if not any(_fits(value, option) for option in options):
        names = [getattr(one, "__name__", str(one)) if isinstance(one, type) and not typing.get_args(one) else str(one)
                 for one in options if one is not type(None)]  # fmt: skip
        none = f' or "{NONE}"' if type(None) in options else ""
        raise ModelError(f"{cls.__name__}.{name} = {value!r}: it must be {' or '.join(names)}{none}")
    return tuple(value) if isinstance(value, list) and any(typing.get_origin(one) is tuple for one in options) else value


def check_settings(method: Method) -> None:
    """Raise ModelError for a setting of another type than its field has; what `build` does for files, for a `__post_init__`."""
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
        return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool) and not np.isnan(value)
    if hint is int:
        return isinstance(value, int | np.integer) and not isinstance(value, bool)
    if hint in (str, bool):
        return isinstance(value, hint)
    if hint is type(None):
        return value is None
    return isinstance(value, hint) if isinstance(hint, type) and issubclass(hint, Method) else True  # the class itself checks


def _read_pipeline(source: str | Path) -> dict[str, Any]:
    path = Path(source)
    if path.suffix != ".toml":
        return {"class": str(source)}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"there is no pipeline file {path}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from None


def find_class(path: str) -> type[Method]:
    """The method class of an import path inside tailor (`retrieval.ease.EASE`), of a bare class name, or of a plug-in.

    Nothing outside tailor and the installed entry points of the group `tailor.methods` is ever imported.
    """
    plugins = {point.name: point for point in importlib.metadata.entry_points(group="tailor.methods")}
    paths = {point.value.replace(":", "."): point for point in plugins.values()}
    point = plugins.get(path) or paths.get(path)
    if point is not None:
        return _as_method(path, _loaded(point))
    known = _class_paths()
    name = path.removeprefix("tailor.")
    matches = [full for full in known if full == name or full.rsplit(".", 1)[1] == name]
    if len(matches) > 1:
        raise ModelError(f'several classes are called "{path}": {", ".join(matches)}; write the whole path')
    if not matches:
        names = [full.rsplit(".", 1)[1] for full in known] if "." not in name else known
        raise ModelError(f'there is no class "{path}".{nearest(name, [*names, *plugins])}')
    return _as_method(path, _import(matches[0]))


def _as_method(path: str, found: Any) -> type[Method]:
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise ModelError(f'"{path}" is not a method that can be fitted')
    return found


def _loaded(point: importlib.metadata.EntryPoint) -> Any:
    try:
        return point.load()
    except ModuleNotFoundError as error:
        raise MissingExtraError(f'the plug-in "{point.name}" ({point.value}) needs the package {error.name}: install it') from error
    except Exception as error:  # what a stranger's module does when imported is not ours to foresee
        raise ModelError(f'the plug-in "{point.name}" ({point.value}) cannot be imported: {error!r}') from error


def _import(path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(f"tailor.{module}"), name)
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("tailor"):
            raise
        raise MissingExtraError(f"{name} needs the package {error.name}: pip install 'tailor-engine[all]'") from error


@functools.cache
def _class_paths() -> tuple[str, ...]:
    """Paths of all public classes in the rooms, read from their source so that nothing is imported."""
    root = Path(__file__).parent
    found = []
    for room in ROOMS:
        for file in sorted((root / room).rglob("*.py")):
            module = ".".join(file.relative_to(root).with_suffix("").parts)
            tree = ast.parse(file.read_text(encoding="utf-8"))
            found += [f"{module}.{node.name}" for node in tree.body if isinstance(node, ast.ClassDef) and node.name[0] != "_"]
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
    loaders: list[tuple[str, Callable[[], Any]]] = [(path, functools.partial(_import, path)) for path in _class_paths()]
    loaders += [(point.value.replace(":", "."), functools.partial(_loaded, point)) for point in points]
    for path, loader in loaders:
        try:
            cls = loader()
        except (MissingExtraError, ModelError, ImportError) as error:
            out.append(Found(path, None, missing=str(error)))
            continue
        if isinstance(cls, type) and issubclass(cls, Method) and not getattr(cls, "__abstractmethods__", None):
            paper = getattr(importlib.import_module(cls.__module__), "PAPER", None)
            out.append(Found(path, cls, paper))
    return out


# --- saving and loading --------------------------------------------------------------------------------------------------------


def save(
    method: Method, folder: str | Path, overwrite: bool = False, histories: Queries | None = None, titles: pl.DataFrame | None = None
) -> Path:
    """`Method.save`. Raises ModelError, before anything is written, for a method that `load` could not find again."""
    method._check_fitted()
    described = spec(method)
    try:
        build(described)
        json.dumps(described)
    except (ModelError, TypeError, ValueError) as error:
        raise ModelError(f"{method.name} could not be loaded again ({error}): put its class into an installed package that names it "
                         'in the entry points "tailor.methods", and give it plain settings') from error  # fmt: skip
    with written_aside(folder, overwrite, ModelError) as aside:
        _write_state(method, aside / "state")
        if histories is not None:
            times = {"times_ms_": histories.columns["times_ms"]} if "times_ms" in histories.columns else {}
            _write_values({"users_": Vocabulary(histories.user_ids), "items_": histories.catalogue, "rows_": histories.histories, **times},
                          aside / "personal")  # fmt: skip
        if titles is not None:
            titles.select("item_id", "title").write_parquet(aside / "titles.parquet")
        files = {path.relative_to(aside).as_posix(): _sha256(path) for path in sorted(aside.rglob("*")) if path.is_file()}
        about = {"format": FORMAT, "tailor": version(), "spec": described, "trained_on": dataclasses.asdict(method.trained_on_),
                 "files": files}  # fmt: skip
        (aside / "card.md").write_text(_card(method, histories is not None), encoding="utf-8")
        (aside / "spec.json").write_text(json.dumps({**about, "digest": _digest(about)}, indent=1), encoding="utf-8")
    return Path(folder)


def load(folder: str | Path) -> Method:
    """A saved model. Raises ModelError where a file is missing, changed, of a newer version, or replaced while it is read."""
    folder = Path(folder)
    about = _read_about(folder)
    _check_files(folder, about["files"])
    try:
        method = build(about["spec"])
    except ModelError as error:
        raise ModelError(f"{folder}, saved by tailor {about['tailor']}, cannot be loaded: {error}") from error
    try:
        _read_state(method, folder / "state")
        replaced = _read_about(folder) != about
    except FileNotFoundError:
        replaced = True
    if replaced:
        raise ModelError(f"{folder} was replaced while it was read: load it again")
    return method


def load_histories(folder: str | Path) -> Queries | None:
    """The histories saved with a model, or None where it was saved without."""
    folder = Path(folder)
    files = {name: digest for name, digest in _read_about(folder)["files"].items() if name.startswith("personal/")}
    if not files:
        return None
    _check_files(folder, files)
    values = _read_values(folder / "personal")
    columns = {"times_ms": values["times_ms_"]} if "times_ms_" in values else {}
    return Queries(values["items_"], values["rows_"], values["users_"].ids, columns)


def load_titles(folder: str | Path) -> dict[str, str]:
    """Item id -> title, of the items that were saved with one."""
    files = _read_about(Path(folder))["files"]
    if "titles.parquet" not in files:
        return {}
    _check_files(Path(folder), {"titles.parquet": files["titles.parquet"]})
    return dict(pl.read_parquet(Path(folder) / "titles.parquet").drop_nulls().iter_rows())


def version() -> str:
    """Of the installed package."""
    try:
        return importlib.metadata.version("tailor-engine")
    except importlib.metadata.PackageNotFoundError:
        return "0+source"


def _read_about(folder: Path) -> dict[str, Any]:
    try:
        about = json.loads((folder / "spec.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{folder} is not a saved model (there is no spec.json): make one with `tailor fit`") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{folder}/spec.json is damaged: {error}") from None
    if not isinstance(about, dict) or not isinstance(about.get("format"), int):
        raise ModelError(f"{folder}/spec.json is damaged: it names no format; fit and save again")
    if about["format"] > FORMAT:
        raise ModelError(f"{folder} has format {about['format']}, this version reads up to {FORMAT}: update tailor")
    if about.pop("digest", "") != _digest(about):
        raise ModelError(f"{folder} is damaged: spec.json is not what was saved; fit and save again")
    return about


def _digest(about: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _check_files(folder: Path, files: Mapping[str, str]) -> None:
    """Raise ModelError where one of the files, name -> hash, is missing or not what was saved."""
    for name, digest in files.items():
        path = folder / name
        try:
            is_same = _sha256(path) == digest
        except FileNotFoundError:
            raise ModelError(f"{folder} is damaged: {name} is missing; fit and save again") from None
        if not is_same:
            raise ModelError(f"{folder} is damaged: {name} is not what was saved; fit and save again")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_state(method: Method, folder: Path) -> None:
    _write_values(method.state(), folder)


def _write_values(state: Mapping[str, Any], folder: Path) -> None:
    folder.mkdir()
    arrays: dict[str, np.ndarray] = {}
    plain: dict[str, Any] = {}
    for name, value in state.items():
        if isinstance(value, np.ndarray) and value.dtype != object:
            arrays[name] = value
        elif sp.issparse(value):
            matrix = value.tocsr()
            arrays |= {f"{name}:{part}": getattr(matrix, part) for part in ("data", "indices", "indptr")}
            arrays[f"{name}:shape"] = np.array(matrix.shape)
        elif isinstance(value, Ragged):
            arrays |= {f"{name}:offsets": value.offsets, f"{name}:values": value.values}
        elif isinstance(value, Vocabulary):
            pl.DataFrame({"id": value.ids.tolist()}, schema={"id": pl.String}).write_parquet(folder / f"{name}.vocabulary")
        elif isinstance(value, Method):
            _write_state(value, folder / name)
        elif isinstance(value, list) and value and all(isinstance(one, Method) for one in value):
            for i, one in enumerate(value):
                _write_state(one, folder / f"{name}.{i}")
        elif isinstance(value, Provenance):
            plain[name] = dataclasses.asdict(value)
        else:
            plain[name] = value
    np.savez(folder / "arrays.npz", **typing.cast(dict[str, Any], arrays))
    try:
        _check_keys(plain)
        (folder / "values.json").write_text(json.dumps(plain, indent=1), encoding="utf-8")
    except TypeError as error:
        raise ModelError(f"{', '.join(plain)}: {error}; learned state is arrays, vocabularies, methods and plain values") from None


def _check_keys(value: Any) -> None:
    """Raise TypeError for a mapping whose keys JSON would turn into strings."""
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"the key {key!r} is no string and would come back as one")
    if isinstance(value, Mapping | list | tuple):
        for one in value.values() if isinstance(value, Mapping) else value:
            _check_keys(one)


def _read_state(method: Method, folder: Path) -> None:
    state = _read_values(folder)
    for name, value in state.items():
        setattr(method, name, value)
    for sub in sorted(path for path in folder.iterdir() if path.is_dir()):
        name, _, index = sub.name.partition(".")
        setting = getattr(method, name.removesuffix("_"))  # parts_ are fitted copies of the setting parts
        if index:
            learned = method.__dict__.setdefault(name, [None] * len(setting))
            learned[int(index)] = copy.copy(setting[int(index)])
            _read_state(learned[int(index)], sub)
        else:
            setattr(method, name, copy.copy(setting))
            _read_state(getattr(method, name), sub)


def _read_values(folder: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((folder / "values.json").read_text(encoding="utf-8"))
    if "trained_on_" in state:
        state["trained_on_"] = Provenance(**state["trained_on_"])
    with np.load(folder / "arrays.npz", allow_pickle=False) as file:
        arrays = dict(file)
    for key, array in arrays.items():
        name, _, part = key.partition(":")
        if not part:
            state[name] = array
        elif part == "shape":
            parts = tuple(arrays[f"{name}:{one}"] for one in ("data", "indices", "indptr"))
            state[name] = sp.csr_matrix(parts, shape=tuple(array))
        elif part == "offsets":
            state[name] = Ragged(array, arrays[f"{name}:values"])
    for path in folder.glob("*.vocabulary"):
        state[path.stem] = Vocabulary(pl.read_parquet(path)["id"].to_list())
    return state


def _card(method: Method, with_histories: bool) -> str:
    """The model card: what it is, what it learned from, whether it holds anybody's events."""
    seen = method.trained_on_
    lines = [f"# {method.name}", "", f"Trained on: {seen.part} of data {seen.data_hash}, split {seen.split_hash or 'none'}.",
             f"Holds people's histories: {'yes, in personal/' if with_histories else 'no'}.", "", "## Settings", "",
             "```json", json.dumps(spec(method), indent=1), "```", "", "## Fit report", "", "```json",
             json.dumps(method.fit_report_, indent=1, default=str), "```", ""]  # fmt: skip
    return "\n".join(lines)


# --- cache ---------------------------------------------------------------------------------------------------------------------

A = TypeVar("A")


@dataclass(frozen=True)
class Cache:
    """Arrays on disk under the hash of what they were made from, so that nothing is computed twice."""

    folder: Path

    def get(self, key: Iterable[str | bytes], make: Callable[[], np.ndarray]) -> np.ndarray:
        """The array stored under the key's hash, or made now and stored; a damaged file counts as absent."""
        digest = hashlib.blake2b(digest_size=20)
        for part in key:
            raw = part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass")
            digest.update(len(raw).to_bytes(8, "little") + raw)
        path = self.folder / f"{digest.hexdigest()}.npy"
        try:
            return typing.cast(np.ndarray, np.load(path, allow_pickle=False))
        except (OSError, ValueError, EOFError):
            value = make()
        self.folder.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.npy.aside")
        try:
            with aside.open("wb") as file:
                np.save(file, value, allow_pickle=False)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
        return value


def clone(method: Method) -> Method:
    """The same settings, nothing learned; methods among the settings are cloned too."""

    def fresh(value: Any) -> Any:
        if isinstance(value, Method):
            return clone(value)
        return type(value)(fresh(one) for one in value) if isinstance(value, list | tuple) else value

    return type(method)(**{name: fresh(value) for name, value in method.params().items()})
