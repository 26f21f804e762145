"""WithProfile: any recommender, reranker or writer reads a profile that a profiler makes."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tailor.core.methods import Generator
from tailor.core.run import Run
from tailor.core.saving import load
from tailor.data.nouns import Output, Profile, Query
from tailor.errors import ModelError
from tailor.llm.prompts import profile_text
from tailor.llm.scripted import ScriptedModel
from tailor.pipeline.cascade import Cascade
from tailor.pipeline.filter import Filter
from tailor.pipeline.with_profile import WithProfile, WriteWithProfile
from tailor.profiles.interaction_profile import InteractionProfile
from tailor.reranking.llm_reranker import LLMReranker
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.popularity import Popularity
from tailor.retrieval.profile_match import ProfileMatch
from tailor.testing.data import tiny_data

DATA = tiny_data()
RUN = Run(workers=1)
PROFILER = InteractionProfile(min_confidence=0.8)


def test_a_recommender_that_reads_profiles_answers_by_the_history():
    method = WithProfile(ProfileMatch(), PROFILER).fit(DATA, RUN)
    query = DATA.queries()[0]
    (profile,) = PROFILER.fit(DATA, RUN).profile([query])
    liked = {
        fact.details["object"] for fact in profile.facts if fact.details["slot"] == "categories"
    }
    (ranking,) = method.recommend([query], 3)
    categories = dict(DATA.tables["items"].select("item_id", "categories").iter_rows())
    assert liked and all(set(categories[item]) <= liked for item in ranking.ids)
    (explanations,) = method.explain([query], [ranking])
    assert explanations[0].evidence[0].id in liked


def test_a_profile_that_the_query_brings_is_left_as_it_is():
    method = WithProfile(ProfileMatch(), PROFILER).fit(DATA, RUN)
    own = DATA.queries()[0]
    corrected = Profile(own.user_id, notes=("I like nothing",))
    lists = method.recommend([Query(own.user_id, own.history, profile=corrected), own], 3)
    assert not lists[0].ids and lists[1].ids


def test_the_profiler_sees_nothing_after_the_request():
    method = WithProfile(ProfileMatch(), PROFILER).fit(DATA, RUN)
    own = DATA.queries()[0]
    early = Query(own.user_id, own.history, time_ms=own.history.times_ms[0])
    assert not method.recommend([early], 3)[0].ids


class Seeing(ScriptedModel):
    """Keeps its prompts."""

    prompts: list = []

    def complete(self, prompts, **settings):
        Seeing.prompts.extend(prompts)
        return super().complete(prompts, **settings)


def test_a_reranker_is_shown_the_profile():
    Seeing.prompts.clear()
    method = WithProfile(Cascade(CoVisitation(), LLMReranker(llm=Seeing(), depth=5)), PROFILER).fit(
        DATA, RUN
    )
    query = DATA.queries()[0]
    method.recommend([query], 3)
    (profile,) = method.profiler_.profile([query])
    assert any(profile.facts[0].text[:12] in prompt for prompt in Seeing.prompts)


@dataclass(eq=False)
class Echo(Generator):
    """Writes the profile that it was given."""

    def _fit(self, data, run, valid):
        self.fit_report_ = {}

    def _generate(self, queries):
        return [Output(profile_text(queries.profile(i))) for i in range(len(queries))]


def test_a_writer_reads_the_profile():
    method = WriteWithProfile(Echo(), PROFILER).fit(DATA, RUN)
    own = DATA.queries()[0]
    brought = Query(own.user_id, own.history, profile=Profile(own.user_id, "likes lamps"))
    made, kept, unknown = method.generate([own, brought, Query("new")])
    assert "more than usual" in made.text and kept.text == "likes lamps"
    assert unknown.text == "nothing is known about this person"


def test_rules_of_the_inner_recommender_hold_outside():
    inner = Filter(Popularity(), never={"categories": ["lamp"]})
    method = WithProfile(inner, PROFILER).fit(DATA, RUN)
    lamps = {
        item
        for item, of_item in DATA.tables["items"].select("item_id", "categories").iter_rows()
        if "lamp" in of_item
    }
    assert not set(method.recommend([Query()], 40)[0].ids) & lamps


def test_it_is_saved_with_both_parts():
    method = WithProfile(ProfileMatch(), PROFILER).fit(DATA, RUN)
    with tempfile.TemporaryDirectory() as folder:
        again = load(method.save(Path(folder) / "model"))
    queries = DATA.queries()[:3]
    assert [r.ids for r in again.recommend(queries, 3)] == [
        r.ids for r in method.recommend(queries, 3)
    ]


def test_parts_of_the_wrong_kind_are_named():
    with pytest.raises(ModelError, match="Recommender and a Profiler"):
        WithProfile(PROFILER, PROFILER)
    with pytest.raises(ModelError, match="Generator and a Profiler"):
        WriteWithProfile(Popularity(), PROFILER)
