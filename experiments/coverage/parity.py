"""Every export against its network: the zoo and 40 networks of other people, in every format that is installed.

    python -m experiments.coverage.parity rows.jsonl [--networks torchvision/resnet18 ...] [--formats tflite ...]
        [--table]

Each network is a line of `rows.jsonl`, and what has one is not done again. Untrained weights, batch norms with the
statistics of random inputs. A network is recorded and rebuilt with all that it has, exported as `automl export` does,
and each file is then loaded here once more by the library that it is for, without our readers, and run on batches of 1,
2 and 7 of fresh random inputs. The difference from the original network is the largest absolute one over the largest
absolute value that the network gives, the worst of its outputs. Of 8-bit files, which are written in one scheme (U8S8,
a scale a channel) to save time, it is how often the largest score is of the same class as the network's, on 32 random
inputs; with random weights scores lie close together.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from automl.errors import ExportError, in_a_line
from automl.export import FORMATS, export, integer_onnx, load
from automl.export.subject import largest_difference, run_module
from automl.zoo import create, names
from automl.zoo.hubs.base import let_torchvision_be_imported
from experiments.coverage.collections_of import COLLECTIONS, Made
from search_spaces import Plan, rebuild, trace

NETWORKS: Mapping[str, str] = {
    "pytorchcv": """resnet20_cifar10 densenet40_k12_cifar10 mobilenetv2_w1 shufflenetv2_w1 shufflenet_g1_w1
        squeezenet_v1_1 ghostnet igcv3_w1""",
    "torchvision": """mnasnet0_5 mobilenet_v3_small shufflenet_v2_x0_5 squeezenet1_1 regnet_x_400mf efficientnet_b0
        densenet121 resnet18 googlenet lraspp_mobilenet_v3_large""",
    "timm": """tinynet_e mobilenetv3_small_050 ghostnet_050 mobileone_s0 convnext_atto vit_tiny_patch16_224 levit_128s
        edgenext_xx_small mobilevit_xxs efficientvit_m0 xcit_nano_12_p16_224 pit_ti_224""",
    "transformers": "bert albert distilbert gpt2 llama vit swin segformer convnextv2 wav2vec2",
}
"""Forty small ones of the lists, of many kinds."""
KINDS = [name for name, kind in FORMATS.items() if kind.installed]
"""The formats that can be written here."""
BATCHES = (1, 2, 7)
SAMPLES = 32
"""Random inputs on which classes are compared."""
CALIBRATION = 16
PARITY = 1e-4


def made(name: str) -> Made:
    """A network in eval mode, and its inputs for two samples."""
    collection, _, network = name.partition("/")
    if collection != "zoo":
        model, inputs = COLLECTIONS[collection].make(network)
    else:
        torch.manual_seed(0)
        channels, size = (1, 8) if network == "small_cnn" else (3, 32)
        model, inputs = create(network), (torch.randn(2, channels, size, size),)
    settle(model, inputs)
    return model, inputs


def settle(model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Give batch norms the statistics of random inputs: with others a deep network gives the same for every input."""
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()
            module.reset_running_stats()
            module.momentum = None
    with torch.no_grad():
        model(*samples(inputs, CALIBRATION))
    model.eval()


def samples(like: Sequence[Tensor], n: int) -> tuple[Tensor, ...]:
    """Random inputs of `n` samples, of the shapes of `like`: normal numbers, or tokens."""
    return tuple(
        torch.randn(n, *x.shape[1:]) if x.is_floating_point() else torch.randint(1, 500, (n, *x.shape[1:]))
        for x in like
    )


Run = Callable[[tuple[Tensor, ...]], list[Tensor]]


def of_onnx(path: Path) -> Run:
    """An ONNX file in ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = [one.name for one in session.get_inputs()]
    return lambda x: [
        torch.from_numpy(out) for out in session.run(None, dict(zip(inputs, map(Tensor.numpy, x), strict=True)))
    ]


def of_openvino(path: Path) -> Run:
    """An IR in OpenVINO, in float32."""
    import openvino

    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda x: [torch.from_numpy(out.copy()) for out in compiled([one.numpy() for one in x]).values()]


def of_executorch(path: Path) -> Run:
    """A program in ExecuTorch's runtime."""
    from executorch.runtime import Runtime

    method = Runtime.get().load_program(path).load_method("forward")
    return lambda x: list(method.execute(list(x)))


def of_tflite(path: Path) -> Run:
    """A program in LiteRT's interpreter, sample by sample; all inputs have one each."""
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(str(path)).get_signature_runner()
    types = {name: told["dtype"] for name, told in run.get_input_details().items()}
    names = [f"output_{i}" for i in range(len(run.get_output_details()))]

    def of_one(x: Sequence[Tensor]) -> list[Tensor]:
        found = run(**{f"args_{i}": one.numpy().astype(types[f"args_{i}"]) for i, one in enumerate(x)})
        return [torch.from_numpy(found[name]) for name in names]

    def of_all(x: Sequence[Tensor]) -> list[Tensor]:
        each = zip(*(one.split(1) for one in x), strict=True)
        return [torch.cat(parts) for parts in zip(*map(of_one, each), strict=True)]

    return of_all


def loaded(name: str, folder: Path, original: nn.Module) -> Run:
    """What runs the file of a format."""
    path = folder / FORMATS[name].file
    if name == "safetensors":
        network = load(folder, original)
        return lambda x: run_module(network, x)
    if name == "pt2":
        module = torch.export.load(path).module()
        return lambda x: run_module(module, x)
    others = {"openvino": of_openvino, "executorch": of_executorch, "tflite": of_tflite, "tflite-int8": of_tflite}
    return others.get(name, of_onnx)(path)


