from dataclasses import dataclass, field

import numpy as np
import pytest

from tailor.errors import DataError
from tailor.ports.base import Encoder
from tailor.text.cached import AT_ONCE, CachedEncoder


@dataclass(frozen=True)
class Counting(Encoder):
    name: str = "counting"
    seen: list = field(default_factory=list, compare=False)

    @property
    def space(self):
        return self.name

    def encode(self, texts):
        self.seen.extend(texts)
        rows = np.array(
            [[len(text), 1, sum(map(ord, text)) % 7] for text in texts], dtype=np.float32
        ).reshape(-1, 3)
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


TEXTS = ["red tent", "", "red tent", "\ud800", "日本", "x" * 10_000, " "]


def test_vectors_are_the_encoder_s_bit_by_bit_and_no_text_is_encoded_twice(tmp_path):
    inner = Counting()
    cached = CachedEncoder(inner, str(tmp_path))
    first, second = cached.encode(TEXTS), cached.encode(TEXTS[::-1])
    plain = Counting().encode(TEXTS)
    assert (
        np.array_equal(first, plain)
        and np.array_equal(second, plain[::-1])
        and first.dtype == np.float32
    )
    assert sorted(inner.seen) == sorted(set(TEXTS))
    assert np.array_equal(
        CachedEncoder(Counting(), str(tmp_path)).encode(["new", *TEXTS])[1:], plain
    )


def test_another_encoder_s_vectors_are_not_taken_for_its_own(tmp_path):
    a, b = Counting("a"), Counting("b")
    CachedEncoder(a, str(tmp_path)).encode(["t"])
    CachedEncoder(b, str(tmp_path)).encode(["t"])
    assert b.seen == ["t"]


def test_a_forgotten_text_is_gone_for_all_encoders(tmp_path):
    encoders = [CachedEncoder(Counting(name), str(tmp_path)) for name in "ab"]
    for one in encoders:
        one.encode(["what Ann wrote", "kept"])
    assert encoders[0].forget(["what Ann wrote"]) == 2
    assert len(encoders[0].cache) == 2
    encoders[1].encode(["kept"])
    assert encoders[1].inner.seen.count("kept") == 1
    encoders[1].encode(["what Ann wrote"])
    assert encoders[1].inner.seen.count("what Ann wrote") == 2


def test_many_texts_are_written_in_parts_so_that_a_kill_costs_little(tmp_path):
    class Stopping(Counting):
        def encode(self, texts):
            if len(self.seen) >= AT_ONCE:
                raise KeyboardInterrupt
            return super().encode(texts)

    texts = [f"{n:05d}" for n in range(2 * AT_ONCE)]
    with pytest.raises(KeyboardInterrupt):
        CachedEncoder(Stopping(), str(tmp_path)).encode(texts)
    again = Counting()
    CachedEncoder(again, str(tmp_path)).encode(texts)
    assert len(again.seen) == AT_ONCE


@pytest.mark.parametrize("bad", ["one string", [None], ["a", 3], [b"a"]])
def test_what_is_no_text_is_refused(tmp_path, bad):
    with pytest.raises(DataError, match="text"):
        CachedEncoder(Counting(), str(tmp_path)).encode(bad)


def test_no_texts_give_no_vectors(tmp_path):
    assert CachedEncoder(Counting(), str(tmp_path)).encode([]).shape == (0, 3)
