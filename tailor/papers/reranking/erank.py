"""ERank: each document gets a fine grade after thought; the grader learns by a list's reward."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from tailor.core.methods import Paper
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.errors import ModelError
from tailor.llm.fencing import fenced
from tailor.llm.grammars import GRADE, HIGHEST_GRADE, Grammar, Reading
from tailor.llm.metered import Metered
from tailor.llm.parsing import spoken
from tailor.reranking.examples import Example
from tailor.reranking.feature_reranker import FeatureReranker
from tailor.reranking.learned_reranker import ListLoss
from tailor.reranking.llm_reranker import Asker, LLMReranker, StrategyName
from tailor.reranking.pair_features import NAMES
from tailor.reranking.shortlist import Shortlist
from tailor.reranking.strategies import Group

PAPER = Paper(
    "erank",
    "ERank: Fusing Supervised Fine-Tuning and Reinforcement Learning for Effective and Efficient"
    " Text Reranking",
    "https://arxiv.org/abs/2509.00520",
    "Expected grades order better than drawn grades, and these better than yes and no; a grader"
    " that learns by its place in the list is not below one that learns grades alone",
)
GRADES = HIGHEST_GRADE + 1
THINK = (
    "Before you grade, think in a few words: what does the request need, and does the document have"
    " it?"
)


@dataclass(eq=False)
class ERank(LLMReranker):
    """Grades each document alone from 0 to 10, and ranks by the expected grade.

    A model that says "7" twice leaves a tie; the probabilities that it gave to all eleven grades
    do not (Cai et al. 2025). With `reason_tokens`, the model first writes what it thinks of a
    document, and the probabilities are read after its words.

    Differs from the paper: no model is trained (`ERankStudent` is the trained form); grades end at
    10. The thought is a call of its own, so that a thought cut short never costs the grade.
    """

    strategy: StrategyName = "grade"
    """Always "grade": one document at a time."""
    reads: Literal["reply", "log-probs"] = "log-probs"
    """Whether the expected grade counts, or the written one (for models without probabilities)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.strategy != "grade":
            raise ModelError(
                f'strategy is "{self.strategy}": ERank grades documents one by one (strategy ='
                ' "grade")'
            )

    @property
    def grammar(self) -> Grammar:
        """The form of a grade; thoughts are asked for before it, in a call of their own."""
        return GRADE

    def _asker(self, shortlists: Sequence[Shortlist], llm: Metered, trace: bool) -> Asker:
        return _GradeAsker(self, shortlists, llm, trace)


class _GradeAsker(Asker):
    """Asks for thoughts, then reads the probabilities of all grades."""

    def _by_log_probs(
        self, numbers: Sequence[int], groups: Sequence[Group], prompts: Sequence[str]
    ) -> list[Reading]:
        prompts, thoughts = self._after_thoughts(numbers, groups, prompts)
        values = self._label_log_probs(numbers, groups, prompts)
        readings = []
        for log_probs, thought in zip(values, thoughts, strict=True):
            if log_probs is None:
                readings.append(Reading.unread(1))
                continue
            shares = np.exp(log_probs - np.logaddexp.reduce(log_probs))
            words = grade_words(shares) | ({"reason": thought} if thought else {})
            expected = GRADE.of_log_probs(log_probs)
            readings.append(Reading(expected, ("ranked",), {0: words}))
        return readings

    def _replies(
        self, numbers: Sequence[int], groups: Sequence[Group], prompts: Sequence[str]
    ) -> tuple[list[Reading], list[str | None]]:
        prompts, thoughts = self._after_thoughts(numbers, groups, prompts)
        readings, answers = super()._replies(numbers, groups, prompts)
        with_reasons = [
            Reading(reading.scores, reading.statuses, {0: {"reason": thought}})
            if thought and not reading.is_unread
            else reading
            for reading, thought in zip(readings, thoughts, strict=True)
        ]
        return with_reasons, answers

    def _after_thoughts(
        self, numbers: Sequence[int], groups: Sequence[Group], prompts: Sequence[str]
    ) -> tuple[list[str], list[str]]:
        """Return the prompts with the model's thoughts and the question at their end."""
        if not self.reranker.reason_tokens:
            return list(prompts), [""] * len(prompts)
        thought_prompts = [f"{prompt}\n\n{THINK}" for prompt in prompts]
        completions = self.llm.complete(thought_prompts, max_tokens=self.reranker.reason_tokens)
        for number, group, prompt, completion in zip(
            numbers, groups, thought_prompts, completions, strict=True
        ):
            self._count(number, group, prompt, completion, self.reranker.reason_tokens)
        thoughts = ["" if done.error else spoken(done.text).strip() for done in completions]
        longer = [
            f"{prompt}\n\nYour thoughts: {fenced(thought).text}\n{GRADE.ask(1)}"
            if thought
            else prompt
            for prompt, thought in zip(prompts, thoughts, strict=True)
        ]
        return longer, thoughts


