"""50 candidates judged one by one by the local language model: seconds a list.

    python benchmarks/pointwise_speed.py

The candidates are the first 50 titles of Beauty by the words of a request. What all prompts of a
list begin with is read once, and yes and no are read off one pass (`LLMReranker(strategy="yes-no",
reads="log-probs")`). Times are the best of three, by the clock and of the processor: on a machine
that others use, only the latter means something.
"""

import os
import time
from typing import Any

import torch
from shared_data import real
from writing import write_result

from tailor.llm.local import LocalModel
from tailor.llm.torch_model import TorchModel
from tailor.ports.base import LanguageModel
from tailor.reranking.llm_reranker import LLMReranker
from tailor.reranking.shortlist import Shortlist

CANDIDATES, TURNS = 50, 3
REQUESTS = ("shampoo for dry hair", "red nail polish", "cream against wrinkles")


def main() -> None:
    titles = real("beauty").texts_of("title")
    lists = [best_by_words(request, titles) for request in REQUESTS]
    tokens = TorchModel("smollm2-135m")
    figures: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "tokens a title": sum(map(tokens.tokens, lists[0].texts)) / CANDIDATES,
    }
    for precision in ("exact", "fast"):
        model = LocalModel(precision=precision)  # type: ignore[arg-type]
        figures[f"LocalModel, {precision}"] = measured(model, lists)
        print(precision, figures[f"LocalModel, {precision}"])
    print(write_result("pointwise-speed", 0, "python benchmarks/pointwise_speed.py", figures))


def best_by_words(request: str, titles: list[str]) -> Shortlist:
    """Return the titles with most words of the request, the longest title of equal ones last."""
    wanted = set(request.split())
    named = sorted({title for title in titles if title}, key=lambda title: (len(title), title))
    named.sort(key=lambda title: -len(wanted & set(title.lower().split())))
    return Shortlist.of_texts(request, named[:CANDIDATES])


def measured(model: LanguageModel, lists: list[Shortlist]) -> dict[str, float]:
    """Return the seconds that a list takes, the weights being loaded."""
    reranker = LLMReranker(llm=model, strategy="yes-no", reads="log-probs")
    reranker.rerank([lists[0].take([0, 1])])
    clock, processor = [], []
    for shortlist in lists[:TURNS]:
        start_s, cpu_s = time.perf_counter(), time.process_time()
        (result,) = reranker.rerank([shortlist])
        clock.append(time.perf_counter() - start_s)
        processor.append(time.process_time() - cpu_s)
        assert set(result.statuses) == {"ranked"} and result.spent.calls == CANDIDATES
    return {"seconds": round(min(clock), 2), "processor seconds": round(min(processor), 2)}


if __name__ == "__main__":
    main()
