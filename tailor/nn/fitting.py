"""Train a net: one loop for every method that owns one.

Everything random in a step is drawn from (seed, key, epoch, batch). A run that was killed continues
from its checkpoint to exactly the weights of an uninterrupted run, and several processes that share
a group of batches take the same step as one process.
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
from tailor.nn.devices import FORMATS, computing, device_for, format_for, threads_for
from tailor.nn.optimizers import optimizers, sparse_tables
from tailor.scale.processes import (
    all_reduce,
    all_reduce_sparse,
    broadcast,
    device_of,
    init_process_group,
    rank,
    world_size,
)

Batch = TypeVar("Batch")
SAVE_S = 60.0  # seconds between two checkpoints
GPU_CHECK_STEPS = 50  # steps between checks of the loss on a GPU, which has to wait for each
LAST_LR = 0.01  # share of the peak learning rate at the end of training


@dataclass(frozen=True)
class Recipe:
    """Settings of a training."""

    epochs: int
    """Passes over the data, at most."""
    lr: float
    """Peak learning rate of AdamW; decays linearly to 1 % over all epochs."""
    weight_decay: float = 0.0
    """Weight decay of matrices; biases and norms have none."""
    warmup: int = 0
    """Steps over which the learning rate rises to its peak."""
    ema_decay: float = 0.0
    """Decay per step of an exponential moving average (EMA) of the weights; 0: no average.

    With an average, it is what is validated and kept.
    """
    accumulate: int = 1
    """Batches per step."""
    patience: int | None = None
    """Validations without a better value before training stops; None: all epochs."""
    every: int = 1
    """Epochs from one validation to the next."""

    def lr_at(self, step: int, progress: float) -> float:
        """Return the learning rate of a step; `progress` is the share of epochs done."""
        warm = min(1.0, (step + 1) / max(self.warmup, 1))
        return self.lr * warm * (LAST_LR + (1 - LAST_LR) * (1 - min(progress, 1.0)))


def fit_net(
    net: nn.Module,
    batches: Callable[[np.random.Generator], Sequence[Batch]],
    loss: Callable[[Batch, np.random.Generator], Tensor],
    run: Run,
    recipe: Recipe,
    validate: Callable[[], float] | None = None,
    key: str = "net",
) -> dict[str, Any]:
    """Train `net` in place, and return a report.

    The report holds epochs, steps, seconds, loss and validation value per epoch, and why training
    stopped.

    - `batches(rng)` returns the batches of one epoch, `loss(batch, rng)` the mean loss of one.
    - `validate()` is called with the net in evaluation mode; higher is better, and the weights of
      the best value are kept.
    - With `run.checkpoints`, the state is written there about once a minute under `key`, which must
      tell this run from any other.

    Started in several processes, each takes its share of every step. Raises ModelError where a loss
    is not finite, and for a device that cannot be used.
    """
    start = time.perf_counter()
    device = device_for(device_of(run.device))
    with computing(run.seed, threads_for(run.workers, device), device):
        training = _Training(net, run, recipe, validate, key)
        epoch_batches = batches(run.rng(key, training.epoch))
        steps = training.steps(epoch_batches, batches, loss)
        total = training.remaining_steps(len(epoch_batches))
        for _ in run.progress(steps, training.describe, total):
            if run.deadline_s is not None and broadcast(
                time.perf_counter() - start > run.deadline_s, training.device
            ):
                training.stopped = "deadline"
                break
        return {**training.finish(), "seconds": round(time.perf_counter() - start, 2)}


class _Training:
    """The state of one training, which a checkpoint holds, and the steps that change it."""

    def __init__(
        self,
        net: nn.Module,
        run: Run,
        recipe: Recipe,
        validate: Callable[[], float] | None,
        key: str,
    ) -> None:
        self.device = device_for(device_of(run.device))
        init_process_group(run.device)
        self.net = net.to(self.device).train()
        self.run = run
        self.recipe = recipe
        self.validate = validate
        self.key = key
        self.format = self._shared_format()
        self.params = {name: param for name, param in net.named_parameters() if param.requires_grad}
        persistent = set(net.state_dict())
        self.buffers = {  # moments of batch norm and the like, which belong to the weights
            name: buffer for name, buffer in net.named_buffers() if name in persistent
        }
        self.optimizers = optimizers(net, recipe.lr, recipe.weight_decay)
        self.sparse_tables = sparse_tables(net)
        self.ema: dict[str, Tensor] = {}
        if recipe.ema_decay:
            self.ema = {name: param.detach().clone() for name, param in self.params.items()}
        self.best: dict[str, Tensor] = {}
        self.epoch = 0
        self.group = 0  # groups of batches done in this epoch
        self.step = 0
        self.loss = torch.zeros((), device=self.device)  # sum over this epoch's groups
        self.losses: list[float] = []  # mean of each earlier epoch
        self.values: list[tuple[int, float]] = []  # epochs done, validation value then
        self.stopped = ""
        self.path = None if run.checkpoints is None else run.checkpoints / f"{key}.safetensors"
        self._restore_if_saved()
        self.saved_at = time.monotonic()

    def _shared_format(self) -> torch.dtype:
        """Return the number format; each process measures it, and all take the first one's."""
        is_bfloat16 = format_for(self.run.dtype, self.device) == torch.bfloat16
        return torch.bfloat16 if broadcast(is_bfloat16, self.device) else torch.float32

    def remaining_steps(self, batches: int) -> int:
        """Return the steps left, if every epoch has that many batches."""
        per_epoch = math.ceil(batches / (self.recipe.accumulate * world_size()))
        return max(0, self.recipe.epochs - self.epoch) * per_epoch - self.group

    def describe(self) -> str:
        """Return the text of the progress bar."""
        value = f", validation {self.values[-1][1]:.4f}" if self.values else ""
        loss = f", loss {self.losses[-1]:.3f}" if self.losses else ""
        return f"training, epoch {self.epoch + 1} of {self.recipe.epochs}{loss}{value}"

    def steps(
        self,
        epoch_batches: Sequence[Any],
        batches: Callable[..., Sequence[Any]],
        loss: Callable[..., Tensor],
    ) -> Iterator[int]:
        """Take one step after the other, until all epochs are done or patience runs out.

        `epoch_batches` are the batches of the present epoch.
        """
        size = self.recipe.accumulate * world_size()
        while self.epoch < self.recipe.epochs and not self.stopped:
            groups = math.ceil(len(epoch_batches) / size)
            while self.group < groups:
                start = self.group * size
                group = range(start, min(start + size, len(epoch_batches)))
                progress = (self.epoch + self.group / groups) / self.recipe.epochs
                self._take_step(epoch_batches, group, loss, progress)
                self.group += 1
                self.step += 1
                self._save_if_due()
                yield self.step
            self._end_epoch(max(groups, 1))
            if self.epoch < self.recipe.epochs and not self.stopped:
                epoch_batches = batches(self.run.rng(self.key, self.epoch))

    def _take_step(
        self,
        epoch_batches: Sequence[Any],
        group: range,
        loss: Callable[..., Tensor],
        progress: float,
    ) -> None:
        """Take one step along the mean gradient of a group of batches.

        Of n processes each computes every n-th batch of the group.
        """
        group_loss = torch.zeros((), device=self.device)
        for i in group[rank() :: world_size()]:
            group_loss += self._backward(epoch_batches[i], i, loss, len(group))
        if world_size() > 1:
            self._reduce_gradients(group_loss)
        self.loss += group_loss
        # reading a number makes a GPU wait
        if self.device.type == "cpu" or self.step % GPU_CHECK_STEPS == 0:
            self._check_loss()
        for optimizer in self.optimizers:
            for settings in optimizer.param_groups:
                settings["lr"] = self.recipe.lr_at(self.step, progress)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if self.ema:
            decay = min(self.recipe.ema_decay, (self.step + 1) / (self.step + 10))
            averages = [self.ema[name] for name in self.params]
            current = [param.detach() for param in self.params.values()]
            torch._foreach_lerp_(averages, current, 1 - decay)

    def _backward(
        self, batch: Any, number: int, loss: Callable[..., Tensor], group_size: int
    ) -> Tensor:
        """Add a batch's share of the group's gradient, and return its share of the loss."""
        rng = self.run.rng(self.key, self.epoch, number)
        torch.manual_seed(int(rng.integers(2**62)))
        is_mixed = self.format != torch.float32
        with torch.autocast(self.device.type, self.format, enabled=is_mixed):
            value = loss(batch, rng) / group_size
        value.backward()
        return value.detach()

    def _reduce_gradients(self, loss: Tensor) -> None:
        """Replace the loss and gradients of this step by their sums over all processes."""
        dense = [param for param in self.params.values() if id(param) not in self.sparse_tables]
        for param in dense:
            param.grad = torch.zeros_like(param) if param.grad is None else param.grad
        all_reduce([loss, *(param.grad for param in dense if param.grad is not None)])
        for param in self.params.values():
            if id(param) in self.sparse_tables:
                param.grad = all_reduce_sparse(param.grad, param)

    def _average_buffers(self) -> None:
        """Replace floating-point buffers by their means over all processes."""
        buffers = [buffer for buffer in self.buffers.values() if buffer.is_floating_point()]
        all_reduce(buffers)
        for buffer in buffers:
            buffer.div_(world_size())

    def _check_loss(self) -> None:
        """Raise ModelError where the loss of this epoch is not finite."""
        if not torch.isfinite(self.loss):
            step = f"step {self.step + 1} (epoch {self.epoch + 1})"
            raise ModelError(
                f"the loss is {self.loss.item()} at {step}: lower lr, which is"
                f" {self.recipe.lr:g}{self._last_good_state()}"
            )

    def _last_good_state(self) -> str:
        """Return the end of an error message that names the checkpoint, if there is one."""
        if self.path is None or not self.path.exists():
            return ""
        return f"; the last good state is in {self.path}"

    def _end_epoch(self, groups: int) -> None:
        """Close an epoch: record its loss, and validate if due."""
        self._check_loss()
        self.losses.append(float(self.loss) / groups)
        self.loss.zero_()
        self.epoch += 1
        self.group = 0
        self._average_buffers()
        is_due = self.epoch % self.recipe.every == 0 or self.epoch >= self.recipe.epochs
        if self.validate is not None and is_due:
            self._record(self._validation_value())

    def _record(self, value: float) -> None:
        """Record a validation value, keep the best weights, and stop in time."""
        if not self.values or value > max(earlier for _, earlier in self.values):
            weights = (self.ema or self.params) | self.buffers
            self.best = {name: tensor.detach().clone() for name, tensor in weights.items()}
        self.values.append((self.epoch, value))
        self.run.watch(self.epoch, value)
        best = int(np.argmax([earlier for _, earlier in self.values]))
        without_gain = len(self.values) - 1 - best
        if self.recipe.patience is not None and without_gain >= self.recipe.patience:
            self.stopped = f"no better value in {without_gain} validations"

    def _validation_value(self) -> float:
        """Return the validation value of the average weights, or of the present ones."""
        assert self.validate is not None
        current: dict[str, Tensor] = {}
        if self.ema:
            current = {name: param.detach().clone() for name, param in self.params.items()}
        self._copy_into_net(self.ema)
        self.net.eval()
        with torch.no_grad():
            value = broadcast(float(self.validate()), self.device)
        self.net.train()
        self._copy_into_net(current)
        return value

    def _copy_into_net(self, weights: dict[str, Tensor]) -> None:
        with torch.no_grad():
            tensors = self.params | self.buffers
            for name, weight in weights.items():
                tensors[name].copy_(weight)

    def finish(self) -> dict[str, Any]:
        """Leave the net with its best weights, and return the report."""
        self._copy_into_net(self.best or self.ema)
        self.net.eval()
        if self.path is not None and rank() == 0:
            self.path.unlink(missing_ok=True)
        best_epoch = self.epoch
        if self.values:
            best_epoch = max(self.values, key=lambda pair: pair[1])[0]
        return {
            "epochs": self.epoch,
            "best_epoch": best_epoch,
            "steps": self.step,
            "stopped": self.stopped or "all epochs done",
            "dtype": _format_name(self.format),
            "device": str(self.device),
            "threads": torch.get_num_threads(),
            "loss": [round(loss, 5) for loss in self.losses],
            "validation": [[epoch, round(value, 6)] for epoch, value in self.values],
        }

    def _save_if_due(self) -> None:
        """Write a checkpoint where SAVE_S have passed since the last one."""
        if self.path is None or rank() or time.monotonic() - self.saved_at < SAVE_S:
            return
        self._check_loss()
        if not all(torch.isfinite(param).all() for param in self.params.values()):
            raise ModelError(
                f"a weight is not finite after step {self.step}: lower lr, which is"
                f" {self.recipe.lr:g}{self._last_good_state()}"
            )
        plain = {
            "epoch": self.epoch,
            "group": self.group,
            "step": self.step,
            "losses": self.losses,
            "values": self.values,
            "format": _format_name(self.format),
            "threads": torch.get_num_threads(),
            "processes": world_size(),
        }
        write_checkpoint(self.path, self._checkpoint_tensors(), plain)
        self.saved_at = time.monotonic()

    def _checkpoint_tensors(self) -> dict[str, Tensor]:
        """Return the tensors of a checkpoint, by kind and name."""
        params = {name: param.detach() for name, param in self.params.items()}
        kinds = {"param": params, "buffer": self.buffers, "mean": self.ema, "best": self.best}
        tensors = {
            f"{kind}:{name}": tensor
            for kind, by_name in kinds.items()
            for name, tensor in by_name.items()
        }
        for i, optimizer in enumerate(self.optimizers):
            for j, state in optimizer.state_dict()["state"].items():
                for name, value in state.items():
                    tensors[f"optimizer:{i}:{j}:{name}"] = torch.as_tensor(value)
        return tensors | {"loss": self.loss}

    def _restore_if_saved(self) -> None:
        """Continue from the checkpoint, where there is one.

        Raises ModelError where the processes continue from different steps.
        """
        if self.path is not None and self.path.exists():
            self._restore(*read_checkpoint(self.path))
        if broadcast(self.step, self.device) != self.step:
            raise ModelError(
                f"{self.path}: other processes go on from another step: give all of them one"
                " folder, or delete it"
            )

    def _restore(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        """Continue from a checkpoint. Raises ModelError where it does not fit this training."""
        self._check_same_setup(plain)
        self.format = FORMATS[plain["format"]]
        # sums depend on the number of threads in their last bits
        torch.set_num_threads(plain.get("threads", torch.get_num_threads()))
        kinds = ("param", "buffer", "mean", "best", "optimizer")
        parts: dict[str, dict[str, Tensor]] = {kind: {} for kind in kinds}
        for key, tensor in tensors.items():
            kind, _, name = key.partition(":")
            if name:
                parts[kind][name] = tensor.to(self.device)
        shapes = {name: param.shape for name, param in self.params.items()}
        if shapes != {name: tensor.shape for name, tensor in parts["param"].items()}:
            raise ModelError(
                f"the checkpoint {self.path} holds another net than this one: delete it to begin"
                " anew"
            )
        self._copy_into_net(parts["param"] | parts["buffer"])
        self.ema = parts["mean"]
        self.best = parts["best"]
        self._restore_optimizers(parts["optimizer"])
        self.loss = tensors["loss"].to(self.device)
        self.epoch = plain["epoch"]
        self.group = plain["group"]
        self.step = plain["step"]
        self.losses = plain["losses"]
        self.values = [(epoch, value) for epoch, value in plain["values"]]

    def _check_same_setup(self, plain: dict[str, Any]) -> None:
        """Raise ModelError where a checkpoint has other processes or another number format."""
        if plain["processes"] != world_size():
            before = f"{plain['processes']} process{'es' if plain['processes'] > 1 else ''}"
            raise ModelError(
                f"the checkpoint {self.path} was made by {before}, and there are {world_size()}"
                " now: start as many, or delete it"
            )
        if self.run.dtype not in ("auto", plain["format"]):
            raise ModelError(
                f"the checkpoint {self.path} was made in {plain['format']}, and dtype is now"
                f" {self.run.dtype}: ask for the same, or delete it"
            )

    def _restore_optimizers(self, tensors: dict[str, Tensor]) -> None:
        """Load the state of the optimizers, whose tensors are named number:parameter:field."""
        for i, optimizer in enumerate(self.optimizers):
            state = optimizer.state_dict()
            for key, tensor in tensors.items():
                number, j, name = key.split(":")
                if int(number) == i:
                    # a count stays an int: its powers would else be taken in float32
                    value = tensor if tensor.is_floating_point() else tensor.item()
                    state["state"].setdefault(int(j), {})[name] = value
            optimizer.load_state_dict(state)


def _format_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
