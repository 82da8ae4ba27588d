"""Whatever is wrong gets one sentence, exit code 1, and never a traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.estimate.estimating import BERT, LLAMA, T5, run, write_model

WRONG_OPTIONS = {
    "batch": (["--batch", "0"], "batch is 0"),
    "seq": (["--seq", "-5"], "seq is -5"),
    "past": (["--past", "-1"], "past is -1"),
    "target": (["--target", "0"], "target is 0"),
    "mode": (["--mode", "guess"], "mode 'guess' is unknown; allowed: forward, prefill, decode, train"),
    "dtype": (["--dtype", "fp13"], "'fp13' is unknown; allowed: fp32"),
    "device": (["--device", "abacus"], "device 'abacus' is unknown; known"),
    "task": (["--task", "juggling"], "juggling"),
    "optimizer": (["--mode", "train", "--optimizer", "magic"], "optimizer 'magic' is unknown; allowed: sgd"),
    "optimizer without training": (["--optimizer", "sgd"], "add --mode train"),
    "price": (["--price", "-2"], "--price is -2"),
    "price that is no number": (["--price", "nan"], "--price is nan"),
    "data parallelism": (["--batch", "3", "--data-parallel", "2"], "a batch of 3 cannot be divided"),
    "no devices": (["--data-parallel", "0"], "data_parallel is 0"),
    "tensor parallelism": (["--tensor-parallel", "3"], "4 attention heads cannot be divided"),
    "zero stage": (["--zero-stage", "9"], "zero_stage is 9"),
    "variant": (["--variant", "int8"], "is none; leave it out"),
    "decode of an encoder": (["--mode", "decode"], "no KV cache"),
    "past of an encoder": (["--past", "5"], "no KV cache"),
    "target of an encoder": (["--target", "5"], "no encoder-decoder"),
    "positions": (["--seq", "513"], "513 tokens are more than the 512 positions"),
    "training int8": (["--mode", "train", "--dtype", "int8"], "int8 cannot be trained"),
    "sweep and compare": (["--sweep", "seq=1:2", "--compare", "dtype=fp32,bf16"], "give one of them"),
    "sweep of nothing": (["--sweep", "seq"], "NAME=FROM:TO"),
    "sweep of an unknown factor": (["--sweep", "mood=1:2"], "'mood' cannot be varied; allowed: batch"),
    "sweep backwards": (["--sweep", "seq=512:128"], "should be the larger one"),
    "sweep from zero": (["--sweep", "layers=0:4"], "starts at 0"),
    "sweep of words": (["--sweep", "seq=few:many"], "seq is 'few'; it should be a whole number"),
    "sweep of too many points": (["--sweep", "seq=1:500:499"], "asks for 499 points"),
    "sweep of four numbers": (["--sweep", "seq=1:2:3:4"], "FROM:TO:POINTS"),
    "sweep twice": (["--sweep", "seq=1:8", "--sweep", "seq=1:16"], "given twice"),
    "sweep of heads that do not fit": (["--sweep", "heads=3"], "heads is 3; it should divide 64"),
    "sweep without a fitting head": (["--sweep", "heads=5:7"], "no value that fits"),
    "sweep of an unknown dtype": (["--sweep", "dtype=fp32,fp13"], "'fp13' is unknown"),
    "sweep of an empty value": (["--sweep", "seq=128,"], "empty value"),
    "hidden that does not fit": (["--compare", "hidden=65"], "multiple of 16"),
    "kv heads of an encoder": (["--compare", "kv-heads=2"], "a key for every head"),
    "compare of nothing": (["--compare", ","], "is not understood"),
    "compare of an unknown model": (["--compare", "elsewhere"], "there is no file or directory 'elsewhere'"),
    "compare of too many": (["--compare", "seq=" + ",".join(map(str, range(1, 40)))], "at most 24"),
}


def sentence_of(*arguments: str) -> str:
    """The one sentence that the command ends with."""
    done = run(*arguments)
    assert done.exit_code == 1, done.output
    assert isinstance(done.exception, SystemExit), done.exception
    assert not done.stdout
    sentence = done.stderr.strip()
    assert sentence.startswith("Error: ")
    assert "\n" not in sentence
    assert "Traceback" not in sentence
    return sentence


@pytest.fixture
def bert(tmp_path: Path) -> str:
    return write_model(tmp_path / "bert", BERT)


@pytest.mark.parametrize(("options", "part"), WRONG_OPTIONS.values(), ids=WRONG_OPTIONS)
def test_wrong_options(bert: str, options: list[str], part: str) -> None:
    assert part in sentence_of(bert, *options)


WRONG_FILES = {
    "no JSON": ("not json {", "not valid JSON"),
    "no object": ("[1, 2]", "holds no JSON object"),
    "nothing": ("", "not valid JSON"),
    "no config": ('{"hello": "there"}', "names no model_type"),
    "too deep": ("[" * 100_000, "not valid JSON"),
}


@pytest.mark.parametrize(("text", "part"), WRONG_FILES.values(), ids=WRONG_FILES)
def test_files_that_are_no_config(tmp_path: Path, text: str, part: str) -> None:
    (tmp_path / "config.json").write_text(text)
    assert part in sentence_of(str(tmp_path))
    assert part in sentence_of(str(tmp_path / "config.json"))


def test_files_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(bytes(range(128, 256)))
    assert "config.json" in sentence_of(str(path))


def test_models_that_are_not_there(tmp_path: Path) -> None:
    assert "there is no file or directory" in sentence_of(str(tmp_path / "nowhere"))
    assert "there is no file or directory ''" in sentence_of("")
    assert "holds neither config.json nor ridgeline.json" in sentence_of(str(tmp_path))
    assert "not downloaded" in sentence_of("meta-llama/Llama-3-8B")
    assert "default" in sentence_of("bert-base-uncased")


def test_graphs_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no graph at all")
    assert "model.onnx" in sentence_of(str(path))
    path.write_bytes(b"")
    assert "model.onnx" in sentence_of(str(path))


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"hidden_size": -64}, "is -64"),
        ({"num_attention_heads": 0}, "is 0"),
        ({"vocab_size": "many"}, "is 'many'"),
        ({"num_hidden_layers": 1_000_000_000}, "models of up to 10000 layers can be counted"),
    ],
)
def test_configs_with_impossible_sizes(tmp_path: Path, changes: dict[str, object], part: str) -> None:
    assert part in sentence_of(write_model(tmp_path / "odd", {**BERT, **changes}))


def test_damaged_bundles(tmp_path: Path) -> None:
    manifest = tmp_path / "ridgeline.json"
    for content, part in (
        ("{", "not valid JSON"),
        ("{}", "lists no variants"),
        (json.dumps({"variants": {"fp32": {}}}), "does not say where the graph"),
        (json.dumps({"variants": {"fp32": {"graph": "fp32/model.onnx"}}}), "lacks fp32/model.onnx"),
        (json.dumps({"variants": {"fp32": []}}), "does not say where the graph"),
    ):
        manifest.write_text(content)
        assert part in sentence_of(str(tmp_path))


def test_what_a_graph_cannot_do(default_bundle: Path) -> None:
    bundle = str(default_bundle)
    assert "has no variant 'int3'" in sentence_of(bundle, "--variant", "int3")
    assert "count the bundle's config" in sentence_of(bundle, "--variant", "int8", "--dtype", "bf16")
    assert "cannot divide it" in sentence_of(bundle, "--tensor-parallel", "2")
    assert "KV cache" in sentence_of(bundle, "--past", "5")
    assert "train" in sentence_of(bundle, "--mode", "train")
    graph = str(default_bundle / "fp32" / "model.onnx")
    assert "formats and sizes are fixed" in sentence_of(graph, "--dtype", "bf16")
    assert "formats and sizes are fixed" in sentence_of(graph, "--sweep", "layers=2:4")


def test_parallelism_that_a_decoder_does_not_allow(tmp_path: Path) -> None:
    llama = write_model(
        tmp_path / "llama", {**LLAMA, "num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 16}
    )
    assert "cannot be divided" in sentence_of(llama, "--tensor-parallel", "4")
    assert "3 key-value heads" in sentence_of(llama, "--tensor-parallel", "2")


def test_an_encoder_decoder_of_too_many_tokens(tmp_path: Path) -> None:
    bart = {
        "model_type": "bart",
        "architectures": ["BartForConditionalGeneration"],
        "d_model": 64,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 128,
        "decoder_ffn_dim": 128,
        "vocab_size": 100,
        "max_position_embeddings": 64,
    }
    model = write_model(tmp_path / "bart", bart)
    assert "64 positions" in sentence_of(model, "--seq", "65")
    assert "64 positions" in sentence_of(model, "--seq", "8", "--target", "65")
    assert run(model, "--seq", "64", "--target", "64").exit_code == 0
    assert run(write_model(tmp_path / "t5", T5), "--seq", "2000").exit_code == 0


def test_places_that_cannot_be_written(bert: str, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    for options in ([], ["--compare", "dtype=fp32,bf16"], ["--sweep", "seq=16:64"]):
        done = run(bert, *options, "--out", str(blocked / "inside"))
        assert done.exit_code == 1
        assert "cannot be written" in done.stderr
