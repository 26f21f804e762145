"""ULMRec: codes of earlier reviews alone, what they are worth, and what is kept."""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.splits import split_by
from tailor.errors import DataError
from tailor.generative.records import ITEM
from tailor.papers.generative.ulmrec import TASKS, ULMRec
from tailor.testing.data import tiny_data
from tailor.text.hashing import HashingEncoder
from tailor.worlds.facets import facets

COLOUR = 2


@cache
def world():
    """Items of a kind and colour; the last three have the colour that reviews before them name."""
    return facets(
        300,
        6,
        seed=3,
        values=(2, 1, 3),
        kept=("kind",),
        walked=(),
        wished=("colour",),
        noise=0.0,
        lasting=1.0,
        late=3,
    )


@cache
def split():
    return split_by(world().data, "cold-start", known=3, valid=0.1, test=0.3)


@cache
def fitted(index="reviews", epochs=1):
    method = ULMRec(
        encoder=HashingEncoder(64),
        levels=1,
        width=64,
        blocks=1,
        epochs=epochs,
        lr=1e-2,
        batch_places=512,
        word_dropout=0.0,
        user_levels=1,
        user_words=8,
        index=index,
    )
    return method.fit(split().train, Run(seed=1))


def colours_of_lists(method, queries):
    items = world().truth.items
    lists = method.recommend(queries, 1).reindexed(queries.catalogue)
    return items.codes[lists.rows[:, 0], COLOUR]


@pytest.mark.slow
def test_reviews_tell_what_histories_do_not():
    queries, _ = split().queries("test", columns=["texts"])
    users = world().data.users.rows(queries.user_ids.tolist())
    tastes = world().truth.tastes[users, COLOUR]
    method = fitted("reviews", 7)
    hits = colours_of_lists(method, queries) == tastes
    without = colours_of_lists(fitted("none", 7), queries) == tastes
    assert hits.mean() > 0.8
    assert without.mean() < 0.6  # one in three by chance
    # the reviews of another user lead to that user's colour
    order = np.roll(np.arange(len(queries)), 1)
    other = replace(queries, columns=queries.take(order).columns)
    assert (colours_of_lists(method, other) == tastes[order]).mean() > 0.8


def test_a_query_without_reviews_is_answered_without_code():
    queries, _ = split().queries("test")
    method = fitted()
    code = method.user_code(queries[0])
    assert code.digits == () and code.words == ()
    assert len(method.recommend(queries[:3], 2)[0]) == 2


def test_a_code_is_of_its_reviews_and_its_words_are_near_them():
    queries, _ = split().queries("test", columns=["texts"])
    users = world().data.users.rows(queries.user_ids.tolist())
    colours = world().truth.items.words[COLOUR]
    right = [
        colours[world().truth.tastes[user, COLOUR]] in fitted().user_code(queries[i]).words
        for i, user in enumerate(users.tolist()[:30])
    ]
    assert np.mean(right) > 0.8


def records_of(method, data, seed=0):
    """The records of one epoch, as `fit` makes them."""
    training = method._training_data(data, data)
    method._prepare_items(training, Run())
    method._titles = [["title"]] * len(method.items_)
    return training, method._make_records(training, np.random.default_rng(seed))


def written(*texts_of_users):
    """Users who chose four things and wrote these texts on them, one each."""
    keys = {
        "user_id": [f"u{i}" for i in range(len(texts_of_users)) for _ in range(4)],
        "item_id": [f"thing-{i}" for i in range(4)] * len(texts_of_users),
        "time_ms": list(range(4)) * len(texts_of_users),
    }
    texts = [text for texts in texts_of_users for text in texts]
    return Dataset.from_events(keys, texts={**keys, "text": texts})


def test_the_code_before_an_event_is_of_earlier_reviews():
    method = ULMRec.tiny()
    records_of(method, written(("green tea", "", "black coffee", "a lamp")))
    (codes,) = method._before
    tea, coffee = method._review_vectors([["green tea", "black coffee"]])[0]
    assert (codes[0] == -1).all()  # nothing was written yet
    sums = np.array([tea, tea, tea + coffee])
    assert codes[1:4].tolist() == method._encode_users(sums).tolist()


