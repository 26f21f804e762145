"""Several processes that train one net: rank, world size, and collective operations.

Started by `torchrun --nproc-per-node N -m tailor fit ...` (on several machines with its
`--nnodes`), which sets RANK and WORLD_SIZE. Every operation does nothing where there is one
process.
"""

import atexit
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def rank() -> int:
    """Return the number of this process, 0 where there is one."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Return the number of processes."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def init_process_group(device: str) -> None:
    """Connect to the other processes, unless they are connected already."""
    from torch import distributed

    if world_size() > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
        atexit.register(_leave_process_group)


def _leave_process_group() -> None:
    """Close the connections, whose threads would else end the process by a signal at its exit."""
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()


def device_of(name: str) -> str:
    """Return the device of this process: for "cuda", each process of a machine has its own GPU."""
    if name == "cuda" and world_size() > 1:
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    return name


def all_reduce(tensors: "Iterable[Tensor]") -> None:
    """Replace each tensor by its sum over all processes, in one message."""
    parts = list(tensors)
    if world_size() == 1 or not parts:
        return
    from torch import cat, distributed

    flat = cat([part.reshape(-1) for part in parts])
    distributed.all_reduce(flat)
    start = 0
    for part in parts:
        part.copy_(flat[start : start + part.numel()].view_as(part))
        start += part.numel()


def all_reduce_sparse(gradient: "Tensor | None", like: "Tensor") -> "Tensor":
    """Return the sum over all processes of sparse gradients of the shape of `like`.

    None is a gradient without rows. Only rows that some process has are sent.
    """
    import torch

    if gradient is None:
        rows = torch.empty(0, dtype=torch.long, device=like.device)
        values = like.detach()[:0]
    else:
        gradient = gradient.coalesce()
        rows, values = gradient.indices()[0], gradient.values()
    counts = torch.zeros(world_size(), dtype=torch.long, device=like.device)
    counts[rank()] = len(rows)
    all_reduce([counts])
    all_rows = _gather_padded(rows, counts)
    all_values = _gather_padded(values, counts)
    return torch.sparse_coo_tensor(all_rows[None], all_values, like.shape).coalesce()


def _gather_padded(tensor: "Tensor", counts: "Tensor") -> "Tensor":
    """Return the concatenated rows of all processes; `counts` are the rows of each.

    Each process sends as many rows as the largest has, since messages must be of one size.
    """
    import torch

    size = int(counts.max())
    padded = tensor.new_zeros(size, *tensor.shape[1:])
    padded[: len(tensor)] = tensor
    received = [torch.zeros_like(padded) for _ in counts]
    torch.distributed.all_gather(received, padded)
    return torch.cat([part[:n] for part, n in zip(received, counts.tolist(), strict=True)])


def broadcast(value: float, device: "torch.device") -> float:
    """Return the first process's value in all: clocks, and the last bits of sums, differ."""
    if world_size() == 1:
        return value
    import torch

    # one type for all, whatever the value's
    message = torch.tensor(float(value), dtype=torch.float32, device=device)
    torch.distributed.broadcast(message, 0)
    return float(message)
