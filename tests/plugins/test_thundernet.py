"""ThunderNet: its backbones as classifiers, its detector and what that is made of."""

import math

import pytest
import torch
from golden import REGISTRY, build, counted, counts
from torch import nn

from automl_networks.boxes import align_by_position, anchors, clipped, kept, moved, overlaps
from automl_networks.detector import ContextEnhancement, RegionHead, RegionProposal, SpatialAttention

BACKBONES = ("snet49", "snet146", "snet535")


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def detector(backbone, **settings):
    return REGISTRY.build("space", {"name": "thundernet", "backbone": backbone, **settings}).detector()


@pytest.mark.parametrize(
    ("backbone", "halves", "release", "multiply_adds"),
    [
        ("snet49", 875_548, 875_584, 51_205_832),
        ("snet146", 1_572_748, 1_574_512, 161_137_848),
        ("snet535", 4_535_144, 4_540_920, 535_354_640),
    ],
)
def test_its_backbones_have_the_counts_of_their_published_widths(backbone, halves, release, multiply_adds):
    assert counted("thundernet", backbone=backbone) == (halves, multiply_adds)
    assert counted("thundernet", backbone=backbone, form="release")[0] == release


@pytest.mark.parametrize(
    ("backbone", "features", "context", "whole"),
    [
        ("snet49", 362_584, 281_015, 1_471_710),
        ("snet146", 1_045_512, 324_135, 2_197_758),
        ("snet535", 3_547_920, 608_335, 4_984_366),
    ],
)
def test_its_detector_has_the_counts_of_its_parts(backbone, features, context, whole):
    with torch.device("meta"):
        found = detector(backbone, form="release")
    assert parameters(found.middle) + parameters(found.last) == features
    assert parameters(found.context) == context
    assert parameters(found) == whole


def test_proposing_and_attending_have_the_published_counts():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.propose, self.attend = RegionProposal(), SpatialAttention()

        def forward(self, maps):
            return self.attend(maps, self.propose(maps)[0])

    with torch.device("meta"):
        both = Both()
    assert counts(both, (245, 20, 20)) == (165_182, 65_426_000)


