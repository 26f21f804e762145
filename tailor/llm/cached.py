"""A language model that remembers what it answered."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tailor.llm.chat import check_asked, check_texts
from tailor.ports.base import Completion, LanguageModel
from tailor.ports.cache import Cache
from tailor.ports.configuration import cache_folder


@dataclass(frozen=True)
class Cached(LanguageModel):
    """Keeps answers on disk under hashes of the model, the settings and the prompt; failures are
    not kept.

    The same question gets the same answer, sampled ones too as long as the seed is the same.
    `forget(prompts)` deletes what was answered to a prompt.
    """

    inner: LanguageModel
    folder: str | None = None
    """None: `answers` in TAILOR_CACHE or the user's cache folder."""

    @property
    def fingerprint(self) -> str:
        return self.inner.fingerprint

    @property
    def cache(self) -> Cache:
        return Cache(Path(self.folder) if self.folder else cache_folder() / "answers")

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
        check_asked(prompts, max_tokens, temperature, n)
        asked = {
            "max_tokens": max_tokens,
            "temperature": temperature,
            "n": n,
            "seed": seed if temperature else 0,
            "schema": schema,
            "images": [hashlib.sha256(one).hexdigest() for one in images],
        }
        maker, distinct = (
            f"{self.fingerprint} {json.dumps(asked, sort_keys=True)}",
            list(dict.fromkeys(prompts)),
        )
        found = {
            one: None if raw is None else _answer(raw)
            for one, raw in zip(distinct, self.cache.get(maker, distinct), strict=True)
        }
        missing = [one for one, answer in found.items() if answer is None]
        if missing:
            made = dict(
                zip(
                    missing,
                    self.inner.complete(
                        missing,
                        max_tokens=max_tokens,
                        temperature=temperature,
                        n=n,
                        seed=seed,
                        schema=schema,
                        images=images,
                    ),
                    strict=True,
                )
            )
            good = {one: answer for one, answer in made.items() if not answer.error}
            self.cache.put(maker, list(good), [_raw(answer) for answer in good.values()])
            found |= made
        return [answer for answer in (found[one] for one in prompts) if answer is not None]

    def score(self, prompts: Sequence[str], answers: Sequence[str]) -> np.ndarray:
        check_texts(prompts, answers)
        pairs = [json.dumps(pair) for pair in zip(prompts, answers, strict=True)]
        maker, distinct = f"{self.fingerprint} score", list(dict.fromkeys(pairs))
        found = dict(zip(distinct, self.cache.get(maker, distinct), strict=True))
        missing = [one for one, raw in found.items() if raw is None]
        if missing:
            asked = [json.loads(one) for one in missing]
            made = self.inner.score(
                [prompt for prompt, _ in asked], [answer for _, answer in asked]
            )
            raws = [np.float64(one).tobytes() for one in made]
            self.cache.put(maker, missing, raws)
            found |= dict(zip(missing, raws, strict=True))
        return np.frombuffer(
            b"".join(raw for raw in (found[one] for one in pairs) if raw is not None),
            dtype=np.float64,
        ).copy()

    def forget(self, prompts: Sequence[str], answers: Sequence[str] | None = None) -> int:
        """Delete what was answered to these prompts (and, with `answers`, the scores of the pairs);
        returns how many values that were.
        """
        check_texts(prompts, answers)
        pairs = (
            []
            if answers is None
            else [json.dumps(pair) for pair in zip(prompts, answers, strict=True)]
        )
        return self.cache.forget([*prompts, *pairs])


def _raw(answer: Completion) -> bytes:
    return json.dumps([answer.texts, answer.tokens_in, answer.tokens_out, answer.finish]).encode()


def _answer(raw: bytes) -> Completion:
    texts, tokens_in, tokens_out, finish = json.loads(raw)
    return replace(Completion(tuple(texts), tokens_in, tokens_out, tuple(finish)), is_cached=True)
