"""LLMProbes: a fair model is at its noise floor, a biased one is not, and no cell is empty."""

import json
from dataclasses import dataclass, replace

import pytest
from rule_model import Rule

pytest.importorskip("torch")
pytest.importorskip("transformers")

from tailor.core.run import Run
from tailor.data.splits import split_by
from tailor.errors import DataError
from tailor.evaluation.closed_lists import names_of
from tailor.llm.scripted import ScriptedModel
from tailor.papers.generative.llm4rec_survey import BIASES, USES, LLMProbes, _Probes, _Uses
from tailor.ports.base import Completion, LanguageModel
from tailor.testing.data import tiny_data

DATA = tiny_data()
NAMES = names_of(DATA)
BIASED = replace(LLMProbes.tiny(), users=30, uses=False)
FAIR = ScriptedModel(knows={f"<<{name}>>": i / len(NAMES) for i, name in enumerate(NAMES)})


@dataclass(frozen=True)
class Mute(LanguageModel):
    """Answers nothing."""

    fingerprint = "mute"

    def capabilities(self):
        return frozenset()

    def complete(self, prompts, **settings):
        return [Completion((), error="busy") for _ in prompts]

    def score(self, prompts, answers):
        raise AssertionError("there is no capability for it")


def worth(line):
    return max((i for i, name in enumerate(NAMES) if f"<<{name}>>" in line), default=0)


def probe(model, study=BIASED, seed=0):
    return study.run(DATA, {"model": model}, Run(seed=seed))


def test_a_fair_model_is_at_the_floor_of_every_bias_of_the_prompt():
    report = probe(FAIR)
    position = report.figure("position")
    assert (position.value, position.floor) == pytest.approx((1, 1))
    assert not position.is_beyond_floor
    assert report.figure("fairness").value == pytest.approx(1)
    assert report.figure("wording").value == 0


def test_a_model_that_loves_first_places_is_found():
    report = probe(replace(FAIR, position_bias=1.0))
    position = report.figure("position")
    assert position.high < 0.5 < position.floor and position.is_beyond_floor
    assert report.figure("fairness").value == pytest.approx(
        1
    )  # the order of candidates is the same there


def test_an_order_is_compared_by_items_and_not_by_places():
    by_place = probe(Rule(lambda prompt, line, place: -place))
    assert abs(by_place.figure("position").value) < 0.3
    assert by_place.figure("popularity").value == pytest.approx(
        by_place.figure("popularity").floor, abs=0.15
    )


def test_a_model_that_hears_who_asks_is_unfair_and_neutral_words_are_its_floor():
    def rule(prompt, line, place):
        return -worth(line) if "a woman" in prompt else worth(line)

    fairness = probe(Rule(rule)).figure("fairness")
    assert fairness.value == pytest.approx(-1) and fairness.floor == pytest.approx(1)
    assert fairness.is_beyond_floor


def test_a_model_that_hears_the_wording_differs_by_it():
    def rule(prompt, line, place):
        return -worth(line) if prompt.endswith("letter.") else worth(line)

    report = probe(Rule(rule))
    wording = report.figure("wording")
    assert wording.value > 0.1 and wording.floor == 0 and wording.is_beyond_floor
    assert report.figure("position").value == pytest.approx(1)


def test_a_model_that_loves_what_is_popular_is_found():
    counts = DATA.events["item_id"].value_counts()
    events = dict(zip(counts["item_id"], counts["count"], strict=True))
    names = dict(zip(NAMES, DATA.catalogue.ids.tolist(), strict=True))

    def rule(prompt, line, place):
        return events.get(names.get(line.strip("<>")), 0)

    loving, hating = (probe(Rule(r)).figure("popularity") for r in (rule, lambda *a: -rule(*a)))
    assert loving.value > loving.floor > hating.value
    assert loving.is_beyond_floor and hating.is_beyond_floor


def test_titles_that_are_known_are_lost_with_ids():
    knowing = Rule(lambda prompt, line, place: prompt.count(line.split()[0]))
    report = probe(knowing)
    lost = report.figure("ids: random")
    assert lost.value > 0.2 and lost.is_beyond_floor
    assert abs(lost.floor) < 0.2
    named = [prompt for prompt in knowing.prompts if "<<item " in prompt]
    assert len(named) == 4 * 30 and not any(name in p for p in named for name in NAMES[:5])


def test_the_answer_is_in_no_prompt_but_as_a_candidate():
    model = Rule(lambda prompt, line, place: 0)
    probe(model)
    for prompt in model.prompts:
        history, _, rest = prompt.partition("Candidates:")
        for line in rest.splitlines():
            if line.startswith("["):
                assert line.partition(" ")[2] not in history


def test_unread_answers_are_counted_and_no_figure_is_made_of_them():
    mute = probe(Mute(), replace(BIASED, users=3))
    assert not mute.is_complete
    assert all(row[-1] == 3 for row in mute.details[0].rows)
    assert "position: not measured" in mute.notes()[0]
    assert all(result.figure is None for result in mute.results)


def test_a_report_has_nine_uses_and_seven_rows_of_biases_all_with_a_floor():
    report = LLMProbes.tiny().run(DATA, {"model": FAIR}, Run(workers=1))
    groups = [result.check.group for result in report.results]
    assert (groups.count(USES), groups.count(BIASES)) == (9, 7)
    assert report.is_complete
    chance = report.figure("prompted").floor
    assert all(
        result.figure.floor == pytest.approx(chance)
        for result in report.results
        if result.check.group == USES
    )
    assert report.figure("vectors for a recommender").is_beyond_floor
    json.dumps(report.to_dict(), allow_nan=False)
    assert "beyond floor" in report.text()


def test_one_report_is_about_one_model():
    with pytest.raises(DataError, match="one language model"):
        BIASED.run(DATA, {"a": FAIR, "b": FAIR})
    with pytest.raises(DataError, match="shuffles 1"):
        LLMProbes(shuffles=1)


@pytest.mark.slow
def test_what_is_tuned_learns_from_what_users_chose(tmp_path):
    study = replace(LLMProbes.tiny(), judged=60, examples=800, epochs=8, width=32)
    split, run = split_by(DATA, "last"), Run(workers=1, dtype="float32")
    figure = _Uses(study, split, _Probes(study, split, FAIR, run), str(tmp_path), run).next_title()
    assert figure.low > figure.floor
