"""The search: the same for a seed, broken off or not; blind to the test part; it gives up early
what is behind.
"""

import sys
import tomllib
from dataclasses import asdict, replace

import numpy as np
import polars as pl
import pytest

from tailor.bench import tune as tuning
from tailor.bench.choose import attempt
from tailor.bench.space import apply_settings, space_of
from tailor.bench.tune import LEAST, Search, sample_users, tune
from tailor.core.run import Run
from tailor.core.specs import build
from tailor.data.dataset import Dataset
from tailor.data.splits import DROPPED, Split, last_out
from tailor.errors import DataError, MissingExtraError, ModelError
from tailor.evaluation.protocol import evaluate
from tailor.retrieval.covisitation import CoVisitation
from tailor.testing.data import tiny_data

pytest.importorskip("optuna", reason="the search needs the extra torch")

FUSE = tomllib.loads("""
class = "Fuse"
[[parts]]
class = "CoVisitation"
[[parts]]
class = "TextNeighbours"
[tune.parts.CoVisitation]
window = { low = 1, high = 8 }
reverse = { low = 0.0, high = 1.0 }
""")
LEARNER = """
from dataclasses import dataclass
from typing import Annotated
from tailor.core.search_space import Range
from tailor.errors import DataError
from tailor.retrieval.covisitation import CoVisitation

FITS, STEPS = [], 10

@dataclass(eq=False)
class Learner(CoVisitation):
    quality: Annotated[float, Range(0.0, 1.0)] = 0.9  # grows to this while it is fitted
    refused: Annotated[float, Range(0.0, 1.0)] = 0.0  # above .7 the data refuses it
    interrupted: bool = False

    def _fit(self, data, run, valid):
        FITS.append((self.quality, run.seed, len(data.events)))
        if self.refused > 0.7:
            raise DataError(f"refused is {self.refused}")
        if self.interrupted and len(FITS) == 3:
            raise KeyboardInterrupt
        for step in range(1, STEPS + 1):
            run.watch(step, self.quality * step / STEPS)
        super()._fit(data, run, valid)
        noise = run.rng("noise", round(self.quality * 1e6)).random((self.weights_.shape[0], 1)).astype("float32")
        self.weights_ = self.weights_.multiply(noise).tocsr()
"""


@pytest.fixture(scope="module")
def split():
    return last_out(tiny_data())


@pytest.fixture
def fits(tmp_path, monkeypatch):
    """A plug-in that tells how it comes on while it is fitted; the list of its fits (quality, seed,
    events).
    """
    site = tmp_path / "site"
    (site / "learner-1.0.dist-info").mkdir(parents=True)
    (site / "learner-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: learner\nVersion: 1.0\n"
    )
    (site / "learner-1.0.dist-info" / "entry_points.txt").write_text(
        "[tailor.methods]\nlearner = planted_learner:Learner\n"
    )
    (site / "planted_learner.py").write_text(LEARNER)
    monkeypatch.delitem(sys.modules, "planted_learner", raising=False)
    monkeypatch.syspath_prepend(str(site))
    import planted_learner

    return planted_learner.FITS


def facts(study):
    """All of a study but what the clock says."""
    return [{**asdict(one), "seconds": 0} for one in study.trials]


def searched(split, out, trials, about=FUSE, seed=0, **search):
    return tune(about, split, out, Search(trials, **search), Run(seed=seed))


def test_the_same_seed_finds_the_same_and_another_seed_tries_others(split, tmp_path):
    first, again, other = (
        searched(split, tmp_path / str(i), 13, seed=seed) for i, seed in enumerate((0, 0, 1))
    )
    assert facts(first) == facts(again)
    assert [one.settings for one in first.trials[1:]] != [one.settings for one in other.trials[1:]]
    assert (
        first.trials[0].settings
        == other.trials[0].settings
        == {
            "parts.0.window": 5,
            "parts.0.reverse": 0.3,
        }
    )
    assert (tmp_path / "0" / "best.toml").read_text() == (tmp_path / "1" / "best.toml").read_text()


def test_a_study_broken_off_ends_as_one_that_was_not(split, tmp_path):
    whole = searched(split, tmp_path / "whole", 14)
    for trials in (1, 5, 12, 14):
        parted = searched(split, tmp_path / "parted", trials)
    assert facts(parted) == facts(whole)
    assert searched(split, tmp_path / "parted", 3).trials == parted.trials  # nothing left to do


def test_figures_are_those_of_the_best_pipeline_on_validation(split, tmp_path):
    study = searched(split, tmp_path / "s", 8)
    made = build(tmp_path / "s" / "best.toml").fit(split.train, Run(), split)
    assert made.parts[0].window == study.best.settings["parts.0.window"]
    assert evaluate(made, split, "valid").mean("Fuse", "NDCG@10") == study.best.value
    assert (
        study.best.value == max(one.value for one in study.trials)
        and study.best.low < study.best.value < study.best.high
    )
    assert tomllib.loads((tmp_path / "s" / "best.toml").read_text())["tune"] == FUSE["tune"]


