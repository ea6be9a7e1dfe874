"""A recorded network: which channels and calls go together, and the surgery that removes them."""
