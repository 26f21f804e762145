"""People as what they wrote: newer counts more, nothing after now, nothing on disk."""

import numpy as np
import polars as pl
import pytest

from tailor.data.dataset import Dataset
from tailor.errors import DataError
from tailor.text.cached import CachedEncoder
from tailor.text.hashing import HashingEncoder
from tailor.text.user_texts import DAY_MS, UserTextEncoder

ENCODER = HashingEncoder(64)


def told(rows, **more):
    """Texts (user, kind, text, day) beside an event of ann, bob and eve each."""
    events = pl.DataFrame(
        {"user_id": ["ann", "bob", "eve"], "item_id": ["x"] * 3, "time_ms": [0, 0, 0]}
    )
    texts = pl.DataFrame(
        [
            (user, kind, text, None if day is None else day * DAY_MS)
            for user, kind, text, day in rows
        ],
        schema={"user_id": pl.String, "kind": pl.String, "text": pl.String, "time_ms": pl.Int64},
        orient="row",
    )
    return Dataset({"events": events, "texts": texts, **more})


ROWS = [
    ("ann", "review", "old tent", 0),
    ("ann", "note", "new boat", 100),
    ("bob", "review", "red coat", 100),
    ("bob", "review", "  ", 101),
    ("stranger", "review", "zebra", 5),
]


def test_newer_texts_count_more_by_their_half_life():
    got = UserTextEncoder(ENCODER, half_life_days=50).encode(told(ROWS), now_ms=100 * DAY_MS)
    tent, boat, coat = ENCODER.encode(["old tent", "new boat", "red coat"])
    wanted = boat + tent / 4
    assert got[0] == pytest.approx(wanted / np.linalg.norm(wanted), abs=1e-6)
    assert got[1] == pytest.approx(coat, abs=1e-6) and not got[2].any()


def test_without_a_half_life_all_count_alike():
    got = UserTextEncoder(ENCODER, half_life_days=None).encode(told(ROWS))
    wanted = ENCODER.encode(["old tent", "new boat"]).sum(axis=0)
    assert got[0] == pytest.approx(wanted / np.linalg.norm(wanted), abs=1e-6)


def test_what_comes_later_is_not_read_and_a_limit_keeps_the_latest():
    early = UserTextEncoder(ENCODER).encode(told(ROWS), now_ms=50 * DAY_MS)
    assert (
        early[0] == pytest.approx(ENCODER.encode(["old tent"])[0], abs=1e-6) and not early[1].any()
    )
    last = UserTextEncoder(ENCODER, latest=1).encode(told(ROWS))
    assert last[0] == pytest.approx(ENCODER.encode(["new boat"])[0], abs=1e-6)


def test_kinds_are_chosen_and_missing_ones_named():
    notes = UserTextEncoder(ENCODER, kinds=("note",)).encode(told(ROWS))
    assert (
        notes[0] == pytest.approx(ENCODER.encode(["new boat"])[0], abs=1e-6) and not notes[1:].any()
    )
    with pytest.raises(DataError, match="no text of kind query"):
        UserTextEncoder(ENCODER, kinds=("query",)).encode(told(ROWS))
    with pytest.raises(DataError, match='no table "texts"'):
        UserTextEncoder(ENCODER).encode(Dataset({"events": told(ROWS).events}))


def test_texts_without_a_time_count_as_the_oldest():
    got = UserTextEncoder(ENCODER, half_life_days=10).encode(
        told(
            [
                ("ann", "note", "old tent", None),
                ("ann", "note", "new boat", 0),
                ("ann", "note", "red coat", 10),
            ]
        )
    )
    tent, boat, coat = ENCODER.encode(["old tent", "new boat", "red coat"])
    wanted = coat + boat / 2 + tent / 2
    assert got[0] == pytest.approx(wanted / np.linalg.norm(wanted), abs=1e-6)


def test_one_person_by_hand_and_nobody():
    one = UserTextEncoder(ENCODER, half_life_days=30)
    wanted = ENCODER.encode(["boat"])[0] + ENCODER.encode(["tent"])[0] / 2
    assert one.of_texts(["boat", "tent"], [0, 30]) == pytest.approx(
        wanted / np.linalg.norm(wanted), abs=1e-6
    )
    assert not one.of_texts([]).any() and not one.of_texts([" "]).any()


def test_people_s_words_never_reach_the_disk(tmp_path):
    cached = CachedEncoder(ENCODER, str(tmp_path / "vectors"))
    UserTextEncoder(cached).encode(told(ROWS))
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


@pytest.mark.parametrize("wrong", [{"latest": 0}, {"half_life_days": 0}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(DataError):
        UserTextEncoder(ENCODER, **wrong)
