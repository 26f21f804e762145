"""`tailor demo --serve`: the planted shop behind a live server, with visitors and an experiment."""

import os
import secrets
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tailor.cli.consoling import console_beside, needs_console
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

EXPERIMENT = "counting against what sells most"
FIRST_KEY = "demo.first-key"  # file in the demo's folder
LIST = 8  # items of a list
STEP = 100  # visits between two lines
# standard deviations above a user's mean worth at which half of the visitors look, and buy
LOOK, BUY = 4.0, 4.0
WAIT_S = 60.0
LOGGED_S = 0.6  # after which a list is surely logged


def run_served_demo(
    out: Path,
    users: int,
    items: int,
    seed: int,
    port: int,
    visits: int | None,
    pause_s: float,
    console_port: int | None = None,
) -> None:
    """Make a shop, serve two models to half of the users each, and send visitors.

    They come until there were `visits`, or until Ctrl-C. With `console_port` the console starts
    too, and both stay until Ctrl-C. Everything under `out` is replaced.
    """
    needs_service()
    if console_port is not None:
        needs_console()
    from tailor.client import Client

    if visits is not None and visits < 1:
        raise DataError(f"--visits {visits}: at least 1")
    say(
        f"1. A shop of {users} people and {items} items, and two models: the counting pipeline, and"
        " what sells most"
    )
    world = _make_shop(out, users, items, seed)
    say("2. `tailor serve`, three places of a hundred given away to chance")
    server = _start_server(out, port)
    try:
        key = _first_key(server, out)
        url = f"http://127.0.0.1:{port}"
        with Client(url, key, patience_s=WAIT_S) as client, ExitStack() as beside:
            client.serve_model(int(client.register_model("counting")["version"]))
            client.start_experiment(EXPERIMENT, [{"version": 1}, {"version": 2}], "view")
            if console_port is not None:
                say(f"   Console: {beside.enter_context(console_beside(url, console_port))}")
            say(
                f"   {url}, key {key}: ask it as docs/guide/service.md does, for people such as"
                f" {world.data.users.ids[0]}",
                "3. Visitors come, until Ctrl-C" if visits is None else f"3. {visits} visits",
            )
            _send_visitors(client, world.truth, visits, pause_s, seed)
            while console_port is not None:
                time.sleep(WAIT_S)
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


def _make_shop(out: Path, users: int, items: int, seed: int) -> Shop:
    """Make the shop, save its data set, and fit and save both models."""
    for name in ("models", "data"):
        shutil.rmtree(out / name, ignore_errors=True)
    for old_file in (*out.glob("demo.*db*"), *out.glob(FIRST_KEY)):
        old_file.unlink()
    world = shop(users=users, items=items, seed=seed, progress=terminal)
    split = last_out(world.data)
    run = Run(seed=seed, progress=terminal)
    world.data.save(out / "data", overwrite=True)
    for name, method in (("counting", counting_pipeline()), ("popular", Popularity())):
        folder = out / "models" / "default" / name
        method.fit(split.train, run, split).save(folder, titles=world.data.item_table)
    return world


def _start_server(out: Path, port: int) -> "subprocess.Popen[str]":
    options = {
        "--model": "models/default/popular",
        "--data": "data",
        "--database": "demo.db",
        "--port": str(port),
        "--models": "models",
        "--explore": "0.03",
        "--first-key": FIRST_KEY,
    }
    command = [sys.executable, "-m", "tailor", "serve"]
    for option, value in options.items():
        command += [option, value]
    with (out / "server.log").open("w", encoding="utf-8") as log:
        return subprocess.Popen(
            command,
            cwd=out,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )


def _first_key(server: "subprocess.Popen[str]", out: Path) -> str:
    """Return the key that the server writes into a file on its first start."""
    for line in server.stdout or ():
        if line.startswith("Serving on"):
            return (out / FIRST_KEY).read_text(encoding="utf-8").strip()
    end = (out / "server.log").read_text(encoding="utf-8").strip()[-500:]
    raise ServiceError(f"the server did not start: {end or 'it said nothing'}")


def _send_visitors(
    client: "Client", truth: Truth, visits: int | None, pause_s: float, seed: int
) -> None:
    """Let users drawn at random see a list, look at an item worth it, and sometimes buy it."""
    rng = np.random.default_rng(seed)
    user_ids = truth.user_ids.tolist()
    done = 0
    looked = 0
    while visits is None or done < visits:
        user_id = user_ids[rng.integers(len(user_ids))]
        answer = client.recommend(user_id, k=LIST)
        events = _events(truth, user_id, answer, rng)
        if events:
            client.send_events(events)
        done += 1
        looked += bool(events)
        if done % STEP == 0 or done == visits:
            say(f"   {done} visits, {looked} looked: {_rates(client)}")
        time.sleep(pause_s)


def _events(
    truth: Truth, user_id: str, answer: dict[str, Any], rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Return the events of a visit: the first item that tempts is viewed, and perhaps bought."""
    worth = truth.utilities([user_id])[0]
    scaled = (worth - worth.mean()) / worth.std()
    worth_of = dict(zip(truth.item_ids.tolist(), scaled.tolist(), strict=True))
    for item in answer["items"]:
        item_worth = worth_of[item["item_id"]]
        if item_worth + rng.logistic() <= LOOK:
            continue
        actions = ["view"]
        if item_worth + rng.logistic() > BUY:
            actions.append("buy")
        return [
            {
                "event_id": secrets.token_hex(8),
                "user_id": user_id,
                "item_id": item["item_id"],
                "action": action,
                "request_id": answer["request_id"],
                "time_ms": int(time.time() * 1000),
            }
            for action in actions
        ]
    return []


def _rates(client: "Client") -> str:
    """Return both arms' rates as a text."""
    time.sleep(LOGGED_S)
    first, second = client.experiment(EXPERIMENT)["results"]
    text = f"best sellers {first['rate'] or 0:.0%}, counting {second['rate'] or 0:.0%}"
    difference = second["against_first"]
    if difference:
        low, high = difference["interval"]
        text += f", {difference['difference']:+.1%} [{low:+.1%}, {high:+.1%}]"
        text += f", p {difference['p']:.2g}"
    return text
