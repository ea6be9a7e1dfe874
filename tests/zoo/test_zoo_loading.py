from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn

from automl import zoo
from automl.errors import ModelError

SHARED = Path(__file__).parents[2] / ".." / "shared" / "checkpoints"

USER_MODULE = '''
import torch
from torch import nn

def tied(size=4):
    """Two layers that share one weight, as language models tie embedding and output."""
    first, second = nn.Linear(size, size, bias=False), nn.Linear(size, size, bias=False)
    second.weight = first.weight
    return nn.Sequential(first, second)

def not_a_network():
    return 3

def broken():
    raise RuntimeError("no such backbone")
'''


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    (tmp_path / "users_own_models.py").write_text(USER_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return "users_own_models"


def saved(tmp_path, state):
    path = tmp_path / "weights.safetensors"
    save_file(state, path)
    return str(path)


def test_weights_come_back_and_the_network_is_ready_for_inference(tmp_path):
    torch.manual_seed(0)
    network = zoo.create("small_cnn", width=8)
    network(torch.randn(16, 1, 8, 8))  # moves the running statistics
    loaded = zoo.load_model("small_cnn", {"width": 8}, saved(tmp_path, network.state_dict()))
    assert not loaded.training
    x = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(loaded(x), network.eval()(x), rtol=0, atol=0)


def test_missing_batch_counters_are_no_fault(tmp_path):
    state = {k: v for k, v in zoo.create("small_cnn").state_dict().items() if "num_batches" not in k}
    loaded = zoo.load_model("small_cnn", {}, saved(tmp_path, state))
    assert torch.equal(loaded.state_dict()["linear.weight"], state["linear.weight"])


def test_wrong_shapes_are_one_error_that_names_the_first_keys(tmp_path):
    path = saved(tmp_path, zoo.create("small_cnn", width=8).state_dict())
    with pytest.raises(ModelError, match=r"stem\.0\.weight has shape \[8, 1, 3, 3\], the model needs \[16, 1, 3, 3\]"):
        zoo.load_model("small_cnn", {"width": 16}, path)
    with pytest.raises(ModelError, match=r"and \d+ more"):
        zoo.load_model("small_cnn", {"width": 16}, path)


def test_missing_and_unknown_keys_are_named(tmp_path):
    state = zoo.create("small_cnn").state_dict()
    state["head.weight"] = state.pop("linear.weight")
    with pytest.raises(ModelError, match=r"linear\.weight is missing; head\.weight is not in the model"):
        zoo.load_model("small_cnn", {}, saved(tmp_path, state))


def test_a_file_that_is_no_safetensors(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match="not a readable safetensors file"):
        zoo.load_model("small_cnn", {}, str(path))
    with pytest.raises(ModelError, match="no weights file"):
        zoo.load_model("small_cnn", {}, str(tmp_path / "absent.safetensors"))


def test_a_users_own_function_with_options(user_module):
    network = zoo.load_model(f"{user_module}:tied", {"size": 6}, None)
    assert isinstance(network, nn.Sequential) and network[0].in_features == 6


def test_shared_weights_are_stored_once_and_loaded(user_module, tmp_path):
    network = zoo.load_model(f"{user_module}:tied", {}, None)
    save_model(network, str(tmp_path / "tied.safetensors"))
    loaded = zoo.load_model(f"{user_module}:tied", {}, str(tmp_path / "tied.safetensors"))
    x = torch.randn(2, 4)
    assert torch.equal(loaded(x), network(x))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("tide", "did you mean 'tied'"),
        ("not_a_network", "must return a torch.nn.Module, got int"),
        ("broken", "no such backbone"),
    ],
)
def test_faults_of_a_users_function(user_module, function, message):
    with pytest.raises(ModelError, match=message):
        zoo.load_model(f"{user_module}:{function}", {}, None)


def test_faults_of_a_users_module_and_options(user_module):
    with pytest.raises(ModelError, match="cannot import 'no_such_module_here'"):
        zoo.load_model("no_such_module_here:f", {}, None)
    with pytest.raises(ModelError, match="unexpected keyword argument 'sise'"):
        zoo.load_model(f"{user_module}:tied", {"sise": 3}, None)


@pytest.mark.parametrize("spec", [":f", "module:", ":"])
def test_half_a_name(spec):
    with pytest.raises(ModelError, match="'module:function'"):
        zoo.load_model(spec, {}, None)


@pytest.mark.parametrize("name", ["resnet20", "resnet56"])
def test_shared_checkpoints_load(name):
    path = SHARED / f"{name}-cifar10.safetensors"
    if not path.exists():
        pytest.skip("the pretrained checkpoints are not beside the repository")
    network = zoo.load_model(name, {}, str(path))
    assert network.bn1.running_var.min() > 0 and not torch.equal(network.bn1.running_var, torch.ones(16))
