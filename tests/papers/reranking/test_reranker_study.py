"""The study of rerankers: its figures against independent ones, its costs, faults and limits."""

import json
import time
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
import pytest

from tailor.core.run import Run
from tailor.core.specs import build_study, discover_studies
from tailor.data.dataset import Dataset
from tailor.errors import DataError
from tailor.evaluation.significance import holm, paired_test
from tailor.llm.cached import Cached
from tailor.llm.scripted import ScriptedModel, Unreliable
from tailor.papers.reranking.reranker_study import (
    BEST,
    CHANCE,
    GIVEN,
    Cell,
    RerankerReport,
    RerankerStudy,
    continued_share,
    recommendation_lists,
)
from tailor.ports.base import Encoder
from tailor.reranking.examples import grades_of
from tailor.reranking.reranker import Reranker
from tailor.reranking.shortlist import ordered
from tailor.testing.data import tiny_data
from tailor.worlds.novel import novel_world

DATA = novel_world(60, 12)
SMALL = {"depth": 6, "words": 9, "judged": 3, "timed": 1}


@dataclass(eq=False)
class Longest(Reranker):
    """Puts the longest text first, and keeps what it was shown."""

    shown: list = field(default_factory=list)

    def _rerank(self, shortlists, limits, trace):
        self.shown += shortlists
        return [
            ordered(s, np.array([float(len(t)) for t in s.texts]), ["ranked"] * len(s), "length")
            for s in shortlists
        ]


@pytest.fixture(scope="module")
def longest():
    return Longest()


@pytest.fixture(scope="module")
def report(longest):
    return RerankerStudy(**SMALL, strategies=("windows", "pairs")).run(DATA, {"longest": longest})


def dcg(grades, k=10):
    return sum(grade / np.log2(rank + 2) for rank, grade in enumerate(grades[:k]))


def test_floors_and_methods_have_the_figures_of_independent_code(report, longest):
    grades = grades_of(DATA)
    id_of = dict(zip(DATA.item_texts, DATA.catalogue.ids.tolist(), strict=True))
    texts = list(id_of)
    values = {GIVEN: [], BEST: [], "longest": []}
    for shortlist in longest.shown[: len(grades)]:
        of_query = grades[shortlist.query.request_id]
        documents = [next(t for t in texts if t.startswith(cut)) for cut in shortlist.texts]
        gains = [of_query.get(id_of[text], 0.0) for text in documents]
        perfect = dcg(sorted(of_query.values(), reverse=True))
        order = np.argsort([-len(cut) for cut in shortlist.texts], kind="stable")
        values[GIVEN].append(dcg(gains) / perfect)
        values[BEST].append(dcg(sorted(gains, reverse=True)) / perfect)
        values["longest"].append(dcg([gains[doc] for doc in order]) / perfect)
    for method, expected in values.items():
        assert report.cell("invented names", method).ndcg == pytest.approx(np.mean(expected))
    cells = {cell.method: cell.ndcg for cell in report.cells}
    assert cells[BEST] > cells[GIVEN] > cells[CHANCE]


def test_every_method_gets_the_same_short_lists_of_cut_texts(longest, report):
    assert all(len(shortlist) == 6 for shortlist in longest.shown)
    assert all(len(t.split()) == 9 for shortlist in longest.shown for t in shortlist.texts)
    # once on all lists, once on those that it is timed by
    assert len(longest.shown) == 12 + 1


def test_all_pairs_have_p_values_corrected_together(report):
    methods = [GIVEN, CHANCE, "longest"]
    values = {method: report.values["invented names", method] for method in methods}
    pairs = list(combinations(methods, 2))
    expected = holm([paired_test(values[b], values[a]) for a, b in pairs])
    assert [(pair.a, pair.b) for pair in report.pairs] == pairs
    assert [pair.p for pair in report.pairs] == pytest.approx(expected, abs=0.01)
    first = report.pairs[0]
    assert first.difference == pytest.approx((values[CHANCE] - values[GIVEN]).mean())


