"""Networks of timm as sources of features."""

import pytest
import torch

from anomaly_gan.errors import UserError
from anomaly_gan.networks.backbone import Backbone

pytest.importorskip("timm")


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "resnet18"])
def test_maps_are_those_of_the_whole_network_and_the_rest_is_left_out(name: str) -> None:
    import timm

    backbone = Backbone(name, [1, 2], smallest_side=32)
    whole = timm.create_model(name, pretrained=False, features_only=True, out_indices=(1, 2)).eval()
    cut = backbone.network.state_dict()
    whole.load_state_dict({key: cut.get(key, value) for key, value in whole.state_dict().items()})
    images = torch.rand(2, 3, 64, 64)
    expected = whole((images - backbone.mean) / backbone.deviation)
    found = backbone(images)
    assert [len(m[0]) for m in found] == backbone.channels
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    everything = timm.create_model(name, pretrained=False).parameters()
    assert sum(p.numel() for p in backbone.parameters()) < 0.8 * sum(p.numel() for p in everything)


def test_grey_images_are_seen_as_colours_and_small_ones_enlarged() -> None:
    backbone = Backbone("resnet18", [1], smallest_side=64)
    grey = torch.rand(1, 1, 16, 16)
    (found,) = backbone(grey)
    assert found.shape[2:] == (16, 16)
    larger = torch.nn.functional.interpolate(grey, size=(64, 64), mode="bilinear", align_corners=False)
    torch.testing.assert_close(found, backbone(larger.expand(1, 3, 64, 64))[0])


def test_it_never_learns() -> None:
    backbone = Backbone("resnet18", [1], smallest_side=32).train()
    assert not any(module.training for module in backbone.modules())
    assert not any(p.requires_grad for p in backbone.parameters())


@pytest.mark.parametrize(
    ("name", "blocks", "words"),
    [
        ("resnet19", [1], "resnet18"),
        ("resnet18", [5], "has the maps 0 to 4"),
        ("resnet18", [2, 1], "must be rising"),
        ("resnet18", [], "must be rising"),
        ("vit_tiny_patch16_224", [2], "takes no images of 32 pixels"),
    ],
)
def test_what_cannot_be_had_is_said_in_a_line(name: str, blocks: list[int], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Backbone(name, blocks, smallest_side=32)
