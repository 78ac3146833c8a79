"""`edgewise bench`: what a model costs on this device, and what the router learns from it."""

import json
from pathlib import Path

import pytest

from edgewise import LatencyLog, Router
from edgewise_edge import RuntimeFailedError, find_model
from edgewise_edge.profiling import profile
from tests.support.command_line import RunCommand, run


def test_bench_measures_and_the_router_predicts_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every figure is there and consistent, and `route` predicts what was measured."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = json.loads(run("bench", "--json", "--threads", "1").stdout)
    assert (found["model"], found["threads"]) == ("tales", 1)
    assert found["token_bytes"] == (find_model("tales") / "model.tflite").stat().st_size
    assert found["wall"] == pytest.approx(found["bandwidth"] / found["token_bytes"])
    assert found["long"]["prompt_tokens"] > found["short"]["prompt_tokens"]
    for run_ in (found["short"], found["long"]):
        # A prompt takes longer than a token, a cold start longer than a prompt.
        assert found["cold_start"] > run_["first_token"] > run_["gap"] > 0
    assert found["resident_memory"] > found["token_bytes"]
    with Router(threads=1) as router:
        log = LatencyLog(tmp_path / "edgewise" / "latency.json")
        measured = log.measured(router.device_source.key)
        predicted = router.route("Once upon a time", max_tokens=100).predicted["on_device"]
    assert {m.position for m in measured} == {
        found["short"]["prompt_tokens"],
        found["long"]["prompt_tokens"],
    }
    gaps = found["short"]["gap"], found["long"]["gap"]
    assert predicted.total is not None
    assert 90 * min(gaps) < predicted.total < 110 * max(gaps) + found["long"]["first_token"]


def test_bench_prints_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --json."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    table = run("bench").stdout
    for words in ("tales", "cold start", "resident memory", "GB/s", "tokens/s"):
        assert words in table


def test_bench_rejects_invalid_options(edgewise: RunCommand, tmp_path: Path) -> None:
    """A folder without a model, and zero threads: a sentence and exit status 2."""
    for arguments in (["--model", str(tmp_path)], ["--threads", "0"]):
        done = edgewise("bench", *arguments)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr


def test_an_error_of_the_measured_process_is_raised(tmp_path: Path) -> None:
    """With its last message."""
    with pytest.raises(RuntimeFailedError, match="manifest"):
        profile(tmp_path, None)
