"""Write the table of all papers from the built methods and their records."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tailor.bench.claims import (
    FORMS,
    OUTDATED,
    BuiltPaper,
    Form,
    Status,
    built_papers,
    main_form,
    read_record,
    record_path,
)
from tailor.errors import ModelError

LISTED_FIELDS = ("slug", "title", "room", "kind")
MEASURED_FIELDS = ("verdict", "checks", "seeds", "data")
FIGURE = ("difference", "low", "high")  # of a figure with its interval
COLUMNS = ("paper", "slug", "room", "built as", "claim, quick form", "claim, long form")


def papers_table(root: Path, states: Sequence[Status]) -> str:
    """Return the text of docs/papers.md, from docs/papers.toml, the methods and their records.

    `states` are those of the records (`claims.statuses`): they say which are stale. Raises
    ModelError where a method names a paper that is not listed.
    """
    listed = tomllib.loads((root / "docs" / "papers.toml").read_text(encoding="utf-8"))["papers"]
    built = {slug: paper.path for slug, paper in built_papers().items()}
    unlisted = sorted(set(built) - {paper["slug"] for paper in listed})
    if unlisted:
        names = ", ".join(unlisted)
        raise ModelError(f"methods name papers that docs/papers.toml does not list: {names}")
    outdated = {(status.slug, status.form): status.state for status in states if _shows(status)}
    rows = []
    held = 0
    stale = 0
    for paper in listed:
        slug = paper["slug"]
        cells = [paper["title"], f"`{slug}`", paper["room"]]
        if slug not in built:
            rows.append(_row([*cells, "not yet", "", ""]))
            continue
        claims = [_claim(root, slug, form, outdated.get((slug, form), "")) for form in FORMS]
        main = claims[FORMS.index(main_form(root, slug))]
        held += main.startswith("held")
        stale += main.endswith(OUTDATED)
        rows.append(_row([*cells, f"`{built[slug]}`", *claims]))
    counts = f"{len(built)} of {len(listed)} are built; the claim of {held} held when it was"
    return "\n".join([*_head(counts, stale), _row(COLUMNS), "|---" * len(COLUMNS) + "|", *rows, ""])


def papers_list(root: Path, states: Sequence[Status]) -> list[dict[str, Any]]:
    """Return what the console shows of each listed paper: what is built, claim, verdict, figure.

    `states` are those of the records, as in `papers_table`.
    """
    listed = tomllib.loads((root / "docs" / "papers.toml").read_text(encoding="utf-8"))["papers"]
    built = built_papers()
    outdated = {(status.slug, status.form): status.state for status in states if _shows(status)}
    papers = []
    for paper in listed:
        slug = paper["slug"]
        fields = {name: paper[name] for name in LISTED_FIELDS}
        papers.append({**fields, **_measured(root, built.get(slug), slug, outdated)})
    return papers


def _measured(
    root: Path, built: BuiltPaper | None, slug: str, outdated: Mapping[tuple[str, Form], str]
) -> dict[str, Any]:
    """Return the fields of a paper that is built, none for another."""
    if built is None:
        return {}
    form = main_form(root, slug)
    record = read_record(record_path(root, slug, form)) or {}
    return {
        "method": built.path,
        "url": built.paper.url,
        "claim": built.paper.claim,
        **{name: record[name] for name in MEASURED_FIELDS if name in record},
        "figure": next(_leads("", record.get("figures", {})), None),
        "state": outdated.get((slug, form), ""),
    }


def _leads(name: str, figures: Any) -> Iterator[dict[str, Any]]:
    """Yield the figures with an interval in a record, each with the name it stands under."""
    if isinstance(figures, Mapping):
        if all(isinstance(figures.get(part), float | int) for part in FIGURE):
            yield {"name": name, **{part: figures[part] for part in FIGURE}}
            return
        for part, value in figures.items():
            yield from _leads(str(part), value)
    elif isinstance(figures, list):
        for value in figures:
            yield from _leads(name, value)


def _shows(status: Status) -> bool:
    return status.state in OUTDATED


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _claim(root: Path, slug: str, form: Form, state: str) -> str:
    """Return a record's verdict, and "stale" where the method no longer behaves as measured."""
    record = read_record(record_path(root, slug, form))
    if record is None:
        return "no record" if form == main_form(root, slug) else ""
    verdict = str(record.get("verdict", "damaged record"))
    return f"{verdict}, {state}" if state else verdict


def _head(counts: str, stale: int) -> list[str]:
    return [
        "# Papers",
        "",
        "Made by `tailor bench papers`; do not edit.",
        "",
        f"{counts} measured. {stale} of the records are stale: their method",
        "no longer answers tiny data as it did then. The quick form of a claim is its record; the",
        "long form, where there is one, asks more of it. A claim that was not reproduced is listed",
        "as such, with its figures in `benchmarks/claims/`.",
        "",
    ]
