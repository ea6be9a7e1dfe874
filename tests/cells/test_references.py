"""Published networks are architectures of blocks, equal to them in parameters and multiply-accumulates."""

import json

import pytest
import torch

from automl.measures.counts import counts
from automl.zoo import create
from search_spaces import REFERENCES, Architecture, CellSpace, StageOptions, network_of

PUBLISHED = {
    "squeezenet1_0": (1_248_424, 818_924_576),
    "squeezenet1_1": (1_235_496, 349_151_936),
    "mobilenet_v1": (4_231_976, 568_740_352),
    "mobilenet_v2": (3_504_872, 300_774_272),
    "shufflenet_v1": (1_865_728, 137_460_672),
    "nin": (966_986, None),
    "resnet18": (11_689_512, 1_814_073_344),
    "resnet20": (269_722, 40_551_040),
}
"""Parameters, and MACs of convolutions and linear layers at the published size: torchvision's networks, pytorchcv's
ShuffleNet, the papers' tables (569 M for MobileNet, 0.27 M parameters for ResNet-20)."""


def space_around(architecture):
    """A space that has an architecture as one of its Points, and others."""
    stages = []
    for stage in architecture.stages:
        options = StageOptions(
            kind=tuple(dict.fromkeys((stage.kind, "plain", "separable"))),
            width=tuple(sorted({stage.width, 2 * stage.width})),
            depth=tuple(sorted({stage.depth, stage.depth + 1})),
            reduce=(stage.reduce,),
            kernel=tuple(sorted({stage.kernel, 7})),
            expand=tuple(sorted({stage.expand, 2})),
            squeeze=tuple(sorted({stage.squeeze, 2})),
            groups=(stage.groups,),
            activation=(stage.activation, "silu"),
        )
        stages.append(options)
    return CellSpace(architecture.frame, (architecture.stem_width, 2 * architecture.stem_width), stages)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_network_is_a_point_priced_to_the_parameter(name):
    architecture = REFERENCES[name]()
    space = space_around(architecture)
    point = space.point(space.levels_of(architecture).tolist())
    assert space.architecture(space.levels(point)) == architecture
    params, macs = PUBLISHED[name]
    assert space.cost(point, "params") == params
    assert macs is None or space.cost(point, "macs") == macs


@pytest.mark.parametrize("name", ["squeezenet1_1", "shufflenet_v1", "resnet20", "nin"])
def test_a_reference_is_built_as_it_is_priced(name):
    architecture = REFERENCES[name]()
    with torch.device("meta") if name == "squeezenet1_1" else torch.device("cpu"):
        network = network_of(architecture)
    assert sum(p.numel() for p in network.parameters()) == PUBLISHED[name][0]
    if name in ("resnet20", "nin"):
        example = torch.zeros(1, 3, *architecture.frame.size)
        assert [m.value for m in counts(network, (example,))][:2] == list(architecture.price()[:2])


def test_resnet20_is_the_one_of_the_zoo():
    """The same tensors in the same order make the same outputs."""
    theirs, ours = create("resnet20").eval(), network_of(REFERENCES["resnet20"]()).eval()
    tensors = [t for t in theirs.state_dict().values() if t.dim()]
    own = {name: t for name, t in ours.state_dict().items() if t.dim()}
    assert [t.shape for t in own.values()] == [t.shape for t in tensors]
    ours.load_state_dict(dict(zip(own, tensors, strict=True)), strict=False)
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-4)


def test_an_architecture_is_a_kilobyte_of_json_and_comes_back():
    for make in REFERENCES.values():
        architecture = make()
        text = json.dumps(architecture.to_record())
        assert len(text) < 1024 and Architecture.from_record(json.loads(text)) == architecture
