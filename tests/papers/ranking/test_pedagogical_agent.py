from dataclasses import replace

import numpy as np
import pytest

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query
from tailor.data.splits import by_ratio
from tailor.errors import DataError
from tailor.papers.ranking.pedagogical_agent import PedagogicalAgent
from tailor.worlds.students import classroom

SMALL = {"width": 16, "epochs": 4, "window": 20, "lr": 1e-2}


@pytest.fixture(scope="module")
def log():
    room = classroom(students=150, topics=3, questions=4, rate=0.0)
    return room.practise(25, np.random.default_rng(0))


@pytest.fixture(scope="module")
def agent(log):
    return PedagogicalAgent(**SMALL).fit(log, Run(seed=0))


def windows_of(agent, data):
    mask = np.ones(len(data.events), dtype=bool)
    return agent._windows(data, mask, mask)


def student(items, answers):
    return Query(history=History(tuple(items), values=tuple(map(float, answers))))


def test_a_prediction_never_sees_its_own_answer_but_later_ones_do(agent, log):
    windows = windows_of(agent, log)
    position = windows.starts[first_long(windows)[0]] + 3
    answers = windows.answers.copy()
    answers[position] = 1 - answers[position]
    rows = first_long(windows)
    before = probabilities_of(agent, windows, rows)
    after = probabilities_of(agent, replace(windows, answers=answers), rows)
    assert np.allclose(before[:4], after[:4], atol=1e-7)
    assert (np.abs(before[4:] - after[4:]) > 1e-6).all()


def first_long(windows):
    """Return the row (1,) of the first window of 20 answers."""
    return np.flatnonzero(windows.lengths == 20)[:1]


def probabilities_of(agent, windows, rows):
    """Return the probabilities (T,) of the first of some windows."""
    batch = windows.padded(rows)
    logits, _ = agent._ready()(batch.items, batch.answers, batch.items, batch.visible)
    return logits[0].sigmoid().detach().numpy()


def test_answers_of_the_same_time_do_not_see_each_other(agent, log):
    windows = windows_of(agent, log)
    rows = first_long(windows)
    start = windows.starts[rows[0]]
    times = windows.times_ms.copy()
    times[start + 3] = times[start + 4]
    tied = replace(windows, times_ms=times)
    answers = windows.answers.copy()
    answers[start + 3] = 1 - answers[start + 3]
    before = probabilities_of(agent, tied, rows)
    after = probabilities_of(agent, replace(tied, answers=answers), rows)
    assert np.allclose(before[:5], after[:5], atol=1e-7)
    assert abs(before[5] - after[5]) > 1e-6


def test_training_and_serving_predict_the_same(agent, log):
    windows = windows_of(agent, log)
    rows = first_long(windows)
    expected = probabilities_of(agent, windows, rows)
    start = windows.starts[rows[0]]
    ids = log.catalogue.named(windows.items[start : start + 20])
    answers = windows.answers[start : start + 20]
    queries = [student(ids[:i], answers[:i]) for i in range(20)]
    predicted = np.concatenate(agent.predict(queries, [[item_id] for item_id in ids]))
    assert np.allclose(predicted, expected, atol=1e-5)


def test_right_answers_raise_what_is_expected_of_a_student(agent, log):
    items = log.events["item_id"][:6].to_list()
    asked = [log.catalogue.ids.tolist()] * 2
    wrong, right = agent.predict([student(items, [0] * 6), student(items, [1] * 6)], asked)
    assert (right > wrong).all() and (right - wrong).mean() > 0.05


def test_values_are_read_by_the_mark_that_counts_as_right(agent, log):
    by_mark = agent._with_state()
    by_mark.correct_from = 3.0
    ids = log.catalogue.ids[:3].tolist()
    marks, answers = student(ids, [1, 5, 1]), student(ids, [0, 1, 0])
    assert np.allclose(by_mark.predict([marks], [ids]), agent.predict([answers], [ids]))
    assert not np.allclose(agent.predict([marks], [ids]), agent.predict([answers], [ids]))
    assert by_mark.outcome().label == "value >= 3"


def test_events_at_or_after_the_request_do_not_count(agent, log):
    ids = tuple(log.catalogue.ids[:3].tolist())
    history = History(ids, times_ms=(1, 2, 3), values=(1.0, 0.0, 1.0))
    early = Query(history=history, time_ms=3)
    expected = student(ids[:2], [1, 0])
    assert np.allclose(agent.predict([early], [ids]), agent.predict([expected], [ids]))
    lists = agent.review([early])[0]
    assert set(lists.ids) == set(ids[:2])