def grade_words(shares: np.ndarray) -> dict[str, str]:
    """Return the likeliest grade and the deviation of grades with these probabilities (11,)."""
    grades = np.arange(len(shares))
    variance = float(shares @ (grades - float(shares @ grades)) ** 2)
    return {"grade": str(int(np.argmax(shares))), "spread": f"{variance**0.5:.2f}"}


def list_rewards(expected: Tensor, gains: Tensor, highest: float) -> Tensor:
    """Return (n, 11) rewards of every grade of every document, beside the others' present grades.

    `expected` (n,) are the present expected grades, `gains` (n,) at most `highest`. A relevant
    document earns the reciprocal rank that the grade would give it, times its share of the highest
    gain; another one earns 1 less its reciprocal rank. Equal grades count half a rank.
    """
    grades = torch.arange(GRADES, device=expected.device, dtype=expected.dtype)
    is_above = (expected > grades[:, None]).float() + 0.5 * (expected == grades[:, None])  # 11, n
    ranks = 1 + is_above.sum(dim=1) - is_above.T  # n, 11; a document is not above itself
    reciprocal = 1 / ranks
    shares = (gains / highest)[:, None]
    return torch.where(shares > 0, shares * reciprocal, 1 - reciprocal)


@dataclass(eq=False)
class ERankStudent(FeatureReranker):
    """Grades documents by a small net over features of request and document.

    It first learns grades from judgements, each document alone. Then the list speaks: a grade is
    rewarded by the rank that it would give the document among the present grades of the others
    (Cai et al. 2025). There are eleven grades, so the expected reward is exact and nothing is
    drawn.

    Differs from the paper: a net of two layers over seven features in place of a language model
    that thinks, so that it learns on a CPU in seconds; no thoughts are imitated; the reward is
    reconstructed.
    """

    hidden: int = 32
    """Units of the hidden layer."""
    list_reward: bool = True
    """Learn by the list's reward after the grades."""

    highest_: float = field(init=False, repr=False)
    """Highest gain of the lists learned from; it has grade 10."""

    def _learn(self, lists: Sequence[Example], data: Dataset, run: Run) -> dict[str, Any]:
        self.highest_ = max((float(example.gains.max()) for example in lists), default=1.0) or 1.0
        return super()._learn(lists, data, run)

    def _make_net(self) -> nn.Module:
        return nn.Sequential(
            nn.Linear(len(NAMES), self.hidden), nn.GELU(), nn.Linear(self.hidden, GRADES)
        )

    def _stages(self) -> Mapping[str, ListLoss]:
        stages: dict[str, ListLoss] = {"grades": self._grade_loss}
        if self.list_reward:
            stages["list reward"] = self._reward_loss
        return stages

    def _grade_loss(self, features: np.ndarray, gains: Tensor) -> Tensor:
        """Return the cross-entropy of grades, relevant documents and others balanced."""
        target = (HIGHEST_GRADE * gains.clamp(min=0) / self.highest_).round().long()
        losses = nn.functional.cross_entropy(self._logits(features), target, reduction="none")
        return _balanced(losses, gains)

    def _reward_loss(self, features: np.ndarray, gains: Tensor) -> Tensor:
        """Return minus the expected reward of the present grades."""
        logits = self._logits(features)
        rewards = list_rewards(_expected(logits.detach()), gains, self.highest_)
        by_document = logits.softmax(dim=1) * rewards  # n, 11
        return -_balanced(by_document.sum(dim=1), gains)

    @torch.no_grad()
    def _list_scores(self, read: np.ndarray) -> np.ndarray:
        scores: np.ndarray = _expected(self._logits(read)).cpu().numpy().astype(np.float64)
        return scores

    @torch.no_grad()
    def _details(self, read: np.ndarray) -> dict[int, dict[str, Any]]:
        shares = self._logits(read).softmax(dim=1).cpu().numpy().astype(np.float64)
        return {doc: dict(grade_words(of_doc)) for doc, of_doc in enumerate(shares)}

    @property
    def _score_kind(self) -> str:
        return "grade"


def _expected(logits: Tensor) -> Tensor:
    """Return the expected grades (n,) of logits (n, 11)."""
    grades = torch.arange(GRADES, device=logits.device, dtype=logits.dtype)
    return logits.softmax(dim=1) @ grades


def _balanced(values: Tensor, gains: Tensor) -> Tensor:
    """Return the mean of the relevant documents' mean and the others' mean."""
    is_relevant = gains > 0
    parts = [values[mask] for mask in (is_relevant, ~is_relevant) if mask.any()]
    return torch.stack([part.mean() for part in parts]).mean()
