import pytest
import torch


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Batches of two are too small to share out: on a busy machine more threads are many times slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
