import random
from itertools import combinations, permutations, product

from automl_spaces.dags import INPUT, Node, alive, canonical, edges


def drawn(rng, count):
    """Return a graph of so many nodes of two kinds."""
    return [
        Node(
            (rng.choice("ab"), rng.choice([1, 10])),
            tuple(read for read in range(INPUT, place) if rng.random() < 0.5) or (INPUT,),
        )
        for place in range(count)
    ]


def renumbered(dag, order):
    places = {INPUT: INPUT, **{place: number for number, place in enumerate(order)}}
    return [Node(dag[place].layer, tuple(places[read] for read in reversed(dag[place].reads))) for place in order]


def orders(dag):
    """Yield all orders that tell a node after those it reads, the output last."""
    for order in permutations(range(len(dag))):
        if order[-1] == len(dag) - 1 and all(
            read == INPUT or order.index(read) < place for place, node in enumerate(order) for read in dag[node].reads
        ):
            yield order


def brute(dag):
    """Return the smallest telling of all."""
    nodes = alive(dag)
    return min(
        tuple((node.layer, tuple(sorted(node.reads))) for node in renumbered(nodes, order)) for order in orders(nodes)
    )


def test_graphs_have_one_key_exactly_if_some_order_makes_them_equal():
    rng = random.Random(0)
    graphs = [drawn(rng, rng.randint(1, 5)) for _ in range(600)]
    keys, classes = {}, {}
    for graph in graphs:
        keys.setdefault(canonical(graph), set()).add(brute(graph))
        classes.setdefault(brute(graph), set()).add(canonical(graph))
    assert all(len(found) == 1 for found in (*keys.values(), *classes.values()))
    assert len(keys) > 100


def test_graphs_of_equal_nodes_are_as_many_as_unlabelled_acyclic_ones():
    for count, expected in ((2, 2), (3, 6), (4, 31)):  # Robinson, 1977
        found = set()
        for bits in product((False, True), repeat=count * (count - 1) // 2):
            joined = [pair for pair, bit in zip(combinations(range(count), 2), bits, strict=True) if bit]
            nodes = [Node(("a",), tuple(one for one, other in joined if other == place)) for place in range(count)]
            found.add(canonical([*nodes, Node(("b",), tuple(range(count)))]))
        assert len(found) == expected


def test_many_alike_nodes_take_no_time():
    nodes = [Node(("a",), (INPUT,)) for _ in range(30)]
    assert len(canonical([*nodes, Node(("b",), tuple(range(30)))])) == 31


def test_dead_nodes_are_left_out():
    dag = [Node(("a",), (INPUT,)), Node(("b",), (0,)), Node(("c",), (0, INPUT))]
    assert alive(dag) == [Node(("a",), (INPUT,)), Node(("c",), (0, INPUT))]
    assert canonical(dag) == canonical(alive(dag))
    assert canonical([dag[0], Node(("c",), (0, 0))]) != canonical([dag[0], Node(("c",), (0,))])


def test_edges_have_names():
    assert edges([Node(("a", 8), (INPUT,)), Node(("b",), (0, INPUT))]) == [
        ("input", "1", "a 8"),
        ("1", "output", "b"),
        ("input", "output", "b"),
    ]
