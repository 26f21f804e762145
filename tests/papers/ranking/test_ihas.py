"""iHAS: a search on some examples, clusters of gates, and nets with fixed dimensions."""

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from tailor.core.run import Run
from tailor.data.examples import Outcome
from tailor.data.splits import by_time
from tailor.errors import DataError
from tailor.papers.ranking.ihas import IHAS
from tailor.testing.data import tiny_data
from tailor.worlds.tabular import tabular

SETTINGS = {"width": 4, "layers": (8,), "epochs": 1, "search_epochs": 1, "controller": 8}


def test_search_and_nets_learn_from_different_examples_and_the_router_stays():
    learned = {}
    routers = []

    class Spy(IHAS):
        def _train_stage(self, data, run, examples, judge, stage=""):
            keys = examples.queries.now_ms * 1_000 + examples.items
            learned[stage] = set(zip(keys.tolist(), examples.labels.tolist(), strict=True))
            report = super()._train_stage(data, run, examples, judge, stage)
            net = self._net
            routers.append((net.vectors if stage == "search" else net.router).state_dict())
            return report

    Spy(**SETTINGS).fit(tiny_data(), Run(workers=1))
    assert learned["search"] and learned["nets"]
    assert not learned["search"] & learned["nets"]
    searched, final = routers
    assert all(torch.equal(searched[name], final[name]) for name in searched)


def test_every_field_keeps_a_dimension_and_the_report_counts_them():
    method = IHAS(l1=1.0, **SETTINGS).fit(tiny_data(), Run(workers=1))
    assert (method.masks_.sum(axis=2) >= 1).all()
    for mask, cluster in zip(method.masks_, method.fit_report_["clusters"], strict=True):
        assert list(cluster["dimensions"].values()) == mask.sum(axis=1).tolist()
        sizes = method.features_["sizes"]
        assert cluster["numbers"] == sum(np.array(sizes) * mask.sum(axis=1))


def test_a_small_cluster_is_given_up():
    method = IHAS(clusters=2, smallest=0.2, **SETTINGS)
    method.fit(tiny_data(), Run(workers=1))
    width = method.item_codes_.shape[1]
    assert width
    size = method._ready_features().layout.fields * method.width
    gates = np.zeros((100, size), np.float32)
    gates[:, 0] = 1
    gates[:5, 1:] = 1
    report = method._cluster(gates, Run())
    assert report["clusters given up"] == 1 and len(method.centres_) == 1
    assert (method.masks_.sum(axis=2) >= 1).all(), "a field whose gates are shut keeps one number"


@pytest.mark.parametrize("base", ["fm", "deepfm", "dcn"])
def test_each_base_is_searched(base, tmp_path):
    data = tiny_data()
    method = IHAS(base=base, **SETTINGS).fit(data, Run(workers=1))
    again = IHAS.load(method.save(tmp_path / base))
    examples = Outcome("drawn", length=0).learn(data, np.random.default_rng(0))
    assert np.array_equal(method.cluster_of(examples), again.cluster_of(examples))


def test_settings_out_of_range_are_refused():
    for settings, says in (
        ({"clusters": 0}, "clusters"),
        ({"l1": -1.0}, "l1"),
        ({"warmup": 1.0}, "warmup"),
    ):
        with pytest.raises(DataError, match=says):
            IHAS(**settings)


@pytest.mark.slow
def test_clusters_are_the_planted_kinds():
    world = tabular(
        events=20_000, users=20_000, fields=4, values=10, linear=2.5, strength=0, kinds=2, seed=1
    )
    split = by_time(world.data)
    method = IHAS(
        source="label",
        label="liked",
        width=8,
        layers=(32,),
        lr=3e-3,
        batch=256,
        least=20,
        search_share=0.5,
        search_epochs=15,
        epochs=3,
        l1=0.2,
        fields=(
            "user:channel",
            *(f"{side}_{i}" for side in ("user:user", "item:item") for i in range(4)),
        ),
    ).fit(split.train, Run(workers=1), split)
    examples = Outcome("label", "liked", length=0).learn(split.train, np.random.default_rng(0))
    order = np.argsort(np.argsort(examples.queries.now_ms))
    kinds = world.kinds[split.part == 0][order]
    assert adjusted_rand_score(kinds, method.cluster_of(examples)) > 0.6
