"""Speed of memories on SQLite: recall at several sizes, writing, bytes of a user.

    python benchmarks/memory_speed.py [--sizes 1000 10000 100000] [--users 10000] [--processor]

One user's memory holds as many propositions as observations; a worker that keeps one of 100,000
open needs more than its usual 64 MB, and gets it here. `--users N` writes N users of ten
propositions each and asks them in turn, more than a worker keeps open. Then one user says the same
thing again and again: a write costs the same. `--processor` counts the seconds of this process
instead of the clock's, for a machine that others use. All of it takes four minutes at most.
"""

import argparse
import random
import statistics
import tempfile
import time
from pathlib import Path

from tailor.profiles.memory import Memory
from tailor.profiles.opened import OpenedMemories
from tailor.profiles.propositions import STATED, Draft, Observation
from tailor.store.engine import connect, overwrite_deleted, writing
from tailor.store.migrating import migrate

NOW_MS = 1_700_000_000_000
BATCH = 500  # observations of a call
ASKED = 200  # recalls of a measurement
ASKED_LARGE = 40  # of a memory of 100,000
LARGE = 100_000
PER_USER = 10  # propositions, where there are many users
PER_COMMIT = 100  # users that are written together
CLOCK = [time.perf_counter]
SYLLABLES = ("ka", "lo", "mi", "ten", "ra", "so", "vel", "dun", "pi", "gar", "no", "sha")


class OneEach:
    """Concludes one like from each message, so that sizes are exact."""

    name = "one@1"

    def propose(self, observations):
        """Return a draft for each message."""
        return [
            Draft(
                observation.observation_id,
                "preference",
                "likes",
                observation.text.partition("like ")[2].partition(",")[0],
                1,
                STATED,
                observation.occurred_ms,
                proposer=self.name,
            )
            for observation in observations
        ]


def words(rng, n):
    """Return n made-up words."""
    return ["".join(rng.choices(SYLLABLES, k=rng.randint(2, 3))) for _ in range(n)]


def messages(rng, n):
    """Return n messages of some twenty words over a year."""
    said = []
    for number in range(n):
        thing = f"{' '.join(words(rng, 2))} {number}"
        text = f"I like {thing}, and {' '.join(words(rng, 16))}."
        occurred_ms = NOW_MS - rng.randrange(365 * 86_400_000)
        said.append(Observation("chat", text, occurred_ms, source=f"s{number // 20}"))
    return said


def quantiles(seconds):
    """Return the median and the 95th percentile in milliseconds."""
    return f"{1000 * statistics.median(seconds):6.1f} {1000 * statistics.quantiles(seconds, n=20)[18]:7.1f}"


def timed(job):
    """Return the seconds that a job takes."""
    began_s = CLOCK[0]()
    job()
    return CLOCK[0]() - began_s


def measure(folder, size, rng):
    """Print a row for a memory of so many propositions."""
    engine = connect(f"{folder}/store{size}.db")
    migrate(engine)
    memory = Memory(engine, "shop", (OneEach(),), opened=OpenedMemories(2**30))
    empty = files(folder, size)
    asked = ASKED if size < LARGE else ASKED_LARGE
    said = messages(rng, size)
    writing_s = timed(
        lambda: [memory.observe("ann", said[i : i + BATCH]) for i in range(0, size, BATCH)]
    )
    overwrite_deleted(engine)
    each = (files(folder, size) - empty) / size
    questions = [" ".join(rng.choice(said).text.split()[3:7]) for _ in range(asked)]
    cold_s = timed(lambda: memory.recall("ann", questions[0]))
    warm = [timed(lambda q=question: memory.recall("ann", q)) for question in questions]
    single = [timed(lambda m=one: memory.observe("ann", m)) for one in messages(rng, 20)]
    after_s = timed(lambda: memory.recall("ann", questions[0]))
    print(
        f"{size:>8,} {1000 * cold_s:8.0f} {quantiles(warm)} {1000 * after_s:8.0f}"
        f" {size / writing_s:9,.0f} {quantiles(single)} {each:8.0f}"
    )
    engine.dispose()


def files(folder, size):
    """Return the bytes of a store."""
    return sum(path.stat().st_size for path in Path(folder).glob(f"store{size}*"))


def measure_users(folder, users, rng):
    """Print how long recalls of many users take, who do not all fit into memory."""
    engine = connect(f"{folder}/users.db")
    migrate(engine)
    for start in range(0, users, PER_COMMIT):
        with writing(engine) as connection:
            memory = Memory(engine, "shop", (OneEach(),), write=lambda job, c=connection: job(c))
            for user in range(start, min(start + PER_COMMIT, users)):
                memory.observe(f"u{user}", messages(rng, PER_USER))
    overwrite_deleted(engine)
    memory = Memory(engine, "shop", (OneEach(),))
    asked = [timed(lambda: memory.recall(f"u{rng.randrange(users)}", "ka lo")) for _ in range(500)]
    size = (Path(folder) / "users.db").stat().st_size
    print(
        f"{users:,} users of {PER_USER}: first recall {quantiles(asked)} ms,"
        f" {size / users:,.0f} bytes a user"
    )
    engine.dispose()


def measure_group(folder, rng):
    """Print how long a message takes on a subject of which much was said already."""
    engine = connect(f"{folder}/group.db")
    migrate(engine)
    memory = Memory(engine, "shop", (OneEach(),))
    said = 0
    for size in (100, 1_000, 10_000):
        while said < size:
            times = range(said, min(said + BATCH, size))
            memory.observe("ann", [Observation("chat", "I like tea,", 10**12 + t) for t in times])
            said = times.stop
        times = [
            timed(lambda t=t: memory.observe("ann", Observation("chat", "I like tea,", t)))
            for t in range(10**12 + said, 10**12 + said + 20)
        ]
        said += 20
        print(f"one more message on a subject of {size:>6,}: {quantiles(times)} ms")
    engine.dispose()


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, LARGE])
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--processor", action="store_true")
    arguments = parser.parse_args()
    if arguments.processor:
        CLOCK[0] = time.process_time
    rng = random.Random(0)
    print("                 recall, ms:             after a   writing   one write, ms:    bytes")
    print("    size     cold    p50     p95    change  rows/s    p50     p95       a row")
    with tempfile.TemporaryDirectory() as folder:
        for size in arguments.sizes:
            measure(folder, size, rng)
        if arguments.users:
            measure_users(folder, arguments.users, rng)
        measure_group(folder, rng)


if __name__ == "__main__":
    main()
