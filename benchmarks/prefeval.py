"""PrefEval with four options: does a memory of what was said lead to the right one?

    python benchmarks/prefeval.py

Options are the explanation of a record and those of the three records of the nearest questions, so
that few can be told without the memory: the row without history is printed. What the user said
stands among six conversations about other things, in a memory of 2,000 tokens (PersonaMem, not
trained), and MiniLM reads it. By whether the preference was stated, showed in a choice, or was said
in passing.
"""

import json

import numpy as np
from lives_tools import share
from remembering import Remembering
from shared_data import data_folder
from writing import write_result

from tailor.core.defaults import encoder
from tailor.evaluation.significance import bootstrap, wilson
from tailor.papers.profiles.personamem import PersonaMem, TextMemory
from tailor.profiles.propositions import Observation

TOPICS = ("education_resources", "entertain_games", "entertain_shows", "shop_technology")
KINDS = ("explicit", "implicit-choice", "implicit-persona")


def main() -> None:
    figures = of_preferences()
    print(json.dumps(figures, indent=1))
    print(write_result("prefeval", 0, "python benchmarks/prefeval.py", figures))


def of_preferences() -> dict:
    """Return the share of right options with and without the memory, by kind of preference."""
    method = PersonaMem(2_000, encoder=Remembering(encoder()))
    noise = [
        Observation("chat", turn["content"][:400], 10 + i)
        for i, turn in enumerate(intervening())
        if turn["role"] == "user"
    ]
    hits: dict[str, list[float]] = {"no history": []}
    for topic in TOPICS:
        records = {kind: read(kind, topic) for kind in KINDS}
        explicit = records["explicit"]
        options = options_of(explicit)
        for row, (record, (texts, right)) in enumerate(zip(explicit, options, strict=True)):
            question = record["question"]
            nothing = method.choose(TextMemory(()), question, texts) == right
            hits["no history"].append(nothing)
            for kind in KINDS:
                said = [*words_of(records[kind][row], kind), *noise]
                memory = method.remember(said)
                hits.setdefault(kind, []).append(method.choose(memory, question, texts) == right)
    rows = {name: np.array(values, float) for name, values in hits.items()}
    with_memory = np.mean([rows[kind] for kind in KINDS], axis=0)
    low, high = bootstrap((with_memory - rows["no history"])[:, None])
    return {
        "questions": len(rows["no history"]),
        "right": {
            name: [share(values), *np.round(wilson(int(values.sum()), len(values)), 3).tolist()]
            for name, values in rows.items()
        },
        "over no history": {
            "difference": round(float((with_memory - rows["no history"]).mean()), 4),
            "low": round(float(low[0]), 4),
            "high": round(float(high[0]), 4),
        },
    }


def read(kind: str, topic: str) -> list[dict]:
    path = data_folder() / "prefeval" / kind / f"{topic}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def intervening() -> list[dict]:
    """Return turns of conversations about other things."""
    path = data_folder() / "prefeval" / "filtered_inter_turns.json"
    conversations = json.loads(path.read_text(encoding="utf-8"))
    return [turn for talk in conversations[:6] for turn in talk["conversation"]]


def options_of(records: list[dict]) -> list[tuple[list[str], int]]:
    """Return four options a record: its explanation among those of the three nearest questions."""
    vectors = encoder().encode([record["question"] for record in records])
    rng = np.random.default_rng(0)
    options = []
    for row, cosines in enumerate(vectors @ vectors.T):
        cosines[row] = -1
        rows = [row, *np.argsort(-cosines, kind="stable")[:3].tolist()]
        order = rng.permutation(4)
        texts = [records[rows[place]]["explanation"] for place in order]
        options.append((texts, int(np.flatnonzero(order == 0)[0])))
    return options


def words_of(record: dict, kind: str) -> list[Observation]:
    """Return what the user says in a record."""
    if kind == "explicit":
        texts = [record["preference"]]
    elif kind == "implicit-choice":
        talk = record["conversation"]
        texts = [talk["query"], talk["user_selection"]]
    else:
        texts = [turn["user"] for turn in record["conversation"].values()]
    return [Observation("chat", text, i) for i, text in enumerate(texts)]


if __name__ == "__main__":
    main()
