"""A memory keeps its word under migration, load, pauses, races, interruptions and other clients."""

import json
from dataclasses import asdict, replace

import pytest

sa = pytest.importorskip("sqlalchemy")

from profiles.stated import NOW_MS, Clock, Stated, chat  # noqa: E402

from tailor.profiles import memory as memory_module  # noqa: E402
from tailor.profiles import withdrawing  # noqa: E402
from tailor.profiles.memory import Memory, UnknownError  # noqa: E402
from tailor.profiles.propositions import DAY_MS, Draft, Observation  # noqa: E402
from tailor.profiles.sensitive_words import sensitivity_of  # noqa: E402
from tailor.store import memory as store_memory  # noqa: E402
from tailor.store.engine import writing  # noqa: E402
from tailor.store.users import erase  # noqa: E402

ANN = "ann"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def memory(engine, clock):
    return Memory(engine, "shop", (Stated(),), clock=clock)


def texts(propositions):
    return sorted(proposition.text for proposition in propositions)


# drafts of an older version


def test_what_was_rejected_before_a_migration_stays_rejected(engine, memory, monkeypatch):
    monkeypatch.setattr(store_memory, "SAME", 0)
    memory.observe(ANN, chat("bought tea", 9))
    memory.reject(ANN, memory.timeline(ANN)[0].proposition_id)
    memory.observe(ANN, [chat("bought tea", -number / 10_000) for number in range(1, 140)])
    with writing(engine) as connection:  # as `migrate` leaves those of revision 0009
        connection.execute(sa.update(store_memory.support).values(rank=-1))
    memory.observe(ANN, chat("bought tea", -0.02))
    assert [p.status for p in memory.timeline(ANN)] == ["rejected"]
    assert memory.replay(ANN).agrees
    columns = {column["name"]: column for column in sa.inspect(engine).get_columns("support")}
    assert "-1" in columns["rank"]["default"]


def test_retracted_versions_are_read_by_no_write(engine, memory, monkeypatch):
    for number in range(5):
        memory.observe(ANN, chat("likes tea", 5 - number))
    fetched = []
    original = store_memory.MemoryRows._rows_left

    def count(*given):
        for row in original(*given):
            fetched.append(row)
            yield row

    monkeypatch.setattr(store_memory.MemoryRows, "_rows_left", count)
    memory.observe(ANN, chat("likes tea"))
    assert len(fetched) == 6 + 1  # drafts, and the one version that is believed


# under load


def test_no_text_is_searched_for_wishes_while_others_wait(engine, memory):
    searched = []
    held = []

    def write(job):
        with writing(engine) as connection:
            held.append(1)
            outcome = job(connection)
            held.pop()
        return outcome

    def asks(text):
        searched.append(len(held))
        return False

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(withdrawing, "asks_to_forget", asks)
        replace(memory, write=write).observe(ANN, [chat("likes tea", 1), chat("likes figs")])
    assert searched and not any(searched)


def test_transactions_are_bounded_by_drafts_too(engine, memory, monkeypatch):
    monkeypatch.setattr(memory_module, "DRAFTS_AT_ONCE", 3)
    jobs = []

    def write(job):
        jobs.append(1)
        with writing(engine) as connection:
            return job(connection)

    sliced = replace(memory, write=write)
    observed = sliced.observe(ANN, [chat(f"likes tea {n}", n) for n in range(8)])
    assert len(jobs) == 3 and len(observed.new) == 8
    jobs.clear()
    sliced.observe(ANN, [])
    assert len(jobs) == 1


def test_wishes_cost_the_same_however_many_there_were(engine, memory):
    statements = []
    sa.event.listen(engine, "after_cursor_execute", lambda *given: statements.append(given[2]))
    counts = []
    for count in (10, 90):
        where = f"s{count}"
        wishes = [chat("Don't remember that.", 1 + n / 1_000, source=where) for n in range(count)]
        memory.observe(ANN, wishes)
        statements.clear()
        memory.observe(ANN, chat("likes tea", 200, source=where))
        counts.append(len(statements))
    assert counts[0] == counts[1]
    assert memory.timeline(ANN) == ()


