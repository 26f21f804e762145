"""UniMP: what is shown and told, codes with pictures, the focal loss, and six tasks' answers."""

from dataclasses import replace
from functools import cache

import numpy as np
import polars as pl
import pytest
import torch

from tailor.core.run import Run
from tailor.core.saving import load
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query, Ranking
from tailor.data.pictures import item_pictures, read_png, write_png
from tailor.errors import DataError, ModelError
from tailor.generative.records import ANSWER, END, ITEM, PICTURE, Picture
from tailor.nn.pictured_net import PicturedNet
from tailor.papers.generative.unimp import QUESTIONS, TASKS, TURNS, UniMP
from tailor.testing.data import tiny_data
from tailor.text.hashing import HashingEncoder
from tailor.worlds.facets import facets

SMALL = UniMP(
    encoder=HashingEncoder(32),
    levels=2,
    words=4,
    codes="additive",
    width=16,
    blocks=1,
    epochs=2,
    lr=1e-2,
    batch_places=512,
)


@cache
def pictured(seed=0):
    """Items whose colour pictures alone show, with ratings and reviews."""
    data = facets(
        24,
        6,
        seed=seed,
        values=(2, 4, 3),
        kept=("kind", "colour"),
        walked=("maker",),
        wished=(),
        named=("kind", "maker"),
        drawn=("colour",),
        side=16,
    ).data
    reviews = data.events.select("user_id", "item_id", "time_ms").with_columns(
        text=pl.lit("a fine thing")
    )
    return Dataset({**data.tables, "texts": reviews}, "pictured")


@cache
def fitted():
    return replace(SMALL).fit(pictured(), Run(seed=1))


def prepared(method, data):
    """A method that is ready to make records, and the data that it makes them of."""
    training = method._training_data(data, data)
    method._prepare_items(training, Run())
    method._titles = [title.split() for title in method._titles_of(training)]
    method._drawings = method._picture_words(method.pixels_)
    return method, training


def records_of(task, data=None, seed=0):
    method, training = prepared(replace(SMALL, tasks=(task,)), data or pictured())
    return method, method._make_records(training, np.random.default_rng(seed))


def queries_of(data, count=4):
    return list(data.queries())[:count]


def told(record):
    return [record.parts[position] for position in record.answers]


def said_words(records):
    return [part for record in records for part in told(record) if isinstance(part, str)]


def item_of(method, shown):
    """The row of the item whose picture is shown."""
    (row,) = [
        row for row, pixels in enumerate(method.pixels_) if np.shares_memory(pixels, shown.pixels)
    ]
    return row


def test_every_item_is_followed_by_its_own_picture():
    method, records = records_of("rec")
    assert records
    for record in records:
        for part, following in zip(record.parts, record.parts[1:], strict=False):
            if isinstance(part, int):
                assert isinstance(following, Picture) and item_of(method, following) == part


def test_next_items_are_told_before_their_picture_is_shown():
    _, records = records_of("rec")
    for record in records:
        start = record.parts.index(ITEM)
        shown = [i for i, part in enumerate(record.parts) if isinstance(part, Picture)]
        items = [i for i, part in enumerate(record.parts) if isinstance(part, int)]
        assert all(item + 1 in shown for item in items)
        learned = [i for i in record.answers if isinstance(record.parts[i], int)]
        assert learned == [i for i in items if i > 0]  # all but what begins the record
        assert max(items) > start


def test_only_answers_and_items_of_the_history_are_told():
    for task in TASKS:
        _, records = records_of(task)
        words = {part for record in records for part in told(record) if isinstance(part, str)}
        question = {word for word, is_slot in QUESTIONS[task].pieces if not is_slot}
        assert words and not words & (question | {ANSWER, PICTURE})
        for record in records:
            items = [i for i, part in enumerate(record.parts) if isinstance(part, int)]
            start = record.parts.index(ANSWER)
            learned = {i for i in record.answers if i < start and i in items}
            assert learned == {i for i in items if 0 < i < start} - _asked_about(record, task)


def _asked_about(record, task):
    """The place of the item that a question is about, which is shown and not told."""
    if task not in ("exp", "preference"):
        return set()
    place = record.parts.index("does" if task == "exp" else "for")
    return {place + 1}


