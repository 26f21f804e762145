"""ProRank: a small language model learns to answer at all, then to answer finely."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from tailor.core.defaults import language_model
from tailor.core.methods import Paper
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.splits import Split
from tailor.errors import ModelError
from tailor.llm.fencing import fenced
from tailor.llm.grammars import YES_NO
from tailor.llm.lora import LoRA, Stage
from tailor.llm.torch_model import TorchModel, next_log_probs
from tailor.nn.policy import expected_reward, ranknet
from tailor.ports.base import LanguageModel
from tailor.reranking.examples import Example, examples
from tailor.reranking.llm_reranker import LLMReranker, StrategyName

PAPER = Paper(
    "prorank",
    "ProRank: Prompt Warmup via Reinforcement Learning for Small Language Models Reranking",
    "https://arxiv.org/abs/2506.03487",
    "Rewards bring a small model's probability onto the two answers of the prompt; after that the"
    " difference of the two logits can be taught to rank",
)
RIGHT_REWARD = 1.0  # of the right answer
FORM_REWARD = 0.2  # of either answer
NEGATIVES = 7  # hard negatives beside one relevant document
PROMPTS = 8  # of a batch of the warm-up
LABELS = YES_NO.labels(1)  # first the answer that says relevant


@dataclass(eq=False)
class ProRank(LLMReranker):
    """Teaches a small language model to judge documents, and ranks by how sure it is.

    A model of 135 million weights answers a reranking prompt with anything but yes or no. It is
    first rewarded until it keeps to the two answers, the right one above the other (Li et al.
    2025): with two answers and "anything else" the expected reward is exact, and nothing is drawn.
    Then the difference of the two logits is taught as a score, by InfoNCE over one relevant
    document and hard negatives, and RankNet. What is learned is an adapter of the last blocks in a
    folder of its own; the model stays.

    Differs from the paper: answers are yes and no (1 and 0 there); the shares of the reward are
    reconstructed; only the last blocks learn, so that it runs on a CPU. Without `adapter`, nothing
    is learned and the model is asked as it is.
    """

    strategy: StrategyName = "yes-no"
    """Always "yes-no": one document at a time."""
    reads: Literal["reply", "log-probs"] = "log-probs"
    """Whether the probabilities of the two answers count, or the written one."""
    budget: int = 240
    """Most tokens of a prompt, by an estimate above the truth; short ones learn faster."""
    adapter: str | None = None
    """Folder that `fit` writes the adapter to; None: nothing is learned."""
    warm_up: bool = True
    """Teach the two answers before the score."""
    pairs: int = 240
    """Most prompts of the warm-up, half of them of relevant documents."""
    groups: int = 40
    """Most groups of one relevant document and hard negatives that the score is taught by; 0: the
    warm-up alone."""
    tau: float = 1.0
    """Temperature of InfoNCE, in logits; the paper has .05 for its scale."""
    rank: int = 16
    """Width of the adapter's matrices."""
    blocks: int = 6
    """Last blocks that learn."""
    lr: float = 1e-3
    """Peak learning rate of AdamW; decays linearly to 1 % over each stage."""

    adapter_: str = field(init=False, repr=False)
    """Folder of the adapter; "" for none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        counts = (self.pairs, self.rank, self.blocks, self.groups + 1)
        if self.strategy != "yes-no" or min(counts) < 1 or min(self.tau, self.lr) <= 0:
            raise ModelError(
                f'strategy is "{self.strategy}", pairs {self.pairs}, groups {self.groups}, rank'
                f" {self.rank}, blocks {self.blocks}, tau {self.tau}, lr {self.lr}: ProRank judges"
                ' one by one (strategy = "yes-no"), groups are from 0, the others above 0'
            )
        if not self.warm_up and not self.groups:
            raise ModelError("warm_up is off and groups is 0: nothing would be taught")

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self._read_catalogue(data)
        self.adapter_ = ""
        if self.adapter is None:
            self.fit_report_ = {"learned": "nothing: adapter names no folder"}
            return
        lists = examples(self, data, run)
        if not lists:
            self.fit_report_ = {"learned": "nothing: no list has documents of different gains"}
            return
        model = self._teachable()
        lora = LoRA(self.rank, 2.0 * self.rank, blocks=self.blocks, lr=self.lr, epochs=1)
        stages = self._stages(model, lists, run)
        self.fit_report_ = lora.teach_by(model, stages, self.adapter, run, overwrite=True)
        self.adapter_ = self.adapter

    def _teachable(self) -> TorchModel:
        model = language_model(self.llm)
        if not isinstance(model, TorchModel):
            raise ModelError(
                f"llm is {type(model).__name__}: an adapter is taught to a TorchModel, such as"
                ' TorchModel("smollm2-135m"); or set adapter to None'
            )
        return model

    def _model(self) -> LanguageModel:
        folder = self.__dict__.get("adapter_", "")
        return replace(self._teachable(), adapter=folder) if folder else super()._model()

    def _stages(self, model: TorchModel, lists: Sequence[Example], run: Run) -> dict[str, Stage]:
        """Return the batches and losses of both stages."""
        judge = ClosedAnswers.of(model)
        stages: dict[str, Stage] = {}
        if self.warm_up:
            pairs = self._pairs(model, lists, run.rng("warm-up"))
            batches = [pairs[start : start + PROMPTS] for start in range(0, len(pairs), PROMPTS)]
            stages["warm-up"] = (batches, judge.warm_up_loss)
        if self.groups:
            groups = self._groups(model, lists, run.rng("groups"))
            stages["score"] = (groups, functools.partial(judge.score_loss, tau=self.tau))
        return stages

    def _pairs(
        self, model: TorchModel, lists: Sequence[Example], rng: np.random.Generator
    ) -> list[tuple[list[int], bool]]:
        """Return tokens of prompts, and whether their documents are relevant; half of them are."""
        pairs: list[tuple[list[int], bool]] = []
        while len(pairs) < self.pairs:
            for i in rng.permutation(len(lists)).tolist():
                example = lists[i]
                best = np.flatnonzero(example.gains == example.gains.max())
                others = np.flatnonzero(example.gains == example.gains.min())
                pairs += [(self._tokens(model, example, rng.choice(best)), True)]
                pairs += [(self._tokens(model, example, rng.choice(others)), False)]
        return pairs[: self.pairs]

    def _groups(
        self, model: TorchModel, lists: Sequence[Example], rng: np.random.Generator
    ) -> list[tuple[list[list[int]], list[float]]]:
        """Return tokens and gains of groups, the relevant document first.

        Hard negatives are the documents without gain that the first stage puts highest.
        """
        groups = []
        for i in rng.permutation(len(lists))[: self.groups].tolist():
            example = lists[i]
            best = rng.choice(np.flatnonzero(example.gains == example.gains.max()))
            others = np.flatnonzero(example.gains == example.gains.min())[:NEGATIVES]
            docs = [best, *others]
            groups.append(
                (
                    [self._tokens(model, example, doc) for doc in docs],
                    [float(example.gains[doc]) for doc in docs],
                )
            )
        return groups

    def _tokens(self, model: TorchModel, example: Example, doc: int) -> list[int]:
        """Return the tokens of the prompt about one document, as it is asked later."""
        texts = [fenced("")] * len(example.shortlist)
        texts[doc] = fenced(example.shortlist.texts[doc])
        return model.prompt_ids(self.prompt(example.shortlist, (int(doc),), texts).text)


@dataclass(frozen=True, eq=False)
class ClosedAnswers:
    """The two answers of a prompt, and anything else, as logits of a network."""

    labels: tuple[int, int]
    """First tokens of the answers for relevant and not."""
    filler: int
    """Token behind shorter prompts."""

    @classmethod
    def of(cls, model: TorchModel) -> Self:
        """Return those of a model. Raises ModelError where the answers begin alike."""
        yes, no = (model.pairs([""], [label])[0].answer[0] for label in LABELS)
        if yes == no:
            raise ModelError(
                f"{LABELS[0]!r} and {LABELS[1]!r} begin with one token in {model.model!r}: take"
                " another model"
            )
        return cls((yes, no), model.end_token())

    def logits(self, network: Any, prompts: Sequence[list[int]]) -> Tensor:
        """Return log-probabilities (B, 3) of relevant, not relevant, anything else."""
        log_probs = next_log_probs(network, prompts, self.filler)
        closed = log_probs[:, list(self.labels)]
        other = torch.log1p(-closed.exp().sum(dim=1, keepdim=True).clamp(max=1 - 1e-6))
        return torch.cat([closed, other], dim=1)

    def warm_up_loss(self, network: Any, pairs: Sequence[tuple[list[int], bool]]) -> Tensor:
        """Return minus the exact expected reward of pairs of prompt and relevance."""
        logits = self.logits(network, [prompt for prompt, _ in pairs])
        rewards = torch.tensor(
            [
                [
                    FORM_REWARD + RIGHT_REWARD * is_relevant,
                    FORM_REWARD + RIGHT_REWARD * (not is_relevant),
                    0.0,
                ]
                for _, is_relevant in pairs
            ],
            device=logits.device,
        )
        return -expected_reward(logits, rewards)

    def score_loss(
        self, network: Any, group: tuple[list[list[int]], list[float]], tau: float
    ) -> Tensor:
        """Return InfoNCE of the first document of a group, plus RankNet."""
        prompts, gains = group
        logits = self.logits(network, prompts)
        scores = logits[:, 0] - logits[:, 1]  # B
        info_nce = -(scores / tau).log_softmax(dim=0)[0]
        return info_nce + ranknet(scores, torch.tensor(gains, device=scores.device))