def test_a_second_run_gives_the_same_figures(tmp_path):
    judge = Cached(ScriptedModel(knows={"lantern": 1.0}, noise=0.5), str(tmp_path))
    study = RerankerStudy(**SMALL, llm=judge, strategies=("windows", "yes-no"), novel=5)
    first, second = (study.run(DATA, {"longest": Longest()}, Run(seed=3)) for _ in range(2))
    assert without_costs(first) == without_costs(second)
    other = study.run(DATA, {"longest": Longest()}, Run(seed=4))
    assert without_costs(other) != without_costs(first), "random orders and worlds have a seed"


def without_costs(report):
    content = report.to_dict()
    for cell in content["cells"]:
        del (
            cell["ms"],
            cell["tokens_in"],
            cell["tokens_out"],
        )  # an answer of the cache takes neither
    del content["frontier"]
    return json.dumps(content, sort_keys=True)


def test_a_language_model_is_asked_by_every_strategy_with_its_costs():
    study = RerankerStudy(**SMALL, llm=ScriptedModel(knows={"lantern": 1.0}), noise=())
    report = study.run(DATA, {})
    methods = [method for method in report.methods if method.startswith("LM ")]
    assert len(methods) == len(study.strategies) and not report.unmade and not report.noise
    calls = {cell.method: cell.calls for cell in report.cells}
    assert calls["LM windows"] == 1 and calls["LM grade"] == 6 and calls["LM pairs"] == 30
    cell = report.cell("invented names", "LM windows")
    assert cell.tokens_in > 100 and cell.ms > 0 and cell.unread == 0
    # the strategies that show most come last
    assert methods[0] == "LM windows" and {"LM pairs", "LM pair-heap"} == set(methods[-2:])
    assert list(report.continued) == ["invented names"]
    assert not replace(study, probed=0, strategies=("windows",)).run(DATA, {}).continued


@dataclass(frozen=True)
class Slow(ScriptedModel):
    """Takes a second a call, by the clock of the test."""

    seconds: list = field(default_factory=lambda: [0.0], hash=False, compare=False)

    def complete(self, prompts, **settings):
        self.seconds[0] += len(prompts)
        return super().complete(prompts, **settings)

    def score(self, prompts, answers):
        self.seconds[0] += len(prompts)
        return super().score(prompts, answers)


def test_cells_without_time_are_named_and_left_out(monkeypatch):
    slow = Slow()
    monkeypatch.setattr(time, "monotonic", lambda: slow.seconds[0])
    # windows take 12 calls, pairs 360 of two labels each
    study = RerankerStudy(
        **SMALL, llm=slow, minutes=1.0, noise=(), strategies=("windows", "pairs"), probed=0
    )
    report = study.run(DATA, {"longest": Longest()})
    assert report.unmade == ["LM pairs on invented names"]
    assert "LM pairs" not in report.methods and "LM windows" in report.methods
    assert "no time for: LM pairs on invented names" in report.notes()
    assert slow.seconds[0] < 200, "pairs stop soon after the minute, and do not take their 720 s"
    none = replace(study, minutes=0.0).run(DATA, {"longest": Longest()})
    assert len(none.unmade) == 2 and "longest" in none.methods


@dataclass(frozen=True)
class Counting(Encoder):
    """Counts the texts that it encodes."""

    counts: list = field(default_factory=list, hash=False, compare=False)
    space = "counting"

    def encode(self, texts):
        self.counts.append(len(texts))
        return np.ones((len(texts), 4), np.float32) / 2


@dataclass(eq=False)
class ByVectors(Reranker):
    """Encodes all texts."""

    encoder: Encoder = field(default_factory=Counting)

    def _rerank(self, shortlists, limits, trace):
        for shortlist in shortlists:
            self.encoder.encode(list(shortlist.texts))
        return [ordered(s, np.zeros(len(s)), ["ranked"] * len(s), "zero") for s in shortlists]


def test_time_is_measured_with_nothing_cached(tmp_path):
    from tailor.text.cached import CachedEncoder

    counting = Counting()
    warm = ByVectors(encoder=CachedEncoder(counting, str(tmp_path)))
    study = RerankerStudy(**SMALL, noise=())
    study.run(DATA, {"vectors": warm})
    before = sum(counting.counts)
    report = study.run(DATA, {"vectors": warm})
    assert sum(counting.counts) - before == 6, "the list it is timed by is encoded anew"
    assert report.cell("invented names", "vectors").ms > 0
    assert warm.encoder.folder == str(tmp_path), "the method is not changed"


