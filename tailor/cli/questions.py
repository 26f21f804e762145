"""`tailor answer`: retrieve passages, rerank them, and answer with what was cited."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tailor.cli.reranking import (
    FileOptions,
    method_of,
    shortened,
    spent_text,
    write_out,
)
from tailor.cli.showing import WIDE, print_json, say, table
from tailor.core.run import Run
from tailor.data.nouns import Output, plain
from tailor.data.passage_lists import Passage, PassageList, documents_as_items
from tailor.errors import DataError, ModelError
from tailor.evaluation.answers import AnswerReport, judge_answers
from tailor.llm.metered import Spent
from tailor.progress import terminal
from tailor.writing.answerer import Answerer

BATCH = 8  # questions answered together, between two steps of the progress


def answer_command(
    question: str | None,
    method: str,
    files: FileOptions,
    settings: Sequence[str],
    k: int,
    json: bool,
) -> None:
    """Answer questions from documents; see `tailor answer --help`."""
    if k < 1:
        raise DataError(f"-k {k}: at least 1 passage")
    answerer = answerer_of(method, settings)
    lists, documents = files.lists(question)
    if not all(of_question.is_retrieved for of_question in lists):
        _give_documents(answerer, documents)
    start_s = time.perf_counter()
    retrieved = answerer.retrieve_missing(lists)
    files.check_ids(retrieved)
    reordered: list[PassageList] = []
    outputs: list[Output] = []
    starts = range(0, len(lists), BATCH)
    for start in terminal(starts, "answering", len(starts)):
        reordered += answerer.reorder(retrieved[start : start + BATCH])
        outputs += answerer.answer(reordered[start:])
    seconds = time.perf_counter() - start_s
    report = None
    if any(of_question.answers for of_question in lists):
        report = judge_answers([output.text for output in outputs], retrieved, reordered, k)
    if files.out is not None:
        write_out(files.out, reordered)
    if json:
        _print_json(reordered, outputs, report, seconds)
        return
    for of_question, output in zip(reordered, outputs, strict=True):
        _show_answer(of_question, output)
    if report is not None:
        _show_report(report)
    say(spent_text(len(lists), _spent(outputs, seconds)))
    if files.out is not None:
        say(f"written: {files.out}")


def answerer_of(source: str, settings: Sequence[str]) -> Answerer:
    """Return the answering method of a class name, a pipeline file or a folder."""
    method = method_of(source, settings)
    if not isinstance(method, Answerer):
        raise ModelError(
            f"{source} answers no questions from passages: name Rankify, a pipeline file of it, or"
            " the folder of a fitted one"
        )
    return method


def _give_documents(answerer: Answerer, documents: Mapping[str, Passage]) -> None:
    """Fit a method on documents. Raises DataError where there are none, or it has others."""
    if documents and answerer.is_fitted:
        raise DataError(
            f"this {answerer.name} is fitted on documents of its own: leave out --docs, or name the"
            " class to read these"
        )
    if documents:
        answerer.fit(documents_as_items(documents.values()), Run(progress=terminal))
    if not answerer.is_fitted:
        raise DataError(
            "there is nothing to answer from: name the documents (--docs d.jsonl), the folder of a"
            " fitted method (--method), or write contexts into the questions"
        )


def _spent(outputs: Sequence[Output], seconds: float) -> Spent:
    """Return what the answers took together."""
    sums = Spent(seconds=round(seconds, 3))
    for output in outputs:
        sums.calls += output.details.get("calls", 0)
        sums.tokens_in += output.details.get("tokens_in", 0)
        sums.tokens_out += output.details.get("tokens_out", 0)
        sums.usd += output.details.get("cost_usd", 0.0)
    return sums


def _show_answer(of_question: PassageList, output: Output) -> None:
    """Print an answer and the passages that it cites."""
    say(f"{of_question.id}: {of_question.question}")
    if output.text:
        say(f"  {output.text}")
    rows = [[part.id, shortened(part.text), f"{part.share:.0%}"] for part in output.evidence]
    if rows:
        table(["passage", "words", "share"], rows)
    say(*output.notes)


def _show_report(report: AnswerReport) -> None:
    """Print the figures of the questions with right answers."""
    rows = []
    for metric in report.values:
        figure = report.figure(metric)
        rows.append([metric, f"{figure.mean:.4f} [{figure.low:.4f} {figure.high:.4f}]"])
    title = f"Questions with right answers: {report.questions:,} [95 % interval over questions]"
    table(["metric", "mean"], rows, title, WIDE)


def _print_json(
    lists: Sequence[PassageList],
    outputs: Sequence[Output],
    report: AnswerReport | None,
    seconds: float,
) -> None:
    answers = [
        {"id": of_question.id, "question": of_question.question, **plain(output)}
        for of_question, output in zip(lists, outputs, strict=True)
    ]
    values: dict[str, Any] = {"answers": answers, "spent": asdict(_spent(outputs, seconds))}
    if report is not None:
        values["figures"] = report.to_dict()
    print_json(values)
