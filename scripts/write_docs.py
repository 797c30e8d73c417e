#!/usr/bin/env python3
"""Write the pages that come from the code and the measurements; with --check only compare them.

A test runs the comparison, so that no setting and no error code is without its line, and no figure
of docs/performance.md without the command that made it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dicom.errors import InputError, PeerError, RadloopError, ResourceError, every_error
from dicom.profile import METHOD_CODES, lines_of, node_profile
from node.settings import PeerSettings, Settings
from pipelines.learning.rules import LearningRule
from pipelines.projects import Project
from pipelines.routing import Route, When

DOCS = Path(__file__).resolve().parents[1] / "docs"
RESULTS = DOCS.parent / "benchmarks" / "results"
BY = "<!-- Written by scripts/write_docs.py; change the code, then run it. -->"

SETTINGS = """# Settings

Settings come from `radloop.toml` (or `--config FILE`), then from variables `RADLOOP_*`, then from a
folder of secrets; the later wins. An unknown key, variable or secret is an error that names it.
`radloop check` reads all of them and says what is wrong.

- `[front] port = 8800` in the file is `RADLOOP_FRONT__PORT=8800` in the environment: two
  underscores between section and key.
- A secret is a file whose name is the variable's (`RADLOOP_ORTHANC__CLINICAL_PASSWORD`) and whose
  content is the value. The folder is `/run/secrets`, where containers put them, or the one that
  `RADLOOP_SECRETS` names.
- `--data DIR` on the command line wins over `data`.
- Changes count after a restart.
"""
PROJECTS = """## [[project]]

For whom data is de-identified, and how far: `radloop deid --project NAME`, and routes that name it.
Each has pseudonyms and keys of its own; the node itself works by a project `node` that is built in.
`radloop profile --project NAME` lists what happens to every attribute, and why.
"""
ROUTES = """## [[route]]

One table for each rule. All that match are carried out. `radloop routes explain STUDY_UID` says for
each rule and series why.
"""
WHEN = """## [route.when]

Conditions on one series; all that are given must hold. A value that the series does not have never
matches. They see the de-identified series only.
"""
LEARNING = """## [[learning]]

When the node makes a dataset of what was corrected, and learns from it by itself: [the learning
loop](learning.md). The section `[training]` says in which hours, and how long a day.
"""
ERRORS = """# Error codes

Every failure has a code: on the job, in the API, in the log and on the page. What follows says who
acts next. Messages hold no patient's name, id, date or original UID.
"""
PROFILE = """# The profile, attribute by attribute

PS3.15 Table E.1-1, edition {edition}, with: {chosen}.

What stands under *basic* and *options* is the table's: X removed, Z emptied, D a dummy value, U
a new UID, K kept, C cleaned. What the node does follows from it for an attribute that the
object's IOD does not require; where it is required, an attribute that should go is emptied or
gets a dummy, so that the object stays valid. *else* is what happens to a value that the first
action cannot judge. `radloop profile --project NAME` and the page `/profiles` say the same of any
project, and of the attributes of one kind of object. Group lengths are removed. Attributes
outside the table are judged by their value representation: see
[de-identification](deidentification.md).
"""
QUALITY_RESULT = "deid_quality"
QUALITY = """# How right de-identification is

    make bench B=deid-quality

**Planted tokens**: a text, number, UID or date that occurs nowhere else stands in every attribute
of PS3.15 Table E.1-1 that can hold one, in private attributes and in items of private sequences,
at each depth from 0 to 4 (in Anatomic Region and its modifiers, which the table does not name,
and in Content Sequence, which holds itself). Counted is what can still be found in the bytes and
is not retained by a chosen option; both engines are asked.

**Answer key**: objects of 19 SOP classes of patients who are nobody, each written together with
what has to become of its values: gone, replaced, moved by one shift a patient, replaced by the
same UID everywhere, kept as it stands; words that go and words that stay in one text; pixels that
stay bit by bit, and text in pixels that is masked while all far from it stays. Right actions of
due ones, by category, as the MIDI-B challenge counts them. A leak is a file in whose bytes a
name, number, UID or birth date of the original stands. radloop goes by a project that retains
safe private attributes, patient characteristics and modified dates, and cleans descriptors,
content, graphics and pixel data; the other tools are used as their documentation says, with their
defaults (dicom-anonymizer also with its newest table). By these defaults none keeps safe private
attributes or words of descriptions, and none looks for text in pixels: a part of what they miss
is that.

**Corpus**: every file of a folder of awkward ones is clean for the second look, or held back with
a code. **dciodvfy** compares its errors on each output with those on its original.
"""
PERFORMANCE = """# Performance

