"""Rankify on LoCoMo: each dialogue from its files to reranked, cited and judged answers, timed.

The reranker's settings are chosen on two dialogues; the other eight judge. Hits are those of the
turns that LoCoMo names as evidence. Beside it, without a check: answers as sentences against the
whole first passage, and the small local language model in its four manners on a few questions.
"""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from judged_lists import above
from shared_data import real

from tailor.bench.claims import Claim
from tailor.core.defaults import encoder
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.passage_lists import (
    PassageList,
    documents_as_items,
    read_documents,
    read_questions,
    write_lists,
)
from tailor.evaluation.answers import judge_answers
from tailor.llm.local import LocalModel
from tailor.metrics.answers import token_f1
from tailor.papers.reranking.e2rank import E2Rank
from tailor.papers.reranking.rankify import Rankify
from tailor.reranking.examples import grades_of
from tailor.reranking.turn_lists import item_id, turns_of
from tailor.text.cached import CachedEncoder, plain

CHOOSING = 2  # dialogues on which settings are chosen
MOST_S = 60.0  # from the files of a dialogue to judged answers
K = 10
PRIOR_WEIGHTS = (0.2, 0.35, 0.5, 0.65, 0.8)
FEEDBACK_WEIGHTS = (0.0, 0.4, 0.8)
UNANSWERED = "adversarial"  # category of questions without an answer
ASKED = 8  # questions that the local model answers in each manner
MANNERS = ("zero-shot", "in-context", "chain-of-thought", "fusion")
EXAMPLES = {"When did Tom buy the car?": "12 April 2022", "What does Tom play?": "the guitar"}
CORE_S = 0.5  # processor seconds to import the core


@dataclass(frozen=True, eq=False)
class Answered:
    """A dialogue's questions, answered: one value a question."""

    before: np.ndarray
    """(Q,) 1 where a turn that is evidence stands among the first K retrieved."""
    after: np.ndarray
    """(Q,) the same after reranking."""
    figures: dict[str, np.ndarray]
    """Metric of the answers -> (Q,)."""
    seconds: float
    """Processor seconds from the files to judged answers, nothing encoded before."""
    lists: list[PassageList]
    """Reranked."""


def measure(run: Run) -> Claim:
    """Choose on two dialogues, judge on eight."""
    data = real("locomo")
    evidence = grades_of(data)
    names = list(turns_of(data))
    with tempfile.TemporaryDirectory() as folder:
        write_files(data, Path(folder))
        choosing = [retrieved(Path(folder), name) for name in names[:CHOOSING]]
        settings, tried = chosen(choosing, evidence)
        # the model is loaded before anything is timed
        plain(encoder()).encode(["a text"])
        fresh = CachedEncoder(plain(encoder()), str(Path(folder) / "vectors"))
        judged = {
            name: answered(Path(folder), name, E2Rank(encoder=fresh, **settings), evidence)
            for name in names[CHOOSING:]
        }
    before = np.concatenate([part.before for part in judged.values()])
    after = np.concatenate([part.after for part in judged.values()])
    hit = above(after, before, run.seed)
    slowest = max(part.seconds for part in judged.values())
    core = core_import()
    checks = {
        f"every dialogue takes less than {MOST_S:g} processor seconds from files to answers": (
            slowest < MOST_S
        ),
        f"hit@{K} after reranking is at least that before, in every dialogue": all(
            part.after.mean() >= part.before.mean() for part in judged.values()
        ),
        f"hit@{K} after reranking is above that before, over all questions": hit["low"] > 0,
        "the core is imported without torch": not core["torch"],
        f"the core is imported in less than {CORE_S:g} processor seconds": core["s"] < CORE_S,
    }
    names_of = judged[names[CHOOSING]].figures
    figures = {
        "chosen": settings,
        "tried": tried,
        "questions": len(before),
        f"hit@{K} before": round(float(before.mean()), 4),
        f"hit@{K} after": round(float(after.mean()), 4),
        "gain": hit,
        "answers": {
            metric: round(
                float(np.nanmean(np.concatenate([p.figures[metric] for p in judged.values()]))), 4
            )
            for metric in names_of
        },
        "processor seconds of a dialogue": {
            name: round(p.seconds, 2) for name, p in judged.items()
        },
        "local model": local_answers(judged[names[CHOOSING]].lists),
        "import of the core": core,
    }
    return Claim(checks, figures, [run.seed], ["locomo"])


def write_files(data: Dataset, folder: Path) -> None:
    """Write every dialogue as a file of turns and a file of questions with right answers."""
    for name, turns in turns_of(data).items():
        documents = [{"id": item_id(turn), "text": turn.line()} for turn in turns]
        write_lines(folder / f"{name}.documents.jsonl", documents)
    requests = data.tables["requests"]
    for (name,), part in requests.partition_by("context", as_dict=True).items():
        questions = [
            {"id": row["request_id"], "question": row["text"], "answers": [row["answer"]]}
            for row in part.iter_rows(named=True)
            if row["category"] != UNANSWERED and row["answer"]
        ]
        write_lines(folder / f"{name}.questions.jsonl", questions)