def test_what_to_review_is_attention_times_the_chance_of_failing(agent, log):
    ids = log.catalogue.ids[:4].tolist()
    query = student([*ids, ids[0]], [1, 0, 0, 1, 1])
    ranking = agent.review([query], k=10)[0]
    assert set(ranking.ids) == set(ids)
    attention = dict(zip(ranking.ids, ranking.columns["attention"].tolist(), strict=True))
    predicted = dict(zip(ids, agent.predict([query], [ids])[0].tolist(), strict=True))
    for item_id, score in zip(ranking.ids, ranking.scores.tolist(), strict=True):
        assert score == pytest.approx(attention[item_id] * (1 - predicted[item_id]), abs=1e-5)
    assert 0.5 < sum(attention.values()) < 1  # the rest is attention to nothing
    other = agent.review([query], k=2, goals=[log.catalogue.ids[8]])[0]
    assert len(other) == 2
    assert other.columns["attention"].tolist() != ranking.columns["attention"][:2].tolist()
    assert agent.review([Query()])[0].ids == ()


def test_the_next_question_is_the_hardest_within_the_band_of_each_topic(agent, monkeypatch):
    topics, names = agent._topics()
    n = len(topics)
    probabilities = np.full((1, n), 0.95)
    inside = np.flatnonzero(topics == 0)[:3]
    probabilities[0, inside] = [0.75, 0.52, 0.3]  # the last is out of reach
    outside = np.flatnonzero(topics == 1)[:2]
    probabilities[0, outside] = [0.45, 0.9]
    monkeypatch.setattr(PedagogicalAgent, "_all_probabilities", lambda self, queries: probabilities)
    ranking = agent.next_question([Query()], k=5)[0]
    ids = agent.items_.ids
    assert ranking.ids[:2] == (ids[inside[1]], ids[outside[0]])
    assert ranking.scores[:2].tolist() == pytest.approx([0.48, -0.05])
    assert len(ranking) == len(names) == 3
    assert ranking.columns["probability"][:2].tolist() == pytest.approx([0.52, 0.45])
    without = Query(exclude=(ids[inside[1]],))
    assert agent.next_question([without])[0].ids == (ids[inside[0]],)
    just_asked = student([ids[inside[1]], ids[outside[1]]], [1, 1])
    assert agent.next_question([just_asked])[0].ids == (ids[inside[0]],)
    long_ago = student([ids[inside[1]], *[ids[outside[1]]] * 3], [1] * 4)
    assert agent.next_question([long_ago])[0].ids == (ids[inside[1]],)


def test_knowledge_is_the_mean_prediction_of_a_topic(agent, log):
    ids = log.catalogue.ids.tolist()
    query = student(ids[:5], [1, 0, 1, 1, 0])
    profile = agent.knowledge([query, Query()])[0]
    predicted = dict(zip(ids, agent.predict([query], [ids])[0].tolist(), strict=True))
    table = log.tables["items"]
    for topic, mean in profile.items():
        members = [item for item, categories in table.iter_rows() if categories == [topic]]
        assert mean == pytest.approx(np.mean([predicted[item] for item in members]), abs=1e-6)
    assert set(profile) == {"topic 0", "topic 1", "topic 2"}


def test_questions_without_topics_are_topics_of_their_own(log):
    bare = Dataset({"events": log.events}, "bare")
    agent = PedagogicalAgent(**{**SMALL, "epochs": 1}).fit(bare)
    assert set(agent.knowledge([Query()])[0]) == set(log.catalogue.ids.tolist())


def test_a_split_stops_training_by_its_validation_answers(log):
    split = by_ratio(log)
    report = PedagogicalAgent(**SMALL).fit(split.train, valid=split).fit_report_
    assert report["answers"] == len(split.train.events)
    assert len(report["validation"]) >= 1


@pytest.mark.parametrize("settings", [{"window": 0}, {"band": (0.8, 0.5)}])
def test_bad_settings_are_refused(settings):
    with pytest.raises(DataError, match=next(iter(settings))):
        PedagogicalAgent(**settings)


def test_a_log_without_answers_is_refused(log):
    with pytest.raises(DataError, match="value"):
        PedagogicalAgent().fit(Dataset({"events": log.events.drop("value")}, "no values"))
