"""Several processes that train one net: who am I, how many are we, and sums over all of us.

Started by `torchrun --nproc-per-node N -m tailor fit ...` (on several machines with its `--nnodes`), which sets RANK and WORLD_SIZE.
"""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def rank() -> int:
    """The number of this process, 0 where there is one."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def join(device: str) -> None:
    """Meet the other processes; does nothing where there is one or all have met."""
    from torch import distributed

    if world_size() > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")


def add_up(tensors: "Iterable[Tensor]") -> None:
    """Replace each tensor by its sum over all processes, in one message."""
    if world_size() == 1:
        return
    from torch import cat, distributed

    parts = list(tensors)
    flat = cat([part.reshape(-1) for part in parts])
    distributed.all_reduce(flat)
    start = 0
    for part in parts:
        part.copy_(flat[start : start + part.numel()].view_as(part))
        start += part.numel()
