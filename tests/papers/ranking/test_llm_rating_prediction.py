"""The study of ratings: prompts hold nothing of the test, answers are read or counted, and all
methods are compared on the same rows.
"""

import json
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
import pytest

from tailor.core.run import Run
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.examples import Outcome
from tailor.data.nouns import History, Query
from tailor.data.queries import Queries
from tailor.data.splits import TEST, by_ratio
from tailor.errors import DataError
from tailor.papers.ranking.llm_rating_prediction import (
    LineRater,
    LLMRatingPrediction,
    PromptedRater,
    item_lines,
    rating_words,
)
from tailor.ports.base import Completion, LanguageModel
from tailor.ranking.behaviours import MeanInterest
from tailor.ranking.biased_mf import BiasedMF
from tailor.testing.data import tiny_data
from tailor.text.hashing import HashingEncoder

DATA = tiny_data(users=40, items=24, events=10)
LOG_PROBS = np.log([0.1, 0.1, 0.2, 0.2, 0.2])


@dataclass(frozen=True)
class Fixed(LanguageModel):
    """Gives every prompt the same answer, and keeps the prompts."""

    answer: str = "4"
    prompts: list = field(default_factory=list, hash=False, compare=False)

    fingerprint = "fixed"

    def capabilities(self):
        return frozenset({"score", "choices"})

    def complete(self, prompts, **settings):
        self.prompts.extend(prompts)
        return [Completion((self.answer,)) for _ in prompts]

    def score(self, prompts, answers):
        raise AssertionError("labels are read at once")

    def choices(self, prompts, labels):
        assert list(labels) == ["1", "2", "3", "4", "5"]
        self.prompts.extend(prompts)
        return np.tile(LOG_PROBS, (len(prompts), 1))


@pytest.mark.parametrize(
    ("answer", "rating"),
    [
        ("4", 4),
        ("I'd say 3,5, no more", 3.5),
        ("**5**/5", 5),
        ("10", None),
        ("0", None),
        ("no idea", None),
        ("", None),
    ],
)
def test_a_written_number_is_read_if_it_is_of_the_scale(answer, rating):
    method = PromptedRater(Fixed(answer), answers="written").fit(DATA)
    queries = Queries.of([Query()]).reindexed(method.items_)
    ratings = method.rate(queries, Ragged.of([[3]]))
    assert ratings.is_read.tolist() == [rating is not None]
    assert ratings.values[0] == (method.mean_ if rating is None else rating)


def test_the_expected_rating_weighs_the_numbers_by_their_probabilities():
    """(.1 * 1 + .1 * 2 + .2 * 3 + .2 * 4 + .2 * 5) / .8: other words share the remainder."""
    method = PromptedRater(Fixed()).fit(DATA)
    values = method.predict([Query(), Query()], [["thing-001"], ["thing-002", "none"]])
    assert np.allclose(np.concatenate(values), 2.7 / 0.8)


def test_answers_that_cannot_be_read_are_the_users_mean_and_are_counted():
    method = PromptedRater(Fixed("10"), answers="written").fit(DATA)
    rated = Query(history=History(("thing-001", "thing-002"), values=(2.0, 5.0)))
    queries = Queries.of([rated, Query()]).reindexed(method.items_)
    ratings = method.rate(queries, Ragged.of([[3], [4]]))
    assert not ratings.is_read.any()
    assert np.allclose(ratings.values, [3.5, method.mean_])
    assert PromptedRater(Fixed("2"), answers="written").fit(DATA).rate(
        queries, Ragged.of([[3], [4]])
    ).values.tolist() == [2, 2]


def test_a_prompt_shows_the_latest_ratings_and_the_item_without_its_rating():
    model = Fixed()
    method = PromptedRater(model, history=2).fit(DATA)
    history = History(("thing-000", "thing-001", "thing-002"), values=(1.0, 2.0, 5.0))
    method.predict([Query(history=history)], [["thing-003"]])
    lines = item_lines(DATA)
    titles = dict(zip(DATA.catalogue.ids.tolist(), lines, strict=True))
    (prompt,) = model.prompts
    assert titles["thing-000"] not in prompt
    assert f"<<{titles['thing-001']}>>: rated 2\n" in prompt
    assert f"<<{titles['thing-002']}>>: rated 5\n" in prompt
    after_item = prompt.split(titles["thing-003"])[1]
    assert "rated" not in after_item
    assert titles["thing-003"].endswith("(lamp)")


