"""A sampling call: an iterator of events, with its result and its seconds when it has ended."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Generic, Self, TypeVar

from gateway.events import Event, Step, Timed
from gateway.stages.channel import StageChannel

Message = TypeVar("Message")
Result = TypeVar("Result")


class Sampling(Generic[Message, Result]):
    """Iterate over it inside ``async with``; then ``result`` is there. Leaving early cancels the call.

    read(message) makes of a message an event, or the result, or None. The time of each step of the pipeline
    is told as a last ``Timed`` event: the upsampler's begins when the decoder has told its last step.
    """

    def __init__(
        self,
        channel: StageChannel,
        messages: AsyncGenerator[Message, None],
        step: Step,
        read: Callable[[Message], Event | Result | None],
        next_step: Callable[[Message], Step | None] = lambda message: None,
    ) -> None:
        self._channel = channel
        self._messages = messages
        self._step = step
        self._read = read
        self._next_step = next_step
        self._seconds: dict[Step, float] = {}
        self._result: Result | None = None

    @property
    def result(self) -> Result:
        """What the stage has made."""
        if self._result is None:
            raise self._channel.unavailable()
        return self._result

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._messages.aclose()

    async def __aiter__(self) -> AsyncIterator[Event]:
        started = time.monotonic()
        step = self._step
        async with aclosing(self._messages) as messages:
            async for message in messages:
                read = self._read(message)
                if isinstance(read, Event):
                    yield read
                elif read is not None:
                    self._result = read
                if (following := self._next_step(message)) is not None and following != step:
                    yield Timed(step, time.monotonic() - started)
                    started = time.monotonic()
                    step = following
        yield Timed(step, time.monotonic() - started)
