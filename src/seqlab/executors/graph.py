"""Which stages are to run, and which may run now."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from heapq import heapify, heappop, heappush


class Graph:
    """before: by stage, the stages whose outputs it reads."""

    def __init__(self, before: Mapping[str, Iterable[str]]):
        self.before = {name: set(others) & before.keys() for name, others in before.items()}
        self.after: dict[str, set[str]] = {name: set() for name in self.before}
        for name, others in self.before.items():
            for other in others:
                self.after[other].add(name)

    def followers(self, changed: Iterable[str]) -> set[str]:
        """The changed stages and all that follow from them."""
        return _reached(self.after, set(changed) & self.before.keys())

    def needed(self, wanted: Iterable[str]) -> set[str]:
        """The wanted stages and all that they follow from."""
        return _reached(self.before, set(wanted) & self.before.keys())


class Schedule:
    """The stages of a run in order: those that nothing unfinished stands before, the most needed first.

    asked: what a part of the pipeline is run for, in turns: what an earlier turn needs goes first, and of one turn what
    is asked for as soon as it may, before others that are needed more. Whenever the run is stopped, as much as can be
    is then finished.

    The work of the whole run is linear in the edges of the graph, and n log n in its stages.
    """

    def __init__(self, graph: Graph, waiting: set[str], asked: Sequence[Collection[str]] = ()):
        self.graph, self.waiting = graph, waiting
        self.unfinished = {name: len(graph.before[name] & waiting) for name in waiting}
        order = {name: i for i, name in enumerate(graph.before)}
        needed = {name: len(graph.after[name] & waiting) for name in waiting}
        wanted, turn = {name for names in asked for name in names}, dict[str, int]()
        for i, names in enumerate(asked):
            for name in graph.needed(names):
                turn.setdefault(name, i)
        self.rank = {
            name: (turn.get(name, len(asked)), name not in wanted, -needed[name], order[name]) for name in waiting
        }
        self.free = [(self.rank[name], name) for name in waiting if not self.unfinished[name]]  # a heap
        heapify(self.free)

    def next(self) -> str | None:
        """The stage to start now; None where all that wait need one that runs."""
        while self.free:
            _, name = heappop(self.free)
            if name in self.waiting:
                self.waiting.discard(name)
                return name
        return None

    def finish(self, name: str) -> None:
        """It is up to date: what waited for it alone may run."""
        for other in self.graph.after[name]:
            if other in self.waiting:
                self.unfinished[other] -= 1
                if not self.unfinished[other]:
                    heappush(self.free, (self.rank[other], other))

    def fail(self, name: str) -> set[str]:
        """It failed: what follows from it cannot run, and is returned."""
        lost = self.graph.followers([name]) & self.waiting
        self.waiting -= lost
        return lost

    def stop(self) -> None:
        """Nothing new begins."""
        self.waiting.clear()


def _reached(edges: Mapping[str, set[str]], start: set[str]) -> set[str]:
    found, front = set(start), deque(start)
    while front:
        for name in edges[front.popleft()]:
            if name not in found:
                found.add(name)
                front.append(name)
    return found
