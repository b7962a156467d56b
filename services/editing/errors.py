"""What can be wrong with a picture."""

from __future__ import annotations


class PictureError(ValueError):
    """A picture cannot be used. The message is what follows its name: "is broken or truncated"."""
