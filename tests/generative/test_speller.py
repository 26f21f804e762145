"""A speller explains by code paths, and takes conditions, rewards and new items."""

import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).parent))

from genre_world import GENRES, genre_world  # noqa: E402

from tailor.core.run import Run  # noqa: E402
from tailor.data.dataset import Dataset  # noqa: E402
from tailor.data.nouns import History, Query, Ranking  # noqa: E402
from tailor.data.splits import last_out  # noqa: E402
from tailor.errors import DataError  # noqa: E402
from tailor.generative.tiger import TIGER  # noqa: E402
from tailor.text.hashing import HashingEncoder  # noqa: E402
from tailor.training.alignment import Alignment  # noqa: E402
from tailor.training.rewards import hit, share_of  # noqa: E402

SETTINGS = {
    "encoder": HashingEncoder(64),
    "width": 32,
    "length": 10,
    "epochs": 12,
    "dropout": 0.1,
    "lr": 0.005,
    "batch_places": 512,
    "patience": None,
}


@pytest.fixture(scope="module")
def data():
    return last_out(genre_world(users=300)).train


@pytest.fixture(scope="module")
def fitted(data):
    return TIGER(**SETTINGS).fit(data, Run(workers=1))


@pytest.fixture(scope="module")
def titles(data):
    return dict(data.item_table.select("item_id", "title").iter_rows())


def test_a_path_goes_from_few_words_to_near_items(fitted, titles):
    item_id = next(iter(titles))
    path = fitted.path_of(item_id)
    assert [len(level.digits) for level in path] == [1, 2, 3]
    assert path[-1].digits == fitted.code_of(item_id)[:-1]
    counts = [level.items for level in path]
    assert counts == sorted(counts, reverse=True) and counts[-1] >= 1
    genre = titles[item_id].split()[0]
    assert genre in {word for level in path for word in level.words}
    own = titles[item_id].split()[:3]
    near = [titles[other].split()[:3] for other in path[-1].nearest]
    assert item_id not in path[-1].nearest and all(other[0] == own[0] for other in near)


def test_an_explanation_names_the_events_that_share_digits(fitted, titles):
    item_id = next(one for one in titles if fitted.path_of(one)[1].items > 1)
    path = fitted.path_of(item_id)
    twin, cousin = path[1].nearest[0], path[0].nearest[-1]
    stranger = next(one for one in titles if fitted.code_of(one)[0] != path[0].digits[0])
    query = Query(history=History.of(stranger, cousin, twin))
    ranking = Ranking((item_id, "unknown"), np.zeros(2))
    reason, unknown = fitted.explain([query], [ranking])[0]
    shares = {evidence.id: evidence.share for evidence in reason.evidence}
    assert set(shares) == {cousin, twin} and sum(shares.values()) == pytest.approx(1)
    assert next(iter(shares)) == twin and shares[twin] >= shares[cousin]
    assert reason.text.startswith(f"its code {'-'.join(map(str, path[-1].digits))}: ")
    assert path[0].words[0] in reason.text
    assert not unknown.evidence and not unknown.text


def test_new_items_have_paths_with_words(fitted):
    news = Dataset(
        {
            "events": pl.DataFrame({"user_id": ["n"], "item_id": ["new"], "time_ms": [1]}),
            "items": pl.DataFrame({"item_id": ["new"], "title": ["crime winter short 99"]}),
        }
    )
    words_before = fitted.item_words_.shape
    extended = fitted.with_items(news)
    assert {"crime", "winter"} & {word for level in extended.path_of("new") for word in level.words}
    assert fitted.item_words_.shape == words_before  # the old one is as it was


def test_a_reloaded_model_explains_the_same(fitted, titles, tmp_path):
    fitted.save(tmp_path / "model")
    loaded = TIGER.load(tmp_path / "model")
    item_id = next(iter(titles))
    assert loaded.path_of(item_id) == fitted.path_of(item_id)


def genre_reward(fitted, titles, genre):
    is_genre = np.array([titles[one].startswith(genre) for one in fitted.items_.ids.tolist()])
    return is_genre, lambda prompts, items: share_of(items, is_genre)


