"""What is recalled, why, and within which limits."""

import numpy as np
import pytest

from tailor.errors import DataError
from tailor.profiles.recall import Recall, Remembered, speaker_leads
from tailor.text.hashing import HashingEncoder

DAY = 86_400_000
START = 1_600_000_000_000  # 13 September 2020


def turn(number, text, speaker="Ann", session="1", day=0):
    return Remembered(
        f"t{number}", "observation", text, START + day * DAY, speaker, session, number
    )


def proposition(name, text, **fields):
    return Remembered(name, "proposition", text, START, observation_ids=("o1", "o2"), **fields)


TALK = [
    turn(0, "The weather was dull all week."),
    turn(1, "Tell me about the kayak trip!", "Bob"),
    turn(2, "We went down the river with Joe."),
    turn(3, "Nothing else happened."),
    turn(10, "My sister bakes bread.", session="2", day=40),
    turn(11, "Sourdough is her best.", "Bob", "2", 40),
    turn(12, "The weather is fine.", session="2", day=40),
]


def ids(recollection):
    return [item.id for item in recollection.items]


def test_words_come_first_and_neighbours_follow():
    found = Recall(diversity=0).search(TALK, "kayak")
    assert ids(found)[0] == "t1" and set(ids(found)[1:3]) == {"t0", "t2"}
    parts = found.items[0].parts
    assert parts["words"] > 0 and parts["confidence"] == 1
    assert found.items[0].observation_ids == ("t1",)
    # the rest of the session shares nothing but the session
    assert all(item.id.startswith("t") and int(item.id[1:]) < 10 for item in found.items)
    alone = Recall(weights={"words": 1.0}, diversity=0).search(TALK, "kayak")
    assert ids(alone)[0] == "t1" and alone.items[1].parts["words"] < 0


def test_dates_and_speakers_count():
    october = Recall(weights={"date": 1.0}).search(TALK, "what was in October 2020?")
    assert set(ids(october)[:3]) == {"t10", "t11", "t12"}
    bob = Recall().search(TALK, "Did Bob like the weather or the kayak?")
    assert ids(bob)[0] == "t1"


def test_what_shares_nothing_is_not_recalled():
    assert Recall().search(TALK, "volcano").items == ()
    assert Recall().search([], "volcano").items == ()
    assert Recall().search(TALK, "  ").items == ()
    assert ids(Recall().search([TALK[0]], "weather")) == ["t0"]


def test_words_alone_can_enter_beside_an_encoder():
    encoder = HashingEncoder(64)
    found = Recall(encoder=encoder).search(TALK, "kayak")
    assert ids(found)[0] == "t1" and "cosine" in found.items[0].parts
    vectors = Recall(encoder=encoder).vectors(TALK)
    again = Recall(encoder=encoder).opened(TALK, vectors).search("kayak")
    assert again == found
    assert Recall().vectors(TALK).shape == (7, 0)


def test_nothing_later_counts_in_what_was_known_then():
    recall = Recall()
    then = recall.search(TALK, "weather bread", at_ms=START + DAY)
    assert "t10" not in ids(then) and "t12" not in ids(then)
    assert then == recall.search(TALK[:4], "weather bread")


def test_confidence_and_scope_hold_back():
    memory = [
        proposition("sure", "likes green tea", confidence=0.9),
        proposition("unsure", "likes black tea", confidence=0.5),
        proposition("office", "likes white tea", confidence=0.9, scope="at work"),
        proposition("other", "lives in Delft"),
    ]
    found = Recall(diversity=0).search(memory, "tea")
    assert ids(found)[-1] == "unsure" and "other" not in ids(found)
    ratio = found.items[-1].score / found.items[0].score
    assert ratio == pytest.approx(0.5 / 0.9, rel=1e-4)
    at_home = Recall(diversity=0).search(memory, "tea", scope="at home")
    assert ids(at_home)[0] == "sure" and at_home.items[1].id in ("office", "unsure")
    scopes = {item.id: item.parts["scope"] for item in at_home.items}
    assert scopes == {"sure": 1, "unsure": 1, "office": 0.5}
    assert found.items[0].observation_ids == ("o1", "o2")


