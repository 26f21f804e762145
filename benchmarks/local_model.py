"""The small local model: speed, agreement of scores, schemas kept. Needs `tailor models pull
smollm2-135m`.

python benchmarks/local_model.py
"""

import json
import time

import numpy as np
from writing import write_result

from tailor.llm.local import LocalModel

SCHEMA = {
    "type": "object",
    "properties": {
        "colour": {"type": "string", "enum": ["red", "blue", "green"]},
        "score": {"type": "integer", "minimum": 0, "maximum": 10},
    },
    "required": ["colour", "score"],
    "additionalProperties": False,
}
CALLS = 200


def measured(precision: str) -> dict:
    model = LocalModel(precision=precision)  # type: ignore[arg-type]
    started = time.perf_counter()
    model.complete(["hello"], max_tokens=2)
    out: dict = {"first answer after s": round(time.perf_counter() - started, 1)}
    speeds, shorts = [], []
    for turn in range(3):
        started = time.perf_counter()
        (answer,) = model.complete([f"Tell me about tents, part {turn}."], max_tokens=64)
        speeds.append(answer.tokens_out / (time.perf_counter() - started))
        started = time.perf_counter()
        model.complete([f"Name one colour, {turn} {n}." for n in range(32)], max_tokens=8)
        shorts.append(time.perf_counter() - started)
    prompts = [
        f"Is item {n} a good tent for {n % 5} people? Answer yes or no." + " It is light." * (n % 7)
        for n in range(32)
    ]
    answers = ["Yes" if n % 2 else "No" for n in range(32)]
    together = model.score(prompts, answers)
    alone = np.array(
        [
            model.score([prompt], [answer])[0]
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
    )
    return {
        **out,
        "tokens_per_s": round(max(speeds), 1),
        "32_short_prompts_s": round(min(shorts), 2),
        "scores, batch against one by one, largest difference": float(
            np.abs(together - alone).max()
        ),
    }


def schema_kept() -> dict:
    found = LocalModel().complete(
        [f"Describe tent {n} as JSON with colour and score." for n in range(CALLS)],
        max_tokens=48,
        schema=SCHEMA,
    )
    kept = 0
    for one in found:
        value = json.loads(one.text)
        kept += (
            set(value) == {"colour", "score"}
            and value["colour"] in ("red", "blue", "green")
            and 0 <= value["score"] <= 10
        )
    return {"calls": CALLS, "valid": kept}


def main() -> None:
    figures = {"exact": measured("exact"), "fast": measured("fast"), "schema": schema_kept()}
    fast, exact = LocalModel(precision="fast"), LocalModel()
    prompts, answers = [f"Is {n} a lucky number?" for n in range(32)], ["Yes", "No"] * 16
    figures["scores, fast against exact, largest difference"] = float(
        np.abs(fast.score(prompts, answers) - exact.score(prompts, answers)).max()
    )
    print(json.dumps(figures, indent=1))
    print(write_result("local-model", 0, "python benchmarks/local_model.py", figures))


if __name__ == "__main__":
    main()
