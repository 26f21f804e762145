"""Information consistency: rewards for agreement between wordings, beside good items."""

import functools

import numpy as np
import polars as pl
import pytest

pytest.importorskip("torch")

import torch
from reranking.planted_vectors import NumbersEncoder, text_of

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query
from tailor.errors import ModelError
from tailor.evaluation.consistency import Consistency
from tailor.papers.reranking.info_consistency import InfoConsistency, Wordings, list_rewards
from tailor.testing.data import tiny_data
from tailor.text.hashing import HashingEncoder
from tailor.text.wordings import reworded

RUN = Run(workers=1, dtype="float32")
REQUESTS, GOOD, DIMS = 4, 8, 12
ENCODER = NumbersEncoder(DIMS)
FEW = {"k": 4, "taught_epochs": 100, "taught_lr": 0.2, "epochs": 80, "lr": 0.1, "closeness": 0.01}


def world(wordings, seed, common=0.0, blank=False):
    """Requests that are a direction each, worded with noise; eight items answer each equally.

    All requests share `common` of one direction. Items are random vectors, or `blank`.
    """
    rng = np.random.default_rng(seed)
    requests, judgements = [], []
    for request in range(REQUESTS):
        for wording in range(wordings):
            vector = 4.0 * np.eye(DIMS)[request] + common * np.eye(DIMS)[REQUESTS]
            vector[REQUESTS + 1 :] = rng.standard_normal(DIMS - REQUESTS - 1)
            key = f"q{request}-{wording}"
            requests.append((key, f"intent {request}", text_of(vector)))
            judgements += [(key, f"item {request} {i}", 1.0) for i in range(GOOD)]
    ids = [f"item {request} {i}" for request in range(REQUESTS) for i in range(GOOD)]
    vectors = np.random.default_rng(9).standard_normal((len(ids), DIMS))
    texts = ["" if blank else text_of(vector) for vector in vectors]
    return Dataset(
        {
            "items": pl.DataFrame({"item_id": ids, "text": texts}),
            "requests": pl.DataFrame(
                requests, schema=["request_id", "intent_id", "text"], orient="row"
            ),
            "judgements": pl.DataFrame(
                judgements, schema=["query_id", "item_id", "grade"], orient="row"
            ),
        }
    )


LEARN, UNSEEN = world(8, 0), world(4, 1)
SHARED = {"common": 8.0, "blank": True}


@functools.cache
def audit(learn=LEARN, unseen=UNSEEN, **settings):
    method = InfoConsistency(ENCODER, **(FEW | settings)).fit(learn, RUN)
    report = Consistency(k=4).run(unseen, {"mine": method}, RUN)
    return report.to_dict()["tables"]["consistency"][0]


def test_rewards_give_unseen_wordings_more_of_the_same_items_and_as_good_ones():
    taught, helpful, rewarded = audit(epochs=0), audit(help_share=1.0), audit()
    # agreement does it, not the further training
    assert rewarded["in common"] > max(taught["in common"], helpful["in common"]) + 0.2
    assert rewarded["NDCG"] > max(taught["NDCG"], helpful["NDCG"]) - 0.01
    assert rewarded["in common of different requests"] < 0.2


def test_agreement_without_help_collapses_to_one_list():
    worlds = world(8, 0, **SHARED), world(4, 1, **SHARED)
    collapsed = audit(*worlds, taught_epochs=0, help_share=0.0)
    helpful = audit(*worlds, taught_epochs=0)
    assert collapsed["in common"] > 0.9 and collapsed["NDCG"] < 0.5
    assert collapsed["in common of different requests"] > 0.9
    assert helpful["NDCG"] > collapsed["NDCG"] + 0.1
    assert helpful["in common of different requests"] < 0.8


def test_rewards_by_hand():
    orders = torch.tensor([[[0, 1], [0, 2]], [[0, 1], [3, 4]]])  # G = 2, P = 2, k = 2
    log_probs = torch.tensor([[-1.0, -2.0], [-1.0, -8.0]])
    good = np.array([0, 3])
    second = 1 / np.log2(3)
    helpful = np.array([1, 1, 1, 1]) / (1 + second)  # the first place of each list is good
    in_common = np.array([1, 1 / 3, 1, 0])  # the vote is items 0 and 1
    information = np.array([0.5, 1.0, 0.5, 4.0])  # their mean is 1.5
    steady = np.maximum(1 - np.abs(information - 1.5), 0)
    expected = 0.5 * helpful + 0.5 * (in_common + steady) / 2
    rewards = list_rewards(orders, log_probs, good, 0.5)
    assert rewards.shape == (2, 2)
    assert rewards.flatten().numpy() == pytest.approx(expected, abs=1e-6)
    assert list_rewards(orders, log_probs, good, 1.0).flatten().numpy() == pytest.approx(helpful)


