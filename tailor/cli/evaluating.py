"""`tailor evaluate`: models and lists made elsewhere, by the one protocol."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from tailor.cli.asking import opened
from tailor.cli.predicting import all_predict, evaluate_predictions_command
from tailor.cli.showing import print_json, say, show_report
from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.data.folders import replaced_by
from tailor.data.splits import Split
from tailor.errors import DataError, ModelError, nearest
from tailor.evaluation.comparing import Comparison
from tailor.evaluation.pages import page
from tailor.evaluation.protocol import Report, compare, evaluate, refuse_seen_targets
from tailor.evaluation.report import write_per_user
from tailor.evaluation.runs import Candidates, ExternalRun, candidates_of, only_new_items, sampled
from tailor.progress import terminal

Methods = Mapping[str, Recommender | ExternalRun]


@dataclass(frozen=True)
class EvaluateOptions:
    """Options of `tailor evaluate` that say what is measured."""

    split: Path
    """Folder of the split."""
    data_folder: Path | None = None
    """The data set, where it has moved."""
    part: str = "test"
    """Part of the split: test or valid."""
    k: str = "10"
    """List lengths, separated by commas."""
    metrics: str = "HR,NDCG"
    """Names of metrics, separated by commas."""
    baseline: str | None = None
    """Name of the model that the others are tested against; None: the first."""
    candidates: str | None = None
    """What may be ranked: a file of lists, new, uniform:99 or popularity:99; None: everything."""

    def lengths(self) -> list[int]:
        """Return the list lengths. Raises DataError for one that is no whole number from 1."""
        parts = self.k.split(",")
        lengths = [int(part) for part in parts if part.strip().isdigit()]
        if len(lengths) != len(parts) or 0 in lengths:
            raise DataError(
                f"--k {self.k}: list lengths are whole numbers from 1, separated by commas, as in"
                ' "5,10,20"'
            )
        return lengths


def evaluate_command(
    models: Sequence[Path],
    options: EvaluateOptions,
    per_user: Path | None,
    html: Path | None,
    json: bool,
) -> None:
    """Measure and print a report; see `tailor evaluate --help`."""
    split = Split.open(options.split, options.data_folder)
    if predictors := all_predict(models):
        evaluate_predictions_command(
            predictors, split, options.part, options.baseline, per_user, json
        )
        return
    methods = _open_methods(models, split, options.part)
    lengths = options.lengths()
    baseline = options.baseline or next(iter(methods))
    if baseline not in methods:
        raise DataError(
            f"--baseline {baseline}: name one of the models by its"
            f" folder.{nearest(baseline, methods)}"
        )
    _check_file("--per-user", per_user)  # before the work, not after it
    _check_file("--html", html)
    candidates, notes = _candidates(options.candidates, split, options.part)
    report = evaluate(
        methods,
        split,
        options.part,
        lengths,
        [name.strip() for name in options.metrics.split(",")],
        run=Run(progress=terminal),
        candidates=candidates,
    )
    comparisons = compare(report, baseline, seen=report.treatments) if len(methods) > 1 else []
    if per_user is not None:
        write_per_user(report, per_user)
    if html is not None:
        title = f"{', '.join(methods)} on {split.data.name}"
        with replaced_by(html) as aside:
            aside.write_text(page(report, comparisons, title=title), encoding="utf-8")
    _show(report, comparisons, notes, json)


def _check_file(option: str, file: Path | None) -> None:
    if file is not None and not file.absolute().parent.is_dir():
        raise DataError(f"{option} {file}: there is no folder {file.parent}: make it first")


def _show(report: Report, comparisons: list[Comparison], notes: list[str], json: bool) -> None:
    if json:
        tests = [comparison.to_dict() for comparison in comparisons]
        print_json({**report.to_dict(), "comparisons": tests, "notes": notes})
    else:
        say(*notes)
        show_report(report, comparisons)


def _open_methods(models: Sequence[Path], split: Split, part: str) -> Methods:
    """Return models and external lists by the names of their folders and files.

    Raises ModelError for a model that saw the targets of this part.
    """
    methods: dict[str, Recommender | ExternalRun] = {}
    for folder in models:
        if folder.is_file():
            methods[folder.name] = ExternalRun.read(folder)
            continue
        method = opened(folder)
        try:
            refuse_seen_targets(method, split, part)
        except ModelError as error:
            raise ModelError(f"{folder}: {error}") from None
        methods[folder.name if folder.name not in methods else str(folder)] = method
    return methods


def _candidates(option: str | None, split: Split, part: str) -> tuple[Candidates | None, list[str]]:
    """Return what --candidates names, and notes on ids that are unknown.

    It names a file, the items that are new, or a number of negatives.
    """
    if option is None:
        return None, []
    if option == "new":
        return only_new_items(split, part), []
    kind, _, number = option.partition(":")
    if kind in ("uniform", "popularity") and number.isdigit():
        return sampled(split, part, int(number), kind), []
    if not Path(option).is_file():
        raise DataError(
            f"--candidates {option}: name a file with columns user_id, item_id, score, or write"
            " new, uniform:99 or popularity:99"
        )
    lists = ExternalRun.read(option)
    label = f"the candidates of {Path(option).name}"
    return candidates_of(lists, split, label), _unknown_candidates(lists, split)


def _unknown_candidates(lists: ExternalRun, split: Split) -> list[str]:
    """Return notes on users and items of candidate lists that the data set lacks."""
    notes = []
    vocabularies = {"item_id": split.data.catalogue, "user_id": split.data.users}
    for column, vocabulary in vocabularies.items():
        ids = lists.table[column].unique(maintain_order=True)
        unknown = ids.filter(pl.Series(vocabulary.codes(ids) < 0))
        if len(unknown):
            kind = column.removesuffix("_id")
            notes.append(
                f"{len(unknown):,} of {len(ids):,} {kind}s of the candidates are not in the data"
                f' set and do not count, such as "{unknown[0]}"'
            )
    return notes
