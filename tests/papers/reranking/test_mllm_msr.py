"""MLLM-MSR: captions of pictures, a summary rolled forward that can be edited, yes or no."""

from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
import pytest

pytest.importorskip("torch")

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.nouns import Fact, History, Profile, Query, Ranking
from tailor.data.pictures import item_pictures
from tailor.errors import ModelError
from tailor.llm.metered import Metered
from tailor.llm.scripted import ScriptedModel
from tailor.papers.reranking.mllm_msr import MLLMMSR, caption
from tailor.ports.base import Completion
from tailor.reranking.shortlist import Limits, Shortlist
from tailor.text.hashing import HashingEncoder
from tailor.worlds.looks import looks

RUN = Run(workers=1, dtype="float32")
COLOURS = ("red", "blue", "green", "black")


def told_data(users=40, events=12, items=80, seed=0, drift=True):
    """Users who choose titles of one colour; in the middle the colour changes. No pictures."""
    rng = np.random.default_rng(seed)
    colour = np.arange(items) % len(COLOURS)
    ids = np.array([f"i{number:03d}" for number in range(items)])
    rows = []
    for user in range(users):
        first, second = rng.permutation(len(COLOURS))[:2]
        for step in range(events):
            wanted = second if drift and step >= events // 2 else first
            rows.append((f"u{user}", ids[rng.choice(np.flatnonzero(colour == wanted))], step))
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "time_ms"], orient="row")
    titles = [f"{COLOURS[code]} thing" for number, code in enumerate(colour)]
    categories = [[COLOURS[code]] for code in colour]
    table = pl.DataFrame({"item_id": ids, "title": titles, "categories": categories})
    return Dataset({"events": log, "items": table}, "told")


def fitted(data=None, **settings):
    settings = {"encoder": HashingEncoder(256), "epochs": 1, "ridge": 0.03} | settings
    return MLLMMSR(**settings).fit(told_data() if data is None else data, RUN)


@pytest.fixture(scope="module")
def method():
    return fitted()


def of_colour(name, count=6, start=0):
    code = COLOURS.index(name)
    return [f"i{number:03d}" for number in range(80) if number % 4 == code][start:][:count]


RED_THEN_BLUE = Query("u", History(tuple([*of_colour("red"), *of_colour("blue")])))
CANDIDATES = Ranking(
    tuple(of_colour("red", 2, 10) + of_colour("green", 2, 10) + of_colour("blue", 2, 10)),
    -np.arange(6),
)


def test_the_summary_follows_the_change_and_names_its_items(method):
    (summary,) = method.summaries([RED_THEN_BLUE])
    assert summary.text == "likes blue; earlier red"
    blue = next(fact for fact in summary.facts if fact.text == "likes blue")
    assert {evidence.id for evidence in blue.evidence} <= set(of_colour("blue"))
    at_once = fitted(summary="at once").summaries([RED_THEN_BLUE])[0]
    assert at_once.text == "likes blue, red"


def test_candidates_that_fit_the_present_taste_come_first_and_the_summary_is_shown(method):
    ranking = method.recommend([RED_THEN_BLUE], 6, [CANDIDATES])[0]
    assert set(ranking.ids[:2]) == set(of_colour("blue", 2, 10))
    details = ranking.details[ranking.ids[0]]
    assert details["summary"] == "likes blue; earlier red"
    assert details["caption"].startswith("blue thing") and details["status"] == "ranked"
    assert 0 < details["probability"] < 1 and ranking.score_kind == "probability"
    for colour in ("red", "green"):  # whatever is liked now, and not only what was not before
        query = Query("u", History(tuple([*of_colour("blue"), *of_colour(colour)])))
        ranking = method.recommend([query], 6, [CANDIDATES])[0]
        assert set(ranking.ids[:2]) == set(of_colour(colour, 2, 10))


