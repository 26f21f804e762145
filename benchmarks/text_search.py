"""Search by text on judged collections: words, sentence vectors, and both together.

    python benchmarks/text_search.py

The language and the weight of the blend are chosen on CACM and then fixed; Cranfield, NPL and the
passages of TREC DL 2019 only judge. NDCG@10 counts any positive grade as 1, except on DL 2019,
where it is that of its judges (linear gains). Needs `tailor models pull minilm`.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
from shared_data import data_folder
from writing import write_result

from tailor.core.methods import ScoringRecommender
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.importers.importing import import_data
from tailor.data.nouns import Query
from tailor.data.queries import Rankings
from tailor.evaluation.significance import bootstrap, holm, paired_test
from tailor.metrics.ranking import hits, ndcg, recall, relevant_counts
from tailor.retrieval.dense import DenseRetriever
from tailor.retrieval.hybrid import Hybrid
from tailor.retrieval.text_match import TextMatch
from tailor.text.cached import CachedEncoder
from tailor.text.sentences import SentenceEncoder

WEIGHTS = [round(0.1 * step, 1) for step in range(1, 10)]
LANGUAGES = [None, "english"]


def collection(name: str) -> tuple[Dataset, list[str], list[list[str]]]:
    """A judged collection: documents as items, the texts of the queries, and the relevant items of
    each.
    """
    with tempfile.TemporaryDirectory() as out:
        import_data(data_folder() / "ir" / name, Path(out) / name, format=name, name=name)
        opened = Dataset.open(Path(out) / name)
        data = Dataset(dict(opened.tables), name)
    relevant: dict[str, list[str]] = {}
    for query, item, grade in (
        data.tables["judgements"].select("query_id", "item_id", "grade").iter_rows()
    ):
        if grade > 0:
            relevant.setdefault(query, []).append(item)
    texts = {
        one: text
        for one, text in data.tables["requests"].select("request_id", "text").iter_rows()
        if one in relevant
    }
    return data, list(texts.values()), [relevant[one] for one in texts]


def judged(
    method: ScoringRecommender, texts: list[str], relevant: list[list[str]]
) -> dict[str, np.ndarray]:
    """NDCG@10 and recall@100, one value a query."""
    lists = method.recommend([Query(text=text) for text in texts], 100)
    assert isinstance(lists, Rankings)
    targets = Ragged.of([method.items_.rows(one) for one in relevant])
    found = hits(lists.reindexed(method.items_).rows, targets.offsets, targets.values)
    counts = relevant_counts(targets.offsets, targets.values)
    return {"NDCG@10": ndcg(found, counts, 10), "recall@100": recall(found, counts, 100)}


def chosen() -> tuple[Hybrid, dict]:
    """The blend that is best on CACM, and what was tried."""
    data, texts, relevant = collection("cacm")
    tried = {}
    for language in LANGUAGES:
        method = Hybrid(TextMatch(language=language)).fit(data)
        for weight in WEIGHTS:
            method.weight = weight
            tried[f"language {language}, weight {weight}"] = float(
                judged(method, texts, relevant)["NDCG@10"].mean()
            )
    language, weight = max(
        ((one, weight) for one in LANGUAGES for weight in WEIGHTS),
        key=lambda one: tried[f"language {one[0]}, weight {one[1]}"],
    )
    return Hybrid(TextMatch(language=language), weight=weight), {
        name: round(value, 4) for name, value in tried.items()
    }


def measured(name: str, hybrid: Hybrid) -> dict:
    data, texts, relevant = collection(name)
    methods = {
        "words as they are": TextMatch(),
        "stems": TextMatch(language="english"),
        "MiniLM": DenseRetriever(),
        "Hybrid": Hybrid(TextMatch(language=hybrid.words.language), weight=hybrid.weight),
    }
    values = {label: judged(method.fit(data), texts, relevant) for label, method in methods.items()}
    out: dict = {"documents": len(data.catalogue), "queries": len(texts)}
    for label, found in values.items():
        low, high = bootstrap(found["NDCG@10"][:, None])
        out[label] = {
            "NDCG@10": round(float(found["NDCG@10"].mean()), 4),
            "interval": [round(float(low[0]), 4), round(float(high[0]), 4)],
            "recall@100": round(float(found["recall@100"].mean()), 4),
        }
    rivals = [label for label in methods if label != "Hybrid"]
    p_values = holm(
        [paired_test(values["Hybrid"]["NDCG@10"], values[label]["NDCG@10"]) for label in rivals]
    )
    for label, p in zip(rivals, p_values.tolist(), strict=True):
        difference = values["Hybrid"]["NDCG@10"] - values[label]["NDCG@10"]
        low, high = bootstrap(difference[:, None])
        out[f"Hybrid - {label}"] = {
            "difference": round(float(difference.mean()), 4),
            "interval": [round(float(low[0]), 4), round(float(high[0]), 4)],
            "p (Holm)": round(p, 4),
        }
    return out


def passages(hybrid: Hybrid) -> dict:
    """TREC DL 2019: 20 passages a query in BM25's order, ordered again by cosine, and by the blend
    with BM25's scores.
    """
    folder = data_folder() / "dl19-bm25-top20"
    grades: dict[str, dict[str, int]] = {}
    for line in (folder / "qrels.dl19-passage.txt").read_text().splitlines():
        query, _, passage, grade = line.split()
        grades.setdefault(query, {})[passage] = int(grade)
    rows = [
        json.loads(line) for line in (folder / "dl19_bm25_top20.jsonl").read_text().splitlines()
    ]
    encoder = CachedEncoder(SentenceEncoder())
    asked = encoder.inner.exact().encode([row["query"] for row in rows])
    values: dict[str, list[float]] = {"as given": [], "MiniLM": [], "blend": []}
    for row, query in zip(rows, asked, strict=True):
        judged_here = grades[str(row["hits"][0]["qid"])]
        gained = np.array(
            [judged_here.get(str(hit["docid"]), 0) for hit in row["hits"]], dtype=float
        )
        given = np.array([hit["score"] for hit in row["hits"]], dtype=float)
        cosine = encoder.encode([hit["content"] for hit in row["hits"]]) @ query
        standard = [(one - one.mean()) / max(float(one.std()), 1e-9) for one in (given, cosine)]
        ideal = _dcg(np.sort(list(judged_here.values()))[::-1].astype(float))
        for label, scores in (
            ("as given", -np.arange(len(given), dtype=float)),
            ("MiniLM", cosine),
            ("blend", (1 - hybrid.weight) * standard[0] + hybrid.weight * standard[1]),
        ):
            values[label].append(_dcg(gained[np.argsort(-scores, kind="stable")]) / ideal)
    out: dict = {"queries": len(rows)}
    for label, found in values.items():
        low, high = bootstrap(np.array(found)[:, None])
        out[label] = {
            "NDCG@10": round(float(np.mean(found)), 4),
            "interval": [round(float(low[0]), 4), round(float(high[0]), 4)],
        }
    out["MiniLM - as given"] = {
        "p": round(paired_test(np.array(values["MiniLM"]), np.array(values["as given"])), 4)
    }
    return out


def _dcg(gains: np.ndarray) -> float:
    return float((gains[:10] / np.log2(np.arange(2, len(gains[:10]) + 2))).sum())


def main() -> None:
    hybrid, tried = chosen()
    figures: dict = {
        "chosen on cacm": {
            "language": hybrid.words.language,
            "weight of meaning": hybrid.weight,
            "NDCG@10 tried": tried,
        }
    }
    for name in ("cranfield", "npl"):
        figures[name] = measured(name, hybrid)
    figures["dl19"] = passages(hybrid)
    print(json.dumps(figures, indent=1))
    print(write_result("text-search", 0, "python benchmarks/text_search.py", figures))


if __name__ == "__main__":
    main()
