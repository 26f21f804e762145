"""Rewards of recommended items, as plain functions of arrays.

Shapes: B prompts, G answers of each, K items of an answer, N items. Items are rows; -1 is an answer
that is no item.
"""

from collections.abc import Mapping

import numpy as np


def hit(items: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return (B, G) 1 where an item (B, G) is the target (B,), else 0."""
    return (items == targets[:, None]).astype(np.float32)


def by_rank(items: np.ndarray, targets: np.ndarray, log_probs: np.ndarray) -> np.ndarray:
    """Return (B, G) 1 for the target, and for others a penalty that grows with their rank's height.

    A wrong answer that the policy holds likely is worse than an unlikely one: among the answers of
    its prompt by `log_probs` (B, G), rank r from 0 has -1 / log2(r + 2). The penalties of a prompt
    add up to -1 (MiniOneRec, 2025).
    """
    is_hit = items == targets[:, None]
    order = np.argsort(-log_probs, axis=1, kind="stable")
    ranks = np.argsort(order, axis=1, kind="stable")
    penalties = np.where(is_hit, 0, 1 / np.log2(ranks + 2))
    totals = penalties.sum(axis=1, keepdims=True)
    shares = np.divide(penalties, totals, out=np.zeros_like(penalties), where=totals > 0)
    return np.where(is_hit, 1.0, -shares).astype(np.float32)


def legal(items: np.ndarray) -> np.ndarray:
    """Return 1 where an answer is an item, else 0, in the shape of `items`."""
    return (items >= 0).astype(np.float32)


def share_of(items: np.ndarray, is_member: np.ndarray) -> np.ndarray:
    """Return 1 where an item is in a group (N,) bool, else 0; what is no item is in none."""
    return (is_member[items] & (items >= 0)).astype(np.float32)


def alike(items: np.ndarray, vectors: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return (B, G) the cosine of items (B, G) with the target (B,), by unit vectors (N, D)."""
    cosines = np.einsum("bgd,bd->bg", vectors[items], vectors[targets])
    return np.where(items >= 0, cosines, 0).astype(np.float32)


def varied(lists: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Return (B, G) the mean distance 1 - cosine of pairs of each list (B, G, K) of items.

    `vectors` (N, D) are unit vectors. Pairs with what is no item count as equal; one item has 0.
    """
    unit_vectors = vectors[lists] * (lists >= 0)[..., None]
    count = lists.shape[-1]
    if count < 2:
        return np.zeros(lists.shape[:-1], dtype=np.float32)
    cosines = np.einsum("bgkd,bgld->bgkl", unit_vectors, unit_vectors)
    is_item = lists >= 0
    is_pair = is_item[..., :, None] & is_item[..., None, :] & ~np.eye(count, dtype=bool)
    distances = np.where(is_pair, 1 - cosines, 0).sum(axis=(-1, -2))
    return (distances / (count * (count - 1))).astype(np.float32)


def weighted(parts: Mapping[str, np.ndarray], weights: Mapping[str, float]) -> np.ndarray:
    """Return the weighted sum of rewards of one shape. Raises KeyError for a weight of no part."""
    return np.sum([weight * parts[name] for name, weight in weights.items()], axis=0)
