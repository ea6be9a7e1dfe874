"""Networks of other people, by collection: what they are called, and how one is made, untrained, with its input.

None of the collections is a dependency. They import torchvision, which with a CPU build of torch needs two operators
defined first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Made = tuple[nn.Module, tuple[Tensor, ...]]
"""A network in eval mode, and its inputs for two samples."""


@dataclass(frozen=True)
class Collection:
    """A collection of networks."""

    title: str
    names: tuple[str, ...]
    make: Callable[[str], Made]


PYTORCHCV = """
resnet18 resnet20_cifar10 densenet40_k12_cifar10 mobilenet_w1 mobilenetv2_w1 mobilenetv3_large_w1 shufflenetv2_w1
shufflenet_g1_w1 squeezenet_v1_1 efficientnet_b0 sepreresnet18 vgg16 inceptionv3 regnetx002 ghostnet preresnet18
wrn16_10_cifar10 resnext29_32x4d_cifar10 mnasnet_b1 dla34 hrnet_w18_small_v1 xception nasnet_4a1056
bisenet_resnet18_celebamaskhq fastscnn_cityscapes peleenet igcv3_w1 condensenet74_c4_g4
"""

TORCHVISION = """
alexnet convnext_tiny convnext_small convnext_base convnext_large densenet121 densenet161 densenet169 densenet201
efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4 efficientnet_b5 efficientnet_b6
efficientnet_b7 efficientnet_v2_s efficientnet_v2_m efficientnet_v2_l googlenet inception_v3 maxvit_t mnasnet0_5
mnasnet0_75 mnasnet1_0 mnasnet1_3 mobilenet_v2 mobilenet_v3_small mobilenet_v3_large regnet_x_400mf regnet_x_800mf
regnet_x_1_6gf regnet_x_3_2gf regnet_x_8gf regnet_x_16gf regnet_x_32gf regnet_y_400mf regnet_y_800mf regnet_y_1_6gf
regnet_y_3_2gf regnet_y_8gf regnet_y_16gf regnet_y_32gf resnet18 resnet34 resnet50 resnet101 resnet152 resnext50_32x4d
resnext101_32x8d resnext101_64x4d shufflenet_v2_x0_5 shufflenet_v2_x1_0 shufflenet_v2_x1_5 shufflenet_v2_x2_0
squeezenet1_0 squeezenet1_1 swin_t swin_s swin_b swin_v2_t swin_v2_s swin_v2_b vgg11 vgg11_bn vgg13 vgg13_bn vgg16
vgg16_bn vgg19 vgg19_bn vit_b_16 vit_b_32 vit_l_16 vit_l_32 wide_resnet50_2 wide_resnet101_2
deeplabv3_mobilenet_v3_large deeplabv3_resnet50 deeplabv3_resnet101 fcn_resnet50 fcn_resnet101 lraspp_mobilenet_v3_large
"""
"""Classification and segmentation; of detection the bodies: `DETECTION`."""

DETECTION = """
fasterrcnn_resnet50_fpn fasterrcnn_mobilenet_v3_large_fpn fasterrcnn_mobilenet_v3_large_320_fpn maskrcnn_resnet50_fpn
keypointrcnn_resnet50_fpn retinanet_resnet50_fpn fcos_resnet50_fpn ssd300_vgg16 ssdlite320_mobilenet_v3_large
"""

TIMM = """
beit_base_patch16_224 botnet26t_256 halonet26t lambda_resnet26t bat_resnext26ts gcresnet33ts gernet_s mobileone_s0
regnetz_b16 repvgg_a0 cait_xxs24_224 coat_lite_tiny convit_tiny convmixer_768_32 convnext_atto cpubone_nano
crossvit_9_240 csatv2 cs3darknet_s cspresnet50 cspnext_tiny davit_tiny deit_tiny_patch16_224 densenet121 dla34 dpn48b
edgenext_xx_small efficientformer_l1 efficientformerv2_s0 efficientnet_b0 mnasnet_small mobilenetv2_050 mixnet_s
tinynet_e efficientvim_m1 efficientvit_b0 efficientvit_m0 eva02_tiny_patch14_224 fasternet_t0 fastvit_t8
focalnet_tiny_srf gcvit_xxtiny ghostnet_050 ghostnetv3_050 hardcorenas_a hgnet_tiny hgnetv2_b0 hiera_tiny_224
hrnet_w18_small iformer_t inception_next_atto inception_resnet_v2 inception_v3 inception_v4 lcnet_035 lcnetv2_small
levit_128s lowformer_b0 mambaout_femto coatnet_nano_rw_224 maxvit_nano_rw_256 poolformer_s12 convformer_s18
caformer_s18 mixer_s32_224 gmlp_ti16_224 resmlp_12_224 gmixer_12_224 fbnetv3_b mobilenetv3_small_050
mobilenetv4_conv_small mobilevit_xxs mobilevitv2_050 mvitv2_tiny nest_tiny nextvit_small nf_resnet26 eca_nfnet_l0
nf_regnet_b0 pit_ti_224 pnasnet5large pvt_v2_b0 rdnet_tiny regnetx_002 regnety_002 repghostnet_050 repvit_m0_9
res2net50_26w_4s resnest14d resnet18 resnext50_32x4d resnetv2_50 rexnet_100 selecsls42 legacy_seresnet18
sequencer2d_s shvit_s1 skresnet18 starnet_s050 swiftformer_xs swin_tiny_patch4_window7_224 swinv2_cr_tiny_224
swinv2_tiny_window8_256 tiny_vit_5m_224 tnt_s_patch16_224 tresnet_m twins_svt_small twins_pcpvt_small vgg11
visformer_tiny vit_tiny_patch16_224 vit_small_r26_s32_224 vit_relpos_medium_patch16_224 samvit_base_patch16_224
vitamin_small_224 volo_d1_224 vovnet39a ese_vovnet19b_dw legacy_xception xception41 xcit_nano_12_p16_224
"""
"""One or two of each family."""

SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
DECODER = {**SMALL, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 1000, "pad_token_id": 0}
VISION = {**SMALL, "image_size": 64, "patch_size": 16}
LIKE_BERT = """
bert roberta xlm-roberta camembert electra ernie mpnet convbert roformer nystromformer deberta deberta-v2 layoutlm
megatron-bert roc_bert data2vec-text
"""

TRANSFORMERS: Mapping[str, dict[str, Any]] = {
    **dict.fromkeys(LIKE_BERT.split(), SMALL),
    "albert": {**SMALL, "embedding_size": 32},
    "distilbert": {"dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128},
    "squeezebert": {**SMALL, "embedding_size": 64},
    "mobilebert": {
        **{**SMALL, "intermediate_size": 64},
        **{"embedding_size": 32, "intra_bottleneck_size": 32, "true_hidden_size": 32},
    },
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4},
    "openai-gpt": {"n_embd": 64, "n_layer": 2, "n_head": 4},
    "gpt_neo": {"hidden_size": 64, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]},
    "gpt_neox": SMALL,
    "opt": {**SMALL, "ffn_dim": 128, "word_embed_proj_dim": 64},
    "bloom": {"hidden_size": 64, "n_layer": 2, "n_head": 4},
    **dict.fromkeys(("llama", "mistral", "qwen2", "gemma", "phi", "stablelm", "starcoder2", "olmo"), DECODER),
    **dict.fromkeys(("vit", "deit", "dinov2", "beit", "vit_msn", "data2vec-vision", "clip_vision_model"), VISION),
    "swin": {"image_size": 64, "embed_dim": 32, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4},
    "segformer": {},
    "convnextv2": {"hidden_sizes": [16, 32, 64, 128], "depths": [1, 1, 2, 1], "image_size": 64},
    "wav2vec2": SMALL,
    "hubert": SMALL,
}
"""Type of model -> what of its configuration is made small."""


def _pytorchcv(name: str) -> Made:
    from pytorchcv.model_provider import get_model

    model = get_model(name, pretrained=False)
    return model, (torch.randn(2, 3, *getattr(model, "in_size", (224, 224))),)


def _torchvision(name: str) -> Made:
    from torchvision import models

    if name in DETECTION.split():
        options = {"weights": None, "weights_backbone": None}
        return models.get_model(name, **options).backbone, (torch.randn(2, 3, 320, 320),)
    options = {} if hasattr(models, name) else {"weights_backbone": None}
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = False
    size = {"inception_v3": 299, "swin_v2_t": 256, "swin_v2_s": 256, "swin_v2_b": 256}.get(name, 224)
    return models.get_model(name, weights=None, **options), (torch.randn(2, 3, size, size),)


def _timm(name: str) -> Made:
    import timm

    model = timm.create_model(name, pretrained=False)
    return model, (torch.randn(2, *model.pretrained_cfg["input_size"]),)


class Body(nn.Module):
    """A transformer that returns the last hidden state alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """[n, tokens, width], or [n, width, h, w]."""
        options = {} if x.is_floating_point() else {"use_cache": False}
        takes_cache = getattr(self.model.config, "use_cache", None) is not None and not x.is_floating_point()
        return self.model(x, **(options if takes_cache else {}))[0]


