"""What a fit will take: sums of parts, slices of users, and estimates that grow as the work does."""

import numpy as np
import pytest

from tailor.core import costs
from tailor.core.costs import Cost, bytes_of, estimate, resident_bytes, some_users
from tailor.core.run import Run
from tailor.core.specs import build, read_pipeline
from tailor.data.splits import last_out
from tailor.pipeline.default import pipeline_file
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.popularity import Popularity
from tailor.worlds.shop import shop
from tailor.worlds.shop_log import shop_log

DATA = shop(users=300, items=120, seed=1).data


def test_one_after_the_other_adds_seconds_and_what_is_kept_and_takes_the_worst_moment():
    whole = Cost.in_turn(
        [
            ("a", Cost(1, 10, 50)),
            ("b", Cost(2, 5, 45, at_most=True)),
            ("c", Cost(3, 0, 20, guessed=("c",))),
        ]
    )
    # b's worst, with what a keeps
    assert (whole.seconds, whole.kept_bytes, whole.peak_bytes) == (6, 15, 55)
    assert (
        whole.at_most
        and whole.guessed == ("c",)
        and [name for name, _ in whole.parts] == ["a", "b", "c"]
    )


def test_users_are_drawn_whole_until_they_have_the_events():
    some = some_users(DATA, 500, seed=3)
    rows = some.sequences.rows
    assert 500 <= len(rows.values) < 500 + DATA.sequences.rows.lengths.max()
    whole = DATA.sequences.rows.lengths
    assert (
        all(n in (0, whole[u]) for u, n in enumerate(rows.lengths))
        and some.catalogue is DATA.catalogue
    )
    assert some_users(DATA, 10**9) is DATA


def test_bytes_are_counted_however_deep_they_lie():
    one = np.zeros(1_000, np.float32)
    assert bytes_of({"a_": [one, (one,)], "b_": "text"}) == 8_000
    fitted = CoVisitation().fit(DATA)
    assert bytes_of([fitted]) > fitted.weights_.nnz * 8
    assert resident_bytes() > 10**7


@pytest.mark.parametrize("pipeline", ["counting", "EASE", "TwoStep", "ItemKNN", "TextNeighbours"])
def test_an_estimate_is_told_and_nothing_is_learned(pipeline):
    split = last_out(DATA)
    method = build(read_pipeline(pipeline_file(pipeline) if pipeline == "counting" else pipeline))
    cost = estimate(method, split.train, Run(), split)
    assert cost.seconds > 0 and cost.peak_bytes > 0 and not method.is_fitted and not cost.guessed


def test_an_estimate_is_of_the_whole_not_of_the_slice(monkeypatch):
    log = shop_log(users=6_000, items=2_000, events=400_000, seed=0)
    whole, tenth = (
        CoVisitation()._work_units(log),
        CoVisitation()._work_units(some_users(log, 40_000)),
    )
    assert 8 < whole / tenth < 12
    # a clock that counts work: how busy the machine is does not matter
    fits = []
    fit = CoVisitation._fit

    def counted(self, data, run, valid):
        fits.append(len(data.events))
        fit(self, data, run, valid)

    monkeypatch.setattr(CoVisitation, "_fit", counted)
    monkeypatch.setattr(costs.Stopwatch, "lap", lambda self: fits[-1] * 1e-5)
    small, large = (
        estimate(CoVisitation(), some_users(log, events)).seconds for events in (20_000, 400_000)
    )
    assert max(fits) < 200_000, "the whole was fitted, not a slice of it"
    assert 15 < large / small < 25


class TwiceOver(CoVisitation):
    """Does other work than co-visitation, and says nothing of it."""

    def _fit(self, data, run, valid):
        super()._fit(data, run, valid)
        super()._fit(data, run, valid)


def test_what_a_class_says_of_its_work_does_not_speak_for_one_below_that_works_otherwise():
    log = shop_log(users=12_000, items=2_000, events=2_000_000, seed=0)
    assert estimate(TwiceOver(), log).guessed == ("TwiceOver",)
    assert not estimate(CoVisitation(), log).guessed


def test_weights_learned_on_an_inner_cut_fit_the_parts_twice():
    split = last_out(DATA)
    method = build(
        {"class": "Fuse", "parts": [{"class": "CoVisitation"}, {"class": "TextNeighbours"}]}
    )
    given, own = estimate(method, split.train, Run(), split), estimate(method, split.train)
    assert (
        [name for name, _ in given.parts]
        == ["CoVisitation", "TextNeighbours", "weights"]
        == [name for name, _ in own.parts]
    )
    assert Cost(2.0).times(2).seconds == 4.0
    fixed = build(
        {
            "class": "Fuse",
            "parts": [{"class": "CoVisitation"}, {"class": "Popularity"}],
            "weights": [0.5, 0.5],
        }
    )
    assert [name for name, _ in estimate(fixed, split.train).parts] == [
        "CoVisitation",
        "Popularity",
    ]


def test_a_net_is_trained_for_seconds_and_the_deadline_bounds_what_is_told():
    pytest.importorskip("torch")
    from tailor.retrieval.sasrec import SASRec

    method = SASRec(width=8, length=10, epochs=50, negatives=20)
    cost = estimate(method, DATA)
    assert cost.at_most and cost.seconds > 0 and not method.is_fitted
    # hours without the deadline, whose half second is all that is told beside a validation
    endless = SASRec(width=8, length=10, epochs=10**7, negatives=20)
    limited = estimate(endless, DATA, Run(deadline_s=0.5)).seconds
    assert limited < estimate(endless, DATA).seconds / 100
    assert not estimate(
        SASRec(width=8, length=10, epochs=2, negatives=20, patience=None), DATA
    ).at_most


def test_what_is_small_is_fitted_once(monkeypatch):
    fits = []
    fit = Popularity._fit
    monkeypatch.setattr(
        Popularity, "_fit", lambda self, *arguments: (fits.append(self), fit(self, *arguments))
    )
    assert not estimate(Popularity(), DATA).guessed and len(fits) == 1
