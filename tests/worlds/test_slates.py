"""The planted world of slates: choices follow the truth, and people change by them."""

import numpy as np
import pytest

from tailor.data.queries import Rankings
from tailor.errors import DataError
from tailor.worlds.slates import VISIT_MS, Slates

SMALL = {"people": 20, "items": 30, "groups": 4, "size": 5, "warm": 2}


def lists_of(world, rows):
    rows = np.asarray(rows, np.int32)
    return Rankings(world.catalogue, rows, np.zeros(rows.shape, np.float32))


def test_the_same_lists_get_the_same_answers():
    first, again, other = Slates(**SMALL), Slates(**SMALL), Slates(**SMALL, seed=1)
    assert first.log().content_hash == again.log().content_hash != other.log().content_hash
    slates = first.random_slates()
    assert (first.step(slates) == again.step(slates)).all()


def test_choices_are_a_softmax_over_the_slate_and_nothing():
    world = Slates(people=1, items=30, groups=4, size=3, warm=1, sharpness=2.0, nothing=-1.5)
    rows = np.array([[4, 9, -1]])
    distances = np.linalg.norm(world.positions[0] - world.vectors[[4, 9]], axis=1)
    weights = np.exp([*(-2.0 * distances), -np.inf, -1.5])
    assert np.allclose(world.choice_probabilities(rows)[0], weights / weights.sum())


def test_choices_happen_as_often_as_is_said():
    world = Slates(people=4_000, items=30, groups=4, size=5, warm=1, drift=0.0)
    slates = world.random_slates()
    wanted = 1 - world.choice_probabilities(slates.rows)[:, -1].mean()
    assert world.step(slates).mean() == pytest.approx(wanted, abs=0.03)


def test_a_person_moves_to_what_they_chose_and_is_not_asked_about_it_again():
    world = Slates(**SMALL, drift=0.25)
    before = world.positions.copy()
    counts = [len(rows) for rows in world.chosen]
    clicks = world.step(world.random_slates())
    for person, (rows, count) in enumerate(zip(world.chosen, counts, strict=True)):
        assert len(rows) == count + clicks[person]
        moved = world.positions[person] - before[person]
        way = world.vectors[rows[-1]] - before[person] if clicks[person] else np.zeros(3)
        assert np.allclose(moved, 0.25 * way if clicks[person] else 0)
    queries = world.ask()
    assert [list(query.exclude) for query in queries] == [
        list(query.history.item_ids) for query in queries
    ]
    assert max(time for query in queries for time in query.history.times_ms) < queries.now_ms[0]


def test_novelty_counts_by_trait_and_state_for_groups_not_chosen_lately():
    plain = Slates(**SMALL)
    novel = Slates(**SMALL)
    novel.novelty = 2.0
    rows = plain.random_slates().rows
    odds = [np.log(w.choice_probabilities(rows)) for w in (plain, novel)]
    gained = (odds[1] - odds[1][:, -1:]) - (odds[0] - odds[0][:, -1:])
    for person in range(20):
        known = set(plain.group_of[plain.chosen[person]].tolist())
        appetite = plain.trait[person] + plain.states[-1][person]
        for place, row in enumerate(rows[person]):
            wanted = 0.0 if plain.group_of[row] in known else 2.0 * appetite
            assert gained[person, place] == pytest.approx(wanted, abs=1e-6)


def test_states_last_a_session_and_carry_over():
    world = Slates(people=3_000, items=10, groups=2, size=2, warm=1, visits=2, carry=0.7)
    assert len(world.states) == 1
    world.step(world.random_slates())
    assert len(world.states) == 2
    assert np.corrcoef(world.states)[0, 1] == pytest.approx(0.7, abs=0.05)
    assert np.std(world.states[1]) == pytest.approx(1.0, abs=0.05)


def test_the_log_holds_what_was_shown_with_propensities():
    world = Slates(**SMALL)
    world.step(lists_of(world, np.tile(np.arange(5), (20, 1))))
    tables = world.log().tables
    assert len(tables["requests"]) == 60 and len(tables["impressions"]) == 300
    last = tables["impressions"].tail(5)
    assert last["item_id"].to_list() == world.catalogue.named(np.arange(5))
    assert last["position"].to_list() == [1, 2, 3, 4, 5] and (last["propensity"] == 1).all()
    assert (tables["impressions"]["propensity"].head(200) == np.float32(1 / 30)).all()
    keys = ["request_id", "item_id"]
    chosen = tables["events"].join(tables["impressions"], on=keys)
    assert len(chosen) == len(tables["events"]) == sum(len(rows) for rows in world.chosen)
    assert tables["events"]["time_ms"].is_sorted()
    assert tables["requests"]["time_ms"].max() - tables["requests"]["time_ms"].min() == 2 * VISIT_MS


def test_lists_that_do_not_fit_are_refused():
    world = Slates(**SMALL)
    with pytest.raises(DataError, match="20 of at most 5"):
        world.step(lists_of(world, [[0]]))
