"""Propose the next settings to try, by Optuna's tree-structured Parzen estimator."""

from collections.abc import Sequence
from typing import Any

from tailor.bench.space import Dimension
from tailor.bench.study import Trial
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.errors import MissingExtraError

RANDOM = 10  # random trials before the estimator has enough data


def propose_settings(
    space: Sequence[Dimension], trials: Sequence[Trial], seed: int, number: int
) -> dict[str, Any]:
    """Return the settings of trial `number` by name.

    A function of its arguments only, so that an interrupted study continues as if it had not been.
    The best tenth of the settings so far is called good; settings are tried that are likelier among
    the good than among the others (Bergstra et al. 2011, "Algorithms for Hyper-Parameter
    Optimization"). Raises MissingExtraError without Optuna.
    """
    optuna = need_optuna()
    sampler_seed = int(Run(seed=seed).rng("tune", number).integers(2**31))
    sampler = optuna.samplers.TPESampler(n_startup_trials=RANDOM, seed=sampler_seed)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    distributions = {dimension.name: _distribution(optuna, dimension) for dimension in space}
    for trial in trials:
        is_inside = all(
            _is_inside(dimension, trial.settings[dimension.name]) for dimension in space
        )
        if trial.state != "failed" and is_inside:
            study.add_trial(_optuna_trial(optuna, space, distributions, trial))
    proposal = study.ask(distributions).params
    return {dimension.name: _setting(dimension, proposal[dimension.name]) for dimension in space}


def need_optuna() -> Any:
    """Return the module; MissingExtraError where it is not installed."""
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"tune needs the package {error.name}: pip install 'tailor-engine[torch]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _distribution(optuna: Any, dimension: Dimension) -> Any:
    """Return Optuna's distribution of a dimension; choices are given by their index."""
    domain = dimension.domain
    if not isinstance(domain, Range):
        return optuna.distributions.CategoricalDistribution(range(len(domain.values)))
    if domain.is_whole:
        return optuna.distributions.IntDistribution(domain.low, domain.high, log=domain.log)
    return optuna.distributions.FloatDistribution(domain.low, domain.high, log=domain.log)


def _optuna_trial(
    optuna: Any, space: Sequence[Dimension], distributions: dict[str, Any], trial: Trial
) -> Any:
    """Return a finished trial as Optuna's own."""
    params = {}
    for dimension in space:
        value = trial.settings[dimension.name]
        if not isinstance(dimension.domain, Range):
            value = dimension.domain.values.index(value)
        params[dimension.name] = value
    if trial.state != "pruned":
        return optuna.trial.create_trial(
            state=optuna.trial.TrialState.COMPLETE,
            value=trial.value,
            params=params,
            distributions=distributions,
            intermediate_values={},
        )
    steps = {} if trial.screened is None else {0: trial.screened}
    steps |= {step + 1: figure for step, figure in trial.watched}
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState.PRUNED,
        value=None,
        params=params,
        distributions=distributions,
        intermediate_values=steps,
    )


def _is_inside(dimension: Dimension, value: Any) -> bool:
    """Return whether a setting is in the domain; a pipeline file's own need not be."""
    domain = dimension.domain
    if not isinstance(domain, Range):
        return value in domain.values
    return isinstance(value, int | float) and domain.low <= value <= domain.high


def _setting(dimension: Dimension, proposal: Any) -> Any:
    """Return a proposal as a setting of the pipeline.

    Fractions have four digits, so that the file is readable.
    """
    domain = dimension.domain
    if not isinstance(domain, Range):
        return domain.values[proposal]
    if domain.is_whole:
        return proposal
    return min(max(float(f"{proposal:.4g}"), domain.low), domain.high)
