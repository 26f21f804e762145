"""A language model that answers by a rule: for tests, ours and yours."""

import hashlib
import json
import re
import time
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tailor.errors import ModelError, nearest
from tailor.llm.chat import check_request, check_texts
from tailor.llm.fencing import INVISIBLE
from tailor.llm.grammars import GRAMMARS, HIGHEST_GRADE, Grammar
from tailor.llm.prompts import estimated_tokens
from tailor.ports.base import Completion, LanguageModel

LINE = re.compile(r"^\[(\d+|[A-Z])\] (.*)$", re.MULTILINE)  # "[3] text", "[C] text"
GRADE_LABEL = re.compile(r'\{"grade": (\d+)\}')
CHINESE_DIGITS = "一二三四五六七八九十"
FULL_WIDTH = 0xFEE0  # distance of a full-width digit from the plain one
CHARACTERS_PER_TOKEN = 3
LOGIT_SCALE = 4.0  # of yes against no, per unit of worth
UNLIKELY = -10.0  # log-probability of an answer that is no label
MALFORMED: dict[str, Callable[[list[int]], str]] = {
    "prose": lambda order: f"I would say that number {order[0]} is rather good, all in all.",
    "fenced": lambda order: (
        f"Of course!\n```json\n{json.dumps(order)}\n```\nLet me know if you need more."
    ),
    "unclosed": lambda order: '{"order": ' + json.dumps(order)[:-1],
    "brackets": lambda order: " > ".join(f"[{number}]" for number in order),
    "list": lambda order: "\n".join(
        f"{rank}. [{number}]" for rank, number in enumerate(order, start=1)
    ),
    "letters": lambda order: " ".join(
        chr(64 + number) if number <= 26 else str(number) for number in order
    ),
    "full width": lambda order: "、".join(
        "".join(chr(ord(digit) + FULL_WIDTH) for digit in str(number)) for number in order
    ),
    "chinese": lambda order: " ".join(
        CHINESE_DIGITS[number - 1] if number <= 10 else str(number) for number in order
    ),
    "repeated": lambda order: json.dumps([number for number in order for _ in range(2)]),
    "wrong ids": lambda order: json.dumps([number + 1000 for number in order]),
    "short": lambda order: json.dumps(order[: len(order) // 2]),
    "thinking": lambda order: (
        f"<think>Perhaps {json.dumps(order[::-1])}? No.</think>\n{json.dumps(order)}"
    ),
    "refusal": lambda order: "I'm sorry, but I can't help with that request.",
    "nothing": lambda order: "",
}
SPOILT: dict[str, Callable[[str], str]] = {
    "refusal": lambda answer: "I'm sorry, but I can't help with that request.",
    "silence": lambda answer: "",
    "half": lambda answer: answer[: len(answer) // 2],
    "idle words": lambda answer: (
        f"Of course! Here you are:\n```json\n{answer}\n```\nAnything else?"
    ),
}
"""Faults of an answer in any grammar; the last one can be read all the same."""


@dataclass(frozen=True)
class ScriptedModel(LanguageModel):
    """Orders the lines "[3] text" or "[C] text" of a prompt by worth, with chosen faults.

    Without settings but `knows` it is perfect: it answers in the grammar that the schema names,
    else the best order as a JSON list, or yes or no where the prompt has no lines. Its log-probs of
    labels ("3", "[3]", "C", "yes") fit its orders. All its randomness depends on the prompt and
    the seed alone.
    """

    knows: Mapping[str, float] = field(default_factory=dict, hash=False)
    """Text -> worth of every line that holds it; 0 for other lines."""
    noise: float = 0.0
    """Standard deviation of the errors in the worth of a line."""
    position_bias: float = 0.0
    """Worth that a line gains over the line below it."""
    malformed: str = ""
    """Form in which answers are spoilt: one of MALFORMED; "": none."""
    slow_ms: float = 0.0
    """Milliseconds that a prompt takes."""
    failing: float = 0.0
    """Share of prompts that get no answer."""
    obeys: tuple[str, ...] = ()
    """Orders that it follows wherever it reads them in a prompt, by putting their line first."""
    reply: str | None = None
    """Answer to every prompt; None: the order."""

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
        return frozenset({"score", "choices", "schema", "seed", "images"})

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
        grammar = GRAMMARS.get(str((schema or {}).get("title")))
        return [self._complete_one(prompt, max_tokens, n, seed, grammar) for prompt in prompts]

    def _complete_one(
        self, prompt: str, max_tokens: int, n: int, seed: int, grammar: Grammar | None
    ) -> Completion:
        time.sleep(self.slow_ms / 1000)
        if rng_of(prompt, seed, "failing").random() < self.failing:
            return Completion((), error="scripted failure")
        answers = [self._answer(prompt, seed + i, grammar) for i in range(n)]
        texts = tuple(answer[: CHARACTERS_PER_TOKEN * max_tokens] for answer in answers)
        finish = tuple(
            "stop" if text == answer else "length"
            for answer, text in zip(answers, texts, strict=True)
        )
        tokens_out = sum(map(estimated_tokens, texts))
        return Completion(texts, estimated_tokens(prompt), tokens_out, finish)

    def _answer(self, prompt: str, seed: int, grammar: Grammar | None = None) -> str:
        if self.reply is not None:
            return self.reply
        worths = self._line_worths(prompt, seed)
        if not len(worths):
            return "yes" if self._worth(prompt) > 0.5 else "no"
        order = (np.argsort(-worths, kind="stable") + 1).tolist()
        if self.malformed:
            return MALFORMED[self.malformed](order)
        return json.dumps(order) if grammar is None else grammar.write(worths)

    def _line_worths(self, prompt: str, seed: int) -> np.ndarray:
        """Return the (n,) worth of each line of the prompt, errors included."""
        lines = [line.group(2) for line in LINE.finditer(prompt)]
        worths = np.array([self._worth(line) for line in lines], dtype=float)
        if self.noise:
            errors = [rng_of(line, seed, prompt).standard_normal() for line in lines]
            worths = worths + self.noise * np.array(errors)
        worths = worths - self.position_bias * np.arange(len(lines))
        orders = [_plain(order) for order in self.obeys]
        if lines and _holds_any(prompt, orders):
            ordering = [i for i, line in enumerate(lines) if _holds_any(line, orders)]
            worths[ordering[0] if ordering else -1] = worths.max() + 1
        return worths

    def _worth(self, text: str) -> float:
        return max((worth for key, worth in self.knows.items() if key in text), default=0.0)

    def score(self, prompts: Sequence[str], answers: Sequence[str]) -> np.ndarray:
        """Return (n,) log-probabilities of the answers.

        Those of labels are a softmax over the worth of the lines, those of yes and no a logistic
        function of the prompt's worth.
        """
        check_texts(prompts, answers)
        pairs = zip(prompts, answers, strict=True)
        return np.array([self._log_prob(prompt, answer) for prompt, answer in pairs])

    def _log_prob(self, prompt: str, answer: str) -> float:
        """Return the log-probability of an answer to a prompt."""
        label = answer.strip().strip("[]").lower()
        if label in ("yes", "no"):
            sign = 1 if label == "yes" else -1
            logit = LOGIT_SCALE * (self._worth(prompt) - 0.5) * sign
            return -float(np.logaddexp(0, -logit))
        worths = self._line_worths(prompt, 0)
        grade = GRADE_LABEL.fullmatch(label)
        if grade and len(worths):
            distance = int(grade[1]) / HIGHEST_GRADE - float(np.clip(worths[0], 0, 1))
            return -LOGIT_SCALE * abs(distance)
        row = _row_of_label(label, prompt)
        if 0 <= row < len(worths):
            return float(worths[row] - np.logaddexp.reduce(worths))
        return UNLIKELY - estimated_tokens(answer) + self._worth(prompt)


@dataclass(frozen=True)
class Unreliable(LanguageModel):
    """Spoils a share of another model's answers: refusals, silence, halves, and idle words.

    Which answers are spoilt, and how, depends on the prompt and the seed alone. Log-probabilities
    are never spoilt.
    """

    inner: LanguageModel
    """The model that answers."""
    share: float = 0.1
    """Share of answers that are spoilt."""
    seed: int = 0
    """Seed of the choice of answers."""

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ModelError(f"share is {self.share}: between 0 and 1")

    @property
    def fingerprint(self) -> str:
        return f"unreliable {self.share} {self.seed} {self.inner.fingerprint}"

    def capabilities(self) -> frozenset[str]:
        return self.inner.capabilities()

    def complete(self, prompts: Sequence[str], **settings: Any) -> list[Completion]:
        return [
            self._spoilt(prompt, completion)
            for prompt, completion in zip(
                prompts, self.inner.complete(prompts, **settings), strict=True
            )
        ]

    def _spoilt(self, prompt: str, completion: Completion) -> Completion:
        rng = rng_of(self.seed, prompt)
        if completion.error or rng.random() >= self.share:
            return completion
        spoil = list(SPOILT.values())[int(rng.integers(len(SPOILT)))]
        return replace(completion, texts=tuple(spoil(text) for text in completion.texts))

    def score(self, prompts: Sequence[str], answers: Sequence[str]) -> np.ndarray:
        return self.inner.score(prompts, answers)

    def choices(self, prompts: Sequence[str], labels: Sequence[str]) -> np.ndarray:
        return self.inner.choices(prompts, labels)


def rng_of(*key: object) -> np.random.Generator:
    """Return a generator that depends on these values alone."""
    raw = repr(key).encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(raw, digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


def _holds_any(text: str, orders: Sequence[str]) -> bool:
    plain_text = _plain(text)
    return any(order in plain_text for order in orders)


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", INVISIBLE.sub("", text)).lower().split())


def _row_of_label(label: str, prompt: str) -> int:
    """Return the row of the line that a number or letter names; -1 where it names none."""
    if label.isascii() and label.isdigit():
        return int(label) - 1
    labels = [line.group(1).lower() for line in LINE.finditer(prompt)]
    return labels.index(label) if label in labels else -1
