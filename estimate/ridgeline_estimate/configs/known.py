"""The model types whose code is in our tables."""

from __future__ import annotations

from ridgeline_estimate.configs.decoders import DECODERS
from ridgeline_estimate.configs.encoder_decoders import ENCODER_DECODERS
from ridgeline_estimate.configs.encoders import ENCODERS

KNOWN_TYPES = frozenset({*ENCODERS, *DECODERS, *ENCODER_DECODERS})