def test_averages_are_those_of_the_training_part_and_of_the_history():
    model = Fixed()
    split = by_ratio(DATA)
    method = PromptedRater(model, averages=True).fit(split.train)
    train = split.train.events.filter(pl.col("item_id") == "thing-003")["value"].mean()
    history = History(("thing-001", "thing-002"), values=(2.0, 5.0))
    method.predict([Query(history=history)], [["thing-003"]])
    assert f"others rate it {train:.1f}, and this person rates 3.5." in model.prompts[0]
    short = PromptedRater(model, averages=True, history=1).fit(split.train)
    short.predict([Query(history=history)], [["thing-003"]])
    assert "this person rates 3.5." in model.prompts[1], "of all ratings, not of those shown"


def test_examples_are_of_the_training_part_and_kept_with_people_only():
    split = by_ratio(DATA)
    method = PromptedRater(Fixed(), shots=3).fit(split.train, Run(seed=1))
    assert method.keeps_people() and not PromptedRater(Fixed()).keeps_people()
    lines = item_lines(DATA)
    examples = Outcome("value", length=500).learn(split.train, np.random.default_rng(0))
    written = set()
    for i, item in enumerate(examples.items.tolist()):
        history = zip(
            examples.queries.histories[i], examples.queries.columns["values"][i], strict=True
        )
        shown = [lines[row] + rating_words(value) for row, value in history]
        written.add(("; ".join([*shown[-3:], lines[item]]), float(examples.labels[i])))
    assert set(zip(method.examples_, method.example_ratings_, strict=True)) <= written
    prompt = method.prompt(Queries.of([Query()]).reindexed(method.items_), 0, 0)
    assert all(text in prompt for text in method.examples_)


def opposite_pairs(n=300):
    """Return ratings of users who love one of two topics; texts tell the topic, items are many."""
    rng = np.random.default_rng(0)
    topics = rng.integers(2, size=200)
    loves = rng.integers(2, size=n)
    items = np.array([rng.permutation(200)[:8] for _ in range(n)])
    events = {
        "user_id": np.repeat([f"u{user}" for user in range(n)], 8),
        "item_id": [f"i{item}" for item in items.ravel()],
        "time_ms": 1_600_000_000_000 + np.tile(1000 * np.arange(8), n),
        "value": np.where(topics[items] == loves[:, None], 5.0, 2.0).ravel(),
    }
    words = ["copper kettle stove", "canvas tent pole"]
    table = {"item_id": [f"i{i}" for i in range(200)], "title": [words[t] for t in topics]}
    return Dataset({"events": pl.DataFrame(events), "items": pl.DataFrame(table)}, "opposites")


@pytest.mark.parametrize("head", ["number", "classes"])
def test_a_net_over_lines_reads_texts_and_ratings_of_the_history(head):
    settings = {"head": head, "encoder": HashingEncoder(16), "width": 8, "layers": (16,)}
    data = opposite_pairs()
    split = by_ratio(data)
    method = LineRater(**settings, epochs=8, lr=1e-2, dropout=0.0, batch=128)
    method.fit(split.train, Run(workers=1), split)
    test = Outcome("value", length=10).judge(split, "test", np.random.default_rng(0))
    item_ids = [[item_id] for item_id in test.queries.catalogue.named(test.items)]
    values = np.concatenate(method.predict(test.queries, item_ids))
    errors = (values - test.labels) ** 2
    assert np.sqrt(errors.mean()) < 0.5, "half of the spread of 1.5 at least is known"
    ratings = test.queries.columns["values"]
    turned = replace(
        test.queries,
        columns={**test.queries.columns, "values": ratings.with_values(7 - ratings.values)},
    )
    opposite = np.concatenate(method.predict(turned, item_ids))
    assert np.corrcoef(values, opposite)[0, 1] < -0.5, "who loved the one now loves the other"


def test_classes_are_averaged_by_their_shares():
    method = LineRater(**{**LineRater.tiny().params(), "head": "classes"})
    method.fit(DATA, Run(workers=1))
    assert method.values_ == [1, 2, 3, 4, 5]
    shares = np.array([[0.5, 0, 0, 0, 0.5], [0, 0, 1.0, 0, 0]])
    assert np.allclose(method._ratings(shares), [3, 3])
    values = np.linspace(0, 1, len(DATA.events))
    many = Dataset({"events": DATA.events.with_columns(value=pl.Series(values))})
    with pytest.raises(DataError, match="classes"):
        LineRater(**method.params()).fit(many, Run(workers=1))


