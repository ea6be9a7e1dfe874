"""One lane of a study, an agent with a seed, and the progress of all of them."""
