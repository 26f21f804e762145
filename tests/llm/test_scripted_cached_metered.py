"""The scripted, the cached and the metered model: what they promise to tests and to purses."""

import json
import threading

import numpy as np
import pytest

from tailor.core.defaults import language_model
from tailor.core.specs import build_part, spec
from tailor.errors import ModelError
from tailor.llm.cached import Cached
from tailor.llm.http import HTTPModel
from tailor.llm.local import LocalModel
from tailor.llm.metered import Metered, Spent
from tailor.llm.parsing import read_order
from tailor.llm.prompts import Template
from tailor.llm.scripted import MALFORMED, ScriptedModel
from tailor.llm.torch_model import TorchModel
from tailor.ports.base import Completion

KNOWS = {f"fact {n}": float(n) for n in range(12)}


def prompt(order, tail="Order them."):
    return (
        "Documents:\n"
        + "\n".join(f"[{at}] <<fact {n} of some text>>" for at, n in enumerate(order, start=1))
        + f"\n{tail}"
    )


SHOWN = [3, 9, 1, 11, 5, 0, 7]
BEST = [4, 2, 7, 5, 1, 3, 6]


def ordered(model, shown=SHOWN, seed=0):
    return [
        one + 1
        for one in read_order(model.complete([prompt(shown)], seed=seed)[0].text, len(shown)).places
    ]


def test_the_perfect_model_knows_the_order_and_says_yes_or_no():
    model = ScriptedModel(KNOWS)
    assert ordered(model) == BEST
    assert [one.text for one in model.complete(["fact 9?", "nothing"])] == ["yes", "no"]
    scores = model.score([prompt(SHOWN)] * 7, [f"[{n}]" for n in range(1, 8)])
    assert np.exp(scores).sum() == pytest.approx(1) and np.argsort(-scores).tolist() == [
        one - 1 for one in BEST
    ]
    assert np.exp(model.score(["fact 9?"] * 2, ["yes", "no"])).sum() == pytest.approx(1)


def test_noise_and_position_bias_disturb_as_much_as_they_are_told_and_always_alike():
    noisy = ScriptedModel(KNOWS, noise=6.0)
    assert ordered(noisy) == ordered(noisy) != BEST and ordered(noisy, seed=1) != ordered(
        noisy, seed=2
    )
    assert ordered(ScriptedModel(KNOWS, position_bias=1e6)) == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_answer_is_still_an_order_of_everything(kind):
    got = ordered(ScriptedModel(KNOWS, malformed=kind))
    assert sorted(got) == list(range(1, 8))
    if kind in (
        "fenced",
        "unclosed",
        "brackets",
        "list",
        "letters",
        "full width",
        "chinese",
        "repeated",
        "thinking",
    ):
        assert got == BEST, "an answer that can be read was not"
    elif kind in ("wrong ids", "refusal", "nothing"):
        assert got == [1, 2, 3, 4, 5, 6, 7], "what cannot be read leaves the order as it was shown"


def test_failing_and_slow_answers_are_what_they_are_told_to_be(monkeypatch):
    answers = ScriptedModel(failing=0.3, reply="x").complete([str(n) for n in range(400)])
    assert 80 < sum(bool(one.error) for one in answers) < 160
    with pytest.raises(ModelError, match="scripted failure"):
        next(one for one in answers if one.error).text  # noqa: B018
    pauses = []
    monkeypatch.setattr("tailor.llm.scripted.time.sleep", pauses.append)
    ScriptedModel(slow_ms=30, reply="x").complete(["a", "b"])
    assert pauses == [0.03, 0.03]
    for bad in ({"malformed": "fencd"}, {"failing": 2}, {"noise": -1}):
        with pytest.raises(ModelError):
            ScriptedModel(**bad)


