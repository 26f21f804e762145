"""PersonaMem on planted lives and on PrefEval.

Planted: five random states; the writer learns on 20 people and is judged on 30 others, whose chats
hold other people's affairs, secrets, changes and sentences that no pattern knows. Rivals: the
latest and the most frequent notes, and those of an untaught writer, within the same 256 tokens;
retrieval of turns with four times as many. Once more with wordings that the writer has not learned
on: sentences, small talk and reports of other people are split. PrefEval: `benchmarks/prefeval.py`.
"""

import sys
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from lives_tools import share
from prefeval import of_preferences

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.evaluation.significance import bootstrap
from tailor.papers.profiles.personamem import (
    FEATURES,
    Exam,
    PersonaMem,
    TextMemory,
    exams_of,
    notes_of,
)
from tailor.profiles.propositions import Observation
from tailor.profiles.recall import Recall, Remembered
from tailor.worlds.lives import Lives, lives

STATES = (0, 1, 2, 3, 4)
LEARNED, JUDGED = 20, 30  # people
BUDGET = 256
TURNS_BUDGET = 4 * BUDGET
Wordings = Literal["all", "first", "last"]


def measure(run: Run) -> Claim:
    """Judge memories by the answers they allow."""
    usual = [of_lives(seed, run, ("all", "all")) for seed in STATES]
    held_out = [of_lives(seed, run, ("first", "last")) for seed in STATES]
    tables = {"lives": table_of(usual), "lives, other wordings": table_of(held_out)}
    pref = of_preferences()
    checks = {}
    for name, table in tables.items():
        leads = table["learned over"]
        checks |= {
            f"{name}: above the {rival} notes": leads[rival]["low"] > 0
            for rival in ("latest", "most frequent")
        }
        checks[f"{name}: above the untaught writer"] = leads["untaught"]["low"] > 0
        checks[f"{name}: not below retrieval with four times the tokens"] = (
            leads["turns, 4 x the tokens"]["high"] >= 0
        )
    everyone = [*usual, *held_out]
    checks |= {
        "lives: other people's values chosen in at most 5 %": all(
            p["others' values chosen"] <= 0.05 for p in everyone
        ),
        "lives: secrets in no memory": all(p["memories with a secret"] == 0 for p in everyone),
        "lives: no memory over its budget": all(p["most tokens"] <= BUDGET for p in everyone),
        "PrefEval: with memory above without": pref["over no history"]["low"] > 0,
    }
    checks = {name: bool(value) for name, value in checks.items()}
    return Claim(checks, {**tables, "PrefEval": pref}, list(STATES), ["lives", "prefeval"])


def table_of(planted: list[dict]) -> dict:
    """Return the figures of all states, and the leads of the learned writer over its rivals."""
    rows = {name: np.concatenate([p["hits"][name] for p in planted]) for name in planted[0]["hits"]}
    clusters = np.concatenate([p["clusters"] for p in planted])
    return {
        "right, all states": {name: share(values) for name, values in rows.items()},
        "learned over": {
            rival: lead(rows["learned"] - values, clusters)
            for rival, values in rows.items()
            if rival != "learned"
        },
        "states": [{k: v for k, v in p.items() if k not in ("hits", "clusters")} for p in planted],
    }


def lead(differences: np.ndarray, clusters: np.ndarray) -> dict[str, float]:
    """Return the mean difference and its interval, the questions of a person drawn together."""
    low, high = bootstrap(differences[:, None].astype(float), clusters=clusters)
    values = (float(differences.mean()), float(low[0]), float(high[0]))
    return dict(zip(("difference", "low", "high"), (round(v, 4) for v in values), strict=True))


# --- planted lives


def world_of(seed: int, people: int, wordings: Wordings) -> Lives:
    return lives(
        people,
        seed=seed,
        facts=16,
        small_talk=60,
        implicit=0.4,
        others=0.6,
        secrets=0.5,
        wordings=wordings,
    )


def of_lives(seed: int, run: Run, wordings: tuple[Wordings, Wordings]) -> dict:
    """Return what memories of one random state let be answered.

    `wordings` are those of the people learned on, and of those judged.
    """
    learned = PersonaMem(BUDGET).fit(world_of(1_000 + seed, LEARNED, wordings[0]).data, run)
    world = world_of(seed, JUDGED, wordings[1])
    methods = {
        "learned": learned,
        "latest": by_feature("day"),
        "most frequent": by_feature("support"),
        "untaught": PersonaMem(BUDGET),
    }
    exams = exams_of(world.data)
    users = list(dict.fromkeys(world.truth.questions["user_id"].to_list()))
    others = {(f.user_id, f.object) for f in world.truth.others}
    hits: dict[str, list[float]] = {name: [] for name in (*methods, "turns, 4 x the tokens")}
    clusters, attributed, tokens, leaks = [], [], [], 0
    for user, exam in zip(users, exams, strict=True):
        memories = {name: method.remember(exam.observations) for name, method in methods.items()}
        tokens.append(memories["learned"].tokens)
        leaks += any(
            f.object in memories["learned"].text for f in world.truth.secrets if f.user_id == user
        )
        turns = opened_turns(exam)
        for question, options, right in exam.questions:
            clusters.append(f"{seed} {user}")
            for name, memory in memories.items():
                choice = learned.choose(memory, question, options)
                hits[name].append(choice == right)
                if name == "learned" and any((user, option) in others for option in options):
                    attributed.append((user, options[choice]) in others)
            memory = retrieved(turns, question)
            hits["turns, 4 x the tokens"].append(learned.choose(memory, question, options) == right)
    weights = dict(zip(FEATURES, np.round(learned.weights_, 2).tolist(), strict=True))
    return {
        "seed": seed,
        "questions": len(clusters),
        "right": {name: share(values) for name, values in hits.items()},
        "others' values chosen": share(attributed),
        "memories with a secret": leaks,
        "most tokens": max(tokens),
        "reward by epoch": learned.fit_report_["reward"],
        "weights": weights,
        "hits": {name: np.array(values, float) for name, values in hits.items()},
        "clusters": np.array(clusters),
    }


def by_feature(name: str) -> PersonaMem:
    """Return a memory that keeps the notes with the most of one feature."""
    method = PersonaMem(BUDGET)
    method.weights_ = np.array([float(feature == name) for feature in FEATURES])
    return method


def opened_turns(exam: Exam):
    """Return all turns of a user as a memory to search."""
    own = [o for o in exam.observations if o.speaker == "user"]
    remembered = [
        Remembered(o.observation_id, "observation", o.text, o.occurred_ms, "user", o.source, i)
        for i, o in enumerate(own)
    ]
    return Recall().opened(remembered)


def retrieved(turns, question: str) -> TextMemory:
    """Return the turns that fit a question best, the earliest first, within the larger budget."""
    items = turns.search(question, k=50, budget_tokens=TURNS_BUDGET).items
    ids = {item.id for item in items}
    kept = [entry for entry in turns.remembered if entry.id in ids]
    said = [Observation("chat", entry.text, entry.occurred_ms) for entry in kept]
    return TextMemory(tuple(note for o in said for note in notes_of(o)))
