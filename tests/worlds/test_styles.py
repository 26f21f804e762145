"""The planted log of responses: its truth, its titles, its oracle, and its cold users."""

import numpy as np
import polars as pl
import pytest

from tailor.data.examples import Outcome
from tailor.errors import DataError
from tailor.metrics.prediction import auc
from tailor.worlds.styles import DAY_MS, TOPICS, responses

SMALL = {"users": 120, "items": 60, "topics": 8, "visits": 8, "slate": 5}


def shown_pairs(world):
    examples = Outcome("shown", length=10_000).learn(world.data, np.random.default_rng(0))
    users = world.data.users.rows(examples.queries.user_ids.tolist())
    return examples, users


def test_the_same_arguments_give_the_same_log():
    assert responses(**SMALL).data.content_hash == responses(**SMALL).data.content_hash
    assert responses(**SMALL).data.content_hash != responses(**SMALL, seed=1).data.content_hash


def test_choices_follow_the_probabilities_of_the_rows():
    world = responses(**SMALL)
    examples, users = shown_pairs(world)
    assert len(examples) == 120 * 8 * 5
    truth = world.probabilities[users, examples.items]
    assert auc(examples.labels, truth) > 0.85
    assert abs(truth.mean() - examples.labels.mean()) < 0.03


def test_every_style_has_an_opposite():
    world = responses(**SMALL, styles=4, worth=0.0)
    means = np.array(
        [
            [
                world.probabilities[world.styles == style][:, world.topics == topic].mean()
                for topic in range(8)
            ]
            for style in range(4)
        ]
    )
    assert np.allclose(means[:2] + means[2:], 1)
    assert np.allclose(means.std(axis=1) > 0.3, True)


def test_titles_tell_the_topic_and_ids_tell_nothing():
    world = responses(**SMALL)
    titles = world.data.texts_of("title")
    for title, topic in zip(titles, world.topics.tolist(), strict=True):
        assert set(title.split()[1:]) <= set(TOPICS[topic].split())


def test_the_tail_is_shown_less():
    world = responses(**SMALL)
    examples, _ = shown_pairs(world)
    counts = np.bincount(examples.items, minlength=60)
    assert counts[world.is_tail].mean() < 0.6 * counts[~world.is_tail].mean()
    assert world.is_tail.sum() == 30


def test_cold_users_have_two_visits_the_last_among_them():
    world = responses(**SMALL, cold=0.5)
    requests = world.data.tables["requests"]
    visits = requests["user_id"].value_counts()["count"].to_numpy()
    assert set(visits.tolist()) == {2, 8} and 0.3 < (visits == 2).mean() < 0.7
    cold = requests.group_by("user_id").len().filter(len=2)["user_id"]
    is_cold = requests["user_id"].is_in(cold.implode())
    last = requests.group_by("user_id").agg(pl.col("time_ms").max())
    of_cold = last["user_id"].is_in(cold.implode())
    lasts = [last.filter(mask)["time_ms"].mean() for mask in (of_cold, ~of_cold)]
    assert abs(lasts[0] - lasts[1]) < 5 * DAY_MS
    first = requests.filter(is_cold).group_by("user_id").agg(pl.col("time_ms").min())
    assert abs(first["time_ms"].mean() - lasts[0]) > 30 * DAY_MS


@pytest.mark.parametrize(("tail", "head"), [(0.8, 0.5), (0.6, 0.9)])
def test_the_oracle_is_right_as_often_as_asked(tail, head):
    world = responses(**SMALL)
    table = world.oracle(tail, head)
    assert len(table) == 120 * 60
    users = world.data.users.rows(table["user_id"].to_list())
    items = world.data.catalogue.rows(table["item_id"].to_list())
    scores = np.full((120, 60), np.nan)
    scores[users, items] = table["score"].to_numpy()
    assert scores.min() >= 0 and scores.max() <= 1
    likes = world.probabilities > 0.5
    for mask, accuracy in ((world.is_tail, tail), (~world.is_tail, head)):
        found = [
            auc(likes[user, mask].astype(float), scores[user, mask])
            for user in range(120)
            if 0 < likes[user, mask].sum() < mask.sum()
        ]
        assert np.mean(found) == pytest.approx(accuracy, abs=0.03)


def test_users_without_a_choice_have_no_row_in_the_truth():
    world = responses(users=80, items=40, topics=8, visits=2, slate=1, cold=1.0, worth=0.0)
    assert 40 < len(world.data.users) < 80
    assert world.styles.shape == (len(world.data.users),)
    assert world.probabilities.shape == (len(world.data.users), 40)
    examples, users = shown_pairs(world)
    is_known = users >= 0
    truth = world.probabilities[users[is_known], examples.items[is_known]]
    assert auc(examples.labels[is_known], truth) > 0.8
    assert len(world.oracle(0.8)) == world.probabilities.size


def test_sizes_that_cannot_be_are_refused():
    for sizes in ({"styles": 3}, {"slate": 500}, {"users": 0}):
        with pytest.raises(DataError, match="at least 1"):
            responses(**sizes)
    with pytest.raises(DataError, match="topics"):
        responses(topics=99)
