"""One network, many sizes: slimmable networks and networks with several exits."""
