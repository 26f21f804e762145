"""Pedagogical agent: answers of ASSIST2009's other students, and a planted classroom.

The learning rate, the batch and the number of epochs were chosen by the AUC of a tenth of the
training students. A skill stands for a question, since the file has no questions; answers to
questions of two skills are two rows there, one after the other, and the second repeats the first.
So the figures are also given for the answers that follow one of the same skill, which cannot be
such a repetition.
"""

from copy import copy
from typing import Any

import numpy as np
import scipy.sparse as sp
from claim_tools import SEEDS, is_above, seeded
from shared_data import assist2009
from sklearn.linear_model import LogisticRegression

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.event_columns import event_columns
from tailor.data.nouns import History, Query
from tailor.data.queries import Queries
from tailor.evaluation.prediction_figures import LabelFigures
from tailor.evaluation.significance import bootstrap
from tailor.metrics.calibration import expected_calibration_error
from tailor.metrics.prediction import auc
from tailor.papers.ranking.pedagogical_agent import PedagogicalAgent
from tailor.worlds.seeds import random_of
from tailor.worlds.students import Classroom, classroom

STUDENTS = 500  # of the test file that are judged
FLOOR = 0.74  # AUC of the logistic regression over all test students
FIRST = 10  # answers of a student whom little is known about
LATEST = 5  # answers of the short running rate
QUESTIONS, WARM_UP = 40, 10  # asked of a student in the classroom; the first ones at random
TAILS = (0.025, 0.975)


def measure(run: Run) -> Claim:
    """ASSIST2009 and a classroom, three random states each."""
    train = assist2009("train")
    test = some_students(assist2009("test"), STUDENTS)
    floor = floor_probabilities(train, test)
    answers = [judged(train, test, floor, seeded(run, seed)) for seed in SEEDS]
    rooms = [taught(seeded(run, seed)) for seed in SEEDS]
    checks = {
        f"ASSIST2009: AUC above {FLOOR}": all(row["AUC"]["agent"] > FLOOR for row in answers),
        "ASSIST2009: AUC above the logistic regression on counts": is_above(answers, "all"),
        f"ASSIST2009: not below it over the first {FIRST} answers": all(
            row["leads"]["first"]["high"] >= 0 for row in answers
        ),
        "ASSIST2009: above it after an answer of the same skill": is_above(answers, "same skill"),
        "ASSIST2009: accuracy above the majority's": all(
            row["accuracy"] > row["majority"] for row in answers
        ),
        "classroom: ability rises faster than by random questions": is_above(rooms, "random"),
        "classroom: and than by the hardest questions": is_above(rooms, "hardest"),
    }
    figures = {"assist2009": answers, "classroom": rooms}
    return Claim(checks, figures, list(SEEDS), ["assist2009", "classroom"])


def some_students(data: Dataset, n: int) -> Dataset:
    """Return the answers of the first n students of the file."""
    chosen = data.events["user_id"].unique(maintain_order=True)[:n]
    return data.cut(data.events["user_id"].is_in(chosen.to_list()).to_numpy())


def judged(train: Dataset, test: Dataset, floor: np.ndarray, run: Run) -> dict[str, Any]:
    """Fit on some students and judge every answer of others, as they are given."""
    agent = PedagogicalAgent().fit(train, run)
    queries, labels = queries_of(test)
    rows = test.sequences.rows
    ids = test.catalogue.named(rows.values)
    predicted = np.concatenate(agent.predict(queries, [[item_id] for item_id in ids]))
    strata = {
        "all": np.ones(len(labels), dtype=bool),
        "first": queries.histories.lengths < FIRST,
        "same skill": np.r_[False, rows.values[1:] == rows.values[:-1]] & (rows.from_start > 0),
    }
    leads = {
        name: auc_lead(labels[mask], rows.row_ids[mask], predicted[mask], floor[mask], run.seed)
        for name, mask in strata.items()
    }
    return {
        "seed": run.seed,
        "answers": {name: int(mask.sum()) for name, mask in strata.items()},
        "AUC": {
            "agent": round(auc(labels, predicted), 4),
            "floor": round(auc(labels, floor), 4),
        },
        "leads": leads,
        "accuracy": round(float(((predicted > 0.5) == labels).mean()), 4),
        "majority": round(float(labels.mean()), 4),
        "ECE": round(expected_calibration_error(labels, predicted), 4),
        "epochs": agent.fit_report_["best_epoch"],
    }


def auc_lead(
    labels: np.ndarray, users: np.ndarray, agent: np.ndarray, floor: np.ndarray, seed: int
) -> dict[str, float]:
    """Return the difference of two AUCs with its 95 % interval over students."""
    numbers = np.unique(users, return_inverse=True)[1]
    drawn = LabelFigures().drawn(labels, numbers, [agent, floor], draws=300, seed=seed)
    low, high = np.quantile(drawn[:, 0] - drawn[:, 1], TAILS)
    return {
        "agent": round(auc(labels, agent), 4),
        "floor": round(auc(labels, floor), 4),
        "low": round(float(low), 4),
        "high": round(float(high), 4),
    }


