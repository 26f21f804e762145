"""Search by meaning: sentence vectors of items, encoded in the background."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tailor.errors import ModelError
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
        self,
        texts: Sequence[str],
        deliver: Callable[[int, np.ndarray], None],
        give_up: Callable[[int], None],
    ) -> None:
        """Encode texts in the background.

        Each text ends in one of two calls: `deliver(start, vectors)` for a batch, or
        `give_up(count)` where the encoder fails for a text by itself too.
        """
        for start in range(0, len(texts), BATCH):
            batch = list(texts[start : start + BATCH])
            self._pool.submit(self._encode_batch, batch, start, deliver, give_up)

    def _encode_batch(
        self,
        texts: list[str],
        start: int,
        deliver: Callable[[int, np.ndarray], None],
        give_up: Callable[[int], None],
    ) -> None:
        """Encode a batch; after an error each text by itself."""
        try:
            vectors = item_vectors(self._encoder, texts)
            if len(vectors) != len(texts) or not np.isfinite(vectors).all():
                raise ModelError("the encoder gave no vector for some texts")
            deliver(start, vectors)
        # of any kind: the thread goes on, and only the log tells
        except Exception as error:
            if len(texts) > 1:
                for i, text in enumerate(texts, start):
                    self._encode_batch([text], i, deliver, give_up)
                return
            # the kind alone: a message may quote a text
            log.error("a text could not be read for search by meaning: %s", type(error).__name__)
            give_up(1)

    def encode_query(self, text: str) -> np.ndarray | None:
        """Return the vector (D,) of a search text, None where the encoder fails for it."""
        try:
            vector: np.ndarray = self._query_encoder.encode([text])[0]
        # of any kind: the text is searched by its words
        except Exception as error:
            log.error("a search text could not be encoded: %s", type(error).__name__)
            return None
        return vector if np.isfinite(vector).all() else None

    def close(self) -> None:
        """Drop what waits and end the thread."""
        self._pool.shutdown(cancel_futures=True)
