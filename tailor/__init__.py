"""Tailor: recommendations, search, explanations and texts for every person, measured honestly.

The names below are loaded when first used, so that `import tailor` costs nothing.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "tailor.core.methods": (
        "Run Recommender ScoringRecommender Predictor Profiler Generator Agent Paper"
    ),
    "tailor.core.studies": "Study StudyReport TableReport ReportTable",
    "tailor.core.specs": "build spec discover clone",
    "tailor.core.saving": "save load",
    "tailor.data.dataset": "Dataset",
    "tailor.data.nouns": (
        "History Query Ranking Explanation Evidence Fact Profile Act Turn Output same plain"
    ),
    "tailor.data.splits": "Split split_by last_out by_time by_ratio new_users",
    "tailor.data.importers.importing": "import_data",
    "tailor.errors": "TailorError DataError NotFittedError ModelError MissingExtraError",
    "tailor.evaluation.protocol": "evaluate compare",
    "tailor.pipeline.default": "default_pipeline",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}
__all__ = sorted(_HOME_OF)  # noqa: PLE0605 (names are loaded lazily)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'tailor' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
