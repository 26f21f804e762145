"""Search by meaning: sentence vectors of items, made beside the answers, so that nobody waits for
them.
"""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tailor.ports.base import Encoder
from tailor.text.cached import item_vectors, plain

log = logging.getLogger("tailor.service")
AT_ONCE = 64  # texts between two arrivals of vectors


class SemanticSearch:
    """One encoder of a worker. Items' vectors are kept in the encoder's cache on disk; what people
    search for is encoded and kept nowhere.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder, self._asking = encoder, plain(encoder).exact()
        self._pool = ThreadPoolExecutor(1, "tailor-meaning")

    def read(self, texts: Sequence[str], arrived: Callable[[int, np.ndarray], None]) -> None:
        """Have texts encoded in the background; `arrived(at, vectors)` is called for each part,
        whose first text is the at-th.
        """
        for at in range(0, len(texts), AT_ONCE):
            self._pool.submit(self._part, list(texts[at : at + AT_ONCE]), at, arrived)

    def _part(self, texts: list[str], at: int, arrived: Callable[[int, np.ndarray], None]) -> None:
        try:
            arrived(at, item_vectors(self._encoder, texts))
        # of whatever package: the thread goes on, and nobody else would hear of it
        except Exception as error:
            # the kind alone: a message may quote a text
            log.error("texts could not be read for search by meaning: %s", type(error).__name__)

    def of(self, text: str) -> np.ndarray:
        """(D,) what somebody searches for."""
        vector: np.ndarray = self._asking.encode([text])[0]
        return vector

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
