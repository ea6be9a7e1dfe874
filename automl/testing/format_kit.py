"""What any export format must do: subclass, name the format, and collect the tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from automl.export import export
from automl.export.formats import format_of
from automl.export.subject import Subject
from automl.testing.small_export import IMAGES, outputs_of, small_network
from search_spaces import Plan


class FormatConformance:
    """Set `format_name`."""

    format_name: ClassVar[str]

    def test_the_export_is_written_run_and_described(self, tmp_path: Path) -> None:
        """`export` itself compares the file with the network, on batches of three sizes."""
        *files, _ = export(small_network(), (IMAGES,), Plan(), tmp_path, [self.format_name], manifest={})
        (entry,) = json.loads((tmp_path / "manifest.json").read_text())["files"].values()
        kind = format_of(self.format_name)
        assert [file.path.name for file in files] == kind.files == [entry["file"], *entry.get("beside", {})]
        assert entry["largest_difference"] <= entry["tolerance"] == kind.tolerance

    @pytest.fixture(scope="class")
    def written(self, tmp_path_factory: pytest.TempPathFactory) -> tuple[Subject, Path]:
        """A subject, and the first of the files that it was written to: some formats take seconds for any network."""
        kind, subject = format_of(self.format_name), Subject(small_network(), (IMAGES,))
        path = tmp_path_factory.mktemp("written") / kind.file
        kind.write(subject, path)
        return subject, path

    def test_what_is_read_is_what_the_file_holds(self, written: tuple[Subject, Path]) -> None:
        """Read beside a network with other weights, it computes what was written."""
        kind, (subject, path) = format_of(self.format_name), written
        other = Subject(small_network(seed=1), (IMAGES,))
        run = kind.read(other, path)
        for inputs in map(other.resized, (1, 2, 5)):
            assert kind.difference(run(inputs), [outputs_of(subject.network, *inputs)]) <= kind.tolerance
            assert kind.difference(run(inputs), other.run(inputs)) > kind.tolerance

    def test_the_network_is_not_changed(self, written: tuple[Subject, Path]) -> None:
        kind, (subject, path) = format_of(self.format_name), written
        kind.read(subject, path)(subject.inputs)
        for name, tensor in small_network().state_dict().items():
            assert torch.equal(subject.network.state_dict()[name], tensor), name

    def test_a_damaged_file_is_noticed(self, written: tuple[Subject, Path]) -> None:
        kind, (subject, path) = format_of(self.format_name), written
        for file in (path.with_name(name) for name in kind.files):
            whole = file.read_bytes()
            file.write_bytes(whole[: len(whole) // 2])
            with pytest.raises(Exception):  # noqa: B017  # whatever its library raises
                kind.read(subject, path)(subject.inputs)
            file.write_bytes(whole)
