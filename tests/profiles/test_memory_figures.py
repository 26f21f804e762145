"""What the memory promises in figures, on planted lives in a store (slow)."""

import random

import numpy as np
import pytest

sa = pytest.importorskip("sqlalchemy")

from tailor.metrics.calibration import expected_calibration_error  # noqa: E402
from tailor.metrics.recalibration import platt  # noqa: E402
from tailor.profiles.memory import Memory  # noqa: E402
from tailor.profiles.proposers import RuleProposer  # noqa: E402
from tailor.profiles.propositions import DAY_MS, Observation, state_hash  # noqa: E402
from tailor.store.engine import connect, overwrite_deleted, writing  # noqa: E402
from tailor.store.migrating import migrate  # noqa: E402
from tailor.store.schema import metadata  # noqa: E402
from tailor.store.users import erase  # noqa: E402
from tailor.worlds.lives import START_MS, lives  # noqa: E402

END_MS = START_MS + 360 * DAY_MS
ALL = {"most_sensitivity": 3}


@pytest.fixture
def store(tmp_path):
    made = connect(f"{tmp_path}/store.db")
    migrate(made)
    yield made
    made.dispose()


def memory_of(engine, tenant="shop"):
    return Memory(engine, tenant, (RuleProposer(),), clock=lambda: END_MS)


def told(world):
    """User -> what was said, in order."""
    by_user = {}
    for row in world.data.tables["turns"].iter_rows(named=True):
        said = Observation(
            "chat", row["text"], row["time_ms"], source=row["session_id"], speaker=row["speaker"]
        )
        by_user.setdefault(row["dialogue_id"], []).append(said)
    return by_user


def remember(engine, world, tenant="shop"):
    memory = memory_of(engine, tenant)
    for user, said in told(world).items():
        memory.observe(user, said)
    return memory


def true_at_the_end(world, user):
    return {
        (fact.predicate, fact.object, fact.sign, fact.scope)
        for fact in world.facts_of(user)
        if fact.to_day is None and fact.kind != "contradicted"
    }


def key(p):
    return p.predicate, p.object, p.polarity, p.scope


@pytest.mark.slow
def test_updates_and_contradictions_of_planted_lives_are_right(store):
    world = lives(50, seed=7)
    memory = remember(store, world)
    updates, disputed = [], set()
    for user in told(world):
        holding = {key(p) for p in memory.believed(user, END_MS, **ALL)}
        changed = [
            fact for fact in world.facts_of(user) if fact.kind == "changed" and fact.to_day is None
        ]
        outdated = {
            (fact.predicate, fact.object, fact.sign, fact.scope)
            for fact in world.facts_of(user)
            if fact.to_day is not None
        }
        for fact in changed:
            now = (fact.predicate, fact.object, fact.sign, fact.scope)
            old = {each for each in outdated if each[0] == fact.predicate and each != now}
            updates.append(now in holding and not (old - true_at_the_end(world, user)) & holding)
        timeline = memory.timeline(user, **ALL)
        disputed |= {(user, p.object) for p in timeline if p.status == "disputed"}
        assert memory.replay(user).agrees
    planted = {(f.user_id, f.object) for f in world.truth.facts if f.kind == "contradicted"}
    assert len(updates) > 100 and np.mean(updates) >= 0.95
    assert len(planted) >= 10
    assert len(disputed & planted) >= 0.95 * len(planted)
    assert len(disputed & planted) >= 0.95 * len(disputed)


@pytest.mark.slow
def test_confidence_calibrated_by_other_peoples_truth_errs_by_a_tenth_at_most(store):
    judged = []
    for seed in (8, 108):
        world = lives(50, seed=seed, implicit=0.3)
        memory = remember(store, world, f"tenant{seed}")
        rows = [
            (p.confidence(END_MS), float(key(p) in true_at_the_end(world, user)))
            for user in told(world)
            for p in memory.believed(user, END_MS, **ALL)
        ]
        judged.append(np.array(rows).T)
    (confidence, is_true), (other_confidence, other_truth) = judged
    recalibrated = platt(other_truth, other_confidence)
    error = expected_calibration_error(is_true, recalibrated(confidence), 5)
    assert len(is_true) > 300 and error <= 0.1
    # as it comes it is too low: what was said once has 2/3
    assert expected_calibration_error(is_true, confidence, 5) > error


@pytest.mark.slow
def test_nothing_said_of_others_or_withdrawn_is_believed(store):
    world = lives(50, seed=9)
    memory = remember(store, world)
    secrets = {(f.user_id, f.predicate, f.object) for f in world.truth.secrets}
    believed = {
        (user, p.predicate, p.object) for user in told(world) for p in memory.timeline(user, **ALL)
    }
    own = {(f.user_id, f.predicate, f.object) for f in world.truth.facts}
    assert len(secrets) > 5 and not believed & (secrets - own)


