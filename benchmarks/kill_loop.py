"""Kill the service again and again, and look whether it keeps its promises.

    python benchmarks/kill_loop.py [--rounds 20] [--minutes M] [--seed 0] [--keep]

A server with two workers on a SQLite store, three senders of events, one who erases people, and a
refit loop. Each round kills (-9) the parent, a worker, the refit, or all, at a random moment, and a
migration of an older store at another. Then every acknowledged event must be there once, erased
people must stay away, and a model must answer. Prints a line a round and a JSON object at the end;
exit code 1 where a promise was broken. It talks to 127.0.0.1 only.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import sqlalchemy as sa
from alembic import command

from tailor.store import migrating
from tailor.store.datasets import stored_dataset
from tailor.store.engine import connect, writing
from tailor.worlds.shop import shop

ROOT = Path(__file__).parents[1]
SENDERS = 3
BATCH = 5  # events of a request
VICTIMS = ("parent", "worker", "refit", "all")
LATEST_KILL_S = 3.0  # after which the victim of a round is dead
LATEST_MIGRATION_KILL_S = 2.0
ORPHANS_S = 10.0  # for which workers may outlive their parent
START_S = 180.0
OLD_EVENTS = 300  # of the older store
HEADERS_FILE = "shop.first-key"


@dataclass
class Promises:
    """What callers were told, and so must hold."""

    events: dict[str, str] = field(default_factory=dict)
    """Acknowledged event -> its user."""
    erased: set[str] = field(default_factory=set)
    """Users whose erasure was acknowledged."""
    doubtful: set[str] = field(default_factory=set)
    """Users whose erasure was asked for; nothing is sent of them any more."""
    buyer: str = ""
    """A user of the data set, who must be answered."""
    lock: threading.Lock = field(default_factory=threading.Lock)


class Processes:
    """The server and the refit loop, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server: subprocess.Popen[bytes] | None = None
        self.refit: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.worker_ids: set[int] = set()
        self.orphans = 0  # workers that outlived their parent

    def start_server(self) -> None:
        """Start the server on a free port and wait until it is ready."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        words = ["serve", "--database", "shop.db", "--workers", "2", "--port", str(self.port)]
        if not (self.folder / "shop.db").exists():
            words += ["--data", "data"]
        self.server = self.spawn(*words)
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until the server answers. Raises RuntimeError where it does not."""
        end_s = time.monotonic() + START_S
        while time.monotonic() < end_s:
            if self.server is not None and self.server.poll() is not None:
                break
            try:
                if httpx.get(f"http://127.0.0.1:{self.port}/ready", timeout=5).status_code == 200:
                    self.worker_ids |= {child.pid for child in self._children()}
                    return
            except httpx.TransportError:
                time.sleep(0.1)
        raise RuntimeError("the server did not start: " + self.last_lines())

    def start_refit(self) -> None:
        """Start the refit loop."""
        words = ["CoVisitation", "--every", "0.02", "--force", "--database", "shop.db", "--json"]
        self.refit = self.spawn("refit", *words)

    def spawn(self, *words: str) -> "subprocess.Popen[bytes]":
        """Start a command of Tailor; its output goes to the log."""
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "tailor", *words],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )

    def last_lines(self) -> str:
        """Return the end of the log."""
        return (self.folder / "log").read_text(errors="replace")[-1_500:]

    def kill(self, victim: str, rng: random.Random) -> None:
        """Kill a victim."""
        if victim in ("refit", "all") and self.refit is not None:
            self.refit.kill()
            self.refit.wait()
        if victim == "worker":
            workers = self._children()
            if workers:
                rng.choice(workers).kill()
        if victim in ("parent", "all") and self.server is not None:
            self.worker_ids |= {child.pid for child in self._children()}
            self.server.kill()
            self.server.wait()
            self._end_orphans(is_counted=victim == "parent")

    def _children(self) -> list[psutil.Process]:
        """Return the workers of the server."""
        if self.server is None or self.server.poll() is not None:
            return []
        children = psutil.Process(self.server.pid).children()
        return [child for child in children if "spawn_main" in " ".join(child.cmdline())]

    def _end_orphans(self, is_counted: bool) -> None:
        """Wait for the workers of a killed parent, and kill those that stay."""
        end_s = time.monotonic() + (ORPHANS_S if is_counted else 0)
        alive = self._alive()
        while alive and time.monotonic() < end_s:
            time.sleep(0.1)
            alive = self._alive()
        for process in alive:
            process.kill()
        if is_counted:
            self.orphans += len(alive)
        psutil.wait_procs(alive, 10)
        self.worker_ids.clear()

    def _alive(self) -> list[psutil.Process]:
        processes = []
        for number in self.worker_ids:
            try:
                process = psutil.Process(number)
                if process.status() != psutil.STATUS_ZOMBIE:
                    processes.append(process)
            except psutil.NoSuchProcess:
                continue
        return processes

    def restart(self) -> None:
        """Start what is not running."""
        if self.server is None or self.server.poll() is not None:
            self.start_server()
        else:
            self.wait_ready()
        if self.refit is None or self.refit.poll() is not None:
            self.start_refit()

    def end(self) -> None:
        """End everything."""
        self.kill("all", random.Random())


