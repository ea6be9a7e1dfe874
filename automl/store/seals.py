"""The seal of a study: what tells the studies that this user started from those that come from elsewhere.

A database and a file of studies can be anybody's, and hold the names of functions to be called. So whoever starts a
study seals its name and configuration with a key of the user's own, which is in no database (HMAC, RFC 2104): nobody
else can make such a seal, and a record that was changed has none. What is not sealed is read as data, and nothing it
names is run (`automl/study/trust.py`).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from automl.store.records import StudyRecord
from automl.util.files import make_private

KEY_BYTES = 32


def seal(name: str, config: Mapping[str, Any]) -> str | None:
    """The seal of a study that this user starts; None where no key can be kept, so that it counts as from elsewhere."""
    key = _key() or _new_key()
    return None if key is None else _mac(key, name, config)


def unsealed(name: str, config: Mapping[str, Any]) -> None:
    """The seal of a study that comes from elsewhere: none."""


def is_ours(study: StudyRecord) -> bool:
    """Whether this user started the study, as it is recorded. Makes no file."""
    key = _key()
    return key is not None and hmac.compare_digest(study.seal or "", _mac(key, study.name, study.config))


def _mac(key: bytes, name: str, config: Mapping[str, Any]) -> str:
    text = json.dumps([name, config], sort_keys=True)
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _path() -> Path:
    """Where the key lies: with what programs keep of their user (XDG base directories)."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "automl-compress" / "key"


def _key() -> bytes | None:
    """The user's key; None if there is none yet."""
    try:
        key = _path().read_bytes()
    except (OSError, RuntimeError):  # RuntimeError: the user has no home
        return None
    return key if len(key) == KEY_BYTES else None


def _new_key() -> bytes | None:
    """The user's key, made now, or by another process at the same time; None where it cannot be written."""
    with suppress(OSError, RuntimeError):
        path = _path()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        make_private(partial)
        try:
            partial.write_bytes(secrets.token_bytes(KEY_BYTES))
            with suppress(FileExistsError):
                path.hardlink_to(partial)  # whole, and never in place of one that is there
        finally:
            partial.unlink()
    return _key()
