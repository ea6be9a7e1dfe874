"""What any space of costed knobs must do. Subclass it and give a `space` fixture."""

import pickle

import numpy as np
import pytest

from search_spaces import InfeasibleBudgetError, Plan, Point, Space, SpaceError


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
            levels = space.levels(point)
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
                    if above:
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
                for t, knob in enumerate(space.knobs):
                    above = [level for level in knob.levels if level > levels[t]]
                    if above:
                        raised = levels.copy()
                        raised[t] = above[0]
                        assert space.cost_of_levels(raised, metric) > limits[metric], "budget is left unused"

    def test_without_limits_nothing_is_used_up(self, space):
        rng = np.random.default_rng(4)
        assert [space.bounds(space.lowest[:t].tolist(), {}) for t in range(len(space.knobs))] == [
            (knob.levels[0], knob.levels[-1]) for knob in space.knobs
        ]
        for point in self.points(space, 10):
            assert space.project(space.encode(point), {}) == point
            assert space.fill(space.levels(point).tolist(), rng.uniform(0.1, 1.0, len(space.knobs)), {}) == point

    def test_limits_that_do_not_bind_leave_the_network_whole(self, space):
        limits = {metric: 2 * space.cost_of_levels(space.highest, metric) for metric in space.metrics}
        whole = space.point(space.highest.tolist())
        for point in self.points(space, 3):
            assert space.project(space.encode(point), limits) == whole
        assert [space.bounds(space.highest[:t].tolist(), limits) for t in range(len(space.knobs))] == [
            (knob.levels[-1], knob.levels[-1]) for knob in space.knobs
        ]

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
        assert small.state_dict().keys() <= model.state_dict().keys()

    def test_a_built_network_trains_and_is_smaller(self, space, x):
        point = space.point([knob.levels[0] for knob in space.knobs])
        small = space.build(space.plan(point)).train()
        small(x).square().mean().backward()
        assert all(p.grad is not None and p.grad.shape == p.shape for p in small.parameters() if p.requires_grad)
        assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in space.original.parameters())

    def test_a_strange_plan_is_refused(self, space):
        with pytest.raises(SpaceError, match="does not have"):
            space.build(Plan({"nobody": (0,)}))
        with pytest.raises(SpaceError, match="expected some of"):
            space.build(Plan({space.knobs[0].name: (space.knobs[0].size,)}))
        with pytest.raises(SpaceError, match="expected some of"):
            space.build(Plan({space.knobs[0].name: ()}))