class Sender(threading.Thread):
    """Sends batches of events; one that was not acknowledged is sent again, after a restart too."""

    def __init__(self, number: int, processes: Processes, promises: Promises, seed: int) -> None:
        super().__init__(daemon=True)
        self.number = number
        self.processes = processes
        self.promises = promises
        self.rng = random.Random(f"{seed}-{number}")
        self.stop = threading.Event()
        self.refused = 0

    def run(self) -> None:
        """Send until told to stop."""
        batch: list[dict[str, Any]] = []
        turn = 0
        while not self.stop.is_set():
            if not batch:
                turn += 1
                batch = self._batch(turn)
            try:
                answer = httpx.post(
                    f"http://127.0.0.1:{self.processes.port}/v1/events",
                    json={"events": batch},
                    headers=headers(self.processes.folder),
                    timeout=15,
                )
            except httpx.TransportError:
                time.sleep(0.05)
                continue
            if answer.status_code != 200:
                self.refused += 1
                time.sleep(0.05)
                continue
            rejected = {row.get("event_id") for row in answer.json()["rejected"]}
            with self.promises.lock:
                for event in batch:
                    if event["event_id"] not in rejected:
                        self.promises.events[event["event_id"]] = event["user_id"]
            batch = []

    def _batch(self, turn: int) -> list[dict[str, Any]]:
        """Return new events of users who are not being erased."""
        with self.promises.lock:
            gone = set(self.promises.doubtful)
        names = [f"visitor {i}" for i in range(self.number, 300, SENDERS)]
        names = [name for name in names if name not in gone]
        return [
            {
                "event_id": f"{self.number}-{turn}-{i}",
                "user_id": self.rng.choice(names),
                "item_id": f"thing {self.rng.randrange(50)}",
            }
            for i in range(BATCH)
        ]


def headers(folder: Path) -> dict[str, str]:
    """Return the header with the first key."""
    return {"authorization": f"Bearer {(folder / HEADERS_FILE).read_text().strip()}"}


def erase_some(processes: Processes, promises: Promises, rng: random.Random) -> None:
    """Erase a user and those whose erasure was not acknowledged before."""
    with promises.lock:
        users = sorted(set(promises.events.values()) - promises.doubtful)
        if users:
            promises.doubtful.add(rng.choice(users))
        names = sorted(promises.doubtful - promises.erased)
    time.sleep(0.5)  # events of theirs that are under way arrive before
    for name in names:
        try:
            answer = httpx.delete(
                f"http://127.0.0.1:{processes.port}/v1/users/{name}/data",
                headers=headers(processes.folder),
                timeout=30,
            )
        except httpx.TransportError:
            continue
        if answer.status_code == 200:
            promises.erased.add(name)


def look(processes: Processes, promises: Promises) -> dict[str, int]:
    """Count broken promises of the running service."""
    with promises.lock:
        events = dict(promises.events)
        doubtful = set(promises.doubtful)
        erased = set(promises.erased)
    engine = connect(str(processes.folder / "shop.db"))
    stored = stored_dataset(engine, "default").events
    engine.dispose()
    counts = Counter(stored["event_id"].to_list())
    users = set(stored["user_id"].to_list())
    wanted = [event_id for event_id, user in events.items() if user not in doubtful]
    answer = httpx.post(
        f"http://127.0.0.1:{processes.port}/v1/recommendations",
        json={"user_id": promises.buyer, "k": 5},
        headers=headers(processes.folder),
        timeout=30,
    )
    return {
        "missing": sum(event_id not in counts for event_id in wanted),
        "twice": sum(count > 1 for count in counts.values()),
        "back": len(erased & users),
        "unanswered": int(answer.status_code != 200 or not answer.json()["items"]),
    }


