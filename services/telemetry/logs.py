"""Log lines as JSON objects or as text, with whatever fields a line's ``extra`` adds."""

from __future__ import annotations

import logging
from typing import Literal

from pythonjsonlogger.json import JsonFormatter

LogFormat = Literal["text", "json"]
FIELDS = {"asctime": "time", "levelname": "level", "name": "logger"}


class TextFormatter(logging.Formatter):
    """Time, logger, level and message, then the added fields as key=value."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and a traceback's if there is one."""
        known = logging.makeLogRecord({}).__dict__.keys() | {"message", "asctime", "taskName"}
        added = "".join(
            f" {key}={value!r}" for key, value in record.__dict__.items() if key not in known and value != ""
        )
        return super().format(record) + added


def configure(form: LogFormat) -> None:
    """Write this process's log lines to standard error in this format."""
    handler = logging.StreamHandler()
    pattern = "%(asctime)s %(name)s %(levelname)s %(message)s"
    handler.setFormatter(
        JsonFormatter(pattern, rename_fields=FIELDS) if form == "json" else TextFormatter(pattern)
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler])
