"""What any backend must do: subclass, name the backend, and collect the tests."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from automl.errors import BackendError
from automl.export import export
from automl.measures.backends.exported import Exported
from automl.measures.backends.registry import backend_of
from automl.testing.small_export import IMAGES, outputs_of, small_network
from search_spaces import Plan


class BackendConformance:
    """Set `backend_name`, and `rounding` where it computes in fewer digits than float32."""

    backend_name: ClassVar[str]
    rounding: ClassVar[float] = 1e-4
    """How far outputs may be from the network's, relative to the largest."""

    @pytest.fixture(scope="class")
    def exported(self, tmp_path_factory: pytest.TempPathFactory) -> Exported:
        """A network in the format that the backend loads."""
        backend = backend_of(self.backend_name)
        try:
            backend.require()
        except BackendError as error:
            pytest.skip(str(error))
        folder = tmp_path_factory.mktemp("export")
        export(small_network(), (IMAGES,), Plan(), folder, [backend.format], manifest={})
        return Exported(folder)

    def test_it_runs_what_was_exported_for_any_batch(self, exported: Exported) -> None:
        backend = backend_of(self.backend_name)
        run = backend.loaded(exported.file(backend.format), 1)
        assert exported.difference(run(exported.inputs(None))) <= backend.tolerance + self.rounding
        for inputs in (IMAGES[:1], IMAGES, IMAGES.repeat(3, 1, 1, 1)):
            (out,) = run([inputs.numpy()])
            expected = outputs_of(small_network(), inputs).numpy()
            assert out.shape == expected.shape
            assert np.abs(out - expected).max() <= self.rounding * np.abs(expected).max()

    def test_what_runs_the_original_is_a_backend(self) -> None:
        backend = backend_of(self.backend_name)
        assert not backend_of(backend.reference or backend.name).reference

    def test_a_file_that_it_cannot_load_is_explained(self, exported: Exported, tmp_path: Path) -> None:
        backend = backend_of(self.backend_name)
        (tmp_path / "noise").write_bytes(bytes(range(256)) * 4)
        with pytest.raises(BackendError, match=f"{self.backend_name} cannot load"):
            backend.loaded(tmp_path / "noise", 1)