def test_a_list_is_rewarded_against_all_wordings_of_its_group():
    method = InfoConsistency(ENCODER, k=2, draws=2)
    method.items_, method.width_ = LEARN.catalogue, DIMS
    method._start_net(RUN)
    group = Wordings(np.eye(3, DIMS, dtype=np.float32), np.arange(3))
    reference = method._make_net()
    reference.load_state_dict(method._net.state_dict())
    seen = []

    def watch(rewards, scaled=True):
        seen.append(rewards.shape)
        return rewards - rewards.mean()

    from tailor.papers.reranking import info_consistency

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(info_consistency, "advantages", watch)
        method._reward_loss([group], reference).backward()
    assert seen == [(6,)]  # two draws of three wordings
    assert method._net.weight.grad.abs().sum() > 0


def test_closeness_holds_the_policy_at_what_it_was_taught():
    held = audit(closeness=1_000.0)["in common"]
    assert held < (audit(epochs=0)["in common"] + audit()["in common"]) / 2


def test_at_most_so_many_wordings_are_drawn():
    group = Wordings(np.eye(8, DIMS, dtype=np.float32), np.arange(2))
    drawn = InfoConsistency(ENCODER, wordings=5)._drawn(group, np.random.default_rng(0))
    assert len(drawn.vectors) == 5 and len(np.unique(drawn.vectors, axis=0)) == 5


def test_without_intents_only_items_are_taught():
    requests = LEARN.tables["requests"].drop("intent_id")
    data = Dataset({**LEARN.tables, "requests": requests})
    method = InfoConsistency(ENCODER, **(FEW | {"taught_epochs": 1, "epochs": 1})).fit(data, RUN)
    report = method.fit_report_
    assert "taught" in report and "rewarded" not in report
    assert report["requests"] == report["wordings"] == 32


def test_untrained_it_compares_requests_with_items():
    data = tiny_data()
    method = InfoConsistency(HashingEncoder(64)).fit(data, RUN)
    assert "no request" in method.fit_report_["stopped"]
    best = method.recommend([Query(text="copper kettle")], 1)[0].ids[0]
    titles = dict(zip(data.catalogue.ids.tolist(), data.texts_of("title"), strict=True))
    assert "kettle" in titles[best]


def test_without_a_request_the_latest_items_stand_in():
    data = tiny_data()
    method = InfoConsistency(HashingEncoder(64), history_length=1).fit(data, RUN)
    text = data.item_texts[int(data.catalogue.rows(["thing-004"])[0])]
    by_text = method.recommend([Query(text=text)], 3)[0].ids
    history = History.of("thing-001", "thing-004")
    assert method.recommend([Query(history=history)], 3)[0].ids == by_text
    nothing = method.recommend([Query()], 3)[0]
    assert not nothing.ids and nothing.notes


def test_the_consensus_is_of_several_manners_of_asking():
    data = tiny_data()
    voted = InfoConsistency(HashingEncoder(64), consensus=3).fit(data, RUN)
    plain = InfoConsistency(HashingEncoder(64)).fit(data, RUN)
    texts = reworded("a brass lamp", 3)
    assert len(set(texts)) == 3 and texts[0] == "a brass lamp"
    scores = [plain._scores(queries_of(text))[0] for text in texts]
    found = voted._scores(queries_of("a brass lamp"))[0]
    assert found == pytest.approx(np.mean(scores, axis=0), abs=1e-5)


def queries_of(text):
    from tailor.data.queries import Queries

    return Queries.of([Query(text=text)])


def test_settings_are_checked():
    for wrong in (
        {"help_share": 1.5},
        {"draws": 1},
        {"consensus": 99},
        {"lr": 0.0},
        {"epochs": -1},
    ):
        with pytest.raises(ModelError):
            InfoConsistency(**wrong)
