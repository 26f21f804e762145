"""An encoder that remembers: no text is encoded twice."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tailor.errors import DataError, ModelError
from tailor.ports.base import Encoder
from tailor.ports.cache import CachedPort
from tailor.progress import Progress, silent

AT_ONCE = 256  # texts between two writes: what a kill can cost, and others wait for


@dataclass(frozen=True)
class CachedEncoder(CachedPort, Encoder):
    """Keeps the vector of every text on disk, by encoder.

    Keys are hashes of the text and of the encoder. Threads and processes share the folder and
    encode nothing twice. A text's vectors can be
    deleted: `forget(texts)`.
    """

    default_folder: ClassVar[str] = "vectors"

    inner: Encoder
    """The encoder that encodes what is new."""
    folder: str | None = None
    """Folder of the cache; None: `vectors` in TAILOR_CACHE or the user's cache folder."""

    @property
    def space(self) -> str:
        return self.inner.space

    def exact(self) -> "CachedEncoder":
        return CachedEncoder(self.inner.exact(), self.folder)

    def encode(self, texts: Sequence[str], progress: Progress = silent) -> np.ndarray:
        """Return (n, D) float32 vectors of unit length.

        The longest texts come last, so that texts of a batch are of like length.
        """
        check_texts(texts)
        distinct = sorted(set(texts), key=lambda text: (len(text), text))
        vectors: dict[str, bytes] = {}
        starts = range(0, len(distinct), AT_ONCE)
        for start in progress(starts, "encoding texts", total=len(starts)):
            part = distinct[start : start + AT_ONCE]
            vectors |= zip(part, self.cache.make(self.fingerprint, part, self._bytes), strict=True)
        if not vectors:
            return self.inner.encode([])
        flat = np.frombuffer(b"".join(vectors[text] for text in texts), dtype="<f4")
        return flat.reshape(len(texts), -1).astype(np.float32)

    def _bytes(self, texts: list[str]) -> list[bytes]:
        return [row.tobytes() for row in self.inner.encode(texts).astype("<f4")]

    def forget(self, texts: Sequence[str]) -> int:
        """Delete the vectors of these texts, by whatever encoder; return their number."""
        return self.cache.forget(texts)


def item_vectors(encoder: Encoder, texts: Sequence[str], progress: Progress = silent) -> np.ndarray:
    """Return (N, D) cached vectors of a catalogue's texts; zero for a blank text."""
    cached = encoder if isinstance(encoder, CachedEncoder) else CachedEncoder(encoder)
    vectors = cached.encode(texts, progress)
    vectors[[not text.strip() for text in texts]] = 0
    return vectors


def known_encoder(encoder: Encoder, space: str) -> Encoder:
    """Return the encoder that items were encoded with. Raises ModelError where it is another."""
    if encoder.space != space:
        raise ModelError(
            f"the items were encoded by [{space}], the encoder is now [{encoder.space}]: name that"
            " encoder, or fit again"
        )
    return encoder


def asking(encoder: Encoder, space: str) -> Encoder:
    """Return the encoder for what users write: in full precision, and nothing is kept."""
    return plain(known_encoder(encoder, space)).exact()


def plain(encoder: Encoder) -> Encoder:
    """Return the encoder without its cache, for texts that must be kept nowhere."""
    return encoder.inner if isinstance(encoder, CachedEncoder) else encoder


def check_texts(texts: Sequence[str]) -> None:
    """Raise DataError for anything but a sequence of strings."""
    if isinstance(texts, str):
        raise DataError(
            f"texts must be a sequence of texts, got one string {texts[:60]!r}: write [text]"
        )
    for text in texts:
        if not isinstance(text, str):
            raise DataError(f"a text must be a string, got {text!r}")
