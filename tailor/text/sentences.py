"""Texts as vectors by a sentence encoder."""

import contextlib
import functools
import hashlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tailor.data.folders import sha256_of
from tailor.errors import MissingExtraError, ModelError
from tailor.ports.base import Encoder
from tailor.ports.weights import KNOWN, hub_answers, pulled_folder

MOST_CHARACTERS = 16_384  # of a text; encoders read a few hundred tokens
_lock = threading.Lock()


@dataclass(frozen=True)
class SentenceEncoder(Encoder):
    """A model of sentence-transformers: texts that mean the same get vectors that point the same
    way.

    Reimers and Gurevych (2019). The default is MiniLM, which `tailor models pull minilm` fetches; a
    text is read up to the model's length.
    """

    model: str = "minilm"
    """A name of `tailor models list`, a folder, or a name on the hub."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Auto: bfloat16 where the processor computes in it; cosine to float32 > .996."""
    dims: int | None = None
    """The first so many numbers only, for models trained to allow it (Matryoshka)."""
    prefix: str = ""
    """Put before every text, for models that were trained with one ("query: ")."""
    batch_size: int | None = None
    """Texts at once; none: 16 on a processor, whose caches that fits, 256 on a GPU."""
    device: str = "cpu"

    def __post_init__(self) -> None:
        if (self.batch_size is not None and self.batch_size < 1) or (
            self.dims is not None and self.dims < 1
        ):
            raise ModelError(f"batch_size is {self.batch_size}, dims {self.dims}: both from 1")

    @property
    def space(self) -> str:
        return f"sentences {_digest(self.model)} dims {self.dims} prefix {self.prefix!r}"

    @property
    def fingerprint(self) -> str:
        return f"{self.space} {self._number_format()}"

    def exact(self) -> "SentenceEncoder":
        return replace(self, dtype="float32")

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        if not len(texts):
            return np.zeros(
                (
                    0,
                    self.dims
                    or _loaded(
                        self.model, self._number_format(), self.device
                    ).get_embedding_dimension(),
                ),
                np.float32,
            )
        clean = [self.prefix + readable(text) for text in texts]
        vectors = _loaded(self.model, self._number_format(), self.device).encode(
            clean,
            batch_size=self.batch_size or (16 if self.device == "cpu" else 256),
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        return unit_length(np.asarray(vectors, dtype=np.float32)[:, : self.dims])

    def _number_format(self) -> str:
        return (
            ("bfloat16" if computes_bfloat16() else "float32")
            if self.dtype == "auto"
            else self.dtype
        )


def readable(text: str) -> str:
    """The text as an encoder can take it: lone surrogates replaced, what no encoder would read left
    out.
    """
    return text[:MOST_CHARACTERS].encode("utf-8", "replace").decode("utf-8")


def unit_length(vectors: np.ndarray) -> np.ndarray:
    """(n, D) rows divided by their length; a zero row stays zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: np.ndarray = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return unit


def leading(vectors: np.ndarray, dims: int) -> np.ndarray:
    """(n, dims) the vectors (n, D) less their mean, seen along the directions in which they differ
    most, of mean length one; zeros behind where D is less.
    """
    centred = (
        (vectors - vectors.mean(axis=0)).astype(np.float64)
        if len(vectors)
        else vectors.astype(np.float64)
    )
    _, directions = np.linalg.eigh(centred.T @ centred)  # ascending
    seen = centred @ directions[:, ::-1][:, :dims]
    lengths = np.linalg.norm(seen, axis=1)
    out = np.zeros((len(vectors), dims), dtype=np.float32)
    out[:, : seen.shape[1]] = seen / max(lengths.mean() if len(lengths) else 0.0, 1e-12)
    return out


@contextlib.contextmanager
def without_bars() -> Iterator[None]:
    """Weights are loaded without the bars of transformers, which come from within whatever the
    caller shows.
    """
    from transformers.utils import logging as untyped

    logging: Any = untyped
    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            logging.enable_progress_bar()


@functools.cache
def computes_bfloat16() -> bool:
    """Whether the processor has instructions for it; without them bfloat16 is slower than float32."""
    torch = _torch()
    asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name)() for name in asked if hasattr(torch.cpu, name))


def _torch() -> Any:
    try:
        import torch
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "sentence encoders need torch: pip install 'tailor-engine[text]'"
        ) from error
    return torch


@functools.cache
def _digest(model: str) -> str:
    """What the weights are known by: their hash where they lie in a folder, else the name."""
    folder = pulled_folder(model) if model in KNOWN else Path(model)
    found = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    if len(found) > 1:  # weights in several files
        return hashlib.sha256(" ".join(map(sha256_of, found)).encode()).hexdigest()[:20]
    return sha256_of(found[0])[:20] if found else model


def _loaded(model: str, number_format: str, device: str) -> Any:
    with _lock:  # two threads must not load the weights twice
        return _load(model, number_format, device)


@functools.cache
def _load(model: str, number_format: str, device: str) -> Any:
    torch = _torch()
    try:
        from sentence_transformers import SentenceTransformer
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "sentence encoders need the package sentence-transformers: pip install"
            " 'tailor-engine[text]'"
        ) from error
    place = pulled_folder(model) if model in KNOWN else Path(model)
    is_local = place.is_dir()
    try:
        with without_bars():
            return SentenceTransformer(
                str(place) if is_local else model,
                device=device,
                local_files_only=is_local or not hub_answers(),
                model_kwargs={"dtype": getattr(torch, number_format)},
            )
    except Exception as error:  # many kinds, of several packages
        hint = (
            ""
            if is_local
            else (
                "; it is no folder here, and the hub may be out of reach. `tailor models list`"
                " shows what can be had offline"
            )
        )
        raise ModelError(
            f'the sentence encoder "{model}" cannot be loaded ({type(error).__name__}:'
            f" {str(error)[:200]}){hint}"
        ) from error
