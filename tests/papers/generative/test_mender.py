"""Mender: a wish changes what is spelled, and what is to be avoided becomes unlikely."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tailor.core.run import Run  # noqa: E402
from tailor.core.saving import load, save  # noqa: E402
from tailor.data.nouns import History, Query  # noqa: E402
from tailor.data.queries import Rankings  # noqa: E402
from tailor.data.splits import last_out  # noqa: E402
from tailor.errors import DataError  # noqa: E402
from tailor.papers.generative.mender import AVOIDED, WANTED, Mender  # noqa: E402
from tailor.text.hashing import HashingEncoder  # noqa: E402
from tailor.training.alignment import Alignment  # noqa: E402
from tailor.worlds.facets import facets  # noqa: E402

RUN = Run(workers=1, dtype="float32")
WORLD = facets(150, 6, seed=1, values=(3, 3, 4), noise=0.0)
COLOUR = 2


def model(**settings):
    defaults = {
        "encoder": HashingEncoder(64),
        "width": 32,
        "length": 8,
        "epochs": 30,
        "dropout": 0.1,
        "lr": 0.01,
        "batch_places": 128,
        "patience": None,
    }
    return Mender(**(defaults | settings))


@pytest.fixture(scope="module")
def split():
    return last_out(WORLD.data)


@pytest.fixture(scope="module")
def fitted(split):
    return model().fit(split.train, RUN)


def colours_of(method, split, texts):
    """Return (U, 4) the colours of the first four answers to texts (U,)."""
    queries = replace(split.queries("test")[0], texts=np.array(texts, dtype=object))
    rows = method.recommend(queries, 4).reindexed(queries.catalogue).rows
    return WORLD.truth.items.codes[rows, COLOUR]


def test_a_wish_is_obeyed(fitted, split):
    for number, colour in enumerate(WORLD.truth.items.words[COLOUR]):
        colours = colours_of(fitted, split, [f"something {colour}"] * 150)
        assert (colours[:, 0] == number).mean() > 0.8
    unasked = colours_of(fitted, split, [""] * 150)
    assert np.bincount(unasked[:, 0], minlength=4).max() < 130


def test_titles_alone_teach_wishes():
    untyped = last_out(facets(150, 6, seed=1, values=(3, 3, 4), noise=0.0, wished=()).data)
    method = model().fit(untyped.train, RUN)
    assert method.fit_report_["wishes_typed"] == 0
    for number, colour in enumerate(WORLD.truth.items.words[COLOUR][:2]):
        assert (
            colours_of(method, untyped, [f"I want {colour}"] * 150)[:, 0] == number
        ).mean() > 0.6


def score_of_target(method, split, pattern):
    """Return (U,) the log-probability of each target when its colour is in the pattern."""
    queries, targets = split.queries("test")
    colours = WORLD.truth.items.codes[targets.values, COLOUR]
    words = WORLD.truth.items.words[COLOUR]
    texts = np.array([pattern.format(words[colour]) for colour in colours], dtype=object)
    rows = targets.values[:, None].astype(np.int32)
    candidates = Rankings(queries.catalogue, rows, np.zeros(rows.shape, np.float32))
    asked = replace(queries, texts=texts)
    return method.recommend(asked, 1, candidates).scores[:, 0]


def test_what_is_to_be_avoided_becomes_unlikely(fitted, split):
    def share(method):
        wanted = score_of_target(method, split, "I want {}")
        return (score_of_target(method, split, "avoid {}") < wanted - 1).mean()

    assert share(fitted) > 0.8
    assert share(model(against=0.0).fit(split.train, RUN)) < 0.5


def test_without_a_text_nothing_is_asked_for(fitted):
    histories = [History.of(*WORLD.data.catalogue.ids[:3].tolist())] * 2
    queries = [Query(history=histories[0]), Query(history=histories[1], text="  ")]
    plain, blank = fitted.recommend(queries, 5)
    assert plain.ids == blank.ids
    together = fitted.recommend([*queries, Query(history=histories[0], text="something red")], 5)
    assert together[0].ids == plain.ids
    assert together[2].ids != plain.ids


def training_of(method, data):
    return method._training_data(data, data)


def test_conditions_are_typed_wishes_or_phrases_of_the_target(split):
    method = model(unasked=0.0, from_titles=0.0)
    training = training_of(method, split.train)
    method._prepare_items(training, RUN)
    events = np.arange(40)
    task = type("Task", (), {"events": events, "targets": training.rows.values[events]})
    rng = np.random.default_rng(0)
    conditions = method._target_conditions(task, training, rng)
    texts = split.train.tables["texts"]
    typed = dict(
        ((user, time), text)
        for user, time, kind, text in texts.select("user_id", "time_ms", "kind", "text").iter_rows()
        if kind == "query"
    )
    users = split.train.users.ids[training.rows.row_ids[events]]
    keys = zip(users, training.times_ms[events].tolist(), strict=True)
    wanted = [typed.get(key, "") for key in keys]
    is_typed = np.array([bool(text) for text in wanted])
    assert is_typed.sum() > 30
    vectors = HashingEncoder(64).encode(wanted) * 8
    assert np.allclose(conditions[is_typed], vectors[is_typed], atol=1e-5)
    assert conditions[~is_typed].any(axis=1).all()  # of the title


def test_phrases_hold_words_of_the_target(split, monkeypatch):
    texts = []
    encode = HashingEncoder.encode

    def noting(self, batch):
        texts.extend(batch)
        return encode(self, batch)

    monkeypatch.setattr(HashingEncoder, "encode", noting)
    method = model(unasked=0.0, from_titles=1.0, most_words=1, phrases=3)
    training = training_of(method, split.train)
    method._prepare_items(training, RUN)
    for row in range(0, len(method.items_), 5):
        title = split.train.item_texts[int(split.train.catalogue.rows([method.items_.ids[row]])[0])]
        words = title.lower().split()
        known = [
            (pattern.format(word), kind)
            for kind, patterns in (("positive", WANTED), ("negative", AVOIDED))
            for pattern in patterns
            for word in words
        ]
        for kind in ("positive", "negative"):
            vectors = {encode_one(text) for text, name in known if name == kind}
            for vector in getattr(method._wishes, kind).take(np.array([row] * 3), np.arange(3)):
                assert tuple(vector.round(4).tolist()) in vectors


def encode_one(text):
    vector = HashingEncoder(64).encode([text])[0] * np.float32(8)
    return tuple(vector.round(4).tolist())


def test_some_targets_are_not_asked_for(split):
    method = model(unasked=0.5)
    training = training_of(method, split.train)
    method._prepare_items(training, RUN)
    events = np.arange(400)
    task = type("Task", (), {"events": events, "targets": training.rows.values[events]})
    conditions = method._target_conditions(task, training, np.random.default_rng(0))
    assert (~conditions.any(axis=1)).mean() == pytest.approx(0.5, abs=0.08)


def test_the_loss_of_avoided_items_ends_at_enough(split):
    """With a bound of almost nothing every avoided item is unlikely enough."""
    method = model(epochs=1, against=0.5, enough=1e-6, dropout=0.0, unasked=0.0)
    method.fit(split.train, RUN)
    training = training_of(method, split.train)
    method._prepare_items(training, RUN)
    batch = whole(training)
    bounded = method._loss(batch, training, np.random.default_rng(0)).item()
    method.against = 0.0
    plain = method._loss(batch, training, np.random.default_rng(0)).item()
    assert bounded == pytest.approx(plain - 0.5 * 1e-6, abs=1e-4)
    method.against, method.enough = 0.5, 100.0
    assert method._loss(batch, training, np.random.default_rng(0)).item() < plain - 0.5


def whole(training):
    from tailor.training.sequences import whole_windows

    return whole_windows(training.rows, 8, training.times_ms).take(np.arange(16))


def test_validation_asks_with_the_wishes_that_users_typed(split, monkeypatch):
    asked = []
    conditions = Mender._conditions

    def noting(self, queries):
        asked.append([queries.text(i) for i in range(len(queries))])
        return conditions(self, queries)

    monkeypatch.setattr(Mender, "_conditions", noting)
    model(epochs=1).fit(split.train, RUN, split)
    assert asked
    assert all(text for texts in asked for text in texts)


def test_a_saved_model_obeys_too(fitted, tmp_path):
    history = History.of(*WORLD.data.catalogue.ids[:3].tolist())
    queries = [Query(history=history, text=f"something {c}") for c in ("red", "green")]
    save(fitted, tmp_path / "model")
    loaded = load(tmp_path / "model")
    answers = [ranking.ids for ranking in fitted.recommend(queries, 5)]
    assert answers == [ranking.ids for ranking in loaded.recommend(queries, 5)]
    assert answers[0] != answers[1]


def test_rewards_teach_with_the_wishes_of_the_data_that_they_are_given(
    fitted, tmp_path, monkeypatch
):
    users = WORLD.data.users.ids[:50].tolist()
    some = WORLD.data.cut(WORLD.data.events["user_id"].is_in(users).to_numpy())
    sizes = []

    def conditions(self, task, training, rng, inner=Mender._target_conditions):
        sizes.append((len(self._wishes.logged.rows), len(training.rows.values)))
        return inner(self, task, training, rng)

    def reward(prompts, items):
        return (items == 0).astype(np.float32)

    save(fitted, tmp_path / "model")
    monkeypatch.setattr(Mender, "_target_conditions", conditions)
    settings = Alignment(rounds=1, batches=1, draws=8)
    taught = load(tmp_path / "model").aligned(some, reward, settings, RUN)
    assert taught.fit_report_["alignment"]["steps"] > 0
    assert all(texts == events for texts, events in sizes)


def test_data_without_words_is_answered_by_the_history():
    bare = facets(40, 5, seed=2, wished=(), named=())
    method = model(epochs=1).fit(bare.data, RUN)
    assert method.condition_width_ == 0
    history = History.of(*bare.data.sequences.rows.values[:2].astype(str).tolist())
    assert method.recommend([Query(history=history, text="something red")], 3)[0] is not None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"unasked": 1.0}, "unasked is 1.0"),
        ({"against": -0.1}, "against is -0.1"),
        ({"phrases": 0}, "phrases 0"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(DataError, match=message):
        model(**settings)
