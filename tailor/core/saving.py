"""Save fitted methods as folders and open them again, without the training data.

    MODEL/
      spec.json        class and settings, provenance, and the SHA-256 of every other file
      card.md          the model card
      state/           learned arrays and values, a folder more for each method inside
      personal/        users' histories and attributes, only where they were asked for
      titles.parquet   item_id, title

Folders are written aside and renamed, so that readers never see half a model. Nothing is pickled.
"""

import copy
import dataclasses
import errno
import hashlib
import importlib.metadata
import json
import stat
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl
import scipy.sparse as sp

from tailor.core.methods import Method
from tailor.core.specs import build, spec
from tailor.data.arrays import Ragged
from tailor.data.dataset import Provenance
from tailor.data.folders import sha256_of, written_aside
from tailor.data.queries import Queries
from tailor.data.vocabulary import Vocabulary
from tailor.errors import ModelError, TailorError

T = TypeVar("T")
FORMAT = 1  # of saved models
MOST_DESCRIPTION_BYTES = 32 * 2**20  # of spec.json; a larger one is not read
PERSONAL = "personal"
ATTRIBUTES = "attributes.parquet"  # of users, in the folder PERSONAL
TITLES = "titles.parquet"
CSR_PARTS = ("data", "indices", "indptr")


def save(
    method: Method,
    folder: str | Path,
    overwrite: bool = False,
    histories: Queries | None = None,
    titles: pl.DataFrame | None = None,
) -> Path:
    """Write a fitted method to a folder, as `Method.save` describes.

    Raises ModelError, before anything is written, for a method that could not be loaded again.
    """
    method._check_fitted()
    if histories is None and method.keeps_people():
        raise ModelError(
            f"{method.name} holds people's events and cannot work without them: save it with"
            " histories (--with-histories)"
        )
    settings = _loadable_spec(method)
    with written_aside(folder, overwrite, ModelError) as aside:
        _write_state(method, aside / "state")
        if histories is not None:
            _write_personal(histories, aside / PERSONAL)
        if titles is not None:
            titles.select("item_id", "title").write_parquet(aside / TITLES)
        description = {
            "format": FORMAT,
            "tailor": version(),
            "spec": settings,
            "trained_on": dataclasses.asdict(method.trained_on_),
            "files": _file_hashes(aside),
        }
        (aside / "card.md").write_text(_card(method, histories is not None), encoding="utf-8")
        signed = {**description, "digest": _digest(description)}
        (aside / "spec.json").write_text(json.dumps(signed, indent=1), encoding="utf-8")
    return Path(folder)


def _loadable_spec(method: Method) -> dict[str, Any]:
    """Return the spec. Raises ModelError if the method could not be built from it."""
    settings = spec(method)
    try:
        build(settings)
        json.dumps(settings)
    except (ModelError, TypeError, ValueError) as error:
        raise ModelError(
            f"{method.name} could not be loaded again ({error}): put its class into an installed"
            ' package that names it in the entry points "tailor.methods", and give it plain'
            " settings"
        ) from error
    return settings


