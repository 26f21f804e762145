"""LearnedReranker: the base of small nets that learn to order lists from known gains."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.sampling import shuffled_batches
from tailor.data.splits import Split
from tailor.errors import ModelError
from tailor.nn.fitting import Recipe, fit_net
from tailor.reranking.examples import Example, ListJudge, examples, split_examples
from tailor.reranking.reranker import Reranker
from tailor.reranking.shortlist import Limits, Reranked, Shortlist, ordered, scored_statuses
from tailor.training.nets import NetMethod
from tailor.training.validation import run_key

HELD_OUT = 0.2  # share of the requests that training is validated on
ListLoss = Callable[[Any, Tensor], Tensor]
"""Takes what the net reads of a list and the gains (n,) of its documents; returns its loss."""


@dataclass(eq=False)
class LearnedReranker(NetMethod, Reranker):
    """Learns from lists with gains how to score their documents.

    The lists are those of `reranking.examples`. A fifth of the requests is held back to choose the
    epoch. A subclass says what its net reads of a list (`_inputs`), the losses of its stages of
    training (`_stages`) and the scores of a list (`_list_scores`).
    """

    lr: float = 2e-3
    """Peak learning rate of AdamW; decays linearly to 1 % over all epochs."""
    epochs: int = 40
    """Maximum number of epochs of each stage."""
    batch: int = 8
    """Lists per batch."""
    patience: int | None = 8
    """Epochs without a better NDCG@10 of held-out lists before a stage stops; None: never."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.lr > 0 or self.epochs < 1 or self.batch < 1:
            raise ModelError(
                f"lr is {self.lr}, epochs {self.epochs}, batch {self.batch}: above 0, and at least"
                " 1 each"
            )

    @abstractmethod
    def _inputs(self, shortlists: Sequence[Shortlist]) -> list[Any]:
        """Return what the net reads of every list."""

    @abstractmethod
    def _stages(self) -> Mapping[str, ListLoss]:
        """Return the losses of the stages of training by name, in their order."""

    @abstractmethod
    def _list_scores(self, read: Any) -> np.ndarray:
        """Return scores (n,) of a list's documents; NaN: nothing can be said of one."""

    def _details(self, read: Any) -> dict[int, dict[str, Any]]:
        """Return place -> name -> value of a list's documents."""
        return {}

    @property
    def _score_kind(self) -> str:
        """Meaning of the scores."""
        return "logit"

    @property
    def _needs_fit(self) -> bool:
        """True where lists can be ordered only after learning."""
        return True

    @property
    def trains_on_candidates(self) -> bool:  # type: ignore[override]
        """True where an earlier stage's lists are learned from."""
        return self._needs_fit

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self._read_catalogue(data)
        self._start_net(run)
        self.fit_report_ = self._learn(examples(self, data, run), data, run)

    def _learn(self, lists: Sequence[Example], data: Dataset, run: Run) -> dict[str, Any]:
        """Train the net through all stages, and return the report of each."""
        learned, held = split_examples(lists, HELD_OUT, run.rng("held out lists"))
        if not learned:
            reason = "no list has documents of different gains"
            return {"lists": 0, **self._leave_untrained(reason)}
        read = self._inputs([example.shortlist for example in learned])
        gains = [example.gains for example in learned]
        pairs = list(zip(read, gains, strict=True))
        judge = self._judge(held)
        key = run_key(self, data, None, run)
        reports = {
            name: self._train_stage(f"{key}-{name}", loss, pairs, judge, run)
            for name, loss in self._stages().items()
        }
        self._keep_weights()
        return {"lists": len(learned), "held_out": len(held), **reports}

    def _judge(self, held: Sequence[Example]) -> ListJudge | None:
        if self.patience is None or not held:
            return None
        read = self._inputs([example.shortlist for example in held])
        return ListJudge(read, [example.gains for example in held], self._list_scores)

    def _train_stage(
        self,
        key: str,
        list_loss: ListLoss,
        lists: Sequence[tuple[Any, np.ndarray]],
        judge: ListJudge | None,
        run: Run,
    ) -> dict[str, Any]:
        """Train one stage; a loss of a batch is the mean over its lists."""

        def batches(rng: np.random.Generator) -> list[np.ndarray]:
            return shuffled_batches(len(lists), self.batch, rng)

        def loss(rows: np.ndarray, rng: np.random.Generator) -> Tensor:
            device = next(self._net.parameters()).device
            losses = [
                list_loss(lists[i][0], torch.from_numpy(lists[i][1]).float().to(device))
                for i in rows.tolist()
            ]
            return torch.stack(losses).mean()

        recipe = Recipe(self.epochs, self.lr, weight_decay=0.01, patience=self.patience)
        validate = None if judge is None else lambda: judge.value(self)
        return fit_net(self._net, batches, loss, run, recipe, validate, key)

    def _rerank(
        self, shortlists: Sequence[Shortlist], limits: Limits, trace: bool
    ) -> list[Reranked]:
        if self._needs_fit:
            self._check_fitted()
        lists = zip(shortlists, self._inputs(shortlists), strict=True)
        return [self._reranked(shortlist, read) for shortlist, read in lists]

    def _reranked(self, shortlist: Shortlist, read: Any) -> Reranked:
        """Return the order of a list by the present scores."""
        scores = self._list_scores(read)
        return ordered(
            shortlist,
            scores,
            scored_statuses(scores),
            self._score_kind,
            self.prior_weight,
            details=self._details(read),
        )
