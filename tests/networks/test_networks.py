"""F's shapes and size, and what freezing means."""

import copy

import pytest
import torch
from torch import nn

from anomaly_gan.networks.feature_extractor import Body, FeatureExtractor
from anomaly_gan.networks.modes import frozen


@pytest.mark.parametrize("image_size", [16, 32, 64, 128])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("body", "penultimate"), [("resnet18", 64), ("vgg7", 128)])
def test_f_gives_embedding_shift_logits_and_penultimate(
    image_size: int, channels: int, body: Body, penultimate: int
) -> None:
    network = FeatureExtractor(image_size, channels, width=8, shifts=4, embedding_size=10, body=body)
    features = network(torch.rand(3, channels, image_size, image_size))
    assert features.embedding.shape == (3, 10)
    assert features.shift_logits.shape == (3, 4)
    assert features.penultimate.shape == (3, penultimate)
    assert (features.penultimate >= 0).all()


def test_f_at_the_papers_size_has_the_documented_heads_and_parameters() -> None:
    network = FeatureExtractor(32, 3)
    features = network(torch.rand(2, 3, 32, 32))
    assert features.embedding.shape == (2, 128)
    assert features.penultimate.shape == (2, 512)
    body = sum(p.numel() for p in network.body.parameters())
    assert body == 11_168_832  # ResNet-18 for CIFAR, without its classifier
    heads = 512 * 512 + 512 + 512 * 128 + 128 + 512 * 4 + 4
    assert sum(p.numel() for p in network.parameters()) == body + heads


def test_f_at_224_is_torchvisions_resnet18() -> None:
    from torchvision.models import resnet18

    reference, network = resnet18(), FeatureExtractor(224, 3)
    theirs = [p.shape for name, p in reference.named_parameters() if not name.startswith("fc.")]
    assert [p.shape for p in network.body.parameters()] == theirs
    # The same weights give the same features: the wiring is the same too.
    with torch.no_grad():
        for ours, value in zip(network.body.parameters(), reference.parameters(), strict=False):
            ours.copy_(value)
    reference.fc = nn.Identity()
    images = torch.rand(2, 3, 224, 224)
    network.eval()
    reference.eval()
    torch.testing.assert_close(
        network(images).penultimate, reference((images - 0.5) / 0.5), atol=1e-4, rtol=1e-4
    )


def test_f_keeps_the_resolution_of_small_images_until_the_second_stage() -> None:
    network = FeatureExtractor(32, 3, width=8)
    sizes = []
    for layer in network.body:
        layer.register_forward_hook(lambda _, __, output: sizes.append(output.shape[-1]))
    network(torch.rand(2, 3, 32, 32))
    assert sizes[:7] == [32, 32, 32, 32, 16, 8, 4]


def test_the_plain_f_halves_the_resolution_three_times_and_widens() -> None:
    network = FeatureExtractor(32, 3, width=16, body="vgg7")
    maps = []
    for layer in network.body:
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
            layer.register_forward_hook(lambda _, __, output: maps.append(tuple(output.shape[1:3])))
    network(torch.rand(2, 3, 32, 32))
    stages = [[(64, 32), (64, 16), (64, 16)], [(128, 16), (128, 8), (128, 8)], [(256, 8), (256, 4), (256, 4)]]
    assert maps == [(16, 32), *stages[0], *stages[1], *stages[2]]


def test_a_frozen_network_stays_bit_for_bit_but_passes_gradients() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 1, 1)).train()
    before = copy.deepcopy(network.state_dict())
    images = torch.rand(4, 3, 8, 8, requires_grad=True)
    with frozen([network]):
        network(images).sum().backward()
    assert images.grad.abs().sum() > 0
    assert all(p.grad is None and p.requires_grad for p in network.parameters())
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_frozen_network_still_normalises_by_the_batch() -> None:
    network = nn.BatchNorm2d(2).train()
    images = torch.rand(8, 2, 4, 4) * 5 + 3
    expected = copy.deepcopy(network)(images)
    with frozen([network]):
        torch.testing.assert_close(network(images), expected)


def test_what_was_frozen_moves_again_afterwards() -> None:
    network = nn.BatchNorm2d(2).train()
    with frozen([network]):
        pass
    network(torch.rand(8, 2, 4, 4))
    assert network.num_batches_tracked == 1


def test_a_weight_that_never_trains_does_not_start_to_after_freezing() -> None:
    network = nn.Linear(2, 2)
    network.bias.requires_grad_(False)
    with frozen([network]):
        pass
    assert network.weight.requires_grad
    assert not network.bias.requires_grad


@torch.no_grad()
@pytest.mark.parametrize("body", ["vgg7", "resnet18"])
def test_middle_features_are_the_positive_part_of_an_earlier_map_averaged_over_its_places(body: Body) -> None:
    network = FeatureExtractor(32, 3, 16, body=body).eval()
    images = torch.rand(2, 3, 32, 32)
    seen, found = (images - 0.5) / 0.5, []
    for layer in network.body[:-2]:
        seen = layer(seen)
        found.append(seen.clone())  # a ReLU may work in place
    convolutions = [i for i, layer in enumerate(network.body) if isinstance(layer, nn.Conv2d)]
    earlier = found[convolutions[-2]] if body == "vgg7" else found[-2]
    assert earlier.shape[1:] == ((256, 8, 8) if body == "vgg7" else (64, 8, 8))
    features = network(images)
    torch.testing.assert_close(features.middle, earlier.relu().mean(dim=(2, 3)))
    torch.testing.assert_close(features.penultimate, found[-1].mean(dim=(2, 3)))
