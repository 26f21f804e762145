"""`tailor demo --serve`: the planted shop behind a live server, with simulated visitors, a model on
trial, and what came of it.
"""

import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from tailor.cli.serving import needs_service
from tailor.cli.showing import say
from tailor.core.run import Run
from tailor.data.splits import last_out
from tailor.errors import DataError, ServiceError
from tailor.pipeline.default import counting_pipeline
from tailor.progress import terminal
from tailor.retrieval.popularity import Popularity
from tailor.worlds.shop import Shop, shop
from tailor.worlds.shop_truth import Truth

if TYPE_CHECKING:
    from tailor.client import Client

TRIAL = "counting against what sells most"
LIST, STEP = 8, 100  # items of a list; visits between two lines
# standard deviations above a person's mean worth at which half of the visitors look, and buy
LOOK, BUY = 4.0, 4.0
WAIT_S = 60.0


def run_served_demo(
    out: Path, users: int, items: int, seed: int, port: int, visits: int | None, pause_s: float
) -> None:
    """Make a shop, fit two models, serve both to half of the people each, and send visitors until
    there were `visits` or Ctrl-C. Everything under `out` is replaced.
    """
    needs_service()
    from tailor.client import Client

    if visits is not None and visits < 1:
        raise DataError(f"--visits {visits}: at least 1")
    say(
        f"1. A shop of {users} people and {items} items, and two models: the counting pipeline, and"
        " what sells most"
    )
    world = _made(out, users, items, seed)
    say("2. `tailor serve`, three places of a hundred given away to chance")
    command = [
        sys.executable,
        "-m",
        "tailor",
        "serve",
        "--model",
        "models/default/popular",
        "--data",
        "data",
        "--database",
        "demo.db",
        "--port",
        str(port),
        "--models",
        "models",
        "--explore",
        "0.03",
    ]
    with (out / "server.log").open("w", encoding="utf-8") as log:
        server = subprocess.Popen(
            command,
            cwd=out,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
    try:
        key = _key_of(server.stdout, out / "server.log")
        url = f"http://127.0.0.1:{port}"
        with Client(url, key, patience_s=WAIT_S) as client:
            client.serve_model(int(client.register_model("counting")["version"]))
            client.start_experiment(TRIAL, [{"version": 1}, {"version": 2}], "view")
            say(
                f"   {url}, key {key}: ask it as docs/guide/service.md does, for people such as"
                f" {world.data.users.ids[0]}",
                "3. Visitors come, until Ctrl-C" if visits is None else f"3. {visits} visits",
            )
            _visits(client, world.truth, visits, pause_s, seed)
    except KeyboardInterrupt:
        pass
    finally:
        server.terminate()
        server.wait(WAIT_S)
    say(
        "Ended. Learn from what happened, and look at what came of it:",
        f"  tailor refit counting --database {out}/demo.db --out {out}/models",
        f"  tailor estimate {out}/models/default/counting --database {out}/demo.db",
    )


def _made(out: Path, users: int, items: int, seed: int) -> Shop:
    for name in ("models", "data"):
        shutil.rmtree(out / name, ignore_errors=True)
    for old in out.glob("demo.db*"):
        old.unlink()
    world = shop(users=users, items=items, seed=seed, progress=terminal)
    split, run = last_out(world.data), Run(seed=seed, progress=terminal)
    world.data.save(out / "data", overwrite=True)
    for name, method in (("counting", counting_pipeline()), ("popular", Popularity())):
        method.fit(split.train, run, split).save(
            out / "models" / "default" / name, titles=world.data.item_table
        )
    return world


def _key_of(said: IO[str] | None, log: Path) -> str:
    """The key that the server shows on its first start."""
    for line in said or ():
        if found := re.search(r"tailor_\S+", line):
            return found[0]
    raise ServiceError(
        "the server did not start:"
        f" {log.read_text(encoding='utf-8').strip()[-500:] or 'it said nothing'}"
    )


def _visits(client: "Client", truth: Truth, visits: int | None, pause_s: float, seed: int) -> None:
    """A person drawn at random sees a list, looks at what is worth it to them, and sometimes buys
    that.
    """
    rng, done, looked = np.random.default_rng(seed), 0, 0
    people = truth.user_ids.tolist()
    while visits is None or done < visits:
        user = people[rng.integers(len(people))]
        answer = client.recommend(user, k=LIST)
        shown = [one["item_id"] for one in answer["items"]]
        acts = _acts(truth, user, shown, rng)
        events = [
            {
                "event_id": secrets.token_hex(8),
                "user_id": user,
                "item_id": item,
                "action": action,
                "request_id": answer["request_id"],
                "time_ms": int(time.time() * 1000),
            }
            for item, action in acts
        ]
        if events:
            client.send_events(events)
        done, looked = done + 1, looked + bool(events)
        if done % STEP == 0 or done == visits:
            say(f"   {done} visits, {looked} looked: {_standing(client)}")
        time.sleep(pause_s)


def _acts(
    truth: Truth, user: str, shown: list[str], rng: np.random.Generator
) -> list[tuple[str, str]]:
    """At most one item looked at, the first that tempts enough; bought where it tempts much."""
    worth = truth.utilities([user])[0]
    scaled = dict(
        zip(truth.item_ids.tolist(), ((worth - worth.mean()) / worth.std()).tolist(), strict=True)
    )
    for item in shown:
        if scaled[item] + rng.logistic() > LOOK:
            return (
                [(item, "view"), (item, "buy")]
                if scaled[item] + rng.logistic() > BUY
                else [(item, "view")]
            )
    return []


def _standing(client: "Client") -> str:
    time.sleep(0.6)  # lists are logged four times a second
    first, second = client.experiment(TRIAL)["results"]
    against = second["against_first"]
    rates = f"best sellers {first['rate'] or 0:.0%}, counting {second['rate'] or 0:.0%}"
    return rates + (
        f", {against['difference']:+.1%} [{against['interval'][0]:+.1%},"
        f" {against['interval'][1]:+.1%}], p {against['p']:.2g}"
        if against
        else ""
    )
