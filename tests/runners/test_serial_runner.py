"""The loop in one process passes the conformance kit."""

import pytest

from automl.runners import SerialRunner
from tests.kits.runners import RunnerConformance


class TestSerialRunner(RunnerConformance):
    isolated = False

    @pytest.fixture
    def runner(self):
        return SerialRunner()
