"""Pictures of architectures: every box in its place, whole files, and refusals that help."""

import random
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest
import torch
from torch import nn

import automl_networks
from automl import BadInput, cli, explain
from automl.conditions import conditions
from automl.drawing import pictures
from automl.drawing.blocks import blocks
from automl.drawing.layout import WIDTH, lay_out
from automl.drawing.words import tell
from automl.explain import count
from automl.plugins import Registry

REGISTRY = Registry()
SEARCHED = [
    name
    for (kind, name), found in sorted(REGISTRY.components.items())
    if kind == "space" and found[0].path.startswith("automl_spaces.") and name not in ("module", "run")
]
CELL = {"normal": [("a", "1", "sep3x3"), ("b", "1", "max3x3"), ("1", "output", ""), ("a", "output", "")]}


def _apart(one, other):
    return (
        one.x >= other.x + other.width
        or other.x >= one.x + one.width
        or one.y >= other.y + other.height
        or other.y >= one.y + one.height
    )


@pytest.mark.parametrize("name", SEARCHED)
def test_networks_of_every_searched_space_are_drawn_without_overlap(name):
    space, rng = REGISTRY.build("space", {"name": name}), random.Random(0)
    drawn = 0
    for _ in range(6):
        for edges in space.graph(space.sample(rng).blueprint).values():
            layout = lay_out(edges)
            if not edges:
                continue
            drawn += 1
            labels = [label for *_, label in edges if label] + list({end for edge in edges for end in edge[:2]})
            assert sorted(box.words for box in layout.boxes) == sorted(labels)
            for place, box in enumerate(layout.boxes):
                assert all(_apart(box, other) for other in layout.boxes[:place])
                assert 0 <= box.x <= box.x + box.width <= layout.width
                assert 0 <= box.y <= box.y + box.height <= layout.height
            assert sum(line.has_tip for line in layout.lines) >= 1
    assert drawn


def test_a_graph_too_wide_for_a_page_goes_from_the_top_down():
    chain = [(str(number), str(number + 1), "conv3x3") for number in range(12)]
    short, long = lay_out(chain[:3]), lay_out(chain)
    assert short.width > short.height
    assert short.width <= WIDTH
    assert long.height > WIDTH > long.width
    assert {line.ahead for line in long.lines} == {(0, 1)}


def test_a_picture_is_an_svg_or_a_png_by_its_name(tmp_path):
    pictures.write(tmp_path / "cell.svg", CELL)
    pictures.write(tmp_path / "cell.PNG", CELL)
    root = ElementTree.parse(tmp_path / "cell.svg").getroot()
    words = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert sorted(words) == ["1", "a", "b", "max3x3", "normal", "output", "sep3x3"]
    assert (tmp_path / "cell.PNG").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in tmp_path.iterdir()} == {"cell.svg", "cell.PNG"}


def test_names_are_escaped_in_a_picture():
    text = pictures.svg({"<script>": [("a", "b", "<b>&")]})
    assert "<script>" not in text
    ElementTree.fromstring(text)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["space", "nasnet", "--picture", "cell.gif"], "give a name that ends in .svg or .png"),
        (["space", "nasnet", "--picture", "nowhere/cell.svg"], "give a file in a folder that exists"),
        (["strategy", "random", "--picture", "cell.svg"], "only spaces are drawn: leave out --picture"),
    ],
)
def test_a_picture_that_cannot_be_is_refused_in_a_sentence(words, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["explain", *words]) == 2
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_png_without_matplotlib_names_the_optional_part(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"automl-lightweight\[compare\].*\.svg"):
        pictures.png(CELL)


def test_explain_tells_conditions_counts_and_the_graph_and_writes_the_picture(tmp_path, capsys):
    picture = tmp_path / "cell.svg"
    assert cli.main(["explain", "space", "pnas", "--picture", str(picture)]) == 0
    out = capsys.readouterr().out
    assert "Size: exactly 556,869,504,614,656 (5.57e+14) architectures" in out
    assert "cell.bN.in0, cell.bN.in1, cell.bN.op0, cell.bN.op1    where cell.blocks is at least N+1" in out
    assert re.search(r"images of 3 x 32 x 32 and 10 classes: [\d,]+ parameters, [\d,]+ multiply-adds", out)
    assert re.search(r"^    output  +\d", out, re.MULTILINE)
    assert out.rstrip().endswith(str(picture))
    told = set(re.findall(r"\w+ of (?:h\[k-\d\]|\d)", out.partition("Its graph")[2]))
    assert told
    assert all(words.split()[0] in picture.read_text() for words in told)


