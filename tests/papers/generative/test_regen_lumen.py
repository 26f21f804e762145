"""LUMEN: critiques are obeyed, against the history too, and narratives are of what is answered."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tailor.core.run import Run  # noqa: E402
from tailor.core.saving import load, save  # noqa: E402
from tailor.data.nouns import History, Query, Ranking  # noqa: E402
from tailor.data.splits import last_out  # noqa: E402
from tailor.errors import DataError  # noqa: E402
from tailor.generative.records import END, ITEM  # noqa: E402
from tailor.papers.generative.regen_lumen import (  # noqa: E402
    LUMEN,
    NARRATIVE,
    NEXT_ITEM,
    STORY,
    UNWANTED,
    WANTED,
    HybridLUMEN,
)
from tailor.text.hashing import HashingEncoder  # noqa: E402
from tailor.training.alignment import Alignment  # noqa: E402
from tailor.worlds.facets import facets  # noqa: E402

RUN = Run(workers=1, dtype="float32")
WORLD = facets(120, 6, seed=1, values=(3, 3, 3), noise=0.1)
SETTINGS = {
    "encoder": HashingEncoder(64),
    "width": 32,
    "length": 8,
    "dropout": 0.1,
    "lr": 0.01,
    "patience": None,
}
COLOUR = 2


def hybrid(**settings):
    return HybridLUMEN(**(SETTINGS | {"epochs": 20, "batch_places": 256} | settings))


def joint(**settings):
    return LUMEN(**(SETTINGS | {"heads": 2, "epochs": 3, "batch_places": 512} | settings))


@pytest.fixture(scope="module")
def split():
    return last_out(WORLD.data)


@pytest.fixture(scope="module")
def fitted(split):
    return hybrid().fit(split.train, RUN)


@pytest.fixture(scope="module")
def told(split):
    return joint().fit(split.train, RUN)


def obeyed(method, split, column):
    """Return how often the first answer has the value asked for in place of the last item's."""
    queries, _ = split.queries("test")
    items = WORLD.truth.items
    last = items.codes[[int(queries.histories[i][-1]) for i in range(len(queries))], column]
    values = (last + 1 + np.arange(len(last)) % 2) % 3
    words = items.words[column]
    texts = [f"{words[new]} instead of {words[old]}" for new, old in zip(values, last, strict=True)]
    asked = replace(queries, texts=np.array(texts, dtype=object))
    first = method.recommend(asked, 1).reindexed(queries.catalogue).rows[:, 0]
    return (items.codes[first, column] == values).mean()


def test_critiques_are_obeyed(fitted, split):
    assert obeyed(fitted, split, COLOUR) > 0.8


@pytest.mark.slow
def test_critiques_are_obeyed_against_the_history_where_it_is_taught(split):
    kind = 0  # histories stay with it
    taught = hybrid(epochs=40).fit(split.train, RUN)
    assert obeyed(taught, split, kind) > 0.8
    untaught = hybrid(epochs=40, contrary=0.0).fit(split.train, RUN)
    assert obeyed(untaught, split, kind) < obeyed(taught, split, kind) - 0.1


@pytest.mark.slow
def test_one_net_obeys_and_tells_words_of_what_it_answered(split):
    told = joint(epochs=60).fit(split.train, RUN)
    assert obeyed(told, split, COLOUR) > 0.5
    assert obeyed(told, split, 0) > 0.5
    queries = split.queries("test")[0][:40]
    asked = [replace(queries[i], text="red, not orange") for i in range(40)]
    rankings = told.recommend(asked, 1)
    shared = []
    for ranking, (explanation,) in zip(rankings, told.explain(asked, list(rankings)), strict=True):
        row = int(WORLD.data.catalogue.rows([ranking.ids[0]])[0])
        words = set(WORLD.data.item_texts[row].lower().split())
        shared.append(len(words & set(explanation.text.split())) / len(words))
    assert np.mean(shared) > 0.6
    assert (np.array(shared) > 0).mean() > 0.9


def test_without_a_critique_both_answer_by_the_history(fitted, told):
    history = History.of(*WORLD.data.catalogue.ids[:3].tolist())
    for method in (fitted, told):
        plain = method.recommend([Query(history=history)], 5)[0]
        asked = [Query(history=history), Query(history=history, text="red instead of orange")]
        together = method.recommend(asked, 5)
        assert together[0].ids == plain.ids
        assert together[1].ids != plain.ids


def test_the_item_that_a_critique_starts_from_is_no_wish(fitted):
    history = History.of(*WORLD.data.catalogue.ids[:3].tolist())
    texts = ("like mug Harrow red but orange", "orange")
    answers = fitted.recommend([Query(history=history, text=text) for text in texts], 5)
    assert answers[0].ids == answers[1].ids
    assert np.allclose(answers[0].scores, answers[1].scores, atol=1e-5)


