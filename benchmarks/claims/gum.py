"""GUM on planted lives, on ml-100k and on LoCoMo.

Planted: 50 people, five random states: a memory that compares and revises beside one that only
adds. ml-100k: likes concluded from earlier ratings, judged by later ones of other people than those
it was calibrated on. LoCoMo: recall of evidence, weights chosen on the other nine dialogues.
"""

import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from lives_tools import (
    as_remembered,
    end_ms,
    every_draft,
    holding,
    key,
    observations_of,
    share,
    value_places,
)
from memory_tools import locomo_figures
from shared_data import real

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.evaluation.significance import bootstrap
from tailor.metrics.calibration import expected_calibration_error, reliability
from tailor.metrics.recalibration import platt
from tailor.papers.profiles.gum import GUM
from tailor.profiles.propositions import Observation, state_hash
from tailor.profiles.recall import Recall
from tailor.worlds.lives import lives

STATES = (0, 1, 2, 3, 4)
BINS = 5
FREE = 0.3  # share of wordings that no pattern knows, where confidence is judged


def measure(run: Run) -> Claim:
    """Measure the three parts."""
    planted = [of_lives(seed) for seed in STATES]
    free = [of_confidence(seed) for seed in STATES]
    likes = of_likes(run)
    locomo = locomo_figures(run)
    checks = {
        "lives: an outdated value above the present one in at most 2 % of questions": all(
            row["stale"] <= 0.02 for row in planted
        ),
        "lives: a memory that only adds is stale in 20 % or more": all(
            row["stale, only adding"] >= 0.2 for row in planted
        ),
        "lives: updates right in 95 % or more": all(row["updates"] >= 0.95 for row in planted),
        "lives: no more rows than facts": all(row["rows"] <= row["facts"] for row in planted),
        "lives: contradictions found, precision and recall .95 or more": all(
            min(row["contradiction precision"], row["contradiction recall"]) >= 0.95
            for row in planted
        ),
        "lives: one state in any order": all(row["states of 10 orders"] == 1 for row in planted),
        "lives, 30 % free wordings: error of calibration at most .1": all(
            row["error of calibration"] <= 0.1 for row in free
        ),
        "ml-100k: Brier score below the population's rate": likes["lead"]["low"] > 0,
        "ml-100k: reliability rises over five bins": likes["is rising"],
        "LoCoMo: R@10 of .702 or more without a model": locomo["words"]["R@10"] >= 0.702,
        "LoCoMo: R@10 of .73 or more with MiniLM": locomo["with MiniLM"]["R@10"] >= 0.73,
        "LoCoMo: above .614, interval over dialogues": locomo["words"]["low"] > 0.614,
    }
    checks = {name: bool(value) for name, value in checks.items()}
    figures = {"lives": planted, "free wordings": free, "ml-100k": likes, "locomo": locomo}
    return Claim(checks, figures, [*STATES, run.seed], ["lives", "ml-100k", "locomo"])


# --- planted lives


def of_lives(seed: int) -> dict:
    """Return stale values, updates, rows, contradictions and orders of 50 people."""
    world = lives(50, seed=seed)
    gum, recall = GUM(), Recall()
    now = end_ms()
    beliefs = {user: gum.believe(said) for user, said in observations_of(world).items()}
    stale, only_adding, updates = [], [], []
    for row in world.truth.questions.iter_rows(named=True):
        if not row["outdated"]:
            continue
        values = [row["answer"], *row["outdated"]]
        belief = beliefs[row["user_id"]]
        memory = as_remembered(belief.propositions, now)
        present, *old = value_places(memory, row["text"], values, recall)
        stale.append(min(old) < present)
        updates.append(present < min(old))
        present, *old = value_places(every_draft(belief.drafts), row["text"], values, recall)
        only_adding.append(min(old) < present)
    disputed = {
        (user, p.object)
        for user, belief in beliefs.items()
        for p in belief.propositions
        if p.status == "disputed"
    }
    planted = {(f.user_id, f.object) for f in world.truth.facts if f.kind == "contradicted"}
    facts = {(f.user_id, *key_of(f), f.from_day) for f in world.truth.facts}
    return {
        "seed": seed,
        "questions with an outdated value": len(stale),
        "stale": share(stale),
        "stale, only adding": share(only_adding),
        "updates": share(updates),
        "rows": sum(len(belief.propositions) for belief in beliefs.values()),
        "rows, only adding": sum(len(belief.drafts) for belief in beliefs.values()),
        "facts": len(facts) - len(planted),
        "contradictions": len(planted),
        "contradiction precision": round(len(disputed & planted) / max(len(disputed), 1), 4),
        "contradiction recall": round(len(disputed & planted) / max(len(planted), 1), 4),
        "states of 10 orders": most_states(gum, world, seed),
    }