def test_models_nest_in_files_and_default_can_be_set(monkeypatch, tmp_path):
    model = Metered(
        Cached(ScriptedModel({"a": 1.0}, obeys=("x",)), "folder"),
        usd_per_million_out=0.4,
        max_usd=2.0,
    )
    again = build_part(spec(model))
    assert again == model and spec(again) == spec(model)
    (tmp_path / "model.toml").write_text('class = "llm.scripted.ScriptedModel"\nreply = "hello"\n')
    monkeypatch.setenv("TAILOR_LANGUAGE_MODEL", str(tmp_path / "model.toml"))
    assert language_model().complete(["?"])[0].text == "hello"


class Counting(ScriptedModel):
    asked: list = []

    def complete(self, prompts, **settings):
        type(self).asked.extend(prompts)
        return super().complete(prompts, **settings)


@pytest.fixture
def counting():
    Counting.asked = []
    return Counting(reply="x", failing=0.2)


def test_nothing_is_asked_twice_and_failures_are_asked_again(counting, tmp_path):
    model = Cached(counting, str(tmp_path))
    prompts = [f"p{n}" for n in range(50)] + ["p1", "\ud800"]
    first = model.complete(prompts)
    failed = {prompt for prompt, one in zip(prompts, first, strict=True) if one.error}
    assert len(Counting.asked) == 51 and 0 < len(failed) < 30
    Counting.asked.clear()
    second = Cached(counting, str(tmp_path)).complete(prompts)
    assert set(Counting.asked) == failed
    assert all(
        b.is_cached and b.texts == a.texts
        for a, b in zip(first, second, strict=True)
        if not a.error
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"max_tokens": 5},
        {"temperature": 0.5},
        {"n": 2},
        {"schema": {"type": "object"}},
        {"images": [b"i"]},
    ],
)
def test_another_question_is_another_entry(counting, tmp_path, changed):
    model = Cached(Counting(reply="x"), str(tmp_path))
    model.complete(["q"])
    model.complete(["q"], **changed)
    assert Counting.asked == ["q", "q"]
    model.complete(["q"], seed=9)  # at temperature 0 the seed decides nothing
    assert Counting.asked == ["q", "q"]


def test_scores_are_cached_and_answers_forgotten(tmp_path):
    model = Cached(ScriptedModel(KNOWS), str(tmp_path))
    asked = ["fact 9?", "other", "fact 9?"], ["yes", "no", "yes"]
    assert np.array_equal(
        model.score(*asked), ScriptedModel(KNOWS).score(*asked)
    ) and np.array_equal(model.score(*asked), model.score(*asked))
    model.complete(["fact 9?"])
    assert model.forget(*asked) == 3 and len(model.cache) == 0


class Choosing(ScriptedModel):
    asked: list = []

    def choices(self, prompts, labels):
        type(self).asked.append((tuple(prompts), tuple(labels)))
        return super().choices(prompts, labels)


def test_labels_are_asked_together_and_once(tmp_path):
    Choosing.asked = []
    inner = Choosing(KNOWS)
    model = Metered(Cached(inner, str(tmp_path)), usd_per_million_in=1.0)
    prompts, labels = ["fact 9?", "other", "fact 9?"], ["yes", "no", "1"]
    expected = ScriptedModel(KNOWS).choices(prompts, labels)
    np.testing.assert_array_equal(model.choices(prompts, labels), expected)
    np.testing.assert_array_equal(model.choices(prompts, labels), expected)
    assert Choosing.asked == [(("fact 9?", "other"), ("yes", "no", "1"))]
    model.choices(prompts, labels[:2])  # other labels are another question
    assert len(Choosing.asked) == 2
    assert model.spent.calls == 9 and model.spent.usd > 0
    assert model.choices([], labels).shape == (0, 3)
    assert Cached(inner, str(tmp_path)).forget(["fact 9?"]) == 2


