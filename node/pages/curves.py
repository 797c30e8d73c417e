"""Learning curves as SVG: loss and score over the steps of a training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from markupsafe import Markup

from pipelines.store import EpochView

_WIDE: Final = 560
_HIGH: Final = 190
_LEFT: Final = 44
_BOTTOM: Final = 24
_TOP: Final = 12


def curve(
    epochs: Sequence[EpochView], what: str, *, title: str, top: float | None = None
) -> Markup:
    """Return one figure of the epochs as a line.

    Parameters
    ----------
    what : str
        An attribute of an epoch.
    top : float or None
        The axis' upper end; None: that of the values.
    """
    points = [(one.step, float(getattr(one, what))) for one in epochs]
    points = [(step, value) for step, value in points if math.isfinite(value)]
    if not points:
        return Markup("")
    most = top if top is not None else _round_up(max(value for _, value in points))
    least = min(0.0, min(value for _, value in points))
    first, last = points[0][0], points[-1][0]

    def x(step: int) -> float:
        return _LEFT + (_WIDE - _LEFT - 12) * ((step - first) / max(1, last - first))

    def y(value: float) -> float:
        return _HIGH - _BOTTOM - (_HIGH - _BOTTOM - _TOP) * (value - least) / (most - least or 1)

    line = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in points)
    says = f"{title}: {points[0][1]:.3f} at step {first}, {points[-1][1]:.3f} at step {last}"
    parts = [
        Markup(
            '<svg class="curve" role="img" aria-label="{}" viewBox="0 0 {} {}"><title>{}</title>'
        ).format(says, _WIDE, _HIGH, says)
    ]
    for share in (0.0, 0.5, 1.0):
        value = least + (most - least) * share
        parts.append(
            Markup(
                '<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>'
                '<text class="tick-y" x="{}" y="{:.1f}">{}</text>'
            ).format(_LEFT, _WIDE - 12, y(value), y(value), _LEFT - 6, y(value) + 4, f"{value:.3g}")
        )
    text = Markup('<text class="tick-x" x="{}" y="{}">{}</text>')
    parts.append(text.format(_LEFT, _HIGH - 6, f"step {first}"))
    if last > first:
        parts.append(text.format(_WIDE - 70, _HIGH - 6, f"step {last}"))
    parts.append(Markup('<polyline points="{}"/>').format(line))
    parts.append(
        Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3.5"/></svg>').format(
            x(points[-1][0]), y(points[-1][1])
        )
    )
    return Markup("").join(parts)


def _round_up(value: float) -> float:
    if value <= 0:
        return 1.0
    scale = 10.0 ** math.floor(math.log10(value))
    return float(math.ceil(value / scale * 2) / 2 * scale)
