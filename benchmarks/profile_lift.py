"""What a profile is worth to a list: NDCG@10 with it, without it, and with another user's.

    python benchmarks/profile_lift.py

Co-visitation's first 50 items are ordered by co-visitation and `ProfileMatch` together (`Fuse`); the
profiles are those of `InteractionProfile`, made of the history before the target. The weight of the
profile is chosen on validation, for each data set. Planted shops (views, three random states),
Beauty (attributes as categories) and MovieLens small (genres, a global cut in time).
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import polars as pl
from claim_tools import SEEDS
from shared_data import data_folder, real
from writing import write_result

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.splits import Split, split_by
from tailor.pipeline.fuse import Fuse
from tailor.profiles.interaction_profile import InteractionProfile
from tailor.profiles.lift import Lift, lift
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.profile_match import ProfileMatch
from tailor.worlds.shop import shop

WEIGHTS = (0.02, 0.05, 0.1, 0.2)
DEPTH, K = 50, 10
TRAITS = ("categories", "brand", "colour", "material", "style", "price_band")


def main() -> None:
    shops = {f"shop {seed}": views(shop(seed=seed).data) for seed in SEEDS}
    splits = {
        **shops,
        "beauty": split_by(beauty(), "last"),
        "ml-latest-small": split_by(real("ml-latest-small"), "time"),
    }
    result = {}
    for name, split in splits.items():
        started_s = time.process_time()
        result[name] = measured(split)
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


def measured(split: Split) -> dict[str, Any]:
    """Return the weight chosen on validation, and the lift on the test part."""
    run = Run()
    data = split.train
    traits = tuple(name for name in TRAITS if name in data.item_table.columns)
    parts = [CoVisitation(), ProfileMatch(attributes=traits)]
    fused = Fuse(parts=parts, weights=(1, 1), depth=DEPTH).fit(data, run)
    profiler = InteractionProfile(attributes=traits, max_facts=12).fit(data, run)
    by_weight = lifts(split, "valid", fused, profiler, WEIGHTS)
    best = max(by_weight, key=lambda weight: by_weight[weight].gain.mean)
    tried = {str(weight): of_weight.gain.mean for weight, of_weight in by_weight.items()}
    on_test = lifts(split, "test", fused, profiler, (best,))[best]
    return {
        "weight": best,
        "tried": tried,
        **asdict(on_test),
        "per_100_tokens": round(on_test.per_100_tokens, 5),
        "passes_swap": on_test.passes_swap,
    }


def lifts(
    split: Split,
    part: str,
    fused: Fuse,
    profiler: InteractionProfile,
    weights: Sequence[float],
) -> dict[float, Lift]:
    """Return weight of the profile -> lift on a part; lists and profiles are made once."""
    queries = split.queries(part)[0].without_history()
    candidates = fused.parts_[0].recommend(queries, DEPTH)
    profiles = profiler.profile(queries)
    return {
        weight: lift(
            profiles,
            fused._with_state(weights_=[1 - weight, weight]),
            split,
            part,
            K,
            candidates=candidates,
        )
        for weight in weights
    }


if __name__ == "__main__":
    main()
