"""LettinGo on the thousand users of MovieLens-1M: profiles judged by what came after them.

Users are cut into learning and test users, three times. The writer learns on the first histories
(`train.txt`) of learning users; of test users it writes from the same file, and is judged by their
later items (`valid.txt`): NDCG@10 of each among 99 others of like popularity, up to ten a user.
Rivals: the untaught writer, a fixed template (the five most frequent genres), the writer taught by
the best draw alone (SFT), no profile, and another user's profile. A second reader, of hashed words,
judges the same profiles. `profile_share` is chosen on learning users alone, by log-loss.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import polars as pl
from claim_tools import SEEDS, seeded
from shared_data import data_folder

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.evaluation.significance import bootstrap
from tailor.papers.profiles.lettingo import MAX_TOKENS, Example, LettinGo, Reader
from tailor.profiles.sentences import Candidates
from tailor.text.cached import item_vectors
from tailor.text.hashing import HashingEncoder

TARGETS, OTHERS = 10, 99
SHARES = (0.3, 0.5, 0.7)
TEST_SHARE = 0.5
FREQUENT = 0  # place of the kind among the features


def measure(run: Run) -> Claim:
    """NDCG@10 of the next items by profiles, for three cuts of the users."""
    data, later = movies()
    rows = [on(data, later, seeded(run, seed)) for seed in SEEDS]
    checks = {
        "above the untaught writer": all(row["leads"]["untaught"]["low"] > 0 for row in rows),
        "above the writer taught by the best draws alone (SFT)": all(
            row["leads"]["SFT"]["difference"] > 0 for row in rows
        ),
        "not below the fixed template": all(row["leads"]["template"]["high"] >= 0 for row in rows),
        "above another user's profile": all(row["leads"]["swapped"]["low"] > 0 for row in rows),
        "by another reader: above the untaught writer": all(
            row["second reader"]["leads"]["untaught"]["low"] > 0 for row in rows
        ),
        f"no profile has more than {MAX_TOKENS} tokens": all(
            row["most tokens"] <= MAX_TOKENS for row in rows
        ),
    }
    return Claim(checks, {"cuts of the users": rows}, list(SEEDS), ["ml-1m-1000users"])


def movies() -> tuple[Dataset, dict[str, list[str]]]:
    """Return the first histories of all users with the films, and each one's later items."""
    folder = data_folder() / "movielens" / "ml-1m-1000users"
    films = pl.read_csv(folder / "movie_detail.csv", schema_overrides={"movie_id": pl.String})
    items = films.select(
        item_id="movie_id",
        title="title",
        categories=pl.col("genres").str.split("|"),
        text="summary",
    )
    known = set(items["item_id"].to_list())
    first, later = (
        {
            words[0]: [item for item in words[1:] if item in known]
            for words in map(str.split, (folder / f"{name}.txt").read_text().splitlines())
        }
        for name in ("train", "valid")
    )
    pairs = [(user, item, n) for user, row in first.items() for n, item in enumerate(row)]
    events = pl.DataFrame(pairs, schema=["user_id", "item_id", "order"], orient="row")
    return Dataset({"events": events, "items": items}, "ml-1m"), later


def on(data: Dataset, later: dict[str, list[str]], run: Run) -> dict[str, Any]:
    """Return the table of one cut of the users."""
    users = run.rng("cut").permutation(sorted(data.users.ids.tolist())).tolist()
    n_test = int(TEST_SHARE * len(users))
    test, learning = users[:n_test], users[n_test:]
    train = Dataset(
        {**data.tables, "events": data.events.filter(pl.col("user_id").is_in(learning))}, "learning"
    )
    share, tried = choose_share(train, run)
    writers = {
        name: LettinGo(teacher=teacher, profile_share=share).fit(train, run)  # type: ignore[arg-type]
        for name, teacher in {"taught": "dpo", "untaught": "none", "SFT": "sft"}.items()
    }
    taught = writers["taught"]
    examples = examples_of(taught, data, later, test)
    rng = run.rng("profiles")
    picked = {name: written(writers[name], name, examples, rng) for name in writers}
    picked["template"] = [most_frequent(example.candidates) for example in examples]
    picked["no profile"] = [np.zeros(0, np.int64)] * len(examples)
    lists = with_others(data, taught, examples, run)
    row = judged(taught.reader, vectors_of(taught, examples), picked, examples, lists, run)
    second = second_reader(taught, data)
    hashed = [second[1].encode(example.candidates.texts) for example in examples]
    report = taught.fit_report_
    return {
        "seed": run.seed,
        "profile_share": share,
        "tried": tried,
        "weights": report["weights"],
        "pairs": report["pairs"],
        "lift of held-out learning users": report["lift"],
        **row,
        "second reader": judged(second[0], hashed, picked, examples, lists, run),
        "most tokens": max(
            profile.details.get("tokens", 0) for profile in taught.profile(data.queries(test))
        ),
    }


