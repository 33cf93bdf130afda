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

BISECTIONS = 14
CLEARED = 0.01  # demand that is above the room by no more than this fits
SLACK = 0.0005  # a job whose window leaves no more than this unused is taken to need all of it


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


def respond(work: Work, prices: Array, edges: Array, worths: Array) -> Response:
    """Plan each job by itself at these prices per node-second. ``edges``: of the slots, one more than there are.

    ``worths`` [job, candidate] are the values of its work that are tried. The costs are never more than the least
    cost at these prices: for each slot in which a job may end, the best worth tried of the best moment in it.
    """
    begins, ends = edges[:-1], edges[1:]
    starts = np.maximum(begins[None, :], work.ready[:, None])
    lengths = np.clip(ends[None, :] - starts, 0.0, None)  # [job, slot]
    gain = np.zeros((len(work), worths.shape[1], len(prices)))
    for option in range(work.table.speed.shape[1]):
        cost = work.table.price[:, option, None] + work.table.share[:, option, None] * prices[None, :]
        worth = worths * work.table.speed[:, option, None]
        np.maximum(gain, worth[:, :, None] - cost[:, None, :], out=gain)
    # Within the slot in which it ends, a job goes on to the slot's end if that gains more than tardiness costs, else
    # to its deadline.
    to_due = np.clip(work.due[:, None] - starts, 0.0, lengths)
    on = gain > work.weight[:, None, None]
    last = np.where(on, lengths[:, None, :], to_due[:, None, :])
    late = np.clip(starts - work.due[:, None], 0.0, None)[:, None, :] + (last - to_due[:, None, :])
    by_end = gain * last
    np.multiply(gain, lengths[:, None, :], out=gain)
    saved = np.cumsum(gain, axis=2)
    saved -= gain
    np.subtract(work.weight[:, None, None] * late, by_end, out=by_end)
    by_end -= saved
    by_end += (worths * work.left[:, None])[:, :, None]
    best = np.argmax(by_end, axis=1)
    cost_of = np.take_along_axis(by_end, best[:, None, :], axis=1)[:, 0, :]
    cost_of[lengths <= 0] = np.inf
    end = np.argmin(cost_of, axis=1)
    rows = np.arange(len(work))
    within = np.where(np.arange(len(prices))[None, :] < end[:, None], lengths, 0.0)
    within[rows, end] = last[rows, best[rows, end], end]
    low, high = worths[:, 0].copy(), worths[:, -1].copy()
    for _ in range(BISECTIONS):
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
    done: Array = (speed * lengths).sum(axis=1)
    return done, share * lengths


def candidates(work: Work, top_price: float, count: int) -> Array:
    """Values of each job's work to try, [job, candidate], from its cheapest option's to well beyond its dearest."""
    speed = np.where(work.table.speed > 0, work.table.speed, np.inf)
    some = work.table.speed > 0
    least = np.min(np.where(some, work.table.price / speed, np.inf), axis=1)
    dearest = (work.table.price + work.table.share * top_price + work.weight[:, None]) / speed
    most = np.max(np.where(some, dearest, 0.0), axis=1) * 3.0
    least = np.maximum(least, most * 1e-6)
    steps = np.linspace(0.0, 1.0, count)
    tried: Array = least[:, None] * (most / least)[:, None] ** steps[None, :]
    return tried


def clear(
    work: Work, nodes: int, edges: Array, start: Array, *, steps: int, worths: int, rate: float = 0.5
) -> tuple[Array, Response]:
    """Prices at which demand fits about into the nodes, and what the jobs do then. ``start``: prices to begin from."""
    lengths = np.diff(edges)
    prices = start.copy()
    room = nodes * lengths
    floor = float(np.max(work.weight, initial=0.0)) * 4e-3
    total, count = np.zeros_like(prices), 0
    for step in range(steps):
        tried = candidates(work, float(prices.max()), worths)
        response = respond(work, prices, edges, tried)
        excess = response.usage / room - 1.0
        if step == 0 and not prices.any() and excess.max() <= CLEARED:
            return prices, response
        eta = rate / (1.0 + 0.15 * step)
        prices = np.maximum(0.0, (prices + floor) * np.exp(eta * np.clip(excess, -1.0, 2.0)) - floor)
        if step >= steps // 2:
            total, count = total + prices, count + 1
    prices = total / max(count, 1)
    return prices, respond(work, prices, edges, candidates(work, float(prices.max()), worths))
