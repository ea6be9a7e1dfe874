"""Networks by the names of hubs: what is said without the packages, and what comes of it with them.

The packages are no dependency: what needs one is skipped where it is not installed. Nothing is downloaded.
"""

import sys

import pytest
import torch
import yaml
from safetensors.torch import save_file

from automl import zoo
from automl.config.study import StudyConfig
from automl.errors import ConfigError, DataError, ModelError
from automl.study.loading import load_problem
from automl.util.names import near
from automl.zoo.hubs.base import Preprocessing
from automl.zoo.hubs.registry import HUBS, of_a_hub
from tests.cli.conftest import automl

TINY_BERT = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "num_labels": 3,
}
TINY_VIT = {
    **{"image_size": 16, "patch_size": 4, "hidden_size": 16, "num_hidden_layers": 1},
    **{"num_attention_heads": 2, "intermediate_size": 32, "num_labels": 3},
}
MODULE = '''
import torch

SEEN = []

def images(size=32, preprocessing=None):
    """Random images in three classes, told apart by their brightness."""
    SEEN.append(preprocessing)
    torch.manual_seed(0)
    y = torch.arange(48) % 3
    x = torch.randn(48, 3, size, size) + y[:, None, None, None]
    return {"train": [(x, y)], "validation": [(x[:24] * 0.9, y[:24])]}

def tokens():
    """Random sentences as the mappings that a tokenizer makes, padded."""
    torch.manual_seed(0)
    ids = torch.randint(1, 50, (32, 7))
    mask = torch.ones_like(ids)
    mask[::2, 5:] = 0
    batch = {"input_ids": ids, "attention_mask": mask, "labels": ids[:, 0] % 3}
    return {"train": [batch], "validation": [{key: value[:16] for key, value in batch.items()}]}
'''


def installed(package):
    """Skip the test where the package of a hub is not there."""
    try:
        HUBS[package].names()
    except ModelError as error:
        pytest.skip(str(error))


