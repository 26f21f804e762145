"""RecFormer: items nobody chose are found by their words, histories are read newest first, and the
three parts of learning do what they say.
"""

import dataclasses

import numpy as np
import pytest
from retrieval.kind_shop import shop

pytest.importorskip("torch")

from tailor.core.run import Run
from tailor.data.arrays import Ragged
from tailor.data.nouns import History, Query
from tailor.errors import DataError
from tailor.nn.text_encoder import MASK_TOKEN, SPECIAL_TOKENS, TextEncoderNet
from tailor.papers.retrieval.recformer import RecFormer, _newest_first
from tailor.retrieval.sequences import Windows
from tailor.text.attributes import VALUE
from tailor.text.hashing import HashingEncoder

ONE = Run(workers=1, dtype="float32")


def model(**settings):
    return RecFormer(
        **{
            "encoder": HashingEncoder(64),
            "width": 16,
            "words": 5,
            "length": 4,
            "pretraining": 4,
            "epochs": 4,
            "second": 2,
            "patience": None,
            "negatives": 20,
            "lr": 0.003,
            "batch_places": 1024,
        }
        | settings
    )


@pytest.fixture(scope="module")
def fitted():
    return model().fit(shop(), ONE)


def asked(fitted, *history, k=8):
    return list(
        fitted.recommend([Query(history=History.of(*history), exclude=frozenset(history))], k)[
            0
        ].ids
    )


def test_an_item_that_nobody_chose_is_found_among_its_kind(fitted):
    assert "garden7" in asked(fitted, "garden0", "garden1")
    assert fitted.fit_report_["items_with_events"] == 28


def test_a_history_of_items_that_nobody_chose_is_read(fitted):
    assert sum(one.startswith("snow") for one in asked(fitted, "snow7")) >= 5


def test_windows_are_turned_round():
    batch = Windows(
        np.array([3, 1, 4, 1, 5, 9], dtype=np.int32), np.array([1, 4]), np.array([3, 1])
    )
    turned = _newest_first(batch)
    assert [turned[i].tolist() for i in range(2)] == [[1, 4, 1], [5]]


def test_what_the_net_reads_is_marked_by_kind_and_item(fitted):
    rows = fitted.items_.rows(["tea0", "snow3"])
    text = fitted._token_batch(Ragged.of([rows, rows[:1]]), fitted._ready().text_encoder)
    told = [fitted.words_.ids[row - SPECIAL_TOKENS] for row in text.rows[0, 1:].tolist()]
    assert told == ["title", "tea", "kettle", "model", "0", "title", "snow", "boot", "model", "3"]
    assert (
        text.kinds[0].tolist() == [0, 1, 2, 2, 2, 2, 1, 2, 2, 2, 2]
        and text.parts[0].tolist() == [0] + [1] * 5 + [2] * 5
    )
    assert text.lengths.tolist() == [11, 6] and not text.rows[1, 6:].any()


def test_items_are_encoded_once_an_epoch_then_held_still(monkeypatch):
    made, encode = [], RecFormer._encode_items
    monkeypatch.setattr(
        RecFormer,
        "_encode_items",
        lambda self: encode(self) or made.append(self._net.item_vectors.clone()),
    )
    fitted = model(pretraining=1, epochs=3, second=2).fit(shop(), ONE)
    assert len(made) == 4  # before each epoch of the first part of tuning, and after it
    np.testing.assert_array_equal(fitted.net_weights_["item_vectors"], made[-1].numpy())
    first = fitted.first_stage()
    np.testing.assert_array_equal(
        first.net_weights_["item_vectors"], fitted.net_weights_["item_vectors"]
    )
    assert any(
        (
            first.net_weights_[f"text_encoder.{name}"]
            != fitted.net_weights_[f"text_encoder.{name}"]
        ).any()
        for name in fitted.item_weights_
    )
    for name, one in fitted.item_weights_.items():
        np.testing.assert_array_equal(first.net_weights_[f"text_encoder.{name}"], one)


def test_the_second_part_is_left_where_validation_finds_it_worse(monkeypatch):
    values = iter([0.5, 0.4, 0.3])
    monkeypatch.setattr(
        "tailor.training.validation.Validation.value", lambda self, method: next(values)
    )
    fitted = model(pretraining=0, epochs=1, second=2, patience=9).fit(shop(), ONE)
    assert "kept" in fitted.fit_report_["second"]
    for name, one in fitted.item_weights_.items():
        np.testing.assert_array_equal(fitted.net_weights_[f"text_encoder.{name}"], one)


