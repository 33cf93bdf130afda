"""What a node's time is worth while there are too few of them: prices that make demand fit, slot by slot.

Take the rule away that only so many nodes exist, and charge a price for the share of a node that a job uses instead, a
price for each slot of time. Then each job can be planned by itself: for each time at which it might end, the cheapest
way to be done by then (run in the slots, and with the options, where the work costs least). Raise the prices where
demand is above what there is, lower them where it is below: the Lagrangian dual of the problem, solved by steps.
Whatever the prices, the jobs' costs less what the prices charge for all nodes is no more than any schedule costs.
"""

from dataclasses import dataclass

import numpy as np

from isthmus.placement.sizing.options import Array, Table


SLACK = 0.02  # a job whose window leaves no more than this unused is taken to need all of it


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be done, by job. Times in seconds from now."""

    table: Table
    left: Array  # of the work, from 1 to 0
    ready: Array  # not before then
    due: Array
    weight: Array  # per second of tardiness

    def __len__(self) -> int:
        return len(self.left)


@dataclass(frozen=True, slots=True)
class Response:
    """What the jobs do at given prices."""

    cost: Array  # of each job, prices included
    ends: Array  # the slot in which each ends
    worth: Array  # of each job's work: what one more of it, all at once, would save
    usage: Array  # of node-seconds, by slot


def respond(work: Work, prices: Array, edges: Array, worths: Array, *, early: bool = False) -> Response:
    """Plan each job by itself at these prices per node-second. ``edges``: of the slots, one more than there are.

    ``worths`` [job, candidate] are the values of its work that are tried. ``early``: the tardiness of a job that ends
    in a slot counts from the slot's beginning, which makes the cost a bound.
    """
    begins, ends = edges[:-1], edges[1:]
    lengths = np.clip(ends[None, :] - np.maximum(begins[None, :], work.ready[:, None]), 0.0, None)  # [job, slot]
    gain = np.zeros((len(work), worths.shape[1], len(prices)))
    for option in range(work.table.speed.shape[1]):
        cost = work.table.price[:, option, None] + work.table.share[:, option, None] * prices[None, :]
        worth = worths * work.table.speed[:, option, None]
        np.maximum(gain, worth[:, :, None] - cost[:, None, :], out=gain)
    gain *= lengths[:, None, :]
    saved = np.cumsum(gain, axis=2, out=gain)
    late = np.clip((begins if early else ends)[None, :] - work.due[:, None], 0.0, None) * work.weight[:, None]
    by_end = (worths * work.left[:, None])[:, :, None] - saved  # a lower bound on the work's cost, for each worth
    cost_of = by_end.max(axis=1) + late
    cost_of[ends[None, :] <= work.ready[:, None]] = np.inf
    end = np.argmin(cost_of, axis=1)
    rows = np.arange(len(work))
    within = np.where(np.arange(len(prices))[None, :] <= end[:, None], lengths, 0.0)
    low, high = worths[:, 0].copy(), worths[:, -1].copy()
    for _ in range(14):
        middle = np.sqrt(low * high)
        done, _ = _use(work, prices, within, middle)
        enough = done > work.left * (1 + SLACK)
        high = np.where(enough, middle, high)
        low = np.where(enough, low, middle)
    done_low, use_low = _use(work, prices, within, low)
    done_high, use_high = _use(work, prices, within, high)
    mix = np.clip((work.left - done_low) / np.maximum(done_high - done_low, 1e-15), 0.0, 1.0)
    usage = (use_low * (1 - mix[:, None]) + use_high * mix[:, None]).sum(axis=0)
    return Response(cost_of[rows, end], end, high, usage)


def _use(work: Work, prices: Array, lengths: Array, worth: Array) -> tuple[Array, Array]:
    """The work that each job gets done if its work has this worth, and the node-seconds that it uses by slot."""
    best = np.zeros(lengths.shape)
    speed = np.zeros(lengths.shape)
    share = np.zeros(lengths.shape)
    for option in range(work.table.speed.shape[1]):
        cost = work.table.price[:, option, None] + work.table.share[:, option, None] * prices[None, :]
        value = (worth * work.table.speed[:, option])[:, None] - cost
        better = value > best
        best = np.where(better, value, best)
        speed = np.where(better, work.table.speed[:, option, None], speed)
        share = np.where(better, work.table.share[:, option, None], share)
    return (speed * lengths).sum(axis=1), share * lengths


def candidates(work: Work, top_price: float, count: int) -> Array:
    """Values of each job's work to try, [job, candidate], from its cheapest option's to well beyond its dearest."""
    speed = np.where(work.table.speed > 0, work.table.speed, np.inf)
    some = work.table.speed > 0
    least = np.min(np.where(some, work.table.price / speed, np.inf), axis=1)
    dearest = (work.table.price + work.table.share * top_price + work.weight[:, None]) / speed
    most = np.max(np.where(some, dearest, 0.0), axis=1) * 3.0
    least = np.maximum(least, most * 1e-6)
    steps = np.linspace(0.0, 1.0, count)
    return least[:, None] * (most / least)[:, None] ** steps[None, :]


def clear(
    work: Work, nodes: int, edges: Array, start: Array, *, steps: int, worths: int = 24, rate: float = 0.5
) -> tuple[Array, Response]:
    """Prices at which demand fits about into the nodes, and what the jobs do then. ``start``: prices to begin from."""
    lengths = np.diff(edges)
    prices = start.copy()
    room = nodes * lengths
    scale = float(np.max(work.weight)) * 4.0 if len(work) else 1.0
    floor = scale * 1e-3
    mean, weight_sum = np.zeros_like(prices), 0.0
    response = None
    for step in range(steps):
        tried = candidates(work, float(prices.max()), worths)
        response = respond(work, prices, edges, tried)
        excess = response.usage / room - 1.0
        eta = rate / (1.0 + 0.15 * step)
        prices = np.maximum(0.0, (prices + floor) * np.exp(eta * np.clip(excess, -1.0, 2.0)) - floor)
        if step >= steps // 2:
            mean, weight_sum = mean + prices, weight_sum + 1.0
    prices = mean / max(weight_sum, 1.0)
    tried = candidates(work, float(prices.max()), worths * 2)
    return prices, respond(work, prices, edges, tried)
