"""What the flows tell, as messages of the public service."""

from __future__ import annotations

from google.protobuf import duration_pb2
from google.protobuf.json_format import MessageToDict

from gateway.events import Drawn, Event, Previewed, Progressed, Queued, Step, Warned
from gateway.flows.flow import Flow, Output
from gateway.flows.vary import Vary
from gateway.provenance import Made, Signer
from gateway.readiness import Model
from gateway.settings import Settings
from services.editing.pictures import Pixels, encode_picture
from unclip.v1 import image_service_pb2 as pb

STEPS: dict[Step, pb.Stage.ValueType] = {
    "text_encoder": pb.STAGE_TEXT_ENCODER,
    "image_encoder": pb.STAGE_IMAGE_ENCODER,
    "prior": pb.STAGE_PRIOR,
    "decoder": pb.STAGE_DECODER,
    "upsampler": pb.STAGE_UPSAMPLER,
}
WARNINGS = {"text cut": pb.WARNING_CODE_TEXT_CUT, "no effect": pb.WARNING_CODE_NO_EFFECT}
FORMATS = {"PNG": pb.OUTPUT_FORMAT_PNG, "WEBP": pb.OUTPUT_FORMAT_WEBP, "JPEG": pb.OUTPUT_FORMAT_JPEG}


def file_of(
    pixels: Pixels,
    flow: Flow,
    model: Model,
    signer: Signer | None,
    *,
    seed: int | None = None,
    output: Output | None = None,
) -> bytes:
    """A picture's file, with its provenance if there is a signer.

    seed: of a finished picture, which goes into the file with the settings. output: instead of what was
    asked for. It compresses: not on the event loop.
    """
    output = output or flow.output
    data = encode_picture(pixels, output.form, output.quality)
    if signer is None:
        return data
    settings = {} if seed is None else MessageToDict(to_options(flow, seed), preserving_proto_field_name=True)
    made = Made(model.name, model.version, flow.edits, flow.given, settings)
    return signer.signed(data, output.form, made)


def to_picture(drawn: Drawn, flow: Flow, model: Model, signer: Signer | None) -> pb.Picture:
    """A finished picture as a file, with all that it takes to make it again.

    It compresses: not on the event loop.
    """
    times = []
    for step, seconds in drawn.seconds.items():
        duration = duration_pb2.Duration()
        duration.FromNanoseconds(int(seconds * 1e9))
        times.append(pb.StageTime(stage=STEPS[step], duration=duration))
    height, width = drawn.pixels.shape[:2]
    return pb.Picture(
        data=file_of(drawn.pixels, flow, model, signer, seed=drawn.seed),
        width=width,
        height=height,
        seed=drawn.seed,
        model=model.name,
        model_version=model.version,
        stage_times=times,
        format=FORMATS[flow.output.form],
        options=to_options(flow, drawn.seed),
        similarity=flow.similarity if isinstance(flow, Vary) else None,
    )


def to_options(flow: Flow, seed: int) -> pb.SamplingOptions:
    """The options that took effect for one picture."""
    options = flow.options
    uses_prior = any(demand.stage == "prior" for demand in flow.demands())
    return pb.SamplingOptions(
        n=1,
        seed=seed,
        prior_steps=options.prior_steps if uses_prior else None,
        prior_guidance=options.prior_guidance if uses_prior else None,
        decoder_steps=options.decoder_steps,
        decoder_guidance=options.decoder_guidance,
        upsampler_steps=options.upsampler_steps,
        prior_candidates=options.prior_candidates if uses_prior else None,
        negative_prompt=options.negative_prompt,
        priority=pb.PRIORITY_BATCH if options.priority == "batch" else pb.PRIORITY_INTERACTIVE,
    )


def to_warning(event: Warned) -> pb.Warning:
    """What a caller should know."""
    return pb.Warning(code=WARNINGS[event.kind], field=event.field, message=event.message)


def to_response(
    index: int, event: Event, flow: Flow, model: Model, signer: Signer | None
) -> pb.StreamResponse | None:
    """An event of picture ``index`` as a stream's message; None for one that callers are not told of."""
    response = pb.StreamResponse(picture_index=index, request_id=flow.request_id)
    if isinstance(event, Queued) and event.position == 0:
        return None  # it is next
    if isinstance(event, Queued):
        response.queued.CopyFrom(pb.Queued(stage=STEPS[event.stage], position=event.position))
    elif isinstance(event, Progressed):
        response.progress.CopyFrom(to_progress(event))
    elif isinstance(event, Previewed):
        height, width = event.pixels.shape[:2]
        data = file_of(event.pixels, flow, model, signer, output=Output())
        response.preview.CopyFrom(pb.Preview(data=data, width=width, height=height))
    elif isinstance(event, Warned):
        response.warning.CopyFrom(to_warning(event))
    elif isinstance(event, Drawn):
        response.picture.CopyFrom(to_picture(event, flow, model, signer))
    else:
        return None
    return response


def to_progress(event: Progressed) -> pb.Progress:
    """How far a picture is."""
    return pb.Progress(
        stage=STEPS[event.stage],
        step=event.step,
        steps=event.steps,
        frame=event.frame,
        frames=event.frames,
    )


def to_model(model: Model, settings: Settings) -> pb.GetModelResponse:
    """What is served, its limits and defaults, as they take effect."""
    defaults = pb.SamplingOptions(
        n=1,
        prior_steps=min(model.prior.steps, settings.max_steps),
        prior_guidance=min(model.prior.guidance, settings.max_guidance),
        decoder_steps=min(model.decoder.steps, settings.max_steps),
        decoder_guidance=min(model.decoder.guidance, settings.max_guidance),
        upsampler_steps=min(model.decoder.upsampler_steps, settings.max_steps),
        prior_candidates=min(model.prior.candidates, settings.max_prior_candidates),
        preview_interval=0,
    )
    return pb.GetModelResponse(
        name=model.name,
        version=model.version,
        sizes=model.sizes.all,
        limits=to_limits(settings),
        defaults=defaults,
        default_similarity=model.decoder.similarity,
        licences=[
            pb.Licence(subject=x.subject, identifier=x.identifier, source=x.source) for x in model.licences
        ],
        default_size=model.decoder.size,
        shape_multiple=model.sizes.multiple,
    )


def to_limits(settings: Settings) -> pb.Limits:
    """What requests may ask for."""
    return pb.Limits(
        max_n=settings.max_n,
        max_prompt_characters=settings.max_prompt_characters,
        max_steps=settings.max_steps,
        max_guidance=settings.max_guidance,
        max_prior_candidates=settings.max_prior_candidates,
        max_captions=settings.max_captions,
        max_picture_bytes=settings.max_picture_bytes,
        max_picture_pixels=settings.max_picture_pixels,
        max_aspect_ratio=settings.max_aspect_ratio,
        max_reduced_pixels=settings.max_reduced_pixels,
        max_request_bytes=settings.max_request_bytes,
        max_result_pixels=settings.max_result_pixels,
        max_frames=settings.max_frames,
    )
