"""A language model that counts, and stops before it costs more than it may."""

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tailor.errors import ModelError
from tailor.llm.chat import check_asked, check_texts
from tailor.llm.prompts import estimated_tokens
from tailor.ports.base import Completion, LanguageModel


@dataclass
class Spent:
    """What was used so far."""

    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    usd: float = 0.0
    seconds: float = 0.0
    refused: int = 0
    """Prompts that were not asked, because a cap would have been passed."""
    cached: int = 0
    """Answers that cost nothing."""


@dataclass(frozen=True)
class Metered(LanguageModel):
    """Counts calls, tokens, money and seconds; a prompt that could pass a cap is not asked, and its
    completion says so.

    Before a prompt is asked, the most it can cost is set aside: its tokens as estimated, and an
    answer of full length. What it did cost replaces that afterwards, so however many threads ask,
    no cap is passed by more than an estimate was wrong, and `max_seconds` by no more than one call.
    Tokens that a server does not count are estimated.
    """

    inner: LanguageModel
    usd_per_million_in: float = 0.0
    """Price of tokens read."""
    usd_per_million_out: float = 0.0
    """Price of tokens written."""
    max_usd: float | None = None
    max_tokens_all: int | None = None
    """Read and written, of all calls."""
    max_calls: int | None = None
    max_seconds: float | None = None
    """Of calls; threads then wait for each other."""
    dry_run: bool = False
    """Ask nothing; `spent` then holds the most it would cost."""

    spent: Spent = field(init=False, default_factory=Spent, compare=False)
    _lock: Any = field(init=False, default_factory=threading.Lock, compare=False, repr=False)
    _one_by_one: Any = field(init=False, default_factory=threading.Lock, compare=False, repr=False)

    def __post_init__(self) -> None:
        caps = (
            self.usd_per_million_in,
            self.usd_per_million_out,
            self.max_usd,
            self.max_tokens_all,
            self.max_calls,
            self.max_seconds,
        )
        if any(one is not None and not one >= 0 for one in caps):
            raise ModelError(f"prices and caps must not be negative, got {caps}")
        if self.max_usd is not None and not (self.usd_per_million_in or self.usd_per_million_out):
            raise ModelError(
                f"max_usd is {self.max_usd:g} and tokens cost nothing, so that it would never be"
                " reached: give usd_per_million_in and usd_per_million_out"
            )

    @property
    def fingerprint(self) -> str:
        return self.inner.fingerprint

    def capabilities(self) -> frozenset[str]:
        return self.inner.capabilities()

    def estimate(self, prompts: Sequence[str], max_tokens: int = 256, n: int = 1) -> Spent:
        """The most that asking these prompts can cost, by estimated tokens; nothing is asked."""
        check_texts(prompts)
        read, written = sum(map(estimated_tokens, prompts)), max_tokens * n * len(prompts)
        return Spent(len(prompts), read, written, self._usd(read, written))

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
        most = [self.estimate([prompt], max_tokens, n) for prompt in prompts]
        with self._turn():
            why = [self._set_aside(one) for one in most]
            return self._asked(
                prompts,
                most,
                why,
                max_tokens=max_tokens,
                temperature=temperature,
                n=n,
                seed=seed,
                schema=schema,
                images=images,
            )

    def _asked(
        self, prompts: Sequence[str], most: Sequence[Spent], why: Sequence[str], **how: Any
    ) -> list[Completion]:
        """The completions of the prompts that nothing stands in the way of, and of the others why
        not.
        """
        asked = [at for at, reason in enumerate(why) if not reason]
        out = [Completion((), error=reason or "dry run: nothing was asked") for reason in why]
        if not asked or self.dry_run:
            return out
        started, answers = time.perf_counter(), None
        try:
            answers = self.inner.complete([prompts[at] for at in asked], **how)
        finally:
            self._settle([most[at] for at in asked], answers, time.perf_counter() - started)
        for at, answer in zip(asked, answers, strict=True):
            out[at] = answer
        return out

    def score(self, prompts: Sequence[str], answers: Sequence[str]) -> np.ndarray:
        """Raises ModelError, before anything is asked, where a cap would be passed: half of the
        scores are of no use.
        """
        check_texts(prompts, answers)
        most = self.estimate(
            [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)], 0
        )
        with self._turn():
            if reason := self._set_aside(most):
                raise ModelError(reason)
            if self.dry_run:
                raise ModelError("dry run: nothing was asked")
            started = time.perf_counter()
            try:
                return self.inner.score(prompts, answers)
            finally:
                with self._lock:
                    self.spent.seconds += time.perf_counter() - started

    def _turn(self) -> AbstractContextManager[Any]:
        """Where seconds are limited, calls wait for each other: what one takes is known only when
        it has ended.
        """
        return nullcontext() if self.max_seconds is None else self._one_by_one

    def _usd(self, tokens_in: int, tokens_out: int) -> float:
        return (tokens_in * self.usd_per_million_in + tokens_out * self.usd_per_million_out) / 1e6

    def _set_aside(self, most: Spent) -> str:
        """Count the most that a call can cost as spent; or, where a cap stands in the way, say
        which.
        """
        with self._lock:
            now = self.spent
            for name, so_far, more, cap in (
                ("max_calls", now.calls, most.calls, self.max_calls),
                (
                    "max_tokens_all",
                    now.tokens_in + now.tokens_out,
                    most.tokens_in + most.tokens_out,
                    self.max_tokens_all,
                ),
                ("max_usd", now.usd, most.usd, self.max_usd),
                ("max_seconds", now.seconds, 0.0, self.max_seconds),
            ):
                if cap is not None and (
                    so_far + more > cap
                    or (cap == 0 and name != "max_usd")
                    or (name == "max_seconds" and so_far >= cap)
                ):
                    now.refused += 1
                    return (
                        f"not asked: {name} is {cap:g}, {so_far:g} are spent and this could need"
                        f" {more:g}"
                    )
            if self.max_usd == 0:
                now.refused += 1
                return "not asked: max_usd is 0"
            now.calls, now.usd = now.calls + most.calls, now.usd + most.usd
            now.tokens_in, now.tokens_out = (
                now.tokens_in + most.tokens_in,
                now.tokens_out + most.tokens_out,
            )
            return ""

    def _settle(
        self, most: Sequence[Spent], answers: Sequence[Completion] | None, seconds: float
    ) -> None:
        """Replace what was set aside by what was used; a call that broke off is counted at its
        most.
        """
        with self._lock:
            self.spent.seconds += seconds
            for one, answer in zip(most, answers or (), strict=False):
                read, written = (0, 0) if answer.is_cached or answer.error else _used(answer, one)
                self.spent.cached += answer.is_cached
                self.spent.tokens_in += read - one.tokens_in
                self.spent.tokens_out += written - one.tokens_out
                self.spent.usd += self._usd(read, written) - one.usd


def _used(answer: Completion, most: Spent) -> tuple[int, int]:
    """Tokens read and written, as the model counts them; estimated where it counts none."""
    if answer.tokens_in or answer.tokens_out:
        return answer.tokens_in, answer.tokens_out
    return most.tokens_in, min(most.tokens_out, sum(map(estimated_tokens, answer.texts)))
