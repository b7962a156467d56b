"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def replacing(path: Path, mode: int | None = None) -> Iterator[BinaryIO]:
    """A file that takes the path's place when it has been written; on an error nothing changes.

    mode: its permissions, if there was no file; None: as any new file of this process has them. A file that
    was there gives its own, and its owner. Raises OSError.
    """
    path = path.resolve()
    known = path.stat() if path.exists() else None
    if mode is None:
        os.umask(mask := os.umask(0))
        mode = 0o666 & ~mask
    handle, new = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), known.st_mode & 0o777 if known else mode)
            if known is not None:
                with contextlib.suppress(PermissionError):
                    os.fchown(file.fileno(), known.st_uid, known.st_gid)
        Path(new).replace(path)
    except BaseException:
        Path(new).unlink(missing_ok=True)
        raise
