import random
import time

import numpy as np
import pytest

pytest.importorskip("openai")
from scripted_server import embeddings, scripted

from tailor.errors import ModelError
from tailor.ports.calls import _circuits
from tailor.text.http_encoder import HTTPEncoder


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("SOME_KEY", "sk-very-secret")
    _circuits.clear()


def vector(text):
    rng = np.random.default_rng(len(text) * 1000 + sum(map(ord, text)))
    return rng.standard_normal(6)


def expected(texts):
    rows = np.array([vector(text) for text in texts])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def encoder(server, **settings):
    return HTTPEncoder("m", server.url, "SOME_KEY", **settings)


def test_every_text_gets_its_own_vector_whatever_the_order_delays_and_failures():
    rng = random.Random(0)

    def answer(path, body, nth):
        assert path == "/v1/embeddings"
        time.sleep(rng.random() * 0.05)
        if rng.random() < 0.2:
            return rng.choice(
                [(500, {"error": "down"}), (429, {"error": "slow"}), (200, b'{"data": [{"ind')]
            )
        order = list(range(len(body["input"])))
        rng.shuffle(order)
        return 200, embeddings([vector(text) for text in body["input"]], order)

    texts = [f"text number {n} {'x' * (n % 7)}" for n in range(300)]
    with scripted(answer) as server:
        got = encoder(server, batch_size=7, concurrency=16, retries=8).encode(texts)
    np.testing.assert_allclose(got, expected(texts), atol=1e-6)
    assert server.most_at_once <= 16


@pytest.mark.parametrize("status", [401, 404, 400])
def test_a_call_that_is_wrong_is_not_repeated_and_the_key_is_not_shown(status):
    with scripted(
        lambda *_: (status, {"error": {"message": "bad key sk-very-secret given"}})
    ) as server:
        with pytest.raises(ModelError, match=f"HTTP {status}") as caught:
            encoder(server).encode(["a"])
        assert len(server.bodies) == 1 and server.keys == ["Bearer sk-very-secret"]
    assert "very-secret" not in str(caught.value)
    assert status != 401 or "SOME_KEY" in str(caught.value)


def test_a_server_that_hangs_is_left_at_the_deadline():
    with scripted(lambda *_: 30) as server, pytest.raises(ModelError, match=r"within 0\.6 s"):
        encoder(server, deadline_s=0.6, retries=500).encode(["a"])


@pytest.mark.parametrize(
    "bad",
    [
        embeddings([[1, 0]]),
        embeddings([[1, 0], [1, 0, 0]]),
        {"data": None},
        {},
        embeddings([[1, float("nan")], [1, 0]]),
    ],
)
def test_answers_of_another_shape_are_errors_not_vectors(bad):
    with scripted(lambda *_: (200, bad)) as server, pytest.raises(ModelError):
        encoder(server, retries=0).encode(["a", "b"])


def test_odd_texts_are_sent_as_text():
    texts = ["", "\ud800 lone", "日本語", "x" * 1_000_000]
    with scripted(
        lambda path, body, nth: (200, embeddings([[1, 2]] * len(body["input"])))
    ) as server:
        assert encoder(server).encode(texts).shape == (4, 2)
        sent = server.bodies[0]["input"]
    assert sent[0] == " " and sent[1] == "? lone" and sent[2] == "日本語" and len(sent[3]) < 20_000


def test_settings_hold_no_secret_and_a_missing_key_is_named(monkeypatch):
    for address in (
        "http://me:pass@host/v1",
        "https://host/v1?key=abc",
        "host:80",
        "file:///etc/passwd",
    ):
        with pytest.raises(ModelError, match="base_url") as caught:
            HTTPEncoder("m", address)
        assert "pass@" not in str(caught.value) and "abc" not in str(caught.value)
    monkeypatch.delenv("SOME_KEY")
    with pytest.raises(ModelError, match="SOME_KEY is empty"):
        HTTPEncoder("m", "http://127.0.0.1:9/v1", "SOME_KEY").encode(["a"])


def test_a_server_that_is_not_there_is_asked_again_and_then_named():
    with pytest.raises(ModelError, match="no connection"):
        HTTPEncoder("m", "http://127.0.0.1:9/v1", "SOME_KEY", retries=1).encode(["a"])
