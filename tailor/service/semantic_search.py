"""Search by meaning: sentence vectors of items, encoded in the background."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tailor.ports.base import Encoder
from tailor.text.cached import item_vectors, plain

log = logging.getLogger("tailor.service")
BATCH = 64  # texts between two deliveries of vectors


class SemanticSearch:
    """The encoder of a worker.

    Vectors of items are kept in the encoder's cache on disk. Search texts are encoded and kept
    nowhere.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._query_encoder = plain(encoder).exact()
        self._pool = ThreadPoolExecutor(1, "tailor-meaning")

    def encode_items(
        self, texts: Sequence[str], deliver: Callable[[int, np.ndarray], None]
    ) -> None:
        """Encode texts in the background; `deliver(start, vectors)` is called for each batch."""
        for start in range(0, len(texts), BATCH):
            self._pool.submit(
                self._encode_batch, list(texts[start : start + BATCH]), start, deliver
            )

    def _encode_batch(
        self, texts: list[str], start: int, deliver: Callable[[int, np.ndarray], None]
    ) -> None:
        try:
            deliver(start, item_vectors(self._encoder, texts))
        # of any kind: the thread goes on, and only the log tells
        except Exception as error:
            # the kind alone: a message may quote a text
            log.error("texts could not be read for search by meaning: %s", type(error).__name__)

    def encode_query(self, text: str) -> np.ndarray:
        """Return the vector (D,) of a search text."""
        vector: np.ndarray = self._query_encoder.encode([text])[0]
        return vector

    def close(self) -> None:
        """Drop what waits and end the thread."""
        self._pool.shutdown(cancel_futures=True)
