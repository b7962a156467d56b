"""Client of PriorService."""

from __future__ import annotations

from gateway.events import Event, Progressed, Queued
from gateway.stages.backlog import Backlog
from gateway.stages.budget import Budget
from gateway.stages.channel import StageChannel
from gateway.stages.sampling import Sampling
from gateway.stages.text_encoder import Embedding, EncodedText
from unclip.internal.v1 import prior_service_pb2, prior_service_pb2_grpc

Request = prior_service_pb2.SamplePriorRequest
Response = prior_service_pb2.SamplePriorResponse


class Prior:
    """Texts to image embeddings. ``backlog``: what the stage has told of its load."""

    def __init__(self, channel: StageChannel) -> None:
        self.channel = channel
        self.backlog = Backlog()

    def sample(
        self, text: EncodedText, *, seed: int, steps: int, guidance: float, candidates: int, budget: Budget
    ) -> Sampling[Response, Embedding]:
        """Draw candidates for one picture; the result is the best's image embedding (D,)."""

        def request() -> Request:
            return Request(
                task=budget.task(seed, steps, guidance),
                text=text.prompt,
                unconditional=text.unconditional,
                candidates=candidates,
            )

        messages = self.channel.stream(
            lambda: self.channel.stub(prior_service_pb2_grpc.PriorServiceStub).SamplePrior,
            request,
            lambda m: m.HasField("result"),
            budget,
        )
        return Sampling(self.channel, messages, "prior", self._read)

    def _read(self, message: Response) -> Event | Embedding | None:
        self.backlog.told(message.load)
        event = message.WhichOneof("event")
        if event == "queued":
            return Queued("prior", message.queued.position)
        if event == "progress":
            return Progressed("prior", message.progress.step, message.progress.steps)
        return self.channel.array(message.result.embedding, None) if event == "result" else None
