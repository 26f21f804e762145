"""P5: the five families' records, the ids of items, and answers to questions."""

from dataclasses import replace
from functools import cache
from itertools import groupby

import numpy as np
import pytest

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query
from tailor.errors import DataError, ModelError
from tailor.generative.records import ANSWER, END, ITEM
from tailor.papers.generative.p5 import CANDIDATES, FAMILIES, P5, SENTENCES, digits_of
from tailor.testing.data import tiny_data
from tailor.text.hashing import HashingEncoder

SMALL = P5(
    encoder=HashingEncoder(32), levels=1, width=32, blocks=1, epochs=6, lr=1e-2, batch_places=512
)


@cache
def fitted():
    return replace(SMALL, word_dropout=0.1).fit(tiny_data(), Run(seed=1))


def records_of(method, data, seed=0):
    """The records of one epoch, as `fit` makes them, and the numbers of items."""
    training = method._training_data(data, data)
    method._prepare_items(training, Run())
    return method._make_records(training, np.random.default_rng(seed))


def one_user():
    """A user with three rated events, of which the last has a text."""
    keys = {"user_id": ["u"] * 3, "item_id": ["a", "b", "c"], "time_ms": [1, 2, 3]}
    texts = {**keys, "text": ["", "", "a fine red lamp"]}
    items = {"item_id": ["a", "b", "c"], "title": ["red cup", "red lamp", "blue lamp"]}
    return Dataset.from_events({**keys, "value": [4.0, 2.0, 5.0]}, items, texts=texts)


def answer_of(record):
    return list(record.parts[record.parts.index(ANSWER) + 1 :])


def test_every_family_tells_what_it_asks_for():
    method = replace(SMALL)
    records = [record for seed in range(30) for record in records_of(method, one_user(), seed)]
    b, c = method.items_.rows(["b", "c"]).tolist()
    answers = {
        name: {tuple(answer_of(record)) for record in records if record.task == number}
        for number, name in enumerate(FAMILIES)
    }
    assert answers["sequential"] == {(ITEM, b, c), (ITEM, c)}
    assert answers["direct"] == {(ITEM, b), (ITEM, c)}
    assert answers["rating"] == {("2", END), ("5", END)}
    assert answers["review"] == {("5", END)}
    assert answers["explanation"] == {("a", "fine", "red", "lamp", END)}


def test_ratings_are_read_up_to_the_event_and_not_its_own():
    method = replace(SMALL, families=("rating",))
    for seed in range(20):
        for record in records_of(method, one_user(), seed):
            a, b, _ = method.items_.rows(["a", "b", "c"]).tolist()
            before = {("2", END): [a, "4"], ("5", END): [a, "4", b, "2"]}
            read = record.parts[: record.parts.index(ANSWER)]
            rated = before[tuple(answer_of(record))]
            start = read.index(rated[0])
            assert list(read[start : start + len(rated)]) == rated
            assert sum(part in ("2", "4", "5") for part in read) == len(rated) // 2
            told = [record.parts[position] for position in record.answers]
            assert told == [*rated[1::2], *answer_of(record)]  # ratings, and no item


def test_items_of_the_history_are_told_too_but_not_other_fields():
    method = replace(SMALL, families=("sequential", "direct"))
    for record in records_of(method, one_user(), seed=3):
        start = record.parts.index(ANSWER)
        early = [record.parts[i] for i in record.answers if i < start]
        items = [part for part in record.parts[:start] if isinstance(part, int)]
        begins_with_item = isinstance(record.parts[0], int)
        told = items[1:] if begins_with_item else items
        assert early == (told if record.task == 0 else [])


def test_the_held_out_sentence_is_never_learned_from():
    method = replace(SMALL)
    for seed in range(30):
        for record in records_of(method, tiny_data(users=8), seed):
            assert "visitor" not in record.parts
    assert "visitor" not in method.vocabulary_
    assert all("visitor" in task.unseen.text for task in SENTENCES.values())
    assert {len(task.templates) for task in SENTENCES.values()} == {8}


