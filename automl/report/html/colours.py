"""A colour for each agent, told apart by the colour-blind (Okabe and Ito's set), in variables that a theme sets."""

from __future__ import annotations

from collections.abc import Sequence

MAIN = "var(--main)"
"""The agent that a study is about."""
OTHERS = tuple(f"var(--other-{i})" for i in range(1, 7))


def colours(agents: Sequence[str], main: str | None) -> dict[str, str]:
    """Agent -> colour; the others take theirs in turn."""
    beside = [agent for agent in agents if agent != main]
    found = {agent: OTHERS[i % len(OTHERS)] for i, agent in enumerate(beside)}
    return {agent: found.get(agent, MAIN) for agent in agents}
