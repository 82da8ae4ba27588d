"""Models files and their settings: what is read, what is refused, and what a model's own settings change."""

from __future__ import annotations

import logging
from pathlib import Path

import httpx
import pytest

from ridgeline_server.config import ModelSettings, Overlong, ServerConfig, config_of, settings_of
from ridgeline_server.engine.loading import load_models, warn_of_shared_cores
from ridgeline_server.errors import RequestTooLargeError, StartupError
from ridgeline_server.models_file import SettingError, check_name, parse_settings, read_models_file
from ridgeline_server.runtimes.cores import usable_cpus
from ridgeline_server.runtimes.devices import Device
from ridgeline_server.runtimes.placement import Placement, place
from tests.server.running_server import running_server

CPUS = usable_cpus()


def written(folder: Path, text: str) -> Path:
    path = folder / "models.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_each_model_has_its_settings_and_bundles_are_found_beside_the_file(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """
        [[models]]
        bundle = "bundles/mini"
        [[models]]
        name = "suche-ü"
        bundle = "/elsewhere/e5"
        devices = "cpu:0,cpu:1"
        cores = "0-2,5"
        variant = "int8"
        runtime = "onnxruntime"
        overlong = "error"
        max_batch_tokens = 512
        max_queue_tokens = 1024
        max_request_tokens = 256
        max_queue_s = 2
        max_age_s = 0.5
        tuned = false
        """,
    )
    first, second = read_models_file(path)
    assert first == ModelSettings("mini", tmp_path / "bundles/mini")
    assert second == ModelSettings(
        "suche-ü",
        Path("/elsewhere/e5"),
        devices="cpu:0,cpu:1",
        cores=(0, 1, 2, 5),
        runtime="onnxruntime",
        variant="int8",
        overlong=Overlong.ERROR,
        max_batch_tokens=512,
        max_queue_tokens=1024,
        max_request_tokens=256,
        max_queue_s=2.0,
        max_age_s=0.5,
        tuned=False,
    )
    config = config_of(ServerConfig(bundles=(Path("x"),), max_batch_tokens=64, max_queue_s=9.0), first, [second])
    assert (config.max_batch_tokens, config.max_queue_s, config.cores, config.models) == (64, 9.0, None, ())
    config = config_of(ServerConfig(bundles=(Path("x"),), max_batch_tokens=64), second, [first])
    assert (config.max_batch_tokens, config.cores, config.overlong) == (512, (0, 1, 2, 5), Overlong.ERROR)


@pytest.mark.parametrize(
    "text, said",
    [
        ("models = 3", "it names no model; write a table"),
        ("", "it names no model; write a table"),
        ("[[models]\n", "is not TOML"),
        ("port = 3\n[[models]]\nbundle='a'", "'port' means nothing here"),
        ("[[models]]\nname='a'", "model 1 ('a'): it has no bundle"),
        ("[[models]]\nbundle='a'\nvarient='int8'", "no setting 'varient'; did you mean 'variant'?"),
        ("[[models]]\nbundle='a'\nzzz='int8'", "no setting 'zzz'; the settings are: name, bundle,"),
        ("[[models]]\nbundle='x/a'\n[[models]]\nname='a'\nbundle='b'", "two models are called 'a'"),
        ("[[models]]\nbundle='a'\nmax_queue_tokens=0", "'max_queue_tokens' is 0; give a whole number of 1 or more"),
        ("[[models]]\nbundle='a'\nmax_batch_tokens=true", "'max_batch_tokens' is True; give a whole number"),
        ("[[models]]\nbundle='a'\nmax_queue_s=-1", "'max_queue_s' is -1; give seconds"),
        ("[[models]]\nbundle='a'\nmax_age_s=nan", "'max_age_s' is nan; give seconds"),
        ("[[models]]\nbundle='a'\noverlong='cut'", "'overlong' is 'cut'; give truncate or error"),
        ("[[models]]\nbundle='a'\ncores='0-'", "'cores' is '0-'; give numbers of CPUs"),
        ("[[models]]\nbundle='a'\ncores='3-1'", "'cores' is '3-1'; give numbers of CPUs"),
        ("[[models]]\nbundle='a'\ncores=[0, 0]", "'cores' is [0, 0]; give numbers of CPUs, each once"),
        ("[[models]]\nbundle='a'\ncores=[]", "'cores' is []; give numbers"),
        ("[[models]]\nbundle='a'\ncores=2", "'cores' is 2; give numbers"),
        ("[[models]]\nbundle='a'\ntuned='no'", "'tuned' is 'no'; give true or false"),
        ("[[models]]\nbundle='a'\nname='a b'", "'name' is 'a b'; give 1 to 128 letters"),
        ("[[models]]\nbundle='a'\nname='../x'", "'name' is '../x'; give 1 to 128 letters"),
        ("[[models]]\nbundle=''", "'bundle' is ''; give a text"),
    ],
)
def test_what_means_nothing_is_refused_and_what_is_allowed_is_said(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(StartupError) as caught:
        read_models_file(written(tmp_path, text))
    assert said in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"models file .*none\.toml cannot be read"):
        read_models_file(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(StartupError, match="cannot be read"):
        read_models_file(tmp_path / "bytes.toml")


def test_null_takes_a_setting_back() -> None:
    assert parse_settings({"cores": None, "variant": "fp32"}) == {"cores": None, "variant": "fp32"}
    for name in ("", "a/b", "a\n", "-a", "a" * 129, 3, None):
        with pytest.raises(SettingError):
            check_name(name)


def test_a_model_on_cores_of_its_own_takes_no_others() -> None:
    cpu = Device("cpu", 0)
    assert place([cpu], CPUS[:1]) == [Placement(cpu, 1, CPUS[:1])]
    with pytest.raises(StartupError, match="cores 4095, 4096 cannot be used: this process may use 0"):
        place([cpu], (4095, 4096))
    with pytest.raises(StartupError, match="ask for 2 replicas, but there are 1 cores"):
        place([cpu, Device("cpu", 1)], CPUS[:1])


def test_plans_say_which_cores_they_have_and_others_do_not_share_them(tiny_bundle: Path) -> None:
    own = ModelSettings("own", tiny_bundle, cores=CPUS[:1], max_request_tokens=7, overlong=Overlong.ERROR)
    config = ServerConfig(bundles=(tiny_bundle,), models=(own, ModelSettings("third", tiny_bundle)))
    assert [each.name for each in settings_of(config)] == [tiny_bundle.name, "own", "third"]
    models = load_models(config, lambda record: None)
    for model in models:
        model.tokenizer.stop()
    first, second, third = (model.served.plan for model in models)
    assert (first.cores, second.cores, second.threads) == (None, CPUS[:1], 1)
    assert second.why.endswith(f"; on cores {CPUS[0]}")
    assert first.why.endswith("; planned with the whole device, which it shares with 1 other bundle")
    assert third.why.endswith("shares with 1 other bundle")
    infos = [model.info() for model in models]
    assert [(info.max_request_tokens, info.truncates) for info in infos] == [(None, None), (7, False), (None, None)]
    pairs = [("rain", "snow")] * 3
    assert len(models[0].tokenizer.tokenizer.encode(pairs, truncate=True)) == 3
    with pytest.raises(RequestTooLargeError, match="the inputs hold more than 7 tokens"):
        models[1].tokenizer.tokenizer.encode(pairs, truncate=True)


def test_cores_that_two_models_may_use_are_told(caplog: pytest.LogCaptureFixture) -> None:
    a, b = ModelSettings("a", Path("a"), cores=(0, 1)), ModelSettings("b", Path("b"), cores=(1, 2))
    c = ModelSettings("c", Path("c"))
    with caplog.at_level(logging.WARNING):
        warn_of_shared_cores(b, [a])
        warn_of_shared_cores(c, [a])
        warn_of_shared_cores(c, [c])
        warn_of_shared_cores(a, [ModelSettings("d", Path("d"), cores=(2,))])
    told = [each.getMessage() for each in caplog.records if each.name == warn_of_shared_cores.__module__]
    assert told == [
        "models 'a' and 'b' share the cores 1",
        "model 'c' has no cores of its own, and may take those of 'a'",
    ]


def test_one_name_stands_for_one_model(tiny_bundle: Path) -> None:
    config = ServerConfig(bundles=(tiny_bundle,), models=(ModelSettings(tiny_bundle.name, tiny_bundle),))
    with pytest.raises(
        StartupError, match=r"two models are called .*; give one of them another name in the models file"
    ):
        load_models(config, lambda record: None)


def test_a_server_serves_the_file_beside_its_bundles(tiny_bundle: Path, tmp_path: Path) -> None:
    text = f"[[models]]\nname = 'bound'\nbundle = '{tiny_bundle}'\ncores = [{CPUS[0]}]\nmax_request_tokens = 5\n"
    with running_server(str(tiny_bundle), "--models", str(written(tmp_path, text))) as server:
        served = httpx.get(f"{server.url}/v1/models").json()["data"]
        assert [model["id"] for model in served] == [tiny_bundle.name, "bound"]
        assert sorted(worker.cpu_affinity() for worker in server.workers()) == sorted([[CPUS[0]], sorted(CPUS)])
        answers = [
            httpx.post(f"{server.url}/models/{name}/embed", json={"inputs": [[5] * 6]}).status_code
            for name in (tiny_bundle.name, "bound")
        ]
        assert answers == [200, 413]
