"""Runs in Infinity's own environment: its command, after what its optimum engine needs on today's torch.

Its release of optimum imports private names of torch.onnx.symbolic_opset14, which torch 2.13 no longer has. They serve
exporting alone, and nothing is exported here: any names will do.
"""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import Any

import torch.onnx.symbolic_opset14 as opset


def _as_it_is(*_: Any) -> Any:
    return lambda function: function


_STAND_INS = {
    "_attention_scale": None,
    "_causal_attention_mask": None,
    "_onnx_symbolic": _as_it_is,
    "_type_utils": SimpleNamespace(),
    "jit_utils": SimpleNamespace(GraphContext=object),
    "symbolic_helper": SimpleNamespace(parse_args=_as_it_is),
}


def main() -> None:
    """`infinity_emb` with the arguments of this script after the first, in the model's directory, which is the first.

    Of a local model its optimum engine finds the graph only under a relative name.
    """
    os.chdir(sys.argv.pop(1))
    for name, value in _STAND_INS.items():
        if not hasattr(opset, name):
            setattr(opset, name, value)
    from infinity_emb.cli import cli  # type: ignore[import-not-found]  # it is in the peer's environment alone

    sys.argv[0] = "infinity_emb"
    cli()


if __name__ == "__main__":
    main()
