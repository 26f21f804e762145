"""A language model that remembers its answers."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from tailor.llm.chat import check_labels, check_request, check_texts
from tailor.ports.base import Completion, LanguageModel
from tailor.ports.cache import CachedPort


@dataclass(frozen=True)
class Cached(CachedPort, LanguageModel):
    """Keeps answers on disk under hashes of the model, the settings and the prompt.

    The same question gets the same answer, sampled ones too as long as the seed is the same.
    Failures are not kept. `forget(prompts)` deletes the answers to a prompt.
    """

    default_folder: ClassVar[str] = "answers"

    inner: LanguageModel
    """The model that answers what is new."""
    folder: str | None = None
    """Folder of the cache; None: `answers` in TAILOR_CACHE or the user's cache folder."""

    def capabilities(self) -> frozenset[str]:
        return self.inner.capabilities()

    def complete(
        self,
        prompts: Sequence[str],
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        n: int = 1,
        seed: int = 0,
        schema: Mapping[str, Any] | None = None,
        images: Sequence[bytes] = (),
    ) -> list[Completion]:
        check_request(prompts, max_tokens, temperature, n)
        settings = {
            "max_tokens": max_tokens,
            "temperature": temperature,
            "n": n,
            "seed": seed if temperature else 0,
            "schema": schema,
            "images": [hashlib.sha256(image).hexdigest() for image in images],
        }
        fresh: dict[str, Completion] = {}

        def compute(missing: list[str]) -> list[bytes | None]:
            answers = self.inner.complete(
                missing,
                max_tokens=max_tokens,
                temperature=temperature,
                n=n,
                seed=seed,
                schema=schema,
                images=images,
            )
            fresh.update(zip(missing, answers, strict=True))
            return [None if answer.error else _to_bytes(answer) for answer in answers]

        maker = f"{self.fingerprint} {json.dumps(settings, sort_keys=True)}"
        values = self.cache.look_up(maker, prompts, compute)
        return [
            fresh[prompt] if prompt in fresh else _from_bytes(value or b"")
            for prompt, value in zip(prompts, values, strict=True)
        ]

    def score(self, prompts: Sequence[str], answers: Sequence[str]) -> np.ndarray:
        check_texts(prompts, answers)

        def compute(missing: list[str]) -> list[bytes]:
            pairs = [json.loads(pair) for pair in missing]
            scores = self.inner.score(
                [prompt for prompt, _ in pairs], [answer for _, answer in pairs]
            )
            return [np.float64(score).tobytes() for score in scores]

        values = self.cache.look_up(f"{self.fingerprint} score", _pairs(prompts, answers), compute)
        return np.frombuffer(b"".join(value or b"" for value in values), dtype=np.float64).copy()

    def choices(self, prompts: Sequence[str], labels: Sequence[str]) -> np.ndarray:
        """Return (P, L) log-probabilities of each label; new prompts are asked together."""
        check_labels(prompts, labels)

        def compute(missing: list[str]) -> list[bytes]:
            log_probs = np.asarray(self.inner.choices(missing, labels), np.float64)
            return [row.tobytes() for row in log_probs]

        maker = f"{self.fingerprint} choices {json.dumps(list(labels))}"
        values = self.cache.look_up(maker, prompts, compute)
        joined = np.frombuffer(b"".join(value or b"" for value in values), dtype=np.float64)
        return joined.reshape(len(prompts), len(labels)).copy()

    def forget(self, prompts: Sequence[str], answers: Sequence[str] | None = None) -> int:
        """Delete the answers to these prompts; return the number of values deleted.

        With `answers`, the scores of the pairs of prompt and answer are deleted too.
        """
        check_texts(prompts, answers)
        pairs = [] if answers is None else _pairs(prompts, answers)
        return self.cache.forget([*prompts, *pairs])


def _pairs(prompts: Sequence[str], answers: Sequence[str]) -> list[str]:
    return [json.dumps(pair) for pair in zip(prompts, answers, strict=True)]


def _to_bytes(answer: Completion) -> bytes:
    return json.dumps([answer.texts, answer.tokens_in, answer.tokens_out, answer.finish]).encode()


def _from_bytes(value: bytes) -> Completion:
    texts, tokens_in, tokens_out, finish = json.loads(value)
    return replace(Completion(tuple(texts), tokens_in, tokens_out, tuple(finish)), is_cached=True)