def test_labels_beyond_a_cap_are_not_asked():
    Choosing.asked = []
    model = Metered(Choosing(KNOWS), max_calls=2)
    with pytest.raises(ModelError, match="max_calls is 2"):
        model.choices(["a", "b", "c"], ["yes", "no"])
    assert model.choices(["a", "b"], ["yes", "no"]).shape == (2, 2)
    assert len(Choosing.asked) == 1
    with pytest.raises(ModelError, match="labels is one text"):
        model.choices(["a"], "yes")


def test_what_was_spent_adds_up_and_an_answer_has_a_price():
    model = Metered(ScriptedModel(), usd_per_million_in=1e6, usd_per_million_out=2e6)
    cost = model.cost("four letters", Completion(("ab",), 3, 5), 100)
    assert (cost.calls, cost.tokens_in, cost.tokens_out, cost.usd) == (1, 3, 5, 13.0)
    assert model.cost("p", Completion((), error="gone"), 9) == Spent()
    free = model.cost("p", Completion(("a",), 3, 5, is_cached=True), 9)
    assert free == Spent(calls=1, cached=1)
    assert cost + free == Spent(2, 3, 5, 13.0, cached=1)


def test_a_cap_is_checked_before_a_call_and_what_was_set_aside_comes_back():
    model = Metered(ScriptedModel(reply="yes"), 1000.0, 1000.0, max_usd=1.0)
    answers = model.complete(["short"] * 20, max_tokens=100)
    asked = [one for one in answers if not one.error]
    # 102 tokens could cost .102 each
    assert len(asked) == 9 and all("max_usd" in one.error for one in answers if one.error)
    assert (
        model.spent.usd
        == pytest.approx(1000 / 1e6 * (model.spent.tokens_in + model.spent.tokens_out))
        and model.spent.usd < 0.1
    )
    assert model.spent.calls == 9 and model.spent.refused == 11
    assert not model.complete(["short"], max_tokens=100)[0].error, (
        "what the first answers did not use is free again"
    )


def test_a_cap_of_money_without_a_price_is_refused():
    with pytest.raises(ModelError, match="usd_per_million_in"):
        Metered(ScriptedModel(), max_usd=1.0)
    assert Metered(ScriptedModel(), usd_per_million_out=0.4, max_usd=1.0).max_usd == 1.0


@pytest.mark.parametrize("cap", ["max_usd", "max_tokens_all", "max_calls", "max_seconds"])
def test_a_budget_of_zero_asks_nothing(counting, cap):
    (answer,) = Metered(counting, 1.0, 1.0, **{cap: 0}).complete(["p"])
    assert cap in answer.error and not Counting.asked
    with pytest.raises(ModelError):
        Metered(counting, 1.0, 1.0, **{cap: 0}).score(["p"], ["a"])


def test_a_dry_run_asks_nothing_and_says_what_it_would_cost_at_most(counting):
    model = Metered(counting, 2.0, 8.0, dry_run=True)
    answers = model.complete(["word " * 100] * 3, max_tokens=50)
    assert not Counting.asked and all("dry run" in one.error for one in answers)
    most = model.estimate(["word " * 100] * 3, 50)
    assert (model.spent.calls, model.spent.tokens_in, model.spent.usd) == (
        3,
        most.tokens_in,
        pytest.approx(most.usd),
    )
    assert most.usd == pytest.approx((most.tokens_in * 2 + 150 * 8) / 1e6)