@pytest.fixture(scope="module")
def model():
    return Fixed()


@pytest.fixture(scope="module")
def report(model):
    study = LLMRatingPrediction(
        n=15, language_model=model, encoder=HashingEncoder(16), epochs=2, shares=(0.3, 1.0)
    )
    return study.run(DATA, {"narrow": BiasedMF(width=1), "other": Fixed("1")}, Run(seed=2))


def test_all_methods_are_compared_on_the_same_rows(report):
    assert {row.kind for row in report.rows} == {"means", "fitted", "language model"}
    assert all(
        values.shape == report.labels.shape == (15,) for values in report.predictions.values()
    )
    row = report.row("other, zero-shot, written")
    assert row.rmse == pytest.approx(np.sqrt(np.mean((1 - report.labels) ** 2)), abs=1e-4)
    lead = report.difference("other, zero-shot, written", "mean")
    wanted = row.rmse - report.row("mean").rmse
    assert lead["difference"] == pytest.approx(wanted, abs=1e-4)
    assert lead["low"] <= lead["difference"] <= lead["high"]
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["rows"]
    with pytest.raises(DataError, match="no method"):
        report.row("none")


def test_what_is_fitted_is_that_of_the_protocol_for_each_share(report):
    split = by_ratio(DATA)
    test = Outcome("value", length=500).judge(split, "test", np.random.default_rng(0))
    method = BiasedMF(width=1).fit(split.train, Run(seed=2))
    ids = test.queries.catalogue.named(test.items)
    values = np.concatenate(method.predict(test.queries, [[item_id] for item_id in ids]))
    points = {point.share: point for point in report.curve if point.method == "narrow"}
    rmse = np.sqrt(np.mean((values - test.labels) ** 2))
    assert points[1.0].rmse == pytest.approx(rmse, abs=1e-4)
    assert points[0.3].learned_from == 12 * 8 < points[1.0].learned_from == len(split.train.events)


def test_no_prompt_shows_a_rating_of_the_test_part(report, model):
    """Every user's last rating is the test; its line with that rating may stand in no prompt.

    A title that the user rated before would be no proof, so ratings of the test part are marked.
    """
    split = by_ratio(DATA)
    is_test = split.part == TEST
    marked = DATA.events.with_columns(
        value=pl.when(pl.Series(is_test)).then(pl.lit(4.5)).otherwise(pl.col("value"))
    )
    hearing = Fixed()
    study = LLMRatingPrediction(
        n=40,
        language_model=hearing,
        encoder=HashingEncoder(16),
        epochs=1,
        shares=(1.0,),
        shots=60,
    )
    study.run(Dataset({**DATA.tables, "events": marked}), {}, Run(seed=2))
    assert len(hearing.prompts) == 4 * 40
    assert not any("4.5" in prompt for prompt in hearing.prompts)


def test_nets_take_as_many_steps_whatever_they_learn_from():
    study = LLMRatingPrediction(epochs=10)
    steps = [
        net.epochs * -(-ratings // net.batch)
        for ratings in (700, 4_000, 16_000, 80_000)
        for net in [study.fitted(ratings)["net over lines"]]
    ]
    assert min(steps) > 0.8 * 800 and max(steps) < 1.25 * 800


def test_what_predicts_no_ratings_and_values_outside_the_scale_are_refused():
    study = LLMRatingPrediction(n=5, language_model=None, encoder=HashingEncoder(16), epochs=1)
    for method in (MeanInterest.tiny(), PromptedRater(Fixed())):
        with pytest.raises(DataError, match="odd"):
            study.run(DATA, {"odd": method})
    with pytest.raises(DataError, match="scale"):
        replace(study, scale=(1, 3)).run(DATA, {})
    with pytest.raises(DataError, match="one digit"):
        PromptedRater(scale=(1, 10))


def test_settings_that_cannot_be_are_refused():
    for settings in ({"n": 1}, {"shares": ()}, {"shares": (0.0, 1.0)}):
        with pytest.raises(DataError, match="shares"):
            LLMRatingPrediction(**settings)
    with pytest.raises(DataError, match="scale"):
        PromptedRater(scale=(5, 1))
    with pytest.raises(DataError, match="source"):
        LineRater(source="drawn")
