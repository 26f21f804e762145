import numpy as np
import pytest

from tailor.errors import ModelError
from tailor.text.hashing import HashingEncoder


def test_like_spelling_is_near_and_everything_has_unit_length():
    encoder = HashingEncoder(512)
    texts = [
        "copper kettle",
        "kettle of copper",
        "coppper kettles",
        "red tent",
        "",
        "\ud800",
        "日本",
    ]
    got = encoder.encode(texts)
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-5)
    assert got[0] @ got[1] > got[0] @ got[2] > 0.3 > abs(got[0] @ got[3])
    assert np.array_equal(
        got, np.concatenate([encoder.encode([text]) for text in texts])
    ) and encoder.encode([]).shape == (0, 512)


def test_settings_are_checked():
    with pytest.raises(ModelError):
        HashingEncoder(0)
