"""GenPAS: which ways of drawing windows are trained, and which of them is kept."""

import numpy as np
import polars as pl
import pytest

torch = pytest.importorskip("torch")

from tailor.core.run import Run  # noqa: E402
from tailor.data.dataset import Dataset  # noqa: E402
from tailor.data.sampling import PRESETS, WindowSampler  # noqa: E402
from tailor.data.splits import last_out  # noqa: E402
from tailor.papers.retrieval.genpas import GenPAS  # noqa: E402
from tailor.retrieval.gru4rec import GRU4Rec  # noqa: E402
from tailor.testing.data import tiny_data  # noqa: E402

RUN = Run(workers=1, dtype="float32")


@pytest.fixture(scope="module")
def fitted():
    split = last_out(tiny_data())
    return GenPAS(GRU4Rec.tiny(), shortlist=2).fit(split.train, RUN, split), split


def test_the_usual_ways_are_trained_whatever_their_rank(fitted):
    method, _ = fitted
    tried = [trial["sampler"] for trial in method.fit_report_["tried"]]
    assert set(PRESETS) <= set(tried)
    assert len(tried) == len(set(tried)) <= 2 + len(PRESETS)
    assert "2,1,0" not in tried  # "window", under its own name alone


def test_without_the_usual_ways_the_shortlist_is_all():
    method = GenPAS(GRU4Rec.tiny(), shortlist=2, usual=False)
    method.fit(tiny_data(), RUN)
    assert len(method.fit_report_["tried"]) == 2
    assert "1,0,inf" in method._ways()  # "prefix" is one of the exponents then


def test_the_way_with_the_best_validation_is_kept(fitted):
    method, split = fitted
    tried = method.fit_report_["tried"]
    best = max(tried, key=lambda trial: trial["validation NDCG@10"])
    assert method.model_.sampler == method.fit_report_["chosen"] == best["sampler"]
    alone = GRU4Rec.tiny()
    alone.sampler = best["sampler"]
    alone.fit(split.train, RUN, split)
    queries = split.queries("test")[0]
    lists, others = method.recommend(queries, 3), alone.recommend(queries, 3)
    assert [ranking.ids for ranking in lists] == [ranking.ids for ranking in others]


def test_the_lowest_mean_ranks_are_the_shortlist():
    ranks = {"last": 3, "0,0,0": 0, "1,1,1": 5, "2,2,2": 1}
    figures = {name: {"rank": rank} for name, rank in ranks.items()}
    assert GenPAS(shortlist=2)._trained(figures) == ["0,0,0", "2,2,2", "last"]


def test_last_events_alone_give_fewer_windows_than_all_pieces(fitted):
    method, split = fitted
    figures = method._judged(method._ways(), split.train, split, RUN)
    assert figures["last"]["windows a target"] < figures["window"]["windows a target"]


def test_targets_like_the_held_out_ones_have_a_low_divergence():
    """Held-out events are the last of each user, and here the last items are items of their own."""
    rows = [
        {"user_id": f"u{user}", "item_id": f"{kind}{user % 5}", "time_ms": 1_000 * place}
        for user in range(100)
        for place, kind in enumerate("aaaazzz")
    ]
    split = last_out(_events(rows))
    method = GenPAS(GRU4Rec.tiny())
    ways = {"late": (0.0, 2.0, float("inf")), "early": (0.0, 0.0, float("inf"))}
    figures = method._judged(ways, split.train, split, RUN)
    assert figures["late"]["kl"] < figures["early"]["kl"]


def test_a_log_too_short_to_choose_keeps_the_model_as_it_is():
    rows = [{"user_id": f"u{user}", "item_id": f"i{user % 3}"} for user in range(9)]
    method = GenPAS(GRU4Rec.tiny()).fit(_events(rows), RUN)
    assert method.fit_report_["chosen"] == GRU4Rec.tiny().sampler
    assert "3 events" in method.fit_report_["why"]


def test_exponents_say_which_sequence_which_target_and_how_much_before_it():
    lengths = np.array([3, 30])
    rng = np.random.default_rng(0)
    rows, targets, before = WindowSampler(2, 0, float("inf")).draw(lengths, 4_000, rng)
    assert (rows == 1).mean() > 0.95  # long sequences, by the square of their length
    assert (before == targets).all()  # all events before the target
    _, late, _ = WindowSampler(2, 3, 0).draw(lengths, 4_000, rng)
    assert late.mean() > targets.mean() + 5  # late targets
    _, targets, before = WindowSampler(2, 0, 0).draw(lengths, 4_000, rng)
    assert (before < targets).mean() > 0.5  # a part of what came before


def _events(rows):
    return Dataset({"events": pl.DataFrame(rows)})
