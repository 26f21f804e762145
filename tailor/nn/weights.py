"""Weights of a net as arrays, and their names in models saved before."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

# segment of a weight's dotted name now -> in models saved before version 0.2
OLD_SEGMENTS = {
    # attention, feed-forward nets and transformer blocks
    "qkv_proj": "inward",
    "out_proj": "outward",
    "up_proj": "widen",
    "down_proj": "narrow",
    "norm1": "before",
    "norm2": "between",
    # HSTU blocks
    "uvqk_proj": "inward",
    "input_norm": "before",
    "output_norm": "after",
    # nets over fields
    "intercept": "shift",
    "coefficients": "numbers",
    # pair scorers
    "item_proj": "of_item",
    "trigger_proj": "of_trigger",
    "product_proj": "of_both",
    "weight_proj": "of_weight",
    "age_embedding": "of_age",
    "hidden_layer": "second",
    "output_layer": "last",
    # decoders of semantic ids
    "digit_embeddings": "said",
    "digit_layers": "steps",
    "digit_norms": "norms",
    "state_norms": "ends",
    # text encoders
    "word_embedding": "words",
    "position_embedding": "place",
    "kind_embedding": "kind",
    "part_embedding": "part",
    "embedding_norm": "inward",
    "final_norm": "outward",
    "text_encoder": "reader",
    "masked_word_proj": "guess",
    "item_vectors": "matrix",
}


def weights_of(net: nn.Module) -> dict[str, np.ndarray]:
    """Return copies of a net's weights and persistent buffers by name.

    Floating point numbers become float32.
    """
    return {name: _as_array(tensor) for name, tensor in net.state_dict().items()}


def load_weights(net: nn.Module, weights: Mapping[str, np.ndarray], assign: bool = False) -> None:
    """Give a net the weights that `weights_of` returned, in this version or an earlier one.

    `assign` makes them the net's tensors instead of copying them into those.
    """
    tensors = {name: torch.from_numpy(array) for name, array in rename(weights, net).items()}
    net.load_state_dict(tensors, assign=assign)


def rename(weights: Mapping[str, np.ndarray], net: nn.Module) -> dict[str, np.ndarray]:
    """Return weights under the names that they have in `net` now.

    A name that is missing is looked up as an earlier version wrote it. Weights that match no name
    stay as they are, so that loading them reports them.
    """
    renamed = dict(weights)
    for name in net.state_dict():
        old = old_name(name)
        if name not in renamed and old in renamed:
            renamed[name] = renamed.pop(old)
    return renamed


def old_name(name: str) -> str:
    """Return the name that a weight had in models saved before version 0.2."""
    return ".".join(OLD_SEGMENTS.get(segment, segment) for segment in name.split("."))


def _as_array(tensor: Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy().copy()