@pytest.mark.parametrize("negatives", [10, 100, None])
def test_new_items_are_no_negatives(negatives, monkeypatch):
    drawn, draw = [], RecFormer._draw_negatives
    monkeypatch.setattr(
        RecFormer,
        "_draw_negatives",
        lambda self, rows, rng: drawn.append(draw(self, rows, rng)) or drawn[-1],
    )
    fitted = model(pretraining=0, epochs=2, second=0, negatives=negatives).fit(shop())
    named = set(fitted.items_.named(np.concatenate(drawn)))
    assert named and not named & {"tea7", "garden7", "violin7", "snow7"}


def test_hidden_words_are_guessed_better_with_time(monkeypatch):
    values, guesses = [], RecFormer._masked_word_loss
    monkeypatch.setattr(
        RecFormer,
        "_masked_word_loss",
        lambda self, batch, rng: values.append(guesses(self, batch, rng)) or values[-1],
    )
    model(pretraining=20, epochs=1, second=0, guessed=1.0, batch_places=256).fit(shop(), ONE)
    first, last = (sum(one.item() for one in some) for some in (values[:10], values[-10:]))
    assert 0 < last < 0.7 * first


def test_names_of_attributes_are_never_hidden(monkeypatch):
    seen, all_positions = [], TextEncoderNet.all_positions
    monkeypatch.setattr(
        TextEncoderNet,
        "all_positions",
        lambda self, text: seen.append(text) or all_positions(self, text),
    )
    model(pretraining=1, epochs=1, second=0).fit(shop(), ONE)
    assert any((one.rows == MASK_TOKEN).any() for one in seen)
    assert all((one.kinds[one.rows == MASK_TOKEN] == VALUE).all() for one in seen)


def test_items_join_by_words_that_are_known(fitted):
    extra = [("new", "violin string model 99"), ("strange", "zyx"), ("blank", " ")]
    more = fitted.with_items(shop(extra=extra))
    assert "new" in asked(more, "violin0", "violin1", k=9)
    assert set(asked(more, "tea0", k=36)) - set(asked(fitted, "tea0", k=36)) == {
        "new",
        "strange",
    }  # of a strange one its title is known to be there
    assert "new" not in asked(fitted, "violin0", k=40)  # a copy was made
    old = fitted.items_.rows(["tea0", "snow7"])
    np.testing.assert_array_equal(
        more.net_weights_["item_vectors"][more.items_.rows(["tea0", "snow7"])],
        fitted.net_weights_["item_vectors"][old],
    )


def test_saved_and_loaded_it_still_takes_new_items_and_gives_its_first_stage(fitted, tmp_path):
    fitted.save(tmp_path / "m")
    again = RecFormer.load(tmp_path / "m")
    assert "new" in asked(
        again.with_items(shop(extra=[("new", "violin string model 99")])), "violin0", "violin1", k=9
    )
    assert asked(again.first_stage(), "tea0") == asked(fitted.first_stage(), "tea0")


def test_attributes_are_told_in_the_order_asked_for():
    data = shop()
    table = data.tables["items"].with_columns(brand=data.tables["items"]["item_id"].str.slice(0, 3))
    shown = type(data)({"events": data.tables["events"], "items": table})
    fitted = model(attributes=("brand", "title"), pretraining=0, epochs=1, second=0).fit(shown)
    row = fitted.items_.rows(["tea0"])[0]
    assert [
        fitted.words_.ids[one]
        for one in fitted.word_rows_[fitted.offsets_[row] : fitted.offsets_[row + 1]]
    ] == [
        "brand",
        "tea",
        "title",
        "tea",
        "kettle",
    ]


def test_a_deadline_ends_all_parts():
    fitted = model().fit(shop(), dataclasses.replace(ONE, deadline_s=0.0))
    assert all(
        fitted.fit_report_[part]["stopped"] == "deadline"
        for part in ("pretraining", "first", "second")
    ) and asked(fitted, "tea0")


@pytest.mark.parametrize(
    "settings",
    [
        {"words": 1},
        {"second": -1},
        {"guessed": -0.1},
        {"heads": 3},
        {"attributes": ()},
        {"temperature": 0.0},
        {"pretraining": -1},
    ],
)
def test_bad_settings(settings):
    with pytest.raises(DataError, match=r"\d"):
        model(**settings)