@pytest.fixture
def study(tmp_path, monkeypatch, request):
    """A function that writes a study file of a network and a data function beside it, and the module of the latter."""
    module = f"hub_data_{abs(hash(request.node.name))}"
    (tmp_path / f"{module}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)

    def write(model, data, **more):
        raw = {"name": "hub", "model": model, "budget": "macs <= 60%", "trials": 3, "baselines": ["random"], **more}
        raw["data"] = {**data, "name": data["name"].replace("MODULE", module)}
        file = tmp_path / "study.yaml"
        file.write_text(yaml.safe_dump({**raw, "agent": "random"}))
        return file

    write.module = module
    return write


@pytest.mark.parametrize("package", list(HUBS))
def test_a_hub_that_is_not_installed_is_one_error_that_names_the_package(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not there
    with pytest.raises(ModelError, match=f"is not installed: pip install {package}"):
        zoo.load_model(f"{package}:anything")


def test_a_module_of_ones_own_that_hides_a_hub_is_said(tmp_path, monkeypatch):
    (tmp_path / "timm.py").write_text("def resnet18():\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    with pytest.raises(ModelError, match=r"finds .*timm\.py\. Rename that"):
        zoo.load_model("timm:resnet18")
    del sys.modules["timm"]


def test_which_names_are_those_of_a_hub():
    assert all(of_a_hub(f"{package}:x") for package in ("timm", "torchvision", "transformers"))
    assert not any(of_a_hub(spec) for spec in ("timm", "resnet20", "my.timm:resnet18", "timm.models:resnet18", ":timm"))


def test_of_many_names_the_nearest_are_offered():
    many = [f"resnet{depth}" for depth in (18, 34, 50, 101)] + ["vgg16"]
    assert near("resnet19", many).startswith("; did you mean 'resnet18' or ")
    assert near("gpt", many) == ", nor any name like it"


def test_no_hub_knows_the_preprocessing_of_other_networks():
    assert zoo.preprocessing("small_cnn", zoo.create("small_cnn")) is None


def test_built_in_images_are_made_as_a_hub_has_it():
    from automl import data

    wanted = Preprocessing(transform=lambda image: image, mean=(0.25,), std=(0.5,), size=(12, 16))
    sizes = {"validation_size": 100, "calibration_size": 50}
    usual = data.load("digits", **sizes)
    (x,), y = data.load("digits", **sizes, preprocessing=wanted).validation[0]
    (given,), labels = usual.validation[0]
    pixels = given * 0.3762 + 0.3055
    expected = torch.nn.functional.interpolate(pixels, (12, 16), mode="bilinear", antialias=True)
    torch.testing.assert_close(x, (expected - 0.25) / 0.5, atol=1e-5, rtol=0)
    assert torch.equal(y, labels)
    cut = data.load("digits", **sizes, preprocessing=wanted, cutout=3)
    assert next(iter(cut.training(0, 10)))[0][0].shape == (10, 1, 12, 16)
    with pytest.raises(DataError, match="images of 3 channels, those of digits have 1"):
        data.load("digits", **sizes, preprocessing=Preprocessing(print, (0.5,) * 3, (0.5,) * 3))


def test_a_study_file_says_whose_preprocessing(study):
    with pytest.raises(DataError, match="needs a model of a hub"):
        load_problem(StudyConfig.from_file(study("small_cnn", {"name": "digits", "preprocessing": "model"})))
    with pytest.raises(ConfigError, match="give that function an argument `preprocessing`"):
        StudyConfig.from_file(study("small_cnn", {"name": "MODULE:images", "preprocessing": "model"}))


def test_a_data_function_is_given_the_preprocessing_if_it_asks(study):
    own = {"name": "small_cnn", "options": {"in_channels": 3, "classes": 3}}
    load_problem(StudyConfig.from_file(study(own, {"name": "MODULE:images", "options": {"size": 8}})))
    assert sys.modules[study.module].SEEN == [None]


CASES = {
    "timm": (
        {"name": "timm:test_resnet", "options": {"pretrained": False, "num_classes": 3}},
        {"name": "MODULE:images"},
    ),
    "torchvision": (
        {"name": "torchvision:squeezenet1_1", "options": {"num_classes": 3}},
        {"name": "MODULE:images"},
    ),
    "transformers": (
        {"name": "transformers:BertForSequenceClassification", "options": TINY_BERT},
        {"name": "MODULE:tokens"},
    ),
}


@pytest.mark.parametrize("package", list(CASES))
def test_a_study_of_a_hubs_network_runs_from_its_file(study, tmp_path, package):
    installed(package)
    model, data = CASES[package]
    network = zoo.load_model(model["name"], model["options"])
    save_file({name: x.clone() for name, x in network.state_dict().items()}, tmp_path / "weights.safetensors")
    file = study({**model, "weights": "weights.safetensors"}, data)
    ran = automl("search", file, "--storage", tmp_path / "study.db")
    assert ran.code == 0, ran.err
    exported = automl(
        "export", "hub", "--storage", tmp_path / "study.db", "--out", tmp_path / "out", "--format=safetensors"
    )
    assert exported.code == 0, exported.err
    problem = load_problem(StudyConfig.from_file(file))
    for key, weight in network.state_dict().items():
        assert torch.equal(problem.model.state_dict()[key], weight), key


@pytest.mark.parametrize(
    ("package", "wrong", "right"),
    [
        ("timm", "resnet18x", "resnet18"),
        ("torchvision", "resnet19", "resnet18"),
        ("transformers", "BertForSequenceClasification", "BertForSequenceClassification"),
    ],
)
def test_an_unknown_name_offers_the_nearest(package, wrong, right):
    installed(package)
    with pytest.raises(ModelError, match=f"{package} has no model '{wrong}'; did you mean .*'{right}'"):
        zoo.load_model(f"{package}:{wrong}")


@pytest.mark.parametrize(
    ("package", "mean", "std", "side"),
    [
        ("timm", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 160),
        ("torchvision", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 224),
    ],
)
def test_image_networks_come_with_their_preprocessing(study, package, mean, std, side):
    installed(package)
    model, data = CASES[package]
    load_problem(StudyConfig.from_file(study(model, data)))
    (found,) = sys.modules[study.module].SEEN
    assert (found.mean, found.std, found.size) == (mean, std, (side, side))
    from PIL import Image

    assert found.transform(Image.new("RGB", (300, 280))).shape == (3, side, side)


def test_timm_makes_images_of_the_size_that_the_options_give():
    installed("timm")
    spec, options = "timm:vit_tiny_patch16_224", {"img_size": 32, "num_classes": 3}
    network = zoo.load_model(spec, options)
    assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
    assert zoo.preprocessing(spec, network, options).size == (32, 32)
    with pytest.raises(ModelError, match="unexpected keyword argument 'num_clases'"):
        zoo.load_model("timm:resnet18", {"num_clases": 3})


def test_torchvision_downloads_nothing_that_is_not_asked_for(monkeypatch):
    installed("torchvision")
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: pytest.fail("a download"))
    network = zoo.load_model("torchvision:lraspp_mobilenet_v3_large", {"num_classes": 3})
    assert network(torch.zeros(1, 3, 32, 32))["out"].shape == (1, 3, 32, 32)
    found = zoo.preprocessing("torchvision:lraspp_mobilenet_v3_large", network)
    assert found.mean == (0.485, 0.456, 0.406) and found.size is None  # it takes any size


def test_transformers_takes_values_of_the_configuration_or_a_folder(tmp_path):
    installed("transformers")
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    torch.manual_seed(0)
    saved = ViTForImageClassification(ViTConfig(**TINY_VIT)).eval()
    saved.half().save_pretrained(tmp_path / "mine")
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(tmp_path / "mine")
    x = torch.randn(2, 3, 16, 16)
    for cls in ("AutoModelForImageClassification", "ViTForImageClassification"):
        network = zoo.load_model(f"transformers:{cls}", {"pretrained": "mine"}, folder=str(tmp_path))
        assert next(network.parameters()).dtype == torch.float32
        torch.testing.assert_close(network(x).logits, saved.float()(x).logits)
    found = zoo.preprocessing(f"transformers:{cls}", network, {"pretrained": "mine"}, str(tmp_path))
    assert found.size == (16, 16) and found.mean == found.std == (0.5, 0.5, 0.5)
    assert found.transform(torch.zeros(3, 30, 20, dtype=torch.uint8), return_tensors="pt")["pixel_values"].shape[
        2:
    ] == (16, 16)
    assert zoo.preprocessing(f"transformers:{cls}", network, TINY_VIT) is None
    of_type = zoo.load_model("transformers:AutoModelForImageClassification", {"model_type": "vit", **TINY_VIT})
    assert type(of_type) is ViTForImageClassification and of_type(x).logits.shape == (2, 3)


@pytest.mark.parametrize(
    ("name", "options", "complaint"),
    [
        ("BertModel", {"hidden_sise": 16}, "BertConfig has no value 'hidden_sise'; did you mean 'hidden_size'"),
        ("AutoModel", {"hidden_size": 16}, "is no model by itself: give `pretrained`"),
        ("BertModel", {"pretrained": True}, "must be the ID of a model or a folder, got true"),
        ("BertModel", {"pretrained": "./nothing/here"}, "raised OSError"),
    ],
)
def test_what_transformers_would_take_without_a_word_is_refused(name, options, complaint):
    installed("transformers")
    with pytest.raises(ModelError, match=complaint):
        zoo.load_model(f"transformers:{name}", options)
