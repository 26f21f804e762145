"""SCASRec: corrections along own picks, overlap, and lists that end by themselves."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

pytest.importorskip("torch")

import torch

from tailor.core.run import Run
from tailor.data.dataset import Dataset, Lists
from tailor.data.nouns import History, Query, Ranking
from tailor.data.queries import Queries, Rankings
from tailor.errors import DataError
from tailor.papers.generative.scasrec import (
    SCASRec,
    _examples,
    _lengths,
    corrections,
    overlaps_with_picks,
)
from tailor.worlds.routes import routes

RUN = Run(workers=1, dtype="float32")
OVERLAPS = torch.tensor(
    [[[1.0, 0.95, 0.2, 0.0], [0.95, 1.0, 0.1, 0.0], [0.2, 0.1, 1.0, 0.5], [0.0, 0.0, 0.5, 1.0]]]
)
END = 4


def model(**settings):
    defaults = {"parts": "segments", "width": 16, "steps": 4, "dropout": 0.0, "epochs": 2}
    return SCASRec(**(defaults | settings))


@pytest.fixture(scope="module")
def world():
    return routes(requests=200, asked=30, places=6)


@pytest.fixture(scope="module")
def fitted(world):
    return model(epochs=5).fit(world.data, RUN)


def test_overlaps_with_the_picks_so_far():
    largest, mean = overlaps_with_picks(OVERLAPS, torch.tensor([[0, 3]]))
    expected = torch.tensor([[[0, 0, 0, 0], [1, 0.95, 0.2, 0], [1, 0.95, 0.5, 1]]])
    torch.testing.assert_close(largest, expected)
    torch.testing.assert_close(mean[0, 2], torch.tensor([0.5, 0.475, 0.35, 0.5]))
    largest, mean = overlaps_with_picks(OVERLAPS, torch.zeros(1, 0, dtype=torch.long))
    assert largest.tolist() == mean.tolist() == [[[0, 0, 0, 0]]]


@pytest.mark.parametrize(
    ("picks", "labels", "weights"),
    [
        # the chosen item is 1: it gains 1, less half of its overlap, less the cost of 0.1
        ([2, 3], [1, 1, 1], [0.9, 0.85, 0.85]),
        ([2, 1], [1, 1, END], [0.9, 0.85, 0.1]),
        ([0, 2], [1, END, END], [0.9, 0.1, 0.0]),  # 0 covers .95 of it; what follows is over
        ([1, 0], [1, END, END], [0.9, 0.1, 0.0]),
    ],
)
def test_corrections_by_hand(picks, labels, weights):
    right, gains = corrections(OVERLAPS, torch.tensor([1]), torch.tensor([picks]), 0.8, 0.5, 0.1)
    assert right[0].tolist() == labels
    assert gains[0].tolist() == pytest.approx(weights)


def test_the_loss_is_weighted_by_the_gains(fitted, world):
    method = replace(fitted, weights="gain")
    method.__dict__ |= fitted.state()
    method._ready()
    queries = Queries.of(world.queries[:3]).reindexed(method.items_)
    lists = method._lists(queries, Rankings.of(world.candidates[:3]).reindexed(method.items_))
    picks = torch.tensor([[0, 1, 2], [3, 4, 5], [1, 7, 8]])
    method._drawn_picks = lambda *arguments: picks
    chosen = torch.tensor([2, 3, 9])
    labels, weights = corrections(lists.overlaps, chosen, picks, 0.8, 0.5, 0.1)
    with torch.no_grad():
        encoded, request = method._net.encode(lists)
        logits = method._net.logits(lists, encoded, request, picks)
        shares = logits.log_softmax(dim=2).gather(2, labels[:, :, None])[:, :, 0]
        expected = -(shares * weights).sum() / weights.sum()
        assert method._loss(lists, chosen).item() == pytest.approx(expected.item(), rel=1e-5)
        counted = weights > 0
        expected = -shares[counted].mean()
        equal = replace(method, weights="uniform")
        equal.__dict__ |= method.__dict__ | {"weights": "uniform"}
        assert equal._loss(lists, chosen).item() == pytest.approx(expected.item(), rel=1e-5)


def test_picks_are_drawn_from_candidates_not_yet_picked(fitted, world):
    method = fitted
    lists = Rankings.of([Ranking(world.candidates[0].ids[:4], np.zeros(4)), world.candidates[1]])
    batch = method._lists(
        Queries.of(world.queries[:2]).reindexed(method.items_), lists.reindexed(method.items_)
    )
    encoded, request = method._ready().encode(batch)
    drawn = {tuple(method._drawn_picks(batch, encoded, request)[0].tolist()) for _ in range(20)}
    assert len(drawn) > 3  # by chance
    assert all(len(set(picks)) == 3 and max(picks) < 4 for picks in drawn)


def test_lists_end_above_the_threshold_but_never_before_the_first_item():
    picks = np.array([[0, 1, 2], [0, 1, 2], [0, 1, -1], [-1, -1, -1]])
    ends = np.array([[0.9, 0.2, 0.6], [0.9, 0.8, 0.1], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    assert _lengths(picks, ends, 0.5).tolist() == [2, 1, 2, 0]
    assert _lengths(picks, ends, 1.0).tolist() == [3, 3, 2, 0]


def test_overlaps_are_the_shares_of_common_parts(fitted, world):
    lists = Rankings.of([*world.candidates[:3], Ranking(world.candidates[3].ids[:2], np.zeros(2))])
    overlaps = fitted._overlaps(lists.reindexed(fitted.items_))
    for i, ranking in enumerate([*world.candidates[:3], lists[3]]):
        for a, one in enumerate(ranking.ids):
            for b, other in enumerate(ranking.ids):
                assert overlaps[i, a, b] == pytest.approx(world.overlap(one, other), abs=1e-6)


def test_a_candidate_counts_by_its_overlap_with_what_was_picked(fitted, world):
    method = fitted
    batch = method._lists(
        Queries.of(world.queries[:1]).reindexed(method.items_),
        Rankings.of(world.candidates[:1]).reindexed(method.items_),
    )
    net = method._ready()
    with torch.inference_mode():
        encoded, request = net.encode(batch)
        picks = torch.tensor([[0]])
        before = net.logits(batch, encoded, request, picks)
        batch.overlaps[0, 0, 5] += 0.4
        after = net.logits(batch, encoded, request, picks)
    changed = ~torch.isclose(before, after)
    assert changed[0].nonzero().tolist() == [[1, 5]]


def test_the_order_of_candidates_and_others_lists_change_nothing(fitted, world):
    queries, lists = world.queries[:6], world.candidates[:6]
    whole = fitted.recommend(queries, 4, candidates=lists)
    for i in range(6):
        turned = Ranking(lists[i].ids[::-1], lists[i].scores)
        alone = fitted.recommend(queries[i : i + 1], 4, candidates=[turned])[0]
        assert alone.ids == whole[i].ids


def test_lists_end_by_themselves_with_a_note(fitted, world):
    method = replace(fitted)
    method.__dict__ |= fitted.state() | {"end_threshold_": 0.0}
    answers = method.recommend(world.queries, 5, candidates=world.candidates)
    assert [len(ranking) for ranking in answers] == [1] * len(answers)
    assert all("ends after 1" in ranking.notes[0] for ranking in answers)
    never = replace(method, stop="never")
    never.__dict__ |= method.state()
    full = never.recommend(world.queries, 5, candidates=world.candidates)
    assert [len(ranking) for ranking in full] == [5] * len(full)
    for one, other in zip(answers, full, strict=True):
        assert one.ids == other.ids[:1] and not other.notes
        assert (np.diff(other.scores) <= 0).all()


def test_the_context_changes_the_list(fitted, world):
    asked = [Query(context={"purpose": f"purpose {number}"}) for number in range(8)]
    lists = [world.candidates[0]] * 8
    first = fitted.recommend(asked, 1, candidates=lists)
    assert len({round(float(ranking.scores[0]), 4) for ranking in first}) == 8
    assert len(fitted.values_) == 8


def test_it_learns_from_lists_of_an_earlier_stage(world):
    items = world.data.item_table
    catalogue = world.data.catalogue
    rows = np.random.default_rng(0).permuted(np.tile(np.arange(12), (50, 1)), axis=1)
    history = [Query(history=History.of(catalogue.ids[3]))] * 50
    data = Dataset({"events": world.data.events, "items": items})
    queries = Queries.of(history).reindexed(data.catalogue)
    scores = -np.tile(np.arange(12, dtype=np.float32), (50, 1))
    targets = Queries.of([Query(history=History.of(data.catalogue.ids[7]))] * 50)
    wanted = targets.reindexed(data.catalogue).histories
    lists = Lists(queries, Rankings(data.catalogue, rows.astype(np.int32), scores), wanted)
    method = model(epochs=40, lr=5e-3).fit(data.with_lists(lists), RUN)
    assert method.fit_report_["lists"] == 45
    candidates = [Ranking(tuple(data.catalogue.named(rows[0])), scores[0])]
    assert (
        method.recommend(history[:1], 5, candidates=candidates)[0].ids[0] == data.catalogue.ids[7]
    )


def test_a_target_that_is_no_item_is_not_the_last_item_of_the_list_before(world):
    data = Dataset({"events": world.data.events, "items": world.data.item_table})
    last = len(data.catalogue) - 1
    known = data.catalogue.ids[0]
    queries = Queries.of([Query(history=History.of(known)), Query(history=History.of("no item"))])
    rows = np.array([[last, 0], [1, 2]], np.int32)
    lists = Rankings(data.catalogue, rows, np.zeros((2, 2), np.float32))
    examples = _examples(data.with_lists(Lists(queries, lists, queries.histories)), 5)
    assert len(examples.chosen) == 1 and examples.lists.rows[0, examples.chosen[0]] == 0


def test_values_of_few_users_are_not_kept(world):
    tables = dict(world.data.tables.items())
    asked = tables["requests"]
    names = [f"ann{row // 4}@example.org" for row in range(len(asked))]
    tables["requests"] = asked.with_columns(mail=pl.Series(names))
    method = model().fit(Dataset(tables), RUN)
    assert len(method.values_) == 8 and not any("ann" in value for value in method.values_.ids)


def test_short_lists_do_not_shorten_the_training_of_others(world):
    tables = dict(world.data.tables.items())
    first = tables["requests"]["request_id"][0]
    taken = tables["events"].filter(pl.col("request_id") == first)["item_id"][0]
    shown = tables["impressions"]
    is_left_out = (shown["request_id"] == first) & (shown["item_id"] != taken)
    tables["impressions"] = shown.filter(~is_left_out)
    method = model(batch=500).fit(Dataset(tables), RUN)
    assert method.fit_report_["lists"] == 180
    candidates = [Ranking((taken,), np.zeros(1)), world.candidates[0]]
    lists = Rankings.of(candidates).reindexed(method.items_)
    batch = method._lists(Queries.of(world.queries[:2]).reindexed(method.items_), lists)
    encoded, request = method._ready().encode(batch)
    picks = method._drawn_picks(batch, encoded, request)
    assert picks.shape == (2, 3) and picks[0, 0] == 0
    _, weights = corrections(batch.overlaps, torch.tensor([0, 5]), picks, 0.8, 0.5, 0.1)
    assert weights[0].tolist() == pytest.approx([0.9, 0.1, 0, 0])


def test_without_choices_nothing_is_learned(world):
    tables = {name: world.data.tables[name] for name in ("events", "items")}
    method = model().fit(Dataset(tables), RUN)
    assert method.fit_report_["lists"] == 0 and method.end_threshold_ == 1.0
    answers = method.recommend(world.queries[:2], 3, candidates=world.candidates[:2])
    assert [len(ranking) for ranking in answers] == [3, 3]


def test_items_without_numbers_or_parts_are_fine(world):
    tables = dict(world.data.tables.items())
    tables["items"] = tables["items"].select("item_id").with_columns(pl.lit("x").alias("title"))
    method = model().fit(Dataset(tables), RUN)
    assert method.fit_report_["lists"] == 180


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cost": 0.0}, "cost is 0.0"),
        ({"steps": 0}, "steps is 0"),
        ({"heads": 3}, "heads 3"),
        ({"dropout": 1.0}, "dropout 1.0"),
        ({"covers": 0.0}, "covers 0.0"),
        ({"redundancy": 2.0}, "redundancy is 2.0"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(DataError, match=message):
        model(**settings)
