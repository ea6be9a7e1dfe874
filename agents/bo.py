"""Bayesian optimisation with BoTorch (Balandat et al. 2020, arXiv 1910.06403): a Gaussian process over architectures.

What is known of a network before it is tried are its bits (blocks, skips, a bit a level of each choice), its keep
fractions, and what they come to:
each cost as a part of the original's, the part of its bits that are set, and the mean keep fraction. The kernel is

    s1 * exp(-Hamming(bits) / (2 l^2)) * Matern_5/2(keeps) + s2 * Matern_5/2(what they come to)

with one length-scale for all bits (many, seldom flipped: one each is not learnt from a hundred trials) and one for each
keep fraction, under priors that grow with their number (Hvarfner et al. 2024, arXiv 2402.02229). The second term knows
that a network of half the size is worth less, wherever it lost the rest. All is fitted by maximum a posteriori to
standardised utilities, anew from the same start whenever more has been told, and only when a proposal needs it: so a
history told again is learnt from once. `agents.evidence` computes what is fitted in a fifth of GPyTorch's time.

The first Point is the uniform one on the budget, which needs no search and is often near to better ones; the second,
where there are error curves, the exact allocation by them (`agents.allocation`). A few random ones follow. Then a
proposal maximises the logarithm of the expected improvement over candidates drawn as in `agents.candidates`, which keep
the limits. Where trials are running, it is what the candidate adds to the best of what is known and of what they may
turn out to be worth, on average over draws of that (Snoek et al. 2012, section 3.2), so that Points asked for together
keep apart. This is BoTorch's joint improvement (qLogEI with pending points) less that of the pending points alone,
which is the same for all candidates. A candidate's part is in closed form, so that what is pending adds no noise to it,
and one posterior serves all candidates, where BoTorch computes one for each in two to four times the time.

With the option `front` the objective and the load, the largest of cost / limit, are two goals, as for `nsga2`. Then a
proposal maximises the logarithm of the expected hypervolume that a candidate adds to the noisy front (Daulton et al.
2021, arXiv 2105.08195; on a logarithmic scale Ament et al. 2023, arXiv 2310.20708), BoTorch's qLogNEHVI. The load is
computed, not modelled. What is pending counts as part of the front, draw by draw. The random Points are on random parts
of the budget, the front is what is mutated, and candidates are not filled up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from scipy.special import logsumexp

from agents.allocation import Allocator
from agents.bayesian import one_hot
from agents.candidates import Acquisition
from agents.errors import AgentError
from agents.evidence import Evidence
from agents.front import Load, dominators, random_load_point
from agents.improvement import log_expected_improvement
from agents.networks import one_thread
from agents.surrogate import Surrogate, SurrogateOptions, standardised
from agents.types import Task
from agents.uniform import uniform_point
from search_spaces import Point

if TYPE_CHECKING:
    from botorch.models import SingleTaskGP
    from gpytorch.kernels import Kernel

DRAWS = 64
"""Of what the running trials may turn out to be worth."""

FIT_STEPS = 40
"""Steps of L-BFGS at most."""

JITTER = 1e-6
"""Least variance, of standardised utilities."""

WORST_LOAD = 1.1
"""Where the hypervolume ends, so that a Point that uses the budget up has some too. It begins at the worst utility."""

BASELINE = 64
"""How many told Points may be on the noisy front: those that the fewest others dominate."""

CHUNK = 128
"""Candidates whose joint posterior with the baseline is computed at a time."""


@dataclass(frozen=True)
class BoOptions(SurrogateOptions):
    """What may be set."""

    front: bool = False
    """Whether the front between the objective and the load is looked for, not only the best on the budget."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.front, bool):
            raise AgentError(f"option 'front': expected true or false, got {self.front!r}")


