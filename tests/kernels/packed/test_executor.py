"""Loading and running packed graphs: against PyTorch, and with feeds, outputs and weights of every kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from ridgeline_kernels.errors import ArgumentError, BackendError, GraphFileError, NodeError
from ridgeline_kernels.op import kernels_everywhere
from ridgeline_kernels.packed.executor import PackedModel
from tests.kernels.packed.dialect_graphs import DIM, bert, bert_by_torch, bert_weights, feed_of, graph_of, save

MIX = [5, 1, 0, 9, 2]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(bert(), tmp_path_factory.mktemp("bert"), beside=True)


@pytest.fixture(scope="module")
def model(path: Path) -> PackedModel:
    return PackedModel.load(path)


@pytest.mark.parametrize("lengths", [MIX, [1], [30], [0], [0, 0, 3], [1, 1, 1, 1]], ids=str)
def test_equals_pytorch(model: PackedModel, lengths: list[int]) -> None:
    feed = feed_of(lengths)
    got = model.run(feed)
    want = bert_by_torch(bert_weights(), lengths, feed["input_ids"])
    assert set(got) == {"last_hidden_state", "pooled"}
    for name, value in want.items():
        torch.testing.assert_close(got[name], value, rtol=1e-5, atol=1e-5)


def test_equals_pytorch_on_the_kernels(model: PackedModel) -> None:
    feed = feed_of([5, 1, 0, 2])
    with kernels_everywhere():
        got = model.run(feed)
    want = bert_by_torch(bert_weights(), [5, 1, 0, 2], feed["input_ids"])
    torch.testing.assert_close(got["last_hidden_state"], want["last_hidden_state"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got["pooled"], want["pooled"], rtol=1e-4, atol=1e-5)


def test_int32_ids_do_as_well(model: PackedModel) -> None:
    feed = feed_of(MIX)
    narrow = {name: value.int() for name, value in feed.items()}
    assert torch.equal(model.run(narrow)["pooled"], model.run(feed)["pooled"])


def test_positions_follow_from_the_bounds(model: PackedModel) -> None:
    feed = feed_of(MIX)
    without = {name: value for name, value in feed.items() if name != "position_ids"}
    assert torch.equal(model.run(without)["pooled"], model.run(feed)["pooled"])


def test_token_types_are_zeros_unless_given(tmp_path: Path) -> None:
    model = PackedModel.load(
        save(
            graph_of(
                "last_hidden_state = ridgeline.EmbeddingLayerNorm <normalize = 0> "
                "(input_ids, word, , , token_type_ids, types)",
                weights={
                    "word": np.eye(40, DIM, dtype=np.float32),
                    "types": np.float32([[5], [7]]) * np.ones((2, DIM), np.float32),
                },
                inputs="int64[1, tokens] input_ids, int64[1, tokens] token_type_ids, int32[bounds] cu_seqlens",
            ),
            tmp_path,
        )
    )
    feed = feed_of([2])
    plain = model.run(feed)["last_hidden_state"]
    typed = model.run({**feed, "token_type_ids": torch.tensor([[0, 1]])})["last_hidden_state"]
    assert torch.equal(typed - plain, torch.tensor([[0.0], [2.0]]).expand(1, 2, DIM))


def test_inputs_that_the_graph_lacks_are_left_alone(model: PackedModel) -> None:
    feed = feed_of(MIX)
    more = {**feed, "token_type_ids": torch.ones_like(feed["input_ids"])}
    assert torch.equal(model.run(more)["pooled"], model.run(feed)["pooled"])


@pytest.mark.parametrize("lengths", [[4, 2], [0, 0]], ids=str)
def test_spare_tokens_and_empty_sequences_change_nothing(model: PackedModel, lengths: list[int]) -> None:
    feed = feed_of(lengths)
    garbage = torch.full((1, 7), 10**6)
    padded = {
        "input_ids": torch.cat([feed["input_ids"], garbage], 1),
        "position_ids": torch.cat([feed["position_ids"], garbage], 1),
        "cu_seqlens": torch.cat([feed["cu_seqlens"], feed["cu_seqlens"][-1:].expand(3)]),
    }
    got, want = model.run(padded), model.run(feed)
    tokens = sum(lengths)
    assert got["last_hidden_state"].shape == (1, tokens + 7, DIM)
    assert torch.equal(got["last_hidden_state"][:, :tokens], want["last_hidden_state"])
    assert torch.equal(got["pooled"][:2], want["pooled"])
    assert not got["pooled"][2:].any()


def test_only_what_is_asked_for_is_computed(path: Path, model: PackedModel) -> None:
    pooled = PackedModel.load(path, outputs=["pooled"])
    hidden = PackedModel.load(path, outputs=["last_hidden_state"])
    feed = feed_of(MIX)
    assert pooled.outputs == ("pooled",)
    assert list(pooled.run(feed)) == ["pooled"]
    assert torch.equal(pooled.run(feed)["pooled"], model.run(feed)["pooled"])
    ran = [step.node.op_type for step in hidden.program.steps if step.node]
    assert "Pool" not in ran


def test_a_model_of_other_outputs_shares_the_weights(path: Path, model: PackedModel) -> None:
    pooled = PackedModel.load(path, outputs=["pooled"])
    hidden = pooled.giving(["last_hidden_state"])
    feed = feed_of(MIX)
    assert list(hidden.run(feed)) == ["last_hidden_state"]
    assert torch.equal(hidden.run(feed)["last_hidden_state"], model.run(feed)["last_hidden_state"])
    assert torch.equal(pooled.run(feed)["pooled"], model.run(feed)["pooled"])
    places = [
        {value.data_ptr() for value in each._bound.template if value is not None and value.numel() > 1}
        for each in (pooled, hidden)
    ]
    assert places[0] and places[1] <= places[0]
    assert hidden.planned_bytes(64, 2) > 0
    with pytest.raises(ArgumentError, match=r"outputs has 'logits'; the graph has last_hidden_state, pooled"):
        pooled.giving(["logits"])


def test_weights_are_mapped_from_their_file(model: PackedModel, path: Path) -> None:
    assert model.inputs == ("input_ids", "position_ids", "cu_seqlens")
    assert model.device == torch.device("cpu")
    assert model.weights_bytes == sum(value.nbytes for value in bert_weights().values())


def test_a_directory_will_do(path: Path) -> None:
    assert PackedModel.load(path.parent).outputs == ("last_hidden_state", "pooled")


def test_weights_may_be_in_the_file_itself(tmp_path: Path, model: PackedModel) -> None:
    inside = PackedModel.load(str(save(bert(), tmp_path)))
    assert torch.equal(inside.run(feed_of(MIX))["pooled"], model.run(feed_of(MIX))["pooled"])


def test_a_model_survives_its_files(tmp_path: Path) -> None:
    path = save(bert(), tmp_path, beside=True)
    model = PackedModel.load(path)
    want = model.run(feed_of(MIX))["pooled"]
    for file in tmp_path.iterdir():
        file.unlink()
    assert torch.equal(model.run(feed_of(MIX))["pooled"], want)


def test_a_replaced_file_is_read_anew(tmp_path: Path) -> None:
    first = PackedModel.load(save(bert(seed=0), tmp_path, beside=True)).run(feed_of(MIX))["pooled"].clone()
    for file in tmp_path.iterdir():
        file.unlink()
    second = PackedModel.load(save(bert(seed=1), tmp_path, beside=True)).run(feed_of(MIX))["pooled"]
    assert not torch.allclose(first, second)


class TestSeed:
    def test_missing_weights_are_drawn(self, tmp_path: Path) -> None:
        path = save(bert(), tmp_path, beside=True)
        (tmp_path / "model.onnx.data").unlink()
        # The shapes were in that file too: as inline constants they travel.
        proto = onnx.load(path, load_external_data=False)
        for initializer in proto.graph.initializer:
            if initializer.data_type == onnx.TensorProto.INT64:
                values = {"heads_shape": [0, -1, 3, 2, 8], "flat_shape": [1, -1, 16], "two": [2]}[initializer.name]
                initializer.CopyFrom(onnx.numpy_helper.from_array(np.array(values), initializer.name))
        onnx.save(proto, path)
        one, same, other = (PackedModel.load(path, seed=seed).run(feed_of(MIX))["pooled"] for seed in (1, 1, 2))
        assert torch.equal(one, same)
        assert not torch.allclose(one, other)
        assert 0.1 < one.std() < 3
        with pytest.raises(GraphFileError, match=r"model\.onnx\.data, which is missing: copy it there, or give a seed"):
            PackedModel.load(path)

    def test_missing_shapes_are_refused(self, tmp_path: Path) -> None:
        path = save(bert(), tmp_path, beside=True)
        (tmp_path / "model.onnx.data").unlink()
        with pytest.raises(GraphFileError, match=r"of torch\.int64 is missing, and no seed makes up for it"):
            PackedModel.load(path, seed=1)

    def test_weights_that_are_there_are_taken(self, path: Path, model: PackedModel) -> None:
        assert torch.equal(
            PackedModel.load(path, seed=1).run(feed_of(MIX))["pooled"], model.run(feed_of(MIX))["pooled"]
        )


def _without(name: str) -> dict[str, torch.Tensor]:
    return {key: value for key, value in feed_of(MIX).items() if key != name}


@pytest.mark.parametrize(
    ("feed", "says"),
    [
        (_without("input_ids"), "the feed lacks input_ids"),
        (_without("cu_seqlens"), "the feed lacks cu_seqlens"),
        (feed_of(MIX) | {"mask": torch.ones(3)}, "the feed has 'mask'"),
        (feed_of(MIX) | {"input_ids": torch.ones(17, dtype=torch.int64)}, r"input_ids has shape \[17\]"),
        (feed_of(MIX) | {"input_ids": torch.ones(1, 17)}, "input_ids has dtype float32"),
        (feed_of(MIX) | {"position_ids": torch.ones(1, 3, dtype=torch.int64)}, r"position_ids has shape \[1, 3\]"),
        (feed_of(MIX) | {"cu_seqlens": torch.tensor([0, 17])}, "cu_seqlens has dtype int64"),
        (feed_of(MIX) | {"cu_seqlens": torch.tensor([0], dtype=torch.int32)}, "cu_seqlens has 1 elements"),
        (feed_of(MIX) | {"cu_seqlens": torch.tensor([0, 18], dtype=torch.int32)}, r"cu_seqlens is \[0, 18\]"),
        (feed_of(MIX) | {"cu_seqlens": torch.tensor([0, 9, 4, 17], dtype=torch.int32)}, "never decrease"),
        (feed_of(MIX) | {"cu_seqlens": torch.tensor([2, 17], dtype=torch.int32)}, "must begin with 0"),
        (feed_of(MIX) | {"input_ids": torch.full((1, 17), 40)}, "node .*EmbeddingLayerNorm.*input_ids holds 40"),
        (feed_of(MIX) | {"input_ids": torch.ones(1, 17, dtype=torch.int64, device="meta")}, "is on meta and the model"),
    ],
)
def test_wrong_feeds(model: PackedModel, feed: dict[str, torch.Tensor], says: str) -> None:
    with pytest.raises(ArgumentError, match=says):
        model.run(feed)


def test_a_node_that_fails_is_named(tmp_path: Path) -> None:
    text = "[rows] h = ridgeline.EmbeddingLayerNorm (input_ids, word)\n[bad] last_hidden_state = Reshape (h, wrong)"
    weights = {"word": np.ones((40, DIM), np.float32), "wrong": np.array([1, 7, 16])}
    model = PackedModel.load(save(graph_of(text, weights=weights), tmp_path))
    with pytest.raises(NodeError, match=r"node 'bad' \(Reshape\) failed: shape '\[1, 7, 16\]' is invalid"):
        model.run(feed_of([3]))


def test_wrong_options(path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"outputs has 'logits'; .* has last_hidden_state, pooled"):
        PackedModel.load(path, outputs=["logits"])
    with pytest.raises(ArgumentError, match="outputs is empty"):
        PackedModel.load(path, outputs=[])
    for device in ("tpu", "meta"):
        with pytest.raises(ArgumentError, match=f"device is '{device}'; it must be cpu, cuda or cuda:N"):
            PackedModel.load(path, device)
    if not torch.cuda.is_available():
        with pytest.raises(BackendError, match="torch sees no CUDA device"):
            PackedModel.load(path, "cuda:1")


@pytest.mark.gpu
def test_a_gpu_answers_as_the_cpu_does(path: Path, model: PackedModel) -> None:
    on_gpu = PackedModel.load(path, "cuda")
    assert on_gpu.weights_bytes == model.weights_bytes
    feed = feed_of(MIX)
    padded = {
        "input_ids": torch.nn.functional.pad(feed["input_ids"], (0, 7), value=10**6),
        "cu_seqlens": torch.nn.functional.pad(feed["cu_seqlens"], (0, 3), value=sum(MIX)),
    }
    moved = {name: value.cuda() for name, value in padded.items()}
    torch.cuda.set_sync_debug_mode("error")
    try:
        outputs = on_gpu.run(moved)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for name, want in model.run(padded).items():
        rows = slice(None) if name == "pooled" else (slice(None), slice(sum(MIX)))
        torch.testing.assert_close(outputs[name].cpu()[rows], want[rows], rtol=1e-3, atol=1e-4)
