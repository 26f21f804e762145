"""The nearest vectors among many: all compared, or, above a stated number, found by an index that
says how often it misses.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from tailor.data.arrays import Ragged, top_k
from tailor.errors import DataError, MissingExtraError, ModelError
from tailor.progress import Progress, silent

BLOCK_BYTES = 64 * 2**20  # of scores at once
SAMPLE = 200  # vectors that recall is measured with
DEPTH = 10  # recall at
PART_BYTES = 8  # numbers that IVF-PQ squeezes into one byte


@dataclass(eq=False)
class VectorIndex:
    """The k vectors of largest inner product with a query, honouring what must not be found.

    `exact` compares with all, by blocks. `hnsw` (Malkov and Yashunin 2016) walks a graph of
    neighbours; `ivfpq` (Jegou et al. 2011) looks into the cells nearest to the query, at vectors
    squeezed to one byte per eight numbers. `auto` is exact up to `exact_upto` vectors, hnsw up to
    `hnsw_upto`, ivfpq above. What an index finds is scored by the whole vectors again.
    """

    kind: Literal["auto", "exact", "hnsw", "ivfpq"] = "auto"
    exact_upto: int = 200_000
    hnsw_upto: int = 2_000_000
    effort: int = 128
    """Hnsw: neighbours held while walking; ivfpq: cells looked into."""
    again: int = 16
    """Ivfpq: this many times k are scored by the whole vectors."""

    vectors: np.ndarray = field(init=False, repr=False)
    """(N, D) float32."""
    report: dict[str, Any] = field(init=False, default_factory=dict)
    _faiss: Any = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        if self.kind not in ("auto", "exact", "hnsw", "ivfpq") or min(self.effort, self.again) < 1:
            raise ModelError(
                f'kind is "{self.kind}", effort {self.effort}, again {self.again}: kind is auto,'
                " exact, hnsw or ivfpq, the others from 1"
            )

    def chosen(self, n: int) -> str:
        """The kind for n vectors."""
        if self.kind != "auto":
            return self.kind
        return "exact" if n <= self.exact_upto else "hnsw" if n <= self.hnsw_upto else "ivfpq"

    def build(self, vectors: np.ndarray, seed: int = 0) -> "VectorIndex":
        """Index (N, D) vectors; `report` says the kind and its recall@10 against comparing with
        all, on vectors moved a little.
        """
        self.vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        if self.vectors.ndim != 2 or not np.isfinite(self.vectors).all():
            raise DataError(
                f"vectors have shape {vectors.shape}: they must be (N, D) finite numbers"
            )
        self.report = {"vectors": len(vectors), "index": self.chosen(len(vectors))}
        self._faiss = None
        if self.report["index"] != "exact" and len(vectors):
            self._faiss = (
                _hnsw(self.vectors)
                if self.report["index"] == "hnsw"
                else _ivfpq(self.vectors, seed)
            )
            self.report[f"recall@{DEPTH}"] = self._recall(seed)
        return self

    def _recall(self, seed: int) -> float:
        rng = np.random.default_rng(seed)
        asked = self.vectors[
            rng.choice(len(self.vectors), min(SAMPLE, len(self.vectors)), replace=False)
        ]
        spread = rng.standard_normal(asked.shape).astype(np.float32) * (
            0.5 * np.linalg.norm(asked, axis=1, keepdims=True) / asked.shape[1] ** 0.5
        )
        mine, _ = self.search(asked + spread, DEPTH)
        true, _ = self._exact(asked + spread, DEPTH, None, None, silent)
        return float(
            np.mean(
                [
                    len(set(a) & set(b)) / max(len(set(b) - {-1}), 1)
                    for a, b in zip(mine.tolist(), true.tolist(), strict=True)
                ]
            )
        )

    def search(
        self,
        queries: np.ndarray,
        k: int = 10,
        exclude: Ragged | None = None,
        blocked: np.ndarray | None = None,
        progress: Progress = silent,
    ) -> tuple[np.ndarray, np.ndarray]:
        """(Q, k) int32 rows, -1 where there are no more, and (Q, k) float32 inner products;
        `exclude` holds rows a query, `blocked` rows of all.

        Excluded rows are passed over within the index. Where an index finds fewer than k all the
        same, that query is compared with all.
        """
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        if queries.ndim != 2 or queries.shape[1] != self.vectors.shape[1]:
            raise DataError(
                f"queries have shape {queries.shape}, vectors {self.vectors.shape}: the widths must"
                " agree"
            )
        if self._faiss is None:
            return self._exact(queries, k, exclude, blocked, progress)
        rows, scores = (
            np.full((len(queries), k), -1, np.int32),
            np.full((len(queries), k), -np.inf, np.float32),
        )
        wanted = min(k, len(self.vectors))
        for i in range(len(queries)):
            banned = np.unique(
                np.concatenate(
                    [
                        np.zeros(0, np.int64),
                        *([] if exclude is None else [exclude[i]]),
                        *([] if blocked is None else [blocked]),
                    ]
                )
            )
            found = self._found(queries[i : i + 1], wanted, banned.astype(np.int64))
            values = self.vectors[found] @ queries[i]
            order = np.lexsort((found, -values))[:k]
            rows[i, : len(order)], scores[i, : len(order)] = found[order], values[order]
            if len(order) < min(wanted, len(self.vectors) - len(banned)):
                only = None if exclude is None else Ragged.of([exclude[i]])
                alone = self._exact(queries[i : i + 1], k, only, blocked, silent)
                rows[i], scores[i] = alone[0][0], alone[1][0]
        return rows, scores

    def _found(self, query: np.ndarray, k: int, banned: np.ndarray) -> np.ndarray:
        faiss = _modules()
        chosen = faiss.IDSelectorNot(faiss.IDSelectorBatch(banned)) if len(banned) else None
        if self.report["index"] == "hnsw":
            settings = faiss.SearchParametersHNSW(efSearch=max(self.effort, k), sel=chosen)
        else:
            settings, k = faiss.SearchParametersIVF(nprobe=self.effort, sel=chosen), k * self.again
        found = self._faiss.search(query, min(k, len(self.vectors)), params=settings)[1][0]
        kept: np.ndarray = found[found >= 0]
        return kept

    def _exact(
        self,
        queries: np.ndarray,
        k: int,
        exclude: Ragged | None,
        blocked: np.ndarray | None,
        progress: Progress,
    ) -> tuple[np.ndarray, np.ndarray]:
        size = max(1, BLOCK_BYTES // (4 * max(len(self.vectors), 1)))
        parts = [
            top_k(
                queries[start : start + size] @ self.vectors.T,
                k,
                None if exclude is None else exclude.slice(start, min(start + size, len(queries))),
                blocked,
            )
            for start in progress(
                range(0, len(queries), size), "searching vectors", total=-(-len(queries) // size)
            )
        ]
        if not parts:
            return np.zeros((0, k), np.int32), np.zeros((0, k), np.float32)
        return np.concatenate([one for one, _ in parts]), np.concatenate([one for _, one in parts])

    def to_bytes(self) -> np.ndarray:
        """(n,) uint8 of the index beside the vectors; empty for an exact one."""
        if self._faiss is None:
            return np.zeros(0, dtype=np.uint8)
        made: np.ndarray = _modules().serialize_index(self._faiss)
        return made

    def restore(self, vectors: np.ndarray, raw: np.ndarray) -> "VectorIndex":
        """Take up vectors and `to_bytes` of an index that was built before."""
        self.vectors = vectors
        self.report = {
            "vectors": len(vectors),
            "index": self.chosen(len(vectors)) if len(raw) else "exact",
        }
        self._faiss = _modules().deserialize_index(raw) if len(raw) else None
        return self


def _modules() -> Any:
    try:
        import faiss
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "an approximate vector index needs faiss: pip install 'tailor-engine[torch]'"
        ) from error
    return faiss


def _hnsw(vectors: np.ndarray) -> Any:
    faiss = _modules()
    index = faiss.IndexHNSWFlat(vectors.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 100
    index.add(vectors)
    return index


def _ivfpq(vectors: np.ndarray, seed: int) -> Any:
    faiss = _modules()
    n, dims = vectors.shape
    parts = max(
        (
            one
            for one in range(1, dims // 2 + 1)
            if dims % one == 0 and one * PART_BYTES <= max(dims, PART_BYTES)
        ),
        default=1,
    )
    cells = int(max(1, min(4 * n**0.5, n / 39)))
    bits = 8 if n >= 256 * 39 else 4
    index = faiss.IndexIVFPQ(
        faiss.IndexFlatIP(dims), dims, cells, parts, bits, faiss.METRIC_INNER_PRODUCT
    )
    index.cp.seed = index.pq.cp.seed = seed + 1
    index.train(vectors)
    index.add(vectors)
    return index
