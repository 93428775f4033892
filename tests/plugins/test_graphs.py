import random
from itertools import permutations

from automl_spaces.graphs import canonical, reaching


def relabelled(nodes, order):
    """Return the graph with its nodes in another order."""
    places = {old: new for new, old in enumerate(order)}
    return [(nodes[old][0], tuple(places[source] for source in nodes[old][1])) for old in order]


def drawn(rng, size, labels="ab"):
    nodes = [("input", ())]
    reads = [rng.choices(range(place), k=rng.randint(1, 3)) for place in range(1, size)]
    return [*nodes, *((rng.choice(labels), tuple(sorted(sources))) for sources in reads)]


def smallest(nodes):
    """Return the smallest telling over all orders: what canonical does, by brute force."""
    return min(
        tuple((label, tuple(sorted(sources))) for label, sources in relabelled(nodes, order))
        for order in permutations(range(len(nodes)))
    )


def test_the_form_is_one_for_all_orders():
    rng = random.Random(0)
    for number in range(300):
        nodes = drawn(rng, 2 + number % 12)
        order = rng.sample(range(len(nodes)), len(nodes))
        assert canonical(relabelled(nodes, order)) == canonical(nodes)


def test_forms_are_equal_exactly_where_some_order_makes_the_graphs_equal():
    rng = random.Random(1)
    graphs = [drawn(rng, 5, "a") for _ in range(120)]
    by_form, by_force = {}, {}
    for place, nodes in enumerate(graphs):
        by_form.setdefault(canonical(nodes), set()).add(place)
        by_force.setdefault(smallest(nodes), set()).add(place)
    assert sorted(map(sorted, by_form.values())) == sorted(map(sorted, by_force.values()))
    assert len(by_form) < len(graphs)


def test_what_refinement_cannot_tell_apart_is_told():
    """It reads two rings of three, and one of six, by neighbours that are all alike."""
    ends = [("ring", ()) for _ in range(6)]
    six = [*ends, *(("edge", (place, (place + 1) % 6)) for place in range(6))]
    threes = [
        *ends,
        *(("edge", (base + place, base + (place + 1) % 3)) for base in (0, 3) for place in range(3)),
    ]
    assert canonical(six) != canonical(threes)
    assert canonical(relabelled(six, [3, 5, 0, 2, 1, 4, 7, 6, 9, 11, 10, 8])) == canonical(six)


def test_many_nodes_alike_are_told_at_once():
    nodes = [("input", ()), *[("a", (0,)) for _ in range(12)], *[("b", (1 + place,)) for place in range(12)]]
    form = canonical([*nodes, ("output", tuple(range(13, 25)))])
    assert len(form) == 26


def test_a_node_read_twice_is_not_two_nodes():
    twice = [("input", ()), ("a", (0,)), ("b", (1, 1))]
    two = [("input", ()), ("a", (0,)), ("a", (0,)), ("b", (1, 2))]
    once = [("input", ()), ("a", (0,)), ("b", (1,))]
    assert len({canonical(nodes) for nodes in (twice, two, once)}) == 3


def test_only_what_the_output_depends_on_reaches_it():
    assert reaching([(), (0,), (0,), (2,), (1,)], 3) == [0, 2, 3]
    assert reaching([(), (0,)], 0) == [0]