def test_candidates_of_direct_choices_hold_the_answer_anywhere():
    method = replace(SMALL, families=("direct",))
    places = set()
    for seed in range(6):
        for record in records_of(method, tiny_data(users=8), seed):
            read = record.parts[: record.parts.index(ANSWER)]
            runs = groupby(read, key=lambda part: isinstance(part, int))
            items = [list(run) for is_item, run in runs if is_item]
            (candidates,) = [run for run in items if len(run) >= CANDIDATES - 1]
            assert len(set(candidates)) == len(candidates)
            places.add(candidates.index(answer_of(record)[1]))
    assert len(places) > 5


def test_order_numbers_items_along_the_histories():
    method = replace(SMALL, ids="order", levels=1)
    records_of(method, one_user())
    rows = method.items_.rows(["a", "b", "c"])
    assert method.codes_[rows].tolist() == [[0, 0], [0, 1], [1, 0]]


def test_every_scheme_gives_each_item_a_code_of_its_own():
    for ids in ("sid", "collab", "order", "random"):
        method = replace(SMALL, ids=ids)
        records_of(method, tiny_data())
        assert len(np.unique(method.codes_, axis=0)) == len(method.items_)


def test_collaborative_ids_say_nothing_of_texts():
    method = replace(SMALL, ids="collab")
    records_of(method, tiny_data())
    codes = method.codes_
    data = tiny_data()
    items = data.tables["items"]
    other = Dataset({**data.tables, "items": items.with_columns(title=items["title"].reverse())})
    records_of(method, other)
    assert (method.codes_ == codes).all()


def test_digits_are_in_the_smallest_base():
    assert digits_of(np.arange(9), 2).tolist()[-1] == [2, 2]
    assert digits_of(np.arange(10), 2).tolist()[-1] == [2, 1]  # base 4


def test_a_question_for_the_next_item_is_answered_with_an_item():
    history = History.of("thing-001", "thing-005", "thing-009")
    query = Query("user_7", history, exclude=("thing-001",))
    output = fitted().ask("What should user_7 buy next?", query, k=3)
    assert len(output.item_ids) == 3 and "thing-001" not in output.item_ids
    listed = fitted().recommend([query], 3)[0]
    assert output.item_ids == listed.ids  # the first sentence, word by word


def test_a_question_for_stars_is_answered_with_words():
    output = fitted().ask("with ratings thing-001 4 how many stars for thing-005")
    assert output.text in fitted().rating_words_ and output.item_ids == ()


def test_a_question_without_name_reads_the_history_first():
    query = Query("user_7", History.of("thing-001"))
    row = int(fitted().items_.rows(["thing-001"])[0])
    assert fitted()._parts_of("and then?", query, [row]) == [row, "and", "then"]
    with pytest.raises(DataError, match="empty"):
        fitted().ask("  ")


def test_ratings_are_means_of_probabilities():
    history = History(("thing-001",), values=(4.0,))
    (values,) = fitted().rate([Query(history=history)], [["thing-005", "no such item"]])
    assert 1 <= values[0] <= 5 and np.isnan(values[1])
    records = [SENTENCES["rating"].seen[0].fill({"rated": [], "item": [0]})]
    shares = fitted()._word_probabilities(records, ["1", "2", "3", "4", "5"])
    (alone,) = fitted().rate([Query()], [[fitted().items_.ids[0]]])
    assert alone[0] == pytest.approx(float(shares[0] @ np.arange(1, 6)), abs=1e-5)


def test_without_ratings_none_are_told():
    with pytest.raises(ModelError, match="no ratings"):
        replace(SMALL, families=("direct",), epochs=1).fit(tiny_data()).rate([Query()], [["a"]])


def test_no_word_of_a_single_writer_can_be_said():
    data = tiny_data(users=12)
    texts = data.tables["texts"]
    secret = ["pinxit"] + ["so good"] * (len(texts) - 1)
    tables = {**data.tables, "texts": texts.with_columns(text=np.array(secret))}
    method = P5.tiny().fit(Dataset(tables, "secret"))
    assert "good" in method.vocabulary_
    assert "pinxit" not in method.vocabulary_


def test_explanations_are_said_of_the_item():
    query = Query(history=History.of("thing-001"))
    lists = fitted().recommend([query], 2)
    explanations = fitted().explain([query], lists)[0]
    assert [explanation.item_id for explanation in explanations] == list(lists[0].ids)
    assert all(explanation.text for explanation in explanations)


def test_settings_are_checked():
    with pytest.raises(DataError, match="families"):
        P5(families=("poetry",))
    with pytest.raises(DataError, match="template is 8"):
        P5(template=8)
