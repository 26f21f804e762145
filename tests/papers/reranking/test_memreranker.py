"""MemReranker: turns with the answer, probabilities with a threshold, soft labels of teachers."""

import numpy as np
import polars as pl
import pytest

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.nouns import Query, Ranking
from tailor.errors import DataError, ModelError
from tailor.llm.scripted import ScriptedModel
from tailor.papers.reranking.memreranker import STRAIGHT, MemReranker, Weights, weights_of
from tailor.reranking.llm_reranker import LLMReranker
from tailor.reranking.shortlist import Shortlist
from tailor.reranking.turn_lists import dialogues_of, turns_of
from tailor.text.hashing import HashingEncoder
from tailor.text.turns import NAMES, DialogueTurn

ENCODER = HashingEncoder(64)
RUN = Run(workers=1)
WORDS = [f"subject{letter}" for letter in "abcdefghijkl"]
DAY_MS = 86_400_000


def talk(dialogue, seed):
    """Return turns, requests and judgements: the answer is the turn after the question's words."""
    rng = np.random.default_rng(seed)
    turns, requests, judgements = [], [], []
    for i, word in enumerate(rng.permutation(WORDS)):
        for text in (f"What about {word}?", f"It was {int(rng.integers(100, 999))}.", "I see."):
            number = len(turns)
            row = {"dialogue_id": dialogue, "turn": number, "speaker": "AB"[number % 2]}
            turns.append(row | {"text": text, "time_ms": DAY_MS * i, "session_id": str(i)})
        requests.append({"request_id": f"{dialogue}:q{i}", "text": word, "context": dialogue})
        answer = f"{dialogue}:{len(turns) - 2}"
        judgements.append({"query_id": f"{dialogue}:q{i}", "item_id": answer, "grade": 1})
    return turns, requests, judgements


def talks(n=3):
    parts = [talk(f"talk{number}", number) for number in range(n)]
    turns, requests, judgements = (
        pl.DataFrame([row for of_talk in rows for row in of_talk])
        for rows in zip(*parts, strict=True)
    )
    ids = pl.format("{}:{}", "dialogue_id", "turn").alias("item_id")
    texts = pl.format("{}: {}", "speaker", "text").alias("text")
    items = turns.select(ids, texts)
    events = pl.DataFrame({"user_id": ["u"], "item_id": items["item_id"][:1]})
    tables = {"events": events, "items": items, "turns": turns}
    return Dataset(tables | {"requests": requests, "judgements": judgements})


DATA = talks()
FITTED = MemReranker(encoder=ENCODER).fit(DATA, RUN)


def test_it_learns_that_the_answer_stands_after_the_question():
    unseen = turns_of(talks(5))["talk4"]
    (best,) = FITTED.recall("subjectc", unseen, k=1)
    asked = next(turn for turn in unseen if "subjectc" in turn.text)
    assert best.turn.number == asked.number + 1
    untaught = MemReranker(encoder=ENCODER).recall("subjectc", unseen, k=1)
    assert untaught[0].turn.number == asked.number


def test_probabilities_are_those_of_answers_and_a_threshold_holds():
    (dialogue,) = [d for d in dialogues_of(talks(5)) if d.turns[0].dialogue_id == "talk4"]
    features = FITTED.features(dialogue)
    probabilities = Weights(FITTED.weights_, FITTED.bend_).probabilities(features)
    assert abs(probabilities.sum() - dialogue.gains.sum()) < 0.3 * dialogue.gains.sum()
    turns = turns_of(talks(5))["talk4"]
    hits = FITTED.recall("subjectc", turns, k=20, min_prob=0.5)
    assert len(hits) == 1 and hits[0].probability >= 0.5
    assert FITTED.recall("nothing of it", turns, min_prob=0.5) == []
    assert FITTED.recall("subjectc", []) == []
    blended = MemReranker(encoder=ENCODER, prior_weight=0.5).fit(DATA, RUN)
    assert blended.recall("subjectc", turns, k=20, min_prob=0.5) == hits  # no blend, probabilities


def test_learning_from_few_negatives_leaves_probabilities_as_they_are():
    few = MemReranker(encoder=ENCODER, negatives=8).fit(DATA, RUN)
    (dialogue,) = [d for d in dialogues_of(talks(5)) if d.turns[0].dialogue_id == "talk4"]
    sums = [
        Weights(method.weights_, method.bend_).probabilities(method.features(dialogue)).sum()
        for method in (few, FITTED)
    ]
    assert sums[0] == pytest.approx(sums[1], rel=0.3)


