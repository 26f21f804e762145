"""The grid of item forms: its figures are those of the protocols, its language model sees no
answer, and what is invalid is counted.
"""

import json
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
import pytest

from tailor.bench.suites import read_suite
from tailor.core.run import Run
from tailor.core.specs import discover_studies, spec
from tailor.data.dataset import Dataset
from tailor.data.queries import Rankings
from tailor.data.splits import last_out
from tailor.errors import DataError, ModelError
from tailor.evaluation.protocol import evaluate
from tailor.papers.evaluation.recbench import LISTS, ZERO_SHOT, RecBench, _valid, forms
from tailor.ports.base import LanguageModel
from tailor.ranking.logistic_regression import LogisticRegression
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.popularity import Popularity
from tailor.testing.data import tiny_data
from tailor.text.hashing import HashingEncoder

DATA = tiny_data(users=80, items=60, events=9)


@dataclass(frozen=True)
class Heard(LanguageModel):
    """Likes what shares a word with the prompt's list, and keeps every prompt."""

    prompts: list = field(default_factory=list, hash=False, compare=False)

    fingerprint = "heard"

    def capabilities(self):
        return frozenset({"score"})

    def complete(self, prompts, **settings):
        raise AssertionError("nothing is to be written")

    def score(self, prompts, answers):
        self.prompts.extend(zip(prompts, answers, strict=True))
        return np.array(
            [
                -1.0 if answer == "yes" else -2.0 if answer == "no" else -float(len(answer))
                for answer in answers
            ]
        )


@pytest.fixture(scope="module")
def model():
    return Heard()


@pytest.fixture(scope="module")
def grid(model):
    return RecBench(model, requests=10, people=12).run(
        DATA, {"id": CoVisitation(), "nothing": Popularity()}, Run(seed=1)
    )


def test_every_form_has_both_tasks_and_the_figures_are_the_protocols(grid):
    split = last_out(DATA)
    report = evaluate({"id": CoVisitation().fit(split.train)}, split, metrics=("NDCG",))
    cell = grid.cell("id", "next item")
    assert cell.accuracy == pytest.approx(report.mean("id", "NDCG@10", "removed"))
    assert cell.valid == 1.0 and cell.trained and cell.fit_s >= 0 and cell.bytes > 0
    assert 0 < cell.p50_ms <= cell.p95_ms
    assert grid.cell("id", "CTR").accuracy == grid.predictions.overall("id", "AUC") > 0.6
    assert {(one.form, one.task) for one in grid.cells if one.trained} == {
        (form, task) for form in ("id", "nothing") for task in ("CTR", "next item")
    }
    assert json.loads(json.dumps(grid.to_dict(), allow_nan=False))["cells"]


def test_the_language_model_is_judged_apart_and_beside_the_nets_on_the_same_lists(grid):
    for form in ("id", "nothing", ZERO_SHOT):
        assert "lists of 20: 12 people" in grid.cell(form, "next item", "lists").ranked
        assert "lists of 2: 12 people" in grid.cell(form, "CTR", "lists").ranked
    zero = grid.cell(ZERO_SHOT, "CTR", "lists")
    assert not zero.trained and zero.accuracy == 0.5  # the same answer for everything
    with pytest.raises(DataError, match="no cell of form"):
        grid.cell(ZERO_SHOT, "CTR")


def test_no_prompt_for_the_next_item_names_it(grid, model):
    asked = {}
    for prompt, answer in model.prompts:
        if answer not in ("yes", "no"):
            asked.setdefault(prompt, set()).add(answer)
    assert len(asked) == 12 and all(len(titles) == LISTS + 1 for titles in asked.values())
    targets = 0
    for prompt, titles in asked.items():
        shown = {line.split("] ", 1)[-1].strip() for line in prompt.splitlines()}
        targets += not titles & shown
    assert targets == 12


def test_people_whose_history_holds_the_targets_title_are_left_out_and_counted():
    events = [
        (f"u{user}", item, at)
        for user in range(30)
        for at, item in enumerate((f"i{user % 7}", f"i{(user + 1) % 7}", "one", "other"))
    ]
    events += [(f"x{item}", f"i{item}", at) for item in range(30) for at in range(3)]
    items = pl.DataFrame(
        {
            "item_id": ["one", "other", *(f"i{at}" for at in range(30))],
            "title": ["Same", "Same", *(f"Title {at}" for at in range(30))],
        }
    )
    data = Dataset(
        {
            "events": pl.DataFrame(events, schema=["user_id", "item_id", "time_ms"], orient="row"),
            "items": items,
        }
    )
    found = RecBench(Heard(), requests=3, people=60).run(data, {"a": Popularity()})
    assert found.leaks == 60  # everybody repeats a title: nobody is left to ask
    assert np.isnan(found.cell(ZERO_SHOT, "CTR", "lists").accuracy)


def test_what_is_excluded_twice_or_no_item_is_not_valid():
    split = last_out(DATA)
    queries = split.queries("test")[0][:2].without_history()
    barred = int(queries.exclude[0][0])
    free = [row for row in range(60) if row not in set(queries.exclude.values.tolist())][:3]
    good = Rankings(
        queries.catalogue,
        np.array([[free[0], free[1]], [free[1], free[2]]]),
        np.zeros((2, 2), np.float32),
    )
    bad = Rankings(
        queries.catalogue,
        np.array([[free[0], barred], [free[1], free[1]]]),
        np.zeros((2, 2), np.float32),
    )
    assert _valid(good, queries, split) == 1.0
    assert _valid(bad, queries, split) == 0.5


def test_the_forms_differ_in_the_item_and_not_in_the_net():
    pytest.importorskip("torch")
    four = forms(width=16, blocks=1, epochs=2)
    assert list(four) == ["id", "text", "embedding", "semantic id"]
    shared = (
        "width",
        "blocks",
        "heads",
        "length",
        "dropout",
        "epochs",
        "sampler",
        "batch_places",
        "patience",
    )
    assert len({tuple(getattr(one, name) for name in shared) for one in four.values()}) == 1
    # theirs may not be here
    four |= {
        name: replace(four[name], encoder=HashingEncoder(32))
        for name in ("embedding", "semantic id")
    }
    found = RecBench(requests=3).run(DATA, four, Run(workers=1))
    sizes = {
        name: sum(
            size.size for weight, size in one.net_weights_.items() if ".layers." in f".{weight}"
        )
        for name, one in four.items()
    }
    assert len(set(sizes.values())) == 1 and min(sizes.values()) > 0
    assert all(cell.valid == 1.0 for cell in found.cells if cell.task == "next item")


def test_the_suite_holds_the_same_forms():
    pytest.importorskip("torch")
    assert read_suite("item-forms").methods == {
        name.replace(" ", "-"): spec(one) for name, one in forms().items()
    }


def test_bad_methods_are_refused_and_the_study_is_found():
    with pytest.raises(ModelError, match="must be a recommender"):
        RecBench().run(DATA, {"id": LogisticRegression()})
    assert "RecBench" in {one.cls.__name__ for one in discover_studies()}
