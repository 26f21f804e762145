"""The nearest vectors among many: by comparing all, or by an approximate index.

An approximate index reports how often it misses.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from tailor.data.arrays import Ragged, top_k
from tailor.errors import DataError, MissingExtraError, ModelError
from tailor.progress import Progress, silent

BLOCK_BYTES = 64 * 2**20  # of scores at once
SAMPLE = 200  # vectors that recall is measured with
SPREAD = 0.5  # length of the noise on those vectors, in lengths of a vector
DEPTH = 10  # recall at
PART_WIDTH = 8  # numbers that IVF-PQ compresses into one byte
HNSW_LINKS, HNSW_BUILD_EFFORT = 32, 100
VECTORS_PER_CELL = 39  # fewer train no centre of a cell or of a code


@dataclass(eq=False)
class VectorIndex:
    """The k vectors of largest inner product with a query, leaving out excluded ones.

    `exact` compares with all, by blocks. `hnsw` (Malkov and Yashunin 2016) follows a graph of
    neighbours; `ivfpq` (Jegou et al. 2011) reads the cells nearest to the query, with vectors
    compressed to one byte per eight numbers. `auto` is exact up to `exact_upto` vectors, hnsw up to
    `hnsw_upto`, ivfpq above. Candidates of an index are scored again by the whole vectors.
    """

    kind: Literal["auto", "exact", "hnsw", "ivfpq"] = "auto"
    """Kind of the index; auto: by the number of vectors."""
    exact_upto: int = 200_000
    """Largest number of vectors that auto compares one by one."""
    hnsw_upto: int = 2_000_000
    """Largest number of vectors that auto puts into a graph."""
    effort: int = 128
    """Work per query: neighbours held by hnsw, cells read by ivfpq."""
    again: int = 16
    """Candidates of ivfpq that are scored by the whole vectors, in multiples of k."""

    vectors: np.ndarray = field(init=False, repr=False)
    """(N, D) float32."""
    report: dict[str, Any] = field(init=False, default_factory=dict)
    """Number of vectors, kind of the index, and its recall."""
    _faiss: Any = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        if self.kind not in ("auto", "exact", "hnsw", "ivfpq") or min(self.effort, self.again) < 1:
            raise ModelError(
                f'kind is "{self.kind}", effort {self.effort}, again {self.again}: kind is auto,'
                " exact, hnsw or ivfpq, the others from 1"
            )

    def chosen(self, n: int) -> str:
        """Return the kind of index for n vectors."""
        if self.kind != "auto":
            return self.kind
        if n <= self.exact_upto:
            return "exact"
        return "hnsw" if n <= self.hnsw_upto else "ivfpq"

    def build(self, vectors: np.ndarray, seed: int = 0) -> "VectorIndex":
        """Index (N, D) vectors.

        `report` then holds the kind, and its recall@10 against comparing with all, on vectors with
        noise. Raises DataError for vectors that are not finite.
        """
        self.vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        if self.vectors.ndim != 2 or not np.isfinite(self.vectors).all():
            raise DataError(
                f"vectors have shape {vectors.shape}: they must be (N, D) finite numbers"
            )
        kind = self.chosen(len(vectors))
        self.report = {"vectors": len(vectors), "index": kind}
        self._faiss = None
        if kind != "exact" and len(vectors):
            self._faiss = _hnsw(self.vectors) if kind == "hnsw" else _ivfpq(self.vectors, seed)
            self.report[f"recall@{DEPTH}"] = self._recall(seed)
        return self

    def _recall(self, seed: int) -> float:
        rng = np.random.default_rng(seed)
        count = min(SAMPLE, len(self.vectors))
        sample = self.vectors[rng.choice(len(self.vectors), count, replace=False)]
        lengths = np.linalg.norm(sample, axis=1, keepdims=True)
        noise = rng.standard_normal(sample.shape).astype(np.float32)
        queries = sample + noise * (SPREAD * lengths / sample.shape[1] ** 0.5)
        indexed_rows, _ = self.search(queries, DEPTH)
        exact_rows, _ = self._exact(queries, DEPTH, None, None, silent)
        recalls = [
            len(set(indexed) & set(exact)) / max(len(set(exact) - {-1}), 1)
            for indexed, exact in zip(indexed_rows.tolist(), exact_rows.tolist(), strict=True)
        ]
        return float(np.mean(recalls))

    def search(
        self,
        queries: np.ndarray,
        k: int = 10,
        exclude: Ragged | None = None,
        blocked: np.ndarray | None = None,
        progress: Progress = silent,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the k best vectors per query: (Q, k) int32 rows and (Q, k) float32 inner products.

        Rows are -1 where there are no more. `exclude` holds rows per query, `blocked` rows for all
        queries; both are passed over within the index. Where an index finds fewer than k all the
        same, that query is compared with all. Raises DataError for queries of another width.
        """
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        if queries.ndim != 2 or queries.shape[1] != self.vectors.shape[1]:
            raise DataError(
                f"queries have shape {queries.shape}, vectors {self.vectors.shape}: the widths must"
                " agree"
            )
        if self._faiss is None:
            return self._exact(queries, k, exclude, blocked, progress)
        rows = np.full((len(queries), k), -1, np.int32)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        for i in range(len(queries)):
            query = queries[i : i + 1]
            banned = _banned(None if exclude is None else exclude[i], blocked)
            depth = min(k, len(self.vectors))
            candidates = self._candidates(query, depth, banned)
            products = self.vectors[candidates] @ queries[i]
            order = np.lexsort((candidates, -products))[:k]
            rows[i, : len(order)] = candidates[order]
            scores[i, : len(order)] = products[order]
            if len(order) < min(depth, len(self.vectors) - len(banned)):
                own_exclude = None if exclude is None else Ragged.of([exclude[i]])
                exact_rows, exact_scores = self._exact(query, k, own_exclude, blocked, silent)
                rows[i], scores[i] = exact_rows[0], exact_scores[0]
        return rows, scores

    def _candidates(self, query: np.ndarray, k: int, banned: np.ndarray) -> np.ndarray:
        """Return rows that the index finds for a (1, D) query."""
        faiss = _import_faiss()
        selector = faiss.IDSelectorNot(faiss.IDSelectorBatch(banned)) if len(banned) else None
        if self.report["index"] == "hnsw":
            settings = faiss.SearchParametersHNSW(efSearch=max(self.effort, k), sel=selector)
            depth = k
        else:
            settings = faiss.SearchParametersIVF(nprobe=self.effort, sel=selector)
            depth = k * self.again
        rows = self._faiss.search(query, min(depth, len(self.vectors)), params=settings)[1][0]
        valid_rows: np.ndarray = rows[rows >= 0]
        return valid_rows

    def _exact(
        self,
        queries: np.ndarray,
        k: int,
        exclude: Ragged | None,
        blocked: np.ndarray | None,
        progress: Progress,
    ) -> tuple[np.ndarray, np.ndarray]:
        size = max(1, BLOCK_BYTES // (4 * max(len(self.vectors), 1)))
        blocks = -(-len(queries) // size)
        rows = [np.zeros((0, k), np.int32)]
        scores = [np.zeros((0, k), np.float32)]
        for start in progress(range(0, len(queries), size), "searching vectors", total=blocks):
            stop = min(start + size, len(queries))
            block_exclude = None if exclude is None else exclude.slice(start, stop)
            products = queries[start:stop] @ self.vectors.T
            block_rows, block_scores = top_k(products, k, block_exclude, blocked)
            rows.append(block_rows)
            scores.append(block_scores)
        if len(rows) == 1:
            return rows[0], scores[0]
        return np.concatenate(rows[1:]), np.concatenate(scores[1:])

    def to_bytes(self) -> np.ndarray:
        """Return (n,) uint8 of the index without its vectors; empty for an exact one."""
        if self._faiss is None:
            return np.zeros(0, dtype=np.uint8)
        raw: np.ndarray = _import_faiss().serialize_index(self._faiss)
        return raw

    def restore(self, vectors: np.ndarray, raw: np.ndarray) -> "VectorIndex":
        """Take up the vectors and the `to_bytes` of an index that was built before."""
        self.vectors = vectors
        kind = self.chosen(len(vectors)) if len(raw) else "exact"
        self.report = {"vectors": len(vectors), "index": kind}
        self._faiss = _import_faiss().deserialize_index(raw) if len(raw) else None
        return self


def _banned(excluded: np.ndarray | None, blocked: np.ndarray | None) -> np.ndarray:
    parts = [part for part in (excluded, blocked) if part is not None]
    return np.unique(np.concatenate([np.zeros(0, np.int64), *parts])).astype(np.int64)


def _import_faiss() -> Any:
    try:
        import faiss
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "an approximate vector index needs faiss: pip install 'tailor-engine[torch]'"
        ) from error
    return faiss


def _hnsw(vectors: np.ndarray) -> Any:
    faiss = _import_faiss()
    index = faiss.IndexHNSWFlat(vectors.shape[1], HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = HNSW_BUILD_EFFORT
    index.add(vectors)
    return index


def _ivfpq(vectors: np.ndarray, seed: int) -> Any:
    faiss = _import_faiss()
    n, width = vectors.shape
    max_parts = max(width, PART_WIDTH) // PART_WIDTH
    parts = max(
        (count for count in range(1, width // 2 + 1) if width % count == 0 and count <= max_parts),
        default=1,
    )
    cells = int(max(1, min(4 * n**0.5, n / VECTORS_PER_CELL)))
    bits = 8 if n >= 2**8 * VECTORS_PER_CELL else 4
    quantizer = faiss.IndexFlatIP(width)
    index = faiss.IndexIVFPQ(quantizer, width, cells, parts, bits, faiss.METRIC_INNER_PRODUCT)
    index.cp.seed = index.pq.cp.seed = seed + 1
    index.train(vectors)
    index.add(vectors)
    return index
