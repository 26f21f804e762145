"""Teach a language model in memory: all of its weights, low-rank additions, or prompt vectors."""

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from tailor.core.run import Run
from tailor.errors import ModelError
from tailor.llm.lora import LoRA, fit_pairs
from tailor.llm.torch_model import TokenPair, TorchModel
from tailor.nn.fitting import Recipe
from tailor.ports.base import Completion

Mode = Literal["full", "lora", "prompt vectors"]
RATES: dict[str, float] = {"full": 2e-3, "lora": 2e-3, "prompt vectors": 3e-2}
"""Peak learning rates by mode: the fewer weights learn, the larger their steps."""


@dataclass(frozen=True)
class Tuning:
    """Teaches a copy of a model by pairs of prompt and answer, in one of three modes.

    "full": every weight learns. "lora": low-rank additions learn (Hu et al. 2022). "prompt
    vectors": vectors before every prompt learn, the model itself stays (Lester et al. 2021). The
    loss is the mean cross-entropy of the answers' tokens and of the end. `LoRA.teach` keeps an
    adapter in a folder; what is taught here lives as long as the process.
    """

    mode: Mode = "lora"
    """Weights that learn."""
    vectors: int = 8
    """Number of prompt vectors."""
    rank: int = 8
    """Width of the low-rank additions."""
    lr: float | None = None
    """Peak learning rate, decaying linearly to 1 %; None: 2e-3, for prompt vectors 3e-2."""
    epochs: int = 3
    """Passes over all pairs."""
    batch_size: int = 16
    """Pairs a step."""

    def __post_init__(self) -> None:
        if self.mode not in RATES:
            raise ModelError(f'mode is "{self.mode}": one of {", ".join(RATES)}')
        sizes = (self.vectors, self.rank, self.epochs, self.batch_size)
        if min(sizes) < 1 or (self.lr is not None and self.lr <= 0):
            raise ModelError(
                f"vectors {self.vectors}, rank {self.rank}, epochs {self.epochs}, batch_size"
                f" {self.batch_size}, lr {self.lr}: at least 1 each, lr above 0"
            )

    def teach(
        self, model: TorchModel, prompts: Sequence[str], answers: Sequence[str], run: Run = Run()
    ) -> "TunedModel":
        """Return a copy of the model that was taught to answer as in the pairs.

        The model stays as it is. Raises ModelError for no pairs, and for answers that are empty or
        do not fit the context.
        """
        if not len(prompts) or len(prompts) != len(answers):
            raise ModelError(
                f"{len(prompts)} prompts and {len(answers)} answers: as many of both are needed,"
                " and at least one"
            )
        pairs = model.pairs(prompts, answers, extra=1 + self.vectors)
        end = model.end_token()
        pairs = [TokenPair(pair.prompt, [*pair.answer, end]) for pair in pairs]
        network = self._learner(model, run)
        recipe = Recipe(self.epochs, self.lr or RATES[self.mode])
        report = fit_pairs(network, pairs, self.batch_size, end, run, recipe, key=self.mode)
        digest = hashlib.blake2b(repr((self, run.seed, pairs)).encode(), digest_size=10)
        settings = {name: getattr(model, name) for name in ("model", "device", "dtype", "system")}
        return TunedModel(
            **settings,
            context=model.context,
            batch_size=model.batch_size,
            network=network.eval(),
            digest=f"{model.fingerprint} {digest.hexdigest()}",
            report=report,
        )

    def _learner(self, model: TorchModel, run: Run) -> Any:
        """Return a copy of the model's network of which only the weights of the mode learn."""
        if self.mode == "lora":
            return LoRA(self.rank).adapted(model, run.seed)[1]
        network = model.fresh()[1]
        if self.mode == "full":
            return network.requires_grad_(True)
        return PromptVectors(network, self.vectors, run)


@dataclass(frozen=True)
class TunedModel(TorchModel):
    """A model taught in memory by `Tuning`. It cannot be saved: `LoRA.teach` writes adapters."""

    network: Any = field(default=None, repr=False, compare=False)
    """The network that was taught."""
    digest: str = ""
    """Hash of the base, the settings and the pairs."""
    report: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """Report of the training."""

    @property
    def fingerprint(self) -> str:
        return f"tuned {self.digest}"

    @property
    def learned(self) -> int:
        """The number of weights that learned."""
        weights = self._parts()[1].parameters()
        return sum(weight.numel() for weight in weights if weight.requires_grad)

    def _parts(self) -> tuple[Any, Any]:
        if self.network is None:
            raise ModelError("a TunedModel holds a network in memory: it comes from Tuning.teach")
        return super()._parts()[0], self.network

    def fresh(self) -> tuple[Any, Any]:
        """Return the tokenizer, and a copy of what was taught, to be taught further."""
        if isinstance(self._parts()[1], PromptVectors):
            raise ModelError("prompt vectors are taught to a model once: teach the model itself")
        tokenizer, network = self._parts()
        return tokenizer, copy.deepcopy(network).requires_grad_(False)

    def complete(self, prompts: Sequence[str], **settings: Any) -> list[Completion]:
        """Answer as `TorchModel` does; ModelError with prompt vectors, which only score."""
        if isinstance(self._parts()[1], PromptVectors):
            raise ModelError(
                "a model with prompt vectors writes no texts here: score closed answers"
            )
        return super().complete(prompts, **settings)


class PromptVectors(nn.Module):
    """A frozen network with learned vectors before every text."""

    def __init__(self, network: Any, count: int, run: Run) -> None:
        """Begin with the embeddings of words drawn at random."""
        super().__init__()
        self.network = network.requires_grad_(False)
        embeddings = network.get_input_embeddings().weight
        rows = run.rng("prompt vectors").integers(len(embeddings), size=count)
        self.vectors = nn.Parameter(embeddings[torch.from_numpy(rows)].detach().clone().float())

    @property
    def device(self) -> torch.device:
        return self.vectors.device

    def forward(
        self,
        ids: Tensor,
        attention_mask: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        past_key_values: Any = None,
        **settings: Any,
    ) -> Any:
        """Read texts (B, T) behind the vectors, or behind what was read before."""
        if past_key_values is not None:  # the vectors were read with it
            return self.network(
                ids,
                attention_mask=attention_mask,
                logits_to_keep=logits_to_keep,
                past_key_values=past_key_values,
                **settings,
            )
        count = len(self.vectors)
        embedded = self.network.get_input_embeddings()(ids)  # B, T, D
        first = self.vectors.to(embedded.dtype).expand(len(ids), -1, -1)
        if attention_mask is not None:
            attention_mask = nn.functional.pad(attention_mask, (count, 0), value=1)
        if isinstance(logits_to_keep, Tensor):
            logits_to_keep = logits_to_keep + count
        output = self.network(
            inputs_embeds=torch.cat([first, embedded], dim=1),
            attention_mask=attention_mask,
            logits_to_keep=logits_to_keep,
            **settings,
        )
        return output


def answer_losses(model: TorchModel, prompts: Sequence[str], answers: Sequence[str]) -> np.ndarray:
    """Return (n,) the mean cross-entropy per token of each answer, in nats."""
    counts = np.array([max(model.tokens(answer), 1) for answer in answers])
    losses: np.ndarray = -model.score(prompts, answers) / counts
    return losses
