"""ERank: expected grades after thought; a grade's reward is the rank that it would give."""

import numpy as np
import pytest
from reranking.planted_vectors import NumbersEncoder, judged_data, planted_lists, quality, text_of

pytest.importorskip("torch")

import torch

from tailor.core.run import Run
from tailor.errors import ModelError
from tailor.llm.scripted import ScriptedModel
from tailor.papers.reranking.erank import ERank, ERankStudent, grade_words, list_rewards
from tailor.reranking.shortlist import Limits, Shortlist

RUN = Run(workers=1, dtype="float32")
WORTHS = {"rope": 0.71, "knot": 0.74, "tent": 0.2, "pole": 0.68}
LIST = Shortlist.of_texts("how to tie", tuple(WORTHS))
MODEL = ScriptedModel(knows=WORTHS)


def graded(**settings):
    return ERank(**{"llm": MODEL} | settings).rerank([LIST], trace=True)[0]


def expected_of(worth):
    """The expectation over the scripted model's log-probabilities, worked out here again."""
    shares = np.exp([-4 * abs(grade / 10 - worth) for grade in range(11)])
    return shares @ np.arange(11) / shares.sum()


def test_the_score_is_the_expected_grade_and_parts_what_the_written_grade_ties():
    result = graded()
    assert result.scores == pytest.approx([expected_of(worth) for worth in WORTHS.values()])
    assert result.order.tolist() == [1, 0, 3, 2] and result.score_kind == "grade"
    written = graded(reads="reply")
    assert written.scores.tolist() == [7, 7, 2, 7] and written.order.tolist() == [0, 1, 3, 2]


def test_the_likeliest_grade_and_the_spread_come_with_each_document():
    shares = np.eye(11)[3] * 0.5 + np.eye(11)[9] * 0.5
    assert grade_words(shares) == {"grade": "3", "spread": "3.00"}
    assert [graded().details[doc]["grade"] for doc in range(4)] == ["7", "7", "2", "7"]


class Thinking(ScriptedModel):
    """Thinks aloud where it is asked to, and grades by a word of its own thoughts."""

    def complete(self, prompts, *, max_tokens=256, **settings):
        answers = super().complete(prompts, max_tokens=max_tokens, **settings)
        return [
            type(answer)(("it is about seamanship " * 20,), 5, 60)
            if "think in a few words" in prompt and "Grade from" not in prompt[-90:]
            else answer
            for prompt, answer in zip(prompts, answers, strict=True)
        ]

    def _log_prob(self, prompt, answer):
        worth = 0.9 if "seamanship" in prompt.rpartition("Your thoughts")[2] else 0.1
        return -4 * abs(int(answer[10:-1]) / 10 - worth)


@pytest.mark.parametrize("reads", ["log-probs", "reply"])
def test_the_thought_comes_before_the_grade_and_never_costs_it(reads):
    result = graded(llm=Thinking(knows=WORTHS), reason_tokens=3, reads=reads)
    prompts = [exchange.prompt for exchange in result.trace]
    asked, answered = prompts[:4], prompts[4:]
    assert all("think in a few words" in prompt for prompt in asked) and len(answered) == 4
    assert all("Your thoughts: <<it is about seamanship" in prompt for prompt in answered)
    # however long the thought was, the question stands at the end
    assert all(prompt.endswith('JSON, like {"grade": 7}.') for prompt in answered)
    assert result.statuses == ("ranked",) * 4
    assert result.details[0]["reason"].startswith("it is about seamanship")
    if reads == "log-probs":
        assert result.scores == pytest.approx([expected_of(0.9)] * 4)  # the thought decided


def test_a_limit_leaves_documents_ungraded_and_in_their_places():
    result = ERank(llm=MODEL).rerank([LIST], Limits(calls=2), trace=True)[0]
    assert result.order.tolist() == [1, 0, 2, 3]
    assert result.statuses == ("ranked", "ranked", "fallback", "fallback")
    assert result.spent.calls == 2 and len(result.trace) == 4


