"""What other libraries make of the same network on the same calibration images, without labels or training.

    python -m experiments.joint.rivals --data-root DATA --weights WEIGHTS.safetensors [--network resnet20]
        [--only onnxruntime nncf torchao modelopt modelopt_fastnas torch_pruning] [--out FILE.jsonl]

Accuracy on all 10,000 test images, and the seconds that compression took. None of these libraries is a dependency: one
that is not installed, or does not run beside this PyTorch, has a line that says why.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from automl.fit.recalibration import recalibrate
from automl.tasks.batches import Batch
from experiments.joint.one_network import setup_of

Predict = Callable[[Tensor], Tensor]
"""Images, [n, 3, 32, 32] -> scores, [n, classes]."""
Made = Iterator[tuple[str, Predict]]
"""What a library did, and what came of it."""


def exported(network: nn.Module, folder: str, x: Tensor) -> str:
    path = str(Path(folder) / "network.onnx")
    batch = torch.export.Dim("batch", min=1, max=4096)
    torch.onnx.export(network, (x[:2],), path, dynamo=True, dynamic_shapes=({0: batch},), verbose=False)
    return path


def by_onnx_runtime(path: str) -> Predict:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (wanted,) = session.get_inputs()
    return lambda x: torch.from_numpy(session.run(None, {wanted.name: x.numpy()})[0])


def onnxruntime_int8(network: nn.Module, images: list[Tensor], batches: list[Batch]) -> Made:
    from onnxruntime import quantization as q
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(q.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            x = next(self.left, None)
            return None if x is None else {"x": x.numpy()}

    methods = {"min and max": q.CalibrationMethod.MinMax, "entropy": q.CalibrationMethod.Entropy}
    for name, method in methods.items():
        with tempfile.TemporaryDirectory() as folder:
            path = exported(network, folder, images[0])
            quant_pre_process(path, f"{folder}/ready.onnx")
            q.quantize_static(
                f"{folder}/ready.onnx",
                f"{folder}/int8.onnx",
                Reader(),
                per_channel=True,
                activation_type=q.QuantType.QUInt8,
                weight_type=q.QuantType.QInt8,
                calibrate_method=method,
            )
            yield f"static int8, {name}", by_onnx_runtime(f"{folder}/int8.onnx")


def nncf_int8(network: nn.Module, images: list[Tensor], batches: list[Batch]) -> Made:
    import nncf
    import onnx

    # Of the file: the backend for PyTorch compiles an extension first, which takes it longer than it waits.
    with tempfile.TemporaryDirectory() as folder:
        model = onnx.load(exported(network, folder, images[0]))
        fed = nncf.Dataset([{"x": x.numpy()} for x in images])
        onnx.save(nncf.quantize(model, fed, subset_size=len(images)), f"{folder}/int8.onnx")
        yield "quantize, the ONNX file", by_onnx_runtime(f"{folder}/int8.onnx")


def torchao_pt2e(network: nn.Module, images: list[Tensor], batches: list[Batch]) -> Made:
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    batch = torch.export.Dim("batch", min=1, max=4096)
    program = torch.export.export(network, (images[0],), dynamic_shapes=({0: batch},)).module()
    quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    prepared = prepare_pt2e(program, quantizer)
    for x in images:
        prepared(x)
    yield "pt2e int8, for x86", convert_pt2e(prepared)


def modelopt_integers(network: nn.Module, images: list[Tensor], batches: list[Batch]) -> Made:
    import modelopt.torch.quantization as mtq

    def calibrate(model: nn.Module) -> None:
        for x in images:
            model(x)

    for name in ("INT8_DEFAULT_CFG", "INT8_SMOOTHQUANT_CFG"):
        yield name, mtq.quantize(copy.deepcopy(network), copy.deepcopy(getattr(mtq, name)), calibrate)


def modelopt_fastnas(network: nn.Module, images: list[Tensor], batches: list[Batch]) -> Made:
    import modelopt.torch.prune as mtp

    with torch.no_grad():
        wanted = [network(x).log_softmax(1) for x in images]

    def likeness(pruned: nn.Module) -> float:
        with torch.no_grad():
            found = [pruned(x).log_softmax(1) for x in images]
        return -float(nn.functional.kl_div(torch.cat(found), torch.cat(wanted), log_target=True, reduction="batchmean"))

    # By itself it keeps widths to multiples of 32, of which this network has few.
    divisors = {"nn.Conv2d": {"*": {"channel_divisor": 4}}, "nn.BatchNorm2d": {"*": {"feature_divisor": 4}}}
    pruned, _ = mtp.prune(
        copy.deepcopy(network),
        [("fastnas", divisors)],
        {"flops": "50%"},
        images[0][:1],
        {"data_loader": batches, "collect_func": lambda batch: batch[0][0], "score_func": likeness},
    )
    yield "fastnas, channels, 50 % of the FLOPs, norms re-estimated", pruned.eval()


def torch_pruning_channels(network: nn.Module, images: list[Tensor], batches: list[Batch]) -> Made:
    import torch_pruning as tp

    x = images[0][:1]
    whole, _ = tp.utils.count_ops_and_params(network, x)
    kinds = {
        "magnitude, every group alike": (tp.importance.GroupMagnitudeImportance(p=2), False),
        "magnitude, all groups together": (tp.importance.GroupMagnitudeImportance(p=2), True),
        "lamp, all groups together": (tp.importance.LAMPImportance(p=2), True),
    }
    for name, (importance, together) in kinds.items():
        pruned = copy.deepcopy(network)
        ignored = [layer for layer in pruned.modules() if isinstance(layer, nn.Linear)]
        pruner = tp.pruner.BasePruner(
            pruned,
            x,
            importance,
            iterative_steps=50,
            pruning_ratio=0.9,
            ignored_layers=ignored,
            global_pruning=together,
        )
        macs = whole
        while macs > 0.5 * whole:
            pruner.step()
            macs, _ = tp.utils.count_ops_and_params(pruned, x)
        yield f"channels by {name}, {macs / whole:.1%} of the MACs", pruned.eval()
        recalibrate(pruned, batches)
        yield f"channels by {name}, {macs / whole:.1%} of the MACs, norms re-estimated", pruned.eval()


RIVALS = {
    "onnxruntime": onnxruntime_int8,
    "nncf": nncf_int8,
    "torchao": torchao_pt2e,
    "modelopt": modelopt_integers,
    "modelopt_fastnas": modelopt_fastnas,
    "torch_pruning": torch_pruning_channels,
}


def accuracy(predict: Predict, test: list[Batch]) -> float:
    right = total = 0
    with torch.no_grad():
        for (x,), labels in test:
            for images, wanted in zip(x.split(100), labels.split(100), strict=True):
                right += int((predict(images).argmax(1) == wanted).sum())
                total += len(wanted)
    return right / total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--network", default="resnet20")
    parser.add_argument("--only", nargs="+", default=list(RIVALS), choices=list(RIVALS))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    setup = setup_of(arguments.network, arguments.weights, arguments.data_root, {"channels": {}}, "macs <= 99%")
    problem, test = setup.problem, setup.problem.test()
    images = [part for (x,), _ in problem.calibration for part in x.split(100) if len(part) == 100]
    assert problem.recalibration is not None
    batches = problem.recalibration(0)

    def say(line: dict[str, Any]) -> None:
        print(json.dumps(line), flush=True)
        if arguments.out is not None:
            with arguments.out.open("a") as file:
                file.write(json.dumps(line) + "\n")

    for name in arguments.only:
        started = time.process_time()
        try:
            for what, predict in RIVALS[name](copy.deepcopy(problem.model).eval(), images, batches):
                seconds = time.process_time() - started
                line = {"library": name, "what": what, "accuracy": accuracy(predict, test)}
                say({**line, "seconds": round(seconds, 1)})
                started = time.process_time()
        except Exception as error:  # another's library: whatever it is, the others are to run
            say({"library": name, "what": f"did not run: {type(error).__name__}: {str(error)[:300]}"})


if __name__ == "__main__":
    main()
