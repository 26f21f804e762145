"""Recall from LoCoMo's dialogues, by category, and when to say that there is no answer.

`python benchmarks/memory.py` writes benchmarks/results/memory.json: recall of the turns that hold
the answer at ten, with weights chosen on the nine other dialogues, with those that `Recall` has,
and by a reranker that was learned on the nine others (MemReranker); AUROC of answerable against
adversarial questions, by what was learned on the nine and by what `Recall` has. Speed:
`benchmarks/memory_speed.py`.
Planted lives: `tailor bench claims gum personamem-v2`.
"""

from memory_tools import locomo_figures
from writing import write_result

from tailor.core.run import Run


def main() -> None:
    run = Run()
    figures = {"locomo": locomo_figures(run)}
    print(write_result("memory", run.seed, "python benchmarks/memory.py", figures))


if __name__ == "__main__":
    main()
