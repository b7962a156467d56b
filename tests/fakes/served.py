"""One replica of each stage, made as its Ray Serve application makes it, without Ray."""

from services.bundles.clip_source import ClipSettings, ClipSource
from services.decoder.settings import Settings as DecoderSettings
from services.decoder.stage import DecoderStage
from services.image_encoder.stage import ImageEncoderStage
from services.prior.settings import Settings as PriorSettings
from services.prior.stage import PriorStage
from services.text_encoder.stage import TextEncoderStage

CLIP = ClipSettings(clip=ClipSource(bundle="models"))
STAGES = (
    TextEncoderStage(CLIP),
    ImageEncoderStage(CLIP),
    PriorStage(PriorSettings(bundle="models")),
    DecoderStage(DecoderSettings(bundle="models")),
)