class Bo(Surrogate):
    """The candidate of the largest expected improvement under a Gaussian process."""

    Options: ClassVar[type] = BoOptions
    uses_sensitivity: ClassVar[bool] = True

    def __init__(self, task: Task, options: BoOptions) -> None:
        super().__init__(task, options)
        self.encoder = Encoder(task)
        self.sensitivity = task.sensitivity
        self.load = Load(self.space, self.limits) if options.front else None
        if self.load is not None:
            self.random, self.fills_budget = random_load_point, False
        self._fitted: tuple[int, SingleTaskGP] | None = None

    def acquisition(self, number: int, pending: Sequence[Point], rng: np.random.Generator) -> Acquisition:
        """The expected improvement on the best Point told, or on the front, and on what is pending."""
        return _LogEI(self, pending, rng) if self.load is None else _LogNEHVI(self, self.load, pending, rng)

    def first(self, number: int, rng: np.random.Generator) -> Iterator[Point]:
        """The uniform Point, then the allocation by error curves, then random ones."""
        if number == 0:
            yield uniform_point(self.space, self.limits)
        if number == 1 and self.sensitivity is not None and self.limits:  # else the allocation is the original
            yield Allocator(self.space, self.limits, self.sensitivity).plain()
        yield from super().first(number, rng)

    def parents(self) -> list[Point]:
        """The best trials, or the front, and those that few others dominate."""
        if self.load is None:
            return super().parents()
        dominated, order = self._ranked(self.load)
        return [self.learnt[i][0] for i in order[: max(self.incumbents, np.count_nonzero(dominated == 0))]]

    def _ranked(self, load: Load) -> tuple[np.ndarray, np.ndarray]:
        """By how many others each told Point is dominated, and their order by that, then by utility: [n] both."""
        utilities = np.array([utility for _, utility in self.learnt])
        dominated = dominators(utilities, [load(point) for point, _ in self.learnt])
        return dominated, np.lexsort((-utilities, dominated))

    def model(self) -> SingleTaskGP:
        """The process fitted to all that has been told; its outcome is the standardised utility."""
        if self._fitted is None or self._fitted[0] != self.told:
            points, utilities = zip(*self.learnt, strict=True)
            with one_thread():
                self._fitted = self.told, self._fit(self.encoder(points), standardised(utilities))
        return self._fitted[1]

    def posterior(self, points: Sequence[Point]) -> tuple[np.ndarray, np.ndarray]:
        """Mean [n] and covariance [n, n] of the standardised utilities, without the noise of observation."""
        model = self.model()
        with one_thread(), torch.no_grad():
            found = model(torch.from_numpy(self.encoder(points)))
            return found.mean.numpy(), found.covariance_matrix.numpy()

    def _fit(self, x: np.ndarray, y: np.ndarray) -> SingleTaskGP:
        """`x`: [n, n_columns], `y`: [n]."""
        from botorch.models import SingleTaskGP
        from botorch.optim.fit import fit_gpytorch_mll_scipy
        from gpytorch.mlls import ExactMarginalLogLikelihood

        model = SingleTaskGP(
            torch.from_numpy(x),
            torch.from_numpy(y)[:, None],
            covar_module=self.encoder.kernel(),
            outcome_transform=None,
        )
        # Straight to the optimiser: BoTorch's wrapper starts again from draws of the global generator if it fails.
        likelihood = ExactMarginalLogLikelihood(model.likelihood, model)
        evidence = Evidence(likelihood, self.encoder.columns)
        fit_gpytorch_mll_scipy(likelihood, closure=evidence, options={"maxiter": FIT_STEPS})
        fitted: SingleTaskGP = likelihood.eval().model
        return fitted


class Encoder:
    """Points as rows of numbers in [0, 1]: bits, keep fractions, and what they come to."""

    def __init__(self, task: Task) -> None:
        self.space, knobs = task.space, task.space.knobs
        free = [t for t, knob in enumerate(knobs) if len(knob.levels) > 1]
        self.bits = [t for t in free if knobs[t].is_bit]
        self.choices = [t for t in free if knobs[t].kind == "choice"]
        self.widths = [t for t in free if t not in self.bits and t not in self.choices]
        self.low = np.array([knob.levels[0] for knob in knobs])
        self.span = np.array([max(knob.levels[-1] - knob.levels[0], 1) for knob in knobs])
        whole = self.space.point([knob.levels[-1] for knob in knobs])
        self.units = {metric: self.space.cost(whole, metric) or 1.0 for metric in self.space.metrics}

    @property
    def n_bits(self) -> int:
        """Columns of zeros and ones: bits, and one a level of each choice."""
        return len(self.bits) + sum(len(self.space.knobs[t].levels) for t in self.choices)

    @property
    def costs(self) -> dict[str, int]:
        """The column of each cost, a part of its unit."""
        return {metric: self.n_bits + len(self.widths) + i for i, metric in enumerate(self.space.metrics)}

    @property
    def columns(self) -> dict[str, slice]:
        """The columns of bits, of keep fractions and of what they come to, the first two where there are any."""
        ends = [0, self.n_bits, self.n_bits + len(self.widths), self.n_bits + len(self.widths) + len(self.units) + 2]
        found = {name: slice(*ends[i : i + 2]) for i, name in enumerate(("bits", "keeps", "sums"))}
        return {name: which for name, which in found.items() if which.start < which.stop}

    def __call__(self, points: Sequence[Point]) -> np.ndarray:
        """[n, n_bits + n_widths + n_metrics + 2]."""
        levels = np.array([[point[knob.name] for knob in self.space.knobs] for point in points])
        x = (levels - self.low) / self.span
        bits, widths = x[:, self.bits], x[:, self.widths]
        chosen = self._chosen(levels) if self.choices else []
        costs = [self.space.costs_of_levels(levels, metric) / unit for metric, unit in self.units.items()]
        means = [part.mean(axis=1) if part.shape[1] else np.ones(len(points)) for part in (bits, widths)]
        return np.column_stack([bits, *chosen, widths, *costs, *means])

    def _chosen(self, levels: np.ndarray) -> list[np.ndarray]:
        """A column a level of each choice, zeros where it makes no difference: n_choices times [n, n_levels]."""
        active = np.stack([self.space.active(row) for row in levels])
        return [one_hot(self.space.knobs[t], levels[:, t], active[:, t]) for t in self.choices]

    def kernel(self) -> Kernel:
        """The kernel on such rows, with its priors."""
        from botorch.models.utils.gpytorch_modules import get_covar_module_with_dim_scaled_prior as kernel_with_prior
        from gpytorch.kernels import RBFKernel, ScaleKernel
        from gpytorch.priors import GammaPrior, LogNormalPrior

        columns = {name: list(range(which.start, which.stop)) for name, which in self.columns.items()}
        choices: list[Kernel] = []
        if bits := columns.get("bits"):  # of zeros and ones the squared distance is the Hamming distance
            prior = LogNormalPrior(np.sqrt(2) + np.log(len(bits)) / 2, np.sqrt(3))
            choices.append(RBFKernel(lengthscale_prior=prior, active_dims=bits))
        if keeps := columns.get("keeps"):
            choices.append(kernel_with_prior(len(keeps), use_rbf_kernel=False, active_dims=keeps))
        totals = kernel_with_prior(len(columns["sums"]), use_rbf_kernel=False, active_dims=columns["sums"])
        product = choices[0] if len(choices) == 1 else choices[0] * choices[1]
        first, second = (ScaleKernel(part, outputscale_prior=GammaPrior(2.0, 4.0)) for part in (product, totals))
        for scaled in (first, second):
            scaled.outputscale = 0.5
        return first + second


