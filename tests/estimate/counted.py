"""Models of transformers on the meta device, and what torch counts of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode

from ridgeline_estimate import Architecture, read_architecture

TOLERANCE = 1e-9


def config_of(model_type: str, **fields: Any) -> Any:
    """A config of transformers."""
    return transformers.AutoConfig.for_model(model_type, **fields)


def build(config: Any, head: str = "Model", device: str = "meta") -> torch.nn.Module:
    """The model of the config's class for that head, without weights on the meta device."""
    auto = transformers.AutoModel if head == "Model" else getattr(transformers, f"AutoModel{head}")
    with torch.device(device):
        model: torch.nn.Module = auto.from_config(config).eval()
    if hasattr(model, "set_experts_implementation"):
        # The default loops over the experts that are hit, which the meta device cannot tell.
        model.set_experts_implementation("batched_mm")
    return model


def saved_config(model: Any) -> dict[str, Any]:
    """The config.json that the model would be saved with."""
    config: dict[str, Any] = json.loads(model.config.to_json_string(use_diff=True))
    return {**config, "architectures": [type(model).__name__]}


def read(model: Any) -> Architecture:
    """The architecture that its config.json describes."""
    return read_architecture(saved_config(model))


def parameters_of(model: torch.nn.Module) -> int:
    """How many weights it holds, shared ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


def inputs(batch: int, seq: int, device: str = "meta", *, keys: int | None = None) -> dict[str, torch.Tensor]:
    """Token ids, and a mask of floats that hides nothing: transformers would look at the values of any other."""
    ids = torch.ones(batch, seq, dtype=torch.long, device=device)
    return {"input_ids": ids, "attention_mask": torch.zeros(batch, 1, seq, keys or seq, device=device)}


def pair_inputs(batch: int, seq: int, target: int) -> dict[str, torch.Tensor]:
    """Inputs of an encoder-decoder; torch takes the encoder's mask for attention to it too, one row for all."""
    given = inputs(batch, seq)
    return {
        "input_ids": given["input_ids"],
        "attention_mask": torch.zeros(batch, 1, 1, seq, device="meta"),
        "decoder_input_ids": torch.ones(batch, target, dtype=torch.long, device="meta"),
        "decoder_attention_mask": torch.zeros(batch, 1, target, target, device="meta"),
    }


def counted(model: torch.nn.Module, given: Mapping[str, Any]) -> int:
    """FLOPs that torch's counter sees in a forward pass."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(**given)
    flops: int = counter.get_total_flops()
    return flops
