"""SETRec: items are sets of tokens, those without events are found by their texts."""

import numpy as np
import polars as pl
import pytest

pytest.importorskip("torch")

import torch
from torch.nn.functional import cross_entropy

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query, Ranking
from tailor.data.splits import last_out
from tailor.errors import DataError, ModelError
from tailor.papers.generative import setrec
from tailor.papers.generative.setrec import BETAS, SETRec
from tailor.retrieval.sasrec import SASRec
from tailor.text.hashing import HashingEncoder
from tailor.training.sequences import whole_windows
from tailor.worlds.facets import facets

RUN = Run(workers=1, dtype="float32")
INNER = SASRec(width=16, epochs=4, patience=None, negatives=None, batch_places=512)


def model(**settings):
    defaults = {
        "encoder": HashingEncoder(512),
        "inner": INNER,
        "tokens": 2,
        "hidden": (32,),
        "width": 16,
        "length": 8,
        "blocks": 1,
        "epochs": 10,
        "patience": None,
        "dropout": 0.1,
        "lr": 0.005,
        "batch_places": 128,
        "negatives": None,
    }
    return SETRec(**(defaults | settings))


def cold_world(people=200, seed=0):
    """Return a log of people who keep to a kind, and ten items, all of whose events are dropped."""
    world = facets(people, 10, seed, values=(5, 4, 5), walked=(), wished=()).data
    cold = np.random.default_rng(seed).choice(world.catalogue.ids.astype(str), 10, replace=False)
    events = world.tables["events"].filter(~pl.col("item_id").is_in(cold.tolist()))
    return Dataset({**world.tables, "events": events}, "cold"), cold.tolist()


@pytest.fixture(scope="module")
def cold():
    return cold_world()


@pytest.fixture(scope="module")
def fitted(cold):
    return model().fit(cold[0], RUN)


def title_of(data, item_id):
    return dict(data.item_table.select("item_id", "title").iter_rows())[item_id]


def test_items_without_events_are_ordered_by_what_people_keep_to(cold, fitted):
    data, cold_ids = cold
    titles = dict(data.item_table.select("item_id", "title").iter_rows())
    candidates = Ranking(tuple(cold_ids), np.zeros(len(cold_ids)))
    ranks = []
    for user in range(60):
        rows = data.sequences.rows[user]
        history = [str(item) for item in data.catalogue.ids[rows[-8:]]]
        answer = fitted.recommend([Query(history=History.of(*history))], 10, [candidates])[0]
        assert set(answer.ids) == set(cold_ids)
        words = [titles[item].split()[0] for item in history]
        wanted = max(words, key=words.count)
        fits = np.array([titles[item].split()[0] == wanted for item in answer.ids])
        if fits.any():
            ranks.append(np.flatnonzero(fits).mean())
    assert len(ranks) > 40
    assert np.mean(ranks) < 2.5  # 4.5 by chance, about 0.5 where all of the kind come first


def test_the_loss_is_the_sum_over_tokens_and_the_error(cold):
    data, _ = cold
    method = model(epochs=1, restoring=0.5, dropout=0.0).fit(data, RUN)
    training = method._training_data(data, data)
    batch = whole_windows(training.rows, 8).take(np.arange(4))
    method._same_text = np.arange(len(method.items_)) // 3  # three items of each text
    same_text = torch.from_numpy(method._same_text)
    net = method._net
    task = method._make_task(batch, RUN.rng("x"))
    loss = method._loss(batch, training, RUN.rng("x")).item()
    every, _ = net.tokens(torch.arange(len(method.items_)))
    places = torch.arange(task.rows.shape[1])[None]
    states = net.states(every[torch.from_numpy(task.rows.astype(np.int64))], places).flatten(0, 1)
    states = states[torch.from_numpy(task.positions)]
    warm = torch.from_numpy(training.item_rows.astype(np.int64))
    targets = torch.searchsorted(warm, torch.from_numpy(task.targets.astype(np.int64)))
    # an item of the target's text is no rival by text, but one by behaviour
    is_twin = same_text[warm][targets][:, None] == same_text[warm]
    is_twin[torch.arange(len(targets)), targets] = False
    assert is_twin.any()
    expected = 0.0
    for q in range(3):
        logits = states[:, q] @ every[warm, q].T / method.temperature
        if q:
            logits = logits.masked_fill(is_twin, -torch.inf)
        expected += cross_entropy(logits, targets).item()
    rows = np.unique(np.concatenate([task.rows.ravel(), task.targets, training.item_rows]))
    expected += 0.5 * net.tokens(torch.from_numpy(rows.astype(np.int64)))[1].item()
    assert loss == pytest.approx(expected, abs=1e-3)


def test_the_mask_changes_the_loss(cold):
    data, _ = cold
    losses = [
        model(epochs=1, blocks=2, separate=separate).fit(data, RUN).fit_report_["loss"][0]
        for separate in (True, False)
    ]
    assert losses[0] != losses[1]


def test_scores_by_hand(cold, fitted):
    data, _ = cold
    query = Query(history=History.of(*data.catalogue.ids[data.sequences.rows[0][:3]]))
    fitted = fitted._with_state(beta_=0.3)
    net = fitted._ready()
    rows = fitted.items_.rows(list(query.history.item_ids))
    with torch.inference_mode():
        catalogue = net.catalogue()
        states = net.states(catalogue[torch.from_numpy(rows).long()][None], torch.tensor([[2]]))
        logits = torch.einsum("qd,nqd->qn", states[0, 0], catalogue).numpy() / fitted.temperature
    warm = fitted.is_warm_
    assert warm.sum() == len(fitted.items_) - 10
    shares = logits - np.log(np.exp(logits[:, warm]).sum(axis=1, keepdims=True))
    text = shares[1:].mean(axis=0)
    expected = np.where(warm, (1 - fitted.beta_) * shares[0] + fitted.beta_ * text, text)
    answer = fitted.recommend([query], len(fitted.items_))[0]
    at = fitted.items_.rows(list(answer.ids))
    assert answer.scores == pytest.approx(expected[at], abs=1e-4)


