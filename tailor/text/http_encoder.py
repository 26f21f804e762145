"""Texts as vectors by a server."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tailor.errors import ModelError
from tailor.ports.base import Encoder
from tailor.ports.calls import Calls, Refused
from tailor.ports.openai import called, check_address, check_variable, client
from tailor.text.cached import check_texts
from tailor.text.sentences import readable, unit_length


@dataclass(frozen=True)
class HTTPEncoder(Encoder):
    """Vectors of any server that offers OpenAI's `/embeddings`."""

    model: str
    base_url: str = "https://api.openai.com/v1"
    api_key_env: str = "OPENAI_API_KEY"
    """The environment variable that holds the key; "": the server wants none."""
    dims: int | None = None
    """Asked of the server, where it offers a choice."""
    prefix: str = ""
    """Put before every text."""
    batch_size: int = 64
    """Texts a call."""
    concurrency: int = 4
    """Calls at once."""
    retries: int = 4
    deadline_s: float = 120.0
    """For one `encode`."""

    def __post_init__(self) -> None:
        check_address(self.base_url)
        check_variable(self.api_key_env)

    @property
    def space(self) -> str:
        return f"embeddings {self.base_url} {self.model} dims {self.dims} prefix {self.prefix!r}"

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Raises ModelError where the server does not answer all of them; a text that is blank is
        sent as a space, which servers insist on.
        """
        check_texts(texts)
        if not len(texts):
            return np.zeros((0, self.dims or 0), dtype=np.float32)
        server = client(self.base_url, self.api_key_env)

        def one(some: list[str], left_s: float) -> np.ndarray:
            more = {} if self.dims is None else {"dimensions": self.dims}
            return called(
                lambda: _vectors(
                    server.with_options(timeout=left_s).embeddings.create(
                        model=self.model, input=some, encoding_format="float", **more
                    ),
                    len(some),
                ),
                self.api_key_env,
            )

        ready = [self.prefix + readable(text) if text.strip() else " " for text in texts]
        calls = Calls(self.base_url, self.concurrency, self.retries, self.deadline_s)
        parts = calls.all(
            one, [ready[at : at + self.batch_size] for at in range(0, len(ready), self.batch_size)]
        )
        for part in parts:
            if isinstance(part, ModelError):
                raise part
        return unit_length(np.concatenate([part for part in parts if isinstance(part, np.ndarray)]))


def _vectors(answer: object, wanted: int) -> np.ndarray:
    """(n, D), by the index that each vector carries, since servers may answer in any order."""
    data = sorted(answer.data, key=lambda one: one.index)  # type: ignore[attr-defined]
    if [one.index for one in data] != list(range(wanted)):
        raise Refused(f"{len(data)} vectors for {wanted} texts", again=True)
    vectors = np.array([one.embedding for one in data], dtype=np.float32)
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise Refused("vectors of different lengths, or not of numbers", again=True)
    return vectors
