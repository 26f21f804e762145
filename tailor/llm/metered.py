"""A language model that counts, and stops before it costs more than it may."""

import copy
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import astuple, dataclass, field
from typing import Any, NamedTuple

import numpy as np

from tailor.errors import ModelError
from tailor.llm.cached import Cached
from tailor.llm.chat import check_labels, check_request, check_texts
from tailor.llm.prompts import estimated_tokens
from tailor.ports.base import Completion, LanguageModel


@dataclass
class Spent:
    """Counts of calls, tokens, money and time."""

    calls: int = 0
    """Prompts that were sent."""
    tokens_in: int = 0
    """Tokens read."""
    tokens_out: int = 0
    """Tokens written."""
    usd: float = 0.0
    """Price of the tokens."""
    seconds: float = 0.0
    """Seconds that the calls took."""
    refused: int = 0
    """Prompts that were not sent, because a cap would have been passed."""
    cached: int = 0
    """Answers that cost nothing."""

    def __add__(self, other: "Spent") -> "Spent":
        """Return the sum of both, count by count."""
        return Spent(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


class _Cap(NamedTuple):
    """A limit, the amount spent so far, and the most that a call can need."""

    name: str
    spent: float
    needed: float
    limit: float | None

    @property
    def is_passed(self) -> bool:
        if self.limit is None:
            return False
        is_used_up = self.spent >= self.limit
        if self.name == "max_seconds":  # a call's seconds are unknown before it ends
            return is_used_up
        return self.limit == 0 or self.spent + self.needed > self.limit

    @property
    def refusal(self) -> str:
        return (
            f"not asked: {self.name} is {self.limit:g}, {self.spent:g} are spent and this could"
            f" need {self.needed:g}"
        )


@dataclass(frozen=True)
class Metered(LanguageModel):
    """Counts calls, tokens, money and seconds, and refuses prompts that could pass a cap.

    The completion of a refused prompt holds the reason. Before a prompt is sent, the most it can
    cost is set aside: its tokens as estimated, and an answer of full length. Its true cost replaces
    that afterwards, so that with any number of threads no cap is passed by more than the error of
    an estimate, and `max_seconds` by no more than one call. Tokens that a server does not count are
    estimated.
    """

    inner: LanguageModel
    """The model that answers."""
    usd_per_million_in: float = 0.0
    """Price of a million tokens read."""
    usd_per_million_out: float = 0.0
    """Price of a million tokens written."""
    max_usd: float | None = None
    """Most that all calls may cost; None: any amount."""
    max_tokens_all: int | None = None
    """Most tokens that all calls may read and write; None: any number."""
    max_calls: int | None = None
    """Most prompts that may be sent; None: any number."""
    max_seconds: float | None = None
    """Seconds after which no call begins, summed over calls; threads then wait for each other."""
    dry_run: bool = False
    """Whether nothing is sent; `spent` then holds the most it would cost."""

    spent: Spent = field(init=False, default_factory=Spent, compare=False)
    """Counts so far."""
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
        if any(cap is not None and not cap >= 0 for cap in caps):
            raise ModelError(f"prices and caps must not be negative, got {caps}")
        if self.max_usd is not None and not (self.usd_per_million_in or self.usd_per_million_out):
            raise ModelError(
                f"max_usd is {self.max_usd:g} and tokens cost nothing, so that it would never be"
                " reached: give usd_per_million_in and usd_per_million_out"
            )

    @property
    def fingerprint(self) -> str:
        return self.inner.fingerprint

    @property
    def refusals(self) -> int:
        """Prompts that this one, or one inside it, did not send."""
        inner = self.inner.refusals if isinstance(self.inner, Metered) else 0
        return self.spent.refused + inner

    def capabilities(self) -> frozenset[str]:
        return self.inner.capabilities()

    def estimate(self, prompts: Sequence[str], max_tokens: int = 256, n: int = 1) -> Spent:
        """Return the most that these prompts can cost, by estimated tokens; nothing is sent."""
        check_texts(prompts)
        tokens_in = sum(map(estimated_tokens, prompts))
        tokens_out = max_tokens * n * len(prompts)
        return Spent(len(prompts), tokens_in, tokens_out, self.usd(tokens_in, tokens_out))

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
        estimates = [self.estimate([prompt], max_tokens, n) for prompt in prompts]
        with self._turn():
            refusals = [self._set_aside(estimate) for estimate in estimates]
            return self._complete_allowed(
                prompts,
                estimates,
                refusals,
                max_tokens=max_tokens,
                temperature=temperature,
                n=n,
                seed=seed,
                schema=schema,
                images=images,
            )

    def _complete_allowed(
        self,
        prompts: Sequence[str],
        estimates: Sequence[Spent],
        refusals: Sequence[str],
        **settings: Any,
    ) -> list[Completion]:
        """Return completions of the prompts without a refusal, and the refusals of the others."""
        allowed = [i for i, refusal in enumerate(refusals) if not refusal]
        completions = [
            Completion((), error=refusal or "dry run: nothing was asked") for refusal in refusals
        ]
        if not allowed or self.dry_run:
            return completions
        start_s = time.perf_counter()
        answers = None
        try:
            answers = self.inner.complete([prompts[i] for i in allowed], **settings)
        finally:
            seconds = time.perf_counter() - start_s
            self._settle([estimates[i] for i in allowed], answers, seconds)
        for i, answer in zip(allowed, answers, strict=True):
            completions[i] = answer
        return completions

    def score(self, prompts: Sequence[str], answers: Sequence[str]) -> np.ndarray:
        """Return (n,) log-probabilities of the answers.

        Raises ModelError, before anything is sent, where a cap would be passed: half of the scores
        would be of no use.
        """
        check_texts(prompts, answers)
        texts = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
        return self._read_off(texts, lambda: self.inner.score(prompts, answers))

    def choices(self, prompts: Sequence[str], labels: Sequence[str]) -> np.ndarray:
        """Return (P, L) log-probabilities of each label as the answer to each prompt.

        A model without the capability "choices" reads a prompt once for every label, and each time
        counts. Raises ModelError, before anything is sent, where a cap would be passed.
        """
        check_labels(prompts, labels)
        texts = [*prompts] * label_passes(self.inner, labels)
        return self._read_off(texts, lambda: self.inner.choices(prompts, labels))

    def _read_off(self, texts: Sequence[str], ask: Callable[[], np.ndarray]) -> np.ndarray:
        """Return what `ask` reads off these texts, if their cost is within all caps."""
        estimate = self.estimate(texts, 0)
        with self._turn():
            refusal = self._set_aside(estimate)
            if refusal or self.dry_run:
                raise ModelError(refusal or "dry run: nothing was asked")
            start_s = time.perf_counter()
            try:
                return ask()
            finally:
                with self._lock:
                    self.spent.seconds += time.perf_counter() - start_s

    def _turn(self) -> AbstractContextManager[Any]:
        """Let calls wait for each other where seconds are limited: one counts when it has ended."""
        return nullcontext() if self.max_seconds is None else self._one_by_one

    def usd(self, tokens_in: int, tokens_out: int) -> float:
        """Return the price of tokens read and written."""
        return (tokens_in * self.usd_per_million_in + tokens_out * self.usd_per_million_out) / 1e6

    def cost(self, prompt: str, answer: Completion, max_tokens: int) -> Spent:
        """Return what one answer of at most `max_tokens` took; an error took nothing."""
        estimate = Spent(tokens_in=estimated_tokens(prompt), tokens_out=max_tokens)
        tokens_in, tokens_out = tokens_used(answer, estimate)
        return Spent(
            calls=int(not answer.error),
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            usd=self.usd(tokens_in, tokens_out),
            cached=int(answer.is_cached),
        )

    def _set_aside(self, estimate: Spent) -> str:
        """Count a call's estimate as spent; or return the refusal of a cap."""
        with self._lock:
            spent = self.spent
            tokens = spent.tokens_in + spent.tokens_out
            needed_tokens = estimate.tokens_in + estimate.tokens_out
            caps = (
                _Cap("max_calls", spent.calls, estimate.calls, self.max_calls),
                _Cap("max_tokens_all", tokens, needed_tokens, self.max_tokens_all),
                _Cap("max_usd", spent.usd, estimate.usd, self.max_usd),
                _Cap("max_seconds", spent.seconds, 0.0, self.max_seconds),
            )
            for cap in caps:
                if cap.is_passed:
                    spent.refused += 1
                    return cap.refusal
            spent.calls += estimate.calls
            spent.usd += estimate.usd
            spent.tokens_in += estimate.tokens_in
            spent.tokens_out += estimate.tokens_out
            return ""

    def _settle(
        self, estimates: Sequence[Spent], answers: Sequence[Completion] | None, seconds: float
    ) -> None:
        """Replace estimates by the true costs; a call that broke off counts at its estimate."""
        with self._lock:
            self.spent.seconds += seconds
            for estimate, answer in zip(estimates, answers or (), strict=False):
                tokens_in, tokens_out = tokens_used(answer, estimate)
                self.spent.cached += answer.is_cached
                self.spent.tokens_in += tokens_in - estimate.tokens_in
                self.spent.tokens_out += tokens_out - estimate.tokens_out
                self.spent.usd += self.usd(tokens_in, tokens_out) - estimate.usd


def tokens_used(answer: Completion, estimate: Spent) -> tuple[int, int]:
    """Return tokens read and written, estimated where the model counts none.

    An answer that was cached, or did not come, took none.
    """
    if answer.is_cached or answer.error:
        return 0, 0
    if answer.tokens_in or answer.tokens_out:
        return answer.tokens_in, answer.tokens_out
    written = sum(map(estimated_tokens, answer.texts))
    return estimate.tokens_in, min(estimate.tokens_out, written)


def label_passes(llm: LanguageModel, labels: Sequence[str]) -> int:
    """Return how often a model reads a prompt for the log-probabilities of labels."""
    return 1 if "choices" in llm.capabilities() else len(labels)


def without_cache(llm: LanguageModel) -> LanguageModel:
    """Return the model without the `Cached` around or inside it, for people's words.

    A `Metered` goes on counting: the one without a cache shares counts and caps with it.
    """
    if isinstance(llm, Cached):
        return without_cache(llm.inner)
    if isinstance(llm, Metered):
        uncached = copy.copy(llm)
        object.__setattr__(uncached, "inner", without_cache(llm.inner))
        return uncached
    return llm
