"""Prediction tables: traits from latents or raw features, each beside its chance level.

A score means something only beside what guessing gives: with 44 % of people in one age bin, a
classifier that always names it is right 44 % of the time. Every row carries that number, and a
mark if the model did nothing else. Needs scikit-learn: ``pip install 'imgwas[predict]'``.
"""

from imgwas.prediction.importance import feature_importance
from imgwas.prediction.models import MODELS, SCHEMES
from imgwas.prediction.table import predict_targets
from imgwas.prediction.targets import Target, bin_target, read_target

__all__ = [
    "MODELS",
    "SCHEMES",
    "Target",
    "bin_target",
    "feature_importance",
    "predict_targets",
    "read_target",
]
