"""The planted aspects: what decides, what misleads, and a model that reads the words."""

import json

import numpy as np
import pytest

from tailor.errors import DataError, ModelError
from tailor.worlds.aspects import ASPECT_OF, ASPECTS, AspectModel, aspect_world, instruction_for

EXACT = AspectModel(misses=0.0, noise=0.0)
WORLD = aspect_world(80, 40, items=300, seed=1)


def values_of(world, item_ids):
    texts = dict(zip(world.data.catalogue.ids.tolist(), world.data.item_texts, strict=True))
    return [
        {
            ASPECT_OF[word.strip(",")]: word.strip(",")
            for word in texts[item].split()
            if word.strip(",") in ASPECT_OF
        }
        for item in item_ids
    ]


def test_the_same_arguments_give_the_same_world_and_others_do_not():
    hashes = [aspect_world(4, 4, items=60, seed=seed).data.content_hash for seed in (1, 1, 2)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_next_items_share_the_useful_values_of_the_history_and_avoid_the_harmful_ones():
    shares = {name: [] for name in ASPECTS}
    for i, query in enumerate(WORLD.learned.queries):
        history = values_of(WORLD, query.history.item_ids)
        target = WORLD.data.catalogue.named(WORLD.learned.targets[i])
        chosen = values_of(WORLD, target)[0]
        for name in ASPECTS:
            of_history = [values[name] for values in history]
            usual = max(set(of_history), key=of_history.count)
            shares[name].append(chosen[name] == usual)
    means = {name: np.mean(values) for name, values in shares.items()}
    assert min(means[name] for name in WORLD.useful) > 0.6
    assert max(means[name] for name in WORLD.harmful) < 0.1
    assert max(means[name] for name in WORLD.useless) < 0.4
    assert sorted([*WORLD.useful, *WORLD.harmful, *WORLD.useless]) == sorted(ASPECTS)


def test_every_list_holds_its_target_once_at_any_position():
    for lists in (WORLD.learned, WORLD.held_out):
        rows = lists.rankings.reindexed(WORLD.data.catalogue).rows
        places = [np.flatnonzero(rows[i] == lists.targets[i][0]) for i in range(len(rows))]
        assert all(len(place) == 1 for place in places)
        assert np.unique(np.concatenate(places)).size > 10
    assert not set(WORLD.learned.queries.user_ids) & set(WORLD.held_out.queries.user_ids)


def answer(title, prompt, model=EXACT):
    completion = model.complete([prompt], schema={"title": title})[0]
    return json.loads(completion.text)[title]


def test_a_profile_names_the_usual_value_of_what_is_asked_for():
    prompt = "Name the colour, scent.\n[1] <<colour navy, shape oval, scent mint>>\n[2] <<colour navy, scent cedar>>"
    assert answer("profile", prompt).startswith("colour navy; scent ")
    assert "shape" not in answer("profile", prompt)
    left_out = answer("profile", prompt, AspectModel(misses=1.0))
    assert left_out == ""


def test_an_order_counts_the_words_of_the_profile():
    prompt = "The user: <<colour navy; scent mint>>\n[1] <<red>>\n[2] <<navy, mint>>\n[3] <<navy>>"
    assert answer("order", prompt) == [2, 3, 1]


def test_lessons_and_instructions_follow_the_feedback():
    line = "at 3 of 9; missing: mint cedar; misleading: navy; helpful: oval"
    lessons = answer("lessons", f"Feedback:\n[1] <<{line}>>\n[2] <<missing: mint>>")
    assert lessons == "missing: scent 2; helpful: shape 1; misleading: colour 1"
    old = instruction_for(["colour", "shape"])
    new = answer("instruction", f"The instruction: {old}\n\nLessons: <<{lessons}>>\n\nWrite.")
    assert new == instruction_for(["shape", "scent"])
    edits = {answer("instruction", f"{old}\n\nLessons: <<>>\n\nWrite {i}.") for i in range(30)}
    assert len(edits) == len(ASPECTS)  # one aspect more or less, whichever


def test_what_it_cannot_do_is_refused():
    with pytest.raises(ModelError, match="poem"):
        AspectModel().complete(["x"], schema={"title": "poem"})
    with pytest.raises(ModelError):
        AspectModel().score(["x"], ["y"])
    with pytest.raises(ModelError):
        AspectModel(misses=2.0)
    with pytest.raises(DataError):
        aspect_world(0)
    with pytest.raises(DataError):
        aspect_world(depth=20, items=30)
