"""LettinGo: draws that make a reader right teach the writer; every profile has its lift."""

import numpy as np
import polars as pl
import pytest

pytest.importorskip("torch")

import torch

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query
from tailor.errors import DataError
from tailor.llm.prompts import estimated_tokens
from tailor.nn.policy import plackett_luce
from tailor.papers.profiles.lettingo import MAX_TOKENS, LettinGo, Reader, _pairs
from tailor.ports.base import Encoder
from tailor.profiles.sentences import FEATURES

RUN = Run(workers=1)
GENRES = ["horror", "comedy", "drama", "western", "musical", "romance", "crime", "war"]
ALIAS = ["red", "tan", "blue", "lime"]  # a second attribute that says nothing


class Words(Encoder):
    """One number a genre word, so that a reader understands genres and nothing else."""

    @property
    def space(self):
        return "words"

    def encode(self, texts):
        rows = np.array([[text.lower().count(genre) for genre in GENRES] for text in texts], float)
        rows = np.c_[rows, np.full(len(texts), 0.1)]
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def films(users=60, seed=0):
    """Return a log whose users keep to one genre; colours are the more frequent attribute."""
    rng = np.random.default_rng(seed)
    items = [
        {"item_id": f"i{number}", "title": "", "categories": [GENRES[number % 8]], "colour": "red"}
        for number in range(80)
    ]
    rows = []
    for user in range(users):
        own = np.arange(user % 8, 80, 8)
        for order in range(20):
            item = rng.choice(own) if rng.random() < 0.6 else rng.integers(80)
            rows.append((f"u{user}", f"i{item}", order))
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "order"], orient="row")
    return Dataset({"events": events, "items": pl.DataFrame(items)})


DATA = films()
SETTINGS = {
    "encoder": Words(),
    "attributes": ("colour", "categories"),
    "sentences": 2,
    "temperature": 0.5,
}
TAUGHT = LettinGo(**SETTINGS).fit(DATA, RUN)


def test_the_writer_learns_which_sentences_help_the_reader():
    untaught = LettinGo(**SETTINGS, teacher="none").fit(DATA, RUN)
    assert not untaught.weights_.any() and TAUGHT.weights_.any()
    assert TAUGHT.weights_[FEATURES.index("share")] > 0
    own = TAUGHT.fit_report_["lift"]
    assert own["nats"] > max(own["swapped"], 0)
    assert own["nats"] > untaught.fit_report_["lift"]["nats"]
    assert untaught.fit_report_["pairs"] == 0 < TAUGHT.fit_report_["pairs"]


def test_good_draws_become_likelier_and_bad_ones_less_likely():
    features = torch.tensor(np.eye(4, len(FEATURES), dtype=np.float32))[None]
    draws = torch.tensor([[[0, 1]], [[2, 3]]])  # draws, U, m
    method = LettinGo(**SETTINGS)
    method.weights_ = np.zeros(len(FEATURES), np.float32)
    for teacher in ("dpo", "sft"):
        method.teacher = teacher
        weights = torch.from_numpy(method._improved(features, draws, [(0, 0)], [(1, 0)]))
        before = plackett_luce(torch.zeros(2, 4), draws[:, 0])
        after = plackett_luce((features[0] @ weights).expand(2, 4), draws[:, 0])
        assert after[0] > before[0] + 1 and after[1] < before[1] - 1


def test_pairs_are_of_one_user_and_differ_by_the_margin():
    losses = np.array([[1.0, 2.0], [3.0, 2.0], [5.0, 2.01]])
    good, bad = _pairs(losses, 0.5)
    assert set(zip(good, bad, strict=True)) == {
        ((0, 0), (1, 0)),
        ((0, 0), (2, 0)),
        ((1, 0), (2, 0)),
    }


def test_a_reader_weighs_profile_and_latest_items():
    items = np.eye(3, dtype=np.float32)
    reader = Reader(items, 0.5, 0.1)
    both = reader.users(items[None, [0]], np.array([1]))
    assert both[0] == pytest.approx([2**-0.5, 2**-0.5, 0])
    assert reader.users(np.zeros((1, 0, 3), np.float32), np.array([1]))[0] == pytest.approx(
        items[1]
    )
    (loss,) = reader.log_losses(items[[0]], np.array([0]))
    assert loss == pytest.approx(np.log(np.exp(10) + 2) - 10, abs=1e-5)


def test_a_profile_has_sentences_with_evidence_a_lift_and_few_tokens():
    query = DATA.queries()[0]
    (profile,) = TAUGHT.profile([query])
    assert profile.text.startswith("This user likes") and len(profile.facts) == 2
    evidence = {part.id for fact in profile.facts for part in fact.evidence}
    assert evidence <= set(query.history.item_ids)
    details = profile.details
    assert details["tokens"] == estimated_tokens(profile.text) <= MAX_TOKENS
    per_100 = 100 * details["lift"] / details["tokens"]
    assert details["lift_per_100_tokens"] == pytest.approx(per_100, abs=1e-3)


def test_the_latest_items_are_in_no_sentence_but_in_the_lift():
    ids = [f"i{8 * number}" for number in range(6)]  # horror
    ids += ["i2", "i10", "i18"]  # then drama
    same = [*ids, "i1", "i9", "i17"]  # then comedy
    other = [*ids, "i8", "i16", "i24"]
    first, second = TAUGHT.profile([Query("u", History.of(*own)) for own in (same, other)])
    assert first.text == second.text and "comedy" not in first.text
    assert second.details["lift"] > max(first.details["lift"], 0)


def test_nothing_is_written_from_too_few_events():
    (profile,) = TAUGHT.profile([Query("u", History.of("i0", "i8", "i16", "i24"))])
    assert not profile.text and "nothing is written" in profile.notes[0]


def test_long_names_stay_within_the_tokens():
    long = DATA.tables["items"].with_columns(
        pl.col("categories").list.eval(pl.element() + " " + "very long name " * 8)
    )
    data = Dataset({"events": DATA.events, "items": long})
    method = LettinGo(**SETTINGS | {"sentences": 5}, teacher="none").fit(data, RUN)
    (profile,) = method.profile([data.queries()[0]])
    assert profile.text and profile.details["tokens"] <= MAX_TOKENS


def test_wrong_settings_are_named():
    wrong = ({"draws": 1}, {"recent": 0}, {"profile_share": 0.0}, {"beta": 0.0})
    for settings in wrong:
        with pytest.raises(DataError, match=next(iter(settings))):
            LettinGo(**settings)
