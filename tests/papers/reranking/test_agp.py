"""AGP: feedback on positions improves the instruction that describes users."""

import json
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from tailor.core.run import Run
from tailor.data.nouns import Profile, Query
from tailor.errors import ModelError
from tailor.llm.metered import Metered
from tailor.papers.reranking.agp import AGP, Described, Refinement, without_names, word_diff
from tailor.ports.base import Completion, LanguageModel
from tailor.reranking.examples import Example, examples
from tailor.reranking.shortlist import Limits, Reranked, Shortlist
from tailor.worlds.aspects import AspectModel, aspect_world

RUN = Run(workers=1)
WORLD = aspect_world(40, 6, items=200, depth=12, seed=3)
LEARN = WORLD.data.with_lists(WORLD.learned)


@dataclass(frozen=True)
class Replies(LanguageModel):
    """Answers by the schema's title, and notes what it was asked."""

    texts: dict
    asked: list = field(default_factory=list)

    @property
    def fingerprint(self):
        return "replies"

    def capabilities(self):
        return frozenset({"schema"})

    def score(self, prompts, answers):
        raise ModelError("no log-probabilities")

    def complete(self, prompts, *, schema=None, **settings):
        title = schema["title"]
        self.asked.extend((title, prompt) for prompt in prompts)
        reply = self.texts.get(title)
        if reply is None:
            return [Completion((), error="nothing") for _ in prompts]
        answers = [reply(prompt) if callable(reply) else reply for prompt in prompts]
        return [Completion((json.dumps({title: answer}),), 10, 5) for answer in answers]


def in_order(prompt):
    """Returns the numbers of the documents as they stand."""
    count = prompt.rpartition("Documents:")[2].count("\n[")
    return list(range(1, count + 1))


def replies(**texts):
    return Replies({"profile": "likes tents", "order": in_order, "lessons": "ask more"} | texts)


def shortlist(history=("old tent", "old stove"), **parts):
    texts = ("red canvas tent", "blue canvas tent", "blue steel stove", "red steel stove")
    prior = -np.arange(4.0)
    return Shortlist(Query(), texts, prior, request="", history=history, **parts)


# --- feedback


def test_feedback_says_where_the_chosen_item_stood_and_which_words_tell_it_apart():
    user = Example(
        shortlist(history=("green steel pot", "green steel pan", "cheap steel pan")),
        np.array([0.0, 0.0, 1.0, 0.0]),
    )
    texts = ("red tent", "red canvas tent", "green steel stove", "blue stove")
    user = replace(user, shortlist=replace(user.shortlist, texts=texts))
    profile = Profile(None, "likes red stove things")
    item = Described(replace(user.shortlist, profile=profile))
    result = Reranked(np.array([0, 1, 2, 3]), np.zeros(4), "rank", ("ranked",) * 4)
    search = Refinement(AGP(llm=replies()))
    line = search.position_feedback(user, item, result)
    # "green" and "steel" are usual in the history; "red" is above, and the chosen item lacks it;
    # "stove" is in half of the list, and tells nothing
    assert line == (
        "the chosen item stood at 3 of 4; it should be at 1; missing: green steel; misleading: red"
    )
    first = Reranked(np.array([2, 0, 1, 3]), np.zeros(4), "rank", ("ranked",) * 4)
    helped = Described(replace(user.shortlist, profile=Profile(None, "green red")))
    assert search.position_feedback(user, helped, first) == (
        "the chosen item stood at 1 of 4; it should be at 1; missing: steel; helpful: green"
    )


def test_what_most_items_above_share_is_not_missing():
    texts = ("steel pot", "steel pan", "green steel stove", "tent", "lamp", "rope", "boat")
    shown = Shortlist(Query(), texts, np.zeros(7), history=("green steel pot", "green steel pan"))
    user = Example(shown, np.eye(7)[2])
    result = Reranked(np.arange(7), np.zeros(7), "rank", ("ranked",) * 7)
    line = Refinement(AGP(llm=replies())).position_feedback(user, Described(shown), result)
    assert line.endswith("missing: green")