@pytest.mark.parametrize("objective", ["grpo", "ecpo", "dpo", "s-dpo"])
def test_a_reward_moves_the_lists_and_the_log_keeps_its_place(fitted, data, titles, objective):
    is_genre, reward = genre_reward(fitted, titles, "garden")
    settings = Alignment(objective, rounds=6, batches=3, draws=8, lr=2e-3, keep=0.3)
    before = fitted.net_weights_["heads.0.weight"].copy()
    taught = fitted.aligned(data, reward, settings, Run(workers=1))
    queries = data.queries()[:100]

    def share(method):
        rows = method._recommend(queries, 5, None).rows
        return is_genre[rows].mean()

    assert share(taught) > share(fitted) + 0.05
    curves = taught.fit_report_["alignment"]["curves"]
    assert curves["reward"][-1] > curves["reward"][0]
    assert curves["divergence"][0] == pytest.approx(0, abs=1e-5)
    assert curves["divergence"][-1] > 0
    assert curves["legality"] == [1.0] * 6
    assert len(curves["best"]) == len(curves["worst"]) == 6
    assert (fitted.net_weights_["heads.0.weight"] == before).all()


def test_without_the_kept_loss_the_log_is_forgotten_faster(fitted, data, titles):
    _, reward = genre_reward(fitted, titles, "garden")
    split_queries = data.queries()[:150]
    last = np.array([history[-1] for history in split_queries.reindexed(fitted.items_).histories])
    asked = split_queries.before_request()

    def hits(method):
        rows = method._recommend(asked.reindexed(method.items_), 10, None).rows
        return (rows == last[:, None]).any(axis=1).mean()

    found = {}
    for keep in (0.0, 1.0):
        settings = Alignment("grpo", rounds=8, batches=3, draws=8, lr=5e-3, keep=keep)
        found[keep] = hits(fitted.aligned(data, reward, settings, Run(workers=1)))
    assert found[1.0] > found[0.0]


def test_a_reward_that_tells_nothing_apart_is_refused(fitted, data):
    with pytest.raises(DataError, match="tell answers apart"):
        fitted.aligned(data, lambda prompts, items: np.ones(items.shape), Alignment(draws=4))
    with pytest.raises(DataError, match="no finite number"):
        fitted.aligned(data, lambda p, items: np.full(items.shape, np.nan), Alignment(draws=4))


def test_codes_that_no_item_has_are_drawn_only_when_asked(fitted, data):
    seen = []

    def reward(prompts, items):
        seen.append(items)
        return hit(items, prompts.targets) + (items >= 0)

    quick = Alignment("grpo", rounds=1, batches=1, draws=16, lr=1e-5, keep=0)
    for closed in (True, False):
        seen.clear()
        taught = fitted.aligned(data, reward, quick, Run(workers=1), closed=closed)
        legality = taught.fit_report_["alignment"]["curves"]["legality"][0]
        assert ((seen[0] >= 0).all()) == closed
        assert (legality == 1) == closed


class Wishing(TIGER):
    """A speller that is told the genre of the next item, as a number of the request."""

    def _condition_width(self):
        return len(GENRES)

    def _target_conditions(self, task, training, rng):
        titles = [training.data.item_texts[i] for i in self._rows_of(training)[task.targets]]
        return np.array([[title.startswith(genre) for genre in GENRES] for title in titles], float)

    def _rows_of(self, training):
        return training.data.catalogue.rows(self.items_.ids.tolist())

    def _conditions(self, queries):
        return np.array([[text == genre for genre in GENRES] for text in queries.texts], float)


def test_a_condition_decides_what_is_spelled(data, titles):
    events = data.events
    drawn = np.random.default_rng(0).choice(list(titles), len(events))
    tables = {"events": events.with_columns(item_id=pl.Series(drawn)), "items": data.item_table}
    wishing = Wishing(**SETTINGS | {"epochs": 8, "batch_places": 128})
    wishing.fit(Dataset(tables), Run(workers=1))
    history = History.of(*list(titles)[:3])
    for genre in GENRES:
        ranking = wishing.recommend([Query(history=history, text=genre)], 5)[0]
        assert np.mean([titles[one].startswith(genre) for one in ranking.ids]) >= 0.8
