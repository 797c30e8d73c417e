"""What is said of a version: a model card in its bundle, and a report with pictures."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Final

from models.bundle import Bundle
from models.learning.cases import Dataset
from models.learning.comparison import Comparison, Side, Span, in_unit
from models.learning.orders import write_whole

CARD: Final = "model-card.md"
REPORT: Final = "report.html"
CARDS: Final = (CARD, "README.md")
"""Where a bundle's card is looked for: what was not learnt here has the second alone."""
_NAMES: Final = {
    "dice": "Dice",
    "surface_dice": "Surface Dice (2 mm)",
    "hausdorff95_mm": "Hausdorff 95 % (mm)",
    "volume_error": "Volume error (share)",
    "added_path_mm": "Added path (mm)",
    "correct": "Correct",
    "ap50": "Average precision (boxes that overlap by half)",
    "found": "Things that were found (share)",
    "right": "Boxes that are right (share)",
}
_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;"
    "color:#1b2430;background:#fff}table{border-collapse:collapse;margin:1rem 0}"
    "td,th{padding:.3rem .8rem;border-bottom:1px solid #d5dce5;text-align:left}"
    "figure{display:inline-block;margin:0 1rem 1rem 0}img{max-width:18rem;background:#000}"
    "@media(prefers-color-scheme:dark){body{color:#dfe6ee;background:#141a21}"
    "td,th{border-color:#34404d}}"
)
Row = Sequence[str]


def write_docs(
    bundle: Bundle,
    dataset: Dataset,
    test: Comparison,
    *,
    verdict: str,
    pictures: Path,
    shadow: Comparison | None = None,
) -> None:
    """Write card and report into a bundle's `docs`; the hash that is signed is not of these."""
    docs = bundle.root / "docs"
    docs.mkdir(exist_ok=True)
    for worst in test.worst:
        shutil.copyfile(pictures / worst.picture, docs / worst.picture)
    write_whole(docs / CARD, card(bundle, dataset, test, verdict=verdict, shadow=shadow))
    write_whole(docs / REPORT, report(bundle, dataset, test, verdict=verdict, shadow=shadow))


def card(
    bundle: Bundle,
    dataset: Dataset,
    test: Comparison,
    *,
    verdict: str,
    shadow: Comparison | None = None,
) -> str:
    """Return the model card, Markdown: data, licence, use, limits, figures."""
    parts = [
        f"# {bundle.title}: {bundle.identity}",
        "",
        *(f"- {key}: {value}" for key, value in _facts(bundle, dataset)),
        f"- Against the current version: {verdict}",
        "",
        "## Limits",
        "",
        *(f"- {limit}" for limit in _limits(dataset, test)),
    ]
    for title, comparison in _runs(test, shadow):
        parts += ["", f"## {title}", "", *_markdown(_figures(comparison))]
        if comparison.groups:
            parts += ["", "Subgroups:", "", *_markdown(_groups(comparison))]
    return "\n".join(parts) + "\n"


def report(
    bundle: Bundle,
    dataset: Dataset,
    test: Comparison,
    *,
    verdict: str,
    shadow: Comparison | None = None,
) -> str:
    """Return the report as one page of HTML; its pictures lie beside it."""
    parts = [f"<h1>{escape(bundle.identity)}</h1><p>{escape(verdict)}</p>"]
    parts.append(_html([("", ""), *_facts(bundle, dataset)]))
    for title, comparison in _runs(test, shadow):
        parts.append(f"<h2>{escape(title)}</h2>{_html(_figures(comparison))}")
        parts.append(_html(_more(comparison)))
        if comparison.groups:
            parts.append(f"<h3>Subgroups</h3>{_html(_groups(comparison))}")
    if test.worst:
        parts.append(f"<h2>Where it did worst</h2><p>{escape(test.legend)}</p>")
        parts += [
            f'<figure><img src="{escape(one.picture)}" alt="case {escape(one.case)}">'
            f"<figcaption>{escape(one.caption)}</figcaption></figure>"
            for one in test.worst
        ]
    limits = "".join(f"<li>{escape(limit)}</li>" for limit in _limits(dataset, test))
    parts.append(f"<h2>Limits</h2><ul>{limits}</ul>")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(bundle.identity)}'
        f"</title><style>{_STYLE}</style><body>{''.join(parts)}</body></html>\n"
    )


