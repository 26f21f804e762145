"""Diagnosis: every planted trap is found by itself, figures have their closed form, and a clean
world is left in peace.
"""

import json

import numpy as np
import polars as pl
import pytest

from tailor.data.dataset import Dataset
from tailor.data.splits import by_time, last_out
from tailor.evaluation.diagnosis import diagnose
from tailor.evaluation.protocol import evaluate
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.popularity import Popularity
from tailor.testing.data import tiny_data

DATA = tiny_data(users=80, items=60, events=9)


def floors(found) -> dict[str, float]:
    return {one.name: one.hit for one in found.floors}


def world(
    users: int = 300,
    items: int = 200,
    seed: int = 0,
    numbered: bool = False,
    step=None,
    words: bool = False,
) -> Dataset:
    """People choose by chance, or the item that `step` says follows; ids are numbered by first
    appearance where asked.
    """
    rng = np.random.default_rng(seed)
    rows = np.empty((users, 6), dtype=np.int64)
    rows[:, 0] = rng.integers(0, items, users)
    for at in range(1, 6):
        rows[:, at] = rng.integers(0, items, users) if step is None else step(rows[:, at - 1], rng)
    names = (
        {int(row): at for at, row in enumerate(dict.fromkeys(rows.ravel().tolist()))}
        if numbered
        else {at: f"i{at:04d}" for at in range(items)}
    )
    events = pl.DataFrame(
        {
            "user_id": np.repeat([f"u{at:04d}" for at in range(users)], 6),
            "item_id": [str(names[row]) for row in rows.ravel().tolist()],
            "time_ms": 1_600_000_000_000 + 1000 * np.arange(users * 6),
        }
    )
    tables = {"events": events}
    if words:
        tables["items"] = pl.DataFrame(
            {
                "item_id": [str(one) for one in names.values()],
                "title": [f"word{row % 20} kind{row % 7}" for row in names],
            }
        )
    return Dataset(tables)


def test_floors_are_those_of_the_methods():
    split = last_out(DATA)
    found = diagnose(split)
    plain = CoVisitation(distance_power=0.0, reverse=0.0, history_decay=0.5, top_n=None)
    report = evaluate(
        {"co-visitation": plain.fit(split.train), "most popular": Popularity().fit(split.train)},
        split,
    )
    for floor in found.floors:
        if floor.name in report.methods:
            assert floor.hit == pytest.approx(
                report.mean(floor.name, "HR@10")
            ) and floor.ndcg == pytest.approx(report.mean(floor.name, "NDCG@10"))
    assert found.facts["users"] == 80 and floors(found)["random"] == pytest.approx(
        10 / (60 - 8), abs=0.02
    )


def test_random_lists_are_said_to_reach_what_they_reach_where_people_repeat_themselves():
    repeating = world(
        300,
        30,
        step=lambda row, rng: np.where(
            rng.random(len(row)) < 0.7, row, rng.integers(0, 30, len(row))
        ),
    )
    for split in (last_out(repeating), by_time(repeating)):
        queries, targets = split.queries("test")
        rng, hit, gain = np.random.default_rng(1), [], []
        for at in range(len(queries)):
            wanted = set(targets[at].tolist())
            unseen = np.array(sorted(set(range(30)) - set(queries.histories[at].tolist())))
            ideal = sum(1 / np.log2(np.arange(2, min(len(wanted), 10) + 2)))
            for _ in range(100):
                found = np.isin(rng.permutation(unseen)[:10], list(wanted))
                hit.append(found.any())
                gain.append((found / np.log2(np.arange(2, 12))).sum() / ideal)
        random = diagnose(split).floors[-1]
        assert random.name == "random" and random.hit == pytest.approx(np.mean(hit), abs=0.01)
        assert random.ndcg == pytest.approx(np.mean(gain), abs=0.01)


def test_chance_alone_is_chance_and_nothing_is_wrong():
    found = diagnose(last_out(world(800)))
    assert not found.wrong
    hit = floors(found)
    # one item, not ten
    assert all(
        abs(value - hit["random"]) < 0.04
        for name, value in hit.items()
        if name != "the last item again"
    ), hit