# ---- answers as queries, and counts of earlier ones


def queries_of(data: Dataset, length: int = 100) -> tuple[Queries, np.ndarray]:
    """Return a query before every answer, with the latest earlier ones, and (m,) labels."""
    rows = data.sequences.rows
    values = event_columns(data, ["values"])["values"]
    stops = np.arange(len(rows.values))
    lengths = np.minimum(rows.from_start, length)
    starts = stops - lengths
    histories = Ragged.of_lengths(lengths, stops)  # its values are replaced
    positions = np.arange(lengths.sum()) + np.repeat(starts - histories.offsets[:-1], lengths)
    histories = histories.with_values(rows.values[positions])
    columns = {"values": histories.with_values(values[positions])}
    user_ids = data.users.ids[rows.row_ids]
    return Queries(data.catalogue, histories, user_ids, columns), values


def floor_probabilities(train: Dataset, test: Dataset) -> np.ndarray:
    """Return predictions of a logistic regression on the skill and counts of earlier answers."""
    model = LogisticRegression(C=1.0, max_iter=200)
    features, labels = counts_of(train)
    model.fit(features, labels)
    return model.predict_proba(counts_of(test)[0])[:, 1]


def counts_of(data: Dataset) -> tuple[sp.csr_matrix, np.ndarray]:
    """Return skill, log counts of right and wrong answers to it, and two running rates.

    Skills are numbered as in the file.
    """
    rows = data.sequences.rows
    labels = event_columns(data, ["values"])["values"]
    skills = np.array(data.catalogue.named(rows.values)).astype(int)
    counts = np.zeros((len(labels), 4))
    for start, stop in zip(rows.offsets[:-1], rows.offsets[1:], strict=True):
        counts[start:stop] = student_counts(skills[start:stop], labels[start:stop])
    one_hot = sp.csr_matrix(
        (np.ones(len(skills)), (np.arange(len(skills)), skills - 1)), (len(skills), 200)
    )
    return sp.hstack([one_hot, counts]).tocsr(), labels


def student_counts(skills: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return (n, 4) counts before each of a student's answers."""
    outcomes = np.zeros((200, 2))
    rows = []
    for i, (skill, label) in enumerate(
        zip(skills.tolist(), labels.astype(int).tolist(), strict=True)
    ):
        wrong, right = np.log1p(outcomes[skill])
        overall = (labels[:i].sum() + 1) / (i + 2)
        recent = labels[max(0, i - LATEST) : i]
        rows.append((right, wrong, overall, (recent.sum() + 1) / (len(recent) + 2)))
        outcomes[skill, label] += 1
    return np.array(rows).reshape(-1, 4)


# ---- a classroom


def taught(run: Run) -> dict[str, Any]:
    """Let 200 new students answer the same number of questions by each policy."""
    log = classroom(1_000, seed=run.seed).practise(60, random_of(run.seed, "log"))
    agent = PedagogicalAgent().fit(log, run)
    hardest = copy(agent)
    hardest.band = (0.0, 1.0)
    gains = {
        "agent": gain_by(agent, run.seed),
        "random": gain_by(None, run.seed),
        "hardest": gain_by(hardest, run.seed),
        "knows the truth": gain_by("truth", run.seed),
    }
    leads = {}
    for rival in ("random", "hardest"):
        low, high = bootstrap((gains["agent"] - gains[rival])[:, None], seed=run.seed)
        leads[rival] = {"low": round(float(low[0]), 4), "high": round(float(high[0]), 4)}
    means = {policy: round(float(gain.mean()), 4) for policy, gain in gains.items()}
    return {"seed": run.seed, "students": 200, "ability gained": means, "leads": leads}


def gain_by(policy: PedagogicalAgent | str | None, seed: int) -> np.ndarray:
    """Return (U,) the true ability that students gained, in the mean over topics."""
    room = classroom(200, seed=seed, new_students=1)
    rng = random_of(seed, "play")
    ids = room.question_ids.to_list()
    pasts: list[tuple[list[str], list[float]]] = [([], []) for _ in range(200)]
    for step in range(QUESTIONS):
        draws = rng.random(200)
        questions = rng.integers(len(ids), size=200)
        if step >= WARM_UP and policy is not None:
            questions = chosen(policy, room, pasts)
        answers = room.answer(questions, draws).astype(float)
        for (items, values), question, answer in zip(pasts, questions, answers, strict=True):
            items.append(ids[question])
            values.append(float(answer))
    return (room.abilities - room.first_abilities).mean(axis=1)


def chosen(
    policy: PedagogicalAgent | str, room: Classroom, pasts: list[tuple[list[str], list[float]]]
) -> np.ndarray:
    """Return the next question of every student."""
    if isinstance(policy, str):  # the truth: what teaches most
        return np.abs(room.probabilities() - 0.5).argmin(axis=1)
    queries = [
        Query(history=History(tuple(items), values=tuple(values))) for items, values in pasts
    ]
    row_of = {item_id: row for row, item_id in enumerate(room.question_ids)}
    return np.array([row_of[ranking.ids[0]] for ranking in policy.next_question(queries)])