def test_a_search_does_not_show_what_it_looks_for_after_its_words_alone():
    method, records = records_of("search")
    pictured_searches = 0
    for record in records:
        parts = list(record.parts)
        for place in [i for i, part in enumerate(parts) if part == ITEM]:
            target = parts[place + 1]
            start = max(i for i, part in enumerate(parts[:place]) if part == "find")
            query = parts[start + 1 : place - 1]
            title = method._titles[target]
            spoken = [part for part in query if isinstance(part, str)]
            assert spoken == [word for word in title if word in spoken]
            shown = [part for part in query if isinstance(part, Picture)]
            assert [item_of(method, part) for part in shown] in ([], [target])
            pictured_searches += len(shown)
    assert 0 < pictured_searches < len(records) * TURNS / 2


def test_pictures_are_said_by_their_kind_and_then_patch_by_patch():
    method, records = records_of("img_gen")
    kinds = {
        tuple(words): row
        for row, words in enumerate(method._drawings)  # two items may look alike
    }
    for record in records:
        words = [part for part in told(record) if isinstance(part, str)]
        assert words.pop() == END and len(words) == 17
        assert words[0].startswith("<kind") and tuple(words) in kinds
        assert all(word.startswith("<patch") for word in words[1:])
    _, selections = records_of("img_sel")
    first = {words[0] for words in method._drawings}
    said = {part for record in selections for part in told(record) if isinstance(part, str)}
    assert said <= first | {END} and len(said) > 2


def test_pictures_are_selected_by_the_probability_of_their_kind():
    data = pictured()
    method = fitted()
    pictures = item_pictures(data)[:4]
    (shares,) = method.suits(queries_of(data, 1), [pictures])
    rows = method.items_.rows(data.catalogue.ids[:4].tolist())
    kinds = method.codes_[rows, -2]
    for i in range(4):
        for j in range(4):
            assert (kinds[i] == kinds[j]) == (shares[i] == shares[j])
    (with_fault,) = method.suits(queries_of(data, 1), [[b"no picture", pictures[0]]])
    assert np.isnan(with_fault[0]) and with_fault[1] == pytest.approx(shares[0], abs=1e-6)


def test_ratings_and_reasons_are_those_of_the_event():
    _, records = records_of("preference")
    assert set(said_words(records)) == {"2", "5", END}
    _, records = records_of("exp")
    assert set(said_words(records)) == {"a", "fine", "thing", END}
    assert said_words(records)[:4] == ["a", "fine", "thing", END]


def test_focus_turns_to_answers_that_are_hard_and_tasks_count_alike():
    log_probs = torch.tensor([0.9, 0.5, 0.1]).log()
    tasks = np.array([0, 0, 1])
    losses = -log_probs * torch.tensor([0.1, 0.5, 0.9]) ** 2
    expected = (losses[:2].mean() + losses[2]) / 2
    assert torch.allclose(SMALL._answer_loss(log_probs, tasks), expected)
    flat = replace(SMALL, gamma=0.0)._answer_loss(log_probs, tasks)
    assert torch.allclose(flat, (-log_probs[:2].mean() - log_probs[2]) / 2)
    weighted = replace(SMALL, task_weights={"search": 3.0})._answer_loss(log_probs, tasks)
    assert torch.allclose(weighted, (losses[:2].mean() + 3 * losses[2]) / 2)


def test_the_kind_of_a_picture_is_said_and_never_read():
    method = fitted()
    level = method.codes_.shape[1] - 2
    colours = method.codes_[:, level]
    assert method.codes_.shape[1] == SMALL.levels + 2 and len(set(colours.tolist())) > 2
    body = method._body(method._ready())
    assert isinstance(body, PicturedNet)
    assert body.table.codes.shape[1] == method.codes_.shape[1] - 1
    read = body.table.codes.numpy() - np.cumsum([0, *np.delete(method.sizes_, level)[:-1]])
    assert (read == np.delete(method.codes_, level, axis=1)).all()


def test_what_reads_pictures_learns_their_kinds_first():
    method = fitted()
    assert method.fit_report_["kind_loss"] < np.log(len(method.picture_codes_["kinds"])) / 3
    assert "kind_loss" not in UniMP.tiny().fit(tiny_data(12)).fit_report_
    cut_short = replace(SMALL).fit(pictured(), Run(seed=1, deadline_s=0.0))
    assert "kind_loss" not in cut_short.fit_report_