def key_of(fact) -> tuple:
    return fact.predicate, fact.object, fact.sign, fact.scope


def most_states(gum: GUM, world, seed: int, orders: int = 10, people: int = 5) -> int:
    """Return the most different states of one person over shuffled, partly repeated observations."""
    rng = random.Random(seed)
    most = 0
    for said in list(observations_of(world).values())[:people]:
        hashes = set()
        for _ in range(orders):
            shuffled = [*said, *rng.sample(said, 5)]
            rng.shuffle(shuffled)
            hashes.add(state_hash(gum.believe(shuffled).propositions))
        most = max(most, len(hashes))
    return most


def of_confidence(seed: int) -> dict:
    """Return how well confidence is calibrated, by the truth of other people."""
    confidence, truth = confidences(seed + 100)
    recalibrated = platt(truth, confidence)
    confidence, truth = confidences(seed)
    values = recalibrated(confidence)
    return {
        "seed": seed,
        "propositions": len(truth),
        "true": share(truth),
        "error of calibration, raw": round(expected_calibration_error(truth, confidence, BINS), 4),
        "error of calibration": round(expected_calibration_error(truth, values, BINS), 4),
    }


def confidences(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return confidence and truth of what is believed at the end, with free wordings."""
    world = lives(50, seed=seed, implicit=FREE)
    rows = []
    for user, said in observations_of(world).items():
        truth = holding(world.facts_of(user))
        for p in GUM().believe(said).propositions:
            if p.holds_at(end_ms()) and p.valid_to_ms is None:
                rows.append((p.confidence(end_ms()), float(key(p) in truth)))
    confidence, is_true = np.array(rows).T
    return confidence, is_true


# --- ml-100k


def of_likes(run: Run) -> dict:
    """Return how well likes concluded from ratings say later ratings of people not learned from."""
    data = real("ml-100k")
    users = run.rng("halves").permutation(data.users.ids)
    halves = [set(users[: len(users) // 2].tolist()), set(users[len(users) // 2 :].tolist())]
    rows = []
    for learned, judged in (halves, halves[::-1]):
        mask = data.events["user_id"].is_in(list(learned)).to_numpy()
        gum = GUM().fit(data.cut(mask), run)
        pairs = likes_of(gum, data, learned)
        rate = np.mean([liked for _, liked, _ in pairs])
        slope, shift = gum.platt_
        for odds, liked, user in likes_of(gum, data, judged):
            logit = np.log(odds / (1 - odds))
            calibrated = 1 / (1 + np.exp(-(slope * logit + shift)))
            rows.append((calibrated, odds, rate, float(liked), user))
    calibrated, odds, rate, liked = np.array([row[:4] for row in rows]).T
    clusters = np.array([row[4] for row in rows])
    brier = [(values - liked) ** 2 for values in (calibrated, odds, rate)]
    low, high = bootstrap((brier[2] - brier[0])[:, None], seed=run.seed, clusters=clusters)
    table = reliability(liked, calibrated, BINS)
    return {
        "likes": len(liked),
        "users": len(set(clusters)),
        "Brier": round(float(brier[0].mean()), 4),
        "Brier, raw confidence": round(float(brier[1].mean()), 4),
        "Brier, rate of the population": round(float(brier[2].mean()), 4),
        "lead": {
            "difference": round(float((brier[2] - brier[0]).mean()), 4),
            "low": round(float(low[0]), 4),
            "high": round(float(high[0]), 4),
        },
        "error of calibration": round(expected_calibration_error(liked, calibrated), 4),
        "mean confidence in bins": np.round(table.predicted, 3).tolist(),
        "liked later in bins": np.round(table.happened, 3).tolist(),
        "is rising": bool((np.diff(table.happened) > 0).all()),
    }


def likes_of(gum: GUM, data, users: set[str]) -> list[tuple[float, bool, str]]:
    """Return odds, truth and user of the likes of some users."""
    rows = []
    for query in data.queries(columns=["values"]):
        if query.user_id not in users:
            continue
        history = query.history
        events = [
            Observation("event", "", time_ms, item_id, value)
            for item_id, time_ms, value in zip(
                history.item_ids, history.times_ms, history.values, strict=True
            )
        ]
        rows += [(odds, liked, str(query.user_id)) for odds, liked in gum.later_likes(events)]
    return rows
