"""Sentence encoders with their real weights."""

import threading

import numpy as np
import pytest

from tailor.errors import ModelError
from tailor.text import sentences
from tailor.text.sentences import SentenceEncoder, readable

TEXTS = [
    "a light tent for two",
    "tiny shelter for camping",
    "annual report on copper prices",
    "",
    "\ud800 lone",
    "日本語",
    "x" * 1_000_000,
    " ".join(["tent"] * 2000),
]


def test_what_no_encoder_would_read_is_left_out():
    assert readable("\ud800a") == "?a" and len(readable("x" * 1_000_000)) < 20_000
    for bad in ({"batch_size": 0}, {"dims": 0}):
        with pytest.raises(ModelError):
            SentenceEncoder(**bad)


@pytest.fixture
def encoder(pulled):
    pytest.importorskip("sentence_transformers")
    pulled("minilm")
    return SentenceEncoder(dtype="float32")


@pytest.mark.slow
def test_vectors_are_those_of_sentence_transformers_and_mean_something(encoder, pulled):
    from sentence_transformers import SentenceTransformer

    got = encoder.encode(TEXTS)
    assert got.shape == (8, 384) and got.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-5)
    peer = SentenceTransformer(str(pulled("minilm")), device="cpu").encode(
        TEXTS[:3], normalize_embeddings=True
    )
    np.testing.assert_allclose(got[:3], peer, atol=1e-5)
    assert got[0] @ got[1] > 0.4 and got[0] @ got[2] < 0.2
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(got, alone, atol=1e-5)


@pytest.mark.slow
def test_bfloat16_is_close_and_named_in_the_fingerprint_only(encoder):
    short = SentenceEncoder(dtype="bfloat16")
    assert ((short.encode(TEXTS) * encoder.encode(TEXTS)).sum(axis=1) > 0.99).all()
    assert (
        short.space == encoder.space
        and short.fingerprint != encoder.fingerprint
        and short.exact() == encoder
    )


@pytest.mark.slow
def test_dims_and_prefix_make_another_space_and_threads_share_one_model(encoder):
    small = SentenceEncoder(dtype="float32", dims=64)
    assert (
        small.encode(TEXTS[:2]).shape == (2, 64)
        and small.encode([]).shape == (0, 64)
        and small.space != encoder.space
    )
    np.testing.assert_allclose(
        SentenceEncoder(dtype="float32", prefix="a light ").encode(["tent for two"]),
        encoder.encode([TEXTS[0]]),
        atol=1e-6,
    )
    found = {}
    threads = [
        threading.Thread(target=lambda n=n: found.update({n: encoder.encode(TEXTS[:3])}))
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and all(np.allclose(one, found[0], atol=1e-6) for one in found.values())


@pytest.mark.slow
def test_a_model_that_is_not_there_is_named_with_what_can_be_had(monkeypatch, tmp_path):
    pytest.importorskip("sentence_transformers")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="tailor models list"):
        SentenceEncoder("nobody/no-such-encoder").encode(["a"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="cannot be loaded"):
        SentenceEncoder(str(tmp_path / "empty")).encode(["a"])
    monkeypatch.setenv("TAILOR_MODELS", str(tmp_path))
    # weights that other tests loaded in this process stay usable without their files
    sentences._load.cache_clear()
    with pytest.raises(ModelError, match="tailor models pull minilm"):
        SentenceEncoder("minilm", dims=5).encode(["a"])


def test_weights_in_several_files_are_known_by_all_of_them(tmp_path):
    from tailor.text.sentences import _digest

    for folder, second in (("a", b"two"), ("b", b"three")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "model-1.safetensors").write_bytes(b"one")
        (tmp_path / folder / "model-2.safetensors").write_bytes(second)
    assert _digest(str(tmp_path / "a")) != _digest(str(tmp_path / "b"))
