"""Removed depth is real: the files that are exported have fewer layers, and compute what the network computes."""

import json

import pytest
import torch

from automl.export import export, load
from automl.zoo import create
from search_spaces import DepthStep, Plan, depth_space

IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
FORMATS = ["safetensors", "pt2", "onnx"]


@pytest.fixture(scope="module")
def shallow(tmp_path_factory):
    """(original, network without three of nine blocks, with a skip and narrower, folder of its export)."""
    torch.manual_seed(0)
    original = create("resnet20").eval()
    space = depth_space(original, (IMAGES,), skips=True)
    levels = space.narrowest
    names = [knob.name for knob in space.knobs]
    for name in ("block:layer1.2", "block:layer2.0", "block:layer3.2"):
        levels[names.index(name)] = 0
    levels[names.index("skip:layer1.0>layer1.1")] = 1
    levels[names.index("layer3.0.conv1")] = 33
    plan = space.plan(space.point(levels.tolist()))
    assert len(plan.get(DepthStep).removed) == 3 and len(plan.get(DepthStep).skips) == 1
    network = space.build(plan).eval()
    out = tmp_path_factory.mktemp("shallow")
    export(network, (IMAGES,), plan, out, FORMATS, manifest={})
    return original, network, out


def test_every_file_has_fewer_layers(shallow):
    import onnx
    from safetensors import safe_open

    _, _, out = shallow
    model = onnx.load(out / "model.onnx")
    assert sum(node.op_type == "Conv" for node in model.graph.node) == 19 - 6
    program = torch.export.load(out / "model.pt2")
    assert sum("conv2d" in str(node.target) for node in program.graph.nodes) == 19 - 6
    with safe_open(out / "model.safetensors", "pt") as file:
        names = list(file.keys())
    assert not any(name.startswith(("layer1.2.", "layer2.0.", "layer3.2.")) for name in names)
    manifest = json.loads((out / "manifest.json").read_text())
    assert sum(layer["kind"] == "Conv2d" for layer in manifest["layers"].values()) == 19 - 6
    assert Plan.from_json(json.dumps(manifest["plan"])).get(DepthStep).removed == ("layer1.2", "layer2.0", "layer3.2")


def test_it_is_loaded_on_the_original_alone(shallow):
    _, network, out = shallow
    rebuilt = load(out, create("resnet20"))
    with torch.no_grad():
        assert torch.equal(rebuilt(IMAGES), network(IMAGES))


@pytest.mark.parametrize("name", ["plain20", "mobilenet_v2", "small_cnn"])
def test_random_points_export(name, tmp_path):
    x = torch.randn(2, 1 if name == "small_cnn" else 3, 16, 16)
    space = depth_space(create(name).eval(), (x,), skips=True, min_keep=0.3)
    generator = torch.Generator().manual_seed(1)
    levels = [knob.levels[int(torch.randint(len(knob.levels), (1,), generator=generator))] for knob in space.knobs]
    plan = space.plan(space.point([0, *levels[1:]]))
    assert plan.get(DepthStep).removed
    network = space.build(plan).eval()
    export(network, (x,), plan, tmp_path, FORMATS if name == "small_cnn" else ["safetensors"], manifest={})
    with torch.no_grad():
        assert torch.equal(load(tmp_path, create(name))(x), network(x))