def test_many_threads_together_do_not_pass_a_cap():
    model = Metered(ScriptedModel(reply="yes " * 30, slow_ms=2), 0.0, 1000.0, max_usd=0.2)
    threads = [
        threading.Thread(target=lambda: [model.complete(["p"], max_tokens=40) for _ in range(10)])
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (
        0 < model.spent.usd <= 0.2 + 0.04
        and model.spent.refused > 0
        and model.spent.calls + model.spent.refused == 160
    )


def test_a_call_that_breaks_off_is_counted_at_its_most():
    class Broken(ScriptedModel):
        def complete(self, prompts, **settings):
            raise KeyboardInterrupt

    model = Metered(Broken(), 0.0, 1000.0)
    with pytest.raises(KeyboardInterrupt):
        model.complete(["p"], max_tokens=1000)
    assert model.spent.usd == pytest.approx(1.0)


def test_cached_answers_cost_nothing(tmp_path):
    model = Metered(Cached(ScriptedModel(reply="yes"), str(tmp_path)), 1.0, 1.0)
    model.complete(["p"])
    before = model.spent.usd
    assert (
        model.complete(["p"])[0].is_cached
        and model.spent.usd == pytest.approx(before)
        and model.spent.cached == 1
    )


def test_a_completion_without_text_is_an_error_when_it_is_read():
    with pytest.raises(ModelError, match="no text"):
        Completion(()).text  # noqa: B018
    assert json.loads(Completion(("[1]",)).text) == [1]


def test_a_server_that_does_not_say_what_it_used_is_counted_all_the_same():
    class Silent(ScriptedModel):  # some servers leave the field usage out
        def complete(self, prompts, **settings):
            return [Completion(("word " * 60,), 0, 0, ("stop",)) for _ in prompts]

    model = Metered(Silent(), 0.0, 1000.0, max_usd=0.35)
    answers = [model.complete(["p"], max_tokens=100)[0] for _ in range(20)]
    assert model.spent.tokens_out >= 60 and 0 < sum(not one.error for one in answers) <= 5


def test_threads_together_pass_a_cap_of_seconds_by_one_call_at_most():
    model = Metered(ScriptedModel(reply="yes", slow_ms=50), max_seconds=0.12)
    threads = [threading.Thread(target=model.complete, args=(["p"],)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert model.spent.calls <= 3 and model.spent.refused == 16 - model.spent.calls


def test_one_text_is_not_asked_letter_by_letter(tmp_path):
    scripted = ScriptedModel(reply="yes")
    server = HTTPModel("m", "http://127.0.0.1:9/v1", echoes=True)
    for model in (
        scripted,
        Metered(scripted),
        Cached(scripted, str(tmp_path)),
        LocalModel(),
        TorchModel(),
        server,
    ):
        for ask in (
            lambda m: m.complete("hello"),
            lambda m: m.score("hello", ["a"] * 5),
            lambda m: m.score(["hello"], "a"),
        ):
            with pytest.raises(ModelError, match=r"is one text, '.*': give a list"):
                ask(model)
        with pytest.raises(ModelError, match="2 prompts and 1 answers"):
            model.score(["a", "b"], ["x"])
    with pytest.raises(ModelError, match="slot documents is one text"):
        Template("{documents}", listed=("documents",)).filled(100, documents="a kettle")


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": 0},
        {"max_tokens": -5},
        {"n": 0},
        {"temperature": -1.0},
        {"temperature": float("nan")},
    ],
    ids=str,
)
def test_what_no_model_can_be_asked_for_is_refused_in_words(wrong, tmp_path):
    for model in (
        ScriptedModel(reply="yes"),
        Metered(ScriptedModel(reply="yes"), 1.0, 1.0, max_usd=1.0),
        Cached(ScriptedModel(reply="yes"), str(tmp_path)),
    ):
        with pytest.raises(ModelError, match=next(iter(wrong))):
            model.complete(["p"], **wrong)


def test_lines_by_letters_are_ordered_as_lines_by_numbers():
    model = ScriptedModel(knows={"tent": 1.0, "hose": 0.5}, position_bias=0.1)
    by_number = "Which?\n[1] a boot\n[2] a hose\n[3] a tent"
    by_letter = "Which?\n[A] a boot\n[B] a hose\n[C] a tent"
    letters = model.choices([by_letter], ["A", "B", "C"])
    assert letters == pytest.approx(model.choices([by_number], ["1", "2", "3"]))
    assert letters.argmax() == 2 and np.exp(letters).sum() == pytest.approx(1)
    assert model.score([by_letter], ["D"]) < letters.min()
    assert model.complete([by_letter])[0].text == model.complete([by_number])[0].text
