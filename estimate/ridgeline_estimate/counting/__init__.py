"""What a model costs on a workload, operation by operation, from its architecture.

Matmuls count 2·M·N·K, as torch.utils.flop_counter.FlopCounterMode does, with attention dense over the keys that run;
what a mask hides of that is each operation's `skipped_flops`. The tests hold matmuls and parameters to the models that
transformers builds.
"""

from ridgeline_estimate.counting.lengths import flops_by_length, flops_of_a_token
from ridgeline_estimate.counting.model import count_parameters, model_ops

__all__ = ["count_parameters", "flops_by_length", "flops_of_a_token", "model_ops"]
