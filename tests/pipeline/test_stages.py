"""A traced pipeline answers the same, says how, and leaves the model as it was."""

import pytest

from tailor.core.specs import build
from tailor.data.nouns import History, Query
from tailor.data.splits import last_out
from tailor.pipeline.tracing import Trace, settings_line, settings_text, traced
from tailor.retrieval.covisitation import CoVisitation
from tailor.worlds.shop import shop

DATA = shop(users=60, items=40, seed=1).data
TRAIN = last_out(DATA).train
QUERY = Query(history=History(tuple(DATA.catalogue.ids[:3])), exclude=tuple(DATA.catalogue.ids[:3]))
PARTS = [{"class": "CoVisitation"}, {"class": "Popularity"}]


def run(spec, k=5):
    """Return a fitted model, its answer, the traced answer, and the stages."""
    model = build(spec).fit(TRAIN)
    trace = Trace()
    answer = traced(model, trace).recommend([QUERY], k)
    assert model.recommend([QUERY], k)[0].ids == answer[0].ids
    assert "recommend" not in model.__dict__
    return model, trace.stages


def test_a_cascade_has_two_stages_and_the_second_orders_what_the_first_found():
    spec = {
        "class": "Cascade",
        "retrieve": {"class": "Popularity"},
        "rank": {"class": "CoVisitation"},
        "depth": 20,
    }
    _, [stage] = run(spec)
    first, second = stage.parts
    assert (stage.name, stage.settings, stage.items_out) == ("Cascade", "depth 20", 5)
    assert (first.name, first.items_in, first.items_out) == ("Popularity", 40, 20)
    assert (second.name, second.items_in) == ("CoVisitation", 20)
    assert stage.ms >= first.ms + second.ms > 0


@pytest.mark.parametrize("name", ["Fallback", "Fuse"])
def test_parts_in_lists_are_stages_and_those_that_are_not_asked_are_none(name):
    _, [stage] = run({"class": name, "parts": PARTS})
    names = [part.name for part in stage.parts]
    assert names and set(names) <= {"CoVisitation", "Popularity"}
    if name == "Fallback":
        assert names == ["CoVisitation"]  # it filled the list


def test_a_model_that_is_no_pipeline_has_one_stage():
    model, [stage] = run({"class": "CoVisitation"})
    assert stage.parts == [] and stage.items_in == 40
    assert stage.to_dict()["name"] == "CoVisitation" == type(model).__name__


def test_an_error_ends_its_stage_and_reaches_the_caller():
    trace = Trace()
    model = traced(CoVisitation().fit(TRAIN), trace)
    with pytest.raises(Exception, match="ask for at least 1"):
        model.recommend([QUERY], 0)
    model.recommend([QUERY], 2)
    assert [stage.items_out for stage in trace.stages] == [0, 2]


def test_settings_are_one_line_without_parts_and_empty_ones():
    assert settings_text(build({"class": "Fuse", "parts": PARTS})).startswith("kind score, depth")
    values = {"a": None, "b": [], "c": list(range(9)), "d": True, "e": {"x": 0.5}}
    assert settings_line(values) == "c [0, 1, 2, 3, 4 and 4 more], d yes, e x: 0.5"
    assert len(settings_line({"text": "x" * 1_000})) == 300