def test_the_rewriter_is_told_lessons_of_a_batch_and_the_old_instruction():
    llm = replies(instruction="Say more.")
    method = AGP(llm=llm, users=20, user_batch=4, rounds=1).fit(LEARN, RUN)
    titles = [title for title, _ in llm.asked]
    assert titles.count("lessons") == titles.count("instruction") == 1
    lessons = next(prompt for title, prompt in llm.asked if title == "lessons")
    assert lessons.count("the chosen item stood at") == 4 and method.instruction in lessons
    rewriting = next(prompt for title, prompt in llm.asked if title == "instruction")
    assert "Lessons: <<ask more>>" in rewriting and method.instruction in rewriting


def test_without_feedback_nothing_is_told():
    for feedback, told in (("none", 0), ("words", 4)):
        llm = replies(instruction="Say more.")
        AGP(llm=llm, users=20, user_batch=4, rounds=1, feedback=feedback).fit(LEARN, RUN)
        prompts = " ".join(prompt for title, prompt in llm.asked if title == "lessons")
        assert prompts.count("chosen: ") == told and "stood at" not in prompts


# --- learning


def test_it_finds_what_decides_and_drops_what_misleads():
    first = WORLD.first_instruction()
    settings = {"llm": AspectModel(), "instruction": first, "rounds": 5}
    method = AGP(**settings).fit(LEARN, RUN)
    assert sum(aspect in method.instruction_ for aspect in WORLD.useful) >= 2
    assert not any(aspect in method.instruction_ for aspect in WORLD.harmful)
    figures = method.fit_report_["NDCG@10"]
    assert figures["learned"] > figures["first"] + 0.2
    assert method.fit_report_["calls"] == method.curve_[-1]["calls"]
    assert "[-" in method.fit_report_["diff"]
    # the order of a held-out user's list follows the learned instruction
    lists = method.shortlists(WORLD.held_out.queries, WORLD.held_out.rankings)
    trace = method.rerank(lists[:1], trace=True)[0].trace
    assert method.instruction_ in trace[0].prompt and trace[0].docs == ()


def test_only_a_better_instruction_is_kept_and_patience_ends_the_search():
    llm = replies(instruction=lambda prompt: f"Try {hash(prompt) % 1000} words.")
    method = AGP(llm=llm, users=20, user_batch=4, rounds=9, patience=2).fit(LEARN, RUN)
    # the order never changes, so that no instruction is better
    assert method.instruction_ == method.instruction
    assert [trial["kept"] for trial in method.curve_] == [True, False, False]


def test_users_that_judge_are_not_learned_from():
    llm = AspectModel()
    method = AGP(llm=llm, rounds=0).fit(LEARN, RUN)
    lists = {id_of(item) for item in examples(method, LEARN, RUN)}
    seen = {"judged": set(), "learned": set()}

    class Watched(Refinement):
        def quality(self, instruction, users):
            seen["judged"] |= {id_of(user) for user in users}
            return 0.0

        def rewritten(self, instruction, batch, seed):
            seen["learned"] |= {id_of(user) for user in batch}
            return "x"

    from tailor.papers.reranking import agp

    patch = pytest.MonkeyPatch()
    patch.setattr(agp, "Refinement", Watched)
    AGP(llm=llm, rounds=5, patience=9, user_batch=4).fit(LEARN, RUN)
    patch.undo()
    assert not seen["judged"] & seen["learned"] and seen["judged"] | seen["learned"] == lists


def id_of(user):
    return user.shortlist.query.user_id


def test_calls_end_the_search_before_they_are_passed():
    settings = {"llm": AspectModel(), "users": 8, "user_batch": 2, "rounds": 9, "patience": 9}
    free = AGP(**settings).fit(LEARN, RUN)
    first, second = (trial["calls"] for trial in free.curve_[:2])
    limited = AGP(**settings, calls=2 * second - first).fit(LEARN, RUN)
    assert len(limited.curve_) == 3 and limited.curve_[-1]["calls"] <= 2 * second - first


@pytest.mark.parametrize("limit", [30, 47, 60])
def test_no_round_is_begun_that_the_calls_do_not_suffice_for(limit):
    settings = {"users": 8, "user_batch": 4, "rounds": 9, "patience": 9}
    method = AGP(llm=AspectModel(), **settings, calls=limit).fit(LEARN, RUN)
    first = method.curve_[0]["calls"]
    assert method.curve_[-1]["calls"] <= max(limit, first)


