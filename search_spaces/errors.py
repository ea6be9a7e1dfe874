"""Errors of this package. Each message says what was expected, what came, and the remedy."""


class SpaceError(ValueError):
    """A Point, Plan or option that the space does not have."""


class TraceError(ValueError):
    """The network could not be traced, so no space can be made of it."""


class InfeasibleBudgetError(ValueError):
    """No network in the space meets the budget; the message says what can be met."""
