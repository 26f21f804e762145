"""Open benchmarking: a figure counts with all that made it, and only if it can be repeated."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailor.bench.cards import Card, run_suite
from tailor.bench.leaderboard import Board, boards
from tailor.bench.suites import Suite
from tailor.bench.verifying import verify
from tailor.core.methods import Paper, Predictor
from tailor.core.run import Run
from tailor.core.specs import spec
from tailor.core.studies import ReportTable, Study, StudyReport
from tailor.data.dataset import Dataset
from tailor.errors import DataError

PAPER = Paper(
    "bars",
    "BARS: Towards Open Benchmarking for Recommender Systems",
    "https://arxiv.org/abs/2205.09626",
    "a card made again has the same values to the bit; one changed setting, data byte or random"
    " state changes its id, a changed file is noticed and named; where pairs of values decide, a"
    " factorization machine is above logistic regression on every repeat",
)


@dataclass(frozen=True, eq=False)
class Benchmarked(StudyReport):
    """Cards, leaderboards of them, and the differences found when cards were made again."""

    cards: list[Card]
    boards: list[Board]
    problems: dict[str, list[str]]
    """Folder name of a card -> lines of `verify`."""

    @property
    def holds(self) -> bool:
        return not self.problems

    def tables(self) -> list[ReportTable]:
        """Return a table per board, and the cards that differ when made again."""
        columns = ("method", "seen", "metric", "mean", "low", "high")
        tables = [
            ReportTable(
                board.title,
                columns,
                tuple((r.method, r.seen, r.metric, r.mean, r.low, r.high) for r in board.rows),
            )
            for board in self.boards
        ]
        problems = [(card, line) for card, lines in self.problems.items() for line in lines]
        return [*tables, ReportTable("cards that differ", ("card", "in"), tuple(problems))]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        tables = {
            table.title: [dict(zip(table.columns, row, strict=True)) for row in table.rows]
            for table in self.tables()
        }
        return {"cards": [card.folder.name for card in self.cards], "tables": tables}


@dataclass(eq=False)
class OpenBenchmark(Study[Benchmarked]):
    """Measures methods by benchmark cards and makes every card again.

    Each method and random state writes a folder with data hash, split, settings, code hash,
    environment, log and every user's values; tables are made from these folders only. Recommenders
    are measured by matching, predictors by click-through. Differs from the paper: the task follows
    from the kind of method and data are split by our protocol, so that its published tables are not
    comparable; folders are verified here, where the paper's are kept on a website.
    """

    by: str = "last"
    """Kind of split, as of `tailor data split`."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Random states, each with a card per method."""
    k: tuple[int, ...] = (20, 50)
    """Depths of lists."""
    metrics: tuple[str, ...] = ("recall", "NDCG", "HR")
    """Metrics of lists; predictors have those of `evaluate_predictions`."""
    out: str = ""
    """Folder of the cards; empty: they are deleted when the study ends."""
    again: bool = True
    """Make every card again and compare."""

    def _run(self, data: Dataset, methods: Mapping[str, Any], run: Run) -> Benchmarked:
        """Make the cards; DataError where some methods recommend and others predict."""
        predicts = {isinstance(method, Predictor) for method in methods.values()}
        if len(predicts) != 1:
            raise DataError(
                f"{', '.join(methods) or 'no method'}: give methods that all recommend, or all"
                " predict"
            )
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(self.out or temporary)
            suite = self._suite(data, methods, predicts.pop(), folder)
            cards = run_suite(suite, folder, run)
            return Benchmarked(cards, boards(cards), self._problems(cards, run))

    def _suite(
        self, data: Dataset, methods: Mapping[str, Any], predicts: bool, folder: Path
    ) -> Suite:
        """Return the suite of these methods on a copy of the data in the folder.

        With the copy, whoever has the folder can make the cards again.
        """
        copy = folder / "data" / data.content_hash
        if not copy.exists():
            data.save(copy)
        protocol = {} if predicts else {"k": list(self.k), "metrics": list(self.metrics)}
        return Suite(
            data.name,
            "",
            list(self.seeds),
            None,
            {"folder": str(copy), "name": data.name},
            {"by": self.by},
            protocol,
            {name: spec(method) for name, method in methods.items()},
            {},
        )

    def _problems(self, cards: Sequence[Card], run: Run) -> dict[str, list[str]]:
        """Return what went wrong by card: its status, or differences when made again."""
        problems = {}
        for card in cards:
            lines = [card.status]
            if card.status == "done":
                lines = verify(card, run) if self.again else []
            if lines:
                problems[card.folder.name] = lines
        return problems
