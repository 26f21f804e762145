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

MAX_CHARACTERS = 16_384  # of a text; encoders read a few hundred tokens
CPU_BATCH, GPU_BATCH = 16, 256  # texts at once; 16 fit into a processor's caches
SHOWN_CHARACTERS = 200  # of another package's message
_lock = threading.Lock()


@dataclass(frozen=True)
class SentenceEncoder(Encoder):
    """A model of sentence-transformers: texts of like meaning get vectors of like direction.

    Reimers and Gurevych (2019). The default is MiniLM, which `tailor models pull minilm` fetches; a
    text is read up to the model's length.
    """

    model: str = "minilm"
    """A name of `tailor models list`, a folder, or a name on the hub."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format; auto: bfloat16 where the processor computes in it, with a cosine to float32
    above .996."""
    dims: int | None = None
    """Leading numbers of a vector that are used, for models trained to allow it (Matryoshka);
    None: all."""
    prefix: str = ""
    """Words put before every text, for models that were trained with them ("query: ")."""
    batch_size: int | None = None
    """Texts at once; None: 16 on a processor, whose caches that fits, 256 on a GPU."""
    device: str = "cpu"
    """Where it computes: "cpu", "cuda", "cuda:1"."""

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
            width = self.dims or self._model().get_embedding_dimension()
            return np.zeros((0, width), np.float32)
        default_batch = CPU_BATCH if self.device == "cpu" else GPU_BATCH
        vectors = self._model().encode(
            [self.prefix + readable(text) for text in texts],
            batch_size=self.batch_size or default_batch,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        return unit_length(np.asarray(vectors, dtype=np.float32)[:, : self.dims])

    def _model(self) -> Any:
        return _loaded(self.model, self._number_format(), self.device)

    def _number_format(self) -> str:
        if self.dtype != "auto":
            return self.dtype
        return "bfloat16" if computes_bfloat16() else "float32"


def readable(text: str) -> str:
    """Return a text as an encoder can take it.

    Lone surrogates are replaced, and the end that no encoder would read is cut off.
    """
    return text[:MAX_CHARACTERS].encode("utf-8", "replace").decode("utf-8")


def unit_length(vectors: np.ndarray) -> np.ndarray:
    """Return (n, D) rows divided by their length; a zero row stays zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: np.ndarray = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return unit


def leading(vectors: np.ndarray, dims: int) -> np.ndarray:
    """Project (n, D) vectors, less their mean, onto the `dims` directions of largest variance.

    Returns (n, dims) float32 rows of mean length one, with zeros behind where D is less.
    """
    centred = vectors.astype(np.float64)
    if len(vectors):
        centred = (vectors - vectors.mean(axis=0)).astype(np.float64)
    _, directions = np.linalg.eigh(centred.T @ centred)  # ascending
    projected = centred @ directions[:, ::-1][:, :dims]
    lengths = np.linalg.norm(projected, axis=1)
    mean_length = lengths.mean() if len(lengths) else 0.0
    out = np.zeros((len(vectors), dims), dtype=np.float32)
    out[:, : projected.shape[1]] = projected / max(mean_length, 1e-12)
    return out


@contextlib.contextmanager
def without_bars() -> Iterator[None]:
    """Load weights without the progress bars of transformers, which would disturb the caller's."""
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
    """Return whether the processor computes in bfloat16; else it is slower than float32."""
    cpu = _torch().cpu
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(cpu, check)() for check in checks if hasattr(cpu, check))


def _torch() -> Any:
    try:
        import torch
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "sentence encoders need torch: pip install 'tailor-engine[text]'"
        ) from error
    return torch


def _source(model: str) -> Path:
    return pulled_folder(model) if model in KNOWN else Path(model)


@functools.cache
def _digest(model: str) -> str:
    """Return a hash of the weights in a folder, else the model's name."""
    folder = _source(model)
    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    if len(files) > 1:
        return hashlib.sha256(" ".join(map(sha256_of, files)).encode()).hexdigest()[:20]
    return sha256_of(files[0])[:20] if files else model


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
    source = _source(model)
    is_local = source.is_dir()
    try:
        with without_bars():
            return SentenceTransformer(
                str(source) if is_local else model,
                device=device,
                local_files_only=is_local or not hub_answers(),
                model_kwargs={"dtype": getattr(torch, number_format)},
            )
    except Exception as error:  # many kinds, of several packages
        hint = ""
        if not is_local:
            hint = (
                "; it is no folder here, and the hub may be out of reach. `tailor models list`"
                " shows what can be had offline"
            )
        raise ModelError(
            f'the sentence encoder "{model}" cannot be loaded ({type(error).__name__}:'
            f" {str(error)[:SHOWN_CHARACTERS]}){hint}"
        ) from error
