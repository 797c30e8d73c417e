"""What is drawn in the viewer's first viewport, read from its canvas."""

from dataclasses import dataclass

from playwright.sync_api import Page

# Cornerstone copies what it drew (by WebGL, elsewhere) to this canvas. A picture in shades of grey
# has equal channels; an overlay in colour has not.
_LOOK = """(pane = 0) => {
    const panes = document.querySelectorAll('[data-cy=viewport-pane]');
    const canvas = panes[pane]?.querySelector('canvas.cornerstone-canvas');
    if (!canvas || !canvas.width) return null;
    const { width, height } = canvas;
    const { data } = canvas.getContext('2d').getImageData(0, 0, width, height);
    let bright = 0, count = 0, x = 0, y = 0, red = 0, green = 0, blue = 0;
    for (let at = 0; at < data.length; at += 4) {
        const [r, g, b] = [data[at], data[at + 1], data[at + 2]];
        if (r > 60) bright += 1;
        if (Math.max(r, g, b) - Math.min(r, g, b) > 40) {
            count += 1; red += r; green += g; blue += b;
            x += (at / 4) % width; y += Math.floor(at / 4 / width);
        }
    }
    const mean = sum => (count ? sum / count : 0);
    return { width, height, bright, coloured: count, x: mean(x), y: mean(y),
             rgb: [mean(red), mean(green), mean(blue)] };
}"""


@dataclass(frozen=True)
class Drawn:
    """What a canvas shows.

    Parameters
    ----------
    width, height : int
        Of the canvas.
    bright : int
        Pixels that are not dark.
    coloured : int
        Pixels that are not grey.
    x, y : float
        The middle of the coloured ones, from the left and from the top.
    rgb : tuple of float
        Their mean colour.
    """

    width: int
    height: int
    bright: int
    coloured: int
    x: float
    y: float
    rgb: tuple[float, float, float]


def look(page: Page, pane: int = 0) -> Drawn | None:
    """Return what a viewport shows now; None before there is one."""
    seen = page.evaluate(_LOOK, pane)
    return None if seen is None else Drawn(**{**seen, "rgb": tuple(seen["rgb"])})


def wait_for_image(page: Page) -> Drawn:
    """Wait until a picture is drawn, and return what is seen."""
    page.wait_for_function(f"() => (({_LOOK})()?.bright ?? 0) > 2000")
    return _now(page)


def wait_for_overlay(page: Page, *, pane: int = 0) -> Drawn:
    """Wait until there is colour in the picture, the first one where none is named."""
    page.wait_for_function(f"pane => (({_LOOK})(pane)?.coloured ?? 0) > 500", arg=pane)
    return _now(page, pane)


def wait_for_grey(page: Page) -> Drawn:
    """Wait until there is a picture without colour."""
    page.wait_for_function(
        f"() => {{ const seen = ({_LOOK})(); return seen?.bright > 2000 && !seen.coloured; }}"
    )
    return _now(page)


def _now(page: Page, pane: int = 0) -> Drawn:
    seen = look(page, pane)
    assert seen is not None
    return seen
