"""Client of ImageEncoderService."""

from __future__ import annotations

from gateway.stages.budget import Budget
from gateway.stages.channel import StageChannel
from gateway.stages.text_encoder import Embedding
from services.editing.pictures import Pixels
from services.wire.tensors import to_message
from unclip.internal.v1 import image_encoder_service_pb2, image_encoder_service_pb2_grpc


class ImageEncoder:
    """Pictures to embeddings."""

    def __init__(self, channel: StageChannel) -> None:
        self.channel = channel

    async def encode(self, pixels: Pixels, budget: Budget, width: int | None = None) -> Embedding:
        """(H, W, 3) -> (D,), not normalised. Raises StageMismatch if D is not the width that is given."""
        picture = to_message(pixels)
        request = image_encoder_service_pb2.EncodeImageRequest(picture=picture, request_id=budget.request_id)
        response = await self.channel.call(
            lambda: self.channel.stub(image_encoder_service_pb2_grpc.ImageEncoderServiceStub).EncodeImage,
            lambda: request,
            budget,
        )
        return self.channel.array(response.embedding, width)
