"""Sequence nets: they learn an order that was planted, and bad histories do not harm them."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from killed_fit import whole_and_resumed

torch = pytest.importorskip("torch")

from tailor.core.run import Run  # noqa: E402
from tailor.data.dataset import Dataset  # noqa: E402
from tailor.data.nouns import History, Query, Ranking  # noqa: E402
from tailor.data.splits import last_out  # noqa: E402
from tailor.errors import DataError, ModelError  # noqa: E402
from tailor.evaluation.protocol import evaluate  # noqa: E402
from tailor.nn import fitting  # noqa: E402
from tailor.retrieval.bert4rec import BERT4Rec  # noqa: E402
from tailor.retrieval.gru4rec import GRU4Rec  # noqa: E402
from tailor.retrieval.hstu import HSTU  # noqa: E402
from tailor.retrieval.sasrec import SASRec  # noqa: E402
from tailor.retrieval.sequences import whole_windows  # noqa: E402
from tailor.retrieval.two_tower import TwoTower  # noqa: E402
from tailor.testing.data import tiny_data  # noqa: E402
from tailor.training import nets, sequences  # noqa: E402
from tailor.training.sequences import Windows  # noqa: E402

NETS = [SASRec, GRU4Rec, HSTU, BERT4Rec]
RING = 30  # items in a ring: after i comes i + 1, or i + 2 for those who began with two steps
RUN = Run(workers=1, dtype="float32")


def ring_data(users=200, length=9, seed=0, times=True):
    """Everybody walks round the ring, some in steps of one and some of two: only two events
    together tell which.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        start, step = rng.integers(RING), 1 + user % 2
        for at in range(length):
            rows.append((f"u{user}", f"i{(start + step * at) % RING}", 1_000_000 * (at + 1)))
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "time_ms"], orient="row")
    return Dataset({"events": frame if times else frame.drop("time_ms")})


def walker(cls, **settings):
    return cls(
        **{
            "width": 16,
            "length": 12,
            "dropout": 0.1,
            "negatives": None,
            "lr": 0.01,
            "epochs": 30,
            "patience": None,
            "batch_places": 256,
        }
        | settings
    )


def learning(cls, epochs):
    """Settings with which the ring is learned in so many epochs; BERT4Rec takes its own time."""
    return (
        {"epochs": 60, "lr": 0.005, "dropout": 0.0, "last_rate": 1.0, "blocks": 1}
        if cls is BERT4Rec
        else {"epochs": epochs}
    )


def walk(start, step, length=6):
    return History.of(*(f"i{(start + step * at) % RING}" for at in range(length)))


@pytest.mark.parametrize("cls", NETS)
def test_two_events_together_tell_what_comes(cls):
    method = walker(cls, **learning(cls, 20)).fit(ring_data(), RUN)
    asked = [Query(history=walk(start, step, 8)) for start in range(0, RING, 3) for step in (1, 2)]
    lists = method.recommend(
        [Query(history=q.history, exclude=q.history.item_ids) for q in asked], 1
    )
    wanted = [f"i{(start + step * 8) % RING}" for start in range(0, RING, 3) for step in (1, 2)]
    right = np.mean([one.ids == (item,) for one, item in zip(lists, wanted, strict=True)])
    assert right >= 0.8  # one event alone tells half of them


@pytest.mark.parametrize("cls", NETS)
def test_given_candidates_score_as_in_the_catalogue(cls):
    method = walker(cls, epochs=2).fit(ring_data(), RUN)
    query = [Query(history=walk(3, 1))]
    whole = method.recommend(query, RING)[0]
    some = whole.ids[3:17:2]
    among = method.recommend(query, 5, [Ranking(some, np.zeros(len(some)))])[0]
    scores = dict(zip(whole.ids, whole.scores.tolist(), strict=True))
    assert among.ids == some[:5]
    assert among.scores.tolist() == [scores[one] for one in among.ids]


@pytest.mark.parametrize("cls", NETS)
def test_new_events_count_without_a_refit(cls):
    method = walker(cls, **learning(cls, 10)).fit(ring_data(), RUN)
    before, after = method.recommend(
        [Query("u0", walk(0, 1)), Query("u0", History.of(*walk(0, 1).item_ids, "i20", "i21"))], 3
    )
    assert before.ids != after.ids


