"""How good a front of load against accuracy is."""

from __future__ import annotations


def dominated_area(problem, points):
    """The part of the square of load and accuracy, both in [0, 1], that is worse than some of `points` in both."""
    limit = problem.limits["macs"]
    corners = sorted((problem.space.cost(point, "macs") / limit, problem(point)) for point in points)
    area, best = 0.0, 0.0
    for (load, accuracy), (until, _) in zip(corners, [*corners[1:], (1.0, 0.0)], strict=True):
        best = max(best, accuracy)
        area += best * (until - load)
    return area
