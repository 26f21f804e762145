"""A language model that answers by a rule: for tests, ours and yours."""

import hashlib
import json
import re
import time
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tailor.errors import ModelError, nearest
from tailor.llm.chat import check_request, check_texts
from tailor.llm.fencing import INVISIBLE
from tailor.llm.prompts import estimated_tokens
from tailor.ports.base import Completion, LanguageModel

LINE = re.compile(r"^\[(\d+)\] (.*)$", re.MULTILINE)
MALFORMED: dict[str, Callable[[list[int]], str]] = {
    "prose": lambda order: f"I would say that number {order[0]} is rather good, all in all.",
    "fenced": lambda order: (
        f"Of course!\n```json\n{json.dumps(order)}\n```\nLet me know if you need more."
    ),
    "unclosed": lambda order: '{"order": ' + json.dumps(order)[:-1],
    "brackets": lambda order: " > ".join(f"[{one}]" for one in order),
    "list": lambda order: "\n".join(
        f"{place}. [{one}]" for place, one in enumerate(order, start=1)
    ),
    "letters": lambda order: " ".join(chr(64 + one) if one <= 26 else str(one) for one in order),
    "full width": lambda order: "、".join(
        "".join(chr(ord(digit) + 0xFEE0) for digit in str(one)) for one in order
    ),
    "chinese": lambda order: " ".join(
        "一二三四五六七八九十"[one - 1] if one <= 10 else str(one) for one in order
    ),
    "repeated": lambda order: json.dumps([one for one in order for _ in range(2)]),
    "wrong ids": lambda order: json.dumps([one + 1000 for one in order]),
    "short": lambda order: json.dumps(order[: len(order) // 2]),
    "thinking": lambda order: (
        f"<think>Perhaps {json.dumps(order[::-1])}? No.</think>\n{json.dumps(order)}"
    ),
    "refusal": lambda order: "I'm sorry, but I can't help with that request.",
    "nothing": lambda order: "",
}


@dataclass(frozen=True)
class ScriptedModel(LanguageModel):
    """Orders the lines "[n] text" of a prompt by what it knows of the texts, and answers as badly
    as it is told to.

    Without settings but `knows` it is perfect: it answers the best order as a JSON list, or yes or
    no where no lines stand in the prompt. Its log-probs of labels ("3", "[3]", "yes", "no") fit its
    orders. All its chance depends on the prompt and the seed alone.
    """

    knows: Mapping[str, float] = field(default_factory=dict, hash=False)
    """Text -> how good what holds it is; unknown: 0."""
    noise: float = 0.0
    """Standard deviation of errors in what it knows."""
    position_bias: float = 0.0
    """What a place nearer to the top of the prompt is worth."""
    malformed: str = ""
    """How answers are spoilt: one of MALFORMED."""
    slow_ms: float = 0.0
    """Time a prompt takes."""
    failing: float = 0.0
    """Share of prompts that get no answer."""
    obeys: tuple[str, ...] = ()
    """Orders that it follows wherever it reads them in a prompt, by putting their line first."""
    reply: str | None = None
    """Answer to everything."""

    def __post_init__(self) -> None:
        if self.malformed and self.malformed not in MALFORMED:
            raise ModelError(
                "there are no answers malformed"
                f' "{self.malformed}".{nearest(self.malformed, MALFORMED)}'
            )
        if not 0 <= self.failing <= 1 or self.slow_ms < 0 or self.noise < 0:
            raise ModelError(
                f"failing is {self.failing}, slow_ms {self.slow_ms}, noise {self.noise}: failing"
                " between 0 and 1, the others from 0"
            )

    @property
    def fingerprint(self) -> str:
        return f"scripted {hashlib.blake2b(repr(self).encode(), digest_size=10).hexdigest()}"

    def capabilities(self) -> frozenset[str]:
        return frozenset({"score", "schema", "seed", "images"})

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
        return [self._answered(prompt, max_tokens, n, seed) for prompt in prompts]

    def _answered(self, prompt: str, max_tokens: int, n: int, seed: int) -> Completion:
        time.sleep(self.slow_ms / 1000)
        if self._chance(prompt, seed, "failing").random() < self.failing:
            return Completion((), error="scripted failure")
        whole = [self._said(prompt, seed + at) for at in range(n)]
        texts = tuple(text[: 3 * max_tokens] for text in whole)
        finish = tuple(
            "stop" if text == kept else "length" for text, kept in zip(whole, texts, strict=True)
        )
        return Completion(
            texts, estimated_tokens(prompt), sum(map(estimated_tokens, texts)), finish
        )

    def _said(self, prompt: str, seed: int) -> str:
        if self.reply is not None:
            return self.reply
        worth = self._worth(prompt, seed)
        if not len(worth):
            return "yes" if self._known(prompt) > 0.5 else "no"
        order = [int(one) + 1 for one in np.argsort(-worth, kind="stable")]
        return MALFORMED[self.malformed](order) if self.malformed else json.dumps(order)

    def _worth(self, prompt: str, seed: int) -> np.ndarray:
        """(n,) what it thinks each line of the prompt is worth."""
        lines = [one.group(2) for one in LINE.finditer(prompt)]
        worth = np.array([self._known(line) for line in lines], dtype=float)
        errors = (
            [self._chance(line, seed, prompt).standard_normal() for line in lines]
            if self.noise
            else 0.0
        )
        worth = worth + self.noise * np.array(errors) - self.position_bias * np.arange(len(lines))
        orders = [_plain(one) for one in self.obeys]
        if any(order in _plain(prompt) for order in orders) and lines:
            at = next(
                (
                    i
                    for i, line in enumerate(lines)
                    if any(order in _plain(line) for order in orders)
                ),
                len(lines) - 1,
            )
            worth[at] = worth.max() + 1
        return worth

    def _known(self, text: str) -> float:
        return max((value for key, value in self.knows.items() if key in text), default=0.0)

    def _chance(self, *key: object) -> np.random.Generator:
        digest = hashlib.blake2b(
            repr(key).encode("utf-8", "surrogatepass"), digest_size=16
        ).digest()
        return np.random.default_rng(int.from_bytes(digest, "little"))

    def score(self, prompts: Sequence[str], answers: Sequence[str]) -> np.ndarray:
        """(n,) log-probabilities: of labels by a softmax over what the lines are worth, of yes and
        no by a logistic function.
        """
        check_texts(prompts, answers)
        return np.array(
            [
                self._log_prob(prompt, answer)
                for prompt, answer in zip(prompts, answers, strict=True)
            ]
        )

    def _log_prob(self, prompt: str, answer: str) -> float:
        said, worth = answer.strip().strip("[]").lower(), self._worth(prompt, 0)
        if said in ("yes", "no"):
            logit = 4 * (self._known(prompt) - 0.5) * (1 if said == "yes" else -1)
            return -float(np.logaddexp(0, -logit))
        if said.isascii() and said.isdigit() and 1 <= int(said) <= len(worth):
            return float(worth[int(said) - 1] - np.logaddexp.reduce(worth))
        return -10.0 - estimated_tokens(answer)


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", INVISIBLE.sub("", text)).lower().split())