def test_conditions_lead_from_the_event_before_to_the_target(split):
    method = hybrid(unasked=0.0, contrary=0.0)
    training = method._training_data(split.train, split.train)
    method._prepare_items(training, RUN)
    events = np.flatnonzero(training.rows.from_start > 0)[:60]
    task = type("Task", (), {"events": events, "targets": training.rows.values[events]})
    conditions = method._target_conditions(task, training, np.random.default_rng(0))
    vector_of = {
        tuple((HashingEncoder(64).encode([word])[0] * np.float32(8)).round(4)): word
        for words in WORLD.truth.items.words
        for word in (name.lower() for name in words)
    }
    titles = method._titles
    asked = 0
    for event, condition in zip(events.tolist(), conditions, strict=True):
        before, after = training.rows.values[event - 1 : event + 1].tolist()
        for part, has, lacks in (
            (condition[:64], titles.words[after], titles.words[before]),
            (condition[64:], titles.words[before], titles.words[after]),
        ):
            if part.any():
                word = vector_of[tuple(part.round(4))]
                assert word in has
                assert word not in lacks
                asked += 1
    assert asked > 60


def test_a_contrary_target_is_like_the_event_before_and_always_asked_for(split):
    method = hybrid(unasked=0.99, contrary=0.99)
    training = method._training_data(split.train, split.train)
    method._prepare_items(training, RUN)
    events = np.flatnonzero(training.rows.from_start > 0)[:200]
    task = type("Task", (), {"events": events, "targets": training.rows.values[events]})
    rng = np.random.default_rng(0)
    targets = method._with_contrary(task, training, rng)
    changed = targets != task.targets
    assert 0.4 < changed.mean() < 0.95
    before = training.rows.values[events - 1]
    for past, target in zip(before[changed].tolist(), targets[changed].tolist(), strict=True):
        assert set(method._titles.words[past]) & set(method._titles.words[target])
    task.targets = targets
    conditions = method._target_conditions(task, training, rng)
    asked = conditions.any(axis=1)
    differs = np.array([a != b for a, b in zip(before, targets, strict=True)])
    assert asked[changed & differs].all()
    assert asked[~changed].mean() < 0.1


def test_the_hybrid_tells_what_it_answered(fitted, split):
    users = split.queries("test")[0].user_ids[:30].tolist()
    queries = WORLD.data.queries(users, columns=["texts", "values"])
    asked = [replace(query, text="red, not orange") for query in queries]
    rankings = fitted.recommend(asked, 2)
    quoted = 0
    for query, ranking, told in zip(
        asked, rankings, fitted.explain(asked, list(rankings)), strict=True
    ):
        for item_id, explanation in zip(ranking.ids, told, strict=True):
            row = int(WORLD.data.catalogue.rows([item_id])[0])
            title = WORLD.data.item_texts[row].lower()
            assert f"It is {title.split()[0]}" in explanation.text or title.split()[0] in (
                explanation.text
            )
            is_red = "red" in title.split()
            assert ("You asked for red, and it is." in explanation.text) == is_red
            for evidence in explanation.evidence:
                if evidence.kind == "passage":
                    quoted += 1
                    assert any(evidence.text in text for text in query.history.texts)
    assert quoted > 10


def test_ratings_without_reviews_are_no_crash(fitted):
    item_ids = tuple(fitted.items_.ids[:3].tolist())
    query = Query(history=History(item_ids, values=(5.0, 4.0, 3.0)), text="red")
    ranking = fitted.recommend([query], 2)[0]
    assert len(ranking.ids) == 2
    for explanation in fitted.explain([query], [ranking])[0]:
        assert all(evidence.kind != "passage" for evidence in explanation.evidence)


def test_a_review_that_is_the_only_evidence_has_all_of_it(fitted):
    first_digits = fitted.codes_[:, 0]
    past, answered = fitted.items_.ids[[first_digits.argmin(), first_digits.argmax()]].tolist()
    title = WORLD.data.item_texts[int(WORLD.data.catalogue.rows([answered])[0])]
    query = Query(history=History((past,), texts=(title,)))
    (explanation,) = fitted.explain([query], [Ranking((answered,), (0.0,))])[0]
    assert [(e.kind, e.share) for e in explanation.evidence] == [("passage", 1.0)]


