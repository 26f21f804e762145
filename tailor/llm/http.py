"""Language models behind OpenAI-compatible servers."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tailor.errors import ModelError
from tailor.llm.chat import check_asked, check_texts, messages, sendable
from tailor.ports.base import Completion, LanguageModel
from tailor.ports.calls import Calls, Refused
from tailor.ports.openai import called, check_address, check_variable, client


@dataclass(frozen=True)
class HTTPModel(LanguageModel):
    """Any server that offers OpenAI's `/chat/completions`: hosted ones, vLLM, llama.cpp, Ollama.

    Prompts are asked side by side, at most `concurrency` at once to one server; a call that fails
    because the server is busy or gone is repeated with growing, random pauses until the deadline;
    after many failures in a row the server is left alone for a while.
    """

    model: str
    base_url: str = "https://api.openai.com/v1"
    api_key_env: str = "OPENAI_API_KEY"
    """The environment variable that holds the key; "": the server wants none."""
    system: str = ""
    """Said before every prompt, in the system's name."""
    concurrency: int = 8
    retries: int = 4
    deadline_s: float = 120.0
    """For one `complete`."""
    more: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Further fields of the request, such as { reasoning_effort = "low" }."""
    echoes: bool = False
    """The server answers `/completions` with echo and logprobs, as vLLM does: needed for `score`.
    """

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
        """Raises ModelError where no prompt at all was answered; otherwise the completions of those
        that failed say why.
        """
        check_asked(prompts, max_tokens, temperature, n)
        server = client(self.base_url, self.api_key_env)
        asked: dict[str, Any] = {
            "model": self.model,
            "max_tokens": max_tokens,
            "temperature": temperature,
            "n": n,
            "seed": seed,
            **self.more,
        }
        if schema is not None:
            asked["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": dict(schema), "strict": True},
            }

        def one(prompt: str, left_s: float) -> Completion:
            said: Any = messages(self.system, _content(prompt, images))
            return called(
                lambda: _completion(
                    server.with_options(timeout=left_s).chat.completions.create(
                        messages=said, **asked
                    ),
                    n,
                ),
                self.api_key_env,
            )

        answers = self._calls().all(one, prompts)
        failed = [answer for answer in answers if isinstance(answer, ModelError)]
        if failed and len(failed) == len(answers):
            raise failed[0]
        return [
            Completion((), error=str(answer)) if isinstance(answer, ModelError) else answer
            for answer in answers
        ]

    def score(self, prompts: Sequence[str], answers: Sequence[str]) -> np.ndarray:
        """Raises ModelError where the server does not echo, or one pair could not be scored."""
        check_texts(prompts, answers)
        if not self.echoes:
            raise ModelError(
                f"{self.base_url} gives no log-probs of given answers: set echoes = true for a"
                " server that does (vLLM), or use LocalModel"
            )
        server = client(self.base_url, self.api_key_env)

        def one(pair: tuple[str, str], left_s: float) -> float:
            return called(
                lambda: _echoed(
                    server.with_options(timeout=left_s).completions.create(
                        model=self.model,
                        prompt=pair[0] + pair[1],
                        max_tokens=1,
                        echo=True,
                        logprobs=1,
                        temperature=0,
                    ),
                    len(pair[0]),
                    len("".join(pair)),
                ),
                self.api_key_env,
            )

        found = self._calls().all(
            one,
            [
                (sendable(prompt), sendable(answer))
                for prompt, answer in zip(prompts, answers, strict=True)
            ],
        )
        for value in found:
            if isinstance(value, ModelError):
                raise value
        return np.array(found, dtype=np.float64)

    def _calls(self) -> Calls:
        return Calls(self.base_url, self.concurrency, self.retries, self.deadline_s)


def _content(prompt: str, images: Sequence[bytes]) -> str | list[dict[str, Any]]:
    text = sendable(prompt)
    if not images:
        return text
    urls = [f"data:image/{_kind(one)};base64,{base64.b64encode(one).decode()}" for one in images]
    return [
        {"type": "text", "text": text},
        *({"type": "image_url", "image_url": {"url": url}} for url in urls),
    ]


def _kind(image: bytes) -> str:
    for start, kind in (
        (b"\x89PNG", "png"),
        (b"\xff\xd8", "jpeg"),
        (b"GIF8", "gif"),
        (b"RIFF", "webp"),
    ):
        if image.startswith(start):
            return kind
    raise ModelError(f"an image begins with {image[:8]!r}: it must be PNG, JPEG, GIF or WebP")


def _completion(answer: Any, n: int) -> Completion:
    choices = sorted(answer.choices, key=lambda one: one.index)
    if len(choices) != n:
        raise Refused(f"{len(choices)} answers instead of {n}", again=True)
    usage = answer.usage
    return Completion(
        tuple(one.message.content or "" for one in choices),
        int(usage.prompt_tokens) if usage else 0,
        int(usage.completion_tokens) if usage else 0,
        tuple("length" if one.finish_reason == "length" else "stop" for one in choices),
    )


def _echoed(answer: Any, start: int, stop: int) -> float:
    """The sum of the log-probs of the tokens that begin at characters start to stop."""
    found = answer.choices[0].logprobs
    values = [
        value
        for at, value in zip(found.text_offset, found.token_logprobs, strict=True)
        if start <= at < stop and value is not None
    ]
    if not values:
        raise Refused("no log-probs of the answer came back", again=False)
    return float(sum(values))
