"""What all tests share: the table of comparisons at the end of their output."""

from __future__ import annotations

from tests.closeness import pytest_terminal_summary as pytest_terminal_summary
