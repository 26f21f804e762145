"""What is built: the table of all papers, made from the methods found and from their records."""

import tomllib
from pathlib import Path

from tailor.bench.claims import built_papers, read_record
from tailor.errors import ModelError


def papers_table(root: Path) -> str:
    """The text of docs/papers.md, from docs/papers.toml, the methods that carry a PAPER, and
    benchmarks/claims/*.json.
    """
    known = tomllib.loads((root / "docs" / "papers.toml").read_text(encoding="utf-8"))["papers"]
    built = {slug: found.path for slug, found in built_papers().items()}
    unknown = sorted(set(built) - {paper["slug"] for paper in known})
    if unknown:
        raise ModelError(
            f"methods name papers that docs/papers.toml does not list: {', '.join(unknown)}"
        )
    rows, held = [], 0
    for paper in known:
        slug = paper["slug"]
        record = read_record(root, slug) if slug in built else None
        verdict = (
            record.get("verdict", "damaged record")
            if record is not None
            else ("no record" if slug in built else "")
        )
        held += verdict == "held"
        where = f"`{built[slug]}`" if slug in built else "not yet"
        rows.append(f"| {paper['title']} | `{slug}` | {paper['room']} | {where} | {verdict} |")
    head = [
        "# Papers",
        "",
        "Made by `tailor bench papers`; do not edit.",
        "",
        (
            f"{len(built)} of {len(known)} are built; the claim of {held} held when it was"
            " measured. A claim that was not reproduced is listed as"
        ),
        "such, with its figures in `benchmarks/claims/`.",
        "",
        "| paper | slug | room | built as | claim |",
        "|---|---|---|---|---|",
    ]
    return "\n".join([*head, *rows, ""])
