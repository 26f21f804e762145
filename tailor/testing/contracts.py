"""The contract of every method, as checks.

    for check in contracts(MyMethod):
        check(MyMethod)

is a new method's whole test. Each check takes the class, works on its `tiny()` setting fitted on
small data, and raises AssertionError where a promise is broken.
"""

import contextlib
import copy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import tomli_w

from tailor.core.costs import estimate
from tailor.core.methods import Agent, Generator, Method, Predictor, Profiler, Recommender
from tailor.core.run import Run
from tailor.core.specs import build, clone, spec
from tailor.data.dataset import Dataset
from tailor.data.nouns import plain, same
from tailor.errors import NotFittedError
from tailor.testing import (
    agent_checks,
    generator_checks,
    predictor_checks,
    profiler_checks,
    recommender_checks,
)
from tailor.testing.data import tiny_data
from tailor.testing.fits import (
    fit_of,
    fitted,
    nearly_same,
    reloaded,
    sample_answers,
    save_in,
    second_fit_of,
)

Check = Callable[[type[Any]], None]


def contracts(cls: type[Method]) -> list[Check]:
    """Return the checks that apply to this class: those of every method, and those of its verb."""
    checks = list(METHOD_CHECKS)
    for verb, checks_of in VERBS.items():
        if issubclass(cls, verb):
            checks += checks_of(cls)
    return checks


def fit_returns_self_and_keeps_settings(cls: type[Method]) -> None:
    fit = fit_of(cls)
    assert fit.returned is fit.method, "fit returned another object"
    assert spec(fit.method) == fit.spec_before, "fit changed a setting"
    assert fit.method.trained_on_.data_hash == tiny_data().content_hash


def refuses_before_fit(cls: type[Method]) -> None:
    with contextlib.suppress(NotFittedError):
        sample_answers(cls.tiny())
        raise AssertionError("an unfitted method answered")


def same_seed_same_answers(cls: type[Method]) -> None:
    first = sample_answers(fitted(cls))
    second = sample_answers(second_fit_of(cls).method)
    assert same(list(first), list(second)), "two fits with one seed differ"


def survives_toml(cls: type[Method]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "method.toml"
        path.write_text(tomli_w.dumps(spec(cls.tiny())), encoding="utf-8")
        assert spec(build(path)) == spec(cls.tiny()), "settings changed on the way through TOML"


def survives_saving(cls: type[Method]) -> None:
    method = fitted(cls)
    loaded = reloaded(method)
    assert spec(loaded) == spec(method) and loaded.trained_on_ == method.trained_on_
    answers = sample_answers(method)
    for i, (before, after) in enumerate(zip(answers, sample_answers(loaded), strict=True)):
        assert nearly_same(before, after, 1e-6), (
            f"a loaded method answers request {i} differently: {plain(before)} became"
            f" {plain(after)}. What an answer needs is in a setting, or in an attribute ending in _"
        )


def bundle_names_nobody(cls: type[Method]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for path in save_in(fitted(cls), folder).rglob("*"):
            names_user = path.is_file() and b"person-0" in path.read_bytes()
            assert not names_user, f"{path.name} names a user"


def does_not_change_the_data(cls: type[Method]) -> None:
    data = fit_of(cls).data
    assert data.content_hash == tiny_data().content_hash
    fresh = tiny_data().sequences
    used = data.sequences
    assert same(fresh.rows.values, used.rows.values), "fit changed the sequences"
    assert same(fresh.rows.offsets, used.rows.offsets), "fit changed the sequences"


def a_failed_fit_changes_nothing(cls: type[Method]) -> None:
    method = copy.copy(fitted(cls))
    learned = dict(method.__dict__)

    class Broken:  # data that fails at the first look
        provenance = method.trained_on_

        def __getattr__(self, name: str) -> object:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        method.fit(cast(Dataset, Broken()), Run())
    assert method.__dict__ == learned, "an interrupted fit left the method half learned"


def an_estimate_changes_nothing(cls: type[Method]) -> None:
    data = tiny_data()
    method = cls.tiny()
    before = spec(method)
    cost = estimate(method, data)
    figures = [cost.seconds, cost.kept_bytes, cost.peak_bytes]
    assert np.isfinite(figures).all() and cost.seconds > 0, f"says it takes {cost}"
    assert spec(method) == before and not method.is_fitted, "an estimate changed the method"


def clones_unfitted(cls: type[Method]) -> None:
    method = fitted(cls)
    copied = clone(method)
    assert spec(copied) == spec(method) and not copied.is_fitted


METHOD_CHECKS: tuple[Check, ...] = (
    fit_returns_self_and_keeps_settings,
    refuses_before_fit,
    same_seed_same_answers,
    survives_toml,
    survives_saving,
    bundle_names_nobody,
    does_not_change_the_data,
    a_failed_fit_changes_nothing,
    clones_unfitted,
    an_estimate_changes_nothing,
)
VERBS: dict[type[Any], Callable[[type[Any]], list[Check]]] = {
    Recommender: recommender_checks.checks_of,
    Predictor: predictor_checks.checks_of,
    Profiler: profiler_checks.checks_of,
    Generator: generator_checks.checks_of,
    Agent: agent_checks.checks_of,
}