def test_records_tell_items_and_then_the_narrative(split):
    method = joint(unasked=0.0, contrary=0.0)
    training = method._training_data(split.train, split.train)
    method._prepare_items(training, RUN)
    records = method._make_records(training, np.random.default_rng(0))
    items = [record for record in records if record.task == NEXT_ITEM]
    stories = [record for record in records if record.task == NARRATIVE]
    assert len(items) == len(stories) == (training.rows.lengths > 1).sum()
    for record, story in zip(items, stories, strict=True):
        mark = record.parts.index(ITEM)
        assert record.answers[-1] == mark + 1 == len(record.parts) - 1
        assert all(isinstance(record.parts[position], int) for position in record.answers)
        start = story.parts.index(STORY) + 1
        assert story.answers == tuple(range(start, len(story.parts)))
        assert story.parts[-1] == END
        target = record.parts[-1]
        assert story.parts[start - 2] == target
        told_words = set(story.parts[start:])
        assert set(method._titles.words[target]) <= told_words
        if WANTED in record.parts:
            word = record.parts[record.parts.index(WANTED) + 1]
            assert word in method._titles.words[target]
        if UNWANTED in record.parts:
            word = record.parts[record.parts.index(UNWANTED) + 1]
            assert word not in method._titles.words[target]


def test_all_words_of_titles_and_templates_are_known_whatever_a_pass_held(split, monkeypatch):
    method = joint()
    training = method._training_data(split.train, split.train)
    make_records = method._make_records
    monkeypatch.setattr(method, "_make_records", lambda training, rng: [])
    method._prepare_items(training, RUN)
    known = set(method.vocabulary_.ids.tolist())
    assert {word for title in method._titles.words for word in title} <= known
    said = {
        part
        for seed in range(5)
        for record in make_records(training, np.random.default_rng(seed))
        for part in record.parts
        if isinstance(part, str)
    }
    assert said <= known
    method.narratives = 0.0
    method._prepare_items(training, RUN)
    assert "asked" in known and "asked" not in method.vocabulary_.ids.tolist()


def test_the_weight_of_narratives_is_that_of_their_loss():
    method = joint(narratives=0.5)
    log_probs = torch.tensor([-1.0, -3.0, -4.0])
    tasks = np.array([NEXT_ITEM, NEXT_ITEM, NARRATIVE])
    assert method._answer_loss(log_probs, tasks).item() == pytest.approx(2 + 0.5 * 4)
    assert method._answer_loss(log_probs[:2], tasks[:2]).item() == pytest.approx(2)


def test_without_narratives_the_code_is_told(split):
    method = joint(narratives=0.0, epochs=1).fit(split.train, RUN)
    query = Query(history=History.of(*WORLD.data.catalogue.ids[:3].tolist()))
    ranking = method.recommend([query], 1)[0]
    ((explanation,),) = method.explain([query], [ranking])
    assert "its code" in explanation.text


def test_validation_asks_by_critiques(split, monkeypatch):
    asked = []
    for cls, name in ((HybridLUMEN, "_conditions"), (LUMEN, "_prompts")):
        inner = getattr(cls, name)

        def noting(self, queries, inner=inner):
            asked.append(np.mean([bool(queries.text(i)) for i in range(len(queries))]))
            return inner(self, queries)

        monkeypatch.setattr(cls, name, noting)
    hybrid(epochs=1).fit(split.train, RUN, split)
    joint(epochs=1).fit(split.train, RUN, split)
    assert len(asked) >= 2
    assert min(asked) > 0.5


def test_a_loaded_hybrid_can_be_taught_by_rewards(fitted, split, tmp_path):
    save(fitted, tmp_path / "model")
    loaded = load(tmp_path / "model")

    def reward(prompts, items):
        return (items == 0).astype(np.float32)

    settings = Alignment(rounds=1, batches=1, draws=8)
    taught = loaded.aligned(split.train, reward, settings, RUN)
    assert taught.fit_report_["alignment"]["steps"] > 0


def test_saved_models_obey_too(fitted, told, tmp_path):
    history = History.of(*WORLD.data.catalogue.ids[:3].tolist())
    queries = [Query(history=history, text=f"{word}") for word in ("red", "orange")]
    for number, method in enumerate((fitted, told)):
        save(method, tmp_path / str(number))
        loaded = load(tmp_path / str(number))
        answers = [ranking.ids for ranking in method.recommend(queries, 4)]
        assert answers == [ranking.ids for ranking in loaded.recommend(queries, 4)]
        rankings = list(method.recommend(queries, 2))
        told_texts = [e.text for row in method.explain(queries, rankings) for e in row]
        assert told_texts == [e.text for row in loaded.explain(queries, rankings) for e in row]


@pytest.mark.parametrize("make", [hybrid, joint])
@pytest.mark.parametrize("settings", [{"unasked": 1.0}, {"contrary": -0.1}])
def test_shares_out_of_range_are_named(make, settings):
    with pytest.raises(DataError, match="unasked is"):
        make(**settings)