def test_a_message_that_stands_before_several_wishes_is_withdrawn_once(memory):
    memory.observe(ANN, chat("likes figs", 9))
    memory.observe(ANN, [chat("Don't remember that.", 3), chat("Do not store this.", 2)])
    memory.observe(ANN, [chat("likes tea", 5), chat("likes salt", 4), chat("likes rain", 1)])
    assert texts(memory.timeline(ANN)) == ["likes rain", "likes tea"]
    assert memory.replay(ANN).agrees


# pauses and retention


def test_a_wish_is_heeded_while_the_memory_is_paused(memory):
    memory.observe(ANN, [chat("likes tea", 3), chat("likes gin", 2)])
    memory.pause(ANN)
    outcome = memory.observe(ANN, [chat("likes figs", 1.5), chat("Don't remember that.", 1)])
    assert (outcome.paused, outcome.new, outcome.withdrawn) == (True, (), 1)
    memory.resume(ANN)
    assert texts(memory.timeline(ANN)) == ["likes tea"]


def test_recall_shows_nothing_past_its_retention_though_the_memory_is_open(memory, clock):
    memory.observe(ANN, [chat("likes tea", 0.9), chat("likes figs")])
    memory.retain(ANN, 1)
    assert memory.recall(ANN, "tea figs").items
    clock.now_ms += DAY_MS // 2
    found = memory.recall(ANN, "tea figs").items
    assert {item.text for item in found} == {"likes figs"}


# what is sensitive


def exported(*pairs):
    """An export of observations, each with its drafts."""
    value = {
        "format": "tailor-memory",
        "version": 1,
        "observations": [asdict(observation) for observation, _ in pairs],
        "drafts": [asdict(draft) for _, drafts in pairs for draft in drafts],
    }
    return json.loads(json.dumps(value))


def says(observation, predicate, item, sensitivity, **more):
    slot = "preference" if predicate == "likes" else "fact"
    name = observation.observation_id
    more = {"occurred_ms": observation.occurred_ms, "proposer": "llm@1", **more}
    return Draft(name, slot, predicate, item, sensitivity=sensitivity, **more)


def test_evidence_that_recall_hides_is_hidden_by_explain_too(memory):
    said = chat("I live in Oslo, near Kirkeveien 7 on Sundays.", 1)
    drafts = [says(said, "lives in", "Oslo", 0), says(said, "practises", "something", 3)]
    memory.import_(ANN, exported((said, drafts)))
    (city,) = memory.timeline(ANN)
    assert {item.kind for item in memory.recall(ANN, "Kirkeveien Oslo").items} == {"proposition"}
    assert memory.explain(ANN, city.proposition_id).evidence == ()
    assert memory.explain(ANN, city.proposition_id, 3).evidence == (said,)


def test_evidence_of_what_another_observation_made_sensitive_is_hidden(memory):
    said, later = chat("Oslo, and the Lotus club.", 2), chat("That club again.", 1)
    both = [says(said, "lives in", "Oslo", 0), says(said, "likes", "Lotus", 0)]
    memory.import_(ANN, exported((said, both), (later, [says(later, "likes", "Lotus", 3)])))
    (city,) = memory.timeline(ANN)
    assert memory.explain(ANN, city.proposition_id).evidence == ()


def test_a_sensitive_draft_hides_its_message_though_nothing_is_believed_of_it(memory):
    said = chat("Nothing much but Kirkeveien 7.", 1)
    memory.import_(ANN, exported((said, [says(said, "lives in", "Xyz", 3, sign=-1)])))
    assert memory.recall(ANN, "Kirkeveien").items == ()
    assert memory.recall(ANN, "Kirkeveien", most_sensitivity=3).items
    assert memory.recall(ANN, "Kirkeveien", as_of_ms=NOW_MS).items == ()


def test_the_past_of_what_became_sensitive_is_hidden(memory, clock):
    before, hint = chat("likes Lotus", 9), chat("A hint.", 1)
    clock.now_ms = NOW_MS - 9 * DAY_MS
    memory.observe(ANN, before)
    clock.now_ms = NOW_MS
    then_ms = NOW_MS - 5 * DAY_MS
    assert memory.timeline(ANN, then_ms)
    memory.import_(ANN, exported((hint, [says(hint, "likes", "Lotus", 3)])))
    assert memory.timeline(ANN, then_ms) == () == memory.timeline(ANN)
    assert memory.diff(ANN, then_ms) == ((), ())
    assert memory.recall(ANN, "Lotus", as_of_ms=then_ms).items == ()
    assert len(memory.timeline(ANN, then_ms, 3)) == 1


