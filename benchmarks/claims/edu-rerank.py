"""Titles of reviews by EDU plans: four different plans against four drawn from the same scores.

Fitted on reviews of 598 people, judged on 70 others, on reviews that have at least four plans. How
different plans must be, how many clauses one has, and the rival's temperature are chosen on people
left out of the fit. Drafts are extracts. Printed beside: draws without repetition, the four best
plans however alike, and titles of the small language model for 40 reviews, to plans and by
temperature.
"""

import sys
import tempfile
from dataclasses import replace
from itertools import combinations
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import polars as pl
from claim_tools import Remembering
from shared_data import data_folder

from tailor.bench.claims import Claim
from tailor.core.defaults import encoder
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.importers.importing import import_data
from tailor.evaluation.significance import bootstrap
from tailor.llm.cached import Cached
from tailor.llm.local import LocalModel
from tailor.llm.prompts import Template
from tailor.metrics.rouge import rouge_l, rouge_n
from tailor.papers.reranking.edu_rerank import Draft, EDURerank, Reading
from tailor.text.words import words
from tailor.writing.titled_texts import TitledText, titled_texts

K = 4
REPEATS = 10  # of the rival's draws, over which its figures are means
CLAUSES = (1, 2)
STRENGTHS = (0.3, 0.5, 0.7, 0.9)
TEMPERATURES = (0.1, 0.25, 0.5, 1.0)
CHOOSING_PEOPLE = 60
CHOOSING_PAIRS = 400  # reviews learned from while settings are chosen
PAIRS = 800  # reviews learned from in the end
BY_MODEL = 40  # reviews that the language model tells
PLAIN = Template(
    "Here is a text:\n{text}\nWrite a title of at most {most} words for it. Answer with nothing"
    " else.",
    trusted=("most",),
    foreign=("text",),
)
Judged = list[tuple[Reading, str]]
Values = dict[str, np.ndarray]


def measure(run: Run) -> Claim:
    """Choose on training people left out, then judge on others."""
    training = reviews("training.jsonl")
    shared = {"encoder": Remembering(encoder().exact()), "candidates": K}
    settings, temperature, tried = chosen(training, shared, run)
    method = EDURerank(**settings, **shared, most_pairs=PAIRS).fit(training, run)
    judged = readings_of(method, titled_texts(reviews("validation.jsonl")))
    rows = {
        "different plans": figures_of([method.extracts(reading) for reading, _ in judged], judged),
        "draws": repeated(method, judged, temperature, run, may_repeat=True),
        "distinct draws": repeated(method, judged, temperature, run, may_repeat=False),
        "best plans": figures_of(best_plans(method, judged), judged),
    }
    picks = picked(method, judged)
    leads = {
        f"{name}: different plans over {other}": lead(
            rows["different plans"][name], rows[other][name], run
        )
        for name in ("mutual ROUGE-L", "oracle ROUGE-1")
        for other in list(rows)[1:]
    }
    leads |= {
        f"pick over {other}": lead(picks["pick"], picks[other], run) for other in list(picks)[1:]
    }
    mutual, oracle = (
        leads[f"{name}: different plans over draws"]
        for name in ("mutual ROUGE-L", "oracle ROUGE-1")
    )
    checks = {
        "drafts are less alike than draws": mutual["high"] < 0,
        "drafts are less alike than distinct draws": (
            leads["mutual ROUGE-L: different plans over distinct draws"]["high"] < 0
        ),
        "the best of four drafts is above that of four draws": oracle["low"] > 0,
        "the reranker's pick is above the mean draft": leads["pick over mean draft"]["low"] > 0,
    }
    figures = {
        "reviews judged": len(judged),
        "chosen": {**settings, "temperature of the rival": temperature},
        "tried, oracle of 4": tried,
        "means": {name: means_of(values) for name, values in rows.items()},
        "picked, ROUGE-1": means_of(picks),
        "leads": leads,
        "learned": method.fit_report_,
        "by the small language model": by_model(method, judged[:BY_MODEL]),
    }
    return Claim(checks, figures, [run.seed], ["amazon-reviews"])


