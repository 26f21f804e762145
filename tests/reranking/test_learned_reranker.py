"""Learned rerankers: lists held out choose the epoch, stages follow each other, seeds decide."""

from dataclasses import dataclass

import numpy as np
import pytest
from reranking.planted_vectors import NumbersEncoder, judged_data

pytest.importorskip("torch")

import torch
from torch import nn

from tailor.core.run import Run
from tailor.errors import ModelError, NotFittedError
from tailor.pipeline.cascade import Cascade
from tailor.reranking.examples import ListJudge, list_ndcg
from tailor.reranking.learned_reranker import HELD_OUT, LearnedReranker
from tailor.reranking.pair_features import list_vectors
from tailor.reranking.shortlist import Shortlist
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.text_match import TextMatch
from tailor.testing.data import tiny_data

RUN = Run(workers=1, dtype="float32")


@dataclass(eq=False)
class Lengths(LearnedReranker):
    """Learns one weight of the texts' lengths; a stage pulls it to a number."""

    def _make_net(self):
        return nn.Linear(1, 1, bias=False)

    def _inputs(self, shortlists):
        return [np.array([float(len(text)) for text in one.texts]) for one in shortlists]

    def _stages(self):
        return {"up": self._pull(2.0), "down": self._pull(-3.0)}

    def _pull(self, target):
        def loss(read, gains):
            self.read = [*getattr(self, "read", []), len(read)]
            return (self._net.weight.squeeze() - target) ** 2

        return loss

    @torch.no_grad()
    def _list_scores(self, read):
        return read * self._ready().weight.item()


def lists_of(sizes):
    requests = [f"request {number}" for number in range(len(sizes))]
    lists = [[("x" * (i + 1), float(i == 0)) for i in range(size)] for size in sizes]
    return judged_data(requests, lists)


def fitted(**settings):
    settings = {"lr": 0.5, "epochs": 30, "patience": None} | settings
    return Lengths(**settings).fit(lists_of(range(2, 12)), RUN)


def test_stages_follow_each_other():
    method = fitted()
    assert method._ready().weight.item() < -2
    assert list(method.fit_report_) == ["lists", "held_out", "up", "down"]


def test_lists_held_out_are_not_learned_from_and_choose_the_epoch():
    method = fitted()
    assert (method.fit_report_["lists"], method.fit_report_["held_out"]) == (8, 2)
    assert len(set(method.read)) == 8 and HELD_OUT == 0.2
    # the first document is the relevant one, and the shortest: below 0 all lists are right
    chosen = fitted(patience=3, epochs=10)
    assert chosen.fit_report_["down"]["stopped"].startswith("no better value")
    assert chosen._ready().weight.item() < 0


def test_the_same_seed_learns_the_same():
    first, second = fitted(epochs=2), fitted(epochs=2)
    assert np.array_equal(first.net_weights_["weight"], second.net_weights_["weight"])


def test_what_is_not_fitted_orders_nothing_and_settings_are_checked():
    with pytest.raises(NotFittedError):
        Lengths().rerank([Shortlist.of_texts("a", ["b"])])
    for wrong in ({"lr": 0.0}, {"epochs": 0}, {"batch": 0}):
        with pytest.raises(ModelError):
            Lengths(**wrong)


@dataclass(eq=False)
class Untaught(Lengths):
    """Orders lists without learning."""

    @property
    def _needs_fit(self):
        return False


def test_a_second_stage_learns_from_the_lists_of_the_first():
    data = tiny_data()
    settings = {"lr": 0.5, "epochs": 1, "patience": None}
    pipeline = Cascade(CoVisitation(), Lengths(**settings, depth=7), depth=7).fit(data, RUN)
    assert pipeline.fit_report_["lists"] > 20
    # by words alone a list would have up to 40 documents
    assert set(pipeline.rank_.read) <= set(range(2, 8))
    assert pipeline.rank_.fit_report_["lists"] > 0
    plain = Cascade(CoVisitation(), Untaught(**settings), depth=7).fit(data, RUN)
    assert "lists" not in plain.fit_report_


def test_a_second_stage_learns_from_judgements_where_there_are_no_events():
    data = lists_of(range(2, 12))
    pipeline = Cascade(TextMatch(), Lengths(epochs=1, patience=None)).fit(data, RUN)
    assert pipeline.rank_.fit_report_["lists"] > 0


def test_ndcg_of_a_list_by_hand():
    gains = np.array([0.0, 2.0, 1.0])
    best = 2 + 1 / np.log2(3)
    assert list_ndcg(np.array([3.0, 2.0, 1.0]), gains) == pytest.approx(
        (2 / np.log2(3) + 0.5) / best
    )
    assert list_ndcg(np.array([0.0, 2.0, 1.0]), gains) == 1
    assert list_ndcg(np.zeros(3), gains, k=1) == 0  # ties keep the list's order
    assert list_ndcg(np.zeros(2), np.zeros(2)) == 0
    judge = ListJudge([1.0, -1.0], [gains, gains], lambda sign: sign * np.array([0.0, 2.0, 1.0]))
    worst = (1 / np.log2(3) + 2 / 2) / best
    assert judge.value(None) == pytest.approx((1 + worst) / 2)


def test_vectors_of_lists_are_encoded_once_and_blank_texts_have_none():
    lists = [Shortlist.of_texts("1 0", ["0 1", ""]), Shortlist.of_texts("", [])]
    first, second = list_vectors(NumbersEncoder(2), lists)
    assert first.request.tolist() == [1, 0] and first.documents.tolist() == [[0, 1], [0, 0]]
    assert second.request.tolist() == [0, 0] and second.documents.shape == (0, 2)
