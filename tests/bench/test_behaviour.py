"""Test syntax trees, the comparison of answers, and planted bugs."""

import math
from pathlib import Path

import pytest
import torch
from threadpoolctl import threadpool_limits

from tailor.bench.behaviour import answers_of, difference, figures_as_answers, tree_hash
from tailor.bench.claims import statuses
from tailor.nn import losses
from tailor.papers.retrieval.alpharec import AlphaRec
from tailor.papers.retrieval.hllm import HLLM
from tailor.papers.retrieval.personalized_pagerank import PersonalizedPageRank
from tailor.ranking.logistic_regression import LogisticRegression
from tailor.reranking.mmr import Diversify
from tailor.retrieval.popularity import Popularity
from tailor.retrieval.text_match import TextMatch

ROOT = Path(__file__).parents[2]
SOURCE = '''"""A module."""

import numpy as np
from tailor.core.methods import Method
from tailor.core.run import Run

SCALE = 2.0


class Planted:
    """A method."""

    width: int = 8
    """How wide."""

    def scale(self, values):
        """Double."""
        from tailor.data.arrays import Ragged

        return SCALE * np.asarray(values)  # doubled


def measure(run):
    return SCALE


def measure_long(run):
    return unused(run)


def unused(run):
    return measure(run)
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  # doubled", ""),
        ('"""Double."""\n        ', ""),
        ('    """How wide."""\n', ""),
        ('"""A module."""', '"""Another text."""'),
        (
            "return SCALE * np.asarray(values)",
            "return (\n            SCALE\n            * np.asarray(values)\n        )",
        ),
        (
            "from tailor.core.methods import Method",
            "from tailor.verbs import Method",
        ),
        ("from tailor.data.arrays", "from tailor.core.arrays"),
    ],
    ids=[
        "comment",
        "docstring",
        "attribute docstring",
        "module docstring",
        "format",
        "import",
        "inner import",
    ],
)
def test_what_does_nothing_leaves_the_tree_as_it_was(old, new):
    assert old in SOURCE
    assert tree_hash(SOURCE.replace(old, new)) == tree_hash(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("SCALE = 2.0", "SCALE = 2"),
        ("width: int = 8", "width: int = 9"),
        ("SCALE * np", "SCALE + np"),
        ("import numpy as np", "import scipy as np"),
        ("import Run", "import Walk as Run"),
    ],
)
def test_what_does_something_is_another_tree(old, new):
    assert old in SOURCE
    assert tree_hash(SOURCE.replace(old, new)) != tree_hash(SOURCE)


def test_a_function_of_a_program_is_hashed_with_what_it_reaches():
    quick, long = tree_hash(SOURCE, "measure"), tree_hash(SOURCE, "measure_long")
    other_helper = SOURCE.replace("return measure(run)", "return 1 + measure(run)")
    assert tree_hash(other_helper, "measure") == quick
    assert tree_hash(other_helper, "measure_long") != long
    other_constant = SOURCE.replace("SCALE = 2.0", "SCALE = 3.0")
    assert tree_hash(other_constant, "measure") != quick
    assert tree_hash(other_constant, "measure_long") != long
    local = SOURCE.replace("return measure(run)", "return [measure for measure in run]")
    other_entry = local.replace("    return SCALE\n", "    return 2 * SCALE\n")
    assert tree_hash(other_entry, "measure_long") == tree_hash(local, "measure_long")
    renamed = SOURCE.replace("def measure_long", "def measure_at_length")
    assert tree_hash(renamed, "measure_at_length") == long
    with pytest.raises(KeyError):
        tree_hash(SOURCE, "measure_twice")


def lists(line: str) -> dict:
    return {"Planted": {"lists": {"user-1": line}}}


@pytest.mark.parametrize(
    "line",
    [
        "a 3.00001, b 2, c 1.00001, d 1",
        "a 3, b 2, d 1, c 1",  # c and d are nearly tied
        "a 3, b 2, c 1.00002, e 1.00001",  # so is e, which stood behind the last
    ],
)
def test_scores_to_the_fourth_digit_and_near_ties_agree(line):
    assert difference(lists("a 3, b 2, c 1.00003, d 1"), lists(line)) == ""


@pytest.mark.parametrize(
    "line",
    ["b 3, a 2, c 1, d 1", "a 3, b 2, c 1", "a 3.001, b 2, c 1, d 1", "a 3, e 2, c 1, d 1", ""],
)
def test_other_lists_differ_and_the_difference_is_named(line):
    text = difference(lists("a 3, b 2, c 1, d 1"), lists(line))
    assert text.startswith("Planted, lists of user-1: a 3, b 2, c 1, d 1 is now")


def test_a_class_or_a_query_more_or_less_differs():
    old = lists("a 1")
    assert difference(old, {**old, "Other": {}}) == "Other is new"
    assert difference({**old, "Other": {}}, old) == "Other is gone"
    assert "user-2" in difference(old, {"Planted": {"lists": {"user-1": "a 1", "user-2": ""}}})


def test_figures_of_a_study_agree_to_the_fourth_digit_and_its_words_exactly():
    old = {"Study": figures_as_answers({"NDCG": 0.12345, "AUC": math.nan, "front": "ease"})}
    new = {"Study": figures_as_answers({"NDCG": 0.12346, "AUC": math.nan, "front": "ease"})}
    assert difference(old, new) == ""
    for changed in ({"NDCG": 0.2}, {"AUC": 0.5}, {"front": "knn"}):
        figures = {"NDCG": 0.12345, "AUC": math.nan, "front": "ease", **changed}
        assert difference(old, {"Study": figures_as_answers(figures)})


def test_answers_are_lists_or_values_of_known_users_of_words_and_of_a_newcomer():
    answers = answers_of(TextMatch)["lists"]
    assert len(answers) == 10
    assert answers["words"].startswith("thing-0")
    assert answers["newcomer"]
    assert "thing-000" not in answers["person-000"]
    values = answers_of(LogisticRegression)["values"]
    assert all(len(line.split()) == 3 for line in values.values())
    assert answers_of(Diversify)["lists"]["person-000"]


@pytest.mark.parametrize("cls", [AlphaRec, HLLM, PersonalizedPageRank, Popularity, TextMatch])
def test_answers_are_the_same_with_one_and_two_threads(cls):
    answers = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            with threadpool_limits(threads):
                answers.append({cls.__name__: answers_of(cls)})
    finally:
        torch.set_num_threads(before)
    assert difference(*answers) == ""


# ---- bugs in shared parts: exactly the papers that use the part are flagged

SEQUENCES = {
    "ada-retrieval",
    "desmil",
    "genpas",
    "hcn",
    "icsrec",
    "idnp",
    "mqsa-ted",
    "recbench",
    "recformer",
    "recgpt",
}
CORRECTED = {*SEQUENCES, "cdrec", "hllm", "setrec", "unicon"}  # AlphaRec and SESA ask for none
UNMASKED = {*SEQUENCES, "alpharec", "cdrec", "sesa", "setrec", "unicon"}  # HLLM masks texts


class NoLogarithm:
    """The module math, whose logarithms are all zero."""

    def __getattr__(self, name):
        return (lambda number: 0.0) if name == "log" else getattr(math, name)


def stale_papers() -> set[str]:
    return {status.slug for status in statuses(ROOT) if status.state == "stale"}


@pytest.fixture(scope="module")
def before() -> set[str]:
    """Papers that are stale without a planted bug."""
    return stale_papers()


@pytest.mark.slow
def test_a_lost_correction_of_the_sampled_softmax_is_noticed(before, monkeypatch):
    monkeypatch.setattr(losses, "math", NoLogarithm())
    assert stale_papers() - before == CORRECTED - before


@pytest.mark.slow
def test_negatives_that_are_the_target_are_noticed_where_negatives_are_drawn(before, monkeypatch):
    def no_clashes(targets, drawn):
        none = torch.empty(0, dtype=torch.long)
        return none, none

    monkeypatch.setattr(losses, "find_clashes", no_clashes)
    assert stale_papers() - before == UNMASKED - before
