import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import ExitCode, OrchestratorError
from orchestrator.events import StepDecl
from orchestrator.graph import Graph, GraphError, ancestors, find_cycles, show_cycle

# The same examples each time; a slow machine is no failure.
STEADY = settings(derandomize=True, deadline=None)


def graph(**needs):
    return Graph([StepDecl(id=i, kind="run", needs=tuple(n)) for i, n in needs.items()])


DIAMOND = {"architect": "", "builder": ["architect"], "docs": ["architect"]}


def test_a_diamond_has_its_edges_both_ways():
    found = graph(**DIAMOND, qa=["builder", "docs"])
    assert found.ids == ("architect", "builder", "docs", "qa")
    assert found.roots == ("architect",)
    assert found.needs["qa"] == ("builder", "docs")
    assert found.dependents == {
        "architect": ("builder", "docs"),
        "builder": ("qa",),
        "docs": ("qa",),
    }
    assert found.order == ("architect", "builder", "docs", "qa")
    assert found.ancestors("qa") == {"architect", "builder", "docs"}
    assert found.ancestors("architect") == set()


def test_the_order_does_not_depend_on_the_order_of_declaration_alone():
    assert graph(last=["first"], first=[]).order == ("first", "last")


def test_a_need_listed_twice_counts_once():
    found = graph(a=[], b=["a", "a"])
    assert found.needs["b"] == ("a",)
    assert found.order == ("a", "b")


def test_no_steps_make_a_graph_too():
    assert Graph([]).order == ()


def test_an_unknown_need_names_both_steps():
    with pytest.raises(GraphError, match="'b' needs 'x', which is not a step") as caught:
        graph(b=["x"])
    assert caught.value.exit_code == ExitCode.USAGE
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, OrchestratorError)


def test_two_steps_of_one_id_are_refused():
    step = StepDecl(id="a", kind="run")
    with pytest.raises(GraphError, match="two steps have the id 'a'"):
        Graph([step, step])


def test_a_cycle_is_told_whole():
    with pytest.raises(GraphError, match="a -> c -> b -> a") as caught:
        graph(start=[], a=["c", "start"], b=["a"], c=["b"], end=["a"])
    assert caught.value.cycle == ("a", "c", "b")


def test_a_step_that_needs_itself_is_a_cycle():
    with pytest.raises(GraphError) as caught:
        graph(a=["a"])
    assert caught.value.cycle == ("a",)


def test_each_of_two_cycles_is_found():
    needs = {"a": ["b"], "b": ["a"], "c": ["d"], "d": ["c", "a"]}
    assert find_cycles(needs) == [("a", "b"), ("c", "d")]


def test_a_long_cycle_is_shortened():
    shown = show_cycle([f"s{i}" for i in range(100)])
    assert shown.startswith("s0 -> s1 -> ")
    assert "(89 more)" in shown
    assert shown.endswith("s99 -> s0")


def test_a_chain_of_100_000_steps_is_no_deeper_than_a_short_one():
    count = 100_000
    # Declared backwards: whoever recursed from the first would have to go down all the way.
    decls = [
        StepDecl(id=f"s{i}", kind="run", needs=(f"s{i - 1}",) if i else ())
        for i in reversed(range(count))
    ]
    found = Graph(decls)
    assert found.order[0] == "s0"
    assert len(found.ancestors(f"s{count - 1}")) == count - 1
    needs = {**found.needs, "s0": (f"s{count - 1}",)}
    assert len(find_cycles(needs)[0]) == count


needs_of_numbers = st.integers(1, 12).flatmap(
    lambda n: st.lists(st.lists(st.integers(0, n - 1), max_size=4), min_size=n, max_size=n)
)


@STEADY
@given(needs_of_numbers)
def test_a_graph_is_ordered_or_its_cycle_is_real(numbers):
    needs = {f"s{i}": [f"s{n}" for n in wanted] for i, wanted in enumerate(numbers)}
    has_cycle = any(step in ancestors(needs, step) for step in needs)
    try:
        found = graph(**needs)
    except GraphError as error:
        assert has_cycle
        for step, after in zip(error.cycle, error.cycle[1:] + error.cycle[:1], strict=True):
            assert after in needs[step]
    else:
        assert not has_cycle
        place = {step: index for index, step in enumerate(found.order)}
        assert all(place[n] < place[s] for s in needs for n in needs[s])
