"""The sizes that a decoder makes, and the way to each through its networks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """Sides of square pictures in px, smallest first.

    native: those of ``all`` that the base network draws itself; the others are raised from the first.
    default: that of a picture whose request names none.
    """

    all: tuple[int, ...]
    native: tuple[int, ...]
    default: int

    @property
    def largest(self) -> int:
        """The largest of all."""
        return self.all[-1]

    def drawn_for(self, size: int) -> int:
        """The side that is drawn for a picture of this size, and then reduced to it."""
        return next(side for side in self.all if side >= size)

    def frame(self, side: int) -> int:
        """The side at which a frame of this side is painted.

        A picture that is not raised further is too coarse where others are raised. Where none are, one that
        is smaller than what the model is made for is too small. Of the rest it is the first that covers the
        frame when it is enlarged by half at most; else the largest.
        """
        raised = [size for size in self.all if size not in self.native]
        fit = raised or [size for size in self.all if size >= self.default]
        return next((size for size in fit if 1.5 * size >= side), fit[-1])

    def way(self, size: int) -> tuple[int, ...]:
        """The sides that a picture of one of the sizes has on its way: the base network's comes first."""
        if size in self.native:
            return (size,)
        raised = (side for side in self.all if side <= size and side not in self.native)
        return (self.native[0], *raised)