def test_near_equal_texts_stand_apart():
    memory = [
        *[proposition(f"a{i}", "likes green tea from Japan very much") for i in range(3)],
        proposition("b", "drinks tea at noon"),
        proposition("c", "lives in Delft"),
    ]
    plain = ids(Recall(diversity=0).search(memory, "green tea"))
    apart = ids(Recall(diversity=0.6).search(memory, "green tea"))
    assert plain.index("b") == 3 and apart.index("b") == 1


def test_a_budget_is_kept_and_shorter_texts_still_fit():
    memory = [
        proposition("long", "tea " * 30),
        proposition("short", "tea"),
        proposition("far", "bread and butter"),
    ]
    found = Recall(diversity=0).search(memory, "tea", budget_tokens=10)
    assert ids(found) == ["short"] and found.tokens <= 10
    assert ids(Recall().search(memory, "tea", k=1, budget_tokens=10)) == ["short"]
    assert Recall().search(memory, "tea", budget_tokens=0).items == ()
    assert Recall().search(memory, "tea", k=0).items == ()


def test_order_of_what_is_remembered_changes_nothing():
    memory = [proposition(f"p{i}", "likes tea") for i in range(12)]
    shuffled = [memory[i] for i in np.random.default_rng(0).permutation(12)]
    assert Recall().search(memory, "tea") == Recall().search(shuffled, "tea")


def test_an_answer_of_the_one_who_is_named_is_clearer():
    known = Recall().search(TALK, "What does Ann's sister bake, bread?")
    swapped = Recall().search(TALK, "What does Bob's sister bake, bread?")
    assert known.answerable > 0.5 > swapped.answerable
    clear = Recall().search(TALK, "sourdough")
    assert clear.answerable > Recall().search(TALK, "volcano").answerable


def test_wrong_input_is_named():
    with pytest.raises(DataError, match="colour"):
        Recall(weights={"colour": 1.0})
    with pytest.raises(DataError, match="diversity is 1"):
        Recall(diversity=1)
    with pytest.raises(DataError, match="k is -1"):
        Recall().search(TALK, "tea", k=-1)
    with pytest.raises(DataError, match="budget_tokens -2"):
        Recall().search(TALK, "tea", budget_tokens=-2)


def test_the_leads_of_a_speaker_are_of_the_best_turn_and_of_all():
    log_odds = np.array([2.0, -1.0, 0.0, 3.0])
    signs = np.array([1.0, 1.0, -1.0, 0.0])
    best, expected = speaker_leads(log_odds, signs)
    sigmoid = 1 / (1 + np.exp(-log_odds))
    assert best == pytest.approx(2.0)
    ratio = (sigmoid[0] + sigmoid[1] + 0.001) / (sigmoid[2] + 0.001)
    assert expected == pytest.approx(np.log(ratio))
    rows = speaker_leads(np.stack([log_odds, -log_odds]), np.stack([signs, signs]))
    assert rows[0].tolist() == [2.0, 1.0] and rows[1][0] == pytest.approx(expected)


def test_several_turns_of_the_speaker_asked_about_make_an_answer_clearer():
    def talk(*own):
        lines = [("Bob", "I bake bread in the oven."), *(("Ann", text) for text in own)]
        return [
            Remembered(str(i), "observation", text, speaker=speaker, session=str(i), number=i)
            for i, (speaker, text) in enumerate(lines)
        ]

    others = ["The tram was late.", "We saw a film.", "It rains again.", "My bike is blue."]
    once = talk("I bake bread in the oven.", *others)
    twice = talk("I bake bread in the oven.", "I bake bread in the oven!", *others[1:])
    clear = [
        Recall().search(memory, "What does Ann bake, bread?").answerable for memory in (once, twice)
    ]
    assert clear[0] < clear[1]
