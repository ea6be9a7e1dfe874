"""The operators by name, in the order of their steps."""

from __future__ import annotations

from search_spaces.operators.base import Operator
from search_spaces.operators.channels import Channels
from search_spaces.operators.code import Code
from search_spaces.operators.depth import Depth
from search_spaces.operators.rank import Rank
from search_spaces.operators.sparsity import Sparsity

OPERATORS: dict[str, type[Operator]] = {
    "depth": Depth,
    "channels": Channels,
    "rank": Rank,
    "sparsity": Sparsity,
    "code": Code,
}
