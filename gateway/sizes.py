"""The sizes that a decoder makes, and the way to each through its networks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """Sides of square pictures in px, smallest first.

    native: those of ``all`` that the base network draws itself; the others are raised from the first.
    """

    all: tuple[int, ...]
    native: tuple[int, ...]

    @property
    def largest(self) -> int:
        """The largest of all."""
        return self.all[-1]

    def drawn_for(self, size: int) -> int:
        """The side that is drawn for a picture of this size, and then reduced to it."""
        return next(side for side in self.all if side >= size)

    def way(self, size: int) -> tuple[int, ...]:
        """The sides that a picture of one of the sizes has on its way: the base network's comes first."""
        if size in self.native:
            return (size,)
        raised = (side for side in self.all if side <= size and side not in self.native)
        return (self.native[0], *raised)
