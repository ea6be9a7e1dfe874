"""What tests ask of plans."""

from __future__ import annotations

from collections.abc import Mapping

from search_spaces import ChannelsStep, Plan


def kept_by(plan: Plan) -> Mapping[str, tuple[int, ...]]:
    """Group -> the channels that `plan` keeps."""
    return plan.get(ChannelsStep).kept
