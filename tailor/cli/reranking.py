"""`tailor rerank`: order documents by what they say, without a catalogue."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tailor.cli.showing import WIDE, print_json, say, table
from tailor.cli.studying import parse_settings
from tailor.core.methods import Method
from tailor.core.saving import load
from tailor.core.specs import build_part, read_pipeline
from tailor.data.folders import check_writable
from tailor.data.nouns import plain
from tailor.data.passage_lists import (
    Passage,
    PassageList,
    check_run_ids,
    ids_of,
    read_documents,
    read_questions,
    write_lists,
    write_run,
)
from tailor.errors import DataError, ModelError, NotFittedError, nearest
from tailor.llm.metered import Spent
from tailor.progress import terminal
from tailor.reranking.passage_lists import rerank_in_batches, retrieved_by_words, shortlist_of
from tailor.reranking.reranker import Reranker
from tailor.reranking.shortlist import Limits, Reranked

LIMITS = {"calls": int, "usd": float, "seconds": float}
REASONS = ("contribution", "reason", "because")  # details that say why, the most telling first
CHARACTERS = 60  # of a text or reason in a table
RUN_ENDINGS = (".run", ".trec")
LIST_ENDING = ".jsonl"


@dataclass(frozen=True)
class FileOptions:
    """Options of `rerank` and `answer` that name files."""

    docs: Path | None = None
    """File of the documents."""
    queries: Path | None = None
    """File of the questions, perhaps with candidates of their own."""
    out: Path | None = None
    """File for the lists; its ending says in which form."""
    depth: int = 100
    """Documents of a question that are found by words, where it brings no candidates."""

    def lists(self, question: str | None) -> tuple[list[PassageList], dict[str, Passage]]:
        """Return the questions of the file, or the one that was asked, and the documents."""
        if (question is None) == (self.queries is None):
            raise DataError(
                'ask one question, as in "where is it?" --docs d.jsonl, or name a file of'
                ' questions: --queries q.jsonl, with lines like {"id": "q1", "text": "..."}'
            )
        if question is not None and not question.strip():
            raise DataError("the question is empty: write what is asked for")
        if self.depth < 1:
            raise DataError(f"--depth {self.depth}: at least 1 document")
        self.check_out()
        documents = {} if self.docs is None else read_documents(self.docs)
        if self.queries is None:
            return [PassageList(str(question), id="1")], documents
        return read_questions(self.queries, documents), documents

    def check_out(self) -> None:
        """Raise DataError for a file that cannot be written, before anything is paid."""
        if self.out is None:
            return
        if self.out.suffix not in (*RUN_ENDINGS, LIST_ENDING):
            raise DataError(
                f"--out {self.out}: the ending says what is written: .run or .trec for a TREC run,"
                f" {LIST_ENDING} for lists with texts"
            )
        check_writable(self.out)

    def check_ids(self, lists: Sequence[PassageList]) -> None:
        """Raise DataError for an id that the file has no room for, before anything is paid."""
        if self.out is not None and self.out.suffix in RUN_ENDINGS:
            check_run_ids(ids_of(lists))


def write_out(out: Path, lists: Sequence[PassageList]) -> None:
    """Write lists in the form that the file's ending names."""
    if out.suffix in RUN_ENDINGS:
        write_run(out, lists)
    else:
        write_lists(out, lists)


def rerank_command(
    question: str | None,
    method: str,
    files: FileOptions,
    settings: Sequence[str],
    limits: Sequence[str],
    k: int,
    trace: bool,
    json: bool,
) -> None:
    """Order documents and print them; see `tailor rerank --help`."""
    if k < 1:
        raise DataError(f"-k {k}: at least 1 document")
    reranker = reranker_of(method, settings)
    allowed = parse_limits(limits)
    lists, documents = files.lists(question)
    lists = retrieved_by_words(lists, documents, files.depth)
    files.check_ids(lists)
    start_s = time.perf_counter()
    try:
        shortlists = [shortlist_of(of_question) for of_question in lists]
        results = rerank_in_batches(reranker, shortlists, allowed, trace, terminal)
    except NotFittedError:
        raise NotFittedError(
            f"{reranker.name} must learn first: `tailor fit {reranker.name} --split SPLIT --out"
            " MODEL`, then --method MODEL (docs/guide/reranking.md)"
        ) from None
    spent = total([result.spent for result in results], time.perf_counter() - start_s)
    if files.out is not None:
        best = [
            of_question.reordered(result.order[:k].tolist())
            for of_question, result in zip(lists, results, strict=True)
        ]
        write_out(files.out, best)
    if json:
        answers = [
            _answer(of_question, result, k)
            for of_question, result in zip(lists, results, strict=True)
        ]
        print_json({"method": reranker.name, "queries": answers, "spent": asdict(spent)})
        return
    for of_question, result in zip(lists, results, strict=True):
        _show_list(of_question, result, k)
    say(spent_text(len(lists), spent))
    if files.out is not None:
        say(f"written: {files.out}")


