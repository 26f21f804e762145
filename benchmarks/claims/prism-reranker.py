"""Prism-Reranker: evidence of 30 % of a document's words against the document's beginning of the
same length, on planted documents and on LoCoMo's sessions; then requests as keywords.

No setting is chosen here: share and sentences are the defaults. The scorer is learned on dialogues
0 to 4; sessions and keywords are judged on 5 to 9. The first form of the evidence also let a
sentence gain by its neighbours (planted, state 0: .842 kept); they now only fill the room left.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import polars as pl
from claim_tools import SEEDS
from shared_data import real

from tailor.bench.claims import Claim
from tailor.core.defaults import encoder, language_model
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.evaluation.significance import bootstrap
from tailor.papers.reranking.prism_reranker import PrismReranker
from tailor.reranking.examples import examples, list_ndcg
from tailor.reranking.shortlist import Shortlist
from tailor.text.passages import PassageFinder, exact_parts
from tailor.text.words import STOP_WORDS, search_words, words

DOCUMENTS = 120  # of a planted world
OTHERS = 11  # sentences beside the fact
QUESTIONS = 30  # of a dialogue, for the order of its sessions
WRITTEN = 8  # planted documents about which the small local model writes
LEARNED = 5  # dialogues that the scorer learns from; the others are judged
LOST = 0.03  # NDCG that requests as keywords may cost
THINGS = [
    "kettle",
    "tent",
    "lamp",
    "violin",
    "saddle",
    "sweater",
    "racket",
    "monitor",
    "cradle",
    "anchor",
]
LOOKS = [
    "copper",
    "canvas",
    "brass",
    "walnut",
    "leather",
    "woollen",
    "carbon",
    "silver",
    "oaken",
    "iron",
]
TOWNS = ["Delft", "Ghent", "Bergen", "Turin", "Lyon", "Porto", "Krakow", "Gdansk", "Siena", "Basel"]
ABOUT = (  # question, sentence
    ("What does the {thing} cost?", "The {thing} is sold for {number} euros."),
    ("How heavy is the {thing}?", "Its maker says that the {thing} weighs {number} grams."),
    ("When was the {thing} made?", "The {thing} left the workshop in {number}."),
    ("Where is the {thing} kept?", "These days the {thing} stands in a shop in {town}."),
    ("Who repaired the {thing}?", "A smith from {town} mended the {thing} {number} times."),
)


def measure(run: Run) -> Claim:
    """Facts kept by evidence and by the beginning; sessions of LoCoMo; keywords."""
    planted = [on_planted(seed, run) for seed in SEEDS]
    locomo = real("locomo")
    sessions = on_sessions(locomo, run)
    keywords = as_keywords(locomo, run)
    checks = {
        "planted: evidence keeps the fact in at least 90 % of documents": all(
            row["kept"] >= 0.9 for row in planted
        ),
        "planted: evidence has at most 30 % of the words": all(
            row["share of words"] <= 0.3 for row in planted
        ),
        "planted: evidence keeps the fact more often than the beginning": all(
            row["over the beginning"]["low"] > 0 for row in planted
        ),
        "LoCoMo: evidence holds more of the answer's words than the beginning": (
            sessions["over the beginning"]["low"] > 0
        ),
        "no number or name of evidence is missing in its document": (
            sessions["unsupported"] == 0 and all(row["unsupported"] == 0 for row in planted)
        ),
        f"LoCoMo: requests as keywords lose less than {LOST} NDCG@10": (
            keywords["loss"]["high"] < LOST
        ),
    }
    figures = {"planted": planted, "sessions": sessions, "keywords": keywords}
    return Claim(checks, figures, list(SEEDS), ["planted facts", "locomo"])


def measure_long(run: Run) -> Claim:
    """Measure the same, and what a small local model writes about planted documents."""
    claim = measure(run)
    figures = {**claim.figures, "small local model": by_local_model(run)}
    return Claim(claim.checks, figures, claim.seeds, claim.data)


def planted_documents(seed: int, n: int = DOCUMENTS) -> list[tuple[str, str, str]]:
    """Return (request, document, fact) of documents that also speak of other things and traits.

    Every document has sentences on the same thing's other traits, and on the same trait of other
    things, so that neither words nor beginnings alone give the fact away.
    """
    rng = np.random.default_rng(seed)
    names = [f"{look} {thing}" for look in LOOKS for thing in THINGS]
    documents = []
    for _ in range(n):
        thing, *others = rng.permutation(names)[: OTHERS + 1]
        asked, *traits = rng.permutation(len(ABOUT))
        request, pattern = ABOUT[asked]
        fact = filled(pattern, thing, rng)
        sentences = [filled(ABOUT[trait][1], thing, rng) for trait in traits]
        sentences += [filled(pattern, other, rng) for other in others[: OTHERS - len(traits)]]
        sentences = rng.permutation([fact, *sentences]).tolist()
        documents.append((request.format(thing=thing), " ".join(sentences), fact))
    return documents


def filled(pattern: str, thing: str, rng: np.random.Generator) -> str:
    return pattern.format(thing=thing, number=int(rng.integers(100, 2000)), town=rng.choice(TOWNS))


def passages_of(pairs: list[tuple[str, str]]) -> list[list[str]]:
    """Return the evidence that `PrismReranker` cuts out of (request, document)."""
    method = PrismReranker()
    finder = PassageFinder(encoder(), method.sentences, method.share)
    return [
        [text[start:end] for start, end in spans]
        for (_, text), spans in zip(pairs, finder.of(pairs), strict=True)
    ]


def beginning(text: str, n: int) -> str:
    """Return the first n words of a text."""
    return " ".join(text.split()[:n])


def length(text: str) -> int:
    return len(text.split())


def on_planted(seed: int, run: Run) -> dict:
    """Return how often evidence, and the beginning of as many words, hold the whole fact."""
    documents = planted_documents(seed)
    evidence = passages_of([(request, text) for request, text, _ in documents])
    rows, shares, unsupported = [], [], 0
    for (_, text, fact), passages in zip(documents, evidence, strict=True):
        joined = " ".join(passages)
        shares.append(length(joined) / length(text))
        rows.append((fact in joined, fact in beginning(text, length(joined))))
        unsupported += sum(not part.is_found for part in exact_parts(joined, text))
    kept = np.array(rows, dtype=float)
    return {
        "seed": seed,
        "kept": round(float(kept[:, 0].mean()), 4),
        "kept by the beginning": round(float(kept[:, 1].mean()), 4),
        "over the beginning": interval(kept[:, 0] - kept[:, 1], run),
        "share of words": round(float(np.mean(shares)), 4),
        "unsupported": unsupported,
    }


def interval(differences: np.ndarray, run: Run, clusters: np.ndarray | None = None) -> dict:
    """Return the mean and its 95 % interval, clusters drawn together."""
    low, high = bootstrap(differences[:, None], seed=run.seed, clusters=clusters)
    figures = {"difference": differences.mean(), "low": low[0], "high": high[0]}
    return {name: round(float(value), 4) for name, value in figures.items()}


def session_texts(data: Dataset) -> dict[tuple[str, str], str]:
    """Return (dialogue, session) -> its turns, a line each."""
    turns = data.tables["turns"].sort("dialogue_id", "turn")
    lines: dict[tuple[str, str], list[str]] = {}
    for row in turns.iter_rows(named=True):
        shared = f" [shares {row['caption']}]" if row["caption"] else ""
        line = f"{row['speaker']}: {row['text'] or ''}{shared}"
        lines.setdefault((row["dialogue_id"], row["session_id"]), []).append(line)
    return {key: "\n".join(of_session) for key, of_session in lines.items()}


def dialogue_names(data: Dataset) -> list[str]:
    return sorted(data.tables["requests"]["context"].unique().to_list())


def questions(data: Dataset) -> pl.DataFrame:
    """Return answerable questions with the sessions of their evidence."""
    turns = data.tables["turns"].with_columns(item_id=pl.format("{}:{}", "dialogue_id", "turn"))
    judged = data.tables["judgements"].join(turns, on="item_id")
    gold = judged.group_by("query_id").agg(pl.col("session_id").unique().sort())
    return (
        data.tables["requests"]
        .filter(pl.col("category") != "adversarial")
        .join(gold, left_on="request_id", right_on="query_id")
        .sort("request_id")
    )


def on_sessions(data: Dataset, run: Run) -> dict:
    """Return shares of the answers' words in evidence of the sessions that hold them."""
    texts = session_texts(data)
    judged = dialogue_names(data)[LEARNED:]
    rows = [
        (row["text"], texts[row["context"], session], row["answer"], row["context"])
        for row in questions(data).iter_rows(named=True)
        for session in row["session_id"]
        if row["context"] in judged
    ]
    evidence = passages_of([(request, text) for request, text, _, _ in rows])
    shares, words_kept, clusters, unsupported = [], [], [], 0
    for (_, text, answer, dialogue), passages in zip(rows, evidence, strict=True):
        wanted = stems(answer) & stems(text)
        if not wanted:
            continue  # such as a date that is worked out from the session's
        joined = "\n".join(passages)
        cut = beginning(text, length(joined))
        shares.append([len(wanted & stems(part)) / len(wanted) for part in (joined, cut)])
        words_kept.append(length(joined) / length(text))
        clusters.append(dialogue)
        unsupported += sum(not part.is_found for part in exact_parts(joined, text))
    kept = np.array(shares)
    return {
        "questions and sessions": len(kept),
        "answer words in evidence": round(float(kept[:, 0].mean()), 4),
        "answer words in the beginning": round(float(kept[:, 1].mean()), 4),
        "over the beginning": interval(kept[:, 0] - kept[:, 1], run, np.array(clusters)),
        "share of words": round(float(np.mean(words_kept)), 4),
        "unsupported": unsupported,
    }


