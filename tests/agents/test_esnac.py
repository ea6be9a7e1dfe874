"""ESNAC: the closed form is the brute force, a padded batch is one by one, kernels learn and differ."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, spearmanr

import agents
from agents import AgentError, Goal
from agents.embedding import Embedding, Padded, kernel, leave_one_out, noisy, predict, train
from agents.esnac import PAPER
from agents.random_search import random_point
from agents.surrogate import standardised
from automl.testing.agent_kit import AgentConformance, done
from automl.testing.toy_space import ToySpace, toy_problem


class TestEsnac(AgentConformance):
    agent_name = "esnac"
    options = {"startup": 10, "candidates": 64, "steps": 3, "hidden": 4}


def create(problem, seed=0, **options):
    goal, limits = Goal("accuracy", "maximize"), problem.limits
    return agents.create("esnac", space=problem.space, goal=goal, limits=limits, seed=seed, trials=60, **options)


def sequences(n, columns=5, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.random((int(rng.integers(3, 9)), columns)).astype(np.float32) for _ in range(n)]


def test_leave_one_out_in_closed_form_is_leaving_out_one_by_one():
    rng = np.random.default_rng(0)
    root, y = rng.normal(size=(7, 7)), rng.normal(size=7)
    covariance = root @ root.T + 0.1 * np.eye(7)
    ours = leave_one_out(torch.from_numpy(covariance), torch.from_numpy(y)).numpy()
    for i in range(7):
        rest = np.delete(np.arange(7), i)
        weights = np.linalg.solve(covariance[np.ix_(rest, rest)], covariance[rest, i])
        mean, variance = weights @ y[rest], covariance[i, i] - weights @ covariance[rest, i]
        assert ours[i] == pytest.approx(multivariate_normal.logpdf(y[i], mean, variance), abs=1e-9)


def test_a_padded_batch_is_one_by_one():
    embedding, rows = Embedding(5, 6, 2, np.random.default_rng(0)), sequences(8)
    with torch.no_grad():
        together = embedding(Padded(rows))
        alone = torch.cat([embedding(Padded([one])) for one in rows])
    assert torch.allclose(together, alone, atol=1e-6)
    assert torch.allclose(together.norm(dim=1), torch.ones(8))


def test_both_directions_are_read():
    """Turned round, a sequence is another; with the two LSTMs alike it is the same with its halves exchanged."""
    embedding, rows = Embedding(5, 6, 1, np.random.default_rng(0)), sequences(1)
    turned = [rows[0][::-1].copy()]
    with torch.no_grad():
        assert not torch.allclose(embedding(Padded(rows)), embedding(Padded(turned)), atol=1e-3)
        embedding.directions[1].load_state_dict(embedding.directions[0].state_dict())
        there, back = embedding(Padded(rows))[0], embedding(Padded(turned))[0]
    assert torch.allclose(there, back.roll(6), atol=1e-6)


def test_a_network_of_which_nothing_is_left_has_an_embedding():
    embedding = Embedding(5, 6, 1, np.random.default_rng(0))
    with torch.no_grad():
        out = embedding(Padded([np.zeros((0, 5), np.float32), sequences(1)[0]]))
    assert out.isfinite().all() and out.norm(dim=1).allclose(torch.ones(2))


def test_predictions_are_those_of_the_process():
    rng = np.random.default_rng(0)
    drawn = torch.from_numpy(rng.normal([3, 0, 0], 0.3, (10, 3)))
    known, new = torch.nn.functional.normalize(drawn, dim=1).split([6, 4])
    y = torch.from_numpy(rng.normal(size=6))
    mean, sigma = predict(known, y, new)
    distances = np.square(known.numpy()[:, None] - new.numpy()).sum(-1)
    across = np.exp(-distances / (2 * 0.01))
    inverse = np.linalg.inv(noisy(kernel(known, known)).numpy())
    assert mean == pytest.approx(across.T @ inverse @ y.numpy())
    assert sigma**2 == pytest.approx(1 - np.einsum("in,ij,jn->n", across, inverse, across))


def test_training_teaches_the_kernel_what_matters():
    """Which networks are worth more is predicted for unseen ones: rank correlation above 0.8, and not before."""
    problem, rng = toy_problem(), np.random.default_rng(0)
    points = [random_point(problem.space, {}, rng) for _ in range(160)]
    batch = Padded([problem.space.sequence(point) for point in points[:60]])
    unseen = Padded([problem.space.sequence(point) for point in points[60:]])
    y = torch.from_numpy(standardised([problem(point) for point in points[:60]]))
    embedding = Embedding(9, 16, 1, rng)

    def correlation():
        with torch.no_grad():
            mean, _ = predict(embedding(batch), y, embedding(unseen))
        return spearmanr(mean, [problem(point) for point in points[60:]]).statistic

    course = train(embedding, batch, y, steps=40, lr=0.03, weight_decay=5e-4)
    assert course[-1] > course[0] + 1
    assert correlation() > 0.8


def test_training_stops_where_the_likelihood_does():
    embedding, batch = Embedding(5, 4, 1, np.random.default_rng(0)), Padded(sequences(6))
    assert len(train(embedding, batch, torch.zeros(6).double(), steps=50, lr=0.0, weight_decay=0.0)) == 2


def test_each_trial_has_a_kernel_of_its_own_on_its_own_half():
    problem = toy_problem()
    agent, rng = create(problem, candidates=20, steps=1, startup=5), np.random.default_rng(0)
    points = [random_point(problem.space, problem.limits, rng) for _ in range(40)]
    agent.tell([done(number, point, problem(point)) for number, point in enumerate(points)])
    assert not agent._kernels
    agent.ask(4, [])
    kernels = [agent._kernels[40, number] for number in range(40, 44)]
    assert all(8 <= len(kernel.y) <= 32 for kernel in kernels)
    assert len({kernel.best for kernel in kernels} | {len(kernel.y) for kernel in kernels}) > 2
    agent.ask(2, [])
    assert agent._kernels[40, 40] is kernels[0]


def test_a_few_observations_are_all_learnt_from():
    problem = toy_problem()
    agent = create(problem, startup=2, candidates=20, steps=2, hidden=4)
    for number in range(6):
        point = agent.ask(1, [])[0]
        agent.tell([done(number, point, problem(point))])
    assert len(agent.learnt) == 6


def test_the_papers_options_are_options():
    agents.check_options("esnac", PAPER)
    for option, value in (("layers", 0), ("lr", float("nan")), ("weight_decay", -1.0), ("lr", True)):
        with pytest.raises(AgentError, match=f"option '{option}': expected .*, got {value!r}"):
            agents.check_options("esnac", {option: value})


def test_a_space_tells_its_sequence_alike_every_time():
    space = ToySpace()
    point = space.decode(np.full(6, 0.5))
    assert np.array_equal(space.sequence(point), space.sequence(point))
    assert space.sequence(point)[:, :-1] == pytest.approx(space.features())
    assert space.sequence(point)[:, -1] == pytest.approx(space.encode(point))
