"""NetMethod: a method that owns one net. Training, weights and rebuilding are written here, once.

A method with a net says what the net is (`_make_net`), which batches it learns from and what its
loss is; then

    def _fit(self, data, run, valid):
        validation, learned = cut_validation(data, run, valid, needed=self.patience is not None)
        ...                                       # items_ and whatever _make_net reads
        self._start_net(run)
        report = self._train_net(data, run, recipe, batches, loss, validation)
        self.fit_report_ = {"pairs": len(pairs), **report}

and answers with `self._ready()`, which is the net with its weights, rebuilt after loading.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from tailor.core.methods import Method
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.splits import Split
from tailor.nn.devices import computing
from tailor.nn.fitting import Recipe, fit_net
from tailor.nn.weights import load_weights, rename, weights_of
from tailor.training.validation import run_key


class Judge(Protocol):
    """Says during training how good the method is now; `Validation` is the usual one."""

    @property
    def split(self) -> Split | None:
        """Split whose validation part is asked about; None for a part of the training data."""

    def value(self, method: Any) -> float:
        """Return how good the method is now; higher is better."""


@dataclass(eq=False)
class NetMethod(Method):
    """A method that owns one net."""

    net_weights_: dict[str, np.ndarray] = field(init=False, repr=False)
    """Weights and persistent buffers of the net, by name."""

    @abstractmethod
    def _make_net(self) -> Any:
        """Return the untrained `nn.Module`, from settings and what `_fit` has learned so far."""

    def _start_net(self, run: Run) -> None:
        """Make the untrained net; its first weights depend on `run.seed` alone."""
        with computing(run.seed, run.workers):
            self._net = self._make_net()

    def _train_net(
        self,
        data: Dataset,
        run: Run,
        recipe: Recipe,
        batches: Callable[[np.random.Generator], Sequence[Any]],
        loss: Callable[[Any, np.random.Generator], Tensor],
        judge: Judge | None = None,
        stage: str = "",
    ) -> dict[str, Any]:
        """Train the net, keep its best weights, and return the report of training.

        `batches(rng)` are the batches of one epoch and `loss(batch, rng)` the mean loss of one.
        `judge` decides which weights are best and when to stop; without it, all epochs are done.
        `stage` tells one training from the others of a fit.
        """
        key = run_key(self, data, None if judge is None else judge.split, run)
        if stage:
            key = f"{key}-{stage}"
        validate = None if judge is None else lambda: judge.value(self)
        report = fit_net(self._net, batches, loss, run, recipe, validate, key)
        self._keep_weights()
        return report

    def _leave_untrained(self, reason: str) -> dict[str, Any]:
        """Keep the first weights, and return the report of a training that did not happen."""
        self._keep_weights()
        return {"epochs": 0, "stopped": reason}

    def _keep_weights(self) -> None:
        """Copy the net's weights into the learned state, and make the net ready to answer."""
        self._net.cpu().eval()
        self.net_weights_ = weights_of(self._net)

    def _ready(self) -> Any:
        """Return the net, ready to answer; rebuild it from its weights after loading."""
        if "_net" not in self.__dict__:
            with torch.device("meta"):  # draw nothing, and allocate no second table
                net = self._make_net()
            self.net_weights_ = rename(self.net_weights_, net)
            load_weights(net, self.net_weights_, assign=True)
            self._net = net.eval()
        return self._net
