"""Several processes that train one net: who am I, how many are we, and sums over all of us.

Started by `torchrun --nproc-per-node N -m tailor fit ...` (on several machines with its
`--nnodes`), which sets RANK and WORLD_SIZE.
"""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
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


def device_of(name: str) -> str:
    """The device of that name for this process: of several on one machine, each takes a GPU of its
    own for "cuda".
    """
    return (
        f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if name == "cuda" and world_size() > 1 else name
    )


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


def sum_of_rows(own: "Tensor | None", like: "Tensor") -> "Tensor":
    """The sum over all processes of sparse tensors of the shape of `like`, None for one without
    rows: only the rows that any of them has are sent.
    """
    import torch

    rows = (
        torch.empty(0, dtype=torch.long, device=like.device)
        if own is None
        else own.coalesce().indices()[0]
    )
    values = like.detach()[:0] if own is None else own.coalesce().values()
    counts = torch.zeros(world_size(), dtype=torch.long, device=like.device)
    counts[rank()] = len(rows)
    add_up([counts])
    most = int(counts.max())
    every_row = [rows.new_zeros(most) for _ in counts]
    every_value = [values.new_zeros(most, *like.shape[1:]) for _ in counts]
    mine = every_row[rank()].clone(), every_value[rank()].clone()
    mine[0][: len(rows)], mine[1][: len(rows)] = rows, values
    torch.distributed.all_gather(every_row, mine[0])
    torch.distributed.all_gather(every_value, mine[1])
    kept = [int(count) for count in counts]
    index = torch.cat([part[:n] for part, n in zip(every_row, kept, strict=True)])
    together = torch.cat([part[:n] for part, n in zip(every_value, kept, strict=True)])
    return torch.sparse_coo_tensor(index[None], together, like.shape).coalesce()


def first_says(value: float, device: "torch.device") -> float:
    """The value of the first process, for all: clocks, and the last bits of sums, differ."""
    if world_size() == 1:
        return value
    import torch

    # one size for all, whatever was given
    told = torch.tensor(float(value), dtype=torch.float32, device=device)
    torch.distributed.broadcast(told, 0)
    return float(told)
