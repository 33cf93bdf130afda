"""Path relinking between elite solutions, as published (Filippini et al., IEEE TSC 16(3), 2023, section 5.3).

Random constructions fill a set of elite solutions, judged by a proxy function. From the best, a path leads towards each
of the others: of all jobs that are placed otherwise there, the move with the highest proxy (one step ahead looked at)
is made, up to as many moves as there are nodes; the best solution on the way joins the elite.
"""

import bisect

from isthmus.placement.sizing.greedy import Layout, RandomGreedy, finish
from isthmus.placement.sizing.setups import slowest_s
from isthmus.placement.sizing.simulate import Decision, View

ELITE = 10

Move = tuple[int, int]  # job, node that it moves to; node -1: it is taken out


class PathRelinking:
    """Random greedy construction, then paths between the elite."""

    def __init__(self, seed: int = 0, iterations: int = 100, *, alpha: float = 0.05, beta: float = 0.2) -> None:
        self._random = RandomGreedy(seed, iterations, alpha=alpha, beta=beta)

    def decide(self, view: View) -> Decision:
        elite, proxy = _Elite(), Proxy(view)
        for layout in self._random.constructions(view):
            elite.offer(proxy.of(layout), layout)
        for goal in list(elite.layouts):
            found = _Path(view, proxy, elite.best.copy(), goal).walk()
            if found is not None:
                finish(view, found)
                elite.offer(proxy.of(found), found)
        return Decision(elite.best.places())


class _Elite:
    """The best solutions by proxy, the worst first. One joins only if it is the best of all."""

    def __init__(self) -> None:
        self._values: list[float] = []
        self.layouts: list[Layout] = []

    @property
    def best(self) -> Layout:
        return self.layouts[-1]

    def offer(self, value: float, layout: Layout) -> None:
        if self._values and value < self._values[-1]:
            return
        place = bisect.bisect_right(self._values, value)
        self._values.insert(place, value)
        self.layouts.insert(place, layout)
        if len(self.layouts) > ELITE:
            del self._values[0], self.layouts[0]


class Proxy:
    """The work that is placed, each job's longest time, over what it will cost if everything stays as it is."""

    def __init__(self, view: View) -> None:
        self._vms = view.problem.vms
        self._prices = [vm.price_per_s for vm in view.problem.vms]
        self._spare = [one.job.deadline_s - view.now for one in view.active]
        self._weights = [one.job.weight_per_s for one in view.active]
        self._slowest = [slowest_s(one) for one in view.active]

    def of(self, layout: Layout) -> float:
        return sum(self.worth(layout, job) for job in layout.node_of)

    def worth(self, layout: Layout, job: int) -> float:
        """A job's part in it."""
        _, gpus, time_s = layout.setup_of[job]
        node = layout.node_of[job]
        vm = layout.vm_of[node]
        cost = time_s * self._prices[vm] * gpus / (self._vms[vm].gpus - layout.free[node])
        tardy = time_s - self._spare[job]
        if tardy > 0.0:
            cost += self._weights[job] * tardy
        return self._slowest[job] / max(cost, 1e-12)


class _Path:
    """From one solution towards another; walks on a copy."""

    def __init__(self, view: View, proxy: Proxy, start: Layout, goal: Layout) -> None:
        self._view = view
        self._proxy = proxy
        self._problem = view.problem
        self._layout = start
        self._goal = goal
        self._explored: dict[Move, float] = {}

    def walk(self) -> Layout | None:
        """The best solution on the way; None where nothing was better than the start."""
        best, best_gain, gain = None, 0.0, 0.0
        for _ in range(self._problem.nodes):
            moves = self._moves()
            if not moves:
                break
            for move in moves:
                if move not in self._explored:
                    self._explored[move] = self._look(move, set(moves))
            gain += self._make(max(moves, key=lambda one: self._explored[one]))[0]
            if gain >= best_gain:
                best, best_gain = self._layout.copy(), gain
        return best

    def _look(self, move: Move, known: set[Move]) -> float:
        """What a move gains, with the best of the moves that it makes possible."""
        gain, undo = self._make(move)
        ahead = gain
        for after in self._moves():
            if after not in known:
                more, back = self._make(after)
                self._restore(back)
                ahead = max(ahead, gain + more)
        self._restore(undo)
        return ahead

    def _moves(self) -> list[Move]:
        moves: list[Move] = []
        for job in range(len(self._view.active)):
            there = job in self._goal.node_of
            if there and not self._same(job):
                node = self._room(job)
                if node is not None:
                    moves.append((job, node))
            elif not there and job in self._layout.node_of:
                moves.append((job, -1))
        return moves

    def _same(self, job: int) -> bool:
        layout, goal = self._layout, self._goal
        if job not in layout.node_of:
            return False
        mine, other = layout.vm_of[layout.node_of[job]], goal.vm_of[goal.node_of[job]]
        return mine == other and layout.setup_of[job].gpus == goal.setup_of[job].gpus

    def _room(self, job: int) -> int | None:
        """A node that can take the job as the goal has it."""
        layout, problem = self._layout, self._problem
        vm, gpus = self._goal.vm_of[self._goal.node_of[job]], self._goal.setup_of[job].gpus
        own = layout.node_of.get(job)
        if own is not None:
            held = layout.setup_of[job].gpus
            if layout.used(problem, own) == held:
                return own
            if layout.vm_of[own] == vm and held + layout.free[own] >= gpus:
                return own
        for node in range(problem.nodes):
            if node not in layout.vm_of:
                return node
            if layout.vm_of[node] == vm and layout.free[node] >= gpus:
                return node
        return None

    def _make(self, move: Move) -> tuple[float, tuple[dict[int, int], dict[int, int], int, int | None, object]]:
        """Make a move; what the proxy gains by it, and what is needed to take it back."""
        job, target = move
        layout, problem = self._layout, self._problem
        own = layout.node_of.get(job)
        undo = (dict(layout.vm_of), dict(layout.free), job, own, layout.setup_of.get(job))
        gain = 0.0
        if own is not None:
            gain -= self._proxy.worth(layout, job)
            layout.free[own] += layout.setup_of[job].gpus
            del layout.node_of[job], layout.setup_of[job]
            if not layout.used(problem, own):
                del layout.vm_of[own], layout.free[own]
        if target >= 0:
            setup = self._goal.setup_of[job]
            if target not in layout.vm_of:
                layout.vm_of[target] = self._goal.vm_of[self._goal.node_of[job]]
                layout.free[target] = problem.vms[layout.vm_of[target]].gpus
            layout.free[target] -= setup.gpus
            layout.node_of[job], layout.setup_of[job] = target, setup
            gain += self._proxy.worth(layout, job)
        return gain, undo

    def _restore(self, undo: tuple[dict[int, int], dict[int, int], int, int | None, object]) -> None:
        layout = self._layout
        layout.vm_of, layout.free, job, own, setup = dict(undo[0]), dict(undo[1]), undo[2], undo[3], undo[4]
        layout.node_of.pop(job, None)
        layout.setup_of.pop(job, None)
        if own is not None:
            layout.node_of[job] = own
            layout.setup_of[job] = setup  # type: ignore[assignment]
