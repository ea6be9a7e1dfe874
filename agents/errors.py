"""Errors of this package. Each message says what was expected, what came, and the remedy."""


class AgentError(ValueError):
    """An agent name, option or argument that does not exist or makes no sense."""