What was measured, beside other programs in the same run on the same machine: a ratio travels, a
figure of seconds does not. Each table is what its command wrote last; what was not reached says so.
"""
FAMILIES: tuple[tuple[type[RadloopError], str], ...] = (
    (InputError, "## A person mends something; never tried again by itself"),
    (PeerError, "## Another system has to answer; tried again with a growing pause"),
    (ResourceError, "## This machine lacks something; tried again later"),
)


def settings_page() -> str:
    """Return docs/settings.md."""
    parts = [BY, SETTINGS]
    single = {n: f for n, f in Settings.model_fields.items() if _section(f) is None}
    tables = {"peer", "project", "route", "learning"}
    parts.append(_table({n: f for n, f in single.items() if n not in tables}, ""))
    for name, field in Settings.model_fields.items():
        section = _section(field)
        if section is not None:
            parts += [
                f"## [{name}]\n\n{_first_line(section)}\n",
                _table(section.model_fields, name),
            ]
            for key, inner in _inner_sections(section):
                parts += [
                    f"## [{name}.{key}]\n\n{_first_line(inner)}\n",
                    _table(inner.model_fields, f"{name}__{key}"),
                ]
    parts += [
        f"## [[peer]]\n\n{_first_line(PeerSettings)}\n",
        _table(PeerSettings.model_fields, ""),
    ]
    parts += [PROJECTS, _owned_table(Project)]
    parts += [ROUTES, _owned_table(Route, leave_out={"when"}), WHEN, _owned_table(When)]
    parts += [LEARNING, _owned_table(LearningRule)]
    return "\n".join(parts)


def errors_page() -> str:
    """Return docs/errors.md."""
    parts = [BY, ERRORS]
    for family, heading in FAMILIES:
        rows = [
            (f"`{error.code}`", _first_line(error), error.advice)
            for error in every_error()
            if issubclass(error, family)
        ]
        parts += [f"{heading}\n", _markdown(("code", "means", "what to do"), rows)]
    return "\n".join(parts)


def performance_page() -> str:
    """Return docs/performance.md: every table of benchmarks/results."""
    parts = [BY, PERFORMANCE]
    for path in sorted(RESULTS.glob("*.json")):
        if path.stem == QUALITY_RESULT:  # no matter of seconds: it has a page of its own
            continue
        content = json.loads(path.read_text(encoding="utf-8"))
        about, rows = content["machine"], content["rows"]
        cells = [
            (
                row["what"],
                "-" if row["ours"] is None else f"{row['ours']:.4g} {row['unit']}",
                row["peer"] or "-",
                "-" if row["peer_value"] is None else f"{row['peer_value']:.4g} {row['unit']}",
                "-" if row["ratio"] is None else f"{row['ratio']:.3g}",
                row["target"] or "-",
                {True: "yes", False: "**no**", None: "-"}[row["met"]],
            )
            for row in rows
        ]
        parts += [
            f"## {path.stem}\n\n    make bench B={path.stem}\n",
            f"{about['processor']}, {about['cores']} cores, Python {about['python']}, "
            f"{about['system']}; load before the run: {about['load_before']}.\n",
            _markdown(("what", "ours", "peer", "its value", "ratio", "target", "met"), cells),
        ]
    return "\n".join(parts)


def profile_page() -> str:
    """Return docs/profile.md: what happens to every attribute of the table, and why."""
    profile = node_profile()
    chosen = ", ".join(sorted(METHOD_CODES[option][1] for option in (None, *profile.options)))
    rows = [
        (one.tag, one.name, one.basic, one.options or "-", one.happens) for one in lines_of(profile)
    ]
    head = ("tag", "attribute", "basic", "options", "what the node does")
    return "\n".join(
        [BY, PROFILE.format(edition=profile.edition, chosen=chosen), _markdown(head, rows)]
    )


def quality_page() -> str:
    """Return docs/deid-quality.md: the measured rows, one column for each tool."""
    path = RESULTS / f"{QUALITY_RESULT}.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    about, rows = content["machine"], content["rows"]
    tools = list(dict.fromkeys(row["peer"] for row in rows if row["peer"]))
    beside: dict[str, dict[str, str]] = {}
    alone: list[tuple[str, ...]] = []
    for row in rows:
        met = {True: "yes", False: "**no**", None: "-"}[row["met"]]
        if row["peer"]:
            cells = beside.setdefault(row["what"], {"": _figure(row["ours"], row["unit"])})
            cells[row["peer"]] = _figure(row["peer_value"], row["unit"])
        else:
            said = _figure(row["ours"], row["unit"])
            alone.append((row["what"], said, row["target"] or "-", met))
    matrix = [
        (what, *(cells.get(tool, "-") for tool in ("", *tools))) for what, cells in beside.items()
    ]
    return "\n".join(
        [
            BY,
            QUALITY,
            "## Beside other tools\n",
            _markdown(("what", "radloop", *tools), matrix),
            "## Radloop alone\n",
            _markdown(("what", "is", "target", "met"), alone),
            f"{about['processor']}, {about['cores']} cores, Python {about['python']}.\n",
        ]
    )


def _figure(value: float, unit: str) -> str:
    return f"{value:.2f} %" if unit == "%" else f"{value:,.0f}"


PAGES = {
    "deid-quality.md": quality_page,
    "profile.md": profile_page,
    "settings.md": settings_page,
    "errors.md": errors_page,
    "performance.md": performance_page,
}


def _section(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _inner_sections(section: type[BaseModel]) -> list[tuple[str, type[BaseModel]]]:
    """Return the tables within a table, by name; they may be left out as a whole."""
    return [
        (name, kind)
        for name, field in section.model_fields.items()
        for kind in get_args(field.annotation)
        if isinstance(kind, type) and issubclass(kind, BaseModel)
    ]


def _table(fields: Mapping[str, FieldInfo], section: str) -> str:
    prefix = f"RADLOOP_{section.upper()}__" if section else "RADLOOP_"
    rows = []
    for name, field in fields.items():
        if not field.description:
            raise SystemExit(f"the setting {section}.{name} has no description")
        default = "**required**" if field.is_required() else _value(field.default)
        rows.append((f"`{name}`", _kind(field.annotation), default, field.description))
    note = f"Variables: `{prefix}{next(iter(fields)).upper()}` and so on.\n\n" if section else ""
    return note + _markdown(("key", "is", "default", "means"), rows)


def _owned_table(owned: type[Any], *, leave_out: frozenset[str] | set[str] = frozenset()) -> str:
    """Describe a dataclass by its types, its defaults, and its docstring's Attributes."""
    hints, meanings = get_type_hints(owned), _attributes(owned)
    rows = []
    for field in dataclasses.fields(owned):
        if field.name in leave_out:
            continue
        made = field.default_factory is not dataclasses.MISSING
        required = field.default is dataclasses.MISSING and not made
        default = "-" if made else "**required**" if required else _value(field.default)
        rows.append((f"`{field.name}`", _kind(hints[field.name]), default, meanings[field.name]))
    return _markdown(("key", "is", "default", "means"), rows)