def test_pictures_change_what_is_recommended():
    data = pictured()
    method = fitted()
    blind = replace(method)
    blind.__dict__ |= method.state() | {"has_picture_": np.zeros_like(method.has_picture_)}
    queries = queries_of(data)
    before = method.recommend(queries, 5)
    after = blind.recommend(queries, 5)
    assert any((a.scores != b.scores).any() for a, b in zip(before, after, strict=True))
    assert any(gate != 0 for gate in method.fit_report_["gates"])


def test_without_pictures_there_is_no_gate():
    for method in (
        UniMP.tiny().fit(tiny_data(12)),
        replace(SMALL, reads="text").fit(pictured(), Run(seed=1)),
    ):
        assert not isinstance(method._body(method._ready()), PicturedNet)
        assert method.fit_report_["gates"] == [] and method.fit_report_["pictures"] == 0
        assert method.codes_.shape[1] == method.levels + 1
        with pytest.raises(ModelError, match="no pictures"):
            method.answer("img_gen", Query())


def test_pictures_alone_read_no_text():
    data = pictured()
    items = data.tables["items"]
    other = Dataset({**data.tables, "items": items.with_columns(title=pl.lit("other"))}, data.name)
    method, _ = prepared(replace(SMALL, reads="pictures"), data)
    again, _ = prepared(replace(SMALL, reads="pictures"), other)
    assert method.vectors_.shape == (len(method.items_), 0)
    assert np.array_equal(method.codes_, again.codes_)
    assert method.vocabulary_.ids.tolist() == again.vocabulary_.ids.tolist()
    both, _ = prepared(replace(SMALL), data)
    assert "mug" in both.vocabulary_ and "mug" not in method.vocabulary_


def test_every_task_is_answered():
    data = pictured()
    method = fitted()
    (query,) = queries_of(data, 1)
    item_id = data.catalogue.ids[0]
    pictures = [picture for picture in item_pictures(data)[:3]]
    assert len(method.answer("rec", query, k=3).item_ids) == 3
    assert method.answer("rec", query, k=3).item_ids == method.recommend([query], 3)[0].ids
    search = method.answer("search", query, "mug Harrow", k=3)
    asked = replace(query, text="mug Harrow")
    assert search.item_ids == method.recommend([asked], 3)[0].ids
    assert 2 <= method.answer("preference", query, item_id=item_id).details["rating"] <= 5
    selected = method.answer("img_sel", query, pictures=pictures)
    assert selected.image == pictures[selected.details["place"]]
    assert max(selected.details["shares"]) == selected.details["shares"][selected.details["place"]]
    drawn = method.answer("img_gen", query, "mug")
    assert read_png(drawn.image).shape == (16, 16, 3)
    reason = method.answer("exp", query, item_id=item_id)
    explained = method.explain([query], [method.recommend([query], 1)[0]])[0][0]
    assert set(reason.text.split()) <= {"a", "fine", "thing"} and explained.item_id


def test_a_search_needs_no_history_and_may_be_a_picture():
    method = fitted()
    picture = item_pictures(pictured())[0]
    words, shown = method.recommend([Query(text="mug"), Query(images=(picture,))], 3)
    assert len(words.ids) == 3 and len(shown.ids) == 3
    assert len(method.answer("search", Query(), pictures=[picture], k=2).item_ids) == 2
    alone = method.recommend([Query(images=(picture,))], 3)[0]
    assert alone.ids == shown.ids
    assert not method.recommend([Query()], 3)[0].ids
    unread = method.recommend([Query(text="mug", images=(b"no picture",))], 3)[0]
    assert unread.ids == words.ids and "no PNG" in " ".join(unread.notes)


def test_what_cannot_be_answered_is_said():
    method = fitted()
    with pytest.raises(DataError, match="task is"):
        method.answer("poetry", Query())
    with pytest.raises(DataError, match="search is empty"):
        method.answer("search", Query())
    with pytest.raises(DataError, match="unknown"):
        method.answer("exp", Query(), item_id="no such item")
    with pytest.raises(DataError, match="no pictures"):
        method.answer("img_sel", Query())
    with pytest.raises(DataError, match="can be read"):
        method.answer("img_sel", Query(), pictures=[b"no picture"])
    with pytest.raises(DataError, match="cannot be read"):
        method.answer("search", Query(), "mug", pictures=[b"no picture"])
    with pytest.raises(ModelError, match="has not learned"):
        replace(SMALL, tasks=("rec",), epochs=1).fit(pictured()).answer("exp", Query())
    with pytest.raises(DataError, match="1 lists of pictures for 2 queries"):
        method.suits([Query(), Query()], [item_pictures(pictured())[:2]])


