"""Training a net: one loop for every method that owns one.

Everything random in a step is drawn from (seed, key, epoch, batch): a run that was killed goes on
from its checkpoint to the very weights of an unbroken one, and several processes that share a group
of batches take the step that one process takes.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from tailor.core.run import Run
from tailor.errors import ModelError
from tailor.nn.checkpoints import read_checkpoint, write_checkpoint
from tailor.nn.devices import FORMATS, computing, device_for, format_for
from tailor.nn.optimizers import optimizers, sparse_tables
from tailor.scale.processes import (
    add_up,
    device_of,
    first_says,
    join,
    rank,
    sum_of_rows,
    world_size,
)

Batch = TypeVar("Batch")
SAVE_S = 60.0  # between two checkpoints


@dataclass(frozen=True)
class Recipe:
    """How a net is trained."""

    epochs: int
    lr: float
    """Highest step of AdamW; falls in a straight line to a hundredth over all epochs."""
    weight_decay: float = 0.0
    """Of matrices, not of biases and norms."""
    warmup: int = 0
    """Steps until lr is reached."""
    average: float = 0.0
    """Above 0, the weights used are a moving mean with this decay a step."""
    accumulate: int = 1
    """Batches a step."""
    patience: int | None = None
    """Validations without a better value before training stops; None: all epochs."""
    every: int = 1
    """Epochs from one validation to the next."""

    def lr_at(self, step: int, done: float) -> float:
        """`done`: the share of all epochs that is over."""
        return (
            self.lr
            * min(1.0, (step + 1) / max(self.warmup, 1))
            * (0.01 + 0.99 * (1 - min(done, 1.0)))
        )


def fit_net(
    net: nn.Module,
    batches: Callable[[np.random.Generator], Sequence[Batch]],
    loss: Callable[[Batch, np.random.Generator], Tensor],
    run: Run,
    recipe: Recipe,
    validate: Callable[[], float] | None = None,
    key: str = "net",
) -> dict[str, Any]:
    """Train `net` in place; what comes back says how: epochs, steps, seconds, loss and validation
    value by epoch, why it stopped.

    `batches(rng)` are an epoch's batches, `loss(batch, rng)` the mean loss of one. `validate()` is
    called with the net ready for use; higher is better, and the weights of its best value are kept.
    With `run.checkpoints` the state is written there about once a minute under `key`, which must
    tell this run from any other. Started in several processes, each takes its share of every step.
    Raises ModelError where a loss is not finite, and for a device that is not there.
    """
    started = time.perf_counter()
    with computing(run.seed, run.workers):
        training = _Training(net, run, recipe, validate, key)
        first = batches(run.rng(key, training.epoch))
        for _ in run.progress(
            training.steps(first, batches, loss), training.describe, training.left(len(first))
        ):
            if run.deadline_s is not None and first_says(
                time.perf_counter() - started > run.deadline_s, training.device
            ):
                training.stopped = "deadline"
                break
        return {**training.finish(), "seconds": round(time.perf_counter() - started, 2)}


class _Training:
    """The state of one run, which a checkpoint holds, and the steps that change it."""

    def __init__(
        self,
        net: nn.Module,
        run: Run,
        recipe: Recipe,
        validate: Callable[[], float] | None,
        key: str,
    ) -> None:
        self.device = device_for(device_of(run.device))
        join(run.device)
        self.net, self.run, self.recipe, self.validate, self.key = (
            net.to(self.device).train(),
            run,
            recipe,
            validate,
            key,
        )
        self.format = (torch.float32, torch.bfloat16)[
            int(first_says(format_for(run.dtype, self.device) == torch.bfloat16, self.device))
        ]
        self.params = {name: param for name, param in net.named_parameters() if param.requires_grad}
        persistent = set(net.state_dict())
        self.buffers = {  # moments of batch norm and the like, which belong to the weights
            name: buffer for name, buffer in net.named_buffers() if name in persistent
        }
        self.optimizers = optimizers(net, recipe.lr, recipe.weight_decay)
        self.tables = sparse_tables(net)
        self.mean = (
            {name: param.detach().clone() for name, param in self.params.items()}
            if recipe.average
            else {}
        )
        self.best: dict[str, Tensor] = {}
        self.epoch, self.group, self.step = 0, 0, 0
        self.loss, self.losses = torch.zeros((), device=self.device), []  # type: ignore[var-annotated]  # sum in this epoch; means of those before
        self.values: list[tuple[int, float]] = []  # epochs done, what validate said then
        self.stopped = ""
        self.path = None if run.checkpoints is None else run.checkpoints / f"{key}.safetensors"
        if self.path is not None and self.path.exists():
            self._restore(read_checkpoint(self.path))
        if first_says(self.step, self.device) != self.step:
            raise ModelError(
                f"{self.path}: other processes go on from another step: give all of them one"
                " folder, or delete it"
            )
        self.saved_at = time.monotonic()

    def left(self, batches: int) -> int:
        """Steps that are still to do, should every epoch have that many batches."""
        each = math.ceil(batches / (self.recipe.accumulate * world_size()))
        return max(0, self.recipe.epochs - self.epoch) * each - self.group

    def describe(self) -> str:
        """What a progress bar says."""
        value = f", validation {self.values[-1][1]:.4f}" if self.values else ""
        loss = f", loss {self.losses[-1]:.3f}" if self.losses else ""
        return f"training, epoch {self.epoch + 1} of {self.recipe.epochs}{loss}{value}"

    def steps(
        self,
        first: Sequence[Any],
        batches: Callable[..., Sequence[Any]],
        loss: Callable[..., Tensor],
    ) -> Iterator[int]:
        """One step after the other, until all epochs are done or validation has not gained for long
        enough; `first`: this epoch's batches.
        """
        size, made = self.recipe.accumulate * world_size(), first
        while self.epoch < self.recipe.epochs and not self.stopped:
            groups = math.ceil(len(made) / size)
            while self.group < groups:
                start = self.group * size
                self._take(
                    made,
                    range(start, min(start + size, len(made))),
                    loss,
                    (self.epoch + self.group / groups) / self.recipe.epochs,
                )
                self.group += 1
                self.step += 1
                self._save_sometimes()
                yield self.step
            self._end_epoch(max(groups, 1))
            if self.epoch < self.recipe.epochs and not self.stopped:
                made = batches(self.run.rng(self.key, self.epoch))

    def _take(
        self, made: Sequence[Any], group: range, loss: Callable[..., Tensor], done: float
    ) -> None:
        """One step down the mean gradient of a group of batches, of which each process takes every
        n-th.
        """
        summed = torch.zeros((), device=self.device)
        for i in group[rank() :: world_size()]:
            rng = self.run.rng(self.key, self.epoch, i)
            torch.manual_seed(int(rng.integers(2**62)))
            with torch.autocast(
                self.device.type, self.format, enabled=self.format != torch.float32
            ):
                value = loss(made[i], rng) / len(group)
            value.backward()
            summed += value.detach()
        if world_size() > 1:
            self._share(summed)
        self.loss += summed
        if self.device.type == "cpu" or self.step % 50 == 0:  # reading a number makes a GPU wait
            self._check()
        for optimizer in self.optimizers:
            for settings in optimizer.param_groups:
                settings["lr"] = self.recipe.lr_at(self.step, done)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if self.mean:
            decay = min(self.recipe.average, (self.step + 1) / (self.step + 10))
            torch._foreach_lerp_(
                [self.mean[name] for name in self.params],
                [param.detach() for param in self.params.values()],
                1 - decay,
            )

    def _share(self, loss: Tensor) -> None:
        """Loss and gradients of this step become their sums over all processes."""
        dense = [param for param in self.params.values() if id(param) not in self.tables]
        for param in dense:
            param.grad = torch.zeros_like(param) if param.grad is None else param.grad
        add_up([loss, *(param.grad for param in dense if param.grad is not None)])
        for param in self.params.values():
            if id(param) in self.tables:
                param.grad = sum_of_rows(param.grad, param)

    def _share_buffers(self) -> None:
        """Replace floating-point buffers by their means over all processes."""
        shared = [buffer for buffer in self.buffers.values() if buffer.is_floating_point()]
        add_up(shared)
        for buffer in shared:
            buffer.div_(world_size())

    def _check(self) -> None:
        if not torch.isfinite(self.loss):
            where = f"step {self.step + 1} (epoch {self.epoch + 1})"
            raise ModelError(
                f"the loss is {self.loss.item()} at {where}: lower lr, which is"
                f" {self.recipe.lr:g}{self._kept()}"
            )

    def _kept(self) -> str:
        return (
            f"; the last good state is in {self.path}"
            if self.path is not None and self.path.exists()
            else ""
        )

    def _end_epoch(self, groups: int) -> None:
        self._check()
        self.losses.append(float(self.loss) / groups)
        self.loss.zero_()
        self.epoch, self.group = self.epoch + 1, 0
        self._share_buffers()
        if self.validate is None or (
            self.epoch % self.recipe.every and self.epoch < self.recipe.epochs
        ):
            return
        value = self._validated()
        if not self.values or value > max(one for _, one in self.values):
            best = (self.mean or self.params) | self.buffers
            self.best = {name: tensor.detach().clone() for name, tensor in best.items()}
        self.values.append((self.epoch, value))
        self.run.watch(self.epoch, value)
        since = len(self.values) - 1 - int(np.argmax([one for _, one in self.values]))
        if self.recipe.patience is not None and since >= self.recipe.patience:
            self.stopped = f"no better value in {since} validations"

    def _validated(self) -> float:
        assert self.validate is not None
        current = (
            {name: param.detach().clone() for name, param in self.params.items()}
            if self.mean
            else {}
        )
        self._put(self.mean)
        self.net.eval()
        with torch.no_grad():
            value = first_says(float(self.validate()), self.device)
        self.net.train()
        self._put(current)
        return value

    def _put(self, weights: dict[str, Tensor]) -> None:
        with torch.no_grad():
            tensors = self.params | self.buffers
            for name, weight in weights.items():
                tensors[name].copy_(weight)

    def finish(self) -> dict[str, Any]:
        """Leave the net with its best weights, and say what was done."""
        self._put(self.best or self.mean)
        self.net.eval()
        if self.path is not None and rank() == 0:
            self.path.unlink(missing_ok=True)
        best = max(self.values, key=lambda one: one[1])[0] if self.values else self.epoch
        return {
            "epochs": self.epoch,
            "best_epoch": best,
            "steps": self.step,
            "stopped": self.stopped or "all epochs done",
            "dtype": _name(self.format),
            "device": str(self.device),
            "loss": [round(one, 5) for one in self.losses],
            "validation": [[epoch, round(one, 6)] for epoch, one in self.values],
        }

    def _save_sometimes(self) -> None:
        if self.path is None or rank() or time.monotonic() - self.saved_at < SAVE_S:
            return
        self._check()
        if not all(torch.isfinite(param).all() for param in self.params.values()):
            raise ModelError(
                f"a weight is not finite after step {self.step}: lower lr, which is"
                f" {self.recipe.lr:g}{self._kept()}"
            )
        tensors = {f"param:{name}": param.detach() for name, param in self.params.items()}
        tensors |= {f"buffer:{name}": tensor for name, tensor in self.buffers.items()}
        tensors |= {f"mean:{name}": tensor for name, tensor in self.mean.items()} | {
            f"best:{name}": tensor for name, tensor in self.best.items()
        }
        for i, optimizer in enumerate(self.optimizers):
            for j, state in optimizer.state_dict()["state"].items():
                tensors |= {
                    f"optimizer:{i}:{j}:{name}": torch.as_tensor(value)
                    for name, value in state.items()
                }
        write_checkpoint(
            self.path,
            tensors | {"loss": self.loss},
            {
                "epoch": self.epoch,
                "group": self.group,
                "step": self.step,
                "losses": self.losses,
                "values": self.values,
                "format": _name(self.format),
                "processes": world_size(),
            },
        )
        self.saved_at = time.monotonic()

    def _restore(self, saved: tuple[dict[str, Tensor], dict[str, Any]]) -> None:
        tensors, plain = saved
        if plain["processes"] != world_size():
            then = f"{plain['processes']} process{'es' if plain['processes'] > 1 else ''}"
            raise ModelError(
                f"the checkpoint {self.path} was made by {then}, and there are {world_size()} now:"
                " start as many, or delete it"
            )
        if self.run.dtype not in ("auto", plain["format"]):
            raise ModelError(
                f"the checkpoint {self.path} was made in {plain['format']}, and dtype is now"
                f" {self.run.dtype}: ask for the same, or delete it"
            )
        self.format = FORMATS[plain["format"]]
        kinds = ("param", "buffer", "mean", "best", "optimizer")
        parts: dict[str, dict[str, Tensor]] = {kind: {} for kind in kinds}
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(":")
            if rest:
                parts[kind][rest] = tensor.to(self.device)
        if {name: param.shape for name, param in self.params.items()} != {
            name: one.shape for name, one in parts["param"].items()
        }:
            raise ModelError(
                f"the checkpoint {self.path} holds another net than this one: delete it to begin"
                " anew"
            )
        self._put(parts["param"] | parts["buffer"])
        self.mean, self.best, self.loss = (
            parts["mean"],
            parts["best"],
            tensors["loss"].to(self.device),
        )
        for i, optimizer in enumerate(self.optimizers):
            state = optimizer.state_dict()
            for name, tensor in parts["optimizer"].items():
                of, j, field = name.split(":")
                if int(of) == i:
                    # a count as it was, else float32 powers of it
                    whole = tensor if tensor.is_floating_point() else tensor.item()
                    state["state"].setdefault(int(j), {})[field] = whole
            optimizer.load_state_dict(state)
        self.epoch, self.group, self.step = plain["epoch"], plain["group"], plain["step"]
        self.losses, self.values = (
            plain["losses"],
            [(epoch, value) for epoch, value in plain["values"]],
        )


def _name(kind: torch.dtype) -> str:
    return str(kind).removeprefix("torch.")
