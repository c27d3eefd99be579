"""WRN-d-k against the released Keras code: sizes, padding, wiring, first weights; seeded dropout."""

import copy
import math
import re

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anomaly_gan.errors import UserError
from anomaly_gan.networks.dropout import Dropout
from anomaly_gan.networks.wide_resnet import WideResNet
from anomaly_gan.randomness import RowRng, make_rng
from anomaly_gan.sharding import Shard


def rng(shard: Shard | None = None) -> RowRng:
    return RowRng(make_rng("cpu", 0, "training", 1), shard)


@pytest.mark.parametrize(("side", "depth", "factor"), [(16, 10, 4), (32, 10, 4), (64, 16, 2), (12, 10, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_it_gives_logits_and_features_of_every_size(
    side: int, depth: int, factor: int, channels: int
) -> None:
    network = WideResNet(side, channels, 72, depth, factor)
    found = network(torch.rand(2, channels, side, side))
    windows = max(1, side // 32) ** 2
    assert found.logits.shape == (2, 72)
    assert found.features.shape == (2, 64 * factor * windows)


@pytest.mark.parametrize(
    ("side", "windows"), [(36, 1), (48, 1), (60, 1), (72, 2), (92, 1), (96, 3), (100, 1)]
)
def test_no_place_of_an_image_of_any_side_is_left_out(side: int, windows: int) -> None:
    network = WideResNet(side, 1, 4, 10, 1).eval()
    image = torch.rand(1, 1, side, side, requires_grad=True)
    features = network(image).features
    assert features.shape == (1, 64 * windows**2)
    (gradient,) = torch.autograd.grad(features.square().sum(), image)
    assert (gradient != 0).all()


def test_a_file_of_a_side_whose_places_were_left_out_is_not_loaded() -> None:
    for side, known in ((32, True), (48, False), (64, True)):
        network = WideResNet(side, 1, 4, 10, 1)
        before = {name: value for name, value in network.state_dict().items() if name != "window"}
        assert (network.load_state_dict(before, strict=False).missing_keys == []) is known


@pytest.mark.parametrize(("depth", "k"), [(10, 4), (16, 8), (16, 4), (22, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_number_of_parameters_is_that_of_the_layers_counted_by_hand(
    depth: int, k: int, channels: int
) -> None:
    count = 9 * channels * 16
    inputs = 16
    for outputs in (16 * k, 32 * k, 64 * k):
        for _ in range((depth - 4) // 6):
            count += 2 * inputs + 9 * inputs * outputs + 2 * outputs + 9 * outputs * outputs
            count += inputs * outputs if inputs != outputs else 0
            inputs = outputs
    count += 2 * inputs + inputs * 72 + 72
    assert sum(p.numel() for p in WideResNet(32, channels, 72, depth, k).parameters()) == count


def test_wrn_10_4_has_the_documented_size() -> None:
    parameters = sum(p.numel() for p in WideResNet(32, 3, 72).parameters())
    assert f"{parameters / 1e6:.1f} million" in re.sub(r"\s+", " ", WideResNet.__doc__)


def keras_same(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Convolution with TensorFlow's "same", written out: the odd pixel of padding goes to the end."""
    total = max((math.ceil(x.shape[2] / stride) - 1) * stride + weight.shape[2] - x.shape[2], 0)
    before, after = total // 2, total - total // 2
    return F.conv2d(F.pad(x, (before, after, before, after)), weight, stride=stride)


def released(network: WideResNet, images: Tensor, depth: int, strides: tuple[int, ...]) -> Tensor:
    """The features by the functions of `models/wide_residual_network.py`, with the weights of `network`."""
    convs = iter([m.weight for m in network.modules() if isinstance(m, nn.Conv2d)])
    norms = iter([m for m in network.modules() if isinstance(m, nn.BatchNorm2d)])

    def batch_norm_relu(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
        mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), unbiased=False, keepdim=True)
        scaled = (x - mean) / (var + 1e-5).sqrt()
        return (scaled * norm.weight.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)).relu()

    x = keras_same(2 * images - 1, next(convs), 1)
    for group_stride in strides:
        for number in range((depth - 4) // 6):
            stride = group_stride if number == 0 else 1
            activated = batch_norm_relu(x, next(norms))
            second_norm, first, second = next(norms), next(convs), next(convs)
            out = keras_same(batch_norm_relu(keras_same(activated, first, stride), second_norm), second, 1)
            shortcut = x if x.shape[1] == out.shape[1] else keras_same(activated, next(convs), stride)
            x = out + shortcut
    x = F.avg_pool2d(batch_norm_relu(x, next(norms)), 8)
    return x.flatten(1)


@pytest.mark.parametrize(("side", "depth", "factor"), [(32, 10, 4), (32, 22, 1), (64, 16, 2)])
def test_it_is_wired_and_padded_like_the_released_network(side: int, depth: int, factor: int) -> None:
    network = WideResNet(side, 3, 5, depth, factor).double()
    with torch.no_grad():
        for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.weight.uniform_(0.5, 2)
            norm.bias.normal_()
    images = torch.rand(2, 3, side, side, dtype=torch.float64)
    found = network(images)
    expected = released(network, images, depth, (1, 2, 2))
    torch.testing.assert_close(found.features, expected)
    torch.testing.assert_close(found.logits, expected @ network.head.weight.T + network.head.bias)


def test_a_convolution_that_halves_the_side_is_padded_at_the_bottom_and_right_only() -> None:
    layer = WideResNet(32, 3, 5).blocks[1].first
    x = torch.randn(2, layer.in_channels, 32, 32)
    expected = F.conv2d(F.pad(x, (0, 1, 0, 1)), layer.weight, stride=2)
    torch.testing.assert_close(layer(x), expected)
    symmetric = F.conv2d(x, layer.weight, stride=2, padding=1)
    assert not torch.allclose(layer(x), symmetric, atol=0.1)


def test_the_first_weights_have_the_released_variance() -> None:
    network = WideResNet(32, 3, 72, depth=16, widen_factor=8)
    for layer in (m for m in network.modules() if isinstance(m, nn.Conv2d)):
        fan_in = layer.weight[0].numel()
        count = layer.weight.numel()
        assert layer.bias is None
        assert layer.weight.var().item() == pytest.approx(2 / fan_in, rel=6 * math.sqrt(2 / count))
        kurtosis = (layer.weight**4).mean() / layer.weight.var() ** 2
        assert kurtosis.item() == pytest.approx(3, abs=6 * math.sqrt(24 / count))  # normal, not uniform
    bound = 1 / math.sqrt(512)
    assert network.head.weight.abs().max().item() == pytest.approx(bound, rel=1e-3)
    assert network.head.weight.abs().max() <= bound
    assert network.head.weight.var().item() == pytest.approx(bound**2 / 3, rel=0.02)
    assert not network.head.bias.any()


@pytest.mark.parametrize(
    ("changed", "named"),
    [({"depth": 12}, "depth=12"), ({"depth": 4}, "depth=4"), ({"image_size": 30}, "image_size=30"),
     ({"widen_factor": 0}, "widen_factor=0"), ({"dropout": 1.0}, r"dropout=1\.0")],
)  # fmt: skip
def test_a_network_that_does_not_exist_is_refused_in_a_line(changed: dict, named: str) -> None:
    with pytest.raises(UserError, match=named):
        WideResNet(**{"image_size": 32, "channels": 3, "classes": 4, **changed})


def test_a_score_does_not_depend_on_the_rest_of_the_batch() -> None:
    network = WideResNet(16, 1, 5, widen_factor=1, dropout=0.3).eval()
    images = torch.rand(4, 1, 16, 16)
    alone = torch.cat([network(image[None]).logits for image in images])
    torch.testing.assert_close(network(images).logits, alone)


def test_dropout_zeroes_its_share_and_keeps_the_mean() -> None:
    layer, ones = Dropout(0.3).train(), torch.ones(20, 50, 10, 10)
    found = layer(ones, rng())
    values = found.unique()
    torch.testing.assert_close(values, torch.tensor([0.0, 1 / 0.7]))
    assert (found == 0).float().mean().item() == pytest.approx(0.3, abs=0.01)


def test_dropout_is_idle_outside_of_training_and_at_a_rate_of_zero() -> None:
    values, generator = torch.rand(3, 4), rng()
    before = generator.base.get_state()
    assert torch.equal(Dropout(0.3).eval()(values, None), values)
    assert torch.equal(Dropout(0.0).train()(values, generator), values)
    assert torch.equal(generator.base.get_state(), before)


def test_dropout_in_training_needs_a_generator() -> None:
    network = WideResNet(16, 1, 5, widen_factor=1, dropout=0.3)
    with pytest.raises(ValueError, match="generator"):
        network(torch.rand(2, 1, 16, 16))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_what_dropout_zeroes_does_not_depend_on_the_layout_and_leaves_it(
    memory_format: torch.memory_format,
) -> None:
    values = torch.rand(4, 8, 6, 6) + 1
    found = Dropout(0.5)(values.contiguous(memory_format=memory_format), rng())
    assert torch.equal(found, Dropout(0.5)(values, rng()))
    assert found.is_contiguous(memory_format=memory_format)


def test_dropout_in_half_precision_zeroes_the_same() -> None:
    values = torch.rand(4, 100) + 1
    half = Dropout(0.3)(values.bfloat16(), rng())
    assert half.dtype == torch.bfloat16
    assert torch.equal(half == 0, Dropout(0.3)(values, rng()) == 0)


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("total", [8, 7])
def test_two_processes_draw_what_one_draws(total: int, groups: int) -> None:
    values = torch.rand(groups, total, 5, 4, 4)
    whole = Dropout(0.4)(values.flatten(0, 1), rng()).unflatten(0, (groups, total))
    if groups > 1:
        whole = Dropout(0.4)(values.flatten(0, 1), rng(Shard(total))).unflatten(0, (groups, total))
    for process in range(2):
        shard = Shard(total, process, 2)
        own = values[:, shard.first : shard.first + shard.rows]
        found = Dropout(0.4)(own.flatten(0, 1), rng(shard))
        expected = whole[:, shard.first : shard.first + shard.rows].flatten(0, 1)
        assert torch.equal(found, expected)


def test_a_network_with_dropout_is_the_same_for_two_processes_as_for_one() -> None:
    network = WideResNet(16, 1, 5, widen_factor=1, dropout=0.3).double()
    for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.eval()  # batch norm over several processes is another part's
    images = torch.rand(6, 1, 16, 16, dtype=torch.float64)
    whole = copy.deepcopy(network)(images, rng()).logits
    parts = [network(images[3 * p : 3 * p + 3], rng(Shard(6, p, 2))).logits for p in range(2)]
    torch.testing.assert_close(torch.cat(parts), whole)
    assert not torch.allclose(whole, network(images, RowRng(make_rng("cpu", 1))).logits)


def test_blocks_draw_numbers_of_their_own() -> None:
    network = WideResNet(16, 1, 5, depth=16, widen_factor=1, dropout=0.5)
    zeroed = []
    for block in network.blocks:
        block.dropout.register_forward_hook(lambda _, inputs, output: zeroed.append(output == 0))
        nn.init.ones_(block.second_norm.bias)
        nn.init.zeros_(block.second_norm.weight)  # all ones before dropout
    network(torch.rand(2, 1, 16, 16), rng())
    assert len(zeroed) == 6
    assert not torch.equal(zeroed[0], zeroed[1])
    assert not torch.equal(zeroed[2], zeroed[3])


def as_in_torch(network: WideResNet, images: Tensor) -> Tensor:
    """The features by the equations of the paper, padded on all sides, with batch statistics."""

    def activated(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
        return F.relu(F.batch_norm(x, None, None, norm.weight, norm.bias, training=True))

    x = F.conv2d(2 * images - 1, network.stem.weight, padding=1)
    for block in network.blocks:
        h = activated(x, block.first_norm)
        stride = x.shape[2] // block(x, None).shape[2]
        if block.shortcut is not None:
            x = F.conv2d(h, block.shortcut.weight, stride=stride)
        h = activated(F.conv2d(h, block.first.weight, stride=stride, padding=1), block.second_norm)
        x = x + F.conv2d(h, block.second.weight, padding=1)
    return activated(x, network.norm).mean((2, 3))


@pytest.mark.parametrize(("depth", "factor"), [(10, 4), (16, 1)])
@pytest.mark.parametrize("side", [16, 32])
def test_the_other_methods_networks_are_padded_on_all_sides(depth: int, factor: int, side: int) -> None:
    network = WideResNet(side, 3, 5, depth, factor, keras=False).double()
    images = torch.rand(2, 3, side, side, dtype=torch.float64)
    torch.testing.assert_close(network(images).features, as_in_torch(network, images))


def test_the_other_methods_first_weights_have_the_variance_of_the_fan_out() -> None:
    network = WideResNet(32, 3, 10, depth=16, widen_factor=8, keras=False)
    for layer in (m for m in network.modules() if isinstance(m, nn.Conv2d)):
        fan_out = layer.out_channels * layer.weight[0, 0].numel()
        spread = 6 * math.sqrt(2 / layer.weight.numel())
        assert layer.weight.var().item() == pytest.approx(2 / fan_out, rel=spread)
    assert network.head.weight.abs().max() <= 1 / math.sqrt(512)
    assert not network.head.bias.any()


def test_the_reference_s_rot_trans_network_has_as_many_parameters() -> None:
    assert sum(p.numel() for p in WideResNet(32, 3, 10, depth=16, widen_factor=1).parameters()) == 175_066
    assert sum(p.numel() for p in WideResNet(32, 3, 8, depth=10, widen_factor=1).parameters()) == 77_720
