"""Colours of token heat maps, for light and dark: every background carries the text colour at WCAG AA.

Kept is blue and dropped is red in every view; the values of scores and statistics have other hues, yellow to violet.
"""

from __future__ import annotations

from dataclasses import dataclass

from tokensieve.report.heatmap import LEVELS

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Palette:
    """End colours of the scales; levels interpolate linearly from the middle to an end.

    Attributes:
        text: colour of the tokens.
        middle: background at zero, or at the low end of an unsigned scale.
        negative: background at the low end of a signed scale.
        positive: background at the high end of a signed scale.
        high: background at the high end of an unsigned scale.
    """

    text: Colour
    middle: Colour
    negative: Colour
    positive: Colour
    high: Colour

    def background(self, level: int, signed: bool) -> Colour:
        """Return the background of a level of a `heatmap.Scale`."""
        end = self.high if not signed else self.positive if level > 0 else self.negative
        part = abs(level) / LEVELS
        red, green, blue = (round(a + (b - a) * part) for a, b in zip(self.middle, end, strict=True))
        return red, green, blue


KEPT, DROPPED = (20, 83, 155), (163, 55, 31)
"""Colours of kept and dropped on a light ground."""
LIGHT = Palette(
    text=(20, 22, 28), middle=(255, 255, 255), negative=(226, 190, 72), positive=(184, 150, 238), high=(184, 150, 238)
)
DARK = Palette(
    text=(245, 246, 248), middle=(24, 27, 33), negative=(122, 96, 8), positive=(104, 66, 168), high=(104, 66, 168)
)


def css(colour: Colour) -> str:
    """Return a colour as ``#rrggbb``."""
    return "#" + "".join(f"{part:02x}" for part in colour)


def contrast(first: Colour, second: Colour) -> float:
    """Return the contrast ratio of WCAG 2.2, from 1 to 21."""
    lighter, darker = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: Colour) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (part / 255 for part in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
