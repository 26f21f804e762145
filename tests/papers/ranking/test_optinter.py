"""OptInter: a search on halves of the examples, then a new net with one operation a pair."""

import numpy as np
import pytest

from tailor.core.run import Run
from tailor.data.splits import by_time
from tailor.errors import DataError
from tailor.nn.pair_operations import OPERATIONS
from tailor.papers.ranking.optinter import OptInter
from tailor.testing.data import tiny_data
from tailor.worlds.tabular import tabular

SETTINGS = {"width": 4, "pair_width": 2, "layers": (8,), "epochs": 1, "search_epochs": 1}
LIKED = {"source": "label", "label": "liked"}


def test_shares_learn_from_one_half_and_vectors_from_the_other():
    gradients = {}

    class Spy(OptInter):
        def _loss(self, batch, labels, rows, rng):
            if self._net.shares is not None and not gradients:
                for half in (False, True):
                    self._is_for_shares = np.full(len(self._is_for_shares), half)
                    self._net.zero_grad()
                    super()._loss(batch, labels, rows, rng).backward()
                    gradients[half] = {
                        name: 0.0 if param.grad is None else param.grad.abs().sum().item()
                        for name, param in self._net.named_parameters()
                    }
                self._net.zero_grad()
            return super()._loss(batch, labels, rows, rng)

    Spy(l2=0.0, **SETTINGS).fit(tiny_data(), Run(workers=1))
    assert gradients[True]["shares"] > 0
    assert all(grad == 0 for name, grad in gradients[True].items() if name != "shares")
    assert gradients[False]["shares"] == 0
    assert gradients[False]["crosses.table.weight"] > 0


def test_only_chosen_tables_keep_their_vectors():
    data = tiny_data()
    names = ("item_id", "item:categories", "hour")
    every = OptInter(fields=names, operations=("table",), **SETTINGS).fit(data, Run(workers=1))
    mixed = OptInter(fields=names, operations=("none", "product", "table"), **SETTINGS)
    mixed.fit(data, Run(workers=1))
    assert mixed.fit_report_["operations"] == {"none": 1, "product": 1, "table": 1}
    assert len(mixed.cross_keys_) < len(every.cross_keys_)
    assert mixed.fit_report_["share of cross vectors"] == pytest.approx(
        len(mixed.cross_keys_) / len(every.cross_keys_), abs=1e-4
    )
    assert mixed._net.crosses.table.weight.shape[0] == len(mixed.cross_keys_) + 1


def test_the_report_names_pairs_with_their_information():
    world = tabular(events=6_000, users=6_000, items=300, values=5, tables=1, linear=0, strength=3)
    (acting,) = [pair for pair, name in world.operations.items() if name == "table"]
    method = OptInter(**LIKED, **SETTINGS).fit(world.data, Run(workers=1))
    rows = {frozenset(row["pair"]): row for row in method.fit_report_["pairs"]}
    assert all(row["operation"] in OPERATIONS for row in rows.values())
    best = max(rows.values(), key=lambda row: row["information"])
    assert {name.split(":")[1] for name in best["pair"]} == set(acting)


def test_the_second_net_has_new_weights():
    seen = []

    class Spy(OptInter):
        def _start_net(self, run):
            super()._start_net(run)
            seen.append(self._net)

    Spy(**SETTINGS).fit(tiny_data(), Run(workers=1))
    searched, final = seen
    assert searched.shares is not None and final.shares is None
    assert not any(a is b for a in searched.parameters() for b in final.parameters())


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"operations": ("sum",)}, 'holds "sum"'),
        ({"cooling": 1.0}, "cooling"),
        ({"search_epochs": 0}, "search_epochs"),
    ],
)
def test_settings_out_of_range_are_refused(settings, says):
    with pytest.raises(DataError, match=says):
        OptInter(**settings)


def test_operations_must_be_one_for_each_pair():
    with pytest.raises(DataError, match="2 names for 3 pairs"):
        OptInter(
            fields=("item_id", "hour", "weekday"), operations=("table", "none"), **SETTINGS
        ).fit(tiny_data(), Run(workers=1))


@pytest.mark.slow
def test_tables_and_idle_pairs_are_found():
    world = tabular(
        events=30_000, users=30_000, fields=2, values=20, tables=2, linear=0.5, strength=3, seed=1
    )
    split = by_time(world.data)
    names = ("user:user_0", "user:user_1", "item:item_0", "item:item_1")
    method = OptInter(
        **LIKED, fields=names, layers=(32,), epochs=2, search_epochs=3, lr=3e-3, batch=512
    ).fit(split.train, Run(workers=1), split)
    for row in method.fit_report_["pairs"]:
        pair = tuple(sorted((name.split(":")[1] for name in row["pair"]), reverse=True))
        acts = world.operations.get(pair, "none") == "table"
        assert (row["operation"] == "table") == acts, row
