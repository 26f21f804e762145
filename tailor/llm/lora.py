"""Teach a language model from pairs of prompt and answer, by low-rank additions (LoRA)."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from tailor.core.run import Run
from tailor.data.sampling import shuffled_batches
from tailor.errors import MissingExtraError, ModelError
from tailor.llm.adapters import adapter_digest, write_adapter
from tailor.llm.torch_model import TokenPair, TorchModel, answer_log_probs

if TYPE_CHECKING:
    from tailor.nn.fitting import Recipe

Stage = tuple[Sequence[Any], Callable[[Any, Any], Any]]
"""Batches, and a loss of the network and one of them, as a tensor."""


@dataclass(frozen=True)
class LoRA:
    """Two thin matrices beside some matrices of a model learn; the model stays.

    The loss is the mean cross-entropy of the answers' tokens, and of the mark that ends them (Hu et
    al. 2022); prompts are formatted as `TorchModel` formats them. The result is a folder for
    `TorchModel(adapter=...)`: it belongs to the weights it was taught to, and to this reader of
    them (`LocalModel` takes none).
    """

    rank: int = 8
    """Width of the thin matrices."""
    alpha: float = 16.0
    """Scale of the additions: they are multiplied by alpha / rank."""
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    """Names of the linear layers that get thin matrices."""
    blocks: int | None = None
    """Last blocks of the model that get thin matrices; None: all. Fewer learn less and faster."""
    dropout: float = 0.0
    """Share of the thin matrices' input zeroed while learning."""
    lr: float = 1e-3
    """Peak learning rate; linear decay to 1 %."""
    epochs: int = 5
    """Passes over all pairs."""
    batch_size: int = 4
    """Pairs a step."""

    def __post_init__(self) -> None:
        for name in ("rank", "epochs", "batch_size", "blocks"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ModelError(f"{name} is {value}: it must be at least 1")
        if not (self.alpha > 0 and self.lr > 0 and 0 <= self.dropout < 1 and self.targets):
            raise ModelError(
                f"alpha is {self.alpha}, lr {self.lr}, dropout {self.dropout}, targets"
                f" {self.targets}: above 0, above 0, from 0 to below 1, at least one name"
            )

    def teach(
        self,
        model: TorchModel,
        prompts: Sequence[str],
        answers: Sequence[str],
        folder: str | Path,
        run: Run = Run(),
        overwrite: bool = False,
    ) -> dict[str, Any]:
        """Teach `model` to answer as in the pairs and write the adapter to `folder`.

        Returns the training report with the adapter's hash. The same pairs, settings and seed give
        the same adapter on one machine. A deadline ends training and keeps what was learned until
        then. Raises ModelError for no pairs, for answers that are empty or do not fit the model's
        context, for targets that the model lacks, and where the folder exists already.
        """
        folder = Path(folder)
        if not len(prompts) or len(prompts) != len(answers):
            raise ModelError(
                f"{len(prompts)} prompts and {len(answers)} answers: as many of both are needed,"
                " and at least one"
            )
        check_target(model, folder, overwrite)
        pairs = model.pairs(prompts, answers, extra=1)
        from tailor.nn.fitting import Recipe

        tokenizer, network = self.adapted(model, run.seed)
        end = tokenizer.eos_token_id
        pairs = [TokenPair(pair.prompt, [*pair.answer, end]) for pair in pairs]
        recipe = Recipe(self.epochs, self.lr)
        report = fit_pairs(network, pairs, self.batch_size, end, run, recipe, key="lora")
        self._write(model, network, {"pairs": len(pairs), **report}, folder, run, overwrite)
        return {"adapter": adapter_digest(folder), **report}

    def teach_by(
        self,
        model: TorchModel,
        stages: Mapping[str, Stage],
        folder: str | Path,
        run: Run = Run(),
        overwrite: bool = False,
    ) -> dict[str, Any]:
        """Teach `model` by losses of one's own, stage by stage, and write the adapter to `folder`.

        Every stage takes `epochs` passes over its batches in random order. Returns the reports by
        stage, with the adapter's hash. Raises ModelError as `teach` does.
        """
        folder = Path(folder)
        check_target(model, folder, overwrite)
        _, network = self.adapted(model, run.seed)
        reports = {
            name: self._train_stage(network, stage, f"lora-{name}", run)
            for name, stage in stages.items()
        }
        self._write(model, network, {"stages": reports}, folder, run, overwrite)
        return {"adapter": adapter_digest(folder), **reports}

    def _train_stage(self, network: Any, stage: Stage, key: str, run: Run) -> dict[str, Any]:
        from tailor.nn.fitting import Recipe, fit_net

        items, stage_loss = stage

        def batches(rng: np.random.Generator) -> list[Any]:
            return [items[i] for i in rng.permutation(len(items)).tolist()]

        def loss(item: Any, rng: np.random.Generator) -> Any:
            return stage_loss(network, item)

        return fit_net(network, batches, loss, run, Recipe(self.epochs, self.lr), key=key)

    def _write(
        self,
        model: TorchModel,
        network: Any,
        report: Mapping[str, Any],
        folder: Path,
        run: Run,
        overwrite: bool,
    ) -> None:
        record = {
            "base": model.base_digest(),
            "system": model.system,
            "seed": run.seed,
            **dataclasses.asdict(self),
            **report,
        }
        write_adapter(folder, network, record, overwrite)

    def adapted(self, model: TorchModel, seed: int) -> tuple[Any, Any]:
        """Return the tokenizer, and a copy of the network whose additions are still zero."""
        try:
            import torch
            from peft import LoraConfig, get_peft_model
        except ModuleNotFoundError as error:
            raise MissingExtraError(
                "adapters need the package peft: pip install 'tailor-engine[llm]'"
            ) from error
        tokenizer, network = model.fresh()
        linear_layers = {
            name.rpartition(".")[2]
            for name, part in network.named_modules()
            if isinstance(part, torch.nn.Linear)
        }
        unknown = [name for name in self.targets if name not in linear_layers]
        if unknown:
            raise ModelError(
                f"targets names {unknown[0]!r}: the model's linear layers are"
                f" {', '.join(sorted(linear_layers))}"
            )
        settings = LoraConfig(  # alpha is an int by its type and a number by its use
            r=self.rank,
            lora_alpha=cast(int, self.alpha),
            target_modules=list(self.targets),
            layers_to_transform=self._learning_blocks(network),
            lora_dropout=self.dropout,
            task_type="CAUSAL_LM",
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            adapted = get_peft_model(network, settings)
        adapted.peft_config["default"].base_model_name_or_path = model.model
        return tokenizer, adapted

    def _learning_blocks(self, network: Any) -> list[int] | None:
        """Return the numbers of the blocks that learn; None for all."""
        if self.blocks is None:
            return None
        count = int(network.config.num_hidden_layers)
        return list(range(max(count - self.blocks, 0), count))


def fit_pairs(
    network: Any,
    pairs: Sequence[TokenPair],
    batch_size: int,
    filler: int,
    run: Run,
    recipe: "Recipe",
    key: str,
) -> dict[str, Any]:
    """Train a network by the cross-entropy of the pairs' answers, and return a report."""
    from tailor.nn.fitting import fit_net

    def batches(rng: np.random.Generator) -> list[list[TokenPair]]:
        parts = shuffled_batches(len(pairs), batch_size, rng)
        return [[pairs[i] for i in part] for part in parts]

    def loss(batch: list[TokenPair], rng: np.random.Generator) -> Any:
        tokens = sum(len(pair.answer) for pair in batch)
        return -answer_log_probs(network, batch, filler).sum() / tokens

    return fit_net(network, batches, loss, run, recipe, key=key)


def check_target(model: TorchModel, folder: Path, overwrite: bool) -> None:
    """Raise ModelError where a folder exists already, or a model has an adapter."""
    if folder.exists() and not overwrite:
        raise ModelError(
            f"{folder} is there already: choose another name, remove it, or pass overwrite"
        )
    if model.adapter is not None:
        raise ModelError(
            f"the model has the adapter {model.adapter!r} already: teach the model without one"
        )
