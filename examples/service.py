"""A shop is served: events go in, answers change at once, a person is erased. `python
examples/service.py`
"""

import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import tailor
from tailor.client import Client
from tailor.retrieval.covisitation import CoVisitation
from tailor.store.users import receipt_holds
from tailor.worlds.shop import shop

data = shop(users=300, items=80).data
folder = Path(tempfile.mkdtemp())
data.save(folder / "data")
CoVisitation().fit(tailor.last_out(data).train).save(folder / "model")
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = str(free.getsockname()[1])
serve = [
    sys.executable,
    "-m",
    "tailor",
    "serve",
    "--model",
    "model",
    "--data",
    "data",
    "--port",
    port,
]
server = subprocess.Popen(
    serve, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
)
next(line for line in server.stdout or () if line.startswith("Serving on"))
key = (folder / "tailor.first-key").read_text().strip()  # of the first start

with Client(f"http://127.0.0.1:{port}", key) as service:  # waits until the server answers
    before = service.recommend("somebody new", k=3)
    print(before["notes"][0])
    bought = data.catalogue.ids[0]
    service.send_events(
        [{"event_id": "order-1", "user_id": "somebody new", "item_id": bought, "action": "buy"}]
    )
    after = service.recommend("somebody new", k=3, explain=True)
    for item in after["items"]:
        print(
            item["item_id"],
            item["title"],
            "because of",
            [reason["id"] for reason in item["reasons"]],
        )
    assert after["items"] and bought not in [item["item_id"] for item in after["items"]]
    receipt = service.erase("somebody new")
    print(
        "erased:", receipt["rows"], "receipt holds:", receipt_holds(receipt, receipt["public_key"])
    )
server.terminate()
