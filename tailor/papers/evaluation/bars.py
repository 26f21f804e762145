"""Open benchmarking: a figure counts with all that made it, and is made again before it is
believed.
"""

import tempfile
from collections.abc import Mapping
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
    """The cards, what they say together, and for each card that is not what it was when made again,
    in what.
    """

    cards: list[Card]
    boards: list[Board]
    problems: dict[str, list[str]]
    """Folder name of a card -> lines of `verify`."""

    @property
    def holds(self) -> bool:
        return not self.problems

    def tables(self) -> list[ReportTable]:
        """Return a table a board, and the cards that were not made again as they were."""
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
    """Measures methods by cards and makes every card again: matching where methods recommend,
    click-through where they predict.

    Each method and random state leaves a folder with data hash, split, settings, code hash,
    environment, log and every user's values; tables are made of folders alone. Differs from the
    paper: tasks are told by what the methods do and data are split by our protocol, so that its
    published tables are other figures; folders are verified here, where the paper's are kept on a
    site.
    """

    by: str = "last"
    """Kind of split, as of `tailor data split`."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of random states."""
    k: tuple[int, ...] = (20, 50)
    """Depths of lists."""
    metrics: tuple[str, ...] = ("recall", "NDCG", "HR")
    """Of lists; predictors have those of `evaluate_predictions`."""
    out: str = ""
    """Folder of the cards; none: they go when the study ends."""
    again: bool = True
    """Make every card again."""

    def _run(self, data: Dataset, methods: Mapping[str, Any], run: Run) -> Benchmarked:
        """Raises DataError where some methods recommend and others predict."""
        predict = {isinstance(one, Predictor) for one in methods.values()}
        if len(predict) != 1:
            raise DataError(
                f"{', '.join(methods) or 'no method'}: give methods that all recommend, or all"
                " predict"
            )
        with tempfile.TemporaryDirectory() as spare:
            folder = Path(self.out or spare)
            suite = Suite(
                data.name,
                "",
                list(self.seeds),
                None,
                self._kept(data, folder),
                {"by": self.by},
                self._protocol(predict.pop()),
                {name: spec(one) for name, one in methods.items()},
                {},
            )
            cards = run_suite(suite, folder, run)
            problems = {card.folder.name: [card.status] for card in cards if card.status != "done"}
            if self.again:
                problems |= {
                    card.folder.name: lines
                    for card in cards
                    if card.status == "done" and (lines := verify(card, run))
                }
            return Benchmarked(cards, boards(cards), problems)

    def _kept(self, data: Dataset, folder: Path) -> dict[str, Any]:
        """The data beside the cards, so that whoever has the folder can make them again."""
        place = folder / "data" / data.content_hash
        if not place.exists():
            data.save(place)
        return {"folder": str(place), "name": data.name}

    def _protocol(self, predict: bool) -> dict[str, Any]:
        return {} if predict else {"k": list(self.k), "metrics": list(self.metrics)}
