"""One Ray cluster for all tests of this folder: starting one takes seconds."""

import pytest


@pytest.fixture(scope="session")
def ray_cluster():
    """A local cluster of two workers, and a place more for Ray Train's own process."""
    import ray

    from automl.runners import ray_cluster

    ray_cluster.start(3)
    yield
    ray.shutdown()
