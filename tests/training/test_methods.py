"""Every method by the kit, and by the formula of its paper, worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from automl.config.method import DEFAULTS, MethodOptions
from automl.config.training import TrainingOptions
from automl.errors import ConfigError, DataError
from automl.testing.method_kit import BATCHES, COUNTS, MethodConformance, batches, network, nonzeros, plain, sparse
from automl.training.loss import SupervisedLoss
from automl.training.methods.ac_dc import AlternatingCompression
from automl.training.methods.base import Course, Method
from automl.training.methods.connectivity import ConnectivityLearning
from automl.training.methods.constrained_l0 import DualPrice, PriceOfEach
from automl.training.methods.cram import CompressionAware
from automl.training.methods.gradual import GradualPruning
from automl.training.methods.hard_concrete import initial, open_probability, sampled, settled
from automl.training.methods.iterative import IterativePruning
from automl.training.methods.l0 import FixedPrice, L0Gates
from automl.training.methods.layouts import by_magnitude, erdos_renyi_kernel, uniform
from automl.training.methods.registry import method_of
from automl.training.methods.regrowth import Regrowth
from automl.training.methods.target import Target, highest
from automl.training.schedules import learning_rate
from automl.training.trainer import train
from search_spaces.operators.patterns import pattern_of

LOSS = SupervisedLoss(F.cross_entropy)
STEPS = 4 * BATCHES


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


class Named(MethodConformance):
    """A method by its name in a study file."""

    options = MethodOptions("gradual")

    @property
    def dense(self):
        return self.options.dense

    def make(self, target):
        return method_of(self.options, target)


class TestGradual(Named):
    options = MethodOptions("gradual", every=3)


class TestIterative(Named):
    options = MethodOptions("iterative", rounds=4)


class TestLotteryTickets(Named):
    options = MethodOptions("iterative", rounds=3, rewind="weights", first="train", early=0.3)


class TestSet(Named):
    options = MethodOptions("set", every=4)
    exact = False  # a weight that has grown without a gradient is 0 yet
    patterns = False


class TestRigL(Named):
    options = MethodOptions("rigl", every=4)
    exact = False
    patterns = False


class TestACDC(Named):
    options = MethodOptions("ac_dc", rounds=2)


class TestCrAM(Named):
    options = MethodOptions("cram", shares=(0.5, 1.0))
    passes = 2


class TestL0(Named):
    options = MethodOptions("l0", strength=1e-4, gate_rate=0.1)
    exact = False


class TestConstrainedL0(Named):
    options = MethodOptions("constrained_l0", dual_rate=0.1, gate_rate=0.1)
    exact = False


class TestConnectivityLearning(Named):
    options = MethodOptions("scl", strength=0.05)


class TestConstrainedConnectivityLearning(Named):
    options = MethodOptions("constrained_scl", dual_rate=0.03)


class TestSupermask(Named):
    options = MethodOptions("supermask")


def test_weights_that_pass_a_supermask_are_what_they_were_and_the_mask_is_learnt():
    torch.manual_seed(0)
    made = nn.Sequential(nn.Flatten(), nn.Linear(64, 200, bias=False), nn.ReLU(), nn.Linear(200, 10, bias=False))
    for weight in made.parameters():
        nn.init.kaiming_normal_(weight)
    start = {name: p.detach().clone() for name, p in made.named_parameters()}
    target = Target({name: p.numel() // 2 for name, p in start.items()})
    method = method_of(MethodOptions("supermask", scores="random"), target)
    history = train(made, batches, LOSS, plain(epochs=12), methods=[method])
    for name, weight in made.named_parameters():
        assert torch.equal(weight[weight != 0], start[name][weight != 0])
        assert int(weight.count_nonzero()) == target.counts[name]
    assert history.epochs[-1].loss < 0.4, "though no weight was trained"


def test_every_method_is_tried():
    tried = {cls.options.name for cls in Named.__subclasses__()}
    assert tried == set(DEFAULTS)


class Watched(Method):
    """Notes what a network is like before every step, after the methods before it have had their turn; and after it."""

    def __init__(self, look):
        self.look, self.seen, self.after = look, [], []

    def before_step(self, course):
        self.seen.append(self.look(course))

    def after_step(self, course):
        self.after.append(course.network[0].weight.detach().clone())


def seen(method, look, made=None, /, **changes):
    """What `look` sees before each step of a training with `method`."""
    return watched(method, look, made, **changes).seen


def watched(method, look, made=None, /, **changes):
    watch = Watched(look)
    train(made or network(), batches, LOSS, plain(**changes), methods=[method, watch])
    return watch


def left(course):
    return nonzeros(course.network)["0.weight"]


def test_gradual_pruning_follows_the_cubic_curve():
    """Zhu & Gupta: s_f + (s_i - s_f) (1 - (t - t0) / (n D))^3, every D steps; final from `ends` on."""
    found = seen(GradualPruning(Target(COUNTS), begins=0.25, ends=0.75, every=5), left)
    whole, final, now, expected = 640, 1 - 300 / 640, 0.0, []
    for step in range(STEPS):
        if 10 <= step < 30 and step % 5 == 0:
            now = final + (0 - final) * (1 - (step - 10) / 20) ** 3
        if step >= 30:
            now = final
        expected.append(whole - round(whole * now))
    assert found == pytest.approx(expected, abs=1) and found[-1] == 300 and found[10] == 640


def test_iterative_pruning_removes_the_same_part_in_each_round():
    """d^(k / K) after the k-th of K prunings; the learning rate begins anew with each round, and momentum with it."""
    target = Target({"0.weight": 80})

    def look(course):
        return left(course), course.optimizer.param_groups[0]["lr"], len(course.optimizer.state)

    options = {"method": MethodOptions("iterative", rounds=2), "warmup": 0.0}
    found = seen(IterativePruning(target, rounds=2, rewind="rate", first="prune", early=0.0), look, **options)
    assert [found[i][0] for i in (0, 19, 20, 39)] == [round(640 * (80 / 640) ** 0.5)] * 2 + [80] * 2
    assert [rate for _, rate, _ in found[:20]] == pytest.approx([rate for _, rate, _ in found[20:]])
    assert found[0][1] > 10 * found[19][1]
    assert [known for _, _, known in found[19:22]] == [5, 0, 5]


def test_rewound_weights_are_those_of_early_training():
    target = Target({"0.weight": 80})
    weights, masks = [], []

    def look(course):
        weights.append([p.detach().clone() for p in course.network.parameters()])
        masks.append(course.network[0].weight != 0)

    after = watched(IterativePruning(target, rounds=2, rewind="weights", first="train", early=0.5), look).after
    assert masks[19].all() and masks[20].sum() == 80
    for early, late in zip(weights[10], weights[20], strict=True):
        assert torch.equal(late, early * masks[20] if early.shape == masks[20].shape else early)
    assert torch.equal(masks[20], highest(after[19].abs(), 80)) and torch.equal(masks[39], masks[20])


def test_rigl_lets_the_smallest_go_and_grows_where_the_gradient_is_largest():
    """At step 8 of 40, fraction 0.4: 0.4 / 2 (1 + cos(pi 0.2 / 0.8)) of 300 weights; nothing else moves then."""
    states = []

    class Gradients(Method):
        def before_step(self, course):
            weight = course.network[0].weight
            states.append((weight.detach().clone(), weight.grad.clone(), course.network[4].bias.detach().clone()))

    method = Regrowth(Target(COUNTS), grow="gradient", ends=0.8, every=8, fraction=0.4)
    made, momenta = sparse(), []

    class After(Method):
        def after_step(self, course):
            kept = course.network[0].weight
            momentum = course.optimizer.state[kept].get("momentum_buffer")
            momenta.append((method._masks.kept["0.weight"].clone(), momentum.clone()))

    train(made, batches, LOSS, plain(), methods=[Gradients(), method, After()])
    weight, gradient, bias = states[8]
    before, after = weight != 0, momenta[8][0]
    k = int(0.2 * (1 + math.cos(math.pi * 0.25)) * 300)
    stays = highest(weight.abs().masked_fill(~before, -1), 300 - k)
    grown = highest(gradient.abs().masked_fill(stays, -1), k)
    assert torch.equal(after, stays | grown) and after.sum() == 300
    new = grown & ~before
    assert new.sum() > 0 and not momenta[8][1][new].any()
    assert torch.equal(states[9][0], weight.masked_fill(~after, 0)) and torch.equal(states[9][2], bias)
    assert not torch.equal(momenta[38][0], momenta[7][0]) and torch.equal(momenta[32][0], momenta[39][0])


def test_set_lets_the_smallest_go_and_grows_anywhere():
    """At step 4 of 40, fraction 0.3; by chance a fifth of those that grow are of the largest gradients."""
    states, masks = [], []
    method = Regrowth(Target(COUNTS), grow="random", ends=0.9, every=4, fraction=0.3)

    class Around(Method):
        def before_step(self, course):
            weight = course.network[0].weight
            states.append((weight.detach().clone(), weight.grad.abs()))

        def after_step(self, course):
            masks.append(method._masks.kept["0.weight"].clone())

    train(sparse(), batches, LOSS, plain(), methods=[Around(), method])
    weight, gradient = states[4]
    k = int(0.15 * (1 + math.cos(math.pi * 0.1 / 0.9)) * 300)
    stays = highest(weight.abs().masked_fill(weight == 0, -1), 300 - k)
    grown = masks[4] & ~stays
    assert (masks[4] & stays).sum() == 300 - k and grown.sum() == k
    assert (grown & highest(gradient.masked_fill(stays, -1), k)).sum() < 0.5 * k
    with pytest.raises(ConfigError, match="change places, which a pattern"):
        Regrowth(Target(COUNTS, pattern_of("2:4")), grow="random", ends=0.9, every=4, fraction=0.3)


def test_ac_dc_is_sparse_and_dense_by_turns():
    """Warm-up, two pairs of phases of a fifth each, and compressed for good from 0.8 on: 0-7 | 8-13, 14-19, ..."""
    method = AlternatingCompression(Target({"0.weight": 64}), begins=0.2, ends=0.8, rounds=2)
    watch = watched(method, left)
    kept, after = watch.seen, watch.after
    assert set(kept[:8]) == {640} and set(kept[8:14]) == {64} and set(kept[20:26]) == {64} and set(kept[32:]) == {64}
    assert min(kept[15:20]) > 600 and min(kept[27:32]) > 600, "in a dense phase all weights move, those gone from zero"
    assert kept[14] == 64, "they begin at zero"
    assert torch.equal(after[20] != 0, highest(after[19].abs(), 64)), "the largest of them stay"


def closure_of(made, inputs, targets):
    def closure():
        made.zero_grad()
        loss = F.cross_entropy(made(inputs), targets)
        loss.backward()
        return loss.detach()

    return closure


@pytest.mark.parametrize("plus", [False, True])
def test_cram_takes_the_gradient_at_the_pruned_network(plus):
    """By hand: grad L(C(w + radius grad L(w))), and the sum with grad L(w); statistics of norms of the first pass."""
    made, ((inputs,), targets) = network().train(), batches(0)[0]
    made[3].p = 0.0
    by_hand, once = network().train(), network().train()
    by_hand[3].p = once[3].p = 0.0
    closure_of(once, inputs, targets)()
    first = [p.grad.clone() for p in once.parameters()]
    with torch.no_grad():
        for p, g in zip(by_hand.parameters(), first, strict=True):
            p.add_(0.1 * g)
        for name, count in COUNTS.items():
            weight = by_hand.get_parameter(name)
            weight.mul_(weight.abs() >= weight.abs().flatten().topk(count).values[-1])
    closure_of(by_hand, inputs, targets)()
    method = CompressionAware(Target(COUNTS), ends=0.9, radius=0.1, plus=plus, shares=(1.0,))
    before = [p.detach().clone() for p in made.parameters()]
    method.gradients(Course(made, torch.optim.SGD(made.parameters(), 0.1), 10), closure_of(made, inputs, targets))
    for p, was, hand, g in zip(made.parameters(), before, by_hand.parameters(), first, strict=True):
        assert torch.equal(p, was)
        torch.testing.assert_close(p.grad, hand.grad + g if plus else hand.grad)
    assert all(torch.equal(a, b) for a, b in zip(made.buffers(), once.buffers(), strict=True))


def test_hard_concrete_gates_are_zero_as_often_as_the_formula_says():
    """P(z > 0) = sigmoid(log alpha - beta log(-gamma / zeta)), against 100,000 draws."""
    generator = torch.Generator().manual_seed(0)
    for log_alpha in (-2.0, 0.0, 1.5):
        z = sampled(torch.full((100_000,), log_alpha), torch.rand(100_000, generator=generator).clamp(1e-6, 1 - 1e-6))
        assert float((z > 0).float().mean()) == pytest.approx(
            float(open_probability(torch.tensor(log_alpha))), abs=5e-3
        )
        assert float(z.min()) >= 0 and float(z.max()) <= 1
    assert float(settled(torch.tensor(5.0))) == 1 and float(settled(torch.tensor(-5.0))) == 0
    assert 1 / (1 + math.exp(-initial(0.3))) == pytest.approx(0.7)


def test_gradients_of_gates_are_those_of_autograd(monkeypatch):
    """loss(w z(a)) + strength sum P(z(a) > 0), differentiated as a whole."""
    made, ((inputs,), targets) = network().eval(), batches(0)[0]
    method = L0Gates(Target(COUNTS), FixedPrice(1e-3), ends=0.9, gate_rate=0.1, dropout=0.3)
    course = Course(made, torch.optim.SGD(made.parameters(), 0.1), 10)
    uniform_draws = {}

    def drawn(gate):
        u = torch.rand(gate.shape, generator=torch.Generator().manual_seed(len(uniform_draws))).clamp(1e-6, 1 - 1e-6)
        uniform_draws[gate] = u
        return sampled(gate, u)

    monkeypatch.setattr(L0Gates, "_drawn", staticmethod(drawn))
    method.begin(course)
    before = {name: p.detach().clone() for name, p in made.named_parameters()}
    method.gradients(course, closure_of(made, inputs, targets))
    gates = {name: gate.detach().clone().requires_grad_() for name, gate in method._gates.items()}
    weights = {name: value.clone().requires_grad_() for name, value in before.items()}
    draws = dict(zip(gates, uniform_draws.values(), strict=True))
    gated = {n: w * sampled(gates[n], draws[n]) if n in gates else w for n, w in weights.items()}
    loss = F.cross_entropy(torch.func.functional_call(made, gated, (inputs,)), targets)
    (loss + 1e-3 * sum(open_probability(gate).sum() for gate in gates.values())).backward()
    for name, parameter in made.named_parameters():
        assert torch.equal(parameter, before[name])
        torch.testing.assert_close(parameter.grad, weights[name].grad)
    for name, gate in method._gates.items():
        torch.testing.assert_close(gate.grad, gates[name].grad)


def test_a_multiplier_rises_until_its_constraint_is_kept_and_starts_again():
    price = DualPrice({"a": 20}, rate=0.5)
    price.see("a", torch.tensor(60.0), 100)
    price.see("a", torch.tensor(50.0), 100)
    assert price.multipliers["a"] == pytest.approx(0.5 * 0.4 + 0.5 * 0.3)
    assert price.of("a", 100) == pytest.approx(0.35 / 100)
    price.see("a", torch.tensor(20.0), 100)
    assert price.multipliers["a"] == 0


def test_multipliers_bring_gates_to_the_number_that_is_wanted():
    """400 steps from 0.85 on; the expected number is within 3 points of what is asked for (of two tensors)."""
    method = L0Gates(
        Target({"0.weight": 128, "4.weight": 720}), DualPrice({"0.weight": 128, "4.weight": 720}, 0.1),
        ends=1.0, gate_rate=0.05, dropout=0.3,
    )  # fmt: skip
    train(network(), batches, LOSS, plain(epochs=40), methods=[method])
    for name, wanted in {"0.weight": 0.2, "4.weight": 0.2}.items():
        assert float(open_probability(method._gates[name].detach()).mean()) == pytest.approx(wanted, abs=0.03), name


def test_masks_go_straight_through_with_normalised_gradients_and_a_price():
    """m - rate (g W / |g W| of each output channel + price), g the gradient at W H(m); W has g H(m)."""
    made, ((inputs,), targets) = network().eval(), batches(0)[0]
    method = ConnectivityLearning(Target({"4.weight": 720}), FixedPrice(0.02), ends=0.9, mask_rate=0.5)
    course = Course(made, torch.optim.SGD(made.parameters(), 0.1), 10)
    method.begin(course)
    weight = made[4].weight.detach().clone()
    m = method._variables["4.weight"]
    torch.testing.assert_close(m, weight.abs() / weight.abs().mean())
    m.sub_(0.6)  # some pass, and some do not
    before = m.clone()
    passes = (before > 0).float()
    effective = (weight * passes).requires_grad_()
    F.cross_entropy(torch.func.functional_call(made, {"4.weight": effective}, (inputs,)), targets).backward()
    method.gradients(course, closure_of(made, inputs, targets))
    slope = effective.grad * weight
    expected = before - 0.5 * (slope / slope.norm(dim=1, keepdim=True) + 0.02)
    torch.testing.assert_close(m, expected)
    torch.testing.assert_close(made[4].weight.grad, effective.grad * passes)
    assert torch.equal(made[4].weight, weight)
    assert (m[before <= 0] > before[before <= 0]).any(), "what does not pass can come back"
    assert method.opened() == {"4.weight": int((expected > 0).sum())}


def test_multipliers_bring_masks_to_the_number_that_is_wanted():
    """A fixed price leaves what it leaves, and the network has its number all the same."""
    wanted = {"0.weight": 128, "4.weight": 720}
    price = PriceOfEach(wanted, 0.01)
    price.see("0.weight", torch.tensor(448.0), 640)
    assert price.of("0.weight", 640) == pytest.approx(0.01 * 0.5)
    made = {}
    for name, chosen, epochs in (("found", PriceOfEach(wanted, 0.01), 20), ("fixed", FixedPrice(0.002), 5)):
        made[name] = ConnectivityLearning(Target(wanted), chosen, ends=0.9, mask_rate=0.1)
        trained = network()
        train(trained, batches, LOSS, plain(epochs=epochs), methods=[made[name]])
        assert nonzeros(trained) == wanted
    for name, size in {"0.weight": 640, "4.weight": 3600}.items():
        assert made["found"].opened()[name] / size == pytest.approx(0.2, abs=0.08), name
        assert made["fixed"].opened()[name] / size > 0.5, name


def test_layouts_share_out_a_density():
    shapes = {"conv": (64, 3, 3, 3), "big": (128, 64, 3, 3), "linear": (10, 128)}
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    found = erdos_renyi_kernel(shapes, 0.2)
    assert sum(found.values()) == pytest.approx(0.2 * sum(sizes.values()), abs=3)
    assert found["conv"] == sizes["conv"] and found["linear"] == sizes["linear"], "their density would be above 1"
    few = erdos_renyi_kernel(shapes, 0.02)
    parts = [few[name] / sizes[name] / (sum(shape) / sizes[name]) for name, shape in shapes.items()]
    assert parts == pytest.approx([parts[0]] * 3, rel=0.05), "proportional to (in + out + height + width) / size"
    assert sum(few.values()) == pytest.approx(0.02 * sum(sizes.values()), abs=3)
    assert uniform(shapes, 0.5) == {name: round(0.5 * size) for name, size in sizes.items()}
    assert erdos_renyi_kernel(shapes, 1.0) == sizes
    made = network()
    together = torch.cat([made.get_parameter(name).abs().flatten() for name in COUNTS])
    bound = together.sort(descending=True).values[423]
    counts = by_magnitude(made, COUNTS, 424 / len(together))
    assert counts == {name: int((made.get_parameter(name).abs() >= bound).sum()) for name in COUNTS}
    with pytest.raises(ConfigError, match="above 0 and at most 1"):
        uniform(shapes, 0.0)


def test_schedules():
    def rates(schedule, **more):
        options = plain(schedule=schedule, learning_rate=0.4, **{"warmup": 0.0, **more})
        return [learning_rate(options, p) for p in (0.0, 0.25, 0.5, 0.75, 0.999)]

    assert rates("linear") == pytest.approx([0.4, 0.3, 0.2, 0.1, 0.0004])
    assert rates("constant") == [0.4] * 5
    assert rates("step", milestones=(0.5, 0.75)) == pytest.approx([0.4, 0.4, 0.04, 0.004, 0.004])
    assert rates("step", milestones=(0.6,), factor=0.5) == pytest.approx([0.4, 0.4, 0.4, 0.2, 0.2])
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer := torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1), 0.4, total_steps=1001, cycle_momentum=False
    )
    chosen = plain(schedule="one_cycle", learning_rate=0.4, warmup=299.3 / 1000)
    for step in range(1000):
        ours = learning_rate(chosen, step / 1000)
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-2, abs=1e-4), step
        optimizer.step()
        theirs.step()


def test_what_is_of_the_users_own(tmp_path, monkeypatch):
    (tmp_path / "mine_for_training.py").write_text(
        "import torch\n"
        "def halved(done): return 0.5\n"
        "def wrong(done): return -1\n"
        "def rms(groups, rate): return torch.optim.RMSprop(groups, rate)\n"
        "def noisy(inputs, targets): return (inputs[0] + torch.randn_like(inputs[0]),), targets\n"
        "def nothing(inputs, targets): return None\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    mine = "mine_for_training:"
    options = plain(schedule=mine + "halved", optimizer=mine + "rms", transform=mine + "noisy", learning_rate=1e-3)
    assert options.own_code == (mine + "rms", mine + "halved", mine + "noisy")
    made, again, plainly = network(), network(), network()
    for trained in (made, again):
        train(trained, batches, LOSS, options)
    train(plainly, batches, LOSS, plain(schedule=mine + "halved", optimizer=mine + "rms", learning_rate=1e-3))
    assert torch.equal(made[0].weight, again[0].weight) and not torch.equal(made[0].weight, plainly[0].weight)
    assert learning_rate(options, 0.3) == 0.5e-3
    for change, complaint in (
        ({"schedule": mine + "wrong"}, "must return a part of the highest rate"),
        ({"optimizer": mine + "nothing", "learning_rate": 0.1}, "must return a torch.optim.Optimizer"),
        ({"transform": mine + "nothing"}, "must return \\(inputs, targets\\)"),
        ({"transform": mine + "absent"}, "has no function 'absent'"),
    ):
        with pytest.raises((ConfigError, DataError), match=complaint):
            train(network(), batches, LOSS, plain(**change))


def test_gradients_of_several_batches_are_those_of_one():
    """Without norms and dropout; the last group is smaller than the others."""

    def made():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    def joined(seed):
        parts = [batches(seed)[i : i + 4] for i in range(0, BATCHES, 4)]
        return [((torch.cat([x for (x,), _ in part]),), torch.cat([y for _, y in part])) for part in parts]

    one, several = made(), made()
    train(one, joined, LOSS, plain(epochs=2))
    history = train(several, batches, LOSS, plain(epochs=2, accumulate=4))
    torch.testing.assert_close(one[1].weight, several[1].weight)
    assert history.epochs[0].samples == 32 * BATCHES


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: MethodOptions("rigll"), "did you mean 'rigl'"),
        (lambda: MethodOptions("gradual", rounds=2), "rounds is no option of gradual"),
        (lambda: MethodOptions("rigl", fraction=1.5), "fraction is a part of the weights"),
        (lambda: MethodOptions("cram", shares=()), "shares are parts of the zeros"),
        (lambda: MethodOptions("gradual", begins=0.8), "begins must not be after ends"),
        (lambda: MethodOptions("iterative", rewind="weights"), "first: train"),
        (lambda: MethodOptions("iterative", first="train", rounds=1), "set 2 rounds or more"),
        (lambda: TrainingOptions(schedule="cosin"), "did you mean 'cosine'"),
        (lambda: TrainingOptions(optimizer="mine:make"), "learning_rate is missing"),
        (lambda: TrainingOptions(transform="flip"), "transform must be `module:function`"),
        (lambda: TrainingOptions(milestones=(0.7, 0.5)), "milestones are parts of all steps"),
        (lambda: TrainingOptions(method=MethodOptions("iterative"), rewind=0.5), "both say how the schedule"),
    ],
)
def test_choices_that_cannot_be(make, complaint):
    with pytest.raises(ConfigError, match=complaint):
        make()