def reviews(name: str) -> Dataset:
    """Return a file of reviews, a line per person."""
    with tempfile.TemporaryDirectory() as out:
        import_data(data_folder() / "amazon-reviews" / name, Path(out) / "d", format="user-json")
        return Dataset(dict(Dataset.open(Path(out) / "d").tables), "reviews")


def chosen(training: Dataset, shared: dict, run: Run) -> tuple[dict, float, dict[str, float]]:
    """Return the best settings and the rival's best temperature, and all values that were tried.

    Both are those of the highest mean ROUGE-1 of the best of four, on people who are left out.
    """
    people = run.rng("choosing").permutation(training.users.ids)[:CHOOSING_PEOPLE].tolist()
    texts = training.tables["texts"]
    is_left_out = pl.col("user_id").is_in(people)
    learned = Dataset({**training.tables, "texts": texts.filter(~is_left_out)})
    left_out = Dataset({**training.tables, "texts": texts.filter(is_left_out)})
    plans: dict[tuple[int, float], float] = {}
    draws: dict[tuple[int, float], float] = {}
    for clauses in CLAUSES:
        method = EDURerank(**shared, clauses=clauses, most_pairs=CHOOSING_PAIRS)
        method.fit(learned, run)
        judged = readings_of(method, titled_texts(left_out))
        for strength in STRENGTHS:
            method.strength = strength
            drafts = [method.extracts(reading) for reading, _ in judged]
            plans[clauses, strength] = oracle(drafts, judged)
        for temperature in TEMPERATURES:
            drafts = drawn_drafts(method, judged, temperature, run, may_repeat=True)
            draws[clauses, temperature] = oracle(drafts, judged)
    clauses, strength = max(plans, key=lambda key: plans[key])
    _, temperature = max((key for key in draws if key[0] == clauses), key=lambda key: draws[key])
    tried = {f"{n} clauses, strength {value}": score for (n, value), score in plans.items()}
    tried |= {f"{n} clauses, draws at {value}": score for (n, value), score in draws.items()}
    return {"clauses": clauses, "strength": strength}, temperature, tried


def readings_of(method: EDURerank, titled: list[TitledText]) -> Judged:
    """Return texts that have at least K plans, with their titles."""
    readings = method.read([(text, earlier) for text, _, earlier in titled])
    return [
        (reading, title)
        for reading, (_, title, _) in zip(readings, titled, strict=True)
        if len(reading.plans) >= K and words(title)
    ]


# ---- rivals


def drawn_drafts(
    method: EDURerank,
    judged: Judged,
    temperature: float,
    run: Run,
    may_repeat: bool,
    number: int = 0,
) -> list[list[Draft]]:
    """Return K drafts a text whose plans are drawn from a softmax over their scores."""
    rng = run.rng("draws", number)
    drafts = []
    for reading, _ in judged:
        log_odds = reading.features @ method.weights_ / temperature
        shares = np.exp(log_odds - log_odds.max())
        rows = rng.choice(len(shares), K, replace=may_repeat, p=shares / shares.sum())
        drafts.append([method.extract(reading, row) for row in rows.tolist()])
    return drafts


def repeated(
    method: EDURerank, judged: Judged, temperature: float, run: Run, may_repeat: bool
) -> Values:
    """Return the means over several draws of the rival's figures."""
    rows = [
        figures_of(drawn_drafts(method, judged, temperature, run, may_repeat, number), judged)
        for number in range(REPEATS)
    ]
    return {name: np.mean([row[name] for row in rows], axis=0) for name in rows[0]}


def best_plans(method: EDURerank, judged: Judged) -> list[list[Draft]]:
    """Return the drafts of the K best plans, however alike."""
    orders = [
        np.argsort(-(reading.features @ method.weights_), kind="stable")[:K].tolist()
        for reading, _ in judged
    ]
    return [
        [method.extract(reading, row) for row in order]
        for (reading, _), order in zip(judged, orders, strict=True)
    ]


# ---- figures


