"""What the site shows beside the files in docs/: pages of the repository, results of experiments, and a page of keys.

Links are written so that they work in the repository. Here they are made to work in the site: to a page of it, or,
where a file is no page, to nothing, its name as code.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import agents
from automl.config.listing import listing, optional_sections
from automl.config.study import StudyConfig

ROOT = Path(__file__).resolve().parent.parent
TOP = {"README.md": "index.md", "CONTRIBUTING.md": "CONTRIBUTING.md", "SECURITY.md": "SECURITY.md"}
TOP |= {"CHANGELOG.md": "CHANGELOG.md"}
"""Files at the top of the repository that are pages, and where."""

_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def results() -> list[str]:
    """The results of experiments and their pictures, as paths in the repository."""
    pages = sorted(ROOT.glob("experiments/*/results.md"))
    pictures = sorted(path for folder in {page.parent for page in pages} for path in folder.glob("*.png"))
    return [path.relative_to(ROOT).as_posix() for path in (*pages, *pictures)]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie elsewhere, or that are made."""
    for source, place in {**TOP, **{path: path for path in results()}}.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / source)))
    files.append(File.generated(config, "reference/keys.md", content=keys()))
    files.append(File.generated(config, "reference/python.md", content=PYTHON))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make links of the repository into links of the site."""
    here = page.file.src_uri
    source = next((path for path, place in TOP.items() if place == here), here)
    if source == here and not here.startswith("experiments/"):
        source = f"docs/{here}"

    def rewritten(link: re.Match[str]) -> str:
        picture, text, target, anchor = link.groups()
        if "://" in target or target.startswith("mailto:"):
            return link[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        place = TOP.get(path, path.removeprefix("docs/"))
        if files.get_file_from_path(place) is None:
            return text if picture or text.startswith("`") else f"{text} (`{path}`)"
        return f"{picture}[{text}]({posixpath.relpath(place, posixpath.dirname(here) or '.')}{anchor or ''})"

    return _LINK.sub(rewritten, markdown)


def keys() -> str:
    """Every key of a study file and every option of an agent, read from the options themselves."""
    parts = [
        "# Keys of a study file",
        "What `automl keys` says, all of it. An unknown key is an error that offers the nearest.",
    ]
    parts.append(f"```yaml\n{listing(None)}\n```")
    parts += ["## Sections that are left out unless they are named"]
    parts += [f"### {name}\n\n```yaml\n{listing(name)}\n```" for name in optional_sections(StudyConfig)]
    parts += ["## Options of agents"]
    parts += [f"### {name}\n\n```yaml\n{listing(name)}\n```" for name in agents.names()]
    return "\n\n".join(parts) + "\n"


PYTHON = """# Python

::: automl.api.compress

::: automl.api.CompressionResult

::: automl.dynamic.from_data.slim

::: automl.dynamic.from_data.exits

::: automl.report.html.from_python.write_report

::: automl.export.bundle.load

::: automl.tasks.metric.Metric

::: automl.store.store.open_store

::: automl.store.store.Store
"""
