"""What a language model that has learned nothing of the data says of histories and items, told by
their titles.
"""

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
    """(K,) log p(yes) - log p(no) for each title after the titles of a history; the item asked
    about stands in the prompt.
    """
    prompts = [CHOICE.filled(BUDGET, history=list(history), item=title).text for title in titles]
    said = model.score([*prompts, *prompts], ["yes"] * len(prompts) + ["no"] * len(prompts))
    odds: np.ndarray = said[: len(prompts)] - said[len(prompts) :]
    return odds


def likelihoods(model: LanguageModel, history: Sequence[str], titles: Sequence[str]) -> np.ndarray:
    """(K,) log-probability of each title as the answer, by character: else short titles would
    always lead. No title but the history's stands in the prompt.
    """
    prompt = NEXT.filled(BUDGET, history=list(history)).text
    lengths = np.array([max(len(title), 1) for title in titles])
    out: np.ndarray = (
        model.score([prompt] * len(titles), [title or "?" for title in titles]) / lengths
    )
    return out
