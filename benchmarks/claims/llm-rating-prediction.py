"""LLMRatingPrediction on ml-100k: 150 ratings of the last tenth of every user's, and the local
language model, whose prompts hold 5 ratings.

Penalties of the factorization, and learning rate and history (50 ratings) of the nets, were chosen
on the validation part; prompts were written before any figure was seen. Boosted trees stand beside
the methods of the paper.
"""

from itertools import pairwise

from shared_data import real

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.llm.local import LocalModel
from tailor.llm.scripted import ScriptedModel
from tailor.papers.ranking.llm_rating_prediction import LLMRatingPrediction, RatingReport
from tailor.ranking.boosted_trees import BoostedTrees
from tailor.testing.data import tiny_data
from tailor.text.hashing import HashingEncoder

N, HISTORY = 150, 5  # a prompt takes half a second
GAIN = 0.1  # of RMSE that fitting must bring over asking
BIASES, FITTED, CLASSICAL = "user and item biases", "net over lines", "biased MF"
ASKED = tuple(
    f"language model, {manner}"
    for manner in ("zero-shot", "few-shot", "with averages", "zero-shot, written")
)


def measure(run: Run) -> Claim:
    """Fit, ask and compare on ml-100k, once."""
    study = LLMRatingPrediction(n=N, history=HISTORY, language_model=LocalModel(), epochs=8)
    trees = BoostedTrees(source="value", trees=150)
    report = study.run(real("ml-100k"), {"boosted trees": trees}, run)
    leads = {
        f"{method} over {other}": report.difference(method, other, run.seed)
        for method, other in pairs_of_interest(report)
    }
    zero_shot = f"{FITTED} over {ASKED[0]}"
    errors = {(point.method, point.share): point.rmse for point in report.curve}
    checks = {
        "zero-shot RMSE above that of the biases": leads[f"{ASKED[0]} over {BIASES}"]["low"] > 0,
        "zero-shot, written, too": leads[f"{ASKED[3]} over {BIASES}"]["low"] > 0,
        f"the fitted net at least {GAIN} below zero-shot": (
            leads[zero_shot]["difference"] <= -GAIN and leads[zero_shot]["high"] < 0
        ),
        "the fitted net below the mean of the user, over all test ratings": (
            errors[FITTED, 1.0] < errors["mean of the user", 1.0]
        ),
        "errors for four shares of the users, the net's falling with each": (
            len({share for _, share in errors}) == 4 and is_falling(report, FITTED)
        ),
    }
    return Claim(checks, report.to_dict() | {"leads": leads}, [run.seed], ["ml-100k"])


def pairs_of_interest(report: RatingReport) -> list[tuple[str, str]]:
    """Return the pairs of methods whose difference is recorded."""
    pairs = [(name, BIASES) for name in ASKED]
    pairs += [(FITTED, ASKED[0]), (FITTED, CLASSICAL), (FITTED, BIASES)]
    pairs += [("net over lines, classes", FITTED), ("net over ids", FITTED)]
    return [pair for pair in pairs if set(pair) <= set(report.predictions)]


def is_falling(report: RatingReport, method: str) -> bool:
    """Say whether a method's error falls with the share of the users."""
    errors = [point.rmse for point in report.curve if point.method == method]
    return all(later < earlier for earlier, later in pairwise(errors))


def behave(run: Run) -> dict[str, float | str]:
    """Return the figures of a small study on tiny data."""
    study = LLMRatingPrediction(
        n=20,
        language_model=ScriptedModel(noise=0.5),
        encoder=HashingEncoder(16),
        epochs=2,
        shares=(0.3, 1.0),
    )
    report = study.run(tiny_data(), {}, run)
    figures: dict[str, float | str] = {row.method: row.rmse for row in report.rows}
    return figures | {f"{point.method} {point.share}": point.rmse for point in report.curve}
