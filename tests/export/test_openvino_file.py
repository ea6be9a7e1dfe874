"""OpenVINO's own files: written as every format is, the weights in a file of their own that counts as much."""

import json
import shutil
from pathlib import Path
from typing import ClassVar

import pytest

from automl.commands.export import ALL_FORMATS
from automl.errors import BackendError, ExportError, MissingPackageError
from automl.export import FORMATS, export
from automl.measures.backends.exported import Exported
from automl.testing.format_kit import FormatConformance
from automl.testing.small_export import IMAGES, small_network
from automl.util import extras
from search_spaces import Plan


class TestOpenvino(FormatConformance):
    format_name: ClassVar[str] = "openvino"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    export(small_network(), (IMAGES,), Plan(), folder, ["openvino", "safetensors"], manifest={})
    return folder


def test_the_weights_are_float32_and_nothing_tells_of_this_machine(made):
    entry = json.loads((made / "manifest.json").read_text())["files"]["openvino"]
    assert (entry["file"], [*entry["beside"]]) == ("model.xml", ["model.bin"])
    text = (made / "model.xml").read_text()
    assert "f16" not in text and ".onnx" not in text and str(Path.home()) not in text and "/tmp" not in text
    assert (made / "model.bin").stat().st_size >= 4 * sum(p.numel() for p in small_network().parameters())


@pytest.mark.parametrize("file", ["model.xml", "model.bin"])
def test_other_files_than_those_described_are_not_read(file, made, tmp_path):
    folder = shutil.copytree(made, tmp_path / "copy")
    assert Exported(folder).file("openvino") == folder / "model.xml"
    (folder / file).write_bytes((folder / file).read_bytes() + b" ")
    with pytest.raises(BackendError, match=rf"{file} is not the file the manifest describes"):
        Exported(folder).file("openvino")


@pytest.mark.parametrize("beside", [{"../model.bin": "0"}, {"model.bin": 7}, "model.bin", 7, ["model.bin"]])
def test_a_manifest_that_names_something_else_beside_is_refused(beside, made, tmp_path):
    folder = shutil.copytree(made, tmp_path / "copy")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["openvino"]["beside"] = beside
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BackendError):
        Exported(folder).file("openvino")


def test_weights_of_an_earlier_export_are_not_left_beside_a_new_manifest(made, tmp_path):
    folder = shutil.copytree(made, tmp_path / "copy")
    with pytest.raises(ExportError, match=r"still holds model\.xml, model\.bin of an earlier export"):
        export(small_network(), (IMAGES,), Plan(), folder, ["safetensors"], manifest={})


def test_what_it_needs_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "openvino" else name)
    with pytest.raises(MissingPackageError, match=r"the format openvino needs .*automl-compress\[openvino\]"):
        export(small_network(), (IMAGES,), Plan(), tmp_path, ["openvino"], manifest={})


def test_the_command_lists_all_formats():
    assert tuple(FORMATS) == ALL_FORMATS