def test_conditions_are_those_of_the_space():
    assert ("layerN.filters, layerN.kernel", "where layerN.type is conv") in conditions(
        REGISTRY.build("space", {"name": "metaqnn"})
    )
    assert ("layerN.slope", "where layerN.activation is leaky_relu") not in conditions(
        REGISTRY.build("space", {"name": "nasnet"})
    )
    assert conditions(REGISTRY.build("space", {"name": "nasbench201"})) == []


def test_a_graph_is_told_state_by_state():
    assert tell(CELL) == ["  normal", "    1       sep3x3 of a; max3x3 of b", "    output  1; a"]


def test_sizes_are_told_exactly_where_they_are_known():
    assert count(15_625) == "exactly 15,625"
    assert count(7**46) == f"exactly {7**46:,} (7.49e+38)"
    assert count(10**400) == "1.00e+400 (counted exactly, 401 digits)"
    assert count(10**5000) == "1.00e+5000 (counted exactly, 5,001 digits)"
    assert count(1.25e10) == "about 1.25e+10"


def test_laying_out_imports_neither_torch_nor_matplotlib():
    code = "import sys; from automl.drawing.pictures import svg; svg({'a': [('a', 'b', 'c')]}); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"torch", "matplotlib"} & set(modules)


class Skips(nn.Module):
    """Two branches, whose sum is read by blocks in a row, and which are concatenated again for the last."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.branches = nn.ModuleList([nn.Conv2d(4, 8, 1), nn.Conv2d(4, 8, (1, 3), padding=(0, 1), groups=4)])
        self.row = nn.Sequential(*(Halved(8) for _ in range(3)))
        self.linear = nn.Linear(16, 5)

    def forward(self, images):
        x = self.stem(images)
        left, right = (branch(x) for branch in self.branches)
        both = torch.cat([self.row(left + right), left[:, :, ::8, ::8]], dim=1)
        return self.linear(both.mean((2, 3)))


class Halved(nn.Sequential):
    def __init__(self, width):
        super().__init__(nn.Conv2d(width, width, 3, stride=2, padding=1), nn.ReLU())


def test_a_network_is_drawn_by_its_blocks_and_what_they_read():
    image, stem, left, right = "3 x 8 x 8", "4 x 8 x 8", "8 x 8 x 8", "8 x 8 x 8 (2)"
    with torch.device("meta"):
        network = Skips()
    assert blocks(network, (3, 8, 8)) == [
        (image, stem, "conv3x3"),
        (stem, left, "conv1x1"),
        (stem, right, "depthwise 1x3"),
        (left, "8 x 4 x 4", "halved"),
        (right, "8 x 4 x 4", "halved"),
        ("8 x 4 x 4", "8 x 2 x 2", "halved"),
        ("8 x 2 x 2", "8 x 1 x 1", "halved"),
        ("8 x 1 x 1", "5", "linear"),
        (left, "5", "linear"),
    ]


def test_blocks_in_a_row_are_one_edge_and_a_network_of_one_block_is_looked_into():
    whole = nn.Sequential(nn.Sequential(*(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU()) for _ in range(5))))
    row = [("3 x 8 x 8", "3 x 8 x 8 (2)", "conv3x3 \N{MULTIPLICATION SIGN}5")]
    assert blocks(whole, (3, 8, 8)) == row

    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = whole

        def forward(self, images):
            return self.inner(images)

    assert blocks(Around(), (3, 8, 8)) == row
    assert not [hook for module in whole.modules() for hook in module._forward_hooks]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(automl_networks.automl_spaces()))
def test_every_hand_designed_network_is_drawn(name, tmp_path):
    explain.draw("space", name, tmp_path / "network.svg")
    text = (tmp_path / "network.svg").read_text()
    ElementTree.fromstring(text)
    assert ">3 x 32 x 32<" in text or ">3 x 224 x 224<" in text
    found = explain.example(Registry().load("space", name)).graphs()["network"]
    targets = {target for _, target, _ in found}
    sources = {source for source, _, _ in found}
    assert len(sources - targets) == len(targets - sources) == 1  # from the image to what it is classified as


def test_what_has_no_graph_and_cannot_be_built_is_not_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr("automl_spaces.spikenas.Spikenas.graph", lambda self, blueprint: {})
    with pytest.raises(
        BadInput, match=r"space spikenas has no graph to draw, nor a network that can be built: .*looked up"
    ):
        explain.draw("space", "spikenas", tmp_path / "cell.svg")
    assert "Its graph" not in explain.explain("space", "spikenas")
