"""The learner of records: what its loss counts, what it says, and that it invents no item."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch

from tailor.core.run import Run
from tailor.data.nouns import History, Query
from tailor.data.queries import Queries
from tailor.errors import DataError, ModelError
from tailor.generative.record_learner import RecordData, RecordLearner
from tailor.generative.records import ANSWER, ITEM, Record, Template, TokenRows
from tailor.testing.data import TOPICS, tiny_data
from tailor.text.hashing import HashingEncoder

NEXT = Template("bought {history} then {answer}")
NAME = Template("a word of {history} is {answer}")


@dataclass(eq=False)
class Namer(RecordLearner):
    """Says the next item, and a word of an item's title."""

    @classmethod
    def tiny(cls) -> "Namer":
        return cls()

    def _make_records(self, training: RecordData, rng: np.random.Generator) -> list[Record]:
        histories = training.users.histories
        lists = [histories[i].tolist() for i in range(len(histories))]
        records = [
            NEXT.fill({"history": rows[:-1]}, rows[-1:], ["history"]) for rows in lists if rows
        ]
        for row in 4 * list(range(len(self.items_))):
            records.append(NAME.fill({"history": [row]}, [self.first_words_[row]], task=1))
        return records

    def _told_words(self, training: RecordData) -> Iterable[Sequence[str]]:
        texts = training.data.item_texts
        rows = training.data.catalogue.rows(self.items_.ids.tolist())
        self.first_words_ = [texts[row].split()[0] for row in rows.tolist()]
        yield from ([word] for word in self.first_words_)
        yield ["bought", "then", "a", "word", "of", "is"]

    def _prompts(self, queries: Queries) -> list[Record]:
        rows = [queries.histories[i].tolist() for i in range(len(queries))]
        records = [NEXT.fill({"history": history}) for history in rows]
        return [Record((*record.parts, ITEM)) for record in records]


@cache
def fitted() -> Namer:
    method = Namer(
        encoder=HashingEncoder(32),
        levels=2,
        width=32,
        epochs=10,
        lr=1e-2,
        batch_places=256,
        word_dropout=0.0,
    )
    return method.fit(tiny_data(), Run(seed=1))


def test_words_are_said_until_the_end():
    method = fitted()
    rows = range(len(method.items_))
    said = method._say([NAME.fill({"history": [row]}) for row in rows])
    assert all(len(words) == 1 for words in said)
    right = [words == [method.first_words_[row]] for row, words in zip(rows, said, strict=True)]
    assert np.mean(right) > 0.9


def test_items_of_the_users_topic_come_first():
    method = fitted()
    data = tiny_data()
    topic = {item: words.split()[0] for item, words in zip(data.catalogue.ids, data.item_texts)}
    history = History.of("thing-000", "thing-004", "thing-008")
    ids = method.recommend([Query(history=history)], 8)[0].ids
    share = np.mean([topic[item] == TOPICS[0].split()[0] for item in ids])
    assert share >= 0.75


def test_the_loss_counts_marked_places_only():
    method = fitted()
    record = Record(("bought", 3, 5, ANSWER, ITEM, 7), (2, 5))
    batch = TokenRows.of([record], method.vocabulary_).batch(np.array([0]))
    net = method._ready()
    with torch.no_grad():
        loss = method._record_loss(batch)
        after = method._states_after([Record(record.parts[:2]), Record(record.parts[:5])])
        right = net.item_log_probs(after, torch.tensor([5, 7]), method.closed)
    assert float(loss) == pytest.approx(float(-right.mean()), abs=1e-5)


def test_probabilities_of_all_items_add_up():
    ranking = fitted().recommend([Query(history=History.of("thing-001"))], 40)[0]
    assert len(ranking) == 40
    assert np.exp(ranking.scores).sum() == pytest.approx(1, abs=1e-4)


def test_only_the_options_share_the_probability_of_words():
    shares = fitted()._word_probabilities([NAME.fill({"history": [0]})], ["kettle", "tent"])
    assert shares.shape == (1, 2)
    assert shares.sum() == pytest.approx(1, abs=1e-6)


def test_a_sampler_of_windows_is_refused():
    with pytest.raises(DataError, match="records are not windows"):
        Namer(sampler="prefix")


def test_rewards_are_refused():
    with pytest.raises(ModelError, match="learns from records"):
        fitted().aligned(tiny_data(), None)
