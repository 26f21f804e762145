"""Prompts that begin alike, whose common beginning a model reads once."""

from collections.abc import Sequence
from itertools import pairwise, takewhile
from typing import NamedTuple

LEAST = 16  # tokens in common that are worth a pass of their own


class Cluster(NamedTuple):
    """Prompts with a common beginning."""

    rows: list[int]
    """Numbers of the prompts."""
    shared: int
    """First tokens that all of them have; each has at least one more."""


def clusters(prompts: Sequence[Sequence[int]]) -> list[Cluster]:
    """Group prompts, which are tokens, by beginnings that are worth reading once.

    Those that share too little stand together in one cluster, which shares nothing.
    """
    if not prompts:
        return []
    order = sorted(range(len(prompts)), key=lambda row: tuple(prompts[row]))
    common = [_common(prompts[a], prompts[b]) for a, b in pairwise(order)]
    alone: list[int] = []
    together: list[Cluster] = []
    for cluster in _clusters_of(order, common):
        if cluster.shared:
            together.append(cluster)
        else:
            alone.append(cluster.rows[0])
    if alone:
        together.append(Cluster(alone, 0))
    return together


def _clusters_of(order: list[int], common: list[int]) -> list[Cluster]:
    """Return a cluster of sorted prompts, or those of its parts where they save more tokens.

    `common` has the tokens that each prompt shares with the next one.
    """
    if len(order) == 1:
        return [Cluster(order, 0)]
    least = min(common)
    ends = [i + 1 for i, count in enumerate(common) if count == least]
    parts = [
        cluster
        for start, end in pairwise([0, *ends, len(order)])
        for cluster in _clusters_of(order[start:end], common[start : end - 1])
    ]
    saved = sum((len(cluster.rows) - 1) * cluster.shared for cluster in parts)
    if least >= LEAST and (len(order) - 1) * least >= saved:
        return [Cluster(order, least)]
    return parts


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """Return how many first tokens two prompts share, the last one of each left out."""
    pairs = zip(a[:-1], b[:-1], strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
