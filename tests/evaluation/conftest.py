import pytest
import torch
from torch import nn

from automl.tasks.problem import Problem


class Residual(nn.Module):
    """Two stages with a downsampling shortcut, in-place additions as in torchvision, a depthwise convolution."""

    def __init__(self, classes=10):
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.conv1 = nn.Conv2d(8, 12, 3, stride=2, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(12)
        self.conv2 = nn.Conv2d(12, 16, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(16)
        self.down = nn.Conv2d(8, 16, 1, stride=2, bias=False)
        self.down_norm = nn.BatchNorm2d(16)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False)
        self.depthwise_norm = nn.BatchNorm2d(16)
        self.linear = nn.Linear(16 * 4, classes)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.relu(self.norm(self.stem(x)))
        out = self.relu(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(out))
        out += self.down_norm(self.down(x))
        out = self.relu(out)
        out = nn.functional.relu6(self.depthwise_norm(self.depthwise(out))) + out
        return self.linear(nn.functional.max_pool2d(out, 2).flatten(1))


def digits():
    from sklearn.datasets import load_digits

    data = load_digits()
    x = torch.as_tensor(data.images, dtype=torch.float32)[:, None] / 16
    y = torch.as_tensor(data.target)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    return x[order], y[order]


def as_batches(x, y, size=100):
    return list(zip(((part,) for part in x.split(size)), y.split(size), strict=True))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def problem():
    """A residual network trained for a few seconds on scikit-learn's digits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    x, y = digits()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Residual()
        optimizer = torch.optim.Adam(model.parameters(), 5e-3)
        for _ in range(8):
            for (inputs,), targets in as_batches(x[:1200], y[:1200], 60):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(inputs), targets).backward()
                optimizer.step()
    torch.set_num_threads(threads)
    train, held_out = as_batches(x[:500], y[:500]), as_batches(x[1200:], y[1200:])
    return Problem(model, train, held_out, recalibration=lambda seed: train, name="digits")