def stems(text: str) -> set[str]:
    """Return the stems of a text without stop words."""
    return set(
        search_words(" ".join(w for w in words(text) if w not in STOP_WORDS["english"]), "english")
    )


def as_keywords(data: Dataset, run: Run) -> dict:
    """Return what the scorer's order of sessions loses where requests are keywords."""
    learned, judged = dialogue_names(data)[:LEARNED], dialogue_names(data)[LEARNED:]
    method = PrismReranker().fit(session_data(data, learned, run), run)
    test = session_data(data, judged, run)
    lists = examples(PrismReranker().fit(test, run), test, run)
    plain = method.rerank([example.shortlist for example in lists])
    shorter = [with_keywords(example.shortlist) for example in lists]
    values = np.array(
        [
            [list_ndcg(result.scores, example.gains) for result in pair]
            for example, *pair in zip(lists, plain, method.rerank(shorter), strict=True)
        ]
    )
    return {
        "questions": len(values),
        "NDCG@10": round(float(values[:, 0].mean()), 4),
        "NDCG@10 by keywords": round(float(values[:, 1].mean()), 4),
        "NDCG@10 of the first stage": round(
            float(np.mean([list_ndcg(item.shortlist.prior, item.gains) for item in lists])), 4
        ),
        "loss": interval(values[:, 0] - values[:, 1], run),
        "learned": method.fit_report_,
    }