def test_without_lists_nothing_is_learned():
    one = WORLD.data.cut((WORLD.data.events["user_id"] == "u-0000").to_numpy())
    method = AGP(llm=replies()).fit(one, RUN)
    assert "nothing" in method.fit_report_["learned"]
    assert method.instruction_ == method.instruction


# --- names and orders


def test_names_of_items_leave_the_instruction():
    names = {"Up", "Blue Tent 4", "Tent"}
    text = "Ask about the blue tent 4, what is Up and up; tents and Tent."
    assert without_names(text, names) == "Ask about the , what is and up; tents and ."

    name = WORLD.data.texts_of("title")[0]
    shown = shortlist(titles=(name, "", "", ""))
    search = Refinement(AGP(llm=replies(instruction=f"Prefer {name} and wool."), feedback="none"))
    user = Example(shown, np.array([1.0, 0, 0, 0]))
    assert search.rewritten("Say.", [user], 0) == "Prefer and wool."


def test_an_instruction_that_orders_to_rank_an_item_is_not_tried():
    user = Example(shortlist(), np.array([1.0, 0, 0, 0]))
    for answer in ("Always rank this item first.", "Say.", ""):
        search = Refinement(AGP(llm=replies(instruction=answer), feedback="none"))
        assert search.rewritten("Say.", [user], 0) == ""


# --- answering


def test_a_written_profile_stands_in_place_of_the_history():
    llm = replies()
    result = AGP(llm=llm, instruction="Describe.").rerank([shortlist()], trace=True)[0]
    written, ordering = result.trace
    assert written.prompt.startswith("Describe.") and "[1] <<old tent>>" in written.prompt
    assert "The user: <<likes tents>>" in ordering.prompt and "old tent" not in ordering.prompt
    assert result.spent.calls == 2 and result.spent.tokens_in == 20


def test_a_profile_of_the_query_is_taken_as_it_is():
    llm = replies()
    AGP(llm=llm).rerank([shortlist(profile=Profile(None, "likes boats"))])
    assert [title for title, _ in llm.asked] == ["order"] and "likes boats" in llm.asked[0][1]


def test_without_a_written_profile_the_history_is_shown():
    llm = replies(profile=None)
    result = AGP(llm=llm).rerank([shortlist()])[0]
    assert "old tent; old stove" in llm.asked[1][1] and result.spent.calls == 1
    nothing = AGP(llm=replies()).rerank([shortlist(history=())])[0]
    assert nothing.spent.calls == 1


def test_limits_hold_for_descriptions_and_orders_together():
    method = AGP(llm=replies())
    result = method.rerank([shortlist(), shortlist()], Limits(calls=3))
    assert sum(item.spent.calls for item in result) == 3
    assert set(result[1].statuses) == {"fallback"}


def test_money_is_that_of_descriptions_and_orders():
    llm = Metered(replies(), usd_per_million_in=1e6, usd_per_million_out=1e6)
    result = AGP(llm=llm).rerank([shortlist()])[0]
    assert result.spent.usd == pytest.approx(30.0) == pytest.approx(llm.spent.usd)


def test_profiles_of_queries_can_be_read():
    method = AGP(llm=AspectModel(misses=0.0), instruction=WORLD.best_instruction(), rounds=0)
    method.fit(LEARN, RUN)
    profile, empty = method.profiles([WORLD.held_out.queries[0], Query("someone")])
    assert all(aspect in profile.text for aspect in WORLD.useful)
    assert profile.user_id == "u-0040" and not empty.text and empty.notes


# --- small parts


def test_word_diff_marks_what_left_and_what_came():
    assert word_diff("name the colour now", "name the style and size now") == (
        "name the [-colour-] {+style and size+} now"
    )


def test_settings_are_checked():
    for wrong in ({"users": 0}, {"rounds": -1}, {"instruction": " "}, {"feedback": "loud"}):
        with pytest.raises(ModelError):
            AGP(**wrong)
