"""The hull of one job as a picture: what each number of GPUs costs against its speed, and the cheapest way to any."""

import html

from isthmus.placement.sizing.hull import Point, corners
from isthmus.placement.sizing.problem import HOUR_S, Problem, SizedJob

WIDTH, HEIGHT = 640, 400
LEFT, TOP, RIGHT, BOTTOM = 70, 30, 20, 60


def hull_svg(problem: Problem, job: SizedJob, gpu_type: str) -> str:
    """One SVG document. Raises KeyError where the job does not run on that type."""
    row = job.times[gpu_type]
    most = min(len(row), problem.most_gpus[gpu_type])
    points = [(HOUR_S / row[n - 1], problem.prices_per_s[gpu_type, n] * HOUR_S) for n in range(1, most + 1)]
    on = corners(points)
    far = (max(speed for speed, _ in points) * 1.1, max(price for _, price in points) * 1.15)

    def at(point: Point) -> tuple[float, float]:
        x = LEFT + point[0] / far[0] * (WIDTH - LEFT - RIGHT)
        return x, HEIGHT - BOTTOM - point[1] / far[1] * (HEIGHT - TOP - BOTTOM)

    base = HEIGHT - BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="13">',
        f"<title>The lower convex hull of speed and price of job {html.escape(str(job.id))} on {html.escape(gpu_type)}"
        "</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<path d="M{LEFT} {TOP}V{base}H{WIDTH - RIGHT}" fill="none" stroke="#555"/>',
        f'<text x="{LEFT - 10}" y="{TOP - 8}" text-anchor="middle">per hour</text>',
        f'<text x="{WIDTH - RIGHT}" y="{base + 40}" text-anchor="end">speed (of the whole job, per hour)</text>',
    ]
    for step in range(1, 5):
        speed, price = far[0] * step / 4.4, far[1] * step / 4.6
        x, y = at((speed, price))
        parts.append(f'<text x="{x:.1f}" y="{base + 18}" text-anchor="middle">{speed:.3g}</text>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{price:.2f}</text>')
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in [at((0.0, 0.0)), *(at(points[number]) for number in on)])
    parts.append(f'<polyline points="{line}" fill="none" stroke="#2a6fdb" stroke-width="2"/>')
    for number, point in enumerate(points):
        x, y = at(point)
        colour = "#2a6fdb" if number in on else "#999"
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>')
        parts.append(f'<text x="{x:.1f}" y="{y - 10:.1f}" text-anchor="middle" fill="{colour}">{number + 1}</text>')
    return "\n".join([*parts, "</svg>", ""])
