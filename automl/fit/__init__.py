"""How a network is rebuilt from a Point: what stays is chosen from data, and weights are refitted."""
