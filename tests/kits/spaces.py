"""What any space of costed knobs must do. Subclass it and give a `space` fixture."""

import pickle

import numpy as np
import pytest
import torch

from search_spaces import ChannelsStep, DepthStep, InfeasibleBudgetError, Plan, Point, Space, SpaceError


class SpaceConformance:
    @pytest.fixture
    def space(self):
        raise NotImplementedError

    def points(self, space, n, seed=0):
        rng = np.random.default_rng(seed)
        return [space.point([int(rng.choice(knob.levels)) for knob in space.knobs]) for _ in range(n)]

    def test_is_a_space(self, space):
        assert isinstance(space, Space)
        assert len({knob.name for knob in space.knobs}) == len(space.knobs)

    def test_encoding_is_undone_by_decoding(self, space):
        for point in self.points(space, 20):
            x = space.encode(point)
            assert x.shape == (len(space.knobs),)
            assert x.min() >= 0 and x.max() <= 1
            assert space.decode(x) == point

    def test_a_point_is_canonical(self, space):
        rng = np.random.default_rng(5)
        for _ in range(20):
            levels = np.array([int(rng.choice(knob.levels)) for knob in space.knobs])
            active = space.active(levels)
            canonical = space.levels(space.point(levels.tolist()))
            assert (canonical[active] == levels[active]).all()
            assert (canonical[~active] == space.lowest[~active]).all()
            assert (space.active(canonical) == active).all()
            for t in np.flatnonzero(~active):
                other = levels.copy()
                other[t] = int(rng.choice(space.knobs[t].levels))
                assert space.point(other.tolist()) == space.point(levels.tolist())
                for metric in space.metrics:
                    assert space.cost_of_levels(other, metric) == space.cost_of_levels(canonical, metric)

    def test_any_vector_decodes_to_a_legal_point(self, space):
        rng = np.random.default_rng(0)
        for _ in range(20):
            point = space.decode(rng.random(len(space.knobs)))
            assert space.point(space.levels(point).tolist()) == point

    def test_features_are_scaled(self, space):
        features = space.features()
        assert features.shape == (len(space.knobs), len(space.feature_names))
        assert features.min() >= 0 and features.max() <= 1

    def test_costs_never_fall_when_a_level_rises(self, space):
        rng = np.random.default_rng(1)
        for point in self.points(space, 20):
            # Whatever the levels are, not only in canonical form: the wall compares others too.
            for levels in (space.levels(point), np.array([int(rng.choice(knob.levels)) for knob in space.knobs])):
                t = int(rng.integers(len(levels)))
                higher = levels.copy()
                higher[t] = space.knobs[t].levels[-1]
                for metric in space.metrics:
                    assert space.cost_of_levels(higher, metric) >= space.cost_of_levels(levels, metric)

    @pytest.mark.parametrize("fraction", [0.3, 0.5, 0.8])
    def test_walls_hold_for_any_choice_between_them(self, space, fraction):
        for metric in space.metrics:
            limits = self.limits(space, metric, fraction)
            rng = np.random.default_rng(2)
            for _ in range(10):
                prefix: list[int] = []
                for knob in space.knobs:
                    low, high = space.bounds(prefix, limits)
                    legal = [level for level in knob.levels if low <= level <= high]
                    assert low in legal and high in legal
                    prefix.append(int(rng.choice(legal)))
                assert space.cost(space.point(prefix), metric) <= limits[metric]
                for level in (space.bounds(prefix[:-1], limits)[1],):
                    above = [x for x in space.knobs[-1].levels if x > level]
                    if above and space.active(np.array(prefix))[-1]:
                        assert space.cost(space.point([*prefix[:-1], above[0]]), metric) > limits[metric]

    @pytest.mark.parametrize("fraction", [0.3, 0.5, 0.8])
    def test_projection_meets_the_budget_from_both_sides(self, space, fraction):
        for metric in space.metrics:
            limits = self.limits(space, metric, fraction)
            rng = np.random.default_rng(3)
            for _ in range(10):
                wanted = rng.uniform(0.1, 1.0, len(space.knobs))
                levels = space.levels(space.project(wanted, limits))
                assert space.cost_of_levels(levels, metric) <= limits[metric]
                active, highest = space.active(levels), space.highest
                amounts = [t for t, knob in enumerate(space.knobs) if active[t] and knob.kind == "amount"]
                # A removed block comes back only where all that remains is whole; a skip costs nothing.
                whole = all(levels[t] == highest[t] for t in amounts)
                blocks = [t for t, knob in enumerate(space.knobs) if active[t] and knob.kind == "gate" and whole]
                for t in (*amounts, *blocks):
                    above = [level for level in space.knobs[t].levels if level > levels[t]]
                    if above:
                        raised = levels.copy()
                        raised[t] = above[0]
                        assert space.cost_of_levels(raised, metric) > limits[metric], "budget is left unused"

    def test_without_limits_nothing_is_used_up(self, space):
        rng = np.random.default_rng(4)
        for t, knob in enumerate(space.knobs):
            active = space.active(np.concatenate([space.lowest[:t], space.highest[t:]]))[t]
            assert space.bounds(space.lowest[:t].tolist(), {}) == (knob.levels[0], knob.levels[-1 if active else 0])
        for point in self.points(space, 10):
            assert space.project(space.encode(point), {}) == point
            assert space.fill(space.levels(point).tolist(), rng.uniform(0.1, 1.0, len(space.knobs)), {}) == point

    def test_limits_that_do_not_bind_leave_the_network_whole(self, space):
        limits = {metric: 2 * space.cost_of_levels(space.highest, metric) for metric in space.metrics}
        free = np.array([knob.kind == "free" for knob in space.knobs])  # costs nothing, so no budget speaks of it
        for point in self.points(space, 3):
            levels = np.where(free, space.levels(point), space.original_levels)
            assert space.project(space.encode(point), limits) == space.point(levels.tolist())
        for t, knob in enumerate(space.knobs):
            low = knob.levels[0 if free[t] else -1]
            assert space.bounds(space.highest[:t].tolist(), limits) == (low, knob.levels[-1])
        assert space.project(np.ones(len(space.knobs)), limits) == space.original_point

    def test_a_budget_nobody_can_meet_is_refused_with_what_can_be_met(self, space):
        with pytest.raises(InfeasibleBudgetError, match=r"the smallest has .*%"):
            space.project(np.ones(len(space.knobs)), {space.metrics[0]: 1.0})

    def test_an_unknown_metric_is_refused(self, space):
        with pytest.raises(SpaceError, match=space.metrics[0]):
            space.cost(self.points(space, 1)[0], "joules")
        with pytest.raises(SpaceError, match=space.metrics[0]):
            space.require_feasible({"joules": 1.0})

    def test_illegal_points_are_refused(self, space):
        levels = [knob.levels[-1] for knob in space.knobs]
        with pytest.raises(SpaceError, match="legal are"):
            space.point([levels[0] + 1, *levels[1:]])
        with pytest.raises(SpaceError, match="expected"):
            space.point(levels[:-1])
        with pytest.raises(SpaceError, match="does not fit"):
            space.cost(Point({"nobody": 1}), space.metrics[0])

    def test_survives_pickling(self, space):
        copy = pickle.loads(pickle.dumps(space))
        for point in self.points(space, 3):
            assert all(copy.cost(point, metric) == space.cost(point, metric) for metric in space.metrics)

    @staticmethod
    def limits(space, metric, fraction):
        low, high = (space.cost_of_levels(levels, metric) for levels in (space.lowest, space.highest))
        return {metric: float(int(low + fraction * (high - low)))}


