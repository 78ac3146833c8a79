"""`edgewise`, as a process where that matters."""

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgewise.cli.exit_codes import ExitCode
from edgewise_edge import DeviceModel, find_model
from tests.support.command_line import BIN, RunCommand, run
from tests.support.network.fault_proxy import fault_proxy
from tests.support.scripted_cloud import ScriptedCloud, serving_scripted
from tests.support.service import Running, serving


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the measurements of tiny models out of the user's cache, and the user's settings out."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("CLOUD", "CLOUD_TOKEN", "CONFIG"):
        monkeypatch.delenv(f"EDGEWISE_{name}", raising=False)


@pytest.fixture(scope="module")
def service(exact_folder: Path) -> Iterator[Running]:
    with serving(str(exact_folder)) as running:
        yield running


def test_generate_prints_only_the_text() -> None:
    """The text on standard output, the summary on standard error."""
    done = run("generate", "Once upon a time", "--max-tokens", "10", "--seed", "1")
    assert done.returncode == 0
    assert done.stdout.strip()
    assert "on_device · preferred · 10 tokens" in done.stderr


def test_generate_is_reproducible_with_a_seed(edgewise: RunCommand) -> None:
    """40 tokens on the device, the same text twice, in two processes."""
    arguments = ("generate", "Once upon a time", "--max-tokens", "40", "--seed", "1", "--json")
    first, again = (json.loads(command(*arguments).stdout) for command in (run, edgewise))
    assert first["source"] == "on_device"
    assert first["usage"]["completion_tokens"] == len(first["token_ids"]) == 40
    assert first["text"] == again["text"]
    assert first["decision"]["vetoes"]["in_cloud"]["code"] == "no_address"


def test_prompt_from_standard_input() -> None:
    """With or without a dash."""
    options = ("--max-tokens", "5", "--temperature", "0")
    argument = run("generate", "Once upon a time", *options).stdout
    assert argument
    assert run("generate", *options, stdin="Once upon a time\n").stdout == argument
    assert run("generate", "-", *options, stdin="Once upon a time").stdout == argument


def test_an_empty_prompt_begins_a_story(edgewise: RunCommand) -> None:
    """After one token that is not shown."""
    arguments = ("generate", "", "--max-tokens", "5", "--seed", "1", "--json")
    story = json.loads(edgewise(*arguments).stdout)
    assert story["usage"] == {"prompt_tokens": 1, "completion_tokens": 5, "total_tokens": 6}


def test_route_chooses_the_cloud_with_a_low_battery(edgewise: RunCommand) -> None:
    """With reason and veto; but never for a private prompt, or without a network. It is not contacted."""
    drained = ("route", "Once upon a time", "--battery", "0.03", "--on-battery")
    arguments = (*drained, "--cloud", "127.0.0.1:9", "--json")
    decision = json.loads(edgewise(*arguments).stdout)
    assert decision["source"] == "in_cloud"
    assert decision["reason"] == "other_vetoed"
    assert decision["vetoes"]["on_device"]["code"] == "battery"
    for option, code in {"--private": "private", "--no-network": "no_network"}.items():
        stays = json.loads(edgewise(*arguments, option).stdout)
        assert stays["source"] == "on_device"
        assert stays["vetoes"]["in_cloud"]["code"] == code


def test_route_shows_a_table(edgewise: RunCommand) -> None:
    """Both sources, with predicted times."""
    done = edgewise("route", "Once upon a time", "--available-memory", "20GB")
    assert done.returncode == 0
    for word in ("on_device (preferred)", "in_cloud", "no_address", "ms"):
        assert word in done.stdout


def test_route_without_a_source_fails(edgewise: RunCommand) -> None:
    """In JSON too: no source, and both vetoes."""
    done = edgewise("route", "Once", "--available-memory", "1MB", "--json")
    assert done.returncode == ExitCode.REFUSED
    vetoes = json.loads(done.stdout)["vetoes"]
    assert {source: veto["code"] for source, veto in vetoes.items()} == {
        "on_device": "memory",
        "in_cloud": "no_address",
    }


