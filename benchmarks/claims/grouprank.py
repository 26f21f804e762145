"""GroupRank on DL19's lists with a scripted judge whose mood changes from group to group; then the
student on Cranfield, learned on CACM, by labels alone and by labels and reward.

A grade of the judge is the passage's grade, an error, and an offset of the prompt, as a whole
number. The first stage has no weight here, so that only grades count.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from claim_tools import seeded
from judged_lists import JudgedList, above, judged_lists, ndcg_of
from shared_data import judged

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.llm.scripted import LINE, ScriptedModel, rng_of
from tailor.papers.reranking.grouprank import GroupRank, GroupRankStudent

SEEDS = [0, 1, 2]
DRAWS = range(6)  # of the judge's errors and moods
OFFSETS = (0.0, 2.0, 4.0)  # standard deviation of a group's offset, in grades
ERROR = 2.0  # standard deviation of the error of a grade
LOWEST_GRADE, PER_GRADE = 2.0, 2.0  # the judge's grade of a passage is 2, 4, 6 or 8
DEPTH = 50
FORMS = {
    "one shuffle, means": GroupRank(repeats=1, anchors=0, level=False),
    "two shuffles, means": GroupRank(anchors=0, level=False),
    "two shuffles, levelled": GroupRank(anchors=0),
    "two shuffles, anchors, means": GroupRank(level=False),
    "two shuffles, anchors, levelled": GroupRank(),
}


@dataclass(frozen=True)
class Judge(ScriptedModel):
    """Grades passages with errors, and with an offset that all passages of a prompt share."""

    offset: float = 0.0
    draw: int = 0

    def _line_worths(self, prompt: str, seed: int) -> np.ndarray:
        lines = [match.group(2) for match in LINE.finditer(prompt)]
        rng = rng_of(prompt, self.draw)
        truth = LOWEST_GRADE + PER_GRADE * np.array([self.knows[line] for line in lines])
        errors = ERROR * rng.standard_normal(len(lines))
        grades: np.ndarray = truth + errors + self.offset * rng.standard_normal()
        return grades / 10


def measure(run: Run) -> Claim:
    """Moods of three strengths on DL19, six draws; the student on Cranfield, three runs."""
    lists = judged_lists("dl19", 20)
    rows = {f"offset {offset:g}": mood_row(lists, offset) for offset in OFFSETS}
    students = [student_row(seeded(run, seed)) for seed in SEEDS]
    strong, calm = rows["offset 4"]["leads"], rows["offset 0"]["leads"]
    checks = {
        "a second shuffle is above one, at every strength of moods": all(
            row["leads"]["second shuffle"]["low"] > 0 for row in rows.values()
        ),
        "strong moods: anchors and levelling are above means": (
            strong["anchors and levelling over means"]["low"] > 0
        ),
        "strong moods: anchors are above levelling without them": (
            strong["anchors over levelling alone"]["low"] > 0
        ),
        "no moods: anchors and levelling cost at most .005": (
            calm["anchors and levelling over means"]["difference"] >= -0.005
        ),
        "calls are repeats times groups": all(row["calls are right"] for row in rows.values()),
        "Cranfield: the reward is at most .01 below labels alone, three runs": all(
            row["reward over labels"]["difference"] >= -0.01 for row in students
        ),
    }
    figures = {"DL19, scripted judge": rows, "Cranfield, student": students}
    return Claim(checks, figures, SEEDS, ["dl19", "cranfield", "cacm"])


def mood_row(lists: Sequence[JudgedList], offset: float) -> dict:
    values = {}
    is_right = True
    for name, form in FORMS.items():
        of_draws = []
        for draw in DRAWS:
            results = [grade(form, of_query, offset, draw) for of_query in lists]
            of_draws.append(ndcg_of(lists, [result.order for result in results]))
            is_right &= all(result.spent.calls == 2 * form.repeats for result in results)
        values[name] = np.mean(of_draws, axis=0)
    means, whole = values["two shuffles, means"], values["two shuffles, anchors, levelled"]
    return {
        "nDCG@10": {name: round(float(v.mean()), 4) for name, v in values.items()},
        "leads": {
            "second shuffle": above(means, values["one shuffle, means"]),
            "anchors and levelling over means": above(whole, means),
            "levelling alone over means": above(values["two shuffles, levelled"], means),
            "anchors over levelling alone": above(whole, values["two shuffles, levelled"]),
        },
        "calls are right": is_right,
    }


def grade(form: GroupRank, of_query: JudgedList, offset: float, draw: int):
    texts = tuple(str(doc) for doc in range(len(of_query.grades)))
    knows = {f"<<{text}>>": float(g) for text, g in zip(texts, of_query.grades, strict=True)}
    settings = form.params() | {
        "llm": Judge(knows=knows, offset=offset, draw=draw),
        "prior_weight": 0.0,
        "seed": draw,
    }
    return GroupRank(**settings).rerank([replace(of_query.shortlist, texts=texts)])[0]


def student_row(run: Run) -> dict:
    """Return Cranfield's nDCG@10 of students that learned on CACM."""
    lists = judged_lists("cranfield", DEPTH)
    shortlists = [of_query.shortlist for of_query in lists]
    data = judged("cacm", DEPTH)
    values = {"BM25": ndcg_of(lists, [np.arange(len(q.grades)) for q in lists])}
    reports = {}
    for name, reward in {"labels": False, "labels and reward": True}.items():
        student = GroupRankStudent(depth=DEPTH, reward=reward).fit(data, run)
        results = student.rerank(shortlists)
        values[name] = ndcg_of(lists, [result.order for result in results])
        reports[name] = {
            stage: {key: report[key] for key in ("epochs", "best_epoch", "steps", "seconds")}
            for stage, report in student.fit_report_.items()
            if isinstance(report, dict)
        }
    return {
        "seed": run.seed,
        "nDCG@10": {name: round(float(v.mean()), 4) for name, v in values.items()},
        "reward over labels": above(values["labels and reward"], values["labels"]),
        "labels over BM25": above(values["labels"], values["BM25"]),
        "training": reports,
    }
