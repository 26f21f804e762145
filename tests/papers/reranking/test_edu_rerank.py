"""EDU plans: drafts of different plans, told from their clauses, the best of which is picked."""

import re

import numpy as np
import polars as pl
import pytest

from tailor.core.run import Run
from tailor.core.saving import load
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query, same
from tailor.errors import ModelError
from tailor.llm.scripted import ScriptedModel
from tailor.papers.reranking.edu_rerank import PLAN_FEATURES, EDURerank
from tailor.text.hashing import HashingEncoder

ENCODER = HashingEncoder(64)
RUN = Run(workers=1)
REVIEW = (
    "The tent is very roomy. The tent is roomy inside. The zip broke in Delft, and nobody helped."
)
MARKED = re.compile(r"<e>(.*?)</e>")


class Echo(ScriptedModel):
    """Says again what stands between the marks; keeps what it was asked."""

    asked: list = []

    def complete(self, prompts, **settings):
        Echo.asked.extend(prompts)
        return super().complete(prompts, **settings)

    def _answer(self, prompt, seed, grammar=None):
        return f'"{" ".join(marked_clauses(prompt))}"\nIs this good?'


@pytest.fixture(autouse=True)
def nothing_asked():
    Echo.asked.clear()


def of_texts(rows, items=None):
    """Return data of reviews: user, text, title, in the order of their times."""
    texts = pl.DataFrame(rows, schema=["user_id", "text", "title"], orient="row")
    texts = texts.with_columns(time_ms=pl.int_range(len(texts)))
    events = pl.DataFrame({"user_id": ["u"], "item_id": ["i"], "time_ms": [1]})
    tables = {"events": events, "texts": texts}
    return Dataset(tables if items is None else {**tables, "items": items})


def method(data=None, **settings):
    fresh = EDURerank(**{"encoder": ENCODER, "clauses": 1, "candidates": 2} | settings)
    return fresh.fit(of_texts([]) if data is None else data, RUN)


def drafts_of(fitted, text, **query):
    return fitted.generate([Query(text=text, **query)])[0].details["drafts"]


def test_drafts_tell_plans_that_differ():
    alike = [draft["plan"] for draft in drafts_of(method(strength=0.0), REVIEW)]
    different = [draft["plan"] for draft in drafts_of(method(strength=0.7), REVIEW)]
    assert alike == [[0], [1]]  # the two best clauses say the same
    assert different == [[0], [3]]