def _attributes(owned: type[Any]) -> dict[str, str]:
    """Return what the docstring's section Attributes says of each name."""
    text = (owned.__doc__ or "").partition("----------\n")[2]
    found: dict[str, str] = {}
    for names, meaning in re.findall(r"^    (\w[\w, ]*) : .*\n((?:        .+\n?)+)", text, re.M):
        for name in names.split(", "):
            found[name] = " ".join(meaning.split())
    return found


def _kind(annotation: Any) -> str:  # noqa: ANN401 - any type
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin is tuple:
        return f"list of: {_kind(arguments[0])}"
    if origin is Mapping:
        return "table of: text"
    if origin is Union or type(annotation).__name__ == "UnionType":
        return _kind(next(kind for kind in arguments if kind is not type(None)))
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " or ".join(f"`{each.value}`" for each in annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "table"
    names = {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path"}
    return names[annotation]


def _value(value: Any) -> str:  # noqa: ANN401 - any default
    match value:
        case None | "" | ():
            return "-"
        case bool():
            return f"`{str(value).lower()}`"
        case tuple():
            return ", ".join(_value(each) for each in value)
        case Enum():
            return f"`{value.value}`"
        case _:
            return f"`{value}`"


def _first_line(documented: type[Any]) -> str:
    return (documented.__doc__ or "").strip().splitlines()[0]


def _markdown(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [list(head), ["---"] * len(head), *cells]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> int:
    """Write the pages, or say which are out of date; return the exit code."""
    parser = argparse.ArgumentParser(description="Write the pages that come from the code.")
    parser.add_argument("--check", action="store_true", help="only compare")
    only_compare = parser.parse_args().check
    stale = [name for name, page in PAGES.items() if _read(DOCS / name) != page()]
    for name in stale:
        sys.stdout.write(f"docs/{name} {'is out of date' if only_compare else 'written'}\n")
        if not only_compare:
            (DOCS / name).write_text(PAGES[name](), encoding="utf-8")
    return 1 if only_compare and stale else 0


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


if __name__ == "__main__":
    sys.exit(main())