def _facts(bundle: Bundle, dataset: Dataset) -> list[tuple[str, str]]:
    counts = ", ".join(
        f"{len(dataset.of(split))} {split}" for split in ("train", "validation", "test")
    )
    patients = len({case.patient for case in dataset.cases})
    return [
        ("Learnt from", f"{dataset.identity} (sha256 {dataset.sha256[:16]})"),
        ("Cases", f"{counts}, of {patients} patients"),
        ("Source of the data", dataset.source or "not recorded"),
        ("Licence of the data", dataset.licence or "not recorded"),
        ("Finds", ", ".join(dataset.classes.values())),
        ("For", "/".join(bundle.modalities)),
        ("Intended use", "To show and to correct on a screen, and for research."),
        ("sha256", bundle.sha256),
    ]


def _limits(dataset: Dataset, test: Comparison) -> list[str]:
    scanners = {case.tags["scanner"] for case in dataset.cases if case.tags.get("scanner")}
    said = [
        f"Measured on {test.patients} patients; intervals are 95 %, over patients.",
        f"Scanners that it learnt from: {', '.join(sorted(scanners)) or 'not recorded'}.",
        "Nothing is known of images of other kinds, body parts or scanners.",
    ]
    small = [f"{one.tag} {one.value}" for one in test.groups if one.cases < 5]
    if small:
        said.append(f"Fewer than five cases: {', '.join(small)}.")
    return said


def _runs(test: Comparison, shadow: Comparison | None) -> list[tuple[str, Comparison]]:
    runs = [(f"On the locked test set of {test.dataset}: {test.cases} cases", test)]
    if shadow is not None:
        runs.append((f"On {shadow.cases} recent corrections", shadow))
    return runs


def _figures(comparison: Comparison) -> Iterable[Row]:
    ours, theirs = comparison.candidate, comparison.incumbent
    yield ["", ours.bundle, theirs.bundle if theirs else "-", "gain"]
    for figure, span in ours.figures.items():
        other = theirs.figures.get(figure) if theirs else None
        gain = comparison.gain.get(figure)
        name = in_unit(_NAMES.get(figure, figure), comparison.unit)
        yield [name, _said(span), _said(other), _said(gain)]
    leading = comparison.leading
    for name, figures in ours.classes.items():
        other = theirs.classes.get(name, {}).get(leading) if theirs else None
        yield [f"{_NAMES[leading]}: {name}", _said(figures.get(leading)), _said(other), ""]


def _more(comparison: Comparison) -> Iterable[Row]:
    sides = [side for side in (comparison.candidate, comparison.incumbent) if side is not None]
    yield ["", *(side.bundle for side in sides)]
    yield ["Lesions found", *(_lesions(side) for side in sides)]
    yield ["As sure as it may be", *(_sure(side) for side in sides)]


def _groups(comparison: Comparison) -> Iterable[Row]:
    yield ["group", "cases", _NAMES[comparison.leading], "gain"]
    for one in comparison.groups:
        name = f"{one.tag.replace('_', ' ')}: {one.value}"
        yield [name, str(one.cases), _said(one.candidate), _said(one.gain)]


def _lesions(side: Side) -> str:
    if side.lesions is None:
        return "-"
    return f"{side.lesions.found} of {side.lesions.pieces} ({_said(side.lesions.sensitivity)})"


def _sure(side: Side) -> str:
    one = side.calibration
    if one is None:
        return "-"
    return f"says {one.said:.3f}, holds {one.held:.3f}; off by {one.error:.3f}"


def _said(span: Span | None) -> str:
    return "-" if span is None else f"{span.mean:.3f} ({span.low:.3f} to {span.high:.3f})"


def _markdown(rows: Iterable[Row]) -> list[str]:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return [lines[0], "|" + "---|" * lines[0].count(" | ") + "---|", *lines[1:]]


def _html(rows: Iterable[Row]) -> str:
    head, *body = [[escape(cell) for cell in row] for row in rows]
    lines = [f"<tr>{''.join(f'<th>{cell}</th>' for cell in head)}</tr>"] if any(head) else []
    lines += [f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in body]
    return f"<table>{''.join(lines)}</table>"