def write_lines(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def retrieved(folder: Path, name: str) -> list[PassageList]:
    """Return a dialogue's questions with the turns that share most words with them."""
    documents = read_documents(folder / f"{name}.documents.jsonl")
    rankify = Rankify().fit(documents_as_items(documents.values()))
    return rankify.retrieve_missing(read_questions(folder / f"{name}.questions.jsonl"))


def chosen(
    dialogues: list[list[PassageList]], evidence: dict[str, dict[str, float]]
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the settings with the most hits on these dialogues, and what was tried."""
    lists = [of_question for dialogue in dialogues for of_question in dialogue]
    tried = {"as retrieved": float(hits(lists, evidence).mean())}
    best: dict[str, float] = {}
    for prior_weight in PRIOR_WEIGHTS:
        for feedback_weight in FEEDBACK_WEIGHTS:
            settings = {"prior_weight": prior_weight, "feedback_weight": feedback_weight}
            value = float(
                hits(Rankify(reranker=E2Rank(**settings)).reorder(lists), evidence).mean()
            )
            best = settings if value > max(tried.values()) else best
            tried[json.dumps(settings)] = round(value, 4)
    return best, tried


def hits(lists: list[PassageList], evidence: dict[str, dict[str, float]]) -> np.ndarray:
    """Return (Q,) 1 where one of the first K passages is evidence of the question."""
    return np.array(
        [
            float(any(p.id in evidence.get(of_query.id, {}) for p in of_query.passages[:K]))
            for of_query in lists
        ]
    )


def answered(
    folder: Path, name: str, reranker: E2Rank, evidence: dict[str, dict[str, float]]
) -> Answered:
    """Go from the files of a dialogue to judged answers, as examples/answer.py does."""
    start_s = time.process_time()
    documents = read_documents(folder / f"{name}.documents.jsonl")
    questions = read_questions(folder / f"{name}.questions.jsonl")
    rankify = Rankify(reranker=reranker).fit(documents_as_items(documents.values()))
    before = rankify.retrieve_missing(questions)
    reranked = rankify.reorder(before)
    answers = [output.text for output in rankify.answer(reranked)]
    report = judge_answers(answers, before, reranked, K)
    write_lists(folder / f"{name}.lists.jsonl", reranked)
    seconds = time.process_time() - start_s
    rivals = {
        "token F1, first passage": [list_.passages[0].text for list_ in reranked],
        "token F1, not reranked": [output.text for output in rankify.answer(before)],
    }
    figures = dict(report.values)
    for label, texts in rivals.items():
        figures[label] = np.array(
            [token_f1(text, q.answers) for text, q in zip(texts, questions, strict=True)]
        )
    return Answered(hits(before, evidence), hits(reranked, evidence), figures, seconds, reranked)


def local_answers(lists: list[PassageList]) -> dict[str, dict[str, float]]:
    """Return token F1 and seconds a question of the local model, on a few questions."""
    few = lists[:: max(len(lists) // ASKED, 1)][:ASKED]
    rows = {"extract": f1_of(Rankify(), few)}
    for manner in MANNERS:
        rankify = Rankify(
            manner=manner,  # type: ignore[arg-type]
            llm=LocalModel(),
            examples=EXAMPLES if manner == "in-context" else {},
            answer_tokens=32,
        )
        rows[manner] = f1_of(rankify, few)
    return rows


def f1_of(rankify: Rankify, lists: list[PassageList]) -> dict[str, float]:
    start_s = time.perf_counter()
    outputs = rankify.answer(lists)
    seconds = (time.perf_counter() - start_s) / len(lists)
    values = [token_f1(o.text, q.answers) for o, q in zip(outputs, lists, strict=True)]
    cited = [bool(output.evidence) for output in outputs]
    return {
        "token F1": round(float(np.mean(values)), 4),
        "cites": round(float(np.mean(cited)), 4),
        "seconds": round(seconds, 2),
        "calls": float(np.mean([output.details.get("calls", 0) for output in outputs])),
    }


def core_import() -> dict[str, float | bool]:
    """Return the processor seconds of importing data sets and the verbs, and whether with torch."""
    code = (
        "import time, sys; start = time.process_time(); import tailor; tailor.Dataset;"
        " tailor.Recommender;"
        " print(time.process_time() - start, 'torch' in sys.modules)"
    )
    outputs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(3)
    ]
    pairs = [done.stdout.split() for done in outputs]
    return {"s": min(float(s) for s, _ in pairs), "torch": any(t == "True" for _, t in pairs)}
