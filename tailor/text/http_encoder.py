"""Texts as vectors by a server."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tailor.errors import ModelError
from tailor.ports.base import Encoder
from tailor.ports.calls import CallFailed, RetryPolicy
from tailor.ports.openai import called, check_address, check_variable, client
from tailor.text.cached import check_texts
from tailor.text.sentences import readable, unit_length


@dataclass(frozen=True)
class HTTPEncoder(Encoder):
    """Vectors of any server that offers OpenAI's `/embeddings`."""

    model: str
    """Name of the model on the server."""
    base_url: str = "https://api.openai.com/v1"
    """Address of the server, without `/embeddings`."""
    api_key_env: str = "OPENAI_API_KEY"
    """The environment variable that holds the key; "": the server wants none."""
    dims: int | None = None
    """Width of the vectors, where the server offers a choice; None: the server's default."""
    prefix: str = ""
    """Words put before every text."""
    batch_size: int = 64
    """Texts a call."""
    concurrency: int = 4
    """Calls at once."""
    retries: int = 4
    """Repetitions of a failed call."""
    deadline_s: float = 120.0
    """Seconds for one `encode`."""

    def __post_init__(self) -> None:
        check_address(self.base_url)
        check_variable(self.api_key_env)

    @property
    def space(self) -> str:
        return f"embeddings {self.base_url} {self.model} dims {self.dims} prefix {self.prefix!r}"

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return (n, D) float32 vectors of unit length.

        A blank text is sent as a space, which servers insist on. Raises ModelError where the server
        does not answer all of them.
        """
        check_texts(texts)
        if not len(texts):
            return np.zeros((0, self.dims or 0), dtype=np.float32)
        server = client(self.base_url, self.api_key_env)
        settings = {} if self.dims is None else {"dimensions": self.dims}

        def encode_batch(batch: list[str], left_s: float) -> np.ndarray:
            embeddings = server.with_options(timeout=left_s).embeddings
            return called(
                lambda: _vectors(
                    embeddings.create(
                        model=self.model, input=batch, encoding_format="float", **settings
                    ),
                    len(batch),
                ),
                self.api_key_env,
            )

        ready = [self.prefix + readable(text) if text.strip() else " " for text in texts]
        starts = range(0, len(ready), self.batch_size)
        policy = RetryPolicy(self.base_url, self.concurrency, self.retries, self.deadline_s)
        batches = [ready[start : start + self.batch_size] for start in starts]
        parts = policy.call_all(encode_batch, batches)
        for part in parts:
            if isinstance(part, ModelError):
                raise part
        return unit_length(np.concatenate([part for part in parts if isinstance(part, np.ndarray)]))


def _vectors(answer: object, count: int) -> np.ndarray:
    """Return (n, D) vectors by the index that each carries: servers may answer in any order."""
    rows = sorted(answer.data, key=lambda row: row.index)  # type: ignore[attr-defined]
    if [row.index for row in rows] != list(range(count)):
        raise CallFailed(f"{len(rows)} vectors for {count} texts", retryable=True)
    vectors = np.array([row.embedding for row in rows], dtype=np.float32)
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise CallFailed("vectors of different lengths, or not of numbers", retryable=True)
    return vectors