def session_data(data: Dataset, dialogues: list[str], run: Run) -> Dataset:
    """Return questions of these dialogues; candidates are the dialogue's sessions, by words."""
    texts = {
        f"{dialogue}/{session}": text
        for (dialogue, session), text in session_texts(data).items()
        if dialogue in dialogues
    }
    rng = run.rng("questions", *dialogues)
    rows = [row for row in questions(data).iter_rows(named=True) if row["context"] in dialogues]
    drawn = [rows[i] for i in rng.permutation(len(rows))[: QUESTIONS * len(dialogues)]]
    judgements = [
        {"query_id": row["request_id"], "item_id": f"{row['context']}/{session}", "grade": 1}
        for row in drawn
        for session in row["session_id"]
    ]
    candidates = [
        {"query_id": row["request_id"], "item_id": item}
        for row in drawn
        for item in texts
        if item.startswith(f"{row['context']}/")
    ]
    # shared words count as the first stage's score
    requests = {row["request_id"]: stems(row["text"]) for row in drawn}
    of_items = {item: stems(text) for item, text in texts.items()}
    scores = [len(requests[row["query_id"]] & of_items[row["item_id"]]) for row in candidates]
    table = pl.DataFrame(candidates).with_columns(score=pl.Series(scores, dtype=pl.Float64))
    table = table.sort(["query_id", "score"], descending=[False, True], maintain_order=True)
    table = table.with_columns(rank=pl.int_range(1, pl.len() + 1).over("query_id"))
    return Dataset(
        {
            "events": pl.DataFrame({"user_id": ["nobody"], "item_id": [next(iter(texts))]}),
            "items": pl.DataFrame({"item_id": list(texts), "text": list(texts.values())}),
            "requests": pl.DataFrame(drawn).select("request_id", "text"),
            "judgements": pl.DataFrame(judgements),
            "candidates": table,
        },
        "sessions",
    )


def with_keywords(shortlist: Shortlist) -> Shortlist:
    """Return a list whose request is its telling words only."""
    kept = [word for word in words(shortlist.request) if word not in STOP_WORDS["english"]]
    prior, texts = shortlist.prior, shortlist.texts
    return Shortlist(shortlist.query, texts, prior, shortlist.titles, " ".join(kept))


def by_local_model(run: Run) -> dict:
    """Return how many of a small model's words about planted documents pass the check."""
    method = PrismReranker(llm=language_model("default"), threshold=0.0)
    documents = planted_documents(run.seed, WRITTEN)
    lists = [Shortlist.of_texts(request, [text]) for request, text, _ in documents]
    details = [result.details[0] for result in method.rerank(lists)]
    kept = [
        fact in str(row["evidence"]) for row, (_, _, fact) in zip(details, documents, strict=True)
    ]
    written = [
        any(part["text"] not in text for part in row["evidence"])
        for row, (_, text, _) in zip(details, documents, strict=True)
    ]
    return {
        "documents": len(details),
        "with refused words": sum("unsupported" in row for row in details),
        "rewritten evidence that passed": sum(written),
        "kept the fact": sum(kept),
    }
