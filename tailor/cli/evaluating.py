"""`tailor evaluate`: measure models, and lists of other programs, by one protocol."""

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
    """Folder of the data set; None: where it was when the split was made."""
    part: str = "test"
    """Part of the split: test or valid."""
    k: str = "10"
    """List lengths, separated by commas."""
    metrics: str = "HR,NDCG"
    """Names of metrics, separated by commas."""
    baseline: str | None = None
    """Name of the model to which the others are compared; None: the first."""
    candidates: str | None = None
    """Items that may be ranked; None: all.

    A file of lists, or "new", "uniform:99", "popularity:99".
    """

    def lengths(self) -> list[int]:
        """Return the list lengths. Raises DataError unless all are whole numbers from 1."""
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
    """Measure models and print a report; see `tailor evaluate --help`."""
    split = Split.open(options.split, options.data_folder)
    # a wrong path is refused before the work, not after it
    _check_file("--per-user", per_user)
    _check_file("--html", html)
    if predictors := all_predict(models):
        evaluate_predictions_command(
            predictors, split, options.part, options.baseline, per_user, html, json
        )
        return
    methods = _open_methods(models, split, options.part)
    lengths = options.lengths()
    baseline = options.baseline or next(iter(methods))
    if baseline not in methods:
        raise DataError(
            f"--baseline {baseline}: give the folder name of one of the"
            f" models.{nearest(baseline, methods)}"
        )
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
    """Raise DataError where the folder of a file to be written is missing."""
    if file is not None and not file.absolute().parent.is_dir():
        raise DataError(f"{option} {file}: there is no folder {file.parent}: make it first")


def _show(report: Report, comparisons: list[Comparison], notes: list[str], json: bool) -> None:
    """Print a report, its comparisons and notes, as JSON or as text."""
    if json:
        tests = [comparison.to_dict() for comparison in comparisons]
        print_json({**report.to_dict(), "comparisons": tests, "notes": notes})
    else:
        say(*notes)
        show_report(report, comparisons)


def _open_methods(models: Sequence[Path], split: Split, part: str) -> Methods:
    """Return name -> model of a folder, or lists of a file.

    Raises ModelError for a model that saw the targets of this part.
    """
    methods: dict[str, Recommender | ExternalRun] = {}
    for path in models:
        if path.is_file():
            methods[path.name] = ExternalRun.read(path)
            continue
        method = opened(path)
        try:
            refuse_seen_targets(method, split, part)
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from None
        # folders of the same name are told apart by their whole paths
        name = str(path) if path.name in methods else path.name
        methods[name] = method
    return methods


def _candidates(option: str | None, split: Split, part: str) -> tuple[Candidates | None, list[str]]:
    """Return the candidates that `--candidates` describes, and notes on unknown ids.

    The option is a file, "new" for new items, or a number of random negatives.
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
            f"--candidates {option}: give a file with the columns user_id, item_id and score, or"
            ' one of "new", "uniform:99", "popularity:99"'
        )
    lists = ExternalRun.read(option)
    label = f"the candidates of {Path(option).name}"
    return candidates_of(lists, split, label), _unknown_candidates(lists, split)


def _unknown_candidates(lists: ExternalRun, split: Split) -> list[str]:
    """Return a note on users, and one on items, that the data set lacks."""
    notes = []
    vocabularies = {"item_id": split.data.catalogue, "user_id": split.data.users}
    for column, vocabulary in vocabularies.items():
        ids = lists.table[column].unique(maintain_order=True)
        unknown = ids.filter(pl.Series(vocabulary.codes(ids) < 0))
        if len(unknown):
            kind = column.removesuffix("_id")
            notes.append(
                f"{len(unknown):,} of {len(ids):,} {kind}s in the candidate lists are not in the"
                f' data set and are ignored, for example "{unknown[0]}"'
            )
    return notes