def reranker_of(source: str, settings: Sequence[str]) -> Reranker:
    """Return the reranker of a class name, a pipeline file or the folder of a fitted model."""
    method = method_of(source, settings)
    if not isinstance(method, Reranker):
        raise ModelError(
            f"{source} is no reranker: it orders no documents by what they say. `tailor methods`"
            " lists E2Rank, ERank, LLMReranker and others under reranking"
        )
    return method


def method_of(source: str, settings: Sequence[str]) -> Method:
    """Return the method of a class name, a pipeline file or a folder, with these settings."""
    values = parse_settings(settings)
    if (Path(source) / "spec.json").is_file():
        if values:
            raise ModelError(f"{source} is fitted already: its settings cannot be set any more")
        return load(Path(source))
    part = build_part({**read_pipeline(source), **values})
    if not isinstance(part, Method):
        raise ModelError(f"{source} is a part that methods are given, not a method")
    return part


def parse_limits(texts: Sequence[str]) -> Limits:
    """Return the limits that NAME=NUMBER pairs, separated by commas, set."""
    values: dict[str, Any] = {}
    for pair in (pair for text in texts for pair in text.split(",") if pair.strip()):
        name, _, number = (part.strip() for part in pair.partition("="))
        if name not in LIMITS:
            raise DataError(
                f'--limits "{pair}": there is no limit "{name}".{nearest(name, LIMITS)}'
            )
        try:
            values[name] = LIMITS[name](number)
        except ValueError:
            raise DataError(f'--limits "{pair}": write a number, as in {name}=20') from None
    return Limits(**values)


def total(parts: Sequence[Spent], seconds: float) -> Spent:
    """Return the sum of what lists took, and the seconds of all together."""
    return replace(sum(parts, Spent()), seconds=round(seconds, 3))


def spent_text(n: int, spent: Spent) -> str:
    """Return in words how many questions took how much."""
    parts = [f"{n:,} question{'s' if n != 1 else ''}", f"{spent.seconds:.1f} s"]
    if spent.calls:
        parts.append(f"{spent.calls:,} calls of a language model")
        parts.append(f"{spent.tokens_in + spent.tokens_out:,} tokens")
    if spent.cached:
        parts.append(f"{spent.cached:,} of the answers cached")
    if spent.usd:
        parts.append(f"{spent.usd:.4f} usd, {1000 * spent.usd / n:.2f} usd per 1,000")
    return ", ".join(parts)


def shortened(text: str) -> str:
    """Return the beginning of a text on one line."""
    line = " ".join(text.split())
    return line if len(line) <= CHARACTERS else f"{line[:CHARACTERS]}..."


def _show_list(of_question: PassageList, result: Reranked, k: int) -> None:
    """Print the documents of a question, best first."""
    rows = []
    for rank, doc in enumerate(result.order[:k].tolist(), start=1):
        passage = of_question.passages[doc]
        rows.append(
            [
                str(rank),
                passage.id,
                shortened(passage.whole),
                float(result.scores[doc]),
                str(doc + 1),
                result.statuses[doc],
                shortened(_reason(result.details.get(doc, {}))),
            ]
        )
    say(f"{of_question.id}: {of_question.question}")
    columns = ["rank", "id", "document", f"score: {result.score_kind}", "was", "status", "why"]
    table(columns, rows, width=WIDE)
    say(*result.notes)
    for number, exchange in enumerate(result.trace, start=1):
        say(f"--- prompt {number} of {of_question.id}", exchange.prompt, "--- answer")
        say(exchange.answer)


def _reason(details: Mapping[str, Any]) -> str:
    """Return the words that say why a document stands where it does; "" without any."""
    return next((str(details[name]) for name in REASONS if details.get(name)), "")


def _answer(of_question: PassageList, result: Reranked, k: int) -> dict[str, Any]:
    """Return a list as plain values for JSON."""
    documents = []
    for rank, doc in enumerate(result.order[:k].tolist(), start=1):
        passage = of_question.passages[doc]
        values = {
            "rank": rank,
            "id": passage.id,
            "title": passage.title,
            "score": float(result.scores[doc]),
            "prior_rank": doc + 1,
            "status": result.statuses[doc],
            "details": plain(result.details.get(doc, {})),
        }
        documents.append(values)
    answer = {
        "id": of_question.id,
        "text": of_question.question,
        "documents": documents,
        "score_kind": result.score_kind,
        "notes": list(result.notes),
        "spent": asdict(result.spent),
    }
    if result.trace:
        answer["trace"] = plain(result.trace)
    return answer