def _file_hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a folder, by its path in it."""
    return {
        path.relative_to(folder).as_posix(): sha256_of(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def load(folder: str | Path) -> Method:
    """Return the method of a saved model, as `SavedModel.method` does."""
    return SavedModel.open(folder).method


def version() -> str:
    """Return the installed version of the package."""
    try:
        return importlib.metadata.version("tailor-engine")
    except importlib.metadata.PackageNotFoundError:
        return "0+source"


@dataclass(frozen=True, eq=False)
class SavedModel:
    """A saved model, whose parts are read when they are first asked for.

        saved = SavedModel.open("MODEL")
        saved.method.recommend([saved.histories[0]], 10)

    Every part raises ModelError if a file of it is missing, cannot be read, is not the one that was
    saved, or is replaced while it is read.
    """

    folder: Path
    """Folder of the model."""
    description: Mapping[str, Any]
    """Content of spec.json."""
    _checked_files: set[str] = field(default_factory=set, init=False, repr=False)
    """Files whose hash was compared: each is read for that only once."""

    @classmethod
    def open(cls, folder: str | Path) -> "SavedModel":
        """Read the description of a saved model.

        Raises ModelError for a folder that holds none, is damaged, or was saved by a newer version.
        """
        return cls(Path(folder), _read_description(Path(folder)))

    @property
    def digest(self) -> str:
        """SHA-256 of the description, and by it of every file."""
        return _digest(self.description)

    @property
    def has_histories(self) -> bool:
        """True if users' histories were saved along."""
        return any(name.startswith(f"{PERSONAL}/") for name in self._files)

    @cached_property
    def method(self) -> Method:
        """The fitted method; all files of the folder are checked."""
        self._check_files(self._files)
        self._check_state()
        try:
            with _readable(self.folder):
                method = build(self.description["spec"])
        except ModelError as error:
            raise ModelError(
                f"{self.folder}, saved by tailor {self.description['tailor']}, cannot be loaded:"
                f" {error}"
            ) from error
        self._read(lambda: _read_state(method, self.folder / "state"))
        return method

    @cached_property
    def histories(self) -> Queries | None:
        """Users' histories and attributes; None if the model was saved without them."""
        if not self.has_histories:
            return None
        self._check_files(name for name in self._files if name.startswith(f"{PERSONAL}/"))
        return self._read(lambda: _read_personal(self.folder / PERSONAL))

    @cached_property
    def titles(self) -> dict[str, str]:
        """Title of each item that was saved with one, by item id."""
        return {} if self._titles is None else dict(self._titles.drop_nulls().iter_rows())

    @cached_property
    def item_ids(self) -> set[str] | None:
        """All items of the catalogue, with a title or without; None if saved without titles."""
        return None if self._titles is None else set(self._titles["item_id"].to_list())

    @cached_property
    def _titles(self) -> pl.DataFrame | None:
        if TITLES not in self._files:
            return None
        self._check_files([TITLES])
        return self._read(lambda: pl.read_parquet(self.folder / TITLES))

    @property
    def _files(self) -> Mapping[str, str]:
        """SHA-256 of each file, by its path in the folder."""
        return typing.cast(Mapping[str, str], self.description["files"])

    def _check_files(self, names: Iterable[str]) -> None:
        """Raise ModelError if a file is missing or is not what was saved."""
        for name in names:
            if name not in self._checked_files:
                _check_file(self.folder, name, self._files[name])
                self._checked_files.add(name)

    def _check_state(self) -> None:
        """Raise ModelError if a file lies among the learned state that was not saved there."""
        with _readable(self.folder):
            paths = [path for path in (self.folder / "state").rglob("*") if not path.is_dir()]
        names = {path.relative_to(self.folder).as_posix() for path in paths}
        unknown = sorted(names - set(self._files))
        if unknown:
            raise ModelError(
                f"{self.folder} is damaged: {unknown[0]} is not what was saved; fit and save again"
            )

    def _read(self, read: Callable[[], T]) -> T:
        """Return what `read` returns, unless the folder was replaced meanwhile."""
        try:
            with _readable(self.folder):
                part = read()
            is_replaced = _read_description(self.folder) != self.description
        except FileNotFoundError:
            is_replaced = True
        if is_replaced:
            raise ModelError(f"{self.folder} was replaced while it was read: load it again")
        return part


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """Raise ModelError for whatever reading a folder raises, but for a missing file.

    Files are read by several libraries, each with errors of its own. Messages of the system and of
    these libraries name absolute paths: they are left out.
    """
    try:
        yield
    except (TailorError, FileNotFoundError):
        raise
    except OSError as error:
        raise ModelError(
            f"{folder} cannot be read ({error.strerror or type(error).__name__}): its files must be"
            " readable for the user that runs this"
        ) from error
    except Exception as error:
        raise ModelError(
            f"{folder} cannot be loaded ({type(error).__name__}): fit and save again"
        ) from error


def _read_description(folder: Path) -> dict[str, Any]:
    """Read spec.json and check its digest."""
    description = _parse_description(folder)
    if not isinstance(description, dict) or not isinstance(description.get("format"), int):
        raise ModelError(f"{folder}/spec.json is damaged: it names no format; fit and save again")
    if description["format"] > FORMAT:
        raise ModelError(
            f"{folder} has format {description['format']}, this version reads up to {FORMAT}:"
            " update tailor"
        )
    if description.pop("digest", "") != _digest(description) or not _is_whole(description):
        raise ModelError(
            f"{folder} is damaged: spec.json is not what was saved; fit and save again"
        )
    return description


