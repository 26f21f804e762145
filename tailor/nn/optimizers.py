"""What moves the weights of a net: AdamW, and for tables of which a batch reads few rows its sparse
form.
"""

import torch
from torch import nn


def optimizers(net: nn.Module, lr: float, weight_decay: float) -> list[torch.optim.Optimizer]:
    """AdamW in one fused pass; rows of tables with sparse gradients are stepped where a batch
    touched them only.
    """
    rows, params = sparse_tables(net), [param for param in net.parameters() if param.requires_grad]
    dense = [param for param in params if id(param) not in rows]
    groups = [
        {"params": [one for one in dense if one.ndim > 1], "weight_decay": weight_decay},
        {"params": [one for one in dense if one.ndim <= 1], "weight_decay": 0.0},
    ]
    out: list[torch.optim.Optimizer] = (
        [torch.optim.AdamW([group for group in groups if group["params"]], lr=lr, fused=True)]
        if dense
        else []
    )
    sparse = [param for param in params if id(param) in rows]
    return out + ([torch.optim.SparseAdam(sparse, lr=lr)] if sparse else [])


def sparse_tables(net: nn.Module) -> set[int]:
    """The `id` of the weights of each table of which a step moves only the rows that were read."""
    return {
        id(part.weight) for part in net.modules() if isinstance(part, nn.Embedding) and part.sparse
    }
