"""A study put together, run, finished and concluded."""
