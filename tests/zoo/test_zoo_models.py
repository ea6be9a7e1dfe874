import re

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from automl import zoo
from automl.errors import ModelError

PARAMETERS = {  # with 10 classes; the ResNets' as in He et al. 2016, table 6, to its two digits
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
    "plain20": 269_722,
    "vgg16_bn": 14_728_266,
    "mobilenet_v1": 3_217_226,
    "mobilenet_v2": 2_236_682,
    "small_cnn": 42_514,
}
MACS = {"resnet20": 40_551_040, "resnet56": 125_485_696, "plain20": 40_551_040, "vgg16_bn": 313_201_664}


def example(name: str, n: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (n, 1, 8, 8) if name == "small_cnn" else (n, 3, 32, 32)
    return torch.randn(shape, generator=generator)


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_every_name_is_covered_here():
    assert set(zoo.names()) == set(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_forward_backward_and_size(name):
    torch.manual_seed(0)
    network = zoo.create(name)
    assert count(network) == PARAMETERS[name]
    outputs = network(example(name))
    assert outputs.shape == (2, 10)
    cross_entropy(outputs, torch.tensor([3, 7])).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), key


@pytest.mark.parametrize("name", MACS)
def test_multiply_adds(name):
    network = zoo.create(name).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(example(name, 1))
    assert counter.get_total_flops() == 2 * MACS[name]


@pytest.mark.parametrize(("name", "parameters"), [("mobilenet_v1", 4_231_976), ("mobilenet_v2", 3_504_872)])
def test_mobilenets_with_imagenets_classes_have_the_papers_size(name, parameters):
    assert count(zoo.create(name, classes=1000)) == parameters


@pytest.mark.parametrize("name", PARAMETERS)
def test_classes_and_input_channels(name):
    network = zoo.create(name, classes=7, in_channels=2).eval()
    assert network(torch.zeros(1, 2, 32, 32)).shape == (1, 7)


def test_width_of_the_small_network():
    assert count(zoo.create("small_cnn", width=8)) < count(zoo.create("small_cnn", width=16))


@pytest.mark.parametrize(("width", "parameters"), [(0.5, 1_968_680), (0.75, 2_636_424), (1.4, 6_108_776)])
def test_mobilenet_v2_of_another_width_has_the_size_of_the_authors(width, parameters):
    assert count(zoo.create("mobilenet_v2", classes=1000, width=width)) == parameters


def test_width_multiplies_the_channels_of_vgg():
    whole, half = (zoo.create("vgg16_bn", width=width) for width in (1, 0.5))
    made = [[m.out_channels for m in network.features if hasattr(m, "out_channels")] for network in (whole, half)]
    assert made[1] == [channels // 2 for channels in made[0]]


@pytest.mark.parametrize("value", [0, -0.5, True, "half", float("nan")])
def test_a_factor_of_widths_is_above_0(value):
    with pytest.raises(ModelError, match="'width' must be a number above 0"):
        zoo.create("vgg16_bn", width=value)


@pytest.mark.parametrize(("name", "blocks"), [("resnet20", 3), ("resnet32", 5), ("resnet44", 7), ("resnet56", 9)])
def test_resnet_keys_are_those_of_the_published_checkpoints(name, blocks):
    state = zoo.create(name).state_dict()
    block = r"layer[123]\.\d+\.(conv[12]\.weight|bn[12]\.(weight|bias|running_mean|running_var|num_batches_tracked))"
    stem = r"conv1\.weight|bn1\.(weight|bias|running_mean|running_var|num_batches_tracked)"
    pattern = re.compile(f"{block}|{stem}|linear\\.(weight|bias)")
    assert [key for key in state if not pattern.fullmatch(key)] == []
    assert {key.rsplit(".", 2)[0] for key in state if "conv2" in key} == {
        f"layer{stage}.{b}" for stage in (1, 2, 3) for b in range(blocks)
    }
    assert state["layer2.0.conv1.weight"].shape == (32, 16, 3, 3)


def test_option_a_shortcut_subsamples_and_pads_both_sides_with_zeros():
    block = zoo.create("resnet20").eval().layer2[0]
    torch.nn.init.zeros_(block.bn2.weight)  # silences the convolutions, so the shortcut alone is left
    x = torch.rand(1, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        out = block(x)
    assert torch.equal(out[:, 8:24], x[:, :, ::2, ::2])
    assert not out[:, :8].any() and not out[:, 24:].any()


def test_plain_network_has_no_shortcut():
    block = zoo.create("plain20").eval().layer1[0]
    torch.nn.init.zeros_(block.bn2.weight)
    with torch.no_grad():
        assert not block(torch.rand(1, 16, 8, 8)).any()


def test_unknown_names_and_options_offer_the_nearest():
    with pytest.raises(ModelError, match="did you mean 'resnet56'"):
        zoo.create("resnet57")
    with pytest.raises(ModelError, match="did you mean 'classes'"):
        zoo.create("resnet20", clases=10)


@pytest.mark.parametrize("value", [0, -1, 2.5, "10", True])
def test_option_values_are_whole_numbers(value):
    with pytest.raises(ModelError, match="'classes' must be a whole number"):
        zoo.create("resnet20", classes=value)
