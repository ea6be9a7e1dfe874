"""What agents search: knobs with exact levels, and where the wall of a budget stands."""
