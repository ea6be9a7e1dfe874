"""A training by several processes of Ray Train, each with a part of every batch (`automl.training.team`).

Ray Train starts the processes, joins them in one group of PyTorch's, and starts all again if one dies: the training
goes on from its last epoch. What is trained travels to them pickled, functions and all, and comes back by an actor.
"""

from __future__ import annotations

import contextlib
import pickle
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from automl.runners.ray_cluster import start

# isort: split
import ray
import torch
from ray import train as ray_train
from ray.train import UserCallback
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from torch import nn

from automl.config.training import TrainingOptions
from automl.errors import AutomlError, StudyError
from automl.training.epochs import Data
from automl.training.history import History
from automl.training.loss import Loss
from automl.training.team import Group
from automl.training.trainer import train
from automl.types import Say, silent
from automl.util.post import Post

RESTARTS = 2
"""How often a training goes on after one of its workers died."""
PATIENCE_S = 24 * 3600
"""For so long the others wait while the first validates."""
EVERY_S = 0.3
"""Between two looks at what the workers say."""


def train_together(
    network: nn.Module,
    data: Data,
    loss: Loss,
    options: TrainingOptions,
    *,
    checkpoint: Path | None = None,
    say: Say = silent,
    **more: Any,
) -> History:
    """Train `network` in place as `automl.training.trainer.train` does, by `options.workers` processes.

    Without a `checkpoint` one is kept for as long as the training lasts. `more`: the rest of what `train` takes, which
    is copied to the workers: methods know nothing of the training afterwards. `StudyError` where workers keep dying;
    errors of the training as they are.
    """
    with _cluster(options.workers), tempfile.TemporaryDirectory() as folder:
        _require_places(options)
        post: Any = ray.remote(num_cpus=0)(Post).remote()
        ends: Any = _EndsOnErrors(post)
        file = checkpoint or Path(folder) / "checkpoint"
        job = ray.put((network, data, loss, options, {**more, "checkpoint": file.absolute()}))
        threads = max(1, torch.get_num_threads() // options.workers)
        trainer = TorchTrainer(
            _work,
            train_loop_config={"job": [job], "post": post, "threads": threads},
            torch_config=TorchConfig(backend=None if _on_cuda(options) else "gloo", timeout_s=PATIENCE_S),
            scaling_config=ray_train.ScalingConfig(num_workers=options.workers, use_gpu=_on_cuda(options)),
            run_config=ray_train.RunConfig(
                storage_path=folder,
                failure_config=ray_train.FailureConfig(max_failures=RESTARTS),
                callbacks=[ends],
            ),
        )
        failure: Exception | None = None
        with _passing_on(post, say), _interrupted():
            try:
                trainer.fit()
            except Exception as error:  # Ray's, whatever the cause
                failure = error
        found, told = ray.get(post.result.remote())
    if told is not None:
        raise told
    if found is None:
        raise StudyError(
            f"a training by {options.workers} workers ended without a result: {' '.join(str(failure).split())[-500:]}. "
            f"Run the study again to go on from its last epoch, or set workers to 1"
        )
    state, history = pickle.loads(found)
    network.cpu().eval().load_state_dict(state)
    result: History = history
    return result


@contextlib.contextmanager
def _interrupted() -> Iterator[None]:
    """A block that Ctrl-C ends as any other, and after which it is heard as before.

    Ray Train hears it itself, ends its workers, then the process by `sys.exit(0)`, and leaves its handler behind.
    """
    if threading.current_thread() is not threading.main_thread():  # where no signal arrives
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGINT, before)


def _on_cuda(options: TrainingOptions) -> bool:
    return options.device != "cpu" and torch.cuda.is_available()


def _require_places(options: TrainingOptions) -> None:
    """Fail at once where workers would wait for ever."""
    kind = "GPU" if _on_cuda(options) else "CPU"
    there = ray.cluster_resources().get(kind, 0)
    if there < options.workers:
        raise StudyError(
            f"a training by {options.workers} workers takes {options.workers} {kind}s, and the Ray cluster has "
            f"{there:g}: lower workers, or join a larger cluster"
        )


@contextlib.contextmanager
def _cluster(workers: int) -> Iterator[None]:
    """A block in which there is a Ray cluster: the one that is there, or one of its own."""
    if ray.is_initialized():
        yield
        return
    start(workers + 1)  # Ray Train's own process has one too
    try:
        yield
    finally:
        ray.shutdown()


def _work(config: Mapping[str, Any]) -> None:
    """What each worker does."""
    post, (job,) = config["post"], config["job"]
    network, data, loss, options, more = ray.get(job)
    torch.set_num_threads(config["threads"])
    if _on_cuda(options):
        torch.cuda.set_device(get_device())
    team = Group()
    try:
        history = train(network, data, loss, options, team=team, say=lambda text: post.say.remote(text), **more)
    except AutomlError as error:
        ray.get(post.fail.remote(error))
        raise  # Ray Train ends the others, which wait for this one
    if team.rank == 0:
        ray.get(post.deliver.remote(pickle.dumps((network.state_dict(), history))))


class _EndsOnErrors(UserCallback):
    """Ends a training that has failed by an error of its own: started again, it would fail again."""

    def __init__(self, post: Any) -> None:
        self.post = post

    def after_exception(self, run_context: Any, worker_exceptions: Any) -> None:
        """Raise where it was an error and no worker's death: what a callback raises, Ray Train takes for the end."""
        if (error := ray.get(self.post.result.remote())[1]) is not None:
            raise error


@contextlib.contextmanager
def _passing_on(post: Any, say: Say) -> Iterator[None]:
    """A block during which what workers say is said here."""
    over = threading.Event()

    def listen() -> None:
        while not over.wait(EVERY_S):
            for text in ray.get(post.said.remote()):
                say(text)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield
    finally:
        over.set()
        listener.join()
        for text in ray.get(post.said.remote()):
            say(text)