def test_a_plan_has_up_to_so_many_clauses_in_the_order_of_the_text():
    (reading,) = method(clauses=2).read([(REVIEW, ())])
    assert reading.plans == [(0,), (1,), (2,), (3,), (0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    assert reading.texts[5] == "The tent is very roomy, The zip broke in Delft"
    assert method(most_clauses=2).read([(REVIEW, ())])[0].plans == [(0,), (1,)]


def late_titles(rng, count=60):
    """Reviews whose title is their last clause."""
    rows = []
    for number in range(count):
        clauses = [f"word{rng.integers(99)} thing{rng.integers(99)} came here" for _ in range(4)]
        rows.append((f"user{number}", ". ".join(clauses) + ".", clauses[-1]))
    return rows


def test_plans_are_scored_as_titles_taught():
    fitted = method(of_texts(late_titles(np.random.default_rng(0))))
    assert fitted.weights_[PLAN_FEATURES.index("position")] > 0.5
    text = "first thing was here. second thing was here. third thing was here."
    assert drafts_of(fitted, text)[0]["plan"] == [2]
    assert drafts_of(method(), text)[0]["plan"] != [2]


def lovely_titles(rng, count=200):
    """Reviews whose title is the one of two clauses that begins as titles do."""
    rows = []
    for number in range(count):
        title = f"lovely soft thing{rng.integers(9)}"
        clauses = rng.permutation([title, f"awful dull thing{rng.integers(9)}"])
        rows.append((f"user{number}", ". ".join(clauses) + ".", title))
    return rows


def test_the_reranker_picks_what_reads_like_a_title():
    rng = np.random.default_rng(1)
    data = of_texts(lovely_titles(rng))
    judged = lovely_titles(rng, 60)
    queries = [Query(text=text) for _, text, _ in judged]
    hits = {}
    for pick in ("rerank", "plan"):
        outputs = method(data, pick=pick).generate(queries)
        pairs = zip(outputs, judged, strict=True)
        hits[pick] = sum(output.text.lower() == title for output, (_, _, title) in pairs)
    assert hits["rerank"] >= 57 and hits["plan"] <= 45


def test_the_reranker_does_not_see_the_titles_that_fluency_was_counted_on():
    rng = np.random.default_rng(5)
    rows = []
    for number in range(200):  # which clause is the title is chance, and no word tells
        clauses = [" ".join(rng.choice([f"word{n}" for n in range(40)], 3)) for _ in range(2)]
        rows.append((f"user{number}", ". ".join(clauses) + ".", clauses[rng.integers(2)]))
    report = method(of_texts(rows)).fit_report_
    assert abs(report["pick weights"]["fluency"]) < 0.4  # .65 where it does


def test_what_the_author_wrote_before_counts():
    rng = np.random.default_rng(2)
    rows = []
    for number in range(80):
        subject, other = rng.choice([f"thing{n}" for n in range(9)], 2, replace=False)
        clauses = rng.permutation([f"{name} {name} works" for name in (subject, other)])
        rows.append((f"user{number}", f"{subject} {subject} {subject}.", ""))
        rows.append((f"user{number}", ". ".join(clauses) + ".", f"{subject} {subject} works"))
    data = of_texts(rows)
    fitted = method(data, candidates=1)
    text = "thing3 thing3 works. thing1 thing1 works."
    for earlier, plan in (("thing3 thing3", [0]), ("thing1 thing1", [1])):
        history = History(("i",), texts=(earlier,))
        assert drafts_of(fitted, text, history=history)[0]["plan"] == plan


# ---- told by a model


def marked_clauses(prompt):
    """The marked parts of a prompt, without the marks that its instruction names."""
    return MARKED.findall(prompt.partition("\nWrite")[0])


def test_a_model_sees_the_clauses_of_each_plan_marked():
    output = method(llm=Echo(), strength=0.7).generate([Query(text=REVIEW)])[0]
    shown = [marked_clauses(prompt) for prompt in Echo.asked]
    assert shown == [["The tent is very roomy."], ["and nobody helped."]]
    texts = [draft["text"] for draft in output.details["drafts"]]
    assert texts == ["The tent is very roomy.", "and nobody helped."]
    for draft in output.details["drafts"]:
        assert draft["status"] == "written" and draft["adherence"] == 1


@pytest.mark.parametrize("reply", ["Bought in Ghent for 20 euros", "...", ""])
def test_words_that_the_text_does_not_have_give_way_to_the_extract(reply):
    llm = ScriptedModel(reply=reply)
    output = method(llm=llm).generate([Query(text=REVIEW)])[0]
    extracts = {draft["text"] for draft in drafts_of(method(), REVIEW)}
    assert output.text in extracts and output.details["status"] == "fallback"
    failing = method(llm=ScriptedModel(failing=1.0)).generate([Query(text=REVIEW)])[0]
    assert failing.details["status"] == "fallback"


# ---- answering


def test_evidence_has_the_offsets_of_the_clauses():
    output = method().generate([Query(text=REVIEW)])[0]
    (evidence,) = output.evidence
    start, end = map(int, evidence.id.split(":"))
    assert REVIEW[start:end] == evidence.text and output.text in evidence.text


def test_an_item_s_text_is_told_unless_it_is_excluded():
    items = pl.DataFrame({"item_id": ["i", "j"], "text": ["A red tent.", "A blue kettle."]})
    fitted = method(of_texts([], items))
    history = History.of("j", "i")
    latest, named, barred, nothing = fitted.generate(
        [
            Query(history=history),
            Query(history=history, context={"item_id": "j"}),
            Query(history=history, exclude=("i",)),
            Query(context={"item_id": "unknown"}),
        ]
    )
    assert (latest.text, latest.item_ids) == ("A red tent", ("i",))
    assert named.item_ids == barred.item_ids == ("j",)
    assert nothing.is_empty and nothing.notes and nothing.details["status"] == "empty"


def test_a_saved_method_writes_the_same(tmp_path):
    fitted = method(of_texts(late_titles(np.random.default_rng(0), 20)))
    loaded = load(fitted.save(tmp_path / "model"))
    queries = [Query(text=REVIEW), Query(text="Roomy.")]
    assert same(loaded.generate(queries), fitted.generate(queries))


def test_commands_may_hand_it_a_text():
    assert EDURerank().answers_text()


def test_settings_out_of_range_are_refused():
    for setting in ({"candidates": 0}, {"strength": 1.5}, {"lr": 0.0}, {"most_pairs": -1}):
        with pytest.raises(ModelError, match="from 1"):
            EDURerank(**setting)
    with pytest.raises(ModelError):
        EDURerank(pick="best")
