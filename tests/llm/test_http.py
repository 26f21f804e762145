"""A server that is slow, busy, broken or hostile: no answer lost, none swapped, none invented."""

import logging
import random
import time

import numpy as np
import pytest

pytest.importorskip("openai")
from scripted_server import chat, scripted

from tailor.errors import ModelError
from tailor.llm.http import HTTPModel
from tailor.llm.metered import Metered
from tailor.ports.calls import _circuits
from tailor.text.http_encoder import HTTPEncoder


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("SOME_KEY", "sk-very-secret")
    _circuits.clear()


def model(server, **settings):
    return HTTPModel("m", server.url, "SOME_KEY", **settings)


def said(body):
    return body["messages"][-1]["content"]


def test_64_calls_at_once_with_delays_and_failures_lose_and_swap_nothing():
    rng = random.Random(0)

    def answer(path, body, nth):
        time.sleep(rng.random() * 0.1)
        if rng.random() < 0.2:
            return rng.choice(
                [
                    (500, {"error": {"message": "down"}}),
                    (429, {"error": {"message": "busy"}}, {"Retry-After": "0.05"}),
                    (503, b""),
                    (200, b'{"id": "x", "choices": [{"ind'),
                    (200, b""),
                    (200, {"choices": []}),
                ]
            )
        return 200, chat(f"echo {said(body)}")

    with scripted(answer) as server:
        answers = model(server, concurrency=64, retries=10).complete(
            [f"prompt {n}" for n in range(200)]
        )
    assert [one.text for one in answers] == [f"echo prompt {n}" for n in range(200)]
    assert (
        8 < server.most_at_once <= 64
        and answers[0].tokens_in == 7
        and answers[0].finish == ("stop",)
    )


def test_no_log_names_the_key(caplog):
    caplog.set_level(logging.DEBUG)
    with scripted(lambda *_: (200, chat("ok"))) as server:
        model(server).complete(["p"])
        assert server.keys == ["Bearer sk-very-secret"]
    assert caplog.text and "very-secret" not in caplog.text


def test_caps_hold_with_64_calls_at_once():
    def answer(path, body, nth):
        time.sleep(0.01)
        return 200, chat("ok")

    with scripted(answer) as server:
        metered = Metered(model(server, concurrency=64), 0.0, 1000.0, max_usd=1.0)
        answers = metered.complete([f"prompt {n}" for n in range(200)], max_tokens=100)
        assert (
            sum(not one.error for one in answers) == len(server.bodies) == 10
            and metered.spent.usd <= 1.0
        )


@pytest.mark.parametrize(
    ("status", "tries"), [(401, 1), (403, 1), (400, 1), (404, 1), (429, 3), (500, 3), (503, 3)]
)
def test_what_can_help_is_repeated_and_what_cannot_is_not(status, tries):
    with scripted(
        lambda *_: (status, {"error": {"message": "key sk-very-secret is bad"}})
    ) as server:
        with pytest.raises(ModelError, match=f"HTTP {status}") as caught:
            model(server, retries=2).complete(["p"])
        assert len(server.bodies) == tries
    assert "very-secret" not in str(caught.value) and "very-secret" not in repr(
        caught.value.__context__
    )
    assert status != 401 or "SOME_KEY" in str(caught.value)


def test_one_bad_prompt_costs_no_other():
    def answer(path, body, nth):
        return (
            (400, {"error": {"message": "too long"}}) if said(body) == "bad" else (200, chat("ok"))
        )

    with scripted(answer) as server:
        answers = model(server).complete(["a", "bad", "b"])
    assert [one.texts for one in answers] == [("ok",), (), ("ok",)] and "too long" in answers[
        1
    ].error


def test_a_server_that_hangs_or_sends_half_a_body_is_left_at_the_deadline():
    # without a deadline the calls would go on for longer than the suite allows a test
    for behaviour in (lambda *_: 30, lambda *_: (200, b'{"cho')):
        with scripted(behaviour) as server, pytest.raises(ModelError, match="within 1 s"):
            model(server, deadline_s=1.0, retries=500).complete(["p"])


def test_after_many_failures_in_a_row_the_server_is_left_alone(monkeypatch):
    monkeypatch.setattr("tailor.ports.calls.PAUSE_S", 0.001)
    with scripted(lambda *_: (500, {})) as server:
        with pytest.raises(ModelError):
            model(server, retries=20, deadline_s=8, concurrency=1).complete(["p"])
        asked = len(server.bodies)
        with pytest.raises(ModelError, match="not called for now"):
            model(server, concurrency=1).complete(["p"])
        assert asked == len(server.bodies) == 8


