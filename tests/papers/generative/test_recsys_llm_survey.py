"""LLMCapabilities: every capability is a call of its own, and what it says is so."""

import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")

from tailor.core.run import Run
from tailor.data.splits import split_by
from tailor.errors import DataError
from tailor.evaluation.closed_lists import names_of
from tailor.llm.scripted import ScriptedModel
from tailor.papers.generative.recsys_llm_survey import CELLS, TUNING, LLMCapabilities, _Cells
from tailor.testing.data import tiny_data

DATA = tiny_data()
RUN = Run(workers=1, dtype="float32")


def cells(folder, study=None, data=DATA, model=None):
    return _Cells(study or LLMCapabilities.tiny(), split_by(data, "last"), model, folder, RUN)


@pytest.fixture(scope="module")
def report():
    return LLMCapabilities.tiny().run(DATA, {}, RUN)


@pytest.fixture(scope="module")
def larger(tmp_path_factory):
    study = replace(LLMCapabilities.tiny(), users=60, examples=300, epochs=6, width=32)
    return cells(tmp_path_factory.mktemp("cells"), study)


def test_no_cell_is_empty_and_six_groups_are_there(report):
    assert report.is_complete and len(report.results) == len(CELLS) == 27
    assert len(report.tables()) == 6
    assert all(result.figure.floor_of for result in report.results)
    json.dumps(report.to_dict(), allow_nan=False)


def test_every_cell_is_another_call():
    calls = [call for *_, call in CELLS]
    assert len(set(calls)) == len(calls)
    assert all(callable(getattr(_Cells, call)) for call in calls)


def test_one_prompt_is_no_two_capabilities(tmp_path):
    """Each way of prompting asks with other words, or asks another model."""
    asked = {}

    class Kept(ScriptedModel):
        def choices(self, prompts, labels):
            asked.setdefault(self.call, []).extend(prompts)
            return super().choices(prompts, labels)

    model = Kept(knows={name: 1.0 for name in names_of(DATA)[:9]})
    measured = cells(tmp_path, model=model)
    for call in ("zero_shot", "in_context", "thoughts_first", "chosen_wording"):
        object.__setattr__(model, "call", call)
        measured.named_model = model
        getattr(measured, call)()
    prompts = {call: frozenset(texts) for call, texts in asked.items()}
    assert len(set(prompts.values())) == 4


@pytest.mark.slow
def test_each_way_to_tune_lowers_the_loss_of_users_it_has_not_seen(larger):
    for call in [call for group, *_, call in CELLS if group == TUNING]:
        assert getattr(larger, call)().low > 0, call


@pytest.mark.slow
def test_learned_answers_are_known_by_their_loss(larger):
    study = replace(larger.study, examples=40, epochs=40)
    learned = cells(larger.folder / "by heart", study)
    figure = learned.membership()
    assert figure.value > 0.15 and figure.is_beyond_floor


def test_what_is_asked_for_is_named_in_a_conversation(larger):
    figure = larger.conversation()
    assert figure.value == 1 and figure.floor < 0.7 and figure.is_beyond_floor


def test_an_explanation_quotes_the_history_of_its_own_user(larger):
    figure = larger.explanation()
    assert figure.value > 0.9 and figure.is_beyond_floor


def test_ratings_are_judged_against_the_commoner_one(tmp_path):
    measured = cells(tmp_path, replace(LLMCapabilities.tiny(), users=60))
    pairs = measured._rated(0, 500)
    values = DATA.events["value"].to_numpy()
    assert 0 < pairs.answers.count("high") < len(pairs.answers)
    assert pairs.answers.count("high") == pytest.approx(
        (values > np.median(values)).mean() * len(pairs.answers), rel=0.3
    )
    figure = measured.rating()
    assert 0 <= figure.floor <= 1 and figure.floor_of == "all alike"


def test_without_ratings_the_cell_says_so(tmp_path):
    tables = {name: table for name, table in DATA.tables.items()}
    tables["events"] = tables["events"].drop("value")
    with pytest.raises(DataError, match="no column value"):
        cells(tmp_path, data=type(DATA)(tables)).rating()


def test_titles_that_no_item_has_are_counted(tmp_path):
    measured = cells(tmp_path)
    titles = names_of(DATA)

    class Writer:
        def complete(self, prompts, **settings):
            from tailor.ports.base import Completion

            return [
                Completion((titles[i] if i % 2 else "a thing that nobody sells",))
                for i in range(len(prompts))
            ]

    measured.__dict__["base"] = Writer()
    assert measured.invented().value == 0.5


def test_several_models_and_empty_settings_are_refused():
    with pytest.raises(DataError, match="name one"):
        LLMCapabilities.tiny().run(DATA, {"a": ScriptedModel(), "b": ScriptedModel()})
    with pytest.raises(DataError, match="at least 1"):
        LLMCapabilities(users=0)
