"""SLLMR: pairs are of one user, the gate opens where the ranker is weak, and scores that know what
the ranker cannot know help it.
"""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from tailor.core.run import Run
from tailor.data.arrays import Ragged
from tailor.data.examples import Outcome
from tailor.errors import DataError
from tailor.llm.scripted import ScriptedModel
from tailor.metrics.prediction import auc
from tailor.papers.ranking.s_llmr import (
    COLD_EVENTS,
    SLLMR,
    _ScoreTable,
    best_pairs,
    language_scores,
    text_scores,
)
from tailor.testing.data import tiny_data

DATA = tiny_data()


def written(tmp_path, frame):
    path = tmp_path / "scores.parquet"
    frame.write_parquet(path)
    return str(path)


def tiny(**settings):
    return SLLMR(**{**SLLMR.tiny().params(), **settings})


def test_pairs_are_of_one_request_widest_first_and_scored():
    scores = np.array([0.9, 0.2, 0.5, np.nan, 0.4, 0.6])
    requests = np.array([0, 0, 0, 0, 1, 1])
    pairs = set(zip(*best_pairs(scores, requests, 10), strict=True))
    assert pairs == {(0, 1), (0, 2), (2, 1), (5, 4)}
    assert set(zip(*best_pairs(scores, requests, 2), strict=True)) == {(0, 1), (0, 2)}
    assert len(best_pairs(np.full(4, np.nan), requests[:4], 5)[0]) == 0


def prepared(labels=(1.0, 0.0, 1.0, 0.0), **settings):
    """Return a fitted method as in training: four rows of one user with scores and weaknesses."""
    method = tiny(**settings).fit(DATA, Run(workers=1, dtype="float32"))
    rows = type("Rows", (), {})()
    rows.scores = np.array([0.9, 0.1, 0.5, 0.5])
    rows.is_weak = np.array([[0.2, 0.3], [0.9, 0.1], [0.0, 0.0], [1.0, 1.0]], np.float32)
    rows.users = np.zeros(4, int)
    rows.requests = np.zeros(4, int)
    rows.labelled = 2
    method._rows = rows
    return method


def test_the_loss_is_the_hinge_of_log_odds_weighted_by_both_gates():
    """Without a floor: mean over pairs of (gate + gate) / 2 * max(0, margin - difference)."""
    method = prepared(floor=0.0, margin=1.0)
    logits = torch.tensor([0.3, 0.1, -2.0, 4.0])
    weights = method.net_weights_["gate.weight"][0]
    p = 1 / (1 + np.exp(-logits.numpy()))
    bits = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    sums = method._rows.is_weak @ weights[:2] + weights[2] * bits
    gates = 1 / (1 + np.exp(-(sums + method.net_weights_["gate.bias"][0])))
    pairs = [(0, 1), (0, 2), (0, 3), (2, 1), (3, 1)]
    hinges = [max(0.0, 1 - float(logits[i] - logits[j])) for i, j in pairs]
    wanted = np.mean(
        [(gates[i] + gates[j]) / 2 * h for (i, j), h in zip(pairs, hinges, strict=True)]
    )
    found = method._loss_of_pairs(logits, np.arange(4)).item()
    assert found == pytest.approx(wanted, rel=1e-4)
    ungated = prepared(gated=False)._loss_of_pairs(logits, np.arange(4)).item()
    assert ungated == pytest.approx(np.mean(hinges), rel=1e-5)


@pytest.mark.parametrize("floor", [0.0, 0.3])
def test_a_gate_shuts_without_a_floor_and_stays_open_above_it(floor):
    method = prepared(floor=floor)
    net = method._net
    optimizer = torch.optim.SGD(net.gate.parameters(), lr=1.0)
    logits = torch.tensor([-3.0, 3.0, 0.0, 0.5])  # the ranker contradicts the scores
    for _ in range(300):
        optimizer.zero_grad()
        method._loss_of_pairs(logits, np.arange(4)).backward()
        optimizer.step()
    gates = net.gates(torch.from_numpy(method._rows.is_weak), logits)
    assert (gates.mean() > 0.27) == bool(floor) and (gates.mean() < 0.1) == (not floor)


