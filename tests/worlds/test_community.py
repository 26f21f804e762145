"""A planted community: experts are right, circles share nobody, the accepted answer suits."""

import numpy as np
import polars as pl
import pytest

from tailor.errors import DataError, ModelError
from tailor.worlds.community import (
    ACTIONS,
    LEANINGS,
    RIGHT_ANSWERS,
    TOPICS,
    community,
)

WORLD = community(questions=120, circles=4, seed=3)
REQUESTS = WORLD.data.tables["requests"]
ANSWERS = WORLD.data.item_table.select("item_id", "text", "author")


def is_told(fact, text):
    return any(f"{word} the {fact.thing}" in text.lower() for word in ACTIONS[fact.action])


def test_the_accepted_answer_is_right_and_no_question_says_the_cure():
    texts = dict(ANSWERS.select("item_id", "text").iter_rows())
    for request_id, item_id in WORLD.data.tables["judgements"].select("query_id", "item_id").rows():
        assert is_told(WORLD.facts[request_id], texts[item_id])
    for request_id, text in REQUESTS.select("request_id", "text").rows():
        fact = WORLD.facts[request_id]
        assert fact.thing not in text and not any(word in text for word in ACTIONS[fact.action])
        assert WORLD.makes[request_id] in text


def test_a_part_has_one_cure_which_another_seed_draws_anew():
    def cures(world):
        rows = world.data.tables["requests"].select("request_id", "text").rows()
        by_part = {}
        for request_id, text in rows:
            for parts, _ in TOPICS.values():
                for part in parts:
                    if f" {part} of my" in text:
                        by_part.setdefault(part, set()).add(world.facts[request_id])
        return by_part

    mine = cures(WORLD)
    assert len(mine) > 25 and all(len(facts) == 1 for facts in mine.values())
    other = cures(community(questions=120, circles=4, seed=4))
    assert sum(mine[part] == other[part] for part in set(mine) & set(other)) < 10


def test_no_user_is_in_two_circles():
    users = {}
    authors = dict(ANSWERS.select("item_id", "author").iter_rows())
    for request_id, item_id in WORLD.data.tables["judgements"].select("query_id", "item_id").rows():
        circle = WORLD.circles[request_id]
        asker = REQUESTS.filter(pl.col("request_id") == request_id)["user_id"][0]
        for user in (asker, authors[item_id]):
            assert users.setdefault(user, circle) == circle
    part = WORLD.within([0, 1])
    assert set(part.tables["requests"]["request_id"]) == {
        key for key, circle in WORLD.circles.items() if circle in (0, 1)
    }
    assert len(part.catalogue) == len(WORLD.data.catalogue)
    assert len(part.tables["judgements"]) == len(part.tables["requests"])


def test_askers_accept_answers_of_users_like_them():
    tags = dict(WORLD.data.tables["users"].select("user_id", "tags").iter_rows())
    authors = dict(ANSWERS.select("item_id", "author").iter_rows())
    askers = dict(REQUESTS.select("request_id", "user_id").iter_rows())
    pairs = WORLD.data.tables["judgements"].select("query_id", "item_id").rows()

    def likeness(asker, author):
        counts = [[tags[user].count(tag) for tag in LEANINGS] for user in (asker, author)]
        return np.dot(*counts) / np.sqrt(
            np.dot(counts[0], counts[0]) * np.dot(counts[1], counts[1])
        )

    accepted = np.mean([likeness(askers[query], authors[item]) for query, item in pairs])
    rng = np.random.default_rng(0)
    others = np.mean([likeness(askers[query], rng.choice(list(tags))) for query, _ in pairs])
    assert accepted > others + 0.1


def test_the_writer_answers_in_the_manner_that_the_prompt_asks_for():
    request_id, text = REQUESTS.select("request_id", "text").row(0)
    basic, contextual, personal, unknown = WORLD.writer().complete(
        [text, f"about boats: {text}", f"{text} likes: thrift", "Who are you?"]
    )
    for answer in (basic, contextual, personal):
        assert is_told(WORLD.facts[request_id], answer.text)
    assert WORLD.makes[request_id] in contextual.text and WORLD.makes[request_id] not in basic.text
    assert LEANINGS["thrift"] in personal.text and LEANINGS["thrift"] not in contextual.text
    assert unknown.error and not unknown.texts


def test_the_writer_errs_as_often_as_it_is_told():
    texts = REQUESTS["text"].to_list()
    ids = REQUESTS["request_id"].to_list()
    answers = WORLD.writer(wrong=0.3, seed=1).complete(texts)
    pairs = zip(ids, answers, strict=True)
    errors = [not is_told(WORLD.facts[key], answer.text) for key, answer in pairs]
    assert 0.15 < np.mean(errors) < 0.45
    assert WORLD.writer(wrong=0.3, seed=1).complete(texts) == answers


def test_the_same_arguments_give_the_same_community():
    again = community(questions=120, circles=4, seed=3)
    assert again.data.content_hash == WORLD.data.content_hash


@pytest.mark.parametrize(
    "sizes", [{"questions": 0}, {"members": 5}, {"answers": RIGHT_ANSWERS}, {"circles": 0}]
)
def test_sizes_that_hold_no_community_are_refused(sizes):
    with pytest.raises(DataError, match="at least 1 question"):
        community(**sizes)


def test_a_share_beyond_one_is_refused():
    with pytest.raises(ModelError, match="wrong is 2"):
        WORLD.writer(wrong=2)
