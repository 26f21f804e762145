"""Our memory and mem0's on LoCoMo, in one run: recall of the evidence, and what an erasure leaves.

    python benchmarks/memory_peers.py --peers /tmp/mem0/bin/python

How the peer's environment is made: benchmarks/peers/README.md. Both store every turn of a dialogue
as it was said, with date and speaker, for one user, with vectors of MiniLM, and are asked for ten
turns; no language model rewrites anything. Then all of the first user is deleted, and the files of
either store are searched for 200 turns of hers.
"""

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from memory_tools import Judge, categories_of
from remembering import Remembering
from shared_data import real
from writing import write_result

from tailor.core.defaults import encoder
from tailor.core.run import Run
from tailor.profiles.memory import Memory
from tailor.profiles.propositions import Observation
from tailor.profiles.recall import Recall
from tailor.reranking.turn_lists import TurnList, dialogues_of
from tailor.store.engine import connect
from tailor.store.migrating import migrate
from tailor.text.turns import DialogueTurn
from tailor.text.words import STOP_WORDS

PEER = Path(__file__).parent / "peers" / "mem0_memory.py"
K = 10
NEEDLES = 200  # turns that the files are searched for
SHORTEST = 30  # characters of them


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", required=True, help="python of the peer's virtual environment")
    arguments = parser.parse_args()
    run = Run()
    data = real("locomo")
    dialogues = list(dialogues_of(data))
    categories = categories_of(data)
    reading = Remembering(encoder())
    # so that no seconds are those of the encoder
    reading.encode([turn.line() for dialogue in dialogues for turn in dialogue.turns])
    reading.encode([request for dialogue in dialogues for request in dialogue.requests])
    ours = our_answers(dialogues, reading)
    theirs = peer_answers(dialogues, reading, arguments.peers)
    judge = Judge([categories[d.turns[0].dialogue_id] for d in dialogues], run)
    figures = {
        name: {
            **judge.recall(recalls(dialogues, answer.pop("rows"))),
            **answer,
        }
        for name, answer in (("tailor", ours), ("mem0", theirs))
    }
    print(json.dumps(figures, indent=1))
    print(write_result("memory-peers", 0, "python benchmarks/memory_peers.py", figures))


def recalls(dialogues: list[TurnList], rows: list[list[list[int]]]) -> list[np.ndarray]:
    """Return (R,) the share of the evidence among the rows recalled, by dialogue."""
    return [
        np.array([gains[of_request].sum() / gains.sum() for gains, of_request in zip(d.gains, rs)])
        for d, rs in zip(dialogues, rows, strict=True)
    ]


def needles_of(dialogue: TurnList) -> list[str]:
    """Return texts whose bytes must not be found after the erasure."""
    texts = [turn.text for turn in dialogue.turns if len(turn.text) >= SHORTEST]
    return texts[:NEEDLES]


def observation_of(turn: DialogueTurn) -> Observation:
    """Return a turn as an observation, a second after the one before in its session."""
    time_ms = (turn.time_ms or 0) + 1_000 * (turn.number or 0)
    return Observation("chat", turn.text, time_ms, source=turn.session_id, speaker=turn.speaker)


def our_answers(dialogues: list[TurnList], reading: Remembering) -> dict:
    """Return the rows that our memory recalls, and what is left of the first user."""
    seconds = {"write": 0.0, "recall": 0.0}
    rows = []
    residues = {}
    for number, dialogue in enumerate(dialogues):
        with tempfile.TemporaryDirectory() as folder:
            engine = connect(f"{folder}/memory.db")
            migrate(engine)
            memory = Memory(engine, recall_by=Recall(reading))
            user = f"user-{number}"
            observations = [observation_of(turn) for turn in dialogue.turns]
            row_of = {o.observation_id: row for row, o in enumerate(observations)}
            started_s = time.perf_counter()
            memory.observe(user, observations)
            seconds["write"] += time.perf_counter() - started_s
            started_s = time.perf_counter()
            lists = [memory.recall(user, request, K).items for request in dialogue.requests]
            seconds["recall"] += time.perf_counter() - started_s
            rows.append(
                [
                    [row_of[name] for item in items for name in item.observation_ids][:K]
                    for items in lists
                ]
            )
            if number == 0:
                needles = needles_of(dialogue)
                residues["before"] = count_in_files(Path(folder), needles)
                memory.forget(user, all=True)
                residues["answers after"] = len(memory.recall(user, needles[0]).items)
                residues["after"] = count_in_files(Path(folder), needles)
            engine.dispose()
    return {"rows": rows, "residues": residues, "seconds": seconds}


def count_in_files(folder: Path, needles: list[str]) -> int:
    """Return how many of some words stand in any file of a folder."""
    bodies = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    return sum(any(needle.encode() in body for body in bodies) for needle in needles)


def peer_answers(dialogues: list[TurnList], reading: Remembering, python: str) -> dict:
    """Return what mem0 recalls and leaves, from its own environment."""
    lines = [[turn.line() for turn in dialogue.turns] for dialogue in dialogues]
    task = [
        {
            "user": f"user-{number}",
            "lines": lines[number],
            "requests": dialogue.requests,
            "needles": needles_of(dialogue) if number == 0 else [],
        }
        for number, dialogue in enumerate(dialogues)
    ]
    texts = [text for dialogue in task for text in (*dialogue["lines"], *dialogue["requests"])]
    distinct = list(dict.fromkeys(texts))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "vectors.npz", vectors=reading.encode(distinct))
        words = {
            "texts": distinct,
            "dialogues": task,
            "stop_words": sorted(STOP_WORDS["english"]),
        }
        (folder / "task.json").write_text(json.dumps(words))
        subprocess.run([python, str(PEER), name], check=True)
        answer: dict = json.loads((folder / "answer.json").read_text())
    return answer


if __name__ == "__main__":
    main()
