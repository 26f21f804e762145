import numpy as np
import polars as pl
import pytest

from tailor.errors import DataError
from tailor.metrics.prediction import auc
from tailor.worlds.tabular import Tabular, tabular

SMALL = {"events": 20_000, "users": 20_000, "items": 500, "values": 6}


def rows_of(world: Tabular) -> pl.DataFrame:
    """Return the events with the columns of their users and items, in order, and p and log-odds."""
    frame = world.data.events.with_columns(p=pl.Series(world.probabilities))
    for table, key in (("users", "user_id"), ("items", "item_id")):
        frame = frame.join(world.data.tables[table], on=key, how="left", maintain_order="left")
    return frame.with_columns(odds=(pl.col("p") / (1 - pl.col("p"))).log())


def left_over(frame: pl.DataFrame, by: list[str]) -> float:
    """Return the deviation of the log-odds within groups of equal values of some fields."""
    return float((frame["odds"] - frame.select(pl.col("odds").mean().over(by))["odds"]).std())


def deviation_of_means(frame: pl.DataFrame, by: list[str]) -> float:
    return float(frame.group_by(by).agg(pl.col("odds").mean())["odds"].std())


def test_a_table_alone_explains_the_log_odds_by_its_pair_and_by_no_field():
    world = tabular(**SMALL, linear=0, tables=1)
    (pair,) = [fields for fields, how in world.operations.items() if how == "table"]
    frame = rows_of(world)
    assert left_over(frame, list(pair)) < 1e-9
    assert left_over(frame, [pair[0]]) > 1
    assert world.informative == set(pair)
    assert sum(how == "none" for how in world.operations.values()) == 8


def test_a_product_has_the_rank_of_its_vectors_and_a_table_all():
    ranks = {}
    for how, knob in (("table", {"tables": 1}), ("product", {"products": 1})):
        world = tabular(**SMALL, linear=0, **knob)
        (pair,) = [fields for fields, operation in world.operations.items() if operation == how]
        means = rows_of(world).group_by(pair).agg(pl.col("odds").mean()).sort(pair)
        ranks[how] = np.linalg.matrix_rank(means["odds"].to_numpy().reshape(6, 6), tol=1e-6)
    assert ranks == {"table": 6, "product": 4}


def test_a_triple_needs_its_three_fields():
    world = tabular(**SMALL, linear=0, triples=1)
    (triple,) = [fields for fields in world.operations if len(fields) == 3]
    frame = rows_of(world)
    assert left_over(frame, list(triple)) < 1e-9
    assert left_over(frame, list(triple[:2])) > 0.5


def test_a_xor_says_nothing_by_one_of_its_fields():
    frame = rows_of(tabular(**SMALL, linear=0, xor=1))
    for name in ("xor_user_0", "xor_item_0"):
        assert deviation_of_means(frame, [name]) < 0.05
    assert deviation_of_means(frame, ["xor_user_0", "xor_item_0"]) > 1


def test_outcomes_are_drawn_by_the_probabilities_and_all_knobs_off_leave_chance():
    world = tabular(**SMALL, tables=1)
    values = world.data.events["value"].to_numpy()
    assert auc(values, world.probabilities) > 0.8
    assert abs(values.mean() - world.probabilities.mean()) < 0.02
    assert (tabular(**SMALL, linear=0).probabilities == 0.5).all()


def test_copies_repeat_their_source_and_noise_repeats_nothing():
    world = tabular(**SMALL, tables=2, copies=2, noise=3)
    users = world.data.tables["users"]
    for copy, source in world.copies.items():
        pairs = users.group_by(source, copy).len()
        most = pairs.group_by(source).agg(pl.col("len").max())["len"].sum()
        assert 0.93 < most / len(users) < 0.98
        assert source in world.informative
    sizes = [users[f"noise_{i}"].n_unique() for i in range(3)]
    assert sizes[0] == 2 < sizes[1] < sizes[2]


def test_rows_of_a_kind_depend_on_its_own_fields():
    world = tabular(**SMALL, fields=4, linear=0, tables=2, kinds=2)
    pairs = [fields for fields, how in world.operations.items() if how == "table"]
    frame = rows_of(world).with_columns(kind=pl.Series(world.kinds))
    assert {world.kind_of[pair[0]] for pair in pairs} == {0, 1}
    for pair in pairs:
        kind = world.kind_of[pair[0]]
        assert world.kind_of[pair[1]] == kind
        assert left_over(frame.filter(pl.col("kind") == kind), list(pair)) < 1e-9
        assert left_over(frame.filter(pl.col("kind") != kind), list(pair)) > 1
    by_channel = frame.group_by("channel").agg(pl.col("kind").n_unique())
    assert by_channel["kind"].to_list() == [1] * 8


def test_groups_have_rules_of_their_own_and_sections_that_show_them():
    world = tabular(20_000, 1_000, 500, values=6, linear=0, tables=1, groups=2, short=0.4)
    (pair,) = [fields for fields, how in world.operations.items() if how == "table"]
    frame = rows_of(world).with_columns(group=pl.Series(world.groups))
    assert left_over(frame, [*pair, "group"]) < 1e-9
    assert left_over(frame, list(pair)) > 0.5
    shares = frame.group_by("group", "section").len().sort("group", "section")["len"].to_numpy()
    assert shares.reshape(2, 2).argmax(axis=1).tolist() == [0, 1]
    lengths = frame.group_by("user_id").len()["len"]
    assert (lengths <= 5).sum() == 400 and (lengths > 20).sum() == 600


def test_one_seed_makes_one_log():
    first, second = tabular(**SMALL, tables=1), tabular(**SMALL, tables=1)
    assert first.data.content_hash == second.data.content_hash
    assert first.data.content_hash != tabular(**SMALL, tables=1, seed=1).data.content_hash


@pytest.mark.parametrize(
    "knobs", [{"events": 0}, {"tables": 8, "products": 2}, {"triples": 10}, {"short": 1.0}]
)
def test_impossible_sizes_are_refused(knobs):
    with pytest.raises(DataError, match=str(next(iter(knobs)))[:5] + "|pairs"):
        tabular(**{"events": 100, "users": 100, "items": 10, **knobs})
