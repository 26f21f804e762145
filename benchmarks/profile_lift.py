"""What a profile is worth to a list: NDCG@10 with it, without it, and with another user's.

    python benchmarks/profile_lift.py

Co-visitation's first 50 items are ordered by co-visitation and `ProfileMatch` together (`Fuse`); the
profiles are those of `InteractionProfile`, made of the history before the target. The weight of the
profile, and how much it says, are chosen on validation. Planted shops (views, three random states,
one choice for all), 5,000 users of Beauty (attributes as categories) and MovieLens small (genres, a
global cut in time).
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import polars as pl
from claim_tools import SEEDS
from shared_data import data_folder, real, sample_users
from writing import write_result

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.splits import Split, split_by
from tailor.pipeline.fuse import Fuse
from tailor.profiles.interaction_profile import InteractionProfile
from tailor.profiles.lift import Lift, Qualities, qualities
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.profile_match import ProfileMatch
from tailor.worlds.shop import shop

WEIGHTS = (0.02, 0.05, 0.1, 0.2)
FORMS = ((0.9, 12), (0.7, 24), (0.5, 200))  # least confidence and most facts of a profile
USERS = 5_000  # of Beauty
DEPTH, K = 50, 10
TRAITS = ("categories", "brand", "colour", "material", "style", "price_band")


def main() -> None:
    splits = {
        "planted shops": [views(shop(seed=seed).data) for seed in SEEDS],
        "beauty": [split_by(sample_users(beauty(), USERS), "last")],
        "ml-latest-small": [split_by(real("ml-latest-small"), "time")],
    }
    result = {}
    for name, of_name in splits.items():
        started_s = time.process_time()
        result[name] = measured(of_name)
        result[name]["processor_seconds"] = round(time.process_time() - started_s, 1)
        print(name, result[name], flush=True)
    write_result("profile-lift", 0, "python benchmarks/profile_lift.py", result)


def views(data: Dataset) -> Split:
    return split_by(data, "last", only="action = 'view'")


def beauty() -> Dataset:
    """Return Beauty with the attributes of its items as categories."""
    data = real("beauty")
    path = data_folder() / "amazon" / "beauty" / "item2attributes.json"
    attributes = json.loads(path.read_text())
    ids = data.tables["items"]["item_id"].to_list()
    column = [[str(value) for value in attributes.get(item, [])] for item in ids]
    items = data.tables["items"].with_columns(pl.Series("categories", column))
    return Dataset({**data.tables, "items": items}, data.name)


def measured(splits: Sequence[Split]) -> dict[str, Any]:
    """Return the choice of best gain on validation, and its lift on test, splits together."""
    rows = [tried_on(split, "valid", FORMS, WEIGHTS) for split in splits]
    gains = {
        choice: Lift.of(together([row[choice] for row in rows])).gain.mean for choice in rows[0]
    }
    form, weight = max(gains, key=lambda choice: gains[choice])
    on_test = [tried_on(split, "test", (form,), (weight,))[form, weight] for split in splits]
    overall = Lift.of(together(on_test))
    confidence, facts = form
    return {
        "weight": weight,
        "min_confidence": confidence,
        "max_facts": facts,
        "gain on validation": {
            f"{form[0]}, {form[1]} facts, weight {weight}": gain
            for (form, weight), gain in gains.items()
        },
        **asdict(overall),
        "per_100_tokens": round(overall.per_100_tokens, 5),
        "passes_swap": overall.passes_swap,
        "gain of each": [asdict(Lift.of(values).gain) for values in on_test],
    }


def together(values: Sequence[Qualities]) -> Qualities:
    """Return the users of several data sets as those of one."""
    return Qualities(*map(np.concatenate, zip(*values, strict=True)))


def tried_on(
    split: Split, part: str, forms: Sequence[tuple[float, int]], weights: Sequence[float]
) -> dict[tuple[tuple[float, int], float], Qualities]:
    """Return (form of the profile, its weight) -> NDCG@10 of every user with it and without."""
    run = Run()
    data = split.train
    traits = tuple(name for name in TRAITS if name in data.item_table.columns)
    parts = [CoVisitation(), ProfileMatch(attributes=traits)]
    fused = Fuse(parts=parts, weights=(1, 1), depth=DEPTH).fit(data, run)
    queries = split.queries(part)[0].without_history()
    candidates = fused.parts_[0].recommend(queries, DEPTH)
    values = {}
    for form in forms:
        confidence, facts = form
        profiler = InteractionProfile(traits, confidence, max_facts=facts, usual="events")
        profiles = profiler.fit(data, run).profile(queries)
        for weight in weights:
            blend = fused._with_state(weights_=[1 - weight, weight])
            values[form, weight] = qualities(profiles, blend, split, part, K, candidates=candidates)
    return values


if __name__ == "__main__":
    main()