# erasures and interruptions


def test_nothing_that_runs_beside_an_erasure_makes_the_person_anew(engine, memory, monkeypatch):
    memory.observe(ANN, chat("likes tea"))
    (tea,) = memory.timeline(ANN)

    def refuse(*given):
        raise AssertionError("an entry would be made")

    monkeypatch.setattr(store_memory, "subjects_for", refuse)
    memory.confirm(ANN, tea.proposition_id)
    memory.forget(ANN, query="tea")
    with writing(engine) as connection:
        erase(connection, "shop", ANN)
    with pytest.raises(UnknownError):
        memory.forget(ANN, all=True)


def test_a_mend_beside_an_erasure_makes_nobody(engine, memory):
    memory.observe(ANN, chat("likes tea"))
    with writing(engine) as connection:
        connection.execute(sa.update(store_memory.memories).values(due=True))

    def write(job):
        with writing(engine) as connection:
            erase(connection, "shop", ANN)
        with writing(engine) as connection:
            return job(connection)

    assert replace(memory, write=write).timeline(ANN) == ()
    with writing(engine) as connection:
        assert connection.execute(sa.select(store_memory.memories)).all() == []


def test_forgetting_a_proposition_that_was_broken_off_can_be_asked_again(
    engine, memory, monkeypatch
):
    monkeypatch.setattr(memory_module, "FORGOTTEN_AT_ONCE", 60)
    memory.observe(ANN, [chat("likes tea", n / 10) for n in range(200)])
    (tea,) = memory.timeline(ANN)
    for most in (1, 2):
        jobs = []

        def write(job, jobs=jobs, most=most):
            if len(jobs) == most:
                raise RuntimeError("power cut")
            with writing(engine) as connection:
                jobs.append(1)
                return job(connection)

        with pytest.raises(RuntimeError, match="power cut"):
            replace(memory, write=write).forget(ANN, tea.proposition_id)
    memory.forget(ANN, tea.proposition_id)
    assert memory.export(ANN)["observations"] == [] and memory.timeline(ANN) == ()


# other clients


def test_a_forgotten_observation_comes_back_by_no_other_writing_of_its_number(memory):
    review = Observation("review", "likes tea", NOW_MS - 5, item_id="i", value=4.0)
    assert review.observation_id == replace(review, value=4).observation_id
    memory.observe(ANN, review)
    value = memory.export(ANN)
    memory.forget(ANN, all=True)
    rewritten = json.loads(json.dumps(value).replace("4.0", "4"))
    assert memory.import_(ANN, rewritten).refused == 1
    assert memory.import_("bob", rewritten).new == (review.observation_id,)
    # as a version that took 4 and 4.0 for two numbers exported it
    earlier = "".join(("4c", "0" * 30))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tailor.profiles.exports._written_id", lambda value: earlier)
        rewritten["drafts"] = [{**d, "observation_id": earlier} for d in rewritten["drafts"]]
        memory.import_("eve", rewritten)
    assert texts(memory.timeline("eve")) == ["likes tea"] and memory.replay("eve").agrees


def test_a_row_of_an_older_version_keeps_its_id_though_its_number_is_whole(engine, memory):
    memory.observe(ANN, chat("likes figs", 2))
    review = Observation("review", "likes tea", NOW_MS - 5, value=4.0)
    object.__setattr__(review, "value", 4)
    old_id = review.observation_id
    with writing(engine) as connection:
        rows = store_memory.rows_for_writing(connection, "shop", ANN, NOW_MS)
        rows.add_observations([store_memory.ObservedRow(old_id, asdict(review))])
    assert memory.forget(ANN, query="tea")["forgotten"]["observations"] == 1
    assert memory.recall(ANN, "tea").items == ()


@pytest.mark.parametrize(
    "text",
    [
        "takes insulin",
        "takes prozac",
        "takes lithium",
        "has ADHD",
        "has IBS",
        "is trans",
        "is on antidepressants",
        "is in rehab",
        "sits in a wheelchair",
        "gets chemo",
        "wears a hijab",
        "is infertile",
        "has high blood pressure",
    ],
)
def test_words_of_health_faith_and_love_are_known(text):
    assert sensitivity_of(text) == 3
    assert sensitivity_of("IBAN DE12 3456") == 2