def figures_of(drafts: list[list[Draft]], judged: Judged) -> Values:
    return of_texts([[draft.text for draft in of_review] for of_review in drafts], judged)


def of_texts(texts: list[list[str]], judged: Judged) -> Values:
    """Return figures (R,) of the texts written for each review."""
    mutual = [
        np.mean([rouge_l(words(a), words(b)) for a, b in combinations(of_review, 2)])
        for of_review in texts
    ]
    scores = scores_of(texts, judged)
    return {
        "mutual ROUGE-L": np.array(mutual),
        "oracle ROUGE-1": scores.max(axis=1),
        "mean ROUGE-1": scores.mean(axis=1),
    }


def scores_of(texts: list[list[str]], judged: Judged) -> np.ndarray:
    """Return ROUGE-1 (R, K) of texts with the review's title."""
    return np.array(
        [
            [rouge_n(words(text), words(title)) for text in of_review]
            for of_review, (_, title) in zip(texts, judged, strict=True)
        ]
    )


def oracle(drafts: list[list[Draft]], judged: Judged) -> float:
    return round(float(figures_of(drafts, judged)["oracle ROUGE-1"].mean()), 4)


def picked(method: EDURerank, judged: Judged) -> Values:
    """Return ROUGE-1 (R,) of the draft picked, the mean draft, the best plan, the first clause."""
    readings = [reading for reading, _ in judged]
    drafts = [method.extracts(reading) for reading in readings]
    scores = scores_of([[draft.text for draft in of_review] for of_review in drafts], judged)
    best = np.array([of_review.argmax() for of_review in method.scores(readings, drafts)])
    return {
        "pick": scores[np.arange(len(scores)), best],
        "mean draft": scores.mean(axis=1),
        "best plan": scores[:, 0],
        "first clause": scores_of([[reading.texts[0]] for reading in readings], judged)[:, 0],
    }


def by_model(method: EDURerank, judged: Judged) -> dict:
    """Return figures of the small language model's titles, to plans and by temperature."""
    llm = Cached(LocalModel())
    writer = replace(method, llm=llm, budget=400)._with_state(**method.state())
    readings = [reading for reading, _ in judged]
    drafts = writer.drafts(readings)
    most = str(writer.most_words)
    prompts = [
        PLAIN.filled(writer.budget, text=reading.source.text, most=most).text
        for reading in readings
    ]
    answers = llm.complete(prompts, max_tokens=4 * writer.most_words, temperature=1.0, n=K)
    samples = [
        [first_words(text, writer.most_words) for text in answer.texts] for answer in answers
    ]
    own, others = [], []
    for reading, of_review in zip(readings, drafts, strict=True):
        for draft in of_review:
            plans = [other.plan for other in of_review if other.plan != draft.plan]
            own.append(reading.source.adherence(draft.text, draft.plan))
            others += [reading.source.adherence(draft.text, plan) for plan in plans]
    statuses = [draft.status for of_review in drafts for draft in of_review]
    return {
        "reviews": len(judged),
        "to plans": means_of(figures_of(drafts, judged)),
        "by temperature 1": means_of(of_texts(samples, judged)),
        "adherence to the own plan": round(float(np.mean(own)), 4),
        "adherence to the other plans": round(float(np.mean(others)), 4),
        "drafts in the model's words": round(statuses.count("written") / len(statuses), 4),
    }


def first_words(text: str, most: int) -> str:
    """Return the first line of an answer, cut as drafts are."""
    return " ".join(next(iter(text.strip().splitlines()), "").split()[:most])


def means_of(values: Values) -> dict[str, float]:
    return {name: round(float(of_name.mean()), 4) for name, of_name in values.items()}


def lead(values: np.ndarray, others: np.ndarray, run: Run) -> dict[str, float]:
    """Return the paired mean difference and its 95 % interval over reviews."""
    low, high = bootstrap((values - others)[:, None], seed=run.seed)
    figures = {"difference": (values - others).mean(), "low": low[0], "high": high[0]}
    return {name: round(float(value), 4) for name, value in figures.items()}
