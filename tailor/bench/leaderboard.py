"""Leaderboards: made from cards alone. Only cards of one split, part and set of metrics stand in
one table.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

from tailor.bench.cards import Card, changed_files, report_of
from tailor.bench.verifying import differences
from tailor.errors import DataError, ModelError
from tailor.evaluation.comparing import Comparison, Repeated, compare, join_reports, over_seeds
from tailor.evaluation.report import Report


@dataclass(frozen=True)
class Board:
    """What was measured on one split."""

    title: str
    rows: list[Repeated]
    """One a method, metric and treatment of seen items."""
    failed: list[str]
    tests: list[Comparison]
    """Of the first random state that all methods have, against the baseline."""
    report: Report
    """Of that random state."""
    random_state: int


def boards(cards: Sequence[Card], baseline: str | None = None) -> list[Board]:
    """One board for every data set, split and protocol among the cards. Raises ModelError for a
    card whose files were changed.
    """
    for card in cards:
        if changed := changed_files(card):
            raise ModelError(
                f"{card.folder}: {changed[0]}; a table is made of cards as they were written"
            )
    groups: dict[str, list[Card]] = {}
    for card in cards:
        groups.setdefault(
            repr([card.inputs["split"], card.inputs["protocol"], card.inputs["data"]]), []
        ).append(card)
    return [_board(group, baseline) for group in groups.values()]


def _board(cards: list[Card], baseline: str | None) -> Board:
    codes: dict[tuple[str, str], list[Card]] = {}
    for card in cards:
        if card.status == "done":
            codes.setdefault(
                (card.label, repr([card.inputs["method"], card.inputs["code"]])), []
            ).append(card)
    labels = [label for label, _ in codes]
    named = {
        (label, about): (
            label
            if labels.count(label) == 1
            else f"{label} ({blake2b(about.encode(), digest_size=3).hexdigest()})"
        )
        for label, about in codes
    }  # of other settings or other code: `bench diff` tells which
    reports = {
        named[key]: {
            int(card.inputs["seed"]): _called(report_of(card), named[key]) for card in group
        }
        for key, group in codes.items()
    }
    failed = [
        f"{card.label}, random state {card.inputs['seed']}: {card.status}"
        for card in cards
        if card.status != "done"
    ]
    first = cards[0].inputs
    title = (
        f"{first['data'].get('name', first['data'].get('world', 'data'))}, split by"
        f" {first['split']['by']}, {first['protocol']['part']} part"
    )
    if not reports:
        raise DataError(f"{title}: all cards are of failures, the first: {failed[0]}")
    common = set.intersection(*(set(of) for of in reports.values()))
    if not common:
        raise DataError(
            f"{title}: there is no random state that all methods have: run the suite again, or"
            " remove the cards of some"
        )
    together = join_reports([of[min(common)] for of in reports.values()])
    rows = [row for of in reports.values() for row in over_seeds(list(of.values()))]
    against = baseline if baseline in together.methods else None
    if baseline is not None and against is None:
        raise DataError(
            f'no card of "{baseline}" on {title}; there are {", ".join(together.methods)}'
        )
    seen = dict.fromkeys(how for _, how in together.results)
    tests = (
        compare(together, against, seen="removed" if "removed" in seen else next(iter(seen)))
        if against
        else []
    )
    return Board(title, rows, failed, tests, together, min(common))


def _called(report: Report, name: str) -> Report:
    return replace(
        report, results={(name, seen): result for (_, seen), result in report.results.items()}
    )


def apart(a: Card, b: Card) -> list[str]:
    """What differs in the inputs of two cards, and by how much their means do where users and
    metrics are the same.
    """
    lines = differences({**a.inputs, "id": a.id}, {**b.inputs, "id": b.id})
    if a.status == b.status == "done":
        one, two = report_of(a), report_of(b)
        if (
            one.user_ids == two.user_ids
            and one.metrics == two.metrics
            and one.split["hash"] == two.split["hash"]
        ):
            both = join_reports([_called(one, "first"), _called(two, "second")])
            lines += [
                f"{c.metric}, seen {c.seen}: second - first {c.difference:+.4f} [{c.low:+.4f}"
                f" {c.high:+.4f}], p {c.p:.4f}"
                for seen in dict.fromkeys(how for _, how in both.results)
                for c in compare(both, "first", seen=seen)
            ]
    return lines