@pytest.mark.parametrize("cls", NETS)
def test_a_history_of_a_hundred_thousand_events_is_its_last_ones(cls):
    method = walker(cls, epochs=2).fit(ring_data(times=False), RUN)
    long = History(tuple(f"i{at % RING}" for at in range(100_000)))
    short = History(long.item_ids[-(method.length) :])
    one, other = method.recommend([Query(history=long), Query(history=short)], 5)
    assert one.ids == other.ids


def test_learning_from_a_long_history_takes_every_event_once():
    rows = ring_data(users=3, length=100).sequences.rows
    windows = whole_windows(rows, 7)
    targets = np.concatenate(
        [
            np.arange(start, start + n) + 1
            for start, n in zip(windows.starts, windows.lengths, strict=True)
        ]
    )
    firsts = set(rows.offsets[:-1].tolist())
    assert sorted(targets.tolist()) == [at for at in range(300) if at not in firsts]
    assert windows.lengths.max() == 7


class HourShifted(SASRec):
    """A SASRec that prefers one item, the more the later the query."""

    def _logits(self, batch, catalogue):
        logits = super()._logits(batch, catalogue)
        if batch.now_ms is not None:
            logits[:, 0] += torch.from_numpy(batch.now_ms).to(logits) / 1e6
        return logits


def test_a_subclass_shapes_the_logits_of_lone_queries_and_of_many():
    method = walker(HourShifted, epochs=1).fit(ring_data(), RUN)
    (first,) = method.items_.named(np.zeros(1, int))
    lengths = [2, 6, 3, 5, 4]  # batches are in order of length
    queries = [Query(history=walk(3, 1, n), time_ms=10**8 * (n % 2)) for n in lengths]
    together = method.recommend(queries, RING)
    assert [ranking.ids[0] == first for ranking in together] == [n % 2 == 1 for n in lengths]
    for query, ranking in zip(queries, together, strict=True):
        alone = method.recommend([query], RING)[0]
        assert alone.ids[0] == ranking.ids[0]
        assert np.allclose(np.sort(alone.scores), np.sort(ranking.scores), atol=1e-6)
    asked = [queries[3]]
    (reason,) = method.explain(asked, method.recommend(asked, 1))[0]
    assert not reason.evidence  # without any event the item is as high: the time speaks for it


@pytest.mark.parametrize("cls", NETS)
@pytest.mark.parametrize("histories", [["a"], ["a", "b"], ["aaaa", "aaaa"], ["ab", "c"]])
def test_poor_data_is_no_crash(cls, histories):
    events = [(f"u{user}", item) for user, items in enumerate(histories) for item in items]
    data = Dataset({"events": pl.DataFrame(events, schema=["user_id", "item_id"], orient="row")})
    method = walker(cls, epochs=1).fit(data, RUN)
    ranking = method.recommend([Query(history=History.of("a"))], 3)[0]
    assert set(ranking.ids) <= set("abc")
    assert np.isfinite(ranking.scores).all()
    if all(len(one) == 1 for one in histories):
        assert method.fit_report_["stopped"] == "no user has two events to learn from"


@pytest.mark.parametrize("cls", [*NETS, TwoTower])
def test_a_net_that_had_nothing_to_learn_from_answers_the_same_each_time(cls, tmp_path):
    events = pl.DataFrame(
        [("u0", "a"), ("u1", "b"), ("u2", "c")], schema=["user_id", "item_id"], orient="row"
    )
    method = walker(cls, dropout=0.5).fit(Dataset({"events": events}), RUN)
    query = [Query(history=History.of("a", "b"))]
    first, second = method.recommend(query, 3)[0], method.recommend(query, 3)[0]
    loaded = cls.load(method.save(tmp_path / "model")).recommend(query, 3)[0]
    assert first.scores.tolist() == second.scores.tolist() == loaded.scores.tolist()