def choose_share(train: Dataset, run: Run) -> tuple[float, dict[str, float]]:
    """Return the share of the profile in the reader of most lift, by held-out learning users."""
    lifts = {
        share: LettinGo(profile_share=share).fit(train, run).fit_report_["lift"]["nats"]
        for share in SHARES
    }
    best = max(lifts, key=lambda share: lifts[share])
    return best, {str(share): lift for share, lift in lifts.items()}


def examples_of(
    method: LettinGo, data: Dataset, later: dict[str, list[str]], users: list[str]
) -> list[Example]:
    """Return test users: sentences of the first file, its latest items, and later items."""
    bank = method._bank
    examples = []
    for i, query in enumerate(data.queries(users)):
        rows = method.items_.rows(query.history.item_ids)
        targets = method.items_.rows(later.get(users[i], [])[:TARGETS])
        old = rows[: -method.recent]
        candidates = bank.candidates(old)
        if len(old) >= method.min_events and len(targets) and len(candidates) > method.sentences:
            examples.append(Example(candidates, rows[-method.recent :], targets))
    return examples


def written(
    method: LettinGo, name: str, examples: Sequence[Example], rng: np.random.Generator
) -> list[np.ndarray]:
    """Return the places of each profile's sentences; the untaught writer draws them."""
    if name == "untaught":
        return [
            rng.permutation(len(example.candidates))[: method.sentences] for example in examples
        ]
    return [method._picked(example.candidates) for example in examples]


def most_frequent(candidates: Candidates) -> np.ndarray:
    """Return the places of the five most frequent values: the candidates begin with them."""
    return np.flatnonzero(candidates.features[:, FREQUENT] > 0)[:5]


def vectors_of(method: LettinGo, examples: Sequence[Example]) -> list[np.ndarray]:
    return method._sentence_vectors([example.candidates for example in examples])


def with_others(
    data: Dataset, method: LettinGo, examples: Sequence[Example], run: Run
) -> list[np.ndarray]:
    """Return (targets, 100) rows a user: a target first, then others drawn by popularity."""
    popularity = np.bincount(data.sequences.rows.values, minlength=len(data.catalogue)) + 1.0
    share = popularity / popularity.sum()
    rng = run.rng("others")
    lists = []
    for example in examples:
        rows = []
        for target in example.targets.tolist():
            drawn = rng.choice(len(share), OTHERS + 1 + TARGETS, replace=False, p=share)
            others = drawn[~np.isin(drawn, example.targets)][:OTHERS]
            rows.append(np.r_[target, others])
        lists.append(np.array(rows))
    return lists


def judged(
    reader: Reader,
    vectors: list[np.ndarray],
    picked: dict[str, list[np.ndarray]],
    examples: Sequence[Example],
    lists: list[np.ndarray],
    run: Run,
) -> dict[str, Any]:
    """Return NDCG@10 by writer, and the leads of the taught one."""
    said = {
        name: [of_user[places] for of_user, places in zip(vectors, of_writer, strict=True)]
        for name, of_writer in picked.items()
    }
    said["swapped"] = said["taught"][1:] + said["taught"][:1]
    values = {
        name: np.array(
            [
                gains(reader, sentences, example, of_user)
                for sentences, example, of_user in zip(of_all, examples, lists, strict=True)
            ]
        )
        for name, of_all in said.items()
    }
    leads = {}
    for name, of_writer in values.items():
        if name != "taught":
            differences = values["taught"] - of_writer
            low, high = bootstrap(differences[:, None], seed=run.seed)
            leads[name] = {
                "difference": round(float(differences.mean()), 4),
                "low": round(float(low[0]), 4),
                "high": round(float(high[0]), 4),
            }
    means = {name: round(float(of_all.mean()), 4) for name, of_all in values.items()}
    return {"users": len(examples), "NDCG@10": means, "leads": leads}


def gains(reader: Reader, sentences: np.ndarray, example: Example, lists: np.ndarray) -> float:
    """Return the mean NDCG@10 of the first row of each list."""
    user = reader.users(sentences[None], example.context)[0]
    scores = reader.items[lists] @ user  # targets, 100
    places = 1 + (scores[:, 1:] > scores[:, :1]).sum(axis=1)
    places = places + (scores[:, 1:] == scores[:, :1]).sum(axis=1) / 2
    return float(np.where(places <= 10, 1 / np.log2(1 + places), 0.0).mean())


def second_reader(method: LettinGo, data: Dataset) -> tuple[Reader, HashingEncoder]:
    """Return a reader of hashed words, which taught nobody, and its encoder."""
    encoder = HashingEncoder(1_024)
    vectors = item_vectors(encoder, data.item_texts)
    return Reader(vectors, method.profile_share, method.temperature), encoder
