"""Embeddings, their sum and its norm."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.fused.embedding import embedding_layer_norm, embedding_reference
from ridgeline_kernels.op import OPS
from ridgeline_kernels.packing import cu_seqlens_of, positions_of
from tests.kernels.closeness import assert_as_near_as_reference

NAMES = (
    "input_ids",
    "word",
    "position",
    "position_ids",
    "cu_seqlens",
    "position_offset",
    "token_type",
    "token_type_ids",
    "weight",
    "bias",
    "eps",
    "normalize",
)
MIXED = [1, 2, 0, 63, 64, 0, 65]


def inputs(has: str, lengths: list[int], dim: int, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """Arguments of `embedding_layer_norm`: those named in `has`, input_ids and word."""
    tokens, offset = sum(lengths), 2 if "position_offset" in has else 0
    cu_seqlens = cu_seqlens_of(lengths, device)
    arguments = {
        "input_ids": torch.randint(0, 50, (tokens,), device=device),
        "word": torch.randn(50, dim, device=device).to(dtype),
        "position": torch.randn(max(lengths, default=0) + offset + 1, dim, device=device).to(dtype),
        "position_ids": positions_of(cu_seqlens, tokens) + offset,
        "cu_seqlens": cu_seqlens,
        "position_offset": offset,
        "token_type": torch.randn(2, dim, device=device).to(dtype),
        "token_type_ids": torch.randint(0, 2, (tokens,), device=device, dtype=torch.int32),
        "weight": torch.randn(dim, device=device).to(dtype),
        "bias": torch.randn(dim, device=device).to(dtype),
    }
    return {name: arguments[name] for name in ("input_ids", "word", *has.split())}


def reference_args(arguments: dict[str, Any]) -> tuple[Any, ...]:
    defaults = {"position_offset": 0, "eps": 1e-12, "normalize": True}
    return tuple(arguments.get(name, defaults.get(name)) for name in NAMES)


@pytest.mark.parametrize(
    ("has", "lengths", "dim", "dtype"),
    [
        ("position cu_seqlens token_type token_type_ids weight bias", MIXED, 80, torch.float16),
        ("position position_ids token_type token_type_ids weight bias", MIXED, 384, torch.float32),
        ("position cu_seqlens token_type weight bias", [1], 128, torch.bfloat16),
        ("position cu_seqlens position_offset weight bias", [127, 3], 768, torch.float16),
        ("position cu_seqlens", [1000], 33, torch.float16),
        ("token_type token_type_ids weight", [5, 0], 200, torch.float32),
        ("weight bias", [2, 9], 1024, torch.bfloat16),
        ("", [7], 5000, torch.float32),
        ("weight", [3], 2048, torch.float16),
        ("position cu_seqlens bias", [1] * 150 + [0] * 9 + [2], 1, torch.float32),
        ("position cu_seqlens weight bias", [3, 2], 16384, torch.float16),
    ],
)
@pytest.mark.parametrize("normalize", [True, False])
def test_is_within_a_rounding_of_the_exact(
    device: torch.device, has: str, lengths: list[int], dim: int, dtype: torch.dtype, normalize: bool
) -> None:
    if not normalize:
        has = " ".join(name for name in has.split() if name not in ("weight", "bias"))
    arguments = {**inputs(has, lengths, dim, dtype, device), "normalize": normalize}
    output = embedding_layer_norm(**arguments)
    assert output.dtype == dtype
    assert_as_near_as_reference(output, embedding_reference, *reference_args(arguments), low_precision=torch.float32)


def test_positions_from_cu_seqlens_are_those_given(device: torch.device) -> None:
    has = "position position_ids position_offset cu_seqlens token_type token_type_ids weight bias"
    arguments = inputs(has, MIXED, 96, torch.float16, device)
    del arguments["position_offset"]
    cu_seqlens = arguments.pop("cu_seqlens")
    given = embedding_layer_norm(**arguments)
    in_int32 = {**arguments, "input_ids": arguments["input_ids"].int(), "position_ids": arguments["position_ids"].int()}
    assert torch.equal(embedding_layer_norm(**in_int32), given)
    del arguments["position_ids"]
    assert torch.equal(embedding_layer_norm(**arguments, cu_seqlens=cu_seqlens, position_offset=2), given)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_is_the_model_s(device: torch.device, family: str) -> None:
    transformers = pytest.importorskip("transformers")
    modeling = pytest.importorskip(f"transformers.models.{family}.modeling_{family}")
    prefix = {"bert": "Bert", "roberta": "Roberta"}[family]
    options = {"vocab_size": 40, "hidden_size": 48, "num_attention_heads": 4, "max_position_embeddings": 34}
    config = getattr(transformers, f"{prefix}Config")(**options, type_vocab_size=2, pad_token_id=1)
    module = getattr(modeling, f"{prefix}Embeddings")(config).eval()
    torch.nn.init.normal_(module.LayerNorm.weight)
    torch.nn.init.normal_(module.LayerNorm.bias)
    lengths = [32, 1, 7]
    input_ids = torch.randint(2, 40, (sum(lengths),))
    token_type_ids = torch.randint(0, 2, (sum(lengths),))
    parts = zip(input_ids.split(lengths), token_type_ids.split(lengths), strict=True)
    expected = torch.cat([module(ids[None], types[None])[0] for ids, types in parts]).detach()
    state = {name: tensor.detach().to(device) for name, tensor in module.named_parameters()}
    actual = embedding_layer_norm(
        input_ids.to(device),
        state["word_embeddings.weight"],
        position=state["position_embeddings.weight"],
        cu_seqlens=cu_seqlens_of(lengths, device),
        position_offset=2 if family == "roberta" else 0,
        token_type=state["token_type_embeddings.weight"],
        token_type_ids=token_type_ids.to(device),
        weight=state["LayerNorm.weight"],
        bias=state["LayerNorm.bias"],
        eps=config.layer_norm_eps,
    )
    torch.testing.assert_close(actual.cpu(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bounds", [[0, 5, 11], [0, 900, -7], [8, 3, 2**31 - 1], [-(2**31), 0, 5]])
def test_whatever_the_ids_and_bounds_kernels_stay_inside_the_tables(device: torch.device, bounds: list[int]) -> None:
    arguments = inputs("position cu_seqlens token_type token_type_ids", [5, 6], 64, torch.float32, device)
    wild = torch.tensor([0, -1, 49, 50, 2**31 - 1, -(2**31), 7, 2**40, -(2**62), 3, 1], device=device)
    arguments["cu_seqlens"] = torch.tensor(bounds, dtype=torch.int32, device=device)
    arguments["input_ids"], arguments["token_type_ids"] = wild, wild.flip(0)
    output = OPS["embedding_layer_norm"].kernel(*reference_args({**arguments, "normalize": False}))
    known = {name: arguments[name].clamp(0, top) for name, top in (("input_ids", 49), ("token_type_ids", 1))}
    words = arguments["word"][known["input_ids"]] + arguments["token_type"][known["token_type_ids"]]
    # Each row is its words plus one of the positions.
    rest = (output - words)[:, None] - arguments["position"][None]
    assert (rest.abs().amax(dim=2).amin(dim=1) < 1e-5).all()


def test_sequences_in_another_order_give_the_same_and_none_gives_nothing(device: torch.device) -> None:
    arguments = inputs("position cu_seqlens weight bias", MIXED, 64, torch.float16, device)
    whole = embedding_layer_norm(**arguments)
    backwards = torch.cat(list(reversed(arguments["input_ids"].split(MIXED))))
    arguments.update(input_ids=backwards, cu_seqlens=cu_seqlens_of(MIXED[::-1], device))
    assert torch.equal(embedding_layer_norm(**arguments), torch.cat(list(reversed(whole.split(MIXED)))))
    nothing = inputs("position cu_seqlens token_type weight bias", [0, 0], 64, torch.float16, device)
    assert embedding_layer_norm(**nothing).shape == (0, 64)


def test_rows_of_wider_tables(device: torch.device) -> None:
    arguments = inputs("position position_ids", [9], 100, torch.float32, device)
    wide = {name: torch.cat([arguments[name], arguments[name]], dim=1)[:, :100] for name in ("word", "position")}
    assert torch.equal(embedding_layer_norm(**arguments), embedding_layer_norm(**{**arguments, **wide}))


def test_errors_name_the_argument() -> None:
    cpu = torch.device("cpu")
    sound = inputs("position cu_seqlens", [3, 4], 8, torch.float32, cpu)

    def fails(match: str, **changes: Any) -> None:
        arguments = {**sound, **changes}
        with pytest.raises(ArgumentError, match=match):
            embedding_layer_norm(**{name: value for name, value in arguments.items() if value is not None})

    fails(
        r"input_ids holds 50 at index 2; word has 50 rows: allowed are 0 to 49",
        input_ids=torch.tensor([0, 49, 50, 1, 2, -3, 4]),
    )
    fails("input_ids holds -3 at index 5", input_ids=torch.tensor([0, 49, 5, 1, 2, -3, 4]))
    fails("input_ids has dtype float32; allowed: int32, int64", input_ids=torch.randn(7))
    fails("one of position_ids and cu_seqlens says where tokens are; neither is", cu_seqlens=None)
    fails("one of position_ids and cu_seqlens .* both are", position_ids=torch.arange(7) % 3)
    fails(
        "position_ids holds 9 at index 6; position has 5 rows",
        position_ids=torch.tensor([0, 1, 2, 3, 4, 0, 9]),
        cu_seqlens=None,
    )
    fails(
        "position_offset is 2, which goes with cu_seqlens",
        position_ids=torch.arange(7) % 3,
        cu_seqlens=None,
        position_offset=2,
    )
    fails("a sequence of 4 tokens; position has 5 rows, room for 3 tokens from position 2 on", position_offset=2)
    fails("position_offset is -1", position_offset=-1)
    fails("cu_seqlens runs from 0 to 8", cu_seqlens=cu_seqlens_of([4, 4]))
    fails("give position too", position=None)
    fails("token_type_ids are rows of token_type; give it too", token_type_ids=torch.zeros(7, dtype=torch.int32))
    fails("token_type has dtype float16 and must have that of word", token_type=torch.randn(2, 8).half())
    fails("the number of rows of token_type is 0; it must be at least 1", token_type=torch.randn(0, 8))
    fails("weight is given and normalize is False", weight=torch.randn(8), normalize=False)
    fails(r"bias has shape \[9\]; it must be \[8\]", bias=torch.randn(9))
