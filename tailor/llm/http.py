"""Language models behind OpenAI-compatible servers."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tailor.errors import ModelError
from tailor.llm.chat import check_request, check_texts, messages, sendable
from tailor.ports.base import Completion, LanguageModel
from tailor.ports.calls import CallFailed, RetryPolicy
from tailor.ports.openai import called, check_address, check_variable, client

IMAGE_KINDS = {b"\x89PNG": "png", b"\xff\xd8": "jpeg", b"GIF8": "gif", b"RIFF": "webp"}


@dataclass(frozen=True)
class HTTPModel(LanguageModel):
    """Any server that offers OpenAI's `/chat/completions`: hosted ones, vLLM, llama.cpp, Ollama.

    Prompts are sent side by side, at most `concurrency` at once to one server. A call that fails
    because the server is busy or gone is repeated with growing, random pauses until the deadline.
    After many failures in a row the server is left alone for a while.
    """

    model: str
    """Name of the model on the server."""
    base_url: str = "https://api.openai.com/v1"
    """Address of the server, without `/chat/completions`."""
    api_key_env: str = "OPENAI_API_KEY"
    """The environment variable that holds the key; "": the server wants none."""
    system: str = ""
    """System prompt, put before every prompt; "": none."""
    concurrency: int = 8
    """Calls at once."""
    retries: int = 4
    """Repetitions of a failed call."""
    deadline_s: float = 120.0
    """Seconds for one `complete`."""
    more: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Further fields of the request, such as { reasoning_effort = "low" }."""
    echoes: bool = False
    """Whether the server answers `/completions` with echo and logprobs, as vLLM does: needed for
    `score`."""

    def __post_init__(self) -> None:
        check_address(self.base_url)
        check_variable(self.api_key_env)
        if min(self.concurrency, 1 + self.retries) < 1 or self.deadline_s <= 0:
            raise ModelError(
                f"concurrency is {self.concurrency}, retries {self.retries}, deadline_s"
                f" {self.deadline_s}: from 1, from 0, above 0"
            )

    @property
    def fingerprint(self) -> str:
        return f"{self.base_url} {self.model} {self.system!r} {sorted(self.more.items())}"

    def capabilities(self) -> frozenset[str]:
        return frozenset({"schema", "images", "seed"} | ({"score"} if self.echoes else set()))

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
        """Return one completion per prompt; those of prompts that failed hold the error.

        Raises ModelError where no prompt at all was answered.
        """
        check_request(prompts, max_tokens, temperature, n)
        server = client(self.base_url, self.api_key_env)
        request: dict[str, Any] = {
            "model": self.model,
            "max_tokens": max_tokens,
            "temperature": temperature,
            "n": n,
            "seed": seed,
            **self.more,
        }
        if schema is not None:
            request["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": dict(schema), "strict": True},
            }

        def complete_one(prompt: str, left_s: float) -> Completion:
            turns: Any = messages(self.system, _content(prompt, images))
            completions = server.with_options(timeout=left_s).chat.completions
            return called(
                lambda: _completion(completions.create(messages=turns, **request), n),
                self.api_key_env,
            )

        answers = self._policy().call_all(complete_one, prompts)
        failures = [answer for answer in answers if isinstance(answer, ModelError)]
        if failures and len(failures) == len(answers):
            raise failures[0]
        return [
            Completion((), error=str(answer)) if isinstance(answer, ModelError) else answer
            for answer in answers
        ]

    def score(self, prompts: Sequence[str], answers: Sequence[str]) -> np.ndarray:
        """Return (n,) log-probabilities of the answers.

        Raises ModelError where the server does not echo, or one pair could not be scored.
        """
        check_texts(prompts, answers)
        if not self.echoes:
            raise ModelError(
                f"{self.base_url} gives no log-probs of given answers: set echoes = true for a"
                " server that does (vLLM), or use LocalModel"
            )
        server = client(self.base_url, self.api_key_env)

        def score_one(pair: tuple[str, str], left_s: float) -> float:
            prompt, answer = pair
            completions = server.with_options(timeout=left_s).completions
            return called(
                lambda: _echoed_log_prob(
                    completions.create(
                        model=self.model,
                        prompt=prompt + answer,
                        max_tokens=1,
                        echo=True,
                        logprobs=1,
                        temperature=0,
                    ),
                    len(prompt),
                    len(prompt) + len(answer),
                ),
                self.api_key_env,
            )

        pairs = [
            (sendable(prompt), sendable(answer))
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        scores = self._policy().call_all(score_one, pairs)
        for score in scores:
            if isinstance(score, ModelError):
                raise score
        return np.array(scores, dtype=np.float64)

    def _policy(self) -> RetryPolicy:
        return RetryPolicy(self.base_url, self.concurrency, self.retries, self.deadline_s)


def _content(prompt: str, images: Sequence[bytes]) -> str | list[dict[str, Any]]:
    text = sendable(prompt)
    if not images:
        return text
    urls = [
        f"data:image/{_image_kind(image)};base64,{base64.b64encode(image).decode()}"
        for image in images
    ]
    return [
        {"type": "text", "text": text},
        *({"type": "image_url", "image_url": {"url": url}} for url in urls),
    ]


def _image_kind(image: bytes) -> str:
    for start, kind in IMAGE_KINDS.items():
        if image.startswith(start):
            return kind
    raise ModelError(f"an image begins with {image[:8]!r}: it must be PNG, JPEG, GIF or WebP")


def _completion(answer: Any, n: int) -> Completion:
    choices = sorted(answer.choices, key=lambda choice: choice.index)
    if len(choices) != n:
        raise CallFailed(f"{len(choices)} answers instead of {n}", retryable=True)
    usage = answer.usage
    return Completion(
        tuple(choice.message.content or "" for choice in choices),
        int(usage.prompt_tokens) if usage else 0,
        int(usage.completion_tokens) if usage else 0,
        tuple("length" if choice.finish_reason == "length" else "stop" for choice in choices),
    )


def _echoed_log_prob(answer: Any, start: int, stop: int) -> float:
    """Return the summed log-prob of the tokens that begin at characters start to stop."""
    echo = answer.choices[0].logprobs
    log_probs = [
        log_prob
        for offset, log_prob in zip(echo.text_offset, echo.token_logprobs, strict=True)
        if start <= offset < stop and log_prob is not None
    ]
    if not log_probs:
        raise CallFailed("no log-probs of the answer came back", retryable=False)
    return float(sum(log_probs))