def exported(network: nn.Module, inputs: tuple[Tensor, ...], folder: Path, kinds: Sequence[str]) -> dict[str, str]:
    """Export in all these formats, or one by one if not all can be; format -> why it was refused."""
    calibration = [samples(inputs, CALIBRATION)]
    told: dict[str, Any] = {"manifest": {}, "calibration": calibration}
    try:
        export(network, inputs, Plan(), folder, kinds, **told)
        return {}
    except ExportError:
        refused = {}
        for name in kinds:
            try:
                export(network, inputs, Plan(), folder / name, [name], **told)
            except ExportError as error:
                refused[name] = str(error)
        return refused


def row_of(name: str, kinds: Sequence[str]) -> dict[str, Any]:
    """What became of a network in each of these formats."""
    network, inputs = made(name)
    start, found = time.process_time(), {}
    rebuilt = rebuild(trace(network, inputs), Plan())  # what a study that keeps everything hands over
    with tempfile.TemporaryDirectory() as out:
        refused = exported(rebuilt.eval(), inputs, Path(out), kinds)
        for kind in kinds:
            if kind in refused:
                found[kind] = {"refused": refused[kind]}
                continue
            folder = Path(out) / kind if refused else Path(out)
            found[kind] = compared(kind, loaded(kind, folder, network), network, inputs)
    parameters = sum(p.numel() for p in network.parameters())
    return {"network": name, "parameters": parameters, "seconds": time.process_time() - start, "formats": found}


def compared(kind: str, run: Run, network: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, Any]:
    """How far a file is from the network: on batches of several sizes, or by the class of each sample."""
    torch.manual_seed(1)
    if kind.endswith("-int8"):
        x = samples(inputs, SAMPLES)
        got, expected = run(x)[0], run_module(network, x)[0]
        same = (got.argmax(1) == expected.argmax(1)).double().mean().item()
        classes = expected.ndim in (2, 4)  # of a sample or of each pixel; a transformer's [n, tokens, width] has none
        return {"mean_error": integer_onnx.mean_error([got], [expected]), "agreement": same if classes else None}
    batches = [samples(inputs, n) for n in BATCHES]
    expected = [run_module(network, x) for x in batches]
    return {
        "difference": max(largest_difference(run(x), made) for x, made in zip(batches, expected, strict=True)),
        "varies": varies(expected[-1]),
    }


def varies(outputs: Sequence[Tensor]) -> float:
    """By how much outputs differ from sample to sample, in the largest, relative to the largest value."""
    return min(float((out.amax(0) - out.amin(0)).max() / out.abs().max()) for out in outputs)


def tried(name: str, kinds: Sequence[str]) -> dict[str, Any]:
    """The row of a network, or why there is none."""
    try:
        return row_of(name, kinds)
    except Exception as error:  # the libraries raise whatever they like
        return {"network": name, "failed": f"{type(error).__name__}: {in_a_line(error)}"}


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: what became of the networks, a row a format, and what was refused or is farther than it should be."""
    done = [row for row in rows if "formats" in row]
    lines = [f"{len(done)} networks.", "", "| format | equal | farther | refused | worst |", "|" + " --- |" * 5]
    notes = [f"- {row['network']}: {row['failed']}" for row in rows if "failed" in row]
    for kind in FORMATS:
        cells = {row["network"]: row["formats"][kind] for row in done if kind in row["formats"]}
        refused = {name: cell["refused"] for name, cell in cells.items() if "refused" in cell}
        apart = {name: cell["difference"] for name, cell in cells.items() if "difference" in cell}
        far = {name: value for name, value in apart.items() if not value <= PARITY}
        notes += [f"- {name}, {kind}: {why}" for name, why in [*refused.items(), *far.items()]]
        if apart:
            worst = max(apart, key=lambda name: apart[name])
            told = f"{apart[worst]:.1e} ({worst})"
            lines.append(f"| {kind} | {len(apart) - len(far)} | {len(far)} | {len(refused)} | {told} |")
        integers = [cell for cell in cells.values() if "mean_error" in cell]
        if integers:
            same = sorted(cell["agreement"] for cell in integers if cell["agreement"] is not None)
            errors = sorted(cell["mean_error"] for cell in integers)
            told = f"same class {same[0]:.0%} to {same[-1]:.0%}, median {same[len(same) // 2]:.0%}, of {len(same)}"
            told += f"; mean error {errors[0]:.1%} to {errors[-1]:.1%}, median {errors[len(errors) // 2]:.1%}"
            lines.append(f"| {kind} | {len(integers)} written | | {len(refused)} | {told} |")
    return "\n".join([*lines, "", *notes])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--networks", nargs="+", help="COLLECTION/NAME, or zoo/NAME (default: all)")
    parser.add_argument("--formats", nargs="+", choices=KINDS, default=KINDS, help="(default: all installed)")
    parser.add_argument("--table", action="store_true", help="print the table of what there is")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    let_torchvision_be_imported()
    integer_onnx.SCHEMES = integer_onnx.SCHEMES[:1]
    lines = args.rows.read_text(encoding="utf-8").splitlines() if args.rows.exists() else []
    rows = {row["network"]: row for row in map(json.loads, lines)}
    listed = [f"{collection}/{name}" for collection, text in NETWORKS.items() for name in text.split()]
    all_networks = [*(f"zoo/{name}" for name in names()), *listed]
    for name in [] if args.table else args.networks or all_networks:
        if name not in rows:
            rows[name] = tried(name, args.formats)
            with args.rows.open("a", encoding="utf-8") as file:
                print(json.dumps(rows[name]), file=file)
            print(json.dumps(rows[name]), flush=True)
    print(table(list(rows.values())))


if __name__ == "__main__":
    main()