def _parse_description(folder: Path) -> Any:
    """Return what spec.json holds."""
    path = folder / "spec.json"
    try:
        with _readable(folder):
            size = _size_of(path)
            if size > MOST_DESCRIPTION_BYTES:
                raise ModelError(
                    f"{folder}/spec.json is damaged: it has {size:,} bytes, more than"
                    f" {MOST_DESCRIPTION_BYTES:,}; fit and save again"
                )
            content = path.read_bytes()
    except FileNotFoundError:
        raise ModelError(
            f"{folder} is not a saved model (there is no spec.json): make one with `tailor fit`"
        ) from None
    try:
        return json.loads(content.decode("utf-8"))
    except RecursionError:
        raise ModelError(f"{folder}/spec.json is damaged: it is nested too deeply") from None
    except ValueError as error:
        raise ModelError(f"{folder}/spec.json is damaged: {error}") from None


def _is_whole(description: Mapping[str, Any]) -> bool:
    """Return whether a description names a class, a version, and files within the folder."""
    files = description.get("files")
    return (
        isinstance(description.get("spec"), dict)
        and isinstance(description.get("tailor"), str)
        and isinstance(files, dict)
        and all(
            isinstance(digest, str) and not name.startswith("/") and ".." not in name.split("/")
            for name, digest in files.items()
        )
    )


def _size_of(path: Path) -> int:
    """Return the bytes of a regular file. Raises OSError for another kind.

    Reading a pipe or a device could wait for ever.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    return status.st_size


def _digest(description: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def _check_file(folder: Path, name: str, digest: str) -> None:
    """Raise ModelError if a file is missing, cannot be read, or its hash is another."""
    try:
        with _readable(folder):
            _size_of(folder / name)
            is_same = sha256_of(folder / name) == digest
    except FileNotFoundError:
        raise ModelError(f"{folder} is damaged: {name} is missing; fit and save again") from None
    if not is_same:
        raise ModelError(f"{folder} is damaged: {name} is not what was saved; fit and save again")


# --- users' histories and attributes


def _write_personal(histories: Queries, folder: Path) -> None:
    """Write users' items and times, and their attributes, one row a user."""
    state: dict[str, Any] = {
        "users_": Vocabulary(histories.user_ids),
        "items_": histories.catalogue,
        "rows_": histories.histories,
    }
    if "times_ms" in histories.columns:
        state["times_ms_"] = histories.columns["times_ms"]
    _write_values(state, folder)
    if histories.contexts:
        try:
            pl.DataFrame(
                {name: values.tolist() for name, values in histories.contexts.items()}
            ).write_parquet(folder / ATTRIBUTES)
        except (TypeError, pl.exceptions.PolarsError) as error:
            raise ModelError(
                f"users' attributes cannot be saved ({str(error).splitlines()[0]}): give each"
                " attribute values of one type"
            ) from None


def _read_personal(folder: Path) -> Queries:
    state = _read_values(folder)
    columns = {"times_ms": state["times_ms_"]} if "times_ms_" in state else {}
    contexts: dict[str, np.ndarray] = {}
    if (folder / ATTRIBUTES).exists():
        for column in pl.read_parquet(folder / ATTRIBUTES):
            contexts[column.name] = np.empty(len(column), dtype=object)
            contexts[column.name][:] = column.to_list()
    users: Vocabulary = state["users_"]
    return Queries(state["items_"], state["rows_"], users.ids, columns, contexts=contexts)


# --- learned state


def _write_state(method: Method, folder: Path) -> None:
    _write_values(method.state(), folder)


def _write_values(state: Mapping[str, Any], folder: Path) -> None:
    """Write arrays to arrays.npz, plain values to values.json, methods to folders of their own."""
    folder.mkdir()
    arrays: dict[str, np.ndarray] = {}
    plain: dict[str, Any] = {}
    for name, value in state.items():
        value_arrays = dict(_arrays_of(name, value))
        if value_arrays:
            arrays |= value_arrays
        elif isinstance(value, Vocabulary):
            ids = pl.DataFrame({"id": value.ids.tolist()}, schema={"id": pl.String})
            ids.write_parquet(folder / f"{name}.vocabulary")
        elif isinstance(value, Method):
            _write_state(value, folder / name)
        elif _is_list_of_methods(value):
            for position, method in enumerate(value):
                if method is not None:
                    _write_state(method, folder / f"{name}.{position}")
        elif isinstance(value, Provenance):
            plain[name] = dataclasses.asdict(value)
        else:
            plain[name] = value
    np.savez(folder / "arrays.npz", **typing.cast(dict[str, Any], arrays))
    _write_plain(plain, folder / "values.json")


