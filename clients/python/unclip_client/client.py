"""The client whose methods block."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self, Unpack

import grpc

from unclip.v1 import image_service_pb2 as pb
from unclip.v1 import image_service_pb2_grpc
from unclip_client import requests
from unclip_client.channels import OPTIONS, credentials_of, is_loopback, metadata_of
from unclip_client.errors import UnclipError, error_of
from unclip_client.patience import Patience
from unclip_client.requests import FlowRequest, Margins, PictureLike, Sampling, Size, file_of, stream_of
from unclip_client.results import Event, Picture, RankedCaption, event_of, ranked_of

Tls = bool | bytes | grpc.ChannelCredentials


class Client:
    """A service at an address, which is a name and port.

    timeout: seconds that a call may take in all. wait: a full service is asked again after the delay that it
    tells, within the timeout; on_wait is told of the error and the delay. tls: True for the system's roots,
    or a PEM file's bytes, or credentials. token: goes with every call. Every method takes a ``timeout`` of
    its own, raises an UnclipError, and passes ``Sampling``'s fields on.
    """

    def __init__(
        self,
        address: str = "127.0.0.1:50051",
        *,
        timeout: float = 600.0,
        wait: bool = True,
        tls: Tls = False,
        token: str | None = None,
        on_wait: Callable[[UnclipError, float], None] | None = None,
    ) -> None:
        self._address = address
        self._timeout = timeout
        self._wait = wait
        self._metadata = metadata_of(token)
        self._on_wait = on_wait
        credentials = credentials_of(tls)
        if token and credentials is None and not is_loopback(address):
            raise ValueError("a token is sent in the clear without tls; give tls=True")
        self._channel = (
            grpc.insecure_channel(address, options=OPTIONS)
            if credentials is None
            else grpc.secure_channel(address, credentials, options=OPTIONS)
        )
        self._stub = image_service_pb2_grpc.ImageServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def generate(
        self, prompt: str, *, size: Size = 0, timeout: float | None = None, **sampling: Unpack[Sampling]
    ) -> list[Picture]:
        """Draw pictures of a sentence. size: their side, or width and height, in px; 0: the default."""
        return self.draw(requests.generate(prompt, size, sampling), timeout)

    def inpaint(
        self,
        picture: PictureLike,
        prompt: str,
        *,
        mask: PictureLike | None = None,
        size: int = 0,
        timeout: float | None = None,
        **sampling: Unpack[Sampling],
    ) -> list[Picture]:
        """Paint into the hole of a mask (transparent, or white if opaque), or of the picture itself."""
        return self.draw(requests.inpaint(picture, prompt, mask, size, sampling), timeout)

    def outpaint(
        self,
        picture: PictureLike,
        prompt: str,
        margins: Margins,
        *,
        timeout: float | None = None,
        **sampling: Unpack[Sampling],
    ) -> list[Picture]:
        """Extend a picture past its borders."""
        return self.draw(requests.outpaint(picture, prompt, margins, sampling), timeout)

    def vary(
        self,
        picture: PictureLike,
        *,
        similarity: float | None = None,
        change: tuple[str, str] | None = None,
        strength: float | None = None,
        size: Size = 0,
        timeout: float | None = None,
        **sampling: Unpack[Sampling],
    ) -> list[Picture]:
        """Draw pictures like one; with ``change``, turned from what the one text says towards the other."""
        request = requests.vary(picture, similarity, change, strength, size, sampling)
        return self.draw(request, timeout)

    def mix(
        self,
        sources: Sequence[PictureLike | str],
        *,
        weights: Sequence[float] = (),
        size: Size = 0,
        timeout: float | None = None,
        **sampling: Unpack[Sampling],
    ) -> list[Picture]:
        """Draw what pictures and prompts (strings) have in common."""
        return self.draw(requests.mix(sources, weights, size, sampling), timeout)

    def interpolate(
        self,
        start: PictureLike | str,
        end: PictureLike | str,
        *,
        frames: int = 5,
        size: Size = 0,
        timeout: float | None = None,
        **sampling: Unpack[Sampling],
    ) -> list[Picture]:
        """Draw the way from one picture or prompt to another."""
        return self.draw(requests.interpolate(start, end, frames, size, sampling), timeout)

    def rank(
        self,
        picture: PictureLike,
        captions: Sequence[str],
        *,
        model: str = "",
        timeout: float | None = None,
    ) -> list[RankedCaption]:
        """Order captions by how well they fit a picture."""
        request = pb.RankCaptionsRequest(picture=file_of(picture), captions=captions, model=model)
        return ranked_of(self._call(self._stub.RankCaptions, request, timeout))

    def embed_text(self, text: str, *, model: str = "", timeout: float | None = None) -> list[float]:
        """A text's embedding, of unit length."""
        request = pb.EmbedTextRequest(text=text, model=model)
        return list((self._call(self._stub.EmbedText, request, timeout)).embedding)

    def embed_image(
        self, picture: PictureLike, *, model: str = "", timeout: float | None = None
    ) -> list[float]:
        """A picture's embedding, of unit length."""
        request = pb.EmbedImageRequest(picture=file_of(picture), model=model)
        return list((self._call(self._stub.EmbedImage, request, timeout)).embedding)

    def model(self, name: str = "", *, timeout: float | None = None) -> pb.GetModelResponse:
        """A model: sizes, limits, defaults, licences. name: empty for the service's default."""
        return self._call(self._stub.GetModel, pb.GetModelRequest(model=name), timeout)

    def models(self, *, timeout: float | None = None) -> pb.ListModelsResponse:
        """All models that are served."""
        return self._call(self._stub.ListModels, pb.ListModelsRequest(), timeout)

    def draw(self, request: FlowRequest, timeout: float | None = None) -> list[Picture]:
        """The pictures of a request, in their order."""
        events = self.stream(request, timeout)
        pictures = [event for event in events if isinstance(event, Picture)]
        return sorted(pictures, key=lambda picture: picture.index)

    def stream(self, request: FlowRequest, timeout: float | None = None) -> Iterator[Event]:
        """What happens to a request's pictures, as it happens. Leaving early cancels the work.

        The request is made again only while no picture has come.
        """
        patience = self._patience(timeout)
        begun = False
        while True:
            call = self._stub.Stream(stream_of(request), timeout=patience.left, metadata=self._metadata)
            try:
                for response in call:
                    if (event := event_of(response)) is not None:
                        begun = begun or isinstance(event, Picture)
                        yield event
                return
            except grpc.RpcError as failure:
                delay = self._delay(failure, patience, may_wait=not begun)
            finally:
                call.cancel()
            time.sleep(delay)

    def _call(self, method: Any, request: Any, timeout: float | None) -> Any:
        patience = self._patience(timeout)
        while True:
            try:
                return method(request, timeout=patience.left, metadata=self._metadata)
            except grpc.RpcError as failure:
                delay = self._delay(failure, patience)
            time.sleep(delay)

    def _patience(self, timeout: float | None) -> Patience:
        return Patience(self._timeout if timeout is None else timeout, self._wait)

    def _delay(self, failure: grpc.RpcError, patience: Patience, *, may_wait: bool = True) -> float:
        """Seconds until the call is made again. Raises what it failed with if it is not."""
        error = error_of(failure, self._address)
        delay = patience.delay(error) if may_wait else None
        if delay is None:
            raise error from None
        if self._on_wait is not None:
            self._on_wait(error, delay)
        return delay
