"""The next settings to try, by Optuna's tree-structured Parzen estimator."""

from collections.abc import Sequence
from typing import Any

from tailor.bench.space import Dimension
from tailor.bench.study import Trial
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.errors import MissingExtraError

RANDOM = 10  # trials before the estimator has something to go by


def proposed(
    space: Sequence[Dimension], trials: Sequence[Trial], seed: int, number: int
) -> dict[str, Any]:
    """Settings by name for trial `number`: a function of its arguments, so that a study broken off
    goes on as if it had not been.

    The best tenth of the settings seen is called good, and what is likelier among the good than
    among the rest is tried (Bergstra et al. 2011, "Algorithms for Hyper-Parameter Optimization").
    Raises MissingExtraError without Optuna.
    """
    optuna = need_optuna()
    sampler = optuna.samplers.TPESampler(
        n_startup_trials=RANDOM, seed=int(Run(seed=seed).rng("tune", number).integers(2**31))
    )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    distributions = {one.name: _distribution(optuna, one) for one in space}
    for trial in trials:
        if trial.state != "failed" and all(
            _is_inside(one, trial.settings[one.name]) for one in space
        ):
            study.add_trial(_known(optuna, space, distributions, trial))
    asked = study.ask(distributions).params
    return {one.name: _value(one, asked[one.name]) for one in space}


def need_optuna() -> Any:
    """The module. Raises MissingExtraError where it is not installed."""
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"tune needs the package {error.name}: pip install 'tailor-engine[torch]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _distribution(optuna: Any, one: Dimension) -> Any:
    if not isinstance(one.among, Range):
        return optuna.distributions.CategoricalDistribution(range(len(one.among.values)))
    if one.among.is_whole:
        return optuna.distributions.IntDistribution(
            one.among.low, one.among.high, log=one.among.log
        )
    return optuna.distributions.FloatDistribution(one.among.low, one.among.high, log=one.among.log)


def _known(
    optuna: Any, space: Sequence[Dimension], distributions: dict[str, Any], trial: Trial
) -> Any:
    params = {
        one.name: one.among.values.index(value) if not isinstance(one.among, Range) else value
        for one in space
        for value in [trial.settings[one.name]]
    }
    pruned = trial.state == "pruned"
    told = {0: trial.screened} if trial.screened is not None else {}
    steps = {**told, **{step + 1: figure for step, figure in trial.watched}} if pruned else {}
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState.PRUNED if pruned else optuna.trial.TrialState.COMPLETE,
        value=None if pruned else trial.value,
        params=params,
        distributions=distributions,
        intermediate_values=steps,
    )


def _is_inside(one: Dimension, value: Any) -> bool:
    """Whether a setting is one of those searched; what a pipeline file says need not be."""
    if not isinstance(one.among, Range):
        return value in one.among.values
    return isinstance(value, int | float) and one.among.low <= value <= one.among.high


def _value(one: Dimension, asked: Any) -> Any:
    """As it goes into the pipeline: choices by their place, fractions to four digits, so that the
    file reads well.
    """
    if not isinstance(one.among, Range):
        return one.among.values[asked]
    return (
        asked
        if one.among.is_whole
        else min(max(float(f"{asked:.4g}"), one.among.low), one.among.high)
    )
