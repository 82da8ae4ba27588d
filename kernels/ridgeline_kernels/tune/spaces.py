"""The candidates that the tuner tries: for each op a handful of launch parameters, fitted to the shape class.

A candidate is laid over the shipped entry of the shape class: what it does not name stays.
"""

from __future__ import annotations

from ridgeline_kernels.tune.attention_candidates import (
    attention,
    disentangled,
    few_keys,
    few_queries,
    key_blocks,
    landmark_values,
    linformer_projection,
    local_global,
)
from ridgeline_kernels.tune.grids import Space, fixed, grid
from ridgeline_kernels.tune.linear_candidates import linear
from ridgeline_kernels.tune.row_candidates import few_rows, pool, quantized_rows, softmax, tiles, whole_rows

SPACES: dict[str, Space] = {
    "quantize_rows": quantized_rows,
    "norm": few_rows,
    "embedding_layer_norm": few_rows,
    "bias_activation": tiles(1024, 2048, 4096, 8192),
    "gated_activation": tiles(1024, 2048, 4096, 8192),
    "quantized_bias_activation": whole_rows,
    "quantized_gated_activation": whole_rows,
    "linear": linear(2),
    "int8_linear": linear(1),
    "fp8_linear": linear(1),
    "linear_finish": fixed(grid(ROWS=(1, 2, 4, 8), BLOCK_N=(256, 512, 1024), num_warps=(2, 4))),
    "rotary": fixed(grid(ROWS=(8, 16, 32, 64, 128), num_warps=(2, 4, 8))),
    "softmax": softmax,
    "attention": attention,
    "disentangled_attention": disentangled,
    "block_sparse_attention": fixed(key_blocks(16, 32, 64, 128)),
    "local_global_attention": local_global,
    "global_rows": fixed(grid(SPAN=(256, 512, 1024), BLOCK_N=(32, 64, 128), num_warps=(4, 8))),
    "lsh_attention": fixed(key_blocks(16, 32, 64, 128, 256, stages=(1, 2))),
    "lsh_hash": fixed(grid(BLOCK_T=(32, 64, 128), BLOCK_C=(32, 64, 128), num_warps=(4, 8))),
    "lsh_order": fixed(grid(BLOCK_T=(64, 128, 256), TILES=(4, 8, 16), num_warps=(2, 4))),
    "combine_attention": fixed(grid(ROWS=(8, 16, 32, 64), num_warps=(2, 4, 8))),
    "segment_means": fixed(grid(BLOCK_T=(8, 16, 32), BLOCK_H=(1, 2, 4), num_warps=(2, 4))),
    "landmark_values": landmark_values,
    "few_queries": few_queries,
    "few_keys": few_keys,
    "linformer_projection": linformer_projection,
    "pool": pool,
    "classify": fixed(grid(TILE=(1024, 2048, 4096, 8192), MOST_ROWS=(4, 16, 64), num_warps=(4, 16))),
    "best_spans": fixed(grid(BLOCK_T=(256, 512, 1024), num_warps=(2, 4, 8))),
    "segment_softmax": fixed(grid(TILE=(1024, 2048, 4096, 8192), num_warps=(2, 4, 8))),
}