@pytest.mark.parametrize("cls", [*NETS, TwoTower])
def test_a_loaded_net_answers_without_touching_the_callers_random_state(cls, tmp_path):
    method = walker(cls, epochs=1).fit(ring_data(users=20), RUN)
    loaded = cls.load(method.save(tmp_path / "model"))
    state = torch.random.get_rng_state()
    assert (
        loaded.recommend([Query(history=walk(3, 1))], 5)[0].ids
        == method.recommend([Query(history=walk(3, 1))], 5)[0].ids
    )
    assert torch.equal(torch.random.get_rng_state(), state)


def test_an_item_without_training_events_is_a_miss_and_reported():
    data = ring_data()
    rows = data.events.rows()
    last = [at for at, row in enumerate(rows) if row[0] == "u0"][-1]
    rows[last] = ("u0", "new", rows[last][2])
    split = last_out(
        Dataset(
            {"events": pl.DataFrame(rows, schema=["user_id", "item_id", "time_ms"], orient="row")}
        )
    )
    method = walker(SASRec, epochs=2).fit(split.train, RUN, split)
    report = evaluate(method, split, seen=("kept",))
    at = report.user_ids.index("u0")
    assert report.results["SASRec", "kept"].per_user["HR@10"][at] == 0
    assert report.strata["target new"][at]
    assert "new" not in method.recommend([Query(history=walk(0, 1))], RING)[0].ids
    assert method.fit_report_["items_with_events"] == RING


def test_scores_are_shares_of_one():
    method = walker(SASRec, epochs=2).fit(ring_data(), RUN)
    ranking = method.recommend([Query(history=walk(3, 1))], RING)[0]
    assert ranking.scores.sum() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("cls", NETS)
def test_a_killed_fit_goes_on_to_the_same_model(cls, tmp_path, monkeypatch):
    whole, resumed = whole_and_resumed(
        lambda: walker(cls, epochs=4), ring_data(), RUN, tmp_path, monkeypatch
    )
    assert all(
        (whole.net_weights_[name] == resumed.net_weights_[name]).all()
        for name in whole.net_weights_
    )


def test_another_setting_does_not_take_up_anothers_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "SAVE_S", 0.0)
    run = Run(workers=1, checkpoints=tmp_path, deadline_s=None)
    monkeypatch.setattr(nets, "fit_net", lambda *args: keys.append(args[-1]) or {"epochs": 0})
    keys = []
    for settings in ({}, {"lr": 0.02}, {"width": 8}):
        walker(SASRec, **settings).fit(ring_data(), run)
    walker(SASRec).fit(ring_data(users=100), run)
    walker(SASRec).fit(ring_data(), Run(seed=1, checkpoints=tmp_path))
    assert len(set(keys)) == 5


def test_times_matter_to_hstu_only_where_it_learned_with_them():
    timed, untimed = (
        walker(HSTU, epochs=5).fit(ring_data(), RUN),
        walker(HSTU, epochs=5).fit(ring_data(times=False), RUN),
    )
    items = walk(2, 1).item_ids
    late = History(items, times_ms=tuple(10**10 * at for at in range(len(items))))
    soon = History(items, times_ms=tuple(10**6 * at for at in range(len(items))))
    for method, differs in ((timed, True), (untimed, False)):
        # learned: 10**6 ms apart
        one, other = method.recommend([Query(history=late), Query(history=soon)], RING)
        assert (not np.allclose(sorted(one.scores), sorted(other.scores), atol=1e-7)) == differs


@pytest.mark.parametrize("sampler", ["last", "prefix", "window", "1,0,inf", "0.5,1,0"])
def test_every_sampler_learns(sampler):
    method = walker(GRU4Rec, sampler=sampler, epochs=2).fit(ring_data(), RUN)
    assert method.fit_report_["loss"][1] < method.fit_report_["loss"][0]


def test_own_targets_say_when_to_stop_where_no_validation_is_given():
    method = walker(SASRec, patience=2, epochs=10).fit(tiny_data(), RUN)
    assert method.fit_report_["validated_on"] == "own"
    assert method.fit_report_["validation"][0][0] == sequences.EVERY


def test_two_towers_count_popularity_and_ignore_order():
    method = walker(TwoTower, epochs=3).fit(ring_data(), RUN)
    assert np.exp(method.log_share_).sum() == pytest.approx(1, abs=1e-5)
    one, other = method.recommend(
        [Query(history=History.of("i1", "i7", "i9")), Query(history=History.of("i9", "i1", "i7"))],
        5,
    )
    assert one.ids == other.ids
    assert np.allclose(one.scores, other.scores, atol=1e-6)


