"""Fitted methods as folders: written aside, checked by hash, read without the training data."""

import copy
import dataclasses
import hashlib
import importlib.metadata
import json
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
from tailor.errors import ModelError

FORMAT = 1  # of saved models


def save(
    method: Method,
    folder: str | Path,
    overwrite: bool = False,
    histories: Queries | None = None,
    titles: pl.DataFrame | None = None,
) -> Path:
    """`Method.save`. Raises ModelError, before anything is written, for a method that `load` could
    not find again.
    """
    method._check_fitted()
    if histories is None and method.keeps_people():
        raise ModelError(
            f"{method.name} holds people's events and cannot work without them: save it with"
            " histories (--with-histories)"
        )
    described = spec(method)
    try:
        build(described)
        json.dumps(described)
    except (ModelError, TypeError, ValueError) as error:
        raise ModelError(
            f"{method.name} could not be loaded again ({error}): put its class into an installed"
            ' package that names it in the entry points "tailor.methods", and give it plain'
            " settings"
        ) from error
    with written_aside(folder, overwrite, ModelError) as aside:
        _write_state(method, aside / "state")
        if histories is not None:
            times = (
                {"times_ms_": histories.columns["times_ms"]}
                if "times_ms" in histories.columns
                else {}
            )
            _write_values(
                {
                    "users_": Vocabulary(histories.user_ids),
                    "items_": histories.catalogue,
                    "rows_": histories.histories,
                    **times,
                },
                aside / "personal",
            )
        if titles is not None:
            titles.select("item_id", "title").write_parquet(aside / "titles.parquet")
        files = {
            path.relative_to(aside).as_posix(): sha256_of(path)
            for path in sorted(aside.rglob("*"))
            if path.is_file()
        }
        about = {
            "format": FORMAT,
            "tailor": version(),
            "spec": described,
            "trained_on": dataclasses.asdict(method.trained_on_),
            "files": files,
        }
        (aside / "card.md").write_text(_card(method, histories is not None), encoding="utf-8")
        (aside / "spec.json").write_text(
            json.dumps({**about, "digest": _digest(about)}, indent=1), encoding="utf-8"
        )
    return Path(folder)


def load(folder: str | Path) -> Method:
    """A saved model. Raises ModelError where a file is missing, changed, of a newer version, or
    replaced while it is read.
    """
    folder = Path(folder)
    about = _read_about(folder)
    _check_files(folder, about["files"])
    try:
        method = build(about["spec"])
    except ModelError as error:
        raise ModelError(
            f"{folder}, saved by tailor {about['tailor']}, cannot be loaded: {error}"
        ) from error
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
    files = {
        name: digest
        for name, digest in _read_about(folder)["files"].items()
        if name.startswith("personal/")
    }
    if not files:
        return None
    _check_files(folder, files)
    values = _read_values(folder / "personal")
    columns = {"times_ms": values["times_ms_"]} if "times_ms_" in values else {}
    return Queries(values["items_"], values["rows_"], values["users_"].ids, columns)


def load_titles(folder: str | Path) -> dict[str, str]:
    """Item id -> title, of the items that were saved with one."""
    found = _titles(Path(folder))
    return {} if found is None else dict(found.drop_nulls().iter_rows())


def load_item_ids(folder: str | Path) -> set[str] | None:
    """All items of the catalogue that the model was fitted on, with a title or without; None where
    it was saved without titles.
    """
    found = _titles(Path(folder))
    return None if found is None else set(found["item_id"].to_list())


def _titles(folder: Path) -> pl.DataFrame | None:
    files = _read_about(folder)["files"]
    if "titles.parquet" not in files:
        return None
    _check_files(folder, {"titles.parquet": files["titles.parquet"]})
    return pl.read_parquet(folder / "titles.parquet")


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
        raise ModelError(
            f"{folder} is not a saved model (there is no spec.json): make one with `tailor fit`"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{folder}/spec.json is damaged: {error}") from None
    if not isinstance(about, dict) or not isinstance(about.get("format"), int):
        raise ModelError(f"{folder}/spec.json is damaged: it names no format; fit and save again")
    if about["format"] > FORMAT:
        raise ModelError(
            f"{folder} has format {about['format']}, this version reads up to {FORMAT}: update"
            " tailor"
        )
    if about.pop("digest", "") != _digest(about):
        raise ModelError(
            f"{folder} is damaged: spec.json is not what was saved; fit and save again"
        )
    return about


def _digest(about: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _check_files(folder: Path, files: Mapping[str, str]) -> None:
    """Raise ModelError where one of the files, name -> hash, is missing or not what was saved."""
    for name, digest in files.items():
        path = folder / name
        try:
            is_same = sha256_of(path) == digest
        except FileNotFoundError:
            raise ModelError(
                f"{folder} is damaged: {name} is missing; fit and save again"
            ) from None
        if not is_same:
            raise ModelError(
                f"{folder} is damaged: {name} is not what was saved; fit and save again"
            )


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
            arrays |= {
                f"{name}:{part}": getattr(matrix, part) for part in ("data", "indices", "indptr")
            }
            arrays[f"{name}:shape"] = np.array(matrix.shape)
        elif (
            isinstance(value, Mapping)
            and value
            and all(isinstance(one, np.ndarray) for one in value.values())
        ):
            arrays |= {f"{name}:in:{key}": one for key, one in value.items()}
        elif isinstance(value, Ragged):
            arrays |= {f"{name}:offsets": value.offsets, f"{name}:values": value.values}
        elif isinstance(value, Vocabulary):
            pl.DataFrame({"id": value.ids.tolist()}, schema={"id": pl.String}).write_parquet(
                folder / f"{name}.vocabulary"
            )
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
        raise ModelError(
            f"{', '.join(plain)}: {error}; learned state is arrays, vocabularies, methods and plain"
            " values"
        ) from None


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
        setattr(method, method.renamed_state.get(name, name), value)
    for sub in sorted(path for path in folder.iterdir() if path.is_dir()):
        name, _, index = sub.name.partition(".")
        # parts_ are fitted copies of the setting parts
        setting = getattr(method, name.removesuffix("_"))
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
        state["trained_on_"] = Provenance.of(state["trained_on_"])
    with np.load(folder / "arrays.npz", allow_pickle=False) as file:
        arrays = dict(file)
    for key, array in arrays.items():
        name, _, part = key.partition(":")
        if not part:
            state[name] = array
        elif part == "shape":
            parts = tuple(arrays[f"{name}:{one}"] for one in ("data", "indices", "indptr"))
            state[name] = sp.csr_matrix(parts, shape=tuple(array))
        elif part.startswith("in:"):
            state.setdefault(name, {})[part.removeprefix("in:")] = array
        elif part == "offsets":
            state[name] = Ragged(array, arrays[f"{name}:values"])
    for path in folder.glob("*.vocabulary"):
        state[path.stem] = Vocabulary(pl.read_parquet(path)["id"].to_list())
    return state


def _card(method: Method, with_histories: bool) -> str:
    """The model card: what it is, what it learned from, whether it holds anybody's events."""
    seen = method.trained_on_
    lines = [
        f"# {method.name}",
        "",
        f"Trained on: {seen.part} of data {seen.data_hash}, split {seen.split_hash or 'none'}.",
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