def test_an_empty_file_is_no_picture():
    method = fitted()
    picture = item_pictures(pictured())[0]
    (shares,) = method.suits(queries_of(pictured(), 1), [[b"", picture]])
    assert np.isnan(shares[0]) and np.isfinite(shares[1])
    with pytest.raises(DataError, match="is empty"):
        method.answer("img_sel", Query(), pictures=[b""])
    with pytest.raises(DataError, match="is empty"):
        method.answer("search", Query(), "mug", pictures=[b""])
    words, unread = method.recommend([Query(text="mug"), Query(text="mug", images=(b"",))], 3)
    assert unread.ids == words.ids and "is empty" in " ".join(unread.notes)


def test_a_search_of_which_nothing_can_be_read_has_no_answer():
    method = fitted()
    unread, unsaid = method.recommend([Query(images=(b"no picture",)), Query(text="?!")], 3)
    assert not unread.ids and "no PNG" in " ".join(unread.notes)
    assert not unsaid.ids and unsaid.notes
    blind = UniMP.tiny().fit(tiny_data(12))
    picture = item_pictures(pictured())[0]
    (ranking,) = blind.recommend([Query(images=(picture,))], 3)
    assert not ranking.ids and "no pictures" in " ".join(ranking.notes)
    with pytest.raises(ModelError, match="no pictures"):
        blind.answer("search", Query(), pictures=[picture])


def test_new_items_come_with_their_pictures():
    data = pictured()
    method = fitted()
    items = (
        data.tables["items"]
        .head(2)
        .with_columns(item_id=pl.Series(["new-1", "new-2"]), asset=pl.Series(["one", None]))
    )
    blue = np.full((20, 20, 3), (40, 60, 220), np.uint8)
    assets = (
        data.tables["assets"]
        .head(1)
        .with_columns(asset_id=pl.lit("one"), content=pl.lit(write_png(blue)))
    )
    more = Dataset({"events": data.events.head(0), "items": items, "assets": assets}, "more")
    extended = method.with_items(more)
    one, two = extended.items_.rows(["new-1", "new-2"]).tolist()
    assert (extended.pixels_[one] == blue[:16, :16]).all()
    assert extended.has_picture_[[one, two]].tolist() == [True, False]
    old = extended.items_.rows(method.items_.ids.tolist())
    assert np.array_equal(extended.pixels_[old], method.pixels_)
    query = Query(history=History.of("new-1"))
    ids = ("new-1", "new-2", str(method.items_.ids[0]))
    candidates = [Ranking(ids, (0.0, 0.0, 0.0))]
    assert set(extended.recommend([query], 3, candidates)[0].ids) == set(ids)
    with pytest.raises(DataError, match="reads"):
        replace(SMALL, reads="pictures", tasks=("rec",), epochs=1).fit(data).with_items(more)


def test_a_saved_model_answers_the_same(tmp_path):
    method = fitted()
    method.save(tmp_path / "model")
    again = load(tmp_path / "model")
    queries = queries_of(pictured())
    for first, second in zip(
        method.recommend(queries, 5), again.recommend(queries, 5), strict=True
    ):
        assert first.ids == second.ids
        assert np.allclose(first.scores, second.scores, atol=1e-5)
    assert np.array_equal(method.draw(queries[:1])[0], again.draw(queries[:1])[0])


def test_damaged_pictures_are_counted_and_not_seen():
    data = pictured()
    assets = data.tables["assets"]
    damaged = [b"damaged", *assets["content"].to_list()[1:]]
    tables = {**data.tables, "assets": assets.with_columns(content=pl.Series(damaged))}
    method = replace(SMALL, tasks=("rec",), epochs=1).fit(Dataset(tables, "damaged"))
    assert method.fit_report_["unread_pictures"] == 1
    assert method.has_picture_.sum() == len(method.items_) - 1


def test_settings_are_checked():
    with pytest.raises(DataError, match="tasks are"):
        UniMP(tasks=("poetry",))
    with pytest.raises(DataError, match="tasks are"):
        UniMP(task_weights={"poetry": 1.0})
    with pytest.raises(DataError, match="gamma"):
        UniMP(gamma=-1.0)
    with pytest.raises(DataError, match="patches"):
        UniMP(patches=1)