WORDINGS = {
    "likes green tea": ("I like green tea.", "I really love green teas!", "I enjoy Green Tea."),
    "lives in Oslo": ("I live in Oslo.", "I'm living in Oslo.", "I have moved to Oslo."),
    "works at Acme": ("I work at Acme.", "I'm employed by Acme.", "I work for Acme."),
    "does not like olives": ("I hate olives.", "I don't like olives.", "I can't stand olives."),
    "follows the diet vegan": ("I am vegan.", "I'm a vegan.", "I'm vegan, by the way."),
}


def test_five_facts_worded_three_ways_give_five_rows(store):
    memory = memory_of(store)
    sentences = [text for texts in WORDINGS.values() for text in texts]
    random.Random(4).shuffle(sentences)
    for number, text in enumerate(sentences):
        memory.observe("ann", Observation("chat", text, START_MS + number * DAY_MS))
    believed = memory.believed("ann", END_MS, **ALL)
    assert {p.text.replace("green teas", "green tea") for p in believed} == set(WORDINGS)
    assert {len(p.support) for p in believed} == {3} and len(memory.timeline("ann", **ALL)) == 5


@pytest.mark.slow
def test_fifty_orders_of_arrival_give_one_state(store):
    world = lives(1, seed=10, contradictions=1.0, implicit=0.2)
    (said,) = told(world).values()
    memory = memory_of(store)
    rng = random.Random(10)
    hashes = set()
    for number in range(50):
        user, order = f"u{number}", [*said, *rng.sample(said, 9)]
        rng.shuffle(order)
        start = 0
        while start < len(order):
            size = rng.randint(1, 12)
            memory.observe(user, order[start : start + size])
            start += size
        replayed = memory.replay(user)
        assert replayed.agrees, replayed.difference
        hashes.add(state_hash(memory.timeline(user, **ALL)))
    assert len(hashes) == 1


@pytest.mark.slow
def test_ten_thousand_random_recalls_leak_nothing_between_users_and_tenants(store):
    rng = random.Random(11)
    things = ["tea", "salt", "figs", "jazz", "chess", "rain", "bread", "boats", "maps", "snow"]
    memories = {tenant: memory_of(store, tenant) for tenant in ("shop", "rival")}
    owned = {}
    for tenant, memory in memories.items():
        for number in range(100):
            texts = [f"I like {rng.choice(things)} of {tenant}{number}x{i}." for i in range(5)]
            observed = memory.observe(
                f"u{number}",
                [Observation("chat", text, START_MS + i) for i, text in enumerate(texts)],
            )
            propositions = {p.proposition_id for p in observed.believed}
            owned[tenant, f"u{number}"] = {*observed.new, *propositions}
    people = sorted(owned)
    leaks = found = 0
    for _ in range(10_000):
        tenant, user = rng.choice(people)
        other_tenant, other = rng.choice(people)
        request = f"{rng.choice(things)} of {other_tenant}{other[1:]}x{rng.randrange(5)}"
        for item in memories[tenant].recall(user, request, k=50).items:
            found += 1
            leaks += item.id not in owned[tenant, user]
            leaks += not owned[tenant, user].issuperset(item.observation_ids)
    assert found > 10_000 and leaks == 0


def test_no_byte_of_the_files_holds_a_row_of_what_was_forgotten_or_erased(store, tmp_path):
    memory = memory_of(store)
    words = ["marmalade", "casino", "harbour", "velvet"]
    for user in ("ann", "bob"):
        memory.observe(
            user,
            [Observation("chat", f"I like {word}.", START_MS + i) for i, word in enumerate(words)],
        )
    before = sealed_rows(store)
    memory.forget("ann", query="casino")
    after_forgetting = sealed_rows(store)
    with writing(store) as connection:
        erase(connection, "shop", "bob")
    overwrite_deleted(store)
    after = sealed_rows(store)
    store.dispose()
    content = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert len(before) == 2 * 12 and len(after_forgetting) == 2 * 12 - 3 and len(after) == 9
    assert not [row for row in before - after if row in content]
    assert [row for row in after if row in content]  # that is how they would be found
    assert not [word for word in words if word.encode() in content]


def sealed_rows(engine):
    """All encrypted values of memories."""
    tables = [metadata.tables[name] for name in ("observations", "support", "propositions")]
    with engine.connect() as connection:
        return {
            bytes(row.sealed)
            for table in tables
            for row in connection.execute(sa.select(table.c.sealed))
        }