def test_ids_in_order_of_appearance_are_found():
    """New people come with new items, as in the public sets: the next number is the next item."""
    fresh = world(
        500,
        900,
        numbered=True,
        step=lambda row, rng: np.where(
            rng.random(len(row)) < 0.6, (row + 1) % 900, rng.integers(0, 900, len(row))
        ),
    )
    found = diagnose(last_out(fresh))
    assert [one.name for one in found.wrong] == ["id_order"]
    assert floors(found)["the ten ids after the history's largest"] > 3 * floors(found)["random"]
    opaque = world(
        500,
        900,
        step=lambda row, rng: np.where(
            rng.random(len(row)) < 0.6, (row + 1) % 900, rng.integers(0, 900, len(row))
        ),
    )
    assert not diagnose(last_out(opaque)).wrong


def test_branching_is_the_number_of_equally_likely_next_items():
    one = diagnose(last_out(world(step=lambda row, rng: (row + 1) % 200)))
    three = diagnose(
        last_out(world(2000, 40, step=lambda row, rng: (row + rng.integers(1, 4, len(row))) % 40))
    )
    assert one.facts["branching"] == pytest.approx(1) and three.facts["branching"] == pytest.approx(
        3, rel=0.03
    )
    assert one.facts["solved by any shortcut"] > 0.95 and "shortcut" in [
        finding.name for finding in one.findings
    ]


def test_order_matters_where_steps_have_a_direction():
    ordered = diagnose(
        last_out(
            world(
                1500, 150, step=lambda row, rng: (row + 1 + 20 * rng.integers(0, 4, len(row))) % 150
            )
        )
    )
    mixed = diagnose(
        last_out(
            world(1500, 150, step=lambda row, rng: (row + rng.choice([-1, 1], len(row))) % 150)
        )
    )
    assert (
        ordered.facts["order beside shuffled"] > 1.2 and mixed.facts["order beside shuffled"] < 1.1
    )


def test_words_that_foretell_the_next_item_are_seen():
    found = diagnose(
        last_out(
            world(
                words=True, step=lambda row, rng: (row + 20 * rng.integers(1, 10, len(row))) % 200
            )
        )
    )
    assert (
        found.facts["text likeness of next items"]
        > 3 * found.facts["text likeness of any two items"]
    )
    assert floors(found)["most similar text to the last item"] > 2 * floors(found)["random"]
    without = diagnose(last_out(world()))
    assert without.facts[
        "text likeness of next items"
    ] is None and "most similar text to the last item" not in floors(without)


def test_fashions_that_pass_are_seen():
    stays = world(600, 30, step=lambda row, rng: np.minimum(rng.geometric(0.15, len(row)), 29))
    events = stays.events.with_columns(
        item_id=pl.when(pl.int_range(pl.len()) < pl.len() // 2)
        .then(pl.col("item_id"))
        .otherwise("late " + pl.col("item_id"))
    )
    passes = Dataset({"events": events})
    kept, lost = (
        diagnose(by_time(data)).facts["popularity kept over time"] for data in (stays, passes)
    )
    assert kept > 0.6 and lost < 0


def test_what_the_data_do_not_allow_is_none_and_never_0():
    events = pl.DataFrame({"user_id": ["a"] * 4 + ["b"] * 4, "item_id": list("wxyzxyzw")})
    found = diagnose(last_out(Dataset({"events": events})))
    assert found.facts["popularity kept over time"] is None and found.facts["tied times"] is None
    assert "most popular lately" not in floors(found)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["facts"]["tied times"] is None


def test_habits_are_a_floor_where_people_repeat():
    found = diagnose(
        last_out(
            world(
                step=lambda row, rng: np.where(
                    rng.random(len(row)) < 0.8, row, rng.integers(0, 200, len(row))
                )
            )
        )
    )
    assert floors(found)["the last item again"] > 0.7 and found.facts["repeats"] > 0.5
    assert "shortcut" in [finding.name for finding in found.findings]


@pytest.mark.slow
def test_beauty_is_diagnosed_and_its_ids_are_caught(real):
    found = diagnose(last_out(real("beauty")))
    assert [one.name for one in found.wrong] == ["id_order"]
    hit = floors(found)
    assert hit["the ten ids after the history's largest"] == pytest.approx(0.046, abs=0.004)
    assert hit["co-visitation"] == pytest.approx(0.0813, abs=0.006) and hit[
        "most popular"
    ] == pytest.approx(0.0115, abs=0.003)