def test_rows_without_an_outcome_are_not_learned_from_but_for_their_order():
    method = prepared(weight=0.0)
    batch = method._encode_examples(
        Outcome("drawn", length=8).learn(DATA, np.random.default_rng(0)).take(np.arange(4))
    ).batch(np.arange(4))
    rng = np.random.default_rng(0)
    losses = [
        method._loss(batch, torch.tensor(labels), np.arange(4), rng).item()
        for labels in ([1.0, 0.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.5], [0.0, 0.0, 1.0, 1.0])
    ]
    assert losses[0] == pytest.approx(losses[1]) and losses[0] != pytest.approx(losses[2])


def test_rows_without_a_score_do_not_hold_up_the_gate_of_pairs():
    """The floor is on the gates of pairs; others may be wide open."""
    method = prepared(floor=0.3)
    method._rows.scores = np.array([0.9, 0.1, np.nan, np.nan])
    method._rows.is_weak = np.array([[0, 0], [0, 0], [9, 9], [9, 9]], np.float32)
    logits = torch.tensor([8.0, 8.5, 0.0, 0.0])  # the ranker is certain of the pair
    loss = method._loss_of_pairs(logits, np.arange(4))
    gates = method._net.gates(torch.from_numpy(method._rows.is_weak), logits)
    assert gates.mean() > 0.3 > gates[:2].mean()
    hinge = 1 - (8.0 - 8.5)
    wanted = gates[:2].mean() * hinge + 2 * hinge * (0.3 - gates[:2].mean())
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-3)


def test_the_ranker_alone_takes_as_many_steps():
    plain, guided = (
        tiny(weight=weight).fit(DATA, Run(workers=1, dtype="float32")) for weight in (0.0, 0.1)
    )
    assert plain.fit_report_["steps"] == guided.fit_report_["steps"]
    assert plain.fit_report_["rows with scores"] == 0 < guided.fit_report_["rows with scores"]


def test_batches_keep_rows_of_a_user_together_and_hold_every_row_once():
    method = prepared()
    users = np.random.default_rng(0).integers(30, size=400)
    method._rows.users = users
    method.batch = 60
    batches = method._batches(None, np.random.default_rng(0))
    rows = np.concatenate(batches)
    assert sorted(rows.tolist()) == list(range(400))
    switches = (np.diff(users[rows]) != 0).sum()
    assert switches == len(np.unique(users)) - 1, "rows of a user stand together"


def test_further_rows_are_other_items_of_the_user_half_of_them_with_a_cut_history():
    examples = Outcome("drawn", length=8).learn(DATA, np.random.default_rng(0))
    method = tiny(asked=8)
    rows = method._extended(DATA, examples, None, np.random.default_rng(1))
    further = rows.take(np.arange(len(examples), len(rows)))
    users, counts = np.unique(further.queries.user_ids.astype(str), return_counts=True)
    assert len(users) == 60 and (counts == 8).all()
    assert np.allclose(further.labels, examples.labels.mean())
    lengths = further.queries.histories.lengths
    full = examples.queries.histories.lengths
    assert (lengths <= COLD_EVENTS).mean() > (full <= COLD_EVENTS).mean() + 0.2
    of_pairs = method._describe(DATA, rows, len(examples), None, Run()).requests
    for request in np.unique(of_pairs[len(examples) :]):
        same = rows.take(np.flatnonzero(of_pairs == request))
        histories = {tuple(same.queries.histories[i].tolist()) for i in range(len(same))}
        assert len(histories) == 1, "items of a pair are asked about under one history"
    first = rows.take(np.arange(len(examples)))
    assert (first.queries.histories.values == examples.queries.histories.values).all()
    assert (first.labels == examples.labels).all()


def test_new_users_rare_items_and_only_they_are_weak():
    examples = Outcome("drawn", length=8).learn(DATA, np.random.default_rng(0))
    rows = tiny()._describe(DATA, examples, len(examples), None, Run())
    lengths = examples.queries.histories.lengths
    assert np.allclose(rows.is_weak[lengths == 0, 0], 1)
    assert np.corrcoef(rows.is_weak[:, 0], lengths)[0, 1] < -0.9
    counts = np.bincount(examples.items)[examples.items]
    assert np.corrcoef(rows.is_weak[:, 1], counts)[0, 1] < -0.9


def test_cosines_are_of_the_mean_vector_of_the_history():
    vectors = np.array([[1.0, 0], [0, 1], [0.6, 0.8], [0, 0]])
    histories = Ragged.of([[0, 1], [0], [], [2], [3]])
    scores = text_scores(vectors, histories, np.array([0, 0, 0, 3, 1]))
    assert np.allclose(scores[:2], [(1 + 0.5**0.5) / 2, 1])
    assert np.isnan(scores[2:]).all(), "no history, no words"