def test_the_head_has_the_published_counts():
    class Region(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = RegionHead(80)

        def forward(self, region):
            return self.head(region.flatten(1))

    with torch.device("meta"):
        assert counts(Region(), (5, 7, 7)) == (662_929, 661_504)


def test_its_maps_have_the_published_sizes():
    network = build("thundernet", width=0.25).eval()
    x = network.stem(torch.rand(1, 3, 224, 224))
    sides = [x.shape[-1]]
    for stage in network.stages:
        x = stage(x)
        sides.append(x.shape[-1])
    assert sides == [56, 28, 14, 7]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_its_detector_runs_at_the_published_size(backbone):
    found = detector(backbone).eval()
    images = torch.rand(2, 3, 320, 320)
    with torch.no_grad():
        middle = found.middle(images)
        assert found.context(middle, found.last(middle)).shape == (2, 245, 20, 20)
        said = found(images)
    assert [tuple(part.shape) for part in said] == [
        (2, 10_000),
        (2, 10_000, 4),
        (2, 200, 4),
        (2, 200, 81),
        (2, 200, 80, 4),
    ]
    assert all(part.isfinite().all() for part in said)
    for boxes in (said.regions, said.boxes):
        assert (boxes >= 0).all()
        assert (boxes <= 320).all()
    assert kept(said.regions, 0.7).all()


def test_every_parameter_of_the_detector_learns():
    found = detector("snet49", width=0.25)
    said = found(torch.rand(2, 3, 128, 128))
    sum(part.square().mean() for part in (said.objectness, said.moves, said.scores, said.boxes)).backward()
    assert [name for name, parameter in found.named_parameters() if not parameter.grad.abs().sum() > 0] == []


def test_the_context_is_a_sum_of_two_sizes_and_the_whole():
    context = ContextEnhancement(3, 4, 5)
    middle, last = torch.randn(2, 3, 4, 4), torch.randn(2, 4, 2, 2)
    out = context(middle, last)
    whole = context.whole(last.mean((2, 3)))
    expected = context.middle(middle)[0, :, 3, 1] + context.last(last)[0, :, 1, 0] + whole[0]
    torch.testing.assert_close(out[0, :, 3, 1], expected)


def test_attention_only_weakens():
    maps, features = torch.randn(2, 245, 6, 6), torch.randn(2, 256, 6, 6)
    attended = SpatialAttention()(maps, features)
    assert attended.shape == maps.shape
    assert (attended.abs() <= maps.abs()).all()


def test_anchors_are_twenty_five_at_each_position():
    boxes = anchors((20, 30)).reshape(20, 30, 25, 4)
    widths, heights = (boxes[..., 2:] - boxes[..., :2]).unbind(-1)
    scales = torch.tensor([32.0, 64, 128, 256, 512]).repeat_interleave(5)
    torch.testing.assert_close(widths * heights, (scales**2).expand(20, 30, 25))
    ratios = torch.tensor([1 / 2, 3 / 4, 1, 4 / 3, 2]).repeat(5)
    torch.testing.assert_close(heights / widths, ratios.expand(20, 30, 25), rtol=1e-4, atol=0)
    centres = (boxes[..., 2:] + boxes[..., :2]) / 2
    torch.testing.assert_close(centres[3, 7], torch.tensor([7 * 16 + 8.0, 3 * 16 + 8.0]).expand(25, 2))


def test_the_proposals_of_a_position_are_those_of_its_anchors():
    propose = RegionProposal(4, 6).eval()
    maps = torch.randn(1, 4, 3, 5)
    features, scores, moves = propose(maps)
    place = (2 * 5 + 1) * 25 + 7  # row 2, column 1, anchor 7
    torch.testing.assert_close(scores[0, place], propose.objectness(features)[0, 7, 2, 1])
    torch.testing.assert_close(moves[0, place], propose.moves(features)[0, 28:32, 2, 1])


def test_boxes_are_moved_by_shares_of_their_sides():
    box = torch.tensor([10.0, 20.0, 30.0, 60.0])
    assert torch.equal(moved(box, torch.zeros(4)), box)
    scaled = moved(box, torch.tensor([0.0, 0.0, math.log(2), -math.log(2)]))
    torch.testing.assert_close(scaled, torch.tensor([0.0, 30.0, 40.0, 50.0]))
    torch.testing.assert_close(moved(box, torch.tensor([0.5, -0.25, 0.0, 0.0])), torch.tensor([20.0, 10.0, 40.0, 50.0]))
    assert clipped(torch.tensor([-3.0, 5.0, 90.0, 90.0]), (40, 80)).tolist() == [0, 5, 80, 40]
    assert moved(box, torch.tensor([0.0, 0.0, 1e4, 1e4])).isfinite().all()


def test_boxes_overlap_by_intersection_over_union():
    boxes = torch.tensor([[0.0, 0, 4, 4], [2, 2, 6, 6], [5, 5, 9, 9], [1, 1, 1, 1]])
    shares = overlaps(boxes, boxes)
    torch.testing.assert_close(shares.diagonal(), torch.tensor([1.0, 1.0, 1.0, 0.0]))
    torch.testing.assert_close(shares[0, 1:], torch.tensor([4 / 28, 0.0, 0.0]))
    assert torch.equal(shares, shares.T)


def test_suppression_keeps_what_overlaps_nothing_kept_before():
    corners = torch.rand(2, 40, 2) * 20
    boxes = torch.cat([corners, corners + 4 + torch.rand(2, 40, 2) * 8], dim=-1)
    keep = kept(boxes, 0.4)
    for image, mask in zip(boxes, keep, strict=True):
        chosen = []
        for place, box in enumerate(image):
            if all(overlaps(box[None], image[other][None]).item() <= 0.4 for other in chosen):
                chosen.append(place)
        assert mask.nonzero().flatten().tolist() == chosen
        assert len(chosen) < 40


def test_a_bin_of_a_region_sees_its_own_channels():
    values = torch.arange(2 * 3 * 245.0).reshape(6, 245)[:2]
    maps = values[:, :, None, None].expand(2, 245, 20, 20)
    regions = torch.tensor([[30.0, 40, 200, 300], [0, 0, 320, 320], [300, 300, 301, 302]]).expand(2, 3, 4)
    seen = align_by_position(maps, regions)
    assert seen.shape == (2, 3, 5, 7, 7)
    torch.testing.assert_close(seen, values.reshape(2, 1, 5, 7, 7).expand(2, 3, 5, 7, 7))


def test_a_bin_of_a_region_sees_the_place_where_it_lies():
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(20.0), indexing="ij")
    maps = torch.stack([16 * x + 8, 16 * y + 8]).repeat_interleave(49, dim=0)[None]  # pixels, as a map of stride 16
    seen = align_by_position(maps, torch.tensor([[[40.0, 60, 180, 270]]]))[0, 0]
    middle = (torch.arange(7) + 0.5) / 7
    torch.testing.assert_close(seen[0], (40 + 140 * middle).expand(7, 7))
    torch.testing.assert_close(seen[1], (60 + 210 * middle)[:, None].expand(7, 7))
