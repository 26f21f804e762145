"""MM-R5: pictures decide, notes are reasons, the cubic reward counts the first place most."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

import polars as pl
import torch

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.nouns import Query, Ranking
from tailor.data.pictures import item_pictures, write_png
from tailor.errors import ModelError
from tailor.papers.reranking.mm_r5 import MMR5, note_words, rank_rewards
from tailor.reranking.examples import Example
from tailor.reranking.learned_reranker import LearnedReranker
from tailor.reranking.shortlist import Shortlist
from tailor.testing.data import tiny_data
from tailor.text.hashing import HashingEncoder
from tailor.worlds.assets import asset_table

RUN = Run(workers=1, dtype="float32")
COLOURS = {"red": (230, 20, 20), "blue": (20, 20, 230), "green": (20, 200, 20)}
PICTURES = {
    name: [write_png(np.full((8, 8, 3), np.array(colour) + shift, np.uint8)) for shift in range(20)]
    for name, colour in COLOURS.items()
}


def lists_of(count, rng, pictures=True):
    """Lists of six pages, one of the colour that is asked for; the prior knows nothing."""
    lists = []
    for number in range(count):
        wanted, *others = rng.permutation(list(COLOURS)).tolist()
        names = rng.permutation([wanted, *rng.choice(others, 5)]).tolist()
        images = tuple(PICTURES[name][rng.integers(20)] for name in names)
        shortlist = Shortlist.of_texts(f"{wanted} page {number}", [""] * 6)
        shortlist = replace(
            shortlist, prior=rng.standard_normal(6), images=images if pictures else ()
        )
        lists.append(Example(shortlist, np.array([float(name == wanted) for name in names])))
    return lists


def catalogue():
    """Thirty coloured pages; the column colour says what they are."""
    names = [name for name in COLOURS for _ in range(10)]
    ids = [f"{name}-{i}" for i, name in enumerate(names)]
    pixels = [
        np.full((8, 8, 3), np.array(COLOURS[name]) + i % 10, np.uint8)
        for i, name in enumerate(names)
    ]
    tables = {
        "items": pl.DataFrame({"item_id": ids, "asset": ids, "colour": names}),
        "requests": pl.DataFrame({"request_id": ["r"], "text": ["x"]}),
        "judgements": pl.DataFrame({"query_id": ["r"], "item_id": ids[:1], "grade": [1.0]}),
        "assets": asset_table(ids, pixels),
    }
    return Dataset(tables, "coloured")


def taught(lists, **settings):
    settings = {
        "encoder": HashingEncoder(64),
        "notes": ("colour",),
        "note_epochs": 25,
        "width": 16,
        "lr": 5e-3,
        "epochs": 8,
        "batch": 2,
        "patience": None,
    } | settings
    method = MMR5(**settings | {"note_epochs": 1}).fit(catalogue(), RUN)  # it has no lists
    method.note_epochs = settings["note_epochs"]
    method.fit_report_ = method._learn(lists, catalogue(), RUN)
    return method


def first_right(method, lists):
    results = method.rerank([example.shortlist for example in lists])
    return np.mean([example.gains[r.order[0]] for example, r in zip(lists, results)])


@pytest.fixture(scope="module")
def fitted():
    return taught(lists_of(40, np.random.default_rng(0)))


@pytest.fixture(scope="module")
def judged():
    return lists_of(40, np.random.default_rng(1))


def test_pictures_decide_and_other_pictures_mislead(fitted, judged):
    assert first_right(fitted, judged) > 0.9  # by chance .17
    rng = np.random.default_rng(2)
    shuffled = [
        Example(
            replace(
                e.shortlist, images=tuple(rng.permutation(np.array(e.shortlist.images, object)))
            ),
            e.gains,
        )
        for e in judged
    ]
    assert first_right(fitted, shuffled) < 0.5


def test_notes_are_the_reasons_of_what_is_seen(fitted):
    documents = [{"image": PICTURES["blue"][0]}, {"text": "none"}, {"image": PICTURES["red"][3]}]
    result = fitted.rerank([Shortlist.of_documents("a red page", documents)])[0]
    assert result.details[2]["reason"] == "the picture shows colour red"
    assert result.details[0]["reason"] == "the picture shows colour blue"
    assert 1 not in result.details  # where nothing is seen, nothing is noted
    assert fitted.fit_report_["notes"]["accuracy"] == [1.0]
    assert note_words({"chart": "pie", "colour": "red"}) == (
        "the picture shows chart pie, colour red"
    )


def test_untrained_it_keeps_the_first_stage_order():
    method = taught([])
    (example,) = lists_of(1, np.random.default_rng(3))
    (result,) = method.rerank([example.shortlist])
    assert result.order.tolist() == np.argsort(-example.shortlist.prior).tolist()
    assert method.fit_report_["lists"] == 0


def test_pictures_that_cannot_be_read_are_named_and_the_list_stays_whole(fitted):
    documents = [{"image": b"GIF89a"}, {"image": PICTURES["red"][0]}]
    result = fitted.rerank([Shortlist.of_documents("a red page", documents)])[0]
    assert sorted(result.order.tolist()) == [0, 1] and 0 not in result.details
    assert "document 1" in result.notes[0] and "GIF89a" in result.notes[0]
    blind = fitted.rerank([Shortlist.of_texts("a red page", ["a", "b"])])[0]
    assert blind.notes == ("MMR5: no document has a picture",)
    assert len(fitted.rerank([Shortlist.of_texts("a red page", [])])[0].order) == 0


def test_rewards_alone_teach_and_pictures_are_read_as_before(judged):
    method = taught([], draws=16, epochs=12)
    before = {k: v.clone() for k, v in method._net.reader.state_dict().items()}
    start = first_right(method, judged)
    method._stages = lambda: {"rewards": method._reward_loss}
    LearnedReranker._learn(method, lists_of(40, np.random.default_rng(0)), catalogue(), RUN)
    assert first_right(method, judged) > start + 0.3
    after = method._net.reader.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_encoder_learns_from_orders_only_where_there_are_no_notes():
    lists = lists_of(4, np.random.default_rng(0))
    for notes in ((), ("colour",)):
        method = taught([], notes=notes, epochs=1, rewards=False)
        before = method._net.reader.encoder.out_proj.weight.detach().clone()
        if notes:  # learned as before, and once more by orders
            LearnedReranker._learn(method, lists, catalogue(), RUN)
        else:
            method._learn(lists, catalogue(), RUN)
        after = method._net.reader.encoder.out_proj.weight
        assert torch.equal(before, after) == bool(notes)


def test_rewards_by_hand():
    gains = torch.tensor([0.0, 1.0, 0.0, 1.0])
    orders = torch.tensor([[1, 3, 0, 2], [0, 1, 2, 3], [0, 2, 1, 3]])
    best = 1 + 1 / 8
    expected = [1.0, (1 / 8 + 1 / 64) / best, (1 / 27 + 1 / 64) / best]
    assert rank_rewards(orders, gains, 3.0).tolist() == pytest.approx(expected)
    by_rank = rank_rewards(orders, gains, 1.0).tolist()
    assert by_rank == pytest.approx([1.0, (1 / 2 + 1 / 4) / 1.5, (1 / 3 + 1 / 4) / 1.5])
    first_two = rank_rewards(orders[:, :2], gains, 3.0).tolist()
    assert first_two == pytest.approx([1.0, 1 / 8 / best, 0.0])
    graded = rank_rewards(torch.tensor([[0, 1], [1, 0]]), torch.tensor([1.0, 2.0]), 1.0)
    assert graded.tolist() == pytest.approx([2 / 2.5, 1.0])


def test_a_catalogue_s_pictures_are_saved_and_read_again(fitted, tmp_path):
    data = catalogue()
    ids = tuple(data.catalogue.ids.tolist())
    ranking = Ranking(ids, np.zeros(len(ids)))
    answers = []
    method = MMR5(encoder=HashingEncoder(64), width=16, epochs=1, note_epochs=5, notes=("colour",))
    method.fit(data, RUN)
    for reranker in (method, MMR5.load(method.save(tmp_path / "model"))):
        lists = reranker.recommend([Query(text="a red page")], 30, [ranking])
        answers.append((lists[0].ids, {i: d.get("reason") for i, d in lists[0].details.items()}))
    assert answers[0] == answers[1] and len(answers[0][1]) == 30
    assert item_pictures(data)[0] == method.pictures_[0].tobytes()


def test_wrong_settings_are_named():
    for settings in ({"draws": 1}, {"places": 0}, {"power": 0}, {"width": 6}, {"note_epochs": 0}):
        with pytest.raises(ModelError, match=next(iter(settings))):
            MMR5(**settings)


def test_without_pictures_and_notes_it_still_answers():
    method = MMR5.tiny().fit(tiny_data(), RUN)
    assert method.fit_report_["notes"]["pictures"] == 0