class Sealed(Split):
    """A split whose test part raises when it is asked for."""

    def queries(self, part="test"):
        assert part == "valid", f"the search asked for {part}"
        return super().queries(part)

    def learn_from(self, part):
        assert part == "train", f"the search learned from {part}"
        return super().learn_from(part)


def test_the_test_part_is_never_asked_for(split, tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "LEAST_USERS", 1)
    sealed = Sealed(split.data, split.kind, split.params, split.part)
    assert facts(searched(sealed, tmp_path / "s", 8, screen=0.5)) == facts(
        searched(split, tmp_path / "t", 8, screen=0.5)
    )
    fitted = build(FUSE).fit(split.train, Run(), split)
    with pytest.raises(AssertionError, match="asked for test"):
        evaluate(fitted, sealed)


def test_other_test_items_change_nothing(split, tmp_path):
    """The targets of the test are dealt out among the users anew: the same catalogue, other
    answers, the same search.
    """
    events, rng = split.data.events, np.random.default_rng(1)
    test = np.flatnonzero(split.part == 2)
    items = events["item_id"].to_numpy().copy()
    items[test] = rng.permutation(items[test])
    dealt = Dataset(
        {**split.data.tables, "events": events.with_columns(item_id=pl.Series(items))}, "tiny"
    )
    other = last_out(dealt)
    assert other.hash != split.hash and (items != events["item_id"].to_numpy()).sum() > 20
    assert facts(searched(other, tmp_path / "a", 12)) == facts(searched(split, tmp_path / "b", 12))


