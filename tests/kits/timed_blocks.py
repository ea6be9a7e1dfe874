"""A network of few layers of every kind that models of latency tell apart."""

import torch
from torch import nn

X = torch.zeros(2, 3, 16, 16)


class Blocks(nn.Module):
    """A stem, two residual blocks of which one has a depthwise layer, and a linear layer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 32, 3, 2, 1)
        self.first = nn.Conv2d(32, 32, 3, padding=1)
        self.second = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1, groups=32), nn.ReLU(), nn.Conv2d(32, 32, 1))
        self.linear = nn.Linear(32, 4)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = torch.relu(x + self.first(x))
        x = torch.relu(x + self.second(x))
        return self.linear(x.mean((2, 3)))
