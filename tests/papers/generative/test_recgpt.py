"""RecGPT: interests with evidence, tags by counted moves, losses by hand, writer and judge."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import pytest

pytest.importorskip("torch")

import torch

from tailor.core.run import Run
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query, Ranking
from tailor.data.queries import Queries
from tailor.data.splits import split_by
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError, ModelError
from tailor.papers.generative.recgpt import (
    WEIGHTS,
    LabelledTag,
    RecGPT,
    _keywords,
    _mixed,
    _moves,
    _Pairs,
)
from tailor.ports.base import Completion, LanguageModel
from tailor.retrieval.sasrec import SASRec
from tailor.text.hashing import HashingEncoder

RUN = Run(seed=1, workers=1, dtype="float32")
COLOURS = ("red", "blue", "green", "black")


KINDS = (("tent", "lantern"), ("pan", "spoon"))


def trips(users: int = 24, kinds: tuple[tuple[str, str], ...] = KINDS) -> Dataset:
    """Return users who take two tents and then two lanterns, or two pans and then two spoons."""
    rng = np.random.default_rng(0)
    rows = [
        (f"u{user}", f"{kind}-{colour}", 4 * place + number)
        for user in range(users)
        for place, kind in enumerate(kinds[user % len(kinds)])
        for number, colour in enumerate(rng.permutation(COLOURS)[:2].tolist())
    ]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "time_ms"], orient="row")
    items = [
        {"item_id": f"{kind}-{c}", "title": f"{c.title()} {kind}", "categories": [kind]}
        for pair in kinds
        for kind in pair
        for c in COLOURS
    ]
    return Dataset({"events": events, "items": pl.DataFrame(items)})


def model(**settings) -> RecGPT:
    defaults = {
        "inner": SASRec(width=8, length=10, epochs=3, negatives=None, patience=None),
        "encoder": HashingEncoder(64),
        "width": 16,
        "epochs": 3,
        "batch": 16,
        "interests_per_user": 2,
        "tags_per_interest": 2,
    }
    return RecGPT(**(defaults | settings))


@pytest.fixture(scope="module")
def fitted() -> RecGPT:
    return model().fit(trips(), RUN)


TENTS = Query("someone", History.of("tent-red", "tent-blue"))


def test_interests_name_what_the_history_shows_and_what_comes_next(fitted):
    first = fitted.interests([TENTS])[0][0]
    assert first.text == "tent"
    assert first.item_ids == ("tent-blue", "tent-red")
    assert first.tags == ("tent", "lantern")
    pans = fitted.interests([Query(history=History.of("pan-red", "pan-blue"))])[0]
    assert pans[0].tags == ("pan", "spoon")
    assert fitted.interests([Query(history=History.of("unknown")), Query()]) == [(), ()]


def test_a_tag_that_copies_a_title_of_the_history_is_left_out():
    data = trips()
    titles = [
        {"item_id": item_id, "title": item_id.split("-")[0].title()}
        for item_id in data.catalogue.ids
    ]
    plain = Dataset({"events": data.events, "items": pl.DataFrame(titles)})
    first = model().fit(plain, RUN).interests([TENTS])[0][0]
    assert (first.text, first.tags) == ("tent", ("lantern",))


def test_phrases_are_weighed_by_count_and_rarity_by_hand(fitted):
    method = _copy(fitted, interests_per_user=4)
    names = fitted.phrases_.ids.tolist()
    usual = {"tent": 0.3, "red": 0.05, "pan": 0.001, "blue": 0.3}
    method.shares_ = np.array([usual.get(name, 0.9) for name in names], np.float32)
    history = fitted.items_.rows(["tent-red", "pan-red", "tent-blue"])
    counts = {"tent": 0.85**2 + 1, "red": 0.85**2 + 0.85, "pan": 0.85, "blue": 1.0}
    total = 0.85**2 + 0.85 + 1
    scores = {name: counts[name] * np.log(counts[name] / total / usual[name]) for name in usual}
    expected = ["red", "tent", "pan", "blue"]  # "pan" and "blue" are of one item only
    assert scores["red"] > scores["tent"] and scores["pan"] > scores["blue"]
    assert counts["red"] < counts["tent"] and counts["pan"] < counts["blue"]
    assert scores["pan"] > scores["red"]
    assert [names[row] for row in method._strongest_phrases(history)] == expected
    method.phrases_ = Vocabulary("blue tent" if name == "blue" else name for name in names)
    chosen = [names[row] for row in method._strongest_phrases(history)]
    assert {"tent", "blue"} - set(chosen)  # no two interests share a word


def test_measures_are_no_interests():
    titles = ["12 oz tent", "5 oz tent", "8 oz pan", "pan", "spoon", "flag", "coat", "scarf", "hat"]
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(9)], "title": titles})
    events = [(f"u{n}", f"i{(n + step) % 9}", step) for n in range(9) for step in range(3)]
    frame = pl.DataFrame(events, schema=["user_id", "item_id", "time_ms"], orient="row")
    data = Dataset({"events": frame, "items": items})
    names = _keywords(data, data.texts_of("title"), np.arange(9)).names
    assert "oz" not in names
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tailor.papers.generative.recgpt.MEASURES", frozenset())
        assert "oz" in _keywords(data, data.texts_of("title"), np.arange(9)).names


def test_moves_are_counted_up_to_three_events_ahead():
    moves = _moves(Ragged.of([[0, 1, 2, 0, 1], [2, 1]]), 3).toarray()
    pairs = np.zeros((3, 3))
    for history in ([0, 1, 2, 0, 1], [2, 1]):
        for i, item in enumerate(history):
            for other in history[i + 1 : i + 4]:
                pairs[item, other] += 1
    assert np.array_equal(moves, pairs)


def test_the_loss_is_corrected_by_popularity_and_leaves_out_the_same_item(fitted, monkeypatch):
    logits = torch.tensor([[2.0, 0.5, 1.0], [0.0, 1.0, 3.0], [1.0, 2.0, 0.5]])
    net = fitted._ready()
    monkeypatch.setattr(net, "logits", lambda *given: logits)
    method = _copy(fitted, category_weight=0.0)
    batch = _Pairs(np.array([[0], [1], [2]]), np.array([4, 7, 4]))
    log_shares = torch.full((16,), -3.0)
    log_shares[7] = -1.0
    loss = method._loss(batch, log_shares, np.random.default_rng(0)).item()
    corrected = logits.numpy() - np.array([-3.0, -1.0, -3.0])
    first = corrected[0, :2]  # the third target is the first one's
    third = corrected[2, 1:]
    expected = [
        np.log(np.exp(first).sum()) - first[0],
        np.log(np.exp(corrected[1]).sum()) - corrected[1, 1],
        np.log(np.exp(third).sum()) - third[1],
    ]
    assert loss == pytest.approx(np.mean(expected), rel=1e-5)
    monkeypatch.setattr(RecGPT, "_category_loss", lambda *given: torch.tensor(2.0))
    with_categories = _copy(fitted, category_weight=0.1)
    total = with_categories._loss(batch, log_shares, np.random.default_rng(0)).item()
    assert total == pytest.approx(loss + 0.2, rel=1e-5)


def test_the_category_loss_pulls_a_phrase_to_items_of_its_category(fitted, monkeypatch):
    logits = torch.tensor([[2.0, 0.5, 1.0], [0.0, 1.0, 3.0], [1.0, 2.0, 0.5]])
    monkeypatch.setattr(fitted._ready(), "logits", lambda *given: logits)
    method = _copy(fitted)
    rows = fitted.items_.rows(["tent-red", "pan-red", "tent-blue"])
    method._categories = np.array([item_id[:3] == "ten" for item_id in fitted.items_.ids])
    loss = method._category_loss(
        _Pairs(np.zeros((3, 1), int), rows), torch.zeros(3, 4), np.random.default_rng(0)
    )
    shares = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(axis=1, keepdims=True)
    right = [shares[0, [0, 2]].sum(), shares[1, 1], shares[2, [0, 2]].sum()]
    assert loss.item() == pytest.approx(-np.log(right).mean(), rel=1e-5)


def _copy(method: RecGPT, **settings) -> RecGPT:
    """Return a fitted method with other settings, and the same net."""
    copied = replace(method, **settings)
    copied.__dict__ |= method.state()
    copied._net = method._ready()
    return copied


def test_the_best_tag_counts_and_padding_does_not(fitted):
    net = fitted._ready()
    items = net.items.all_items()
    vectors = torch.from_numpy(fitted.phrase_vectors_[:3])
    each = net.logits(vectors[:, None], torch.ones(3, 1, dtype=torch.bool), items)
    mask = torch.tensor([[True, True, False]])
    both = net.logits(vectors[None], mask, items)
    assert torch.allclose(both[0], each[:2].amax(dim=0))


def test_like_texts_match_before_anything_is_learned(fitted):
    net = fitted._make_net().eval()
    phrases = [row for row, name in enumerate(fitted.phrases_.ids) if name in ("tent", "spoon")]
    tags = torch.from_numpy(fitted.phrase_vectors_[phrases])[:, None]
    with torch.inference_mode():
        logits = net.logits(tags, torch.ones(2, 1, dtype=torch.bool), net.items.all_items())
    for phrase, best in zip(phrases, logits.topk(4).indices.tolist(), strict=True):
        kinds = {item_id.split("-")[0] for item_id in fitted.items_.named(np.array(best))}
        assert kinds == {fitted.phrases_.ids[phrase]}


def test_scores_are_weighted_log_probabilities():
    behaviour = np.log(np.array([[0.7, 0.3], [0.5, 0.5]]))
    behaviour[1, 1] = -np.inf
    by_tags = np.log(np.array([[0.1, 0.9], [0.2, 0.8]]))
    mixed = _mixed(behaviour, by_tags, 0.6)
    assert mixed[0].tolist() == pytest.approx(
        [0.6 * np.log(0.7) + 0.4 * np.log(0.1), 0.6 * np.log(0.3) + 0.4 * np.log(0.9)]
    )
    assert mixed[1, 1] == -np.inf


def test_the_weight_is_the_one_with_the_best_recall_on_validation(fitted, monkeypatch):
    items = len(fitted.items_)
    queries = Queries.of([Query(history=History.of("tent-red"))] * 4)
    queries = replace(queries.reindexed(fitted.items_))
    targets = Ragged.of([[0], [1], [2], [3]])
    monkeypatch.setattr("tailor.papers.generative.recgpt.DEPTH", 1)
    behaviour = np.tile(-np.arange(items, dtype=np.float32), (4, 1))  # always item 0 first
    by_tags = np.full((4, items), -50.0, np.float32)
    by_tags[np.arange(4), np.arange(4)] = 0.0  # always the target first
    monkeypatch.setattr(RecGPT, "_log_probs", lambda self, given: (behaviour, by_tags))
    weight, recalls = fitted._choose_weight(queries, targets)
    assert recalls["1.0"] == 0.25 and recalls["0.9"] == 1.0
    assert weight == 0.9  # of equals the largest
    monkeypatch.setattr(RecGPT, "_log_probs", lambda self, given: (by_tags, behaviour))
    assert fitted._choose_weight(queries, targets)[0] == max(WEIGHTS)


def test_a_fit_with_a_validation_part_chooses_the_weight():
    split = split_by(trips(kinds=(*KINDS, ("coat", "scarf"))), "last")
    method = model().fit(split.train, RUN, split)
    recalls = method.fit_report_["recall_by_weight"]
    assert list(recalls) == [str(weight) for weight in WEIGHTS]
    assert recalls[str(method.weight_)] == max(recalls.values())
    queries, targets = split.queries("valid")
    lists = method.recommend(queries.without_history(), 20).reindexed(queries.catalogue)
    is_hit = (lists.rows == targets.values[:, None]).any(axis=1)  # one target each
    assert recalls[str(method.weight_)] == pytest.approx(is_hit.mean(), abs=1e-5)


def test_tags_find_what_behaviour_alone_does_not():
    data = trips()
    rare = pl.DataFrame({"user_id": ["u0"], "item_id": ["lantern-rare"], "time_ms": [100]})
    title = pl.DataFrame(
        {"item_id": ["lantern-rare"], "title": ["Old lantern"], "categories": [["lantern"]]}
    )
    extended = Dataset(
        {
            "events": pl.concat([data.events.select(rare.columns), rare]),
            "items": pl.concat([data.tables["items"], title]),
        }
    )
    queries = [replace(TENTS, exclude=TENTS.history.item_ids)]
    ranks = {}
    for weight in (1.0, 0.3):
        method = model(weight=weight, interests_per_user=1).fit(extended, RUN)
        ranks[weight] = method.recommend(queries, 15)[0].ids.index("lantern-rare")
    assert ranks[0.3] < ranks[1.0]
    assert ranks[0.3] < 6


def test_items_are_explained_by_the_evidence_of_the_best_interest(fitted):
    query = Query(history=History.of("tent-red", "pan-blue", "tent-blue"))
    ranking = fitted.recommend([query], 6)[0]
    interests = fitted.interests([query])[0]
    by_name = {interest.text: interest for interest in interests}
    for explanation in fitted.explain([query], [ranking])[0]:
        name = explanation.text.split('"')[1]
        assert tuple(e.id for e in explanation.evidence) == by_name[name].item_ids
        assert sum(e.share for e in explanation.evidence) == pytest.approx(1)
    nothing = fitted.explain([Query()], [ranking])[0]
    assert all(not explanation.evidence for explanation in nothing)


def test_an_item_that_is_not_known_has_no_explanation(fitted):
    query = Query(history=History.of("tent-red", "pan-blue", "tent-blue"))
    known, unknown = fitted.explain([query], [Ranking(("pan-red", "nothing"), (1.0, 0.5))])[0]
    assert known.evidence
    assert not unknown.evidence and not unknown.text


def test_without_texts_it_answers_as_its_sequence_model():
    rows = [(f"u{user}", item, n) for user in range(8) for n, item in enumerate("abcd")]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "time_ms"], orient="row")
    method = model().fit(Dataset({"events": events}), RUN)
    query = Query(history=History.of("a", "b"))
    assert method.weight_ == 1.0
    assert method.interests([query]) == [()]
    assert method.recommend([query], 4)[0].ids == method.inner_.recommend([query], 4)[0].ids


# ---- language models


@dataclass(frozen=True)
class Saying(LanguageModel):
    """Says the same to every prompt; says yes where a prompt holds one of the good words."""

    answer: str = ""
    good: tuple[str, ...] = ()
    name: str = "saying"

    @property
    def fingerprint(self) -> str:
        return self.name

    def complete(self, prompts: Sequence[str], **request) -> list[Completion]:
        error = "" if self.answer else "nothing to say"
        return [Completion((self.answer,) if self.answer else (), error=error) for _ in prompts]

    def score(self, prompts: Sequence[str], answers: Sequence[str]) -> np.ndarray:
        tags = [prompt.split("want next?")[-1] for prompt in prompts]
        says_yes = [any(word in tag for word in self.good) for tag in tags]
        pairs = zip(says_yes, answers, strict=True)
        return np.array([0.0 if (answer == "yes") == yes else -1.0 for yes, answer in pairs])

    def capabilities(self) -> frozenset[str]:
        return frozenset({"score"})


@dataclass(frozen=True)
class Counting(LanguageModel):
    """Notes the prompts that another model is asked."""

    inner: LanguageModel
    prompts: list[str]

    @property
    def fingerprint(self) -> str:
        return self.inner.fingerprint

    def complete(self, prompts: Sequence[str], **request) -> list[Completion]:
        self.prompts.extend(prompts)
        return self.inner.complete(prompts, **request)

    def score(self, prompts: Sequence[str], answers: Sequence[str]) -> np.ndarray:
        return self.inner.score(prompts, answers)

    def choices(self, prompts: Sequence[str], labels: Sequence[str]) -> np.ndarray:
        self.prompts.extend(prompts)
        return self.inner.choices(prompts, labels)

    def capabilities(self) -> frozenset[str]:
        return self.inner.capabilities()


STOVE_LABELS = [
    LabelledTag(("Red tent",), "camp stove", True),
    LabelledTag(("Red tent",), "piano", False),
]
WRITTEN = """Here: [{"interest": "camping", "evidence": [2, 99], "tags": ["camp stove", "red Tent",
 "a thing with far too many words in it"]}, {"interest": "yachts", "evidence": [7], "tags": ["sail"]},
 {"interest": "no tags", "evidence": [1], "tags": []}, "nonsense", {"evidence": [1]}]"""


def test_what_a_writer_says_needs_evidence_and_tags_that_are_no_copies(fitted):
    method = _copy(fitted, writer=Saying(WRITTEN))
    (found,) = method.interests([TENTS])[0]
    assert (found.text, found.item_ids, found.tags) == ("camping", ("tent-blue",), ("camp stove",))
    assert len(method.recommend([TENTS], 5)[0].ids) == 5  # a tag that is no phrase is encoded
    assert "camping" in method.explain([TENTS], [method.recommend([TENTS], 2)[0]])[0][0].text


def test_language_models_are_asked_once_for_a_history(fitted):
    writer, judge = Saying(WRITTEN), Saying(good=("stove",), name="judge")
    method = _copy(fitted, writer=writer, judge=judge).accept_judge(STOVE_LABELS)
    asked = {"writer": [], "judge": []}
    method.writer = Counting(writer, asked["writer"])
    method.judge = Counting(judge, asked["judge"])
    others = Query("other", History.of("pan-red"))
    rankings = method.recommend([TENTS, TENTS, others], 2)
    first = {name: len(prompts) for name, prompts in asked.items()}
    assert first["writer"] == 2 and first["judge"] > 0
    told = method.interests([TENTS])
    explained = method.explain([TENTS, others], [rankings[0], rankings[2]])[0][0]
    # what it said of the other, without evidence, was paid for too
    assert {name: len(prompts) for name, prompts in asked.items()} == first
    assert told[0][0].text == "camping" and "camping" in explained.text
    method.recommend([replace(TENTS, history=History.of("tent-red"))], 2)
    assert len(asked["writer"]) == 3 and len(asked["judge"]) > first["judge"]
    # a copy with another writer and a new fit ask again
    assert _copy(method, writer=Saying("", name="mute")).interests([TENTS])[0][0].text == "tent"
    method.fit(trips(), RUN)
    assert method._kept == {}


def test_what_a_writer_failed_to_say_is_asked_again_and_little_is_kept(fitted, monkeypatch):
    asked: list[str] = []
    mute = _copy(fitted, writer=Counting(Saying(""), asked))
    mute.interests([TENTS])
    mute.interests([TENTS])
    assert len(asked) == 2
    monkeypatch.setattr("tailor.papers.generative.recgpt.MOST_KEPT", 2)
    method = _copy(fitted, writer=Saying(WRITTEN))
    items = [["tent-red"], ["tent-blue"], ["tent-green"]]
    method.interests([Query(history=History.of(*ids, "tent-red", "tent-blue")) for ids in items])
    assert len(method._kept) == 2


@pytest.mark.parametrize("answer", ["", "I cannot help with that.", '{"interest": "x"}'])
def test_a_writer_without_an_answer_is_replaced_by_phrases(fitted, answer):
    method = _copy(fitted, writer=Saying(answer))
    assert method.interests([TENTS]) == fitted.interests([TENTS])


LABELS = [
    LabelledTag(("Red tent",), "lantern", True),
    LabelledTag(("Red tent",), "rope", True),
    LabelledTag(("Red tent",), "spoon", False),
    LabelledTag(("Red tent",), "piano", False),
]


def test_the_judge_drops_tags_once_it_has_agreed_with_labels(fitted):
    judge = Saying(good=("lantern", "rope"), name="judge")
    method = _copy(fitted, judge=judge)
    assert method.interests([TENTS]) == fitted.interests([TENTS])  # it was not accepted
    accepted = method.accept_judge(LABELS)
    assert accepted.agreement_ == 1.0 and method.agreement_ == 0.0
    assert accepted.interests([TENTS])[0][0].tags == ("lantern",)


@pytest.mark.parametrize("good", [("lantern",), ("lantern", "rope", "spoon"), ()])
def test_a_judge_that_disagrees_is_refused(fitted, good):
    with pytest.raises(ModelError, match="the judge agrees with"):
        _copy(fitted, judge=Saying(good=good, name="judge")).accept_judge(LABELS)


def test_a_judge_is_another_model_and_needs_labels_of_both_kinds(fitted):
    with pytest.raises(DataError, match="same language model"):
        model(writer=Saying("one"), judge=Saying("two"))
    with pytest.raises(DataError, match="2 labels"):
        _copy(fitted, judge=Saying()).accept_judge(LABELS[:2])
    with pytest.raises(DataError, match="judge None"):
        fitted.accept_judge(LABELS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight": 1.5}, "weight is 1.5"),
        ({"batch": 1}, "batch is 1"),
        ({"interests_per_user": 0}, "interests_per_user is 0"),
        ({"decay": 0.0}, "decay 0.0"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(DataError, match=message):
        model(**settings)
