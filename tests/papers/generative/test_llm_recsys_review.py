"""Remedies: the planted pain is named, every row has a floor or a reason, and nothing leaks."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from rule_model import Rule

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.splits import TEST, TRAIN
from tailor.errors import DataError
from tailor.papers.generative.llm_recsys_review import CONDITIONS, RANKING, Remedies, _Case, _Eased
from tailor.retrieval.popularity import Popularity
from tailor.testing.data import tiny_data
from tailor.text.twins import twins_of
from tailor.worlds.pains import pains

DATA = tiny_data()
RUN = Run(workers=1)
QUICK = replace(Remedies.tiny(), k=20, users=400)


def eased(data, study=QUICK):
    return _Eased(_Case(study, data, RUN), None)


def count_in_history(prompt, line, place):
    """Score a line by how often its first word is in the history of the prompt."""
    history = prompt.rpartition("Chosen so far")[2].partition("Candidates:")[0]
    return history.count(line.split()[0].strip("<>"))


@pytest.mark.parametrize("pain", ["cold items", "cold people", "noise"])
def test_the_planted_pain_is_named_with_a_remedy_that_helps(pain):
    report = QUICK.run(pains(pain, users=500, seed=5), {}, RUN)
    assert report.worst.name == pain and report.worst.verdict == "gain"
    assert report.sentence().startswith(f"Worst pain: {pain}.")


@pytest.mark.slow
def test_rare_items_are_named_and_without_a_pain_none_is():
    report = Remedies().run(pains("tail", seed=5), {}, RUN)
    assert report.worst.name == "tail" and report.worst.verdict == "gain"
    assert Remedies().run(pains("none", seed=5), {}, RUN).worst is None


def test_every_row_has_a_figure_with_a_floor_but_the_language_models():
    report = Remedies.tiny().run(DATA, {}, RUN)
    for result in report.results:
        if result.check.group == RANKING:
            assert "no language model is named" in result.reason
        else:
            assert np.isfinite([result.figure.low, result.figure.high, result.figure.floor]).all()
    assert {pain.name for pain in report.pains} == set(CONDITIONS)
    columns = report.details[0].columns
    assert {"accuracy", "x for 2 x users", "p50 ms", "p95 ms"} <= set(columns)
    assert len(report.details[0].rows) == 5
    json.dumps(report.to_dict(), allow_nan=False)


def test_without_texts_there_is_an_answer_and_rows_say_what_is_missing():
    data = pains("cold items", users=400, seed=5)
    bare = Dataset({"events": data.events, "items": data.tables["items"].select("item_id")})
    report = QUICK.run(bare, {}, RUN)
    assert report.worst.name == "cold items" and report.worst.verdict == "not measured"
    assert report.figure("cold items: before").value == 0
    reasons = {r.check.name: r.reason for r in report.results if r.figure is None}
    assert "no item has words" in reasons["cold items: after"]
    assert "no item has words" in reasons["noise of 20%: gain"]
    assert "noise: cost not known" in " ".join(report.notes())


def test_without_times_new_users_cannot_be_counted():
    data = Dataset({"events": DATA.events.drop("time_ms"), "items": DATA.tables["items"]})
    report = Remedies.tiny().run(data, {}, RUN)
    reason = next(pain.reason for pain in report.pains if pain.name == "cold people")
    assert "events need times" in reason
    assert report.figure("cold people: after").n > 0  # what keywords bring is known all the same


def test_twins_of_hidden_items_are_hidden_too_and_counted():
    table = DATA.tables["items"]
    titles = table["title"].to_list()
    half = len(titles) // 2
    doubled = titles[:half] + titles[:half]  # every item has a twin
    twins = Dataset({"events": DATA.events, "items": table.with_columns(title=pl.Series(doubled))})
    part = eased(twins)
    split = part.hidden_split
    rows = split.data.sequences.rows.values
    codes = split.part[split.data.sequences.events]
    hidden = np.unique(rows[codes == TEST])
    learned = np.unique(rows[codes == TRAIN])
    assert len(hidden) and len(learned)
    is_twin = twins_of(twins.item_texts, hidden)
    assert is_twin.any() and not is_twin[learned].any()
    assert f"{split.params['twins']} text twins" in part.remarks[0] and split.params["twins"] > 0
    train = split.train_valid
    assert not is_twin[np.unique(train.sequences.rows.values)].any()


def test_the_texts_of_other_items_find_hidden_items_no_better_than_chance():
    part = eased(pains("none", users=500, seed=5))
    sample = part.hidden_by_texts()
    assert sample.values.mean() > 0.7
    assert np.mean(sample.floor) < 0.3
    assert part.hidden_by_ids().values.mean() == 0


def test_keywords_are_shared_words_of_other_items_and_never_the_targets_own():
    part = eased(pains("none", users=500, seed=5))
    texts = part.keywords()
    _, requests = part.strangers
    titles = part.data.item_texts
    for i, (text, target) in enumerate(zip(texts, requests.targets.tolist(), strict=True)):
        words = text.split()
        history = [set(titles[row].split()) for row in requests.queries.histories[i].tolist()]
        assert 1 <= len(words) <= part.study.words
        assert all(any(word in title for title in history) for word in words)
        assert titles[target].split()[2] not in words  # a word that no other item has
    assert part.by_keywords.values.mean() > 0.6 > np.mean(part.by_keywords.floor)


def test_of_a_new_user_nothing_is_known_but_the_keywords():
    seen = []

    class Probe(Popularity):
        def _recommend(self, queries, k, candidates):
            seen.append(queries)
            return super()._recommend(queries, k, candidates)

    part = eased(DATA)
    texts = [f"word{i}" for i in range(len(part.strangers[1].queries))]
    part._on_strangers(Probe(), texts)
    assert [text for queries in seen for text in queries.texts] == texts
    assert all(not queries.histories.lengths.any() for queries in seen)


def test_an_item_that_a_user_knows_is_no_target():
    rows = [(f"u{u}", f"i{(u + step) % 9}") for u in range(12) for step in (0, 1, 2, 3)]
    rows += [(f"u{u}", f"i{u % 9}") for u in range(6)]  # back to their first item
    events = pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row")
    case = _Case(QUICK, Dataset({"events": events}), RUN)
    assert set(case.requests.queries.user_ids) == {f"u{u}" for u in range(6, 12)}
    for i, target in enumerate(case.requests.targets.tolist()):
        assert target not in case.requests.queries.histories[i]


def test_random_events_cost_ids_more_than_ids_with_texts_and_repeated_ones_nothing():
    part = eased(pains("noise", users=500, seed=5), replace(QUICK, users=1_000))
    ids = part.loss("ids", part.case.by_ids, 1.0)
    assisted = part.loss("ids and texts", part.case.assisted, 1.0)
    assert ids.values.mean() > assisted.values.mean() + 0.02
    assert abs(np.mean(assisted.floor)) < 0.02
    assert ids.values.mean() > np.mean(ids.floor) + 0.02


def test_dropping_misfits_helps_where_dropping_others_does_not():
    part = eased(pains("noise", users=500, seed=5))
    before = part.as_it_is().values.mean()
    assert part.cleaned.values.mean() > before + 0.1 > np.mean(part.cleaned.floor)


def test_late_answers_are_a_pain():
    report = replace(Remedies.tiny(), budget_ms=1e-9).run(DATA, {}, RUN)
    assert report.worst.name == "latency" and report.worst.cost.value == 1
    quick = replace(Remedies.tiny(), budget_ms=1e9).run(DATA, {}, RUN)
    latency = next(pain for pain in quick.pains if pain.name == "latency")
    assert latency.cost.value == 0 and latency.verdict == "no gain"


def test_a_language_model_is_judged_beside_ids_and_texts_on_the_same_lists():
    model = Rule(count_in_history)
    report = replace(Remedies.tiny(), sample=20).run(DATA, {"model": model}, RUN)
    assert report.is_complete
    zero, few = report.figure("zero-shot: after"), report.figure("few-shot: after")
    assert zero.value > zero.floor  # with another user's history
    assert zero.n == few.n == report.figure("zero-shot: before").n
    assert sum("Chosen next:" in prompt for prompt in model.prompts) == 2 * zero.n
    assert report.figure("latency of language model: p95").value > 0
    assert report.details[0].rows[-1][0] == "language model"
    lists, timed = 2 * zero.n, 1 + 2 * QUICK.timed
    plain = sum("Chosen next:" not in prompt for prompt in model.prompts)
    assert plain == lists + timed  # the table asks nothing anew
    assert report.details[0].rows[-1][2] == pytest.approx(zero.value, abs=1e-4)


def test_a_language_model_without_lists_leaves_its_rows_empty():
    study = replace(Remedies.tiny(), size=26)  # more than a list of titles can hold here
    few = DATA.cut(DATA.events["item_id"].is_in(DATA.catalogue.ids[:20].tolist()).to_numpy())
    table = DATA.tables["items"].filter(pl.col("item_id").is_in(DATA.catalogue.ids[:20].tolist()))
    data = Dataset({"events": few.events, "items": table})
    report = study.run(data, {"model": Rule(count_in_history)}, RUN)
    assert not report.is_complete and "size is 26" in " ".join(report.notes())


def test_settings_are_checked():
    with pytest.raises(DataError, match="2 language models"):
        Remedies.tiny().run(DATA, {"a": Rule(count_in_history), "b": Rule(count_in_history)})
    for wrong in ({"k": 0}, {"shares": ()}, {"shares": (0.0,)}, {"head": 1.0}, {"budget_ms": 0}):
        with pytest.raises(DataError, match="above 0"):
            Remedies(**wrong)
    for wrong in (-0.1, float("nan")):
        with pytest.raises(DataError, match="least is"):
            Remedies(least=wrong)