def test_a_file_of_scores_is_read_by_pair(tmp_path):
    frame = pl.DataFrame(
        {
            "user_id": ["person-001", "person-001", "person-002", "nobody"],
            "item_id": ["thing-003", "thing-004", "thing-003", "thing-003"],
            "score": [0.7, 0.2, 0.9, 0.1],
        }
    )
    table = _ScoreTable.read(written(tmp_path, frame), DATA)
    users = DATA.users.rows(["person-001", "person-002", "person-002", "person-009", "nobody"])
    items = DATA.catalogue.rows(["thing-004", "thing-003", "thing-004", "thing-003", "thing-003"])
    assert np.allclose(table.of(users, items), [0.2, 0.9, np.nan, np.nan, np.nan], equal_nan=True)
    drawn = table.drawn(np.repeat(users[:4], 50), np.random.default_rng(0)).reshape(4, 50)
    names = [set(DATA.catalogue.named(np.maximum(row, 0))) for row in drawn[:2]]
    assert names == [{"thing-003", "thing-004"}, {"thing-003"}]
    assert (drawn[3] == -1).all()


def test_a_file_that_holds_no_scores_is_refused(tmp_path):
    frame = pl.DataFrame({"user_id": ["a"], "item_id": ["b"], "score": [1.5]})
    with pytest.raises(DataError, match=r"outside 0 to 1"):
        _ScoreTable.read(written(tmp_path, frame), DATA)
    with pytest.raises(DataError, match="columns"):
        _ScoreTable.read(written(tmp_path, frame.rename({"score": "rank"})), DATA)
    with pytest.raises(DataError, match="no pair"):
        _ScoreTable.read(written(tmp_path, frame.with_columns(score=pl.lit(0.5))), DATA)
    with pytest.raises(DataError, match="there is no file"):
        _ScoreTable.read(str(tmp_path / "none.parquet"), DATA)
    with pytest.raises(DataError, match='no item "none"'):
        language_scores(ScriptedModel(), DATA, [["none"]] * 60)


def test_scores_teach_what_the_log_cannot_tell(tmp_path, monkeypatch):
    """Items with an even number are better by the scores alone, whoever is asked."""
    monkeypatch.chdir(tmp_path)  # a path is a setting, and settings name the draws of a training
    users, items = np.indices((60, 40)).reshape(2, -1)
    ids = [f"thing-{item:03d}" for item in items]
    frame = pl.DataFrame(
        {
            "user_id": [f"person-{user:03d}" for user in users],
            "item_id": ids,
            "score": np.where(items % 2 == 0, 0.9, 0.1),
        }
    )
    path = Path(written(tmp_path, frame)).name
    pairs = [[f"thing-{item:03d}" for item in range(40)]] * 10
    queries = DATA.queries()[:10]
    is_even = np.tile(np.arange(40) % 2 == 0, 10).astype(float)
    found = {}
    for weight in (0.0, 1.0):
        settings = {"weight": weight, "scores": path, "epochs": 8, "asked": 10, "lr": 2e-2}
        method = tiny(**settings).fit(DATA, Run(workers=1, dtype="float32"))
        found[weight] = auc(is_even, np.concatenate(method.predict(queries, pairs)))
    assert found[1.0] > 0.75 > found[0.0] + 0.1


def test_a_language_model_is_asked_about_the_titles_of_the_history():
    model = ScriptedModel({DATA.item_texts[0]: 1.0})
    asked = [[DATA.catalogue.ids[0], DATA.catalogue.ids[1]]] * len(DATA.users)
    frame = language_scores(model, DATA, asked, history=0)
    assert frame.columns == ["user_id", "item_id", "score"] and len(frame) == 120
    liked = frame.filter(pl.col("item_id") == DATA.catalogue.ids[0])["score"]
    other = frame.filter(pl.col("item_id") == DATA.catalogue.ids[1])["score"]
    assert liked.min() > 0.8 and other.max() < 0.2


def test_settings_that_cannot_be_are_refused():
    for settings in ({"weight": -1.0}, {"floor": 1.0}, {"asked": -1}, {"pairs": 0}):
        with pytest.raises(DataError, match="at least"):
            SLLMR(**settings)
