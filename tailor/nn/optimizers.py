"""Optimizers of a net: AdamW, and its sparse form for tables of which a batch reads few rows."""

import torch
from torch import nn


def optimizers(net: nn.Module, lr: float, weight_decay: float) -> list[torch.optim.Optimizer]:
    """Return fused AdamW for dense weights, and SparseAdam for tables with sparse gradients.

    `weight_decay` applies to matrices only. SparseAdam updates only the rows that a batch used.
    """
    sparse_ids = sparse_tables(net)
    params = [param for param in net.parameters() if param.requires_grad]
    dense = [param for param in params if id(param) not in sparse_ids]
    sparse = [param for param in params if id(param) in sparse_ids]
    groups = [
        {"params": [param for param in dense if param.ndim > 1], "weight_decay": weight_decay},
        {"params": [param for param in dense if param.ndim <= 1], "weight_decay": 0.0},
    ]
    result: list[torch.optim.Optimizer] = []
    if dense:
        groups = [group for group in groups if group["params"]]
        result.append(torch.optim.AdamW(groups, lr=lr, fused=True))
    if sparse:
        result.append(torch.optim.SparseAdam(sparse, lr=lr))
    return result


def sparse_tables(net: nn.Module) -> set[int]:
    """Return the `id` of the weight of every embedding table with sparse gradients."""
    return {
        id(part.weight) for part in net.modules() if isinstance(part, nn.Embedding) and part.sparse
    }