def test_faults_of_a_judge_cost_each_strategy_what_they_cost():
    strategies = ("windows", "pairs", "grade", "likelihood")
    study = RerankerStudy(
        depth=6, judged=12, strategies=strategies, noise=(0.0, 1.0), error=0.0, bias=1.0
    )
    report = study.run(DATA, {})
    cells = {(cell.strategy, cell.fault): cell for cell in report.noise}
    best = report.cell("invented names", BEST).ndcg
    given = report.cell("invented names", GIVEN).ndcg
    assert {strategy for strategy, _ in cells} == {"windows", "pairs", "grade"}
    for strategy in ("windows", "pairs", "grade"):
        assert cells[strategy, "0% spoilt"].ndcg == pytest.approx(best)
        assert cells[strategy, "no error"].ndcg == pytest.approx(best)
    # all answers spoilt, a quarter of them readable all the same
    assert cells["grade", "100% spoilt"].ndcg < best and cells["grade", "100% spoilt"].unread > 0.2
    # a line is worth a whole grade more than the next: windows keep the given order
    assert cells["windows", "loves first places"].ndcg == pytest.approx(given)
    assert cells["pairs", "loves first places"].ndcg > cells["windows", "loves first places"].ndcg
    assert cells["grade", "loves first places"].ndcg == pytest.approx(best), "each is shown alone"
    assert cells["pairs", "0% spoilt"].calls == 30


def test_generated_questions_stand_beside_the_data():
    report = RerankerStudy(**SMALL, novel=4, noise=()).run(
        replace_name(DATA, "mine"), {"longest": Longest()}
    )
    assert report.collections == ["mine", "invented names", "common names"]
    assert report.cell("common names", GIVEN).queries == 4
    (row,) = [row for row in report.tables()[0].rows if row[0] == "longest"]
    assert row[-1] == pytest.approx(
        np.mean([c.ndcg for c in report.cells if c.method == "longest"])
    )


def replace_name(data, name):
    return Dataset(dict(data.tables), name)


def test_a_method_that_learned_on_the_data_is_named():
    fitted = Longest().fit(DATA)
    elsewhere = Longest().fit(tiny_data())
    study = RerankerStudy(**SMALL, noise=())
    report = study.run(DATA, {"here": fitted, "elsewhere": elsewhere, "never": Longest()})
    assert report.learned_here == ["here on invented names"]
    assert "are no proof: here on invented names" in report.notes()[0]


def test_lists_of_a_log_of_events_hold_the_next_item():
    data = tiny_data()
    lists = recommendation_lists(data, 10, 20, Run())
    assert 5 < len(lists) <= 20
    for of_query in lists:
        assert of_query.grades.sum() == 1 and of_query.best.tolist() == [1.0]
        assert of_query.shortlist.history and len(of_query.shortlist) == len(of_query.grades)
    report = RerankerStudy(**SMALL, noise=()).run(data, {"longest": Longest()})
    assert report.cell("tiny", BEST).ndcg == 1.0 > report.cell("tiny", GIVEN).ndcg
    users = [of_query.shortlist.query.user_id for of_query in lists]
    last = {user: data.queries([user])[0].history.item_ids[-1] for user in users}
    titles = dict(zip(data.catalogue.ids.tolist(), data.item_texts, strict=True))
    for of_query in lists:
        right = of_query.shortlist.texts[int(of_query.grades.argmax())]
        user = of_query.shortlist.query.user_id
        assert right == titles[last[user]]
        assert len(of_query.shortlist.history) == 7, "the last of eight events is held out"


def test_a_model_that_knows_a_text_by_heart_is_found_out():
    text = " ".join(f"word{number}" for number in range(40))
    heart = ScriptedModel(reply=" ".join(f"word{number}" for number in range(20, 40)))
    assert continued_share(heart, [text]) == 1.0
    assert continued_share(ScriptedModel(reply="word20 word21 word22 word23"), [text]) == 0.0
    assert continued_share(ScriptedModel(failing=1.0), [text]) == 0.0
    assert continued_share(heart, ["too short"]) == 0.0


# --- the report


def cells(*rows):
    return [Cell(name, method, 2, ndcg, ndcg, ndcg, ms=ms) for name, method, ndcg, ms in rows]