def test_records_read_the_reviews_before_what_they_tell():
    method = ULMRec(encoder=HashingEncoder(32), index="words", levels=1, width=8)
    data = written(("one", "two", "three", "four"))
    cuts = set()
    for seed in range(20):
        _, records = records_of(method, data, seed)
        for record in (record for record in records if record.task == 0):
            first = min(record.answers)
            history = [part for part in record.parts[:first] if isinstance(part, int)]
            said = [part for part in record.parts if part in ("one", "two", "three", "four")]
            assert said == ["one", "two", "three", "four"][: len(history)]
            told = [record.parts[position] for position in record.answers]
            assert len(told) == 1 + 4 - len(history)  # the mark and all later items
            cuts.add(len(history))
    assert cuts == {1, 2, 3}


def test_records_read_the_code_before_what_they_tell():
    method = ULMRec.tiny()
    data = written(("red", "blue", "blue", "blue"), ("red", "red", "red", "red"))
    codes = set()
    for seed in range(20):
        _, records = records_of(method, data, seed)
        of_first = records[: len(TASKS)]
        for record in (record for record in of_first if record.task == 0):
            history = [part for part in record.parts[: min(record.answers)] if part in range(4)]
            marks = [part for part in record.parts if str(part).startswith("<user ")]
            code = method._before[0][len(history)].tolist()
            assert marks == [f"<user {level}-{digit}>" for level, digit in enumerate(code)]
            codes.add(tuple(code))
    assert len(codes) > 1


def test_shares_of_tasks_are_equal_where_all_can_be_told():
    data = world().data
    _, records = records_of(ULMRec.tiny(), data)
    counts = np.bincount([record.task for record in records], minlength=len(TASKS))
    assert counts.max() - counts.min() <= 0.05 * counts.sum()
    _, records = records_of(replace(ULMRec.tiny(), index="none"), data)
    assert len(records) == counts.sum()  # as many in every form
    assert {record.task for record in records} == {0, 3}


def test_no_word_of_a_single_writer_can_be_said():
    data = tiny_data(users=12)
    texts = data.tables["texts"]
    secret = ["pinxit"] + ["so good"] * (len(texts) - 1)
    tables = {**data.tables, "texts": texts.with_columns(text=np.array(secret))}
    method = ULMRec.tiny().fit(Dataset(tables, "secret"))
    assert "good" in method.vocabulary_
    assert "pinxit" not in method.vocabulary_


def test_random_indexes_belong_to_user_ids():
    method = ULMRec(index="random", user_levels=2)
    same = [method._index_of("anna", [], np.full(1, -1)) for _ in range(2)]
    assert same[0] == same[1]
    indexes = {tuple(method._index_of(f"user-{n}", [], np.full(1, -1))) for n in range(40)}
    assert len(indexes) > 4
    assert method._index_of(None, [], np.full(1, -1)) == []


def test_prompts_end_with_the_mark_of_an_item():
    queries, _ = split().queries("test", columns=["texts"])
    (record,) = fitted()._prompts(queries.reindexed(fitted().items_)[:1])
    assert record.parts[-1] == ITEM
    assert any(str(part).startswith("<user 0-") for part in record.parts)


def test_validation_reads_the_reviews_of_its_histories():
    reviews = []

    @dataclass(eq=False)
    class Noting(ULMRec):
        def _prompts(self, queries):
            reviews.extend(queries.columns["texts"].values.tolist())
            return super()._prompts(queries)

    data = written(("red", "blue", "", "tea"), ("red", "red", "red", "red"))
    cut = split_by(data, "last")
    method = Noting(encoder=HashingEncoder(32), levels=1, width=8, epochs=1, user_levels=1)
    method.fit(cut.train, valid=cut)
    assert sorted(reviews) == ["blue", "red", "red", "red"]  # before the third event


def test_settings_are_checked():
    with pytest.raises(DataError, match="user_words is 1"):
        ULMRec(user_words=1)


def test_codes_of_training_are_not_kept():
    assert not set(fitted().__dict__) & {"_before", "_reviews", "_titles"}
