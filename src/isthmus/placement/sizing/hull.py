"""The lower convex hull of (speed, price): the cheapest way to any average speed.

    price │            ● 8 GPUs
          │          ╱
          │    ●   ╱     4 GPUs lie above the line: never worth it
          │      ╱
          │    ●         1 GPU
          │  ╱
          └──────────── speed

A job that must be done by its deadline needs an average speed. The cheapest way to it is one corner of the hull, or a
while at one corner and a while at the next.
"""

from collections.abc import Sequence

Point = tuple[float, float]  # speed, price


def corners(points: Sequence[Point]) -> list[int]:
    """The numbers of the points on the lower convex hull of these and the origin, slowest first.

    The first is the one with the lowest price for the work; slower ones are never worth it.
    """
    order = sorted(range(len(points)), key=lambda one: (points[one][0], points[one][1]))
    hull: list[int] = []
    origin = (0.0, 0.0)
    for number in order:
        speed, price = points[number]
        if speed <= 0:
            continue
        while hull:
            last = points[hull[-1]]
            before = points[hull[-2]] if len(hull) > 1 else origin
            if last[0] >= speed or _slope(before, last) >= _slope(before, points[number]):
                if last[0] >= speed and last[1] <= price:
                    break
                hull.pop()
            else:
                break
        if not hull or points[hull[-1]][0] < speed:
            hull.append(number)
    return hull


def _slope(one: Point, other: Point) -> float:
    return (other[1] - one[1]) / (other[0] - one[0])