def test_settings_out_of_range_are_refused():
    with pytest.raises(ModelError, match="windows"):
        ERank(llm=MODEL, strategy="windows")
    with pytest.raises(ModelError, match="reason_tokens"):
        ERank(llm=MODEL, reason_tokens=-1)


def test_a_reward_is_the_reciprocal_rank_that_a_grade_would_give():
    expected = torch.tensor([4.0, 6.5, 8.0])
    rewards = list_rewards(expected, torch.tensor([1.0, 0.0, 0.0]), 1.0)
    # the relevant one: under both up to 6, between from 7, level with 8, above from 9
    assert rewards[0].tolist() == pytest.approx([1 / 3] * 7 + [1 / 2, 1 / 1.5, 1, 1])
    # the second: 4.0 and 8.0 are its rivals; what is not relevant earns by standing low
    assert rewards[1].tolist() == pytest.approx(
        [1 - 1 / 3] * 4 + [1 - 1 / 2.5] + [1 - 1 / 2] * 3 + [1 - 1 / 1.5, 0, 0]
    )
    half = list_rewards(expected, torch.tensor([1.0, 2.0, 0.0]), 2.0)
    assert half[0].tolist() == pytest.approx((0.5 * rewards[0]).tolist())


def test_the_reward_looks_at_the_present_list():
    gains = torch.tensor([1.0, 0.0])
    low = list_rewards(torch.tensor([5.0, 2.0]), gains, 1.0)
    high = list_rewards(torch.tensor([5.0, 8.0]), gains, 1.0)
    assert low[0, 3] == 1 and high[0, 3] == 0.5 and high[0, 9] == 1


def test_a_wrong_document_at_the_top_weighs_more_than_one_far_down():
    # an irrelevant document at the top, the relevant one below it, ten others far below
    expected = torch.tensor([8.0, 6.0, *np.linspace(0.2, 3.8, 10).tolist()])
    rewards = list_rewards(expected, torch.tensor([0.0, 1.0, *[0.0] * 10]), 1.0)
    assert rewards[0, 5] - rewards[0, 8] == pytest.approx(0.5)
    assert rewards[6, 1] - rewards[6, 2] < 0.1
    assert rewards[1, 9] - rewards[1, 6] == pytest.approx(0.5)


def lists_of(seed, requests=30, dims=3):
    """Lists whose relevant documents are alike to the request, and the first stage is noise."""
    rng = np.random.default_rng(seed)
    texts, lists = [], []
    for _ in range(requests):
        request = rng.standard_normal(dims)
        vectors = rng.standard_normal((10, dims))
        fits = vectors @ request / np.linalg.norm(vectors, axis=1)
        gains = 2.0 * (fits >= np.sort(fits)[-2]) + (fits >= np.sort(fits)[-4])
        texts.append(text_of(request))
        lists.append([(text_of(v), g) for v, g in zip(vectors, gains.tolist(), strict=True)])
    return judged_data(texts, lists)


def student(**settings):
    return ERankStudent(encoder=NumbersEncoder(3), epochs=6, lr=0.02, batch=4, **settings)


def test_both_stages_teach_grades_that_order_other_lists():
    train, test = lists_of(0), lists_of(1)
    alone = student(list_reward=False).fit(train, RUN)
    fitted = student().fit(train, RUN)
    assert list(alone.fit_report_)[-1:] == ["grades"] and "list reward" in fitted.fit_report_

    class RewardOnly(ERankStudent):
        def _stages(self):
            return {"list reward": self._reward_loss}

    reward = RewardOnly(encoder=NumbersEncoder(3), epochs=6, lr=0.02, batch=4).fit(train, RUN)
    untrained = student()
    untrained.lr, untrained.epochs = 1e-12, 1
    before = quality(untrained.fit(train, RUN), test)
    for method in (alone, fitted, reward):
        assert quality(method, test) > max(before, 0.6) + 0.1
    result = fitted.rerank([planted_lists(test)[0].shortlist])[0]
    assert result.scores.min() >= 0 and result.scores.max() <= 10
    assert {"grade", "spread"} <= set(result.details[0])