def test_beta_is_the_best_on_validation_and_only_there(cold, monkeypatch):
    data, _ = cold
    split = last_out(data)
    method = model(epochs=3).fit(split.train, RUN, split)
    values = method.fit_report_["value_by_beta"]
    assert set(values) == {str(beta) for beta in BETAS}
    assert values[str(method.beta_)] == max(values.values())
    asked = []

    def value(self, candidate):
        asked.append(self.split)
        return -abs(getattr(candidate, "beta_", 0) - 0.3)

    monkeypatch.setattr(setrec.Validation, "value", value)
    assert model(epochs=1).fit(split.train, RUN, split).beta_ == 0.3
    assert all(used is split for used in asked)
    assert model(epochs=1, beta=0.9).fit(split.train, RUN, split).beta_ == 0.9


def test_without_a_split_the_inner_method_sees_no_validation_target(cold, monkeypatch):
    data, _ = cold
    seen = []
    fit = SASRec.fit

    def noting(self, part, *rest):
        seen.append(len(part.events))
        return fit(self, part, *rest)

    monkeypatch.setattr(SASRec, "fit", noting)
    model(epochs=1, patience=3).fit(data, RUN)
    assert seen[0] < len(data.events)


def test_the_inner_method_is_judged_on_the_same_targets(cold, monkeypatch):
    splits = []

    def noting(self, part, run, valid):
        splits.append((part, valid))
        raise InterruptedError

    monkeypatch.setattr(SASRec, "fit", noting)
    split = last_out(cold[0])
    with pytest.raises(InterruptedError):
        model().fit(split.train, RUN, split)
    assert splits == [(split.train, split)]


def test_negatives_are_items_with_events(fitted):
    warm = np.array([1, 4, 6, 9])
    drawn = {row for seed in range(9) for row in _drawn(fitted, warm, seed).tolist()}
    assert drawn == set(warm.tolist())
    assert _drawn(fitted, warm, 0, negatives=9).tolist() == warm.tolist()


def _drawn(method, warm, seed, negatives=2):
    copied = method._with_state()
    copied.negatives = negatives
    rows = copied._draw_negatives(warm, np.random.default_rng(seed))
    assert len(set(rows.tolist())) == len(rows) == min(negatives, len(warm))
    return rows


def test_the_cosine_of_tokens_by_hand(fitted):
    with torch.inference_mode():
        first, second = fitted._ready().catalogue()[:, 1:].unbind(dim=1)
    expected = (first * second).sum(dim=-1).mean().item()
    assert fitted.fit_report_["token_cosine"] == pytest.approx(expected, abs=1e-3)


def test_items_without_events_have_the_mean_behaviour(fitted):
    cold_rows = fitted.behaviour_[~fitted.is_warm_]
    assert (cold_rows == fitted.behaviour_[fitted.is_warm_].mean(axis=0)).all()
    assert fitted.fit_report_["items_without_events"] == len(cold_rows) == 10


def test_new_items_join_by_their_text(cold, fitted):
    data, cold_ids = cold
    title = title_of(data, cold_ids[0])
    news = Dataset.from_events(
        {"user_id": ["n", "n"], "item_id": ["new", "blank"], "time_ms": [1, 2]},
        items={"item_id": ["new", "blank"], "title": [title, ""]},
    )
    more = fitted.with_items(news)
    assert len(more.items_) == len(fitted.items_) + 1
    query = Query(history=History.of(*data.catalogue.ids[data.sequences.rows[0][:3]]))
    scores = more.recommend([query], len(more.items_))[0]
    by_id = dict(zip(scores.ids, scores.scores, strict=True))
    assert by_id["new"] == pytest.approx(by_id[cold_ids[0]], abs=1e-5)
    before = fitted.recommend([query], len(fitted.items_))[0]
    assert [item for item in scores.ids if item != "new"] != [] and len(before) + 1 == len(scores)


def test_texts_that_are_all_the_same_teach_nothing_wrong(cold):
    data, _ = cold
    items = data.tables["items"].with_columns(title=pl.lit("the same thing"))
    method = model(epochs=2).fit(Dataset({**data.tables, "items": items}), RUN)
    answer = method.recommend([Query(history=History.of(str(data.catalogue.ids[0])))], 5)[0]
    assert np.isfinite(answer.scores).all()
    none = data.tables["items"].with_columns(title=pl.lit(""))
    bare = model(epochs=1).fit(Dataset({**data.tables, "items": none}), RUN)
    with pytest.raises(DataError, match="no item had a text"):
        bare.with_items(data)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"tokens": 0}, DataError, "tokens is 0"),
        ({"hidden": ()}, DataError, r"hidden \(\)"),
        ({"beta": 1.5}, DataError, "beta is 1.5"),
        ({"inner": HashingEncoder(8)}, ModelError, "it must be SASRec"),
        ({"negatives": 0}, DataError, "negatives is 0"),
        ({"heads": 3}, DataError, "heads must divide"),
    ],
)
def test_settings_out_of_range_are_named(settings, error, message):
    with pytest.raises(error, match=message):
        model(**settings)
