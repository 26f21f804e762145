"""What readings show: nothing too sensitive, nothing past its retention, nothing forgotten."""

from dataclasses import replace

import pytest

sa = pytest.importorskip("sqlalchemy")

from profiles.stated import NOW_MS, Clock, Stated, chat  # noqa: E402

from tailor.errors import DataError  # noqa: E402
from tailor.profiles.memory import Memory, UnknownError, count_expired, expire_all  # noqa: E402
from tailor.profiles.propositions import DAY_MS  # noqa: E402
from tailor.store.engine import connect, reading  # noqa: E402
from tailor.store.memory import version_of  # noqa: E402

ANN, BOB = "ann", "bob"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def memory(engine, clock):
    return Memory(engine, "shop", (Stated(),), clock=clock)


def texts(propositions):
    return sorted(proposition.text for proposition in propositions)


# sensitivity


class Sensitive(Stated):
    """Concludes that everything liked in secret is sensitive."""

    def propose(self, observations):
        drafts = super().propose(observations)
        return [replace(d, sensitivity=3 if "secret" in d.object else 0) for d in drafts]


READINGS = {
    "recall": lambda memory, **most: [
        item.text for item in memory.recall(ANN, "likes secret salt diabetic", **most).items
    ],
    "recall then": lambda memory, **most: [
        item.text for item in memory.recall(ANN, "secret salt diabetic", at_ms=NOW_MS, **most).items
    ],
    "believed": lambda memory, **most: texts(memory.believed(ANN, **most)),
    "timeline": lambda memory, **most: texts(memory.timeline(ANN, **most)),
    "profile": lambda memory, **most: memory.profile(ANN, **most).text.splitlines(),
    "diff": lambda memory, **most: texts(memory.diff(ANN, NOW_MS - 1, **most).added),
    "explain": lambda memory, **most: [
        part.text
        for p in memory.timeline(ANN, **most)
        for part in memory.explain(ANN, p.proposition_id, **most).evidence
    ],
}


@pytest.mark.parametrize("reading_of", READINGS)
def test_every_reading_is_bounded_by_one_rule_of_sensitivity(engine, clock, reading_of):
    memory = Memory(engine, "shop", (Sensitive(),), clock=clock)
    memory.observe(ANN, [chat("likes secret salt", 2), chat("likes salt and I am diabetic", 1)])
    memory.observe(ANN, [chat("likes salt", 3), chat("I am diabetic", 0.5)])
    read = READINGS[reading_of]
    shown = " ".join(read(memory))
    assert "salt" in shown and "secret" not in shown
    if reading_of.startswith(("recall", "explain")):  # where words are shown as they were said
        assert "diabetic" not in shown
    everything = " ".join(read(memory, most_sensitivity=3))
    assert "secret" in everything
    assert " ".join(read(memory)) == shown  # opened for one bound, it serves no other
    with pytest.raises(DataError, match="most_sensitivity is 4"):
        read(memory, most_sensitivity=4)


def test_what_is_too_sensitive_is_unknown_and_its_evidence_is_hidden(engine, clock):
    memory = Memory(engine, "shop", (Sensitive(),), clock=clock)
    memory.observe(ANN, [chat("likes secret salt", 2), chat("likes tea", 2)])
    secret = next(p for p in memory.timeline(ANN, most_sensitivity=3) if "secret" in p.text)
    with pytest.raises(UnknownError):
        memory.explain(ANN, secret.proposition_id)
    assert memory.explain(ANN, secret.proposition_id, 3).evidence
    hidden = memory.recall(ANN, "secret salt")
    assert hidden.items == () and hidden.answerable < 0.5


# forgetting, in other workers


def opened_of(memory, user):
    version = version_of(memory.engine, memory.tenant, user)
    return memory.opened.get((memory.tenant, user, 1), version, memory.clock())


@pytest.mark.parametrize("reading_of", READINGS)
def test_every_reading_heeds_what_another_worker_forgot(engine, memory, clock, reading_of):
    memory.observe(ANN, chat("likes salt"))
    memory.observe(BOB, chat("likes pepper"))
    memory.recall(BOB, "pepper")
    rival = Memory(engine, "rival", (Stated(),), clock=clock, opened=memory.opened)
    rival.observe("eve", chat("likes pepper"))
    rival.recall("eve", "pepper")
    kept = opened_of(rival, "eve")
    other = Memory(
        connect(engine.url.render_as_string(hide_password=False)), "shop", (Stated(),), clock=clock
    )
    other.forget(BOB, all=True)
    other.engine.dispose()
    assert memory.opened.count_of("shop", BOB) == 1  # nobody has asked since
    READINGS[reading_of](memory)
    assert memory.opened.count_of("shop", BOB) == 0
    assert kept is not None and opened_of(rival, "eve") is kept  # deletions are a tenant's own


@pytest.mark.slow
def test_a_reading_sees_one_state_on_postgresql(postgres):
    engine = connect(postgres)
    with reading(engine) as connection:
        level = connection.execute(sa.text("SHOW transaction_isolation")).scalar_one()
        first = connection.execute(sa.text("SELECT count(*) FROM pg_class")).scalar_one()
        with engine.begin() as other:
            other.execute(sa.text("CREATE TABLE seen_by_others (number int)"))
        second = connection.execute(sa.text("SELECT count(*) FROM pg_class")).scalar_one()
    assert level == "repeatable read" and first == second
    with engine.begin() as other:
        assert other.execute(sa.text("SHOW transaction_isolation")).scalar_one() == "read committed"
        other.execute(sa.text("DROP TABLE seen_by_others"))
    engine.dispose()


# retention


