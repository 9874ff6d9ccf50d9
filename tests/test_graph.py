"""The order of a run: what a stage needs is done before it, all runs once, a failure stops what follows alone."""

from __future__ import annotations

from dataclasses import dataclass, field

import networkx as nx
from hypothesis import given
from hypothesis import strategies as st

from seqlab.executors.graph import Graph, Schedule


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, set[str]]:
    """Stages in any order of names, each after some of those drawn before it."""
    names = draw(st.permutations([f"stage@{i}" for i in range(draw(st.integers(1, 10)))]))
    return {name: draw(st.sets(st.sampled_from(names[:i]))) if i else set() for i, name in enumerate(names)}


def reference(before: dict[str, set[str]]) -> nx.DiGraph:
    """Edges from a stage to those that read what it writes."""
    graph = nx.DiGraph([(other, name) for name, others in before.items() for other in others])
    graph.add_nodes_from(before)
    return graph


@dataclass
class Ran:
    """What became of a run: stages in the order of their starts, those that succeeded, failed, and were given up."""

    started: list[str] = field(default_factory=list)
    finished: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)


def ran(before: dict[str, set[str]], waiting: set[str], failing: set[str], slots: int, data: st.DataObject) -> Ran:
    """Run the stages as an executor with so many slots does, which end in any order."""
    schedule, found, running = Schedule(Graph(before), set(waiting)), Ran(), []
    while True:
        while len(running) < slots and (name := schedule.next()) is not None:
            assert before[name] & waiting <= found.finished
            running.append(name)
            found.started.append(name)
        if len(running) < slots:
            # A slot stays free only where everything that waits needs something unfinished.
            idle = waiting - found.lost - set(found.started)
            assert all(before[name] & waiting - found.finished for name in idle)
        if not running:
            return found
        name = running.pop(data.draw(st.integers(0, len(running) - 1)))
        if name in failing:
            found.failed.add(name)
            lost = schedule.fail(name)
            assert not lost & (found.lost | set(found.started))
            found.lost |= lost
        else:
            found.finished.add(name)
            schedule.finish(name)


@given(graphs(), st.data())
def test_followers_and_needs_are_descendants_and_ancestors(before: dict[str, set[str]], data: st.DataObject) -> None:
    some = data.draw(st.sets(st.sampled_from(sorted(before))))
    graph, expected = Graph(before), reference(before)
    assert graph.followers(some) == some.union(*(nx.descendants(expected, name) for name in some))
    assert graph.needed(some) == some.union(*(nx.ancestors(expected, name) for name in some))


@given(graphs(), st.integers(1, 4), st.data())
def test_everything_runs_once_after_what_it_needs(before: dict[str, set[str]], slots: int, data: st.DataObject) -> None:
    found = ran(before, set(before), set(), slots, data)
    assert len(found.started) == len(before)
    assert found.finished == set(before)
    assert not found.lost


@given(graphs(), st.integers(1, 4), st.data())
def test_of_a_run_of_some_stages_only_those_run(before: dict[str, set[str]], slots: int, data: st.DataObject) -> None:
    names, graph = st.sets(st.sampled_from(sorted(before))), Graph(before)
    waiting = graph.followers(data.draw(names)) & graph.needed(data.draw(names))
    assert sorted(ran(before, waiting, set(), slots, data).started) == sorted(waiting)


@given(graphs(), st.integers(1, 4), st.data())
def test_a_failure_skips_exactly_what_follows_from_it(
    before: dict[str, set[str]], slots: int, data: st.DataObject
) -> None:
    failing = data.draw(st.sets(st.sampled_from(sorted(before))))
    found = ran(before, set(before), failing, slots, data)
    expected = set().union(*(nx.descendants(reference(before), name) for name in found.failed))
    assert found.lost == expected
    assert found.failed == failing - expected
    assert found.finished == set(before) - failing - expected
    assert len(found.started) == len(set(found.started))


@given(graphs())
def test_of_those_that_may_run_the_most_needed_begins(before: dict[str, set[str]]) -> None:
    schedule, after = Schedule(Graph(before), set(before)), reference(before)
    done: list[str] = []
    while (name := schedule.next()) is not None:
        free = [other for other, others in before.items() if other not in done and others <= set(done)]
        assert name == max(free, key=after.out_degree)  # the first in the graph's order of several such
        done.append(name)
        schedule.finish(name)


def test_what_a_run_is_for_begins_as_soon_as_it_may() -> None:
    before: dict[str, set[str]] = {"prepare": set(), "train a": {"prepare"}, "train b": {"prepare"}}
    before |= {"judge a": {"train a"}, "judge b": {"train b"}, "controls": {"prepare"}}
    schedule, order = Schedule(Graph(before), set(before), [{"judge a", "judge b", "controls"}]), []
    while (name := schedule.next()) is not None:
        order.append(name)
        schedule.finish(name)
    assert order == ["prepare", "controls", "train a", "judge a", "train b", "judge b"]


def test_an_earlier_turn_and_what_it_needs_goes_first() -> None:
    before: dict[str, set[str]] = {"pretrain a": set(), "pretrain b": set(), "prepare": set()}
    before |= {"finetune a": {"pretrain a"}, "scratch b": {"prepare"}, "finetune b": {"pretrain b"}}
    before |= {"judge a": {"finetune a"}, "judge b": {"scratch b"}, "judge c": {"finetune b"}, "aside": set()}
    schedule, order = Schedule(Graph(before), set(before), [{"judge b"}, {"judge a", "judge b"}, {"judge c"}]), []
    while (name := schedule.next()) is not None:
        order.append(name)
        schedule.finish(name)
    assert order == [
        *("prepare", "scratch b", "judge b", "pretrain a", "finetune a", "judge a"),
        *("pretrain b", "finetune b", "judge c", "aside"),
    ]


def test_what_is_no_stage_of_the_graph_stands_before_nothing() -> None:
    graph = Graph({"train": {"compose", "prepare"}, "prepare": {"compose"}})
    assert graph.before == {"train": {"prepare"}, "prepare": set()}
    assert graph.followers(["compose"]) == graph.needed(["compose"]) == set()
