"""Diagrams as SVG. They need no library, stay sharp, and follow light and dark."""

from collections.abc import Sequence

from image_categorizer_server.inference.evaluation.metrics import Calibration, Coverage

WIDTH, HEIGHT = 460, 400
LEFT, RIGHT, TOP, BOTTOM = 48, 14, 14, 46
COUNTS_PX = 64
"""Height of the histogram below a reliability diagram."""
TICKS = 5


class Axes:
    """Places values in [0, 1] x [y_min, 1] on the drawing."""

    def __init__(self, height_px: int, y_min: float = 0.0) -> None:
        self.height_px = height_px
        self.y_min = y_min

    def x(self, value: float) -> float:
        """Returns the horizontal position of a value."""
        return LEFT + value * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Returns the vertical position of a value."""
        share = (value - self.y_min) / (1 - self.y_min)
        return TOP + (1 - share) * (self.height_px - TOP - BOTTOM)

    def frame(self, x_title: str, y_title: str) -> str:
        """Returns grid lines, numbers and titles."""
        parts, floor = [], self.y(self.y_min)
        for tick in range(TICKS + 1):
            share = tick / TICKS
            value = self.y_min + share * (1 - self.y_min)
            y = self.y(value)
            parts.append(_line("grid", LEFT, y, WIDTH - RIGHT, y))
            parts.append(_label(LEFT - 8, y + 4, f"{value * 100:.0f}", "end"))
            parts.append(_label(self.x(share), floor + 18, f"{share * 100:.0f}"))
        parts.append(_label(self.x(0.5), floor + 36, x_title))
        upwards = f'transform="rotate(-90 14 {(floor + TOP) / 2:.1f})"'
        parts.append(_label(14, (floor + TOP) / 2, y_title, "middle", upwards))
        return "".join(parts)


def reliability_diagram(calibration: Calibration) -> str:
    """Returns columns of how often answers are right, by confidence, and a histogram of them."""
    axes = Axes(HEIGHT)
    floor, base = axes.y(0), HEIGHT + COUNTS_PX
    parts = [
        axes.frame("confidence, %", "right, %"),
        _line("ideal", axes.x(0), floor, axes.x(1), axes.y(1)),
    ]
    most = max(each.count for each in calibration.bins)
    for each in calibration.bins:
        if not each.count:
            continue
        left, width = axes.x(each.low) + 1.5, axes.x(each.high) - axes.x(each.low) - 3
        top, said = axes.y(each.accuracy), axes.y(each.confidence)
        tall = each.count / most * (COUNTS_PX - 18)
        parts.append(_box("column", left, top, width, floor - top))
        parts.append(_box("gap", left, min(top, said), width, abs(top - said)))
        parts.append(_line("said", left, said, left + width, said))
        parts.append(_box("count", left, base - tall, width, tall))
        parts.append(_label(left + width / 2, base - tall - 4, str(each.count)))
    return _svg(base + 4, "Reliability: confidence against how often answers are right", parts)


def coverage_chart(curve: Sequence[tuple[float, float]], marked: Sequence[Coverage]) -> str:
    """Returns the line of how many answers are right, by the share of pictures answered.

    Args:
        curve: (share answered, share of those right) each.
        marked: thresholds to mark on the line.
    """
    lowest = min(precision for _, precision in curve)
    axes = Axes(HEIGHT + COUNTS_PX, min(int(lowest * 10) / 10, 0.9))
    points = " ".join(f"{axes.x(x):.1f},{axes.y(y):.1f}" for x, y in curve)
    parts = [
        axes.frame("pictures answered, %", "right of those, %"),
        f'<polyline class="curve" points="{points}"/>',
    ]
    for each in marked:
        if each.right is not None:
            x, y = axes.x(each.answered.value), axes.y(each.right.value)
            threshold = f"from {each.threshold * 100:.0f}\N{NO-BREAK SPACE}%"
            parts.append(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="4"/>')
            parts.append(_label(x - 6, y + 18, threshold, "end"))
    return _svg(HEIGHT + COUNTS_PX + 4, "Coverage against precision", parts)


def _svg(height_px: int, title: str, parts: Sequence[str]) -> str:
    size = f'viewBox="0 0 {WIDTH} {height_px}"'
    return f'<svg class="chart" {size} role="img"><title>{title}</title>{"".join(parts)}</svg>'


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _box(kind: str, x: float, y: float, width: float, height: float) -> str:
    size = f'width="{width:.1f}" height="{height:.1f}"'
    return f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" {size}/>'


def _label(x: float, y: float, words: str, anchor: str = "middle", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{words}</text>'
