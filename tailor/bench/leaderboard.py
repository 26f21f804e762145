"""Make leaderboards from cards alone.

Only cards of one split, part and set of metrics share a table.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

from tailor.bench.card_files import data_name
from tailor.bench.cards import Card, changed_files, report_of
from tailor.bench.verifying import differences
from tailor.errors import DataError, ModelError
from tailor.evaluation.comparing import Comparison, Repeated, compare, join_reports, over_seeds
from tailor.evaluation.report import Report


@dataclass(frozen=True)
class Board:
    """Results on one split."""

    title: str
    rows: list[Repeated]
    """One row per method, metric and treatment of seen items."""
    failed: list[str]
    tests: list[Comparison]
    """Comparisons with the baseline under both treatments of seen items, for the first random state
    that all methods have.
    """
    report: Report
    """Report of that random state."""
    random_state: int


def boards(cards: Sequence[Card], baseline: str | None = None) -> list[Board]:
    """Return one board per data set, split and protocol.

    Raises ModelError for a card whose files were changed.
    """
    for card in cards:
        if changed := changed_files(card):
            raise ModelError(
                f"{card.folder}: {changed[0]}; a table is made of cards as they were written"
            )
    groups: dict[str, list[Card]] = {}
    for card in cards:
        inputs = card.inputs
        key = repr([inputs["split"], inputs["protocol"], inputs["data"]])
        groups.setdefault(key, []).append(card)
    return [_board(group, baseline) for group in groups.values()]


def _board(cards: list[Card], baseline: str | None) -> Board:
    """Return the board of cards with one split and protocol."""
    inputs = cards[0].inputs
    title = (
        f"{data_name(inputs)}, split by {inputs['split']['by']}, {inputs['protocol']['part']} part"
    )
    failed = [
        f"{card.label}, random state {card.inputs['seed']}: {card.status}"
        for card in cards
        if card.status != "done"
    ]
    reports = _reports_by_method([card for card in cards if card.status == "done"])
    if not reports:
        raise DataError(f"{title}: all cards are of failures, the first: {failed[0]}")
    common_seeds = set.intersection(*(set(by_seed) for by_seed in reports.values()))
    if not common_seeds:
        raise DataError(
            f"{title}: there is no random state that all methods have: run the suite again, or"
            " remove the cards of some"
        )
    seed = min(common_seeds)
    joined = join_reports([by_seed[seed] for by_seed in reports.values()])
    if baseline is not None and baseline not in joined.methods:
        raise DataError(
            f'no card of "{baseline}" on {title}; there are {", ".join(joined.methods)}'
        )
    tests = []
    if baseline is not None:
        tests = compare(joined, baseline, seen=joined.treatments)
    rows = [row for by_seed in reports.values() for row in over_seeds(list(by_seed.values()))]
    return Board(title, rows, failed, tests, joined, seed)


def _reports_by_method(cards: list[Card]) -> dict[str, dict[int, Report]]:
    """Return name -> random state -> report.

    Methods of one label with other settings or other code get a hash behind their name; `bench
    diff` shows what differs.
    """
    groups: dict[tuple[str, str], list[Card]] = {}
    for card in cards:
        version = repr([card.inputs["method"], card.inputs["code"]])
        groups.setdefault((card.label, version), []).append(card)
    labels = [label for label, _ in groups]
    reports = {}
    for (label, version), group in groups.items():
        name = label
        if labels.count(label) > 1:
            name += f" ({blake2b(version.encode(), digest_size=3).hexdigest()})"
        reports[name] = {
            int(card.inputs["seed"]): _rename_method(report_of(card), name) for card in group
        }
    return reports


def _rename_method(report: Report, name: str) -> Report:
    """Return the report of a single method under another name."""
    results = {(name, seen): result for (_, seen), result in report.results.items()}
    return replace(report, results=results)


def compare_cards(first: Card, second: Card) -> list[str]:
    """Return what differs in the inputs of two cards, and in their means.

    Means are compared where users, metrics and split are the same.
    """
    lines = differences({**first.inputs, "id": first.id}, {**second.inputs, "id": second.id})
    if not first.status == second.status == "done":
        return lines
    reports = (report_of(first), report_of(second))
    keys = [(report.user_ids, report.metrics, report.split["hash"]) for report in reports]
    if keys[0] != keys[1]:
        return lines
    joined = join_reports(
        [_rename_method(reports[0], "first"), _rename_method(reports[1], "second")]
    )
    for seen in joined.treatments:
        for c in compare(joined, "first", seen=seen):
            lines.append(
                f"{c.metric}, seen {c.seen}: second - first {c.difference:+.4f} [{c.low:+.4f}"
                f" {c.high:+.4f}], p {c.p:.4f}"
            )
    return lines
