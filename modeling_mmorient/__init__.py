"""MM-ORIENT: one model answers several questions about a picture with text at once."""

from transformers import AutoConfig, AutoModel, AutoProcessor

from .configuration_mmorient import MMOrientConfig
from .modeling_mmorient import MMOrientForMultitaskClassification, MMOrientModel
from .processing_mmorient import MMOrientProcessor
from .version import __version__

__all__ = [
    "MMOrientConfig",
    "MMOrientForMultitaskClassification",
    "MMOrientModel",
    "MMOrientProcessor",
    "__version__",
]

AutoConfig.register(MMOrientConfig.model_type, MMOrientConfig)
# What a user of a checkpoint wants is its answers, so AutoModel gives the model with the heads.
AutoModel.register(MMOrientConfig, MMOrientForMultitaskClassification)
AutoProcessor.register(MMOrientConfig, MMOrientProcessor)
MMOrientConfig.register_for_auto_class()
MMOrientForMultitaskClassification.register_for_auto_class("AutoModel")
MMOrientProcessor.register_for_auto_class()
