"""Boxes and arrows as SVG, for networks and augmentation graphs.

The content security policy allows no inline style, so that colours are classes of the style sheet.
A diagram is a picture for those who see it; the page has the same as a table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from markupsafe import Markup, escape

from models.designs.document import IMAGE
from models.designs.tracing import Figures, Traced
from models.learning.graph import Graph, Sink, Source, half_read

_HIGH: Final = 46
_ROW: Final = 74
_GAP: Final = 26
_MARGIN: Final = 8
_PAGE: Final = 1500  # up to this it is drawn smaller to fit a page; wider ones are scrolled
_LETTER: Final = 6.6  # a character of the small text, in user units
_NARROW: Final = frozenset({"down", "up", "join", "attention", "deep"})
SIGNS: Final = {"down": "↓", "up": "↑", "join": "+", "attention": "×", "deep": "◦"}  # noqa: RUF001
"""What stands in the narrow box of a block that learns nothing."""


@dataclass(frozen=True, slots=True)
class Box:
    """One box.

    Attributes
    ----------
    name : str
    kind : str
        Also the class of its colour.
    takes_from : tuple of str
    lines : tuple of str
        Under its name.
    row : int or None
        Counted from the top; None: beside what it takes from.
    sign : str
        Stands in a narrow box instead of name and lines.
    is_wrong : bool
        An error names it.
    """

    name: str
    kind: str
    takes_from: tuple[str, ...]
    lines: tuple[str, ...] = ()
    row: int | None = None
    sign: str = ""
    is_wrong: bool = False

    @property
    def wide(self) -> float:
        """Its width, in user units."""
        if self.sign:
            return 30
        return max(64, 16 + _LETTER * max(len(text) for text in (self.name, *self.lines)))


@dataclass(frozen=True, slots=True)
class _Placed:
    box: Box
    left: float
    top: float

    @property
    def right(self) -> float:
        return self.left + self.box.wide

    @property
    def middle(self) -> float:
        return self.top + _HIGH / 2


@dataclass(slots=True)
class _Layout:
    columns: dict[str, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)


def network_diagram(
    traced: Traced, *, image: tuple[int, tuple[int, ...]], wrong: str = ""
) -> Markup:
    """Return a network: left to right as it is computed, the coarser the lower.

    Parameters
    ----------
    traced : Traced
    image : (int, tuple of int)
        Channels and sides of what goes in.
    wrong : str
        The block that an error names.
    """
    channels, shape = image
    boxes = [Box(IMAGE, "image", (), (f"{channels} ch", _sides(shape)), row=0)]
    boxes += [_network_box(block, wrong) for block in traced.blocks]
    title = f"The network: {len(traced.blocks)} blocks, {traced.parameters:,} parameters"
    return draw(boxes, title=title)


def graph_diagram(graph: Graph, counts: Mapping[str, int], *, wrong: str = "") -> Markup:
    """Return an augmentation graph: sources left, sinks right, with the samples that come out."""
    boxes = [
        Box(
            node.name,
            "source" if isinstance(node, Source) else "sink" if isinstance(node, Sink) else "step",
            tuple(reference.split(":")[0] for reference in node.inputs),
            (f"{counts[node.name]} samples" if node.name in counts else node.kind,),
            is_wrong=node.name == wrong,
        )
        for node in graph.in_order()
    ]
    return draw(boxes, title=f"The augmentation graph: {len(boxes)} nodes")


def half_a_graph(document: str, *, wrong: str) -> Markup | None:
    """Return what can be read of an augmentation graph that is none; None where nothing can."""
    nodes = {node[0]: node for node in half_read(document)}  # of a name that is there twice, one
    kinds = {"source": "source", "sink": "sink"}
    boxes = [
        Box(name, kinds.get(kind, "step"), taken, (kind,), is_wrong=name == wrong)
        for name, kind, taken in nodes.values()
    ]
    if not boxes:
        return None
    return draw(boxes, title="The graph as it was sent; it does not fit together")


def draw(boxes: Sequence[Box], *, title: str) -> Markup:
    """Return boxes, each after those that it takes from, as an SVG element."""
    layout = _laid_out(boxes)
    widths: dict[int, float] = {}
    for box in boxes:
        column = layout.columns[box.name]
        widths[column] = max(widths.get(column, 0), box.wide)
    lefts, left = {}, float(_MARGIN)
    for column in range(max(widths) + 1):
        lefts[column] = left
        left += widths.get(column, 0) + _GAP
    placed = {
        box.name: _Placed(
            box,
            lefts[layout.columns[box.name]] + (widths[layout.columns[box.name]] - box.wide) / 2,
            _MARGIN + layout.rows[box.name] * _ROW,
        )
        for box in boxes
    }
    high = _MARGIN * 2 + max(layout.rows.values()) * _ROW + _HIGH
    wide = left - _GAP + _MARGIN
    parts = [
        Markup(
            '<svg class="diagram{}" role="img" aria-label="{}" width="{:.0f}" height="{:.0f}" '
            'viewBox="0 0 {:.0f} {:.0f}"><title>{}</title>'
        ).format(" diagram-wide" if wide > _PAGE else "", title, wide, high, wide, high, title)
    ]
    for box in boxes:
        parts += [
            _arrow(placed[name], placed[box.name], placed)
            for name in dict.fromkeys(box.takes_from)
            if name in placed
        ]
    parts += [_drawn(one) for one in placed.values()]
    parts.append(Markup("</svg>"))
    return Markup("").join(parts)


def _network_box(block: Figures, wrong: str) -> Box:
    lines = (f"{block.channels} ch", _sides(block.shape))
    narrow = block.kind in _NARROW
    return Box(
        block.name,
        block.kind,
        block.takes_from,
        lines,
        row=block.level,
        sign=SIGNS[block.kind] if narrow else "",
        is_wrong=block.name == wrong,
    )


def _laid_out(boxes: Sequence[Box]) -> _Layout:
    """Return column and row of each: a column after all that it takes from, no two in one place."""
    layout = _Layout()
    taken: set[tuple[int, int]] = set()
    for box in boxes:
        known = [name for name in box.takes_from if name in layout.columns]
        column = 1 + max((layout.columns[name] for name in known), default=-1)
        row = box.row if box.row is not None else min((layout.rows[n] for n in known), default=0)
        while (column, row) in taken:
            row += 1
        layout.columns[box.name], layout.rows[box.name] = column, row
        taken.add((column, row))
    return layout


def _arrow(start: _Placed, end: _Placed, placed: Mapping[str, _Placed]) -> Markup:
    """Return a curve from one box to another; over the boxes between them where there are some."""
    a, b, c, d = start.right, start.middle, end.left, end.middle
    is_level = math.isclose(start.top, end.top)
    between = is_level and any(
        a < one.left and one.right < c and math.isclose(one.top, start.top)
        for one in placed.values()
    )
    if between:
        over, d = start.top - 6, d - 6
        bow = f"C{a + 14:.0f},{over:.0f} {c - 14:.0f},{over:.0f} {c:.0f},{d:.0f}"
        path = f"M{a:.0f},{b - 12:.0f} {bow}"
    else:
        bend = 0 if is_level else max(12, (c - a) / 2)
        path = f"M{a:.0f},{b:.0f} C{a + bend:.0f},{b:.0f} {c - bend:.0f},{d:.0f} {c:.0f},{d:.0f}"
    line = Markup('<path class="arrow" d="{}"/>').format(path)
    return line + Markup('<path class="tip" d="M{:.0f},{:.0f}l-6,-3.5v7z"/>').format(c, d)


def _drawn(one: _Placed) -> Markup:
    box = one.box
    words = ", ".join((box.name, *box.lines))
    classes = f"box box-{box.kind}" + (" box-wrong" if box.is_wrong else "")
    parts = [
        Markup(
            '<g class="{}"><title>{}</title>'
            '<rect x="{:.0f}" y="{:.0f}" width="{:.0f}" height="{}" rx="7"/>'
        ).format(classes, words, one.left, one.top, box.wide, _HIGH)
    ]
    centre = one.left + box.wide / 2
    if box.sign:
        text = Markup('<text class="sign" x="{:.0f}" y="{:.0f}">{}</text>')
        parts.append(text.format(centre, one.middle + 6, box.sign))
    else:
        first = one.middle - 6.5 * len(box.lines) + 4
        parts.append(
            Markup('<text class="name" x="{:.0f}" y="{:.0f}">{}</text>').format(
                centre, first, box.name
            )
        )
        for at, line in enumerate(box.lines, 1):
            parts.append(
                Markup('<text x="{:.0f}" y="{:.0f}">{}</text>').format(
                    centre, first + 13 * at, escape(line)
                )
            )
    parts.append(Markup("</g>"))
    return Markup("").join(parts)


def _sides(shape: tuple[int, ...]) -> str:
    return "x".join(str(side) for side in shape)
