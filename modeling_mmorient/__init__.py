"""MM-ORIENT: one model answers several questions about a picture with text at once."""

from transformers import AutoConfig, AutoModel, AutoProcessor
from transformers.pipelines import PIPELINE_REGISTRY

from .configuration_mmorient import MMOrientConfig
from .modeling_mmorient import MMOrientForMultitaskClassification, MMOrientModel
from .pipeline_mmorient import MMOrientPipeline
from .processing_mmorient import MMOrientProcessor
from .version import __version__

__all__ = [
    "MMOrientConfig",
    "MMOrientForMultitaskClassification",
    "MMOrientModel",
    "MMOrientPipeline",
    "MMOrientProcessor",
    "__version__",
]

AutoConfig.register(MMOrientConfig.model_type, MMOrientConfig)
# A user of a checkpoint wants its answers, so AutoModel gives the model with the heads.
AutoModel.register(MMOrientConfig, MMOrientForMultitaskClassification)
AutoProcessor.register(MMOrientConfig, MMOrientProcessor)
# Under a name of its own: registered as `image-classification`, it would replace that of all other models.
PIPELINE_REGISTRY.register_pipeline("mmorient", MMOrientPipeline, pt_model=AutoModel)
MMOrientConfig.register_for_auto_class()
MMOrientForMultitaskClassification.register_for_auto_class("AutoModel")
MMOrientProcessor.register_for_auto_class()
