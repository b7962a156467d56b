"""The sizes that a decoder makes, and the way to each through its networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Shape(NamedTuple):
    """Of a picture, in px."""

    width: int
    height: int

    @property
    def is_square(self) -> bool:
        """Whether its sides are as long."""
        return self.width == self.height

    @property
    def pixels(self) -> int:
        """All of them."""
        return self.width * self.height


def square(side: int) -> Shape:
    """The shape with this side."""
    return Shape(side, side)


@dataclass(frozen=True)
class Sizes:
    """Sides of square pictures in px, smallest first.

    native: those of ``all`` that the base network draws itself; the others are raised from the first.
    made_for: that of the pictures that the model is made for. multiple: of which each side of a picture that
    is not square is one; 0: all are square. guided_share: of a guided picture's steps in the base network,
    those that are two evaluations.
    """

    all: tuple[int, ...]
    native: tuple[int, ...]
    made_for: int
    multiple: int = 0
    guided_share: float = 1.0

    @property
    def largest(self) -> int:
        """The largest of all."""
        return self.all[-1]

    def drawn_for(self, shape: Shape) -> Shape:
        """The shape that is drawn for a picture of this one, and then reduced to it."""
        if not shape.is_square:
            return shape
        return square(next(side for side in self.all if side >= shape.width))

    def problem(self, shape: Shape) -> str:
        """What keeps a picture of this shape, which is not square, from being drawn; empty: nothing."""
        least, most = self.all[0], self.all[-1]
        if not self.multiple:
            return f"is {shape.width} x {shape.height}; this model draws squares only"
        if any(side % self.multiple or side < least for side in shape):
            sides = f"each side must be a multiple of {self.multiple}, and at least {least}"
            return f"is {shape.width} x {shape.height}; {sides}"
        if shape.pixels > most * most:
            return f"is {shape.width} x {shape.height}; at most {most * most} pixels are allowed"
        return ""

    def frame(self, side: int) -> int:
        """The side at which a frame of this side is painted.

        A picture that is not raised further is too coarse where others are raised. Where none are, one that
        is smaller than what the model is made for is too small. Of the rest it is the first that covers the
        frame when it is enlarged by half at most; else the largest.
        """
        raised = [size for size in self.all if size not in self.native]
        fit = raised or [size for size in self.all if size >= self.made_for]
        return next((size for size in fit if 1.5 * size >= side), fit[-1])

    def way(self, shape: Shape) -> tuple[int, ...]:
        """The sides that a picture has on its way: the base network's comes first.

        For one that is not square, the side of the square that costs as much.
        """
        size = shape.width
        if not shape.is_square:
            return (min(self.native, key=lambda side: abs(side * side - shape.pixels)),)
        if size in self.native:
            return (size,)
        raised = (side for side in self.all if side <= size and side not in self.native)
        return (self.native[0], *raised)
