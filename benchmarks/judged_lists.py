"""Judged collections as shortlists: DL19's BM25 lists, Cranfield, CACM and NPL with our BM25.

Texts, queries and judgements are read from the shared data; nothing is learned here.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from shared_data import data_folder

from tailor.data.nouns import Query
from tailor.evaluation.significance import bootstrap
from tailor.metrics.graded import ndcg
from tailor.reranking.examples import Example
from tailor.reranking.shortlist import Shortlist
from tailor.text.bm25 import BM25

SECTION = re.compile(r"^\.([A-Z])[^\S\n]*(.*)$")
Grades = dict[str, dict[str, float]]


@dataclass(frozen=True, eq=False)
class JudgedList:
    """A shortlist with the grades of its documents, and those of all judged documents."""

    shortlist: Shortlist
    grades: np.ndarray
    """(n,) grade of each document, 0 where it is not judged."""
    best: np.ndarray
    """(m,) grades of all judged documents above 0, highest first."""

    @property
    def example(self) -> Example:
        """The list as rerankers learn from it."""
        return Example(self.shortlist, self.grades)


def judged_lists(name: str, depth: int = 50) -> list[JudgedList]:
    """Return the lists of "dl19", "cranfield", "cacm" or "npl", best first by BM25.

    DL19 has the 20 passages that come with it; queries without a judgement above 0 are left out.
    """
    if name == "dl19":
        return _dl19(depth)
    texts, queries, grades = {"cranfield": _cranfield, "cacm": _cacm, "npl": _npl}[name]()
    index = BM25(language="english")
    index.add(list(texts.values()))
    answerable = [key for key in queries if any(g > 0 for g in grades.get(key, {}).values())]
    rows, scores = index.search([queries[key] for key in answerable], depth)
    ids = list(texts)
    lists = []
    for key, list_rows, list_scores in zip(answerable, rows, scores, strict=True):
        docs = [ids[row] for row in list_rows.tolist() if row >= 0]
        prior = list_scores[: len(docs)]
        lists.append(_list(key, queries[key], docs, texts, prior, grades[key]))
    return lists


def ndcg_of(lists: Sequence[JudgedList], orders: Sequence[np.ndarray], k: int = 10) -> np.ndarray:
    """Return (Q,) nDCG@k of the lists in these orders, against all judged documents."""
    width = max(k, max(len(judged.grades) for judged in lists))
    ranked = np.zeros((len(lists), width))
    best = np.zeros((len(lists), k))
    for i, (judged, order) in enumerate(zip(lists, orders, strict=True)):
        ranked[i, : len(order)] = judged.grades[order]
        best[i, : len(judged.best[:k])] = judged.best[:k]
    return ndcg(ranked, best, k)


def above(a: np.ndarray, b: np.ndarray, seed: int = 0) -> dict[str, float]:
    """Return by how much a is above b (Q,), and the 95 % interval over queries."""
    low, high = bootstrap((a - b)[:, None], seed=seed)
    interval = {"low": round(float(low[0]), 4), "high": round(float(high[0]), 4)}
    return {"difference": round(float((a - b).mean()), 4), **interval}


def _list(
    key: str,
    request: str,
    docs: Sequence[str],
    texts: Mapping[str, str],
    prior: np.ndarray,
    grades: Mapping[str, float],
) -> JudgedList:
    shortlist = Shortlist(
        Query(text=request, request_id=key),
        tuple(texts[doc] for doc in docs),
        np.asarray(prior, np.float64),
        request=request,
    )
    best = np.sort([grade for grade in grades.values() if grade > 0])[::-1]
    return JudgedList(shortlist, np.array([grades.get(doc, 0.0) for doc in docs]), best)


def _dl19(depth: int) -> list[JudgedList]:
    folder = data_folder() / "dl19-bm25-top20"
    grades: Grades = {}
    for line in _lines(folder / "qrels.dl19-passage.txt"):
        key, _, doc, grade = line.split()
        grades.setdefault(key, {})[doc] = float(grade)
    lists = []
    for line in _lines(folder / "dl19_bm25_top20.jsonl"):
        record = json.loads(line)
        hits = record["hits"][:depth]
        key = str(hits[0]["qid"])
        texts = {hit["docid"]: hit["content"] for hit in hits}
        prior = np.array([hit["score"] for hit in hits])
        lists.append(_list(key, record["query"], list(texts), texts, prior, grades[key]))
    return lists


def _cranfield() -> tuple[dict[str, str], dict[str, str], Grades]:
    """Return texts, queries by their order, and grades 1 to 4, 4 the best (-1 counts as 1)."""
    folder = data_folder() / "ir" / "cranfield"
    texts = _texts(folder / "cran.all.1400", "W")
    requests = _sections(folder / "cran.qry")
    queries = {str(number): parts["W"] for number, parts in enumerate(requests.values(), start=1)}
    grades: Grades = {}
    for line in _lines(folder / "cran.qrels"):
        key, doc, code = line.split()
        # code 1 is a complete answer, 4 of minimum interest
        grades.setdefault(key, {})[doc] = 5.0 - abs(int(code))
    return texts, queries, grades


def _cacm() -> tuple[dict[str, str], dict[str, str], Grades]:
    folder = data_folder() / "ir" / "cacm"
    texts = _texts(folder / "cacm.all", "TW")
    queries = {key: parts["W"] for key, parts in _sections(folder / "query.text").items()}
    grades: Grades = {}
    for line in _lines(folder / "qrels.text"):
        key, doc, *_ = line.split()
        grades.setdefault(str(int(key)), {})[str(int(doc))] = 1.0
    return texts, queries, grades


def _npl() -> tuple[dict[str, str], dict[str, str], Grades]:
    folder = data_folder() / "ir" / "npl"
    texts, queries, judged = (
        _slashed(folder / name) for name in ("doc-text", "query-text", "rlv-ass")
    )
    grades = {key: dict.fromkeys(docs.split(), 1.0) for key, docs in judged.items()}
    return texts, {key: text.lower() for key, text in queries.items()}, grades


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines()


def _slashed(path: Path) -> dict[str, str]:
    """Return number -> text of records that a line with a slash ends."""
    records: dict[str, str] = {}
    record: list[str] = []
    for line in _lines(path):
        if line.strip() != "/":
            record.append(line.strip())
        elif record:
            records[record[0]] = " ".join(record[1:])
            record = []
    return records


def _sections(path: Path) -> dict[str, dict[str, str]]:
    """Return number -> letter -> text of records with lines such as ".I 1" and ".W"."""
    records: dict[str, dict[str, str]] = {}
    letter = ""
    for line in _lines(path):
        match = SECTION.match(line)
        if match and match[1] == "I":
            record: dict[str, str] = {}
            records[str(int(match[2]))] = record
        elif match:
            letter = match[1]
            record.setdefault(letter, "")
        else:
            record[letter] = f"{record[letter]} {line}".strip()
    return records


def _texts(path: Path, letters: str) -> dict[str, str]:
    return {
        number: ". ".join(parts[letter] for letter in letters if parts.get(letter))
        for number, parts in _sections(path).items()
    }
