"""`tailor predict`, and `tailor evaluate` of models that predict."""

from collections.abc import Sequence
from pathlib import Path

from tailor.cli.asking import reason_text
from tailor.cli.queries import QueryOptions, catalogue_of, query_of, split_ids, unknown_ids
from tailor.cli.showing import WIDE, print_json, say, table
from tailor.core.methods import Method, Predictor
from tailor.core.run import Run
from tailor.core.saving import SavedModel, load
from tailor.data.folders import replaced_by
from tailor.data.nouns import plain
from tailor.data.splits import Split
from tailor.errors import DataError, ModelError, nearest
from tailor.evaluation.explanation_text import clean_title
from tailor.evaluation.prediction_pages import predictions_page
from tailor.evaluation.predictions import Predictions, evaluate_predictions
from tailor.evaluation.report import GIVEN, write_per_user
from tailor.progress import terminal


def all_predict(folders: Sequence[Path]) -> dict[str, Predictor] | None:
    """Return the models by folder if all of them predict, None if none does.

    Raises ModelError for a mixture.
    """
    methods: dict[str, Method] = {
        folder.name: load(folder) for folder in folders if folder.is_dir()
    }
    predictors = {name: method for name, method in methods.items() if isinstance(method, Predictor)}
    if predictors and len(predictors) < len(folders):
        others = [folder.name for folder in folders if folder.name not in predictors]
        raise ModelError(
            f"{', '.join(predictors)} predict, {', '.join(others)} do not: judge them by commands"
            " of their own"
        )
    return predictors or None


def evaluate_predictions_command(
    methods: dict[str, Predictor],
    split: Split,
    part: str,
    baseline: str | None,
    per_user: Path | None,
    html: Path | None,
    json: bool,
) -> None:
    """Measure predictors and print their figures."""
    baseline = baseline or next(iter(methods))
    if baseline not in methods:
        raise DataError(
            f"--baseline {baseline}: name one of the models by its"
            f" folder.{nearest(baseline, methods)}"
        )
    predictions = evaluate_predictions(methods, split, part, run=Run(progress=terminal))
    if per_user is not None:
        write_per_user(predictions.report, per_user)
    if html is not None:
        title = f"{', '.join(methods)} on {split.data.name}"
        with replaced_by(html) as aside:
            aside.write_text(predictions_page(predictions, baseline, title), encoding="utf-8")
    if json:
        print_json(predictions.to_dict(baseline))
        return
    show_predictions(predictions, baseline)


def show_predictions(predictions: Predictions, baseline: str) -> None:
    """Print a line for each model, then the differences in the main figure to the baseline."""
    report = predictions.report
    figures = predictions.figures
    say(
        f"{len(predictions.labels):,} pairs of {len(report.user_ids):,} users of the"
        f" {report.part} part, split by {report.split['kind']}: {report.ranked};"
        f" {figures.summary(predictions.labels)}. [95 % interval over users]"
    )
    rows = []
    for name in predictions.probabilities:
        low, high = predictions.interval(name)
        rows.append(
            [
                name,
                f"{predictions.overall(name, figures.main):.4f} [{low:.4f} {high:.4f}]",
                *(predictions.overall(name, figure) for figure in figures.columns[1:]),
                f"{report.results[name, GIVEN].seconds:.2f}",
            ]
        )
    table(["method", *figures.columns, "seconds"], rows, width=WIDE)
    if "gAUC" in figures.columns:
        share = predictions.overall(baseline, "gAUC_users")
        say(
            f"gAUC is over the {share:.0%} of users with pairs of both kinds; ECE is how far"
            " probabilities are from what happens"
        )
    if len(predictions.probabilities) > 1:
        _show_differences(predictions, baseline)


def _show_differences(predictions: Predictions, baseline: str) -> None:
    tests = [
        [
            f"{test.b} - {test.a}",
            f"{test.difference:+.4f} [{test.low:+.4f} {test.high:+.4f}]",
            f"{test.p:.4f}",
            "yes" if test.is_significant else "no",
        ]
        for test in predictions.differences(baseline)
    ]
    table([f"difference in {predictions.figures.main}", "mean", "p", "significant"], tests)


def predict_command(
    model: Path, items: list[str] | None, options: QueryOptions, explain: bool, json: bool
) -> None:
    """Print a prediction for each item; see `tailor predict --help`."""
    saved = SavedModel.open(model)
    method = saved.method
    if not isinstance(method, Predictor):
        raise ModelError(
            f"{model} holds a {method.name}, which does not predict; `tailor recommend` asks it for"
            " a list"
        )
    catalogue = catalogue_of(saved)
    item_ids = split_ids(items, catalogue)
    if not item_ids:
        raise DataError("name the items to predict for: --items ID,ID")
    query = query_of(saved, options, catalogue)
    values = method.predict([query], [item_ids])[0].tolist()
    reasons = method.explain([query], [item_ids])[0] if explain else []
    notes = unknown_ids(query.history.item_ids, catalogue, "does not count")
    unknown = [item for item in item_ids if item not in catalogue]
    predictions = [
        {
            "item_id": item,
            "title": saved.titles.get(item),
            "value": value,
            "known": item not in unknown,
        }
        for item, value in zip(item_ids, values, strict=True)
    ]
    if json:
        for prediction, reason in zip(predictions, reasons, strict=False):
            prediction["evidence"] = plain(reason.evidence)
        history = list(query.history.item_ids)
        print_json({"model": method.name, "history": history, "items": predictions, "notes": notes})
        return
    say(*notes)
    if unknown:
        say(
            "Not known to the model, and answered by what is known of the person:"
            f" {', '.join(unknown)}"
        )
    rows = [
        [
            prediction["item_id"],
            clean_title(prediction["title"] or ""),
            _value_text(prediction["value"]),
        ]
        for prediction in predictions
    ]
    for row, reason in zip(rows, reasons, strict=False):
        row.append(reason_text(reason, saved.titles))
    table(["item", "title", "predicted", *(["because of"] if reasons else [])], rows)


def _value_text(value: float | list[float]) -> float | str:
    """Return a number as it is, and the numbers of several outcomes as one text."""
    if isinstance(value, list):
        return "  ".join(f"{number:.4f}" for number in value)
    return value