# --- migration


def make_older(path: Path) -> None:
    """Write a store as an older version left it (revision 0002)."""
    engine = connect(str(path))
    statement = sa.text(
        "INSERT INTO events (tenant, event_id, user_id, item_id, time_ms, received_ms) VALUES"
        " ('shop', :event, :user, 'tea', :time, 1)"
    )
    with writing(engine) as connection:
        config = migrating._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        rows = [{"event": f"e{i}", "user": f"u{i % 31}", "time": i} for i in range(OLD_EVENTS)]
        connection.execute(statement, rows)
    engine.dispose()


def kill_migration(processes: Processes, rng: random.Random) -> dict[str, int]:
    """Kill a migration at a random moment, let another one finish, and count lost events."""
    for path in processes.folder.glob("old.*db*"):
        path.unlink()
    make_older(processes.folder / "old.db")
    words = ("store", "migrate", "--database", "old.db")
    process = processes.spawn(*words)
    try:
        process.wait(rng.uniform(0, LATEST_MIGRATION_KILL_S))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    was_killed = process.returncode == -signal.SIGKILL
    if processes.spawn(*words).wait(120):
        return {"migrations lost": 1, "migrations killed": was_killed}
    engine = connect(str(processes.folder / "old.db"))
    ids = stored_dataset(engine, "shop").events["event_id"].to_list()
    engine.dispose()
    is_whole = sorted(ids) == sorted(f"e{i}" for i in range(OLD_EVENTS))
    return {"migrations lost": int(not is_whole), "migrations killed": was_killed}


# --- the loop


def run_round(
    processes: Processes, promises: Promises, rng: random.Random, number: int
) -> dict[str, Any]:
    """Let work be done, kill, start anew, and look."""
    victim = VICTIMS[number % len(VICTIMS)] if number < len(VICTIMS) else rng.choice(VICTIMS)
    eraser = threading.Thread(target=erase_some, args=(processes, promises, rng))
    eraser.start()
    time.sleep(rng.uniform(0.2, LATEST_KILL_S))
    processes.kill(victim, rng)
    migration = kill_migration(processes, rng)
    eraser.join()
    processes.restart()
    erase_some(processes, promises, rng)
    return {
        "round": number,
        "killed": victim,
        **look(processes, promises),
        **migration,
        "acknowledged": len(promises.events),
        "erased": len(promises.erased),
    }


def run(folder: Path, rounds: int, minutes: float | None, seed: int) -> dict[str, Any]:
    """Run all rounds and return the sums."""
    data = shop(users=100, items=60, seed=seed).data
    data.save(folder / "data")
    rng = random.Random(seed)
    promises = Promises(buyer=data.users.ids[0])
    processes = Processes(folder)
    senders = [Sender(number, processes, promises, seed) for number in range(SENDERS)]
    end_s = None if minutes is None else time.monotonic() + minutes * 60
    sums: Counter[str] = Counter()
    done = 0
    try:
        processes.start_server()
        if processes.spawn("refit", "CoVisitation", "--database", "shop.db").wait(120):
            raise RuntimeError("the first refit failed: " + processes.last_lines())
        processes.start_refit()
        for sender in senders:
            sender.start()
        while done < rounds and (end_s is None or time.monotonic() < end_s):
            result = run_round(processes, promises, rng, done)
            done += 1
            print(*(f"{name}: {value}" for name, value in result.items()), sep=", ", flush=True)
            names = ("missing", "twice", "back", "unanswered", "migrations lost")
            sums.update({name: int(result[name]) for name in names})
            sums["migrations killed"] += int(result["migrations killed"])
    finally:
        for sender in senders:
            sender.stop.set()
        processes.end()
    return {
        "rounds": done,
        "seed": seed,
        **sums,
        "acknowledged": len(promises.events),
        "erased": len(promises.erased),
        "refused": sum(sender.refused for sender in senders),
        "workers that outlived their parent": processes.orphans,
    }


def main() -> None:
    """Read the options, run, and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="keep the folder, and say where it is")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tailor-kill-"))
    try:
        result = run(folder, options.rounds, options.minutes, options.seed)
    finally:
        if options.keep:
            print(folder, file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(result, indent=1))
    broken = ("missing", "twice", "back", "unanswered", "migrations lost")
    sys.exit(int(any(result.get(name) for name in broken)))


if __name__ == "__main__":
    main()
