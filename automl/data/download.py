"""Fetching published files into a folder: checksum, progress, one clear error."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from automl.errors import DataError


@dataclass(frozen=True)
class Download:
    """A published file; of an archive, which members are wanted."""

    url: str
    md5: str
    members: tuple[str, ...] = ()
    """Paths inside a tar archive to unpack beside it; none for a file used as it is."""

    @property
    def name(self) -> str:
        """The file's name, from its address."""
        return self.url.rsplit("/", 1)[1]


def fetch(downloads: Sequence[Download], folder: Path) -> None:
    """Put the files into `folder`, checked against their MD5 sums; archives are unpacked and removed.

    A file that is there and whole is left alone. Raises DataError when one cannot be had.
    """
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")
    wanted = ", ".join(name for download in downloads for name in download.members or (download.name,))
    for download in downloads:
        with _Progress(download.name) as progress:
            try:
                path = pooch.retrieve(
                    download.url,
                    known_hash=f"md5:{download.md5}",
                    fname=download.name,
                    path=folder,
                    downloader=pooch.HTTPDownloader(progressbar=progress, chunk_size=2**16),
                )
                _unpack(Path(path), download.members)
            except (requests.RequestException, OSError, ValueError, tarfile.TarError, KeyError) as error:
                reason = type(error).__name__ if isinstance(error, requests.ConnectionError) else error
                raise DataError(
                    f"cannot download {download.url} into {folder} ({reason}). Fetch it where there is a "
                    f"network and place {wanted} in {folder}, "
                    f"or name the folder that has the files as the data root"
                ) from error


def _unpack(archive: Path, members: Sequence[str]) -> None:
    """Copy the named members of a tar archive beside it, each whole or not at all, and remove the archive."""
    if not members:
        return
    with tarfile.open(archive) as tar:
        for member in members:
            source = tar.extractfile(member)
            if source is None:
                raise tarfile.TarError(f"{member} in {archive.name} is not a file")
            target = archive.parent / member
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(target.name + ".part")
            with source, part.open("wb") as file:
                shutil.copyfileobj(source, file)
            part.replace(target)
    archive.unlink()


class _Progress:
    """A progress bar on stderr with the few methods that pooch calls."""

    def __init__(self, name: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=Console(stderr=True))
        self._task = self._progress.add_task(f"Downloading {name}", total=None)
        self.total = 0

    def __enter__(self) -> _Progress:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def update(self, size: int) -> None:
        """`size` more bytes have come."""
        self._progress.update(self._task, total=self.total or None, advance=size)

    def reset(self) -> None:
        """Start from zero again."""
        self._progress.reset(self._task)

    def close(self) -> None:
        """The download is over; leaving the context draws the last state."""