def test_doctor_reports_the_device_and_the_cloud(
    edgewise: RunCommand, service: Running, exact_folder: Path
) -> None:
    """And what the cloud serves."""
    done = edgewise("doctor", "--model", exact_folder, "--cloud", service.address)
    assert done.returncode == 0
    for word in ("exact@", "available", "battery", "memory", "serves exact@"):
        assert word in done.stdout


def test_generate_in_the_cloud(edgewise: RunCommand, service: Running, exact_folder: Path) -> None:
    """Over gRPC and back into text."""
    arguments = ("generate", "Once upon a time", "--mode", "only_in_cloud", "--max-tokens", "9")
    done = edgewise(*arguments, "--model", exact_folder, "--cloud", service.address, "--json")
    generation = json.loads(done.stdout)
    assert generation["segments"] == [{"source": "in_cloud", "start": 0, "tokens": 9}]


def test_ctrl_c_keeps_the_text_so_far(service: Running, exact_folder: Path) -> None:
    """It counts as cancelled, and the exit status is that of an interrupt."""
    with fault_proxy(service.address) as proxy:
        proxy.stall(after_tokens=10)  # so that the interrupt comes before the end
        arguments = ("Once upon a time", "--cloud", proxy.address, "--mode", "only_in_cloud")
        process = subprocess.Popen(
            [
                BIN / "edgewise",
                "generate",
                *arguments,
                "--model",
                exact_folder,
                "--max-tokens",
                "150",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        start = process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate()
    assert process.returncode == 130
    assert start + rest
    assert "cancelled" in errors
    assert "Traceback" not in errors


def test_ctrl_c_before_the_first_token() -> None:
    """While waiting for a cloud that does not answer."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        process = subprocess.Popen(
            [BIN / "edgewise", "generate", "Once", "--cloud", address, "--mode", "only_in_cloud"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        connection, _ = silent.accept()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
        connection.close()
    assert process.returncode == 130
    assert "Traceback" not in errors


def broken_models(folder: Path) -> dict[str, Path]:
    """Model folders, each broken in its own way."""
    names = ("truncated", "changed", "unnamed")
    models = {name: Path(shutil.copytree(find_model("tales"), folder / name)) for name in names}
    model = models["truncated"] / "model.tflite"
    model.write_bytes(model.read_bytes()[:100_000])
    manifest = models["changed"] / "manifest.json"
    record = json.loads(manifest.read_text())["files"]["model.tflite"]["sha256"]
    manifest.write_text(manifest.read_text().replace(record, "0" * 64))
    (models["unnamed"] / "manifest.json").unlink()
    return models


def test_invalid_input_is_one_sentence_and_status_2(edgewise: RunCommand, tmp_path: Path) -> None:
    """Each says what is wrong and what to do; none shows a traceback."""
    models = broken_models(tmp_path)
    cases = {
        ("score", ""): "give at least one character to score",
        ("generate", "word " * 2000): "fill the context window of 512; shorten it",
        ("generate", "a", "--max-tokens", "0"): "--max-tokens is 0; it must be",
        ("generate", "a", "--max-tokens", "999999999999"): "from 1 to 2147483647",
        ("generate", "a", "--temperature", "nan"): "from 0 to 100",
        ("generate", "a", "--model", "no-such"): "bundled: tales",
        ("generate", "a", "--model", "[/]"): "'[/]'",
        ("generate", "a", "--cloud", "[red]x"): "'[red]x'",
        ("generate", "a", "--model", str(models["unnamed"])): "edgewise-cloud convert",
        ("generate", "a", "--model", str(models["truncated"])): "cut short",
        ("generate", "a", "--model", str(models["changed"])): "sha256 differs",
        ("generate", "a", "--cloud", "nonsense"): "HOST:PORT",
        ("route", "a", "--available-memory", "lots"): "200MB",
        ("generate", "a", "--mode", "sometimes"): "prefer_on_device",
    }
    for arguments, words in cases.items():
        done = edgewise(*arguments)
        assert done.returncode == 2, (arguments, done.stderr)
        assert words in " ".join(done.stderr.replace("│", " ").split()), (arguments, done.stderr)
        assert "Traceback" not in done.stderr
        assert done.stdout == ""


def test_input_that_is_not_utf8_is_rejected() -> None:
    """In any locale."""
    done = subprocess.run(
        [BIN / "edgewise", "generate"],
        input=b"\xff\xfe\x00",
        capture_output=True,
        check=False,
        env=os.environ | {"LC_ALL": "C"},
    )
    assert done.returncode == 2
    assert b"not UTF-8" in done.stderr


def test_refused_and_unreachable_are_told_apart(edgewise: RunCommand) -> None:
    """By the exit status; each says what to do."""
    only_in_cloud = ("generate", "a", "--mode", "only_in_cloud")
    refused = edgewise(*only_in_cloud, "--private")
    assert refused.returncode == ExitCode.REFUSED
    assert "choose another --mode" in refused.stderr
    unreachable = edgewise(*only_in_cloud, "--cloud", "127.0.0.1:1")
    assert unreachable.returncode == ExitCode.CLOUD
    assert "edgewise-cloud serve" in unreachable.stderr


def test_doctor_verifies_the_model(edgewise: RunCommand, tmp_path: Path) -> None:
    """Byte for byte; one that cannot be used makes it fail."""
    models = broken_models(tmp_path)
    for name, words in {"changed": "sha256 differs", "truncated": "cut short"}.items():
        done = edgewise("doctor", "--model", models[name])
        assert done.returncode == ExitCode.INVALID
        assert words in " ".join(done.stdout.replace("│", " ").split())


def test_doctor_reports_what_a_broken_model_leaves(
    edgewise: RunCommand, service: Running, tmp_path: Path
) -> None:
    """The device and the cloud, in JSON."""
    model = broken_models(tmp_path)["unnamed"]
    done = edgewise("doctor", "--json", "--model", model, "--cloud", service.address)
    assert done.returncode == ExitCode.INVALID
    report = json.loads(done.stdout)
    assert not report["model"]["usable"]
    assert report["device"]["available_memory"] > 0
    assert report["cloud"]["usable"]
    assert "could not be compared" in report["cloud"]["detail"]


def test_doctor_fails_for_a_cloud_that_does_not_answer(
    edgewise: RunCommand, tmp_path: Path
) -> None:
    """If one is set, as in the config file, which it names."""
    file = tmp_path / "config.toml"
    file.write_text('cloud = "127.0.0.1:1"')
    done = edgewise("doctor", "--json", EDGEWISE_CONFIG=str(file))
    assert done.returncode == ExitCode.CLOUD
    report = json.loads(done.stdout)
    assert report["config"] == str(file)
    assert report["model"]["usable"]
    assert not report["cloud"]["usable"]
    assert edgewise("doctor", "--offline", EDGEWISE_CONFIG=str(file)).returncode == ExitCode.OK


def test_closed_pipe_ends_quietly() -> None:
    """As in `edgewise generate ... | head -c 1`."""
    with subprocess.Popen(
        [BIN / "edgewise", "generate", "Once upon a time", "--max-tokens", "400"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == ExitCode.PIPE_CLOSED


def test_full_disk_is_one_sentence() -> None:
    """For standard output that takes nothing more."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [BIN / "edgewise", "generate", "Once"], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == ExitCode.FAILED
    assert done.stderr.startswith(b"error: ")
    assert done.stderr.count(b"\n") == 1


def test_http_proxy_is_ignored(service: Running, exact_folder: Path) -> None:
    """Token ids go only to the cloud that was configured."""
    arguments = ("Once", "--cloud", service.address, "--mode", "only_in_cloud", "--max-tokens", "3")
    done = subprocess.run(
        [BIN / "edgewise", "generate", *arguments, "--model", exact_folder],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"http_proxy": "http://127.0.0.1:1", "https_proxy": "http://127.0.0.1:1"},
    )
    assert done.returncode == 0, done.stderr


def test_cloud_with_another_vocabulary_is_reported(
    edgewise: RunCommand, exact_model: DeviceModel
) -> None:
    """From the command line, too."""
    cloud = ScriptedCloud(exact_model)
    cloud.vocabulary = "0" * 64
    with serving_scripted(cloud) as address:
        done = edgewise("generate", "a", "--cloud", address, "--mode", "only_in_cloud")
    assert done.returncode == ExitCode.CLOUD
    assert "use the same model on the device and in the cloud" in done.stderr
