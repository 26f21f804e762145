"""What is believed is a function of what was said, whatever the order."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailor.errors import DataError
from tailor.profiles.propositions import (
    DAY_MS,
    EDITED,
    GUESSED,
    INFERRED,
    Draft,
    Observation,
    state_hash,
)
from tailor.profiles.revision import believed, believed_of_all, by_group, changes

DAY = DAY_MS


def likes(item, day, sign=1, weight=1.0, act="say", scope="", number=""):
    return Draft(
        f"o{item}{day}{sign}{number}",
        "preference",
        "likes",
        item,
        sign,
        weight,
        day * DAY,
        scope,
        act=act,
    )


def lives(city, day, sign=1, weight=1.0, act="say", number=""):
    return Draft(
        f"c{city}{day}{sign}{number}",
        "fact",
        "lives in",
        city,
        sign,
        weight,
        day * DAY,
        act=act,
    )


def current(drafts, at_day=1000):
    """Text -> status of what holds."""
    return {p.text: p.status for p in believed_of_all(drafts) if p.valid_to_ms is None}


def test_a_later_value_takes_the_place_of_an_earlier_one_however_late_it_arrives():
    drafts = [lives("Rome", 30), lives("Paris", 10), lives("Oslo", 20)]
    values = [(p.object, p.valid_from_ms // DAY, p.status) for p in believed(drafts)]
    assert values == [
        ("Paris", 10, "superseded"),
        ("Oslo", 20, "superseded"),
        ("Rome", 30, "active"),
    ]
    ends = [p.valid_to_ms for p in believed(drafts)]
    assert ends == [20 * DAY, 30 * DAY, None]
    then = [p.object for p in believed(drafts) if p.holds_at(25 * DAY)]
    assert then == ["Oslo"]


def test_a_value_that_ended_leaves_none():
    drafts = [lives("Paris", 10), lives("Paris", 50, sign=-1)]
    (paris,) = believed(drafts)
    assert paris.status == "superseded" and paris.valid_to_ms == 50 * DAY
    assert current(drafts) == {}


def test_values_of_one_time_are_contested_and_the_heavier_counts():
    drafts = [lives("Paris", 10), lives("Rome", 10), lives("Rome", 10, number="again")]
    states = {p.object: p.status for p in believed(drafts)}
    assert states == {"Rome": "active", "Paris": "disputed"}
    even = believed(drafts[:2])
    assert sorted(p.status for p in even) == ["active", "disputed"]
    assert believed(drafts[1::-1]) == even


def test_inferences_decide_only_where_nothing_is_explicit():
    guesses = [lives("Rome", day, weight=GUESSED) for day in range(1, 6)]
    assert current(guesses) == {"lives in Rome": "active"}
    assert current([*guesses, lives("Paris", 3)]) == {"lives in Paris": "active"}
    (rome,) = believed(guesses)
    assert rome.alpha == pytest.approx(1 + 5 * GUESSED) and rome.support == tuple(
        f"cRome{day}1" for day in range(1, 6)
    )


def test_a_change_of_mind_supersedes_and_a_contradiction_is_disputed():
    changed = [likes("tea", 1), likes("tea", 100, sign=-1)]
    assert [(p.text, p.status) for p in believed(changed)] == [
        ("likes tea", "superseded"),
        ("does not like tea", "active"),
    ]
    contradicting = [likes("tea", 1), likes("tea", 1.5, sign=-1)]
    (tea,) = believed(contradicting)
    assert tea.status == "disputed" and tea.beta == 2.0
    settled = [*contradicting, likes("tea", 1.6), likes("tea", 1.7)]
    (tea,) = believed(settled)
    assert tea.status == "active" and tea.confidence(2 * DAY) > 0.6


def test_scopes_stay_apart_and_wordings_come_together():
    drafts = [
        likes("green tea", 1),
        likes("Green Teas!", 2, scope="at work", sign=-1),
        likes("green teas", 3),
        likes("GREEN TEA", 4),
    ]
    assert len(by_group(drafts)) == 2
    propositions = believed_of_all(drafts)
    assert [p.polarity for p in propositions] == [1, -1]
    assert {len(p.support) for p in propositions} == {3, 1}


def test_the_same_observation_counts_once():
    (once,) = believed([likes("tea", 1)] * 5)
    assert once.alpha == 2.0 and len(once.support) == 1


def test_the_users_word_beats_inference():
    events = [likes("tea", day, sign=-1, weight=INFERRED) for day in range(10)]
    confirmed = likes("tea", 3, weight=EDITED, act="confirm")
    (tea,) = believed([*events, confirmed])
    assert tea.status == "confirmed" and tea.polarity == 1 and tea.beta == 1.0
    rejected = likes("tea", 20, weight=EDITED, act="reject", number="r")
    assert current([*events, confirmed, rejected]) == {}
    # neither inferences nor what was said before come back, a new word does
    later = [likes("tea", 30, weight=INFERRED), likes("tea", 15, number="late")]
    states = {p.status for p in believed([*events, confirmed, rejected, *later])}
    assert states == {"rejected"}
    again = [*events, confirmed, rejected, likes("tea", 40)]
    assert current(again) == {"likes tea": "active"}


def test_a_rejected_value_leaves_the_one_before():
    drafts = [lives("Paris", 1), lives("Rome", 10, weight=GUESSED), lives("Rome", 12)]
    assert current(drafts) == {"lives in Rome": "active"}
    rejected = [*drafts, lives("Rome", 20, act="reject", weight=EDITED, number="r")]
    assert current(rejected) == {"lives in Paris": "active"}


def test_confidence_nears_one_half_and_repeats_last_longer():
    (tea,) = believed([likes("tea", 0)])
    assert tea.confidence(0) == pytest.approx(2 / 3)
    assert tea.confidence(180 * DAY) == pytest.approx((1 + 0.5) / (2 + 0.5))
    assert tea.confidence(10_000 * DAY) == pytest.approx(0.5, abs=1e-3)
    (often,) = believed([likes("tea", 0, number=n) for n in range(8)])
    assert often.half_life_days == pytest.approx(180 * (1 + 2.0794), rel=1e-3)
    (city,) = believed([lives("Paris", 0)])
    assert city.confidence(10_000 * DAY) == city.confidence(0)


def test_changes_are_what_must_be_retracted_and_added():
    old = believed([lives("Paris", 1)])
    new = believed([lives("Paris", 1), lives("Rome", 2)])
    retracted, added = changes(old, new)
    assert [p.text for p in retracted] == ["lives in Paris"]
    assert [(p.text, p.valid_to_ms) for p in added] == [
        ("lives in Paris", 2 * DAY),
        ("lives in Rome", None),
    ]
    assert changes(new, new) == ((), ())


def test_bad_drafts_and_equal_observations():
    with pytest.raises(DataError, match="neither is empty"):
        Draft("o", "fact", "lives in", " ")
    with pytest.raises(DataError, match="slot is"):
        Draft("o", "fancy", "likes", "tea")
    with pytest.raises(DataError, match="weight is 0"):
        likes("tea", 1, weight=0)
    assert Observation("chat", "hi").observation_id == Observation("chat", "hi").observation_id
    assert Observation("chat", "hi").observation_id != Observation("chat", "hi", 1).observation_id
    assert Draft("o", "preference", "likes", "!!!").object_key


@st.composite
def some_drafts(draw):
    count = draw(st.integers(1, 14))
    made = []
    for number in range(count):
        kind = draw(st.sampled_from([likes, lives]))
        item = draw(st.sampled_from(["tea", "teas", "coffee"]))
        made.append(
            kind(
                item,
                draw(st.sampled_from([0, 0.2, 1, 5, 5, 30])),
                sign=draw(st.sampled_from([1, 1, -1])),
                weight=draw(st.sampled_from([GUESSED, INFERRED, 1.0, EDITED])),
                act=draw(st.sampled_from(["say"] * 6 + ["confirm", "reject"])),
                number=str(number),
            )
        )
    return made


@settings(max_examples=200, deadline=None)
@given(some_drafts(), st.randoms(use_true_random=False))
def test_order_repetition_and_erasure_agree(drafts, rng):
    expected = state_hash(believed_of_all(drafts))
    shuffled = [*drafts, *drafts[: len(drafts) // 2]]
    rng.shuffle(shuffled)
    assert state_hash(believed_of_all(shuffled)) == expected
    # what is erased might never have been said
    left = [draft for draft in drafts if rng.random() < 0.5]
    ids = {draft.observation_id for draft in left}
    kept = [draft for draft in shuffled if draft.observation_id in ids]
    assert state_hash(believed_of_all(kept)) == state_hash(believed_of_all(left))


@settings(max_examples=200, deadline=None)
@given(some_drafts())
def test_what_is_believed_is_sound(drafts):
    for group, of_group in by_group(drafts).items():
        propositions = believed(of_group)
        assert propositions or not any(d.sign > 0 and d.is_explicit for d in of_group)
        ids = [p.proposition_id for p in propositions]
        assert len(set(ids)) == len(ids)
        said = {draft.observation_id for draft in of_group}
        for p in propositions:
            assert p.support and set(p.support) | set(p.against) <= said
            assert 0 < p.confidence(100 * DAY) < 1
        for at in (0, DAY, 7 * DAY, 50 * DAY):
            holding = [p for p in propositions if p.holds_at(at)]
            assert len(holding) <= 1, (group, at)


def test_random_states_are_kept_for_reports():
    rng = random.Random(0)
    drafts = [
        likes(rng.choice("abc"), rng.randrange(50), rng.choice((1, -1)), number=n)
        for n in range(60)
    ]
    hashes = set()
    for _ in range(50):
        rng.shuffle(drafts)
        hashes.add(state_hash(believed_of_all(drafts)))
    assert len(hashes) == 1