class _LogEI:
    """What each of some Points is expected to add to the best, given what those pending may add; a logarithm."""

    def __init__(self, agent: Bo, pending: Sequence[Point], rng: np.random.Generator) -> None:
        self.agent, self.pending = agent, list(pending)
        self.best = float(max(standardised([utility for _, utility in agent.learnt])))
        self.normal = rng.standard_normal((DRAWS if pending else 1, len(self.pending)))  # [n_draws, n_pending]

    def __call__(self, points: Sequence[Point]) -> np.ndarray:
        """[n]."""
        mean, covariance = self.agent.posterior([*self.pending, *points])
        m = len(self.pending)
        root = np.linalg.cholesky(covariance[:m, :m] + JITTER * np.eye(m))
        drawn = mean[:m] + self.normal @ root.T  # [n_draws, n_pending]
        # Given a draw, a candidate is normal again: its mean moves along, its variance is less by what they share.
        shared = np.linalg.solve(root, covariance[:m, m:])  # [n_pending, n]
        moved = mean[m:] + self.normal @ shared  # [n_draws, n]
        left = np.sqrt(np.maximum(np.diag(covariance)[m:] - (shared**2).sum(axis=0), JITTER))  # [n]
        best = np.maximum(drawn.max(axis=1, initial=-np.inf), self.best)  # [n_draws]
        each = log_expected_improvement(moved, left, best[:, None])
        promised: np.ndarray = logsumexp(each, axis=0) - np.log(len(each))
        return promised


class _LogNEHVI:
    """What each of some Points is expected to add to the hypervolume of the front of what is known; a logarithm."""

    def __init__(self, agent: Bo, load: Load, pending: Sequence[Point], rng: np.random.Generator) -> None:
        from botorch.acquisition.multi_objective import logei
        from botorch.acquisition.multi_objective.objective import GenericMCMultiOutputObjective
        from botorch.sampling.normal import SobolQMCNormalSampler

        # BoTorch would compile a C++ kernel at its first use, under a lock in the home directory which a killed process
        # leaves behind: every later process would wait for it for ever. What is already "attempted" is not compiled.
        logei._load_attempted = True
        self.encoder = agent.encoder
        utilities = standardised([utility for _, utility in agent.learnt])
        baseline = [agent.learnt[i][0] for i in agent._ranked(load)[1][:BASELINE]]
        columns, units = agent.encoder.costs, agent.encoder.units
        parts = torch.tensor([units[metric] / unit for metric, unit in load.units.items()], dtype=torch.float64)

        def both(samples: torch.Tensor, X: torch.Tensor | None = None) -> torch.Tensor:  # noqa: N803
            """Utility and lack of load: `samples` [..., n, 1] and `X` [n, n_columns] or batches of it, [..., n, 2]."""
            assert X is not None  # the acquisition always gives it
            loads = (X[..., [columns[metric] for metric in load.units]] * parts).amax(dim=-1)
            return torch.cat([samples, -loads.expand(samples.shape[:-1])[..., None]], dim=-1)

        model = agent.model()
        with one_thread(), torch.no_grad():
            self.acquisition = logei.qLogNoisyExpectedHypervolumeImprovement(
                model,
                [float(utilities.min()), -WORST_LOAD],
                self._rows(baseline),
                sampler=SobolQMCNormalSampler(torch.Size([DRAWS]), seed=int(rng.integers(2**31))),
                objective=GenericMCMultiOutputObjective(both),
                X_pending=self._rows(pending) if pending else None,
            )

    def __call__(self, points: Sequence[Point]) -> np.ndarray:
        """[n]."""
        rows = self._rows(points)[:, None]
        with one_thread(), torch.no_grad():
            return torch.cat([self.acquisition(chunk) for chunk in rows.split(CHUNK)]).numpy()

    def _rows(self, points: Sequence[Point]) -> torch.Tensor:
        return torch.from_numpy(self.encoder(points))