def test_what_is_asked_is_what_was_meant():
    with scripted(lambda *_: (200, chat(["one", "two"]))) as server:
        asked = HTTPModel("m", server.url, "SOME_KEY", system="Be brief.", more={"top_p": 0.5})
        (answer,) = asked.complete(
            ["\ud800 q"],
            max_tokens=9,
            temperature=0.5,
            n=2,
            seed=4,
            schema={"type": "object"},
            images=[b"\x89PNG..."],
        )
        body = server.bodies[0]
    assert answer.texts == ("one", "two")
    assert (body["max_tokens"], body["temperature"], body["n"], body["seed"], body["top_p"]) == (
        9,
        0.5,
        2,
        4,
        0.5,
    )
    assert (
        body["messages"][0] == {"role": "system", "content": "Be brief."}
        and body["messages"][1]["content"][0]["text"] == "? q"
    )
    assert body["messages"][1]["content"][1]["image_url"]["url"].startswith(
        "data:image/png;base64,"
    )
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}
    with pytest.raises(ModelError, match="PNG"):
        asked.complete(["q"], images=[b"not an image"])


def test_scores_come_from_an_echo_or_not_at_all():
    def answer(path, body, nth):
        text = body["prompt"]
        offsets = list(range(0, len(text), 2))
        return 200, {
            "id": "x",
            "object": "text_completion",
            "created": 0,
            "model": "m",
            "choices": [
                {
                    "index": 0,
                    "text": text + "!",
                    "finish_reason": "length",
                    "logprobs": {
                        "tokens": [text[at : at + 2] for at in offsets] + ["!"],
                        "text_offset": [*offsets, len(text)],
                        "token_logprobs": [None, *[-1.0] * (len(offsets) - 1), -9.0],
                    },
                }
            ],
        }

    with scripted(answer) as server:
        with pytest.raises(ModelError, match="echoes"):
            model(server).score(["ab"], ["cd"])
        assert np.array_equal(
            model(server, echoes=True).score(["abcd", "ab"], ["efgh", "cd"]), [-2.0, -1.0]
        )
    assert (
        "score" in HTTPModel("m", echoes=True).capabilities()
        and "score" not in HTTPModel("m").capabilities()
    )


def test_settings_that_make_no_sense_are_refused():
    for bad in ({"concurrency": 0}, {"retries": -1}, {"deadline_s": 0}, {"base_url": "ftp://x"}):
        with pytest.raises(ModelError):
            HTTPModel("m", **bad)
    for bad in ({"base_url": "http://[::1/v1"}, {"base_url": "http://localhost:99999/v1"}):
        with pytest.raises(ModelError, match="must be an address"):
            HTTPModel("m", **bad)


@pytest.mark.parametrize("key", ["sk-very-secret", "hf_VerySecret", "Bearer x", "a=b"])
def test_a_key_in_the_place_of_its_variable_s_name_is_refused_and_not_repeated(key):
    for cls in (HTTPModel, HTTPEncoder):
        with pytest.raises(ModelError, match="api_key_env") as caught:
            cls("m", api_key_env=key)
        assert key not in str(caught.value)


@pytest.mark.parametrize("key", ["sk-very\nsecret", "sk-very–secret"])
def test_a_key_that_no_request_can_carry_is_named_and_not_shown(key, monkeypatch):
    monkeypatch.setenv("SOME_KEY", key)
    with pytest.raises(ModelError, match="SOME_KEY") as caught:
        HTTPModel("m", "http://127.0.0.1:9/v1", "SOME_KEY", deadline_s=2).complete(["p"])
    assert "secret" not in str(caught.value)


def test_lone_surrogates_reach_a_server_as_question_marks_wherever_they_stand():
    def answer(path, body, nth):
        if "prompt" not in body:
            return 200, chat("ok")
        text = body["prompt"]
        return 200, {
            "id": "x",
            "object": "text_completion",
            "created": 0,
            "model": "m",
            "choices": [
                {
                    "index": 0,
                    "text": text,
                    "finish_reason": "length",
                    "logprobs": {
                        "tokens": list(text),
                        "text_offset": list(range(len(text))),
                        "token_logprobs": [-1.0] * len(text),
                    },
                }
            ],
        }

    with scripted(answer) as server:
        assert model(server, echoes=True).score(["a\ud800"], ["b\udfff"]).tolist() == [-2.0]
        assert model(server, system="be \ud800 brief").complete(["p"])[0].text == "ok"
        assert [body.get("prompt") or body["messages"][0]["content"] for body in server.bodies] == [
            "a?b?",
            "be ? brief",
        ]


def test_what_no_server_can_be_asked_for_is_refused_before_it_is_asked():
    with scripted(lambda *_: (200, chat("ok"))) as server:
        for wrong in ({"max_tokens": 0}, {"n": 0}, {"temperature": -1.0}):
            with pytest.raises(ModelError, match=next(iter(wrong))):
                model(server).complete(["p"], **wrong)
        assert not server.bodies
