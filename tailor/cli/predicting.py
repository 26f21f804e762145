"""`tailor predict`, and `tailor evaluate` of models that predict."""

from collections.abc import Sequence
from pathlib import Path

from tailor.cli.asking import ids_of, query_of, reason_text
from tailor.cli.showing import FIGURES, print_json, say, table
from tailor.core.methods import Method, Predictor
from tailor.core.run import Run
from tailor.core.saving import load, load_item_ids, load_titles
from tailor.data.nouns import plain
from tailor.data.splits import Split
from tailor.errors import DataError, ModelError, nearest
from tailor.evaluation.explanation_text import clean_title
from tailor.evaluation.predictions import Predictions, evaluate_predictions
from tailor.evaluation.report import GIVEN, write_per_user
from tailor.progress import terminal

SHOWN = ("AUC", "gAUC", "log_loss", "normalised_entropy", "ECE")


def all_predict(folders: Sequence[Path]) -> dict[str, Predictor] | None:
    """The models by folder where all of them predict, None where none does. Raises ModelError for a
    mixture.
    """
    methods: dict[str, Method] = {
        folder.name: load(folder) for folder in folders if folder.is_dir()
    }
    found = {name: one for name, one in methods.items() if isinstance(one, Predictor)}
    if found and len(found) < len(folders):
        others = [folder.name for folder in folders if folder.name not in found]
        raise ModelError(
            f"{', '.join(found)} predict, {', '.join(others)} do not: judge them by commands of"
            " their own"
        )
    return found or None


def evaluate_predictions_command(
    methods: dict[str, Predictor],
    split: Split,
    part: str,
    baseline: str | None,
    per_user: Path | None,
    json: bool,
) -> None:
    baseline = baseline or next(iter(methods))
    if baseline not in methods:
        raise DataError(
            f"--baseline {baseline}: name one of the models by its"
            f" folder.{nearest(baseline, methods)}"
        )
    found = evaluate_predictions(methods, split, part, run=Run(progress=terminal))
    if per_user is not None:
        write_per_user(found.report, per_user)
    if json:
        print_json(found.to_dict(baseline))
        return
    show_predictions(found, baseline)


def show_predictions(found: Predictions, baseline: str) -> None:
    """A line a model, then the differences in AUC to the baseline."""
    say(
        f"{len(found.labels):,} pairs of {len(found.report.user_ids):,} users of the"
        f" {found.report.part} part, split by {found.report.split['kind']}: {found.report.ranked};"
        f" {found.labels.mean():.1%} of them are a 1. [95 % interval over users]"
    )
    rows = []
    for name in found.probabilities:
        low, high = found.auc_interval(name)
        rows.append(
            [
                name,
                f"{found.overall(name, 'AUC'):.4f} [{low:.4f} {high:.4f}]",
                *(found.overall(name, one) for one in SHOWN[1:]),
                f"{found.report.results[name, GIVEN].seconds:.2f}",
            ]
        )
    table(["method", *SHOWN, "seconds"], rows, width=FIGURES)
    kept = found.overall(baseline, "gAUC_users")
    say(
        f"gAUC is over the {kept:.0%} of users with pairs of both kinds; ECE is how far"
        " probabilities are from what happens"
    )
    if len(found.probabilities) > 1:
        tests = [
            [
                f"{one.b} - {one.a}",
                f"{one.difference:+.4f} [{one.low:+.4f} {one.high:+.4f}]",
                f"{one.p:.4f}",
                "yes" if one.is_significant else "no",
            ]
            for one in found.auc_differences(baseline)
        ]
        table(["difference in AUC", "mean", "p", "significant"], tests)


def predict_command(
    model: Path,
    items: list[str] | None,
    history: list[str] | None,
    user: str | None,
    data_folder: Path | None,
    context: list[str] | None,
    explain: bool,
    json: bool,
) -> None:
    method = load(model)
    if not isinstance(method, Predictor):
        raise ModelError(
            f"{model} holds a {method.name}, which does not predict; `tailor recommend` asks it for"
            " a list"
        )
    asked = ids_of(items)
    if not asked:
        raise DataError("name the items to predict for: --items ID,ID")
    query = query_of(model, history, user, data_folder, context_of(context))
    values = method.predict([query], [asked])[0]
    reasons = method.explain([query], [asked])[0] if explain else []
    titles, known = load_titles(model), load_item_ids(model)
    unknown = [one for one in asked if one not in (known if known is not None else method.items_)]
    if json:
        items_out = [
            {"item_id": one, "title": titles.get(one), "value": value, "known": one not in unknown}
            for one, value in zip(asked, values.tolist(), strict=True)
        ]
        for item, reason in zip(items_out, reasons, strict=False):
            item["evidence"] = plain(reason.evidence)
        print_json(
            {"model": method.name, "history": list(query.history.item_ids), "items": items_out}
        )
        return
    if unknown:
        say(
            "Not known to the model, and answered by what is known of the person:"
            f" {', '.join(unknown)}"
        )
    rows = [
        [one, clean_title(titles.get(one, "")), value]
        for one, value in zip(asked, values.tolist(), strict=True)
    ]
    for row, reason in zip(rows, reasons, strict=False):
        row.append(reason_text(reason, titles))
    table(["item", "title", "predicted", *(["because of"] if reasons else [])], rows)


def context_of(given: list[str] | None) -> dict[str, object]:
    """NAME=VALUE pairs; a value that reads as a number is one."""
    out: dict[str, object] = {}
    for one in given or []:
        name, sign, value = one.partition("=")
        if not sign or not name.strip():
            raise DataError(f'--context "{one}": write NAME=VALUE, as in age=31')
        try:
            out[name.strip()] = float(value) if "." in value else int(value)
        except ValueError:
            out[name.strip()] = value
    return out