def test_what_falls_behind_while_it_is_fitted_is_given_up(split, tmp_path, fits):
    study = searched(split, tmp_path / "s", 25, {"class": "learner", "tune": {"quality": True}})
    assert all(one.state == "complete" for one in study.trials[:LEAST]) and study.trials[0].watched[
        -1
    ] == (10, 0.9)
    for one in study.trials[LEAST:]:
        before = sorted(
            other.settings["quality"]
            for other in study.trials[: one.number]
            if other.state == "complete"
        )
        behind = (
            one.settings["quality"]
            < (before[(len(before) - 1) // 2] + before[len(before) // 2]) / 2
        )
        assert one.state == ("pruned" if behind else "complete"), one
        assert len(one.watched) == (1 if behind else 10) and (one.value is None) == behind
    assert {"pruned", "complete"} == {one.state for one in study.trials}


def test_a_part_s_own_figure_prunes_nothing(split, tmp_path, fits):
    about = {
        "class": "Fuse",
        "parts": [{"class": "learner"}, {"class": "CoVisitation"}],
        "tune": {"parts": {"learner": {"quality": True}}},
    }
    study = searched(split, tmp_path / "s", 10, about)
    assert all(one.state == "complete" and not one.watched for one in study.trials)


def test_the_seed_reaches_the_fit(split, tmp_path, fits):
    searched(split, tmp_path / "s", 3, {"class": "learner", "tune": {"quality": True}}, seed=7)
    assert {seed for _, seed, _ in fits} == {7}


def test_a_setting_that_the_data_refuses_is_a_failed_trial_with_its_reason(split, tmp_path, fits):
    study = searched(split, tmp_path / "s", 15, {"class": "learner", "tune": {"refused": True}})
    failed = study.of_state("failed")
    assert failed and all(
        one.reason == f"refused is {one.settings['refused']}" and one.value is None
        for one in failed
    )
    assert {one.number for one in failed} == {
        one.number for one in study.trials if one.settings["refused"] > 0.7
    }
    assert "refused is" in (tmp_path / "s" / "study.html").read_text()


def test_a_pipeline_that_fails_as_written_raises_and_nothing_is_kept(split, tmp_path, fits):
    with pytest.raises(DataError, match=r"refused is 0\.8"):
        searched(
            split,
            tmp_path / "s",
            5,
            {"class": "learner", "refused": 0.8, "tune": {"quality": True}},
        )
    # what is searched, no trial
    assert len((tmp_path / "s" / "study.jsonl").read_text().splitlines()) == 1


def test_an_interrupted_trial_is_lost_and_the_best_so_far_stands(split, tmp_path, fits):
    about = {"class": "learner", "interrupted": True, "tune": {"quality": True}}
    with pytest.raises(KeyboardInterrupt):
        searched(split, tmp_path / "s", 6, about)
    assert build(tmp_path / "s" / "best.toml").is_fitted is False
    kept = (tmp_path / "s" / "study.jsonl").read_text()
    assert len(kept.splitlines()) == 3
    assert len(searched(split, tmp_path / "s", 6, about).trials) == 6  # the lost one is made again
    assert (tmp_path / "s" / "study.jsonl").read_text().startswith(kept)


def test_screening_gives_up_settings_below_the_upper_third_on_a_share_of_the_users(
    split, tmp_path, monkeypatch, fits
):
    monkeypatch.setattr(tuning, "LEAST_USERS", 1)
    about = {
        "class": "CoVisitation",
        "tune": {"window": True, "history_decay": True, "reverse": True},
    }
    study = searched(split, tmp_path / "s", 25, about, screen=0.5)
    few, pruned = sample_users(split, 0.5, Run()), study.of_state("pruned")
    assert pruned and pruned[0].number >= LEAST
    for one in study.trials:
        earlier = [
            other.screened for other in study.trials[: one.number] if other.state == "complete"
        ]
        assert (one.state == "pruned") == (
            len(earlier) >= LEAST and one.screened < np.quantile(earlier, 2 / 3)
        )
    made = build(apply_settings(about, pruned[0].settings, space_of(about)))
    assert pruned[0].screened == attempt(made, few, "NDCG@10", "removed", Run()).value


def test_some_users_are_whole_users_chosen_by_the_seed(split, monkeypatch):
    monkeypatch.setattr(tuning, "LEAST_USERS", 1)
    few = sample_users(split, 0.5, Run())
    users = split.data.events["user_id"].to_numpy()
    dropped = set(users[few.part == DROPPED])
    assert not dropped & set(users[few.part != DROPPED]) and 10 < len(dropped) < 50
    kept = few.part != DROPPED
    assert (few.part[kept] == split.part[kept]).all()
    assert (sample_users(split, 0.5, Run()).part == few.part).all() and (
        sample_users(split, 0.5, Run(seed=1)).part != few.part
    ).any()


def test_too_few_users_to_screen_by_are_refused(split, tmp_path):
    with pytest.raises(DataError, match="too few to prune by"):
        searched(split, tmp_path / "s", 5, screen=0.5)


def test_parts_that_are_not_searched_are_fitted_once_and_the_figures_stay(split, tmp_path, fits):
    about = {
        "class": "Fuse",
        "parts": [{"class": "CoVisitation"}, {"class": "learner"}],
        "tune": {"parts": {"CoVisitation": {"window": True}}},
    }
    study = searched(split, tmp_path / "s", 6, about)
    assert len(fits) == 1
    for one in study.trials:
        method = build(apply_settings(about, one.settings, space_of(about)))
        assert attempt(method, split, "NDCG@10", "removed", Run()).value == one.value


def test_minutes_end_the_search_after_one_trial_at_least(split, tmp_path):
    study = tune(FUSE, split, tmp_path / "s", Search(minutes=1e-6))
    assert len(study.trials) == 1
    # a later run has minutes of its own
    assert len(tune(FUSE, split, tmp_path / "s", Search(minutes=1e-6)).trials) == 2


def test_choices_are_searched_and_kept_as_they_were_written(split, tmp_path):
    about = {
        "class": "Fuse",
        "parts": [{"class": "CoVisitation"}, {"class": "TextNeighbours"}],
        "tune": {"kind": ["score", "rank"], "weights": [[1.0, 1.0], [3.0, 1.0]]},
    }
    study = searched(split, tmp_path / "s", 12, about)
    assert {one.settings["kind"] for one in study.trials} == {"score", "rank"}
    # as written they are learned
    assert {str(one.settings["weights"]) for one in study.trials} == {
        "None",
        "[1.0, 1.0]",
        "[3.0, 1.0]",
    }
    assert build(tmp_path / "s" / "best.toml").kind == study.best.settings["kind"]


def test_a_search_without_an_end_and_shares_that_are_none_are_refused():
    for wrong in (
        {},
        {"trials": 0},
        {"minutes": 0.0},
        {"minutes": float("nan")},
        {"trials": 3, "screen": 1.0},
    ):
        with pytest.raises(DataError):
            Search(**wrong)


def test_without_optuna_the_remedy_is_named_before_any_work(split, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tailor-engine\[torch\]'"):
        searched(split, tmp_path / "s", 3)
    assert not (tmp_path / "s").exists()


def test_what_does_not_recommend_and_an_unknown_metric_are_refused(split, tmp_path):
    with pytest.raises(DataError, match="NDCC"):
        searched(split, tmp_path / "s", 3, metric="NDCC@10")
    with pytest.raises(ModelError, match="another metric"):
        searched(split, tmp_path / "s", 3)


def test_run_watch_is_silent_by_default(split):
    assert CoVisitation().fit(split.train, replace(Run(), seed=3)).is_fitted
    Run().watch(1, 0.5)


def test_the_page_shows_every_trial_and_nothing_of_it_is_markup(split, tmp_path):
    about = {"class": "Popularity", "tune": {"half_life_days": [1.0, 2.0, 9.0]}}
    study = searched(split, tmp_path / "s", 6, about)
    html = (tmp_path / "s" / "study.html").read_text()
    assert (
        html.count("<tr") == 1 + len(study.trials)
        and html.count('<circle class="dot"') >= len(study.trials) - 1
    )
    assert "http" not in html and "<script" not in html and f"{study.best.value:.4f}" in html


def test_words_of_a_pipeline_are_escaped(split, tmp_path):
    about = {"class": "RecentPopularity", "tune": {"segment": ["<b>&", "none"]}}
    searched(split, tmp_path / "s", 6, about)
    html = (tmp_path / "s" / "study.html").read_text()
    assert "<b>" not in html and "&lt;b&gt;&amp;" in html