def test_explanations_name_the_events_that_an_item_falls_without():
    method = walker(SASRec, epochs=20).fit(ring_data(), RUN)
    query = [Query(history=walk(4, 1))]
    ranking = method.recommend(query, 1)
    (reason,) = method.explain(query, ranking)[0]
    without = {
        one: Query(history=History.of(*(other for other in walk(4, 1).item_ids if other != one)))
        for one in walk(4, 1).item_ids
    }
    scores = {
        one: dict(zip(r.ids, r.scores, strict=True))[ranking[0].ids[0]]
        for one, asked in without.items()
        for r in method.recommend([asked], RING)
    }
    assert reason.evidence[0].id == min(scores, key=scores.get)
    assert method.explain([Query()], [Ranking((), np.empty(0))]) == [[]]


def test_a_device_that_is_not_there_is_named():
    with pytest.raises(ModelError, match='device "cuda:9" cannot be used'):
        walker(SASRec).fit(ring_data(), Run(device="cuda:9"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 0}, "width is 0: it must be at least 1"),
        ({"length": 0}, "length is 0"),
        ({"dropout": 1.0}, "dropout is 1.0: it must be from 0 to below 1"),
        ({"negatives": 0}, 'negatives is 0: it must be at least 1, or "none"'),
        (
            {"sampler": "lots"},
            'sampler is "lots": it must be packed, last, prefix, window, or exponents',
        ),
        ({"heads": 3}, "heads must divide the width"),
        ({"lr": 0.0}, "lr is 0.0: it must be above 0"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(DataError, match=message):
        SASRec(**settings)


def test_sparse_tables_are_for_catalogues_much_larger_than_a_step():
    assert not SASRec()._is_sparse(12_000)
    assert SASRec()._is_sparse(1_000_000)
    assert not SASRec(negatives=None)._is_sparse(1_000_000)


FIT = """
import sys
sys.path[:0] = [{tests!r}]
from pathlib import Path
import numpy as np
from test_sequences import Run, SASRec, fitting, ring_data, walker
fitting.SAVE_S = 0.0
model = walker(SASRec, epochs=40).fit(ring_data(), Run(workers=1, dtype="float32", checkpoints=Path({folder!r})))
np.savez({out!r}, **model.net_weights_)
"""


@pytest.mark.slow
def test_kill_9_in_the_middle_loses_nothing(tmp_path):
    script = tmp_path / "fit.py"
    script.write_text(
        FIT.format(
            tests=str(Path(__file__).parent),
            folder=str(tmp_path / "state"),
            out=str(tmp_path / "weights.npz"),
        )
    )
    command = [sys.executable, str(script)]
    folders = [str(Path(__file__).parents[level]) for level in (2, 1)]  # of tailor and of tests
    env = os.environ | {"PYTHONPATH": os.pathsep.join(folders)}
    for moment in (0.3, 1.0):
        process = subprocess.Popen(command, env=env)
        while not list((tmp_path / "state").glob("*.safetensors")):
            assert process.poll() is None
            time.sleep(0.02)
        time.sleep(moment)
        process.kill()
        process.wait()
    assert not (tmp_path / "weights.npz").exists()
    subprocess.run(command, check=True, env=env, timeout=100)
    whole = walker(SASRec, epochs=40).fit(ring_data(), RUN)
    with np.load(tmp_path / "weights.npz") as resumed:
        assert all((resumed[name] == weight).all() for name, weight in whole.net_weights_.items())


@pytest.mark.parametrize("cls", [SASRec, BERT4Rec])
@pytest.mark.parametrize("every_place", [True, False])
def test_a_task_says_where_the_events_of_its_targets_stand(cls, every_place):
    method = cls.tiny().fit(tiny_data())
    rng = np.random.default_rng(0)
    rows = rng.integers(1, 30, size=60)
    windows = Windows(rows, np.array([0, 17, 40]), np.array([9, 3, 12]), every_place=every_place)
    task = method._make_task(windows, rng)
    assert len(task.targets) and (rows[task.events] == task.targets).all()
