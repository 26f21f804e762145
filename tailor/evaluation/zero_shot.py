"""Score items by a language model that was not trained on the data, from titles only."""

from collections.abc import Sequence

import numpy as np

from tailor.llm.prompts import Template
from tailor.ports.base import LanguageModel

CHOICE = Template(
    "A person chose these things, the latest last:\n{history}\nWould this person choose the"
    " following thing next?\n{item}\nAnswer yes or no.",
    foreign=("item",),
    listed=("history",),
)
NEXT = Template(
    "A person chose these things, the latest last:\n{history}\nName the thing that this person"
    " chooses next. Answer with its name only.",
    listed=("history",),
)
BUDGET = 600  # tokens of a prompt


def log_odds(model: LanguageModel, history: Sequence[str], titles: Sequence[str]) -> np.ndarray:
    """Return (K,) log p(yes) - log p(no) for each title after the titles of a history.

    The candidate's title is part of the prompt.
    """
    prompts: list[str] = []
    for title in titles:
        filled = CHOICE.filled(BUDGET, history=list(history), item=title)
        prompts.append(filled.text)
    n = len(prompts)
    answers = ["yes"] * n + ["no"] * n
    log_probabilities = model.score([*prompts, *prompts], answers)
    yes = log_probabilities[:n]
    no = log_probabilities[n:]
    return np.asarray(yes - no)


def likelihoods(model: LanguageModel, history: Sequence[str], titles: Sequence[str]) -> np.ndarray:
    """Return (K,) log-probability per character of each title as the answer.

    Without dividing by the length, short titles would always lead. The prompt holds the history's
    titles only.
    """
    prompt = NEXT.filled(BUDGET, history=list(history)).text
    lengths = np.array([max(len(title), 1) for title in titles])
    answers = [title or "?" for title in titles]
    log_probabilities = model.score([prompt] * len(titles), answers)
    return np.asarray(log_probabilities / lengths)
