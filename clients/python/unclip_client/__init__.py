"""A client of unclip: sentences and pictures in, pictures out.

    from unclip_client import Client

    with Client("127.0.0.1:50051") as client:
        for i, picture in enumerate(client.generate("a fox on a sandy beach", n=4, seed=7)):
            picture.save(f"fox-{i}.png")

``AsyncClient`` has the same methods as coroutines. It needs neither torch nor Ray.
"""

from unclip_client.aio import AsyncClient
from unclip_client.client import Client
from unclip_client.errors import (
    DeadlineExceeded,
    InvalidRequest,
    ServiceFault,
    ServiceFull,
    Unavailable,
    UnclipError,
)
from unclip_client.requests import Margins, PictureLike, Sampling
from unclip_client.results import Event, Picture, Preview, Progress, Queued, RankedCaption, Warned

__all__ = [
    "AsyncClient",
    "Client",
    "DeadlineExceeded",
    "Event",
    "InvalidRequest",
    "Margins",
    "Picture",
    "PictureLike",
    "Preview",
    "Progress",
    "Queued",
    "RankedCaption",
    "Sampling",
    "ServiceFault",
    "ServiceFull",
    "Unavailable",
    "UnclipError",
    "Warned",
]