class BuildingSpaceConformance(SpaceConformance):
    """What a space that builds networks must do besides. Also give a `model` and an `x` fixture."""

    def test_plans_survive_json_and_build_the_same(self, space, x):
        plan = space.plan(self.points(space, 1)[0])
        again = Plan.from_json(plan.to_json())
        assert again == plan
        first, second = space.build(plan), space.build(again)
        assert all((a == b).all() for a, b in zip(first.parameters(), second.parameters(), strict=True))
        assert (first(x) == second(x)).all()

    def test_the_original_is_untouched(self, space, model, x):
        state = {name: value.clone() for name, value in model.state_dict().items()}
        before = space.original(x)
        small = space.build(space.plan(self.points(space, 1)[0]))
        for parameter in small.parameters():
            parameter.data.zero_()
        assert (space.original(x) == before).all()
        assert all((value == state[name]).all() for name, value in model.state_dict().items())

    def test_the_empty_plan_builds_the_original(self, space, model, x):
        small = space.build(Plan())
        assert (small(x) == space.original(x)).all()
        assert torch.allclose(small(x), model.eval()(x), atol=1e-5)
        assert small.state_dict().keys() <= space.original.state_dict().keys()

    def test_a_built_network_trains_and_is_smaller(self, space, x):
        point = space.point([knob.levels[0] for knob in space.knobs])
        small = space.build(space.plan(point)).train()
        small(x).square().mean().backward()
        assert all(p.grad is not None and p.grad.shape == p.shape for p in small.parameters() if p.requires_grad)
        assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in space.original.parameters())

    def test_another_point_is_another_network(self, space):
        """And the same levels but for inactive ones are the same network."""
        rng = np.random.default_rng(6)
        seen: dict[tuple, Point] = {}
        points = [*self.points(space, 20), space.original_point]
        for knob in space.knobs[:6]:  # and some that differ from the original in one place only
            levels = space.original_levels
            levels[space.knobs.index(knob)] = int(rng.choice(knob.levels))
            points.append(space.point(levels.tolist()))
        for point in points:
            network = space.build(space.plan(point))
            state = tuple((name, value.numpy().tobytes()) for name, value in network.state_dict().items())
            assert seen.setdefault((getattr(network, "code", ""), state), point) == point
        assert len(seen) == len(set(points))

    def test_a_strange_plan_is_refused(self, space):
        with pytest.raises(SpaceError, match="does not have"):
            space.build(Plan((ChannelsStep({"nobody": (0,)}),)))
        width = next(knob for knob in space.knobs if knob.operator == "channels")
        with pytest.raises(SpaceError, match="expected some of"):
            space.build(Plan((ChannelsStep({width.name: (width.size,)}),)))
        with pytest.raises(SpaceError, match="expected some of"):
            space.build(Plan((ChannelsStep({width.name: ()}),)))
        with pytest.raises(SpaceError, match="does not have"):
            space.build(Plan((DepthStep(removed=("nobody",)),)))