def test_what_is_past_its_retention_supports_nothing_that_is_read(memory, clock):
    memory.observe(ANN, [chat("likes tea", 20), chat("likes tea", 2), chat("lives in Rome", 25)])
    memory.observe(ANN, [chat("lives in Oslo", 1), chat("denies likes salt", 20)])
    memory.retain(ANN, 30)
    clock.now_ms += 15 * DAY_MS
    (tea, oslo) = memory.timeline(ANN)
    assert (tea.text, tea.alpha, len(tea.support)) == ("likes tea", 2.0, 1)
    assert oslo.text == "lives in Oslo" and oslo.valid_from_ms == NOW_MS - DAY_MS
    explanation = memory.explain(ANN, tea.proposition_id)
    assert [part.occurred_ms for part in explanation.evidence] == [NOW_MS - 2 * DAY_MS]
    exported = memory.export(ANN)
    assert len(exported["observations"]) == 2 == len(exported["drafts"])
    assert memory.replay(ANN).agrees
    assert memory.confirm(ANN, tea.proposition_id)[0].status == "confirmed"
    recalled = memory.recall(ANN, "tea Rome salt").items
    assert {part.text for part in recalled} == {"likes tea"}


def test_the_sweep_deletes_what_is_past_its_retention_of_all_memories(engine, memory, clock):
    for user in (ANN, BOB):
        memory.observe(user, [chat(f"likes tea {i}", 20 + i / 100) for i in range(5)])
        memory.observe(user, chat("likes salt", 1))
    memory.retain(ANN, 10.5)
    memory.observe(ANN, chat("likes figs", 1))
    assert memory.export(ANN)["state_hash"] and len(memory.timeline(ANN)) == 2
    memory.retain(BOB, 30)
    clock.now_ms += 15 * DAY_MS
    assert count_expired(engine, clock) == 2 + 5
    assert expire_all(engine, clock) == 2 + 5 and count_expired(engine, clock) == 0
    assert memory.residue(BOB, "likes tea 3") == 0 and texts(memory.timeline(BOB)) == ["likes salt"]
    assert memory.timeline(ANN) == () and memory.replay(ANN).agrees and memory.replay(BOB).agrees


def test_much_that_is_past_its_retention_goes_little_by_little_and_is_shown_no_more(
    memory, monkeypatch
):
    monkeypatch.setattr("tailor.profiles.conclusions.EXPIRED_AT_ONCE", 4)
    memory.observe(ANN, [chat(f"likes tea {i}", 20 + i / 100) for i in range(10)])
    memory.retain(ANN, 5)
    assert memory.timeline(ANN) == () and memory.residue(ANN, "likes tea") == 3 * 6
    memory.observe(ANN, chat("likes salt"))
    assert memory.residue(ANN, "likes tea") == 3 * 2 and texts(memory.timeline(ANN)) == [
        "likes salt"
    ]
    assert memory.expire(ANN) == 2 and memory.residue(ANN, "likes tea") == 0


# the user's word about the past


def test_confirming_what_is_past_does_not_make_it_present(memory):
    memory.observe(ANN, [chat("lives in Paris", 90), chat("lives in Rome", 30)])
    paris = memory.timeline(ANN)[0]
    memory.confirm(ANN, paris.proposition_id)
    assert texts(memory.believed(ANN)) == ["lives in Rome"]
    states = {p.object: (p.status, p.alpha) for p in memory.timeline(ANN)}
    assert states == {"Paris": ("superseded", 5.0), "Rome": ("active", 2.0)}
    assert texts(memory.believed(ANN, at_ms=NOW_MS - 60 * DAY_MS)) == ["lives in Paris"]
    assert memory.replay(ANN).agrees


def test_a_past_stance_is_confirmed_corrected_and_rejected_for_its_time_alone(memory):
    memory.observe(ANN, [chat("likes tea", 90), chat("denies likes tea", 30)])
    memory.observe(ANN, chat("bought tea", 30.5))
    memory.observe(ANN, [chat("lives in Pariss", 90), chat("lives in Rome", 30)])
    memory.observe(ANN, chat("lives in Pariss", 10))
    tea = next(p for p in memory.timeline(ANN) if p.text == "likes tea")
    memory.confirm(ANN, tea.proposition_id)
    assert "does not like tea" in texts(memory.believed(ANN))
    first = next(p for p in memory.timeline(ANN) if p.object == "Pariss" and p.is_past)
    memory.correct(ANN, first.proposition_id, "Paris")
    assert "lives in Pariss" in texts(memory.believed(ANN))  # said again since
    assert "lives in Paris" in texts(memory.believed(ANN, at_ms=NOW_MS - 60 * DAY_MS))
    memory.reject(ANN, tea.proposition_id)
    assert "does not like tea" in texts(memory.believed(ANN))
    assert "likes tea" not in texts(memory.believed(ANN, at_ms=NOW_MS - 60 * DAY_MS))
    assert memory.replay(ANN).agrees


def test_of_values_of_one_moment_the_confirmed_one_is_present(memory):
    memory.observe(ANN, [chat("lives in Rome", 3), chat("lives in Paris", 3)])
    doubted = next(p for p in memory.timeline(ANN) if p.status == "disputed")
    memory.confirm(ANN, doubted.proposition_id)
    assert texts(memory.believed(ANN)) == [doubted.text]
    rejected = memory.reject(ANN, doubted.proposition_id)
    assert "rejected" in {p.status for p in rejected}
    assert doubted.text not in texts(memory.believed(ANN))
    memory.confirm(ANN, doubted.proposition_id)  # the mind may change
    assert memory.replay(ANN).agrees