def test_a_profile_of_the_query_takes_the_place_of_the_summary(method):
    edited = replace(RED_THEN_BLUE, profile=Profile("u", "likes green"))
    ranking = method.recommend([edited], 6, [CANDIDATES])[0]
    assert set(ranking.ids[:2]) == set(of_colour("green", 2, 10))
    assert ranking.details[ranking.ids[0]]["summary"] == "likes green"
    facts = replace(RED_THEN_BLUE, profile=Profile("u", facts=(Fact("likes green"),)))
    assert method.recommend([facts], 6, [CANDIDATES])[0].ids == ranking.ids
    assert method.summaries([edited])[0] is edited.profile


def test_nothing_after_the_request_is_summarised(method):
    history = History(RED_THEN_BLUE.history.item_ids, times_ms=tuple(range(12)))
    early = Query("u", history, time_ms=6)
    assert method.summaries([early])[0].text == "likes red"


def test_no_summary_that_is_learned_from_holds_its_target():
    data = told_data(users=12)
    titles = [f"word{number}" for number in range(80)]  # every title names its item alone
    items = data.tables["items"].with_columns(title=pl.Series(titles)).drop("categories")
    events = data.events.unique(["user_id", "item_id"], keep="first", maintain_order=True)
    method = fitted(Dataset({"events": events, "items": items}), most=40, decay=1.0)
    summaries, rows, labels = method._examples(Dataset({"events": events, "items": items}), RUN)
    chosen = [
        (text, method.titles_[row])
        for text, row, label in zip(summaries, rows.tolist(), labels)
        if label
    ]
    assert len(chosen) > 50
    assert not any(title in text.replace(",", " ").split() for text, title in chosen)


def test_no_more_is_learned_from_than_asked_for():
    data = told_data(users=12)
    few = fitted(data, examples=30)
    assert 0 < few.fit_report_["chosen"] <= 30
    assert (
        fitted(data, negatives=3).fit_report_["examples"] > 2.5 * fitted(data).fit_report_["chosen"]
    )


def test_somebody_unknown_keeps_the_order_and_is_told_so(method):
    ranking = method.recommend([Query("nobody")], 6, [CANDIDATES])[0]
    assert ranking.ids == CANDIDATES.ids
    assert "nothing is known" in ranking.notes[0]
    assert {d["status"] for d in ranking.details.values()} == {"fallback"}


def test_pictures_are_told_in_words_and_can_be_switched_off():
    data = looks(30, 120, seed=2)
    method = fitted(data, looks=("colour",), epochs=12)
    colour = dict(data.item_table.select("item_id", "colour").iter_rows())
    captions = dict(zip(data.catalogue.ids.tolist(), method.texts_, strict=True))
    right = [colour[item] in text for item, text in captions.items()]
    assert np.mean(right) > 0.7  # by chance .17; titles do not tell
    blind = fitted(data, looks=("colour",), pictures=False)
    assert not any(name in text for name in set(colour.values()) for text in blind.texts_)
    picture = item_pictures(data)[0]
    documents = Shortlist.of_documents("", [{"text": "new", "image": picture}, "new"])
    history = History(tuple(data.catalogue.ids[:4].tolist()))
    new = replace(documents, query=Query("u", history))
    (result,) = method.rerank([new])
    known_words = method.texts_[0].partition(": ")[2]
    assert result.details[0]["caption"] == caption("new", [known_words] if known_words else [])
    assert result.details[1]["caption"] == "new"


def _chosen(prompt):
    """Return the part of a summary's prompt that lists the items chosen."""
    return prompt.split("oldest first")[1]


@dataclass(frozen=True)
class Writer(ScriptedModel):
    """Writes a summary of the last block's colours; says yes to what the summary names."""

    prompts: list = field(default_factory=list, hash=False, compare=False, repr=False)
    sees: bool = False

    def capabilities(self):
        return frozenset({"score", "images"} if self.sees else {"score"})

    def complete(self, prompts, *, images=(), **settings):
        self.prompts.extend(prompts)
        if images:
            return [Completion((f"a violet kettle of {len(images[0])} bytes",))]
        return [
            Completion((f"loves {next((c for c in COLOURS if c in _chosen(p)), 'nothing')}",))
            for p in prompts
        ]

    def score(self, prompts, answers):
        yes = [p.count("loves blue") and "blue thing" in p for p in prompts]
        sign = [1 if (a == "yes") == bool(y) else -1 for y, a in zip(yes, answers)]
        return -np.logaddexp(0, -2.0 * np.array(sign))