def test_overwhelming_evidence_counts_less_where_it_was_overconfident():
    rng = np.random.default_rng(0)
    features = np.zeros((40, 100, len(NAMES) + 1), np.float32)
    features[:, :, 0] = rng.exponential(size=(40, 100)) ** 2  # a heavy tail
    features[:, :, -1] = 1
    truth = 1 / (1 + np.exp(3.5 - np.sqrt(features[:, :, 0]) * 1.5))
    gains = (rng.random((40, 100)) < truth).astype(float)
    bent = weights_of([features], [gains], 100, rng)
    straight = Weights(bent.features, STRAIGHT)
    errors = [np.mean((model.probabilities(features) - truth) ** 2) for model in (bent, straight)]
    assert bent.bend[1] < 0 and errors[0] < 0.8 * errors[1]


def test_a_pronoun_is_resolved_by_the_dialogue():
    turns = [
        DialogueTurn("Ann", "I moved to Delft.", None, "d", 0),
        DialogueTurn("Bob", "I moved to Ghent.", None, "d", 1),
    ]
    method = MemReranker(encoder=None)
    method.weights_, method.bend_ = np.eye(len(NAMES) + 1)[NAMES.index("speaker")], STRAIGHT
    for name, number in (("Ann", 0), ("Bob", 1)):
        best = method.recall("Where did she move?", turns, context=[f"Is {name} here?"])[0]
        assert best.turn.number == number


def test_dates_can_be_left_out():
    turns = [DialogueTurn("A", "yes", DAY_MS * 200 * i, "d", i, str(i)) for i in range(4)]
    method = MemReranker(encoder=None)
    method.weights_, method.bend_ = np.eye(len(NAMES) + 1)[NAMES.index("date")], STRAIGHT
    assert method.recall("what in February 1971?", turns, k=1)[0].turn.number == 2
    undated = MemReranker(encoder=None, dates=False)
    undated.weights_, undated.bend_ = method.weights_, STRAIGHT
    assert {hit.probability for hit in undated.recall("what in 1971?", turns)} == {0.5}


def test_teachers_votes_become_soft_labels():
    (dialogue,) = [d for d in dialogues_of(DATA) if d.turns[0].dialogue_id == "talk0"]
    knows = {"It was": 0.6, "What about": 0.9}
    teacher = LLMReranker(llm=ScriptedModel(knows=knows), strategy="grade", reads="log-probs")
    method = MemReranker(encoder=ENCODER, teachers=(teacher,), compared=6)
    features = method.features(dialogue)
    soft = method._soft(dialogue, features, [teacher])
    assert np.allclose(soft.sum(axis=1), dialogue.gains.sum(axis=1))
    answer = int(dialogue.gains[0].argmax())
    assert 0 < soft[0].min() + soft[0, answer] < 1  # the teacher likes the question more
    question = answer - 1
    assert soft[0, question] > 0.2 and (soft[0] > 0).sum() <= 6
    taught = method.fit(DATA, RUN)
    assert taught.weights_[0] > FITTED.weights_[0]  # the question's words count more


def test_candidates_of_the_catalogue_bring_their_neighbours():
    ids = tuple(f"talk0:{number}" for number in range(36))
    asked = next(turn for turn in turns_of(DATA)["talk0"] if "subjectd" in turn.text)
    lists = FITTED.recommend(
        [Query(text="subjectd")], 36, [Ranking(ids, -np.arange(36, dtype=float))]
    )
    assert lists[0].ids[0] == f"talk0:{asked.number + 1}"
    assert lists[0].details[lists[0].ids[0]]["probability"] > 0.5


def test_plain_texts_are_turns_without_neighbours():
    result = FITTED.rerank([Shortlist.of_texts("kettle", ["a tent", "a kettle"])])[0]
    assert sorted(result.order.tolist()) == [0, 1] and result.score_kind == "probability"


def test_wrong_input_is_named():
    with pytest.raises(ModelError, match="compared"):
        MemReranker(compared=1)
    with pytest.raises(ModelError, match="min_prob"):
        FITTED.recall("x", [], min_prob=2)
    shortlist = Shortlist.of_texts("x", ["a", "b"])
    with pytest.raises(DataError, match="1 turns"):
        Shortlist(shortlist.query, ("a", "b"), shortlist.prior, turns=(DialogueTurn("A", "a"),))