def _arrays_of(name: str, value: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the arrays that make up a value, with their names in arrays.npz."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        yield name, value
    elif sp.issparse(value):
        matrix = value.tocsr()
        for part in CSR_PARTS:
            yield f"{name}:{part}", getattr(matrix, part)
        yield f"{name}:shape", np.array(matrix.shape)
    elif isinstance(value, Mapping) and _is_list_of(np.ndarray, list(value.values())):
        for key, array in value.items():
            yield f"{name}:in:{key}", array
    elif isinstance(value, Ragged):
        yield f"{name}:offsets", value.offsets
        yield f"{name}:values", value.values


def _is_list_of(kind: type, values: Any) -> bool:
    """Return whether `values` is a list with entries, all of one kind."""
    return isinstance(values, list) and bool(values) and all(isinstance(v, kind) for v in values)


def _is_list_of_methods(values: Any) -> bool:
    """Return whether `values` is a list of methods, some of which may be None."""
    return isinstance(values, list) and _is_list_of(Method, [v for v in values if v is not None])


def _write_plain(values: dict[str, Any], path: Path) -> None:
    try:
        _check_keys(values)
        path.write_text(json.dumps(values, indent=1), encoding="utf-8")
    except TypeError as error:
        raise ModelError(
            f"{', '.join(values)}: {error}; learned state is arrays, vocabularies, methods and"
            " plain values"
        ) from None


def _check_keys(value: Any) -> None:
    """Raise TypeError for a mapping whose keys JSON would turn into strings."""
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"the key {key!r} is no string and would come back as one")
        value = list(value.values())
    if isinstance(value, list | tuple):
        for entry in value:
            _check_keys(entry)


def _read_state(method: Method, folder: Path) -> None:
    """Set the learned attributes of a method, and of the methods inside it."""
    for name, value in _read_values(folder).items():
        setattr(method, method.renamed_state.get(name, name), value)
    for inner_folder in sorted(path for path in folder.iterdir() if path.is_dir()):
        # parts_ are fitted copies of the setting parts, None where one was not kept
        name, _, position = inner_folder.name.partition(".")
        setting = getattr(method, name.removesuffix("_"))
        if position:
            fitted = method.__dict__.setdefault(name, [None] * len(setting))
            fitted[int(position)] = copy.copy(setting[int(position)])
            _read_state(fitted[int(position)], inner_folder)
        else:
            setattr(method, name, copy.copy(setting))
            _read_state(getattr(method, name), inner_folder)


def _read_values(folder: Path) -> dict[str, Any]:
    """Return state that `_write_values` wrote, without the methods inside."""
    state: dict[str, Any] = json.loads((folder / "values.json").read_text(encoding="utf-8"))
    if "trained_on_" in state:
        state["trained_on_"] = Provenance.of(state["trained_on_"])
    with np.load(folder / "arrays.npz", allow_pickle=False) as file:
        state |= _values_of(dict(file))
    for path in folder.glob("*.vocabulary"):
        state[path.stem] = Vocabulary(pl.read_parquet(path)["id"].to_list())
    return state


def _values_of(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the values that `_arrays_of` took apart."""
    state: dict[str, Any] = {}
    for key, array in arrays.items():
        name, _, part = key.partition(":")
        if not part:
            state[name] = array
        elif part == "shape":
            parts = tuple(arrays[f"{name}:{csr_part}"] for csr_part in CSR_PARTS)
            state[name] = sp.csr_matrix(parts, shape=tuple(array))
        elif part.startswith("in:"):
            state.setdefault(name, {})[part.removeprefix("in:")] = array
        elif part == "offsets":
            state[name] = Ragged(array, arrays[f"{name}:values"])
    return state


def _card(method: Method, with_histories: bool) -> str:
    """Return the model card: settings, training data, and whether it holds users' events."""
    source = method.trained_on_
    lines = [
        f"# {method.name}",
        "",
        f"Trained on: {source.part} of data {source.data_hash}, split"
        f" {source.split_hash or 'none'}.",
        f"Holds people's histories: {'yes, in personal/' if with_histories else 'no'}.",
        "",
        "## Settings",
        "",
        "```json",
        json.dumps(spec(method), indent=1),
        "```",
        "",
        "## Fit report",
        "",
        "```json",
        json.dumps(method.fit_report_, indent=1, default=str),
        "```",
        "",
    ]
    return "\n".join(lines)