def test_a_language_model_rolls_the_summary_and_says_yes():
    llm = Writer()
    method = fitted(llm=llm)
    ranking = method.recommend([RED_THEN_BLUE], 6, [CANDIDATES])[0]
    assert set(ranking.ids[:2]) == set(of_colour("blue", 2, 10))
    assert ranking.details[ranking.ids[0]]["summary"] == "loves blue"
    assert len(llm.prompts) == 4  # twelve items in blocks of three
    assert "nothing is known" in llm.prompts[0] and "loves red" in llm.prompts[1]
    assert all("<<" in prompt for prompt in llm.prompts)
    (summary,) = method.summaries([RED_THEN_BLUE])
    assert summary.text == "loves blue" and summary.facts
    edited = replace(RED_THEN_BLUE, profile=Profile("u", "loves blue"))
    count = len(llm.prompts)
    method.recommend([edited], 6, [CANDIDATES])
    assert len(llm.prompts) == count  # a profile of one's own is not rewritten


def test_limits_hold_for_summaries_and_answers_together():
    method = fitted(llm=Writer())
    lists = Shortlist.of_texts("", ["blue thing1", "red thing2", "blue thing3"])
    shortlist = replace(lists, query=RED_THEN_BLUE)
    (whole,) = method.rerank([shortlist], Limits(calls=10))
    assert set(whole.statuses) == {"ranked"}
    (few,) = method.rerank([shortlist], Limits(calls=4))  # the summary takes all four
    assert set(few.statuses) == {"fallback"} and few.order.tolist() == [0, 1, 2]


def test_nobody_is_asked_about_users_of_whom_nothing_is_known():
    llm = Writer()
    method = fitted(llm=llm)
    lists = replace(Shortlist.of_texts("", ["blue thing1", "red thing2"]), query=Query("nobody"))
    known = replace(lists, query=RED_THEN_BLUE)
    unknown, answered = method.rerank([lists, known])
    assert len(llm.prompts) == 4 and unknown.spent.calls == 0
    assert unknown.order.tolist() == [0, 1] and set(unknown.statuses) == {"fallback"}
    assert "nothing is known" in unknown.notes[0]
    assert set(answered.statuses) == {"ranked"}


def test_money_is_that_of_captions_summaries_and_answers():
    data = looks(8, 12, seed=2)
    llm = Metered(Writer(sees=True), usd_per_million_in=1.0, usd_per_million_out=1.0)
    method = fitted(data, llm=llm)
    documents = [{"text": "blue thing", "image": item_pictures(data)[0]}, "red thing"]
    history = History(tuple(data.catalogue.ids[:4].tolist()))
    shortlist = replace(Shortlist.of_documents("", documents), query=Query("u", history))
    before = llm.spent.usd
    (result,) = method.rerank([shortlist], trace=True)
    assert result.spent.usd == pytest.approx(llm.spent.usd - before, rel=1e-6)
    assert [exchange.docs for exchange in result.trace] == [(), (), (), (0,), (1,)]
    (few,) = method.rerank([shortlist], Limits(calls=0))
    assert few.spent.calls == 0 and few.order.tolist() == [0, 1]


def test_a_language_model_that_sees_writes_captions():
    data = looks(8, 12, seed=2)
    method = fitted(data, llm=Writer(sees=True))
    assert all("violet kettle" in text for text in method.texts_)
    assert all("violet kettle" in of_item for of_item in method.phrases_)


def test_wrong_settings_are_named():
    for settings in ({"block": 0}, {"decay": 0.0}, {"ridge": 0.0}, {"most": 0}, {"summary": "x"}):
        with pytest.raises(ModelError, match=next(iter(settings))):
            MLLMMSR(**settings)