def report_of(rows, setting="the same"):
    listed = cells(*rows)
    values = {(c.collection, c.method): np.array([c.ndcg, c.ndcg]) for c in listed}
    lengths = {c.collection: np.array([2, 9]) for c in listed}
    return RerankerReport(listed, values, lengths, setting=setting)


def test_the_frontier_by_hand():
    report = report_of(
        [
            ("a", GIVEN, 0.4, 0.0),
            ("a", CHANCE, 0.9, None),
            ("a", BEST, 1.0, None),
            ("a", "quick", 0.5, 2.0),
            ("a", "slow and better", 0.6, 9.0),
            ("a", "slow and worse", 0.45, 8.0),
            ("a", "as good as quick, slower", 0.5, 3.0),
            ("a", "not timed", 0.7, None),
        ]
    )
    assert report.frontier() == [GIVEN, "quick", "slow and better"]


def test_reports_of_several_collections_are_one():
    first = report_of([("a", GIVEN, 0.4, 0.0), ("a", "x", 0.5, 2.0), ("a", "y", 0.5, 2.0)])
    second = report_of([("b", GIVEN, 0.2, 0.0), ("b", "x", 0.5, 4.0)])
    joined = RerankerReport.joined([first, second])
    assert joined.collections == ["a", "b"] and joined.mean("x") == 0.5
    assert joined.mean("y") is None, "it was not measured on b"
    assert joined.frontier() == [GIVEN, "x"] and len(joined.pairs) == 3 + 1
    assert joined.by_length(GIVEN) == (pytest.approx(0.3), pytest.approx(0.3))
    with pytest.raises(DataError, match="two reports are of one collection"):
        RerankerReport.joined([first, first])
    with pytest.raises(DataError, match="only those of one setting"):
        RerankerReport.joined([first, report_of([("b", GIVEN, 0.2, 0.0)], "another")])


def test_a_report_is_shown_and_written(report):
    titles = [table.title for table in report.tables()]
    assert titles[0].startswith("NDCG@10") and titles[-1] == "NDCG@10 by a scripted judge"
    assert "longest" in report.text()
    content = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert content["means"]["longest"] == report.mean("longest")
    assert content["setting"] == "6 documents of at most 9 words"
    with pytest.raises(DataError, match='no cell of "x"'):
        report.cell("x", GIVEN)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"strategies": ("guess",)}, 'strategy "guess": one of windows'),
        ({"depth": 0}, "at least 1"),
        ({"minutes": -1.0}, "from 0"),
    ],
)
def test_impossible_settings_are_refused(settings, says):
    with pytest.raises(DataError, match=says):
        RerankerStudy(**settings)


def test_data_without_lists_and_names_of_floors_are_refused():
    with pytest.raises(DataError, match='a method is called "first stage"'):
        RerankerStudy().run(DATA, {GIVEN: Longest()})
    bare = dict(DATA.tables) | {"judgements": DATA.tables["judgements"].clear()}
    with pytest.raises(DataError, match="has no list to order"):
        RerankerStudy().run(Dataset(bare, "bare"), {})


def test_the_command_line_finds_and_builds_it():
    assert "RerankerStudy" in {entry.cls.__name__ for entry in discover_studies()}
    study = build_study("RerankerStudy", {"llm": "default", "noise": [0.5], "minutes": 1})
    assert study.noise == (0.5,) and study.llm == "default"


# --- the spoilt judge


def test_a_share_of_answers_is_spoilt_by_prompt_alone():
    prompts = [f"[1] a {number}\n[2] b" for number in range(400)]
    judge = ScriptedModel(knows={"b": 1.0})
    spoilt = Unreliable(judge, 0.25)
    answers = [answer.text for answer in spoilt.complete(prompts)]
    again = [spoilt.complete([prompt])[0].text for prompt in prompts]
    assert answers == again
    broken = sum(text != "[2, 1]" for text in answers)
    assert 70 < broken < 130 and len(set(answers)) == 5
    assert [a.text for a in Unreliable(judge, 0.25, seed=1).complete(prompts)] != answers
    assert Unreliable(judge, 0.0).complete(prompts[:5])[0].text == "[2, 1]"
    assert spoilt.choices(["[1] a\n[2] b"], ["[1]", "[2]"]).tolist() == pytest.approx(
        judge.choices(["[1] a\n[2] b"], ["[1]", "[2]"])
    )