def _transformers(name: str) -> Made:
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.for_model(name, **TRANSFORMERS[name])
    model = Body(AutoModel.from_config(config))
    if hasattr(config, "conv_dim"):
        return model, (torch.randn(2, 4000),)
    if hasattr(config, "vocab_size") and not hasattr(config, "patch_size"):  # BEiT's configuration has both
        return model, (torch.randint(1, 500, (2, 24)),)
    size = getattr(config, "image_size", 64)
    return model, (torch.randn(2, 3, size, size),)


def _shaken(make: Callable[[str], Made]) -> Callable[[str], Made]:
    """The same, in eval mode, norms that are the identity made others: they would hide mistakes."""

    def made(name: str) -> Made:
        torch.manual_seed(0)
        model, inputs = make(name)
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
                    module.running_mean.normal_(0, 0.1)
                    module.running_var.uniform_(0.5, 1.5)
        return model.eval(), inputs

    return made


COLLECTIONS = {
    "pytorchcv": Collection("the `pytorchcv` collection", tuple(PYTORCHCV.split()), _shaken(_pytorchcv)),
    "torchvision": Collection(
        "torchvision: classification, segmentation, and the bodies of detectors",
        tuple((TORCHVISION + DETECTION).split()),
        _shaken(_torchvision),
    ),
    "timm": Collection("timm, one or two of each family", tuple(TIMM.split()), _shaken(_timm)),
    "transformers": Collection(
        "transformers, small, from their configuration", tuple(TRANSFORMERS), _shaken(_transformers)
    ),
}
