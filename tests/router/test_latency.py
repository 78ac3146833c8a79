"""Predicted times, and the measurements they come from."""

import json

import pytest

from edgewise.latency import (
    WINDOW,
    LatencyLog,
    Measurement,
    default_path,
    predict_in_cloud,
    predict_on_device,
)
from edgewise.policy import PredictedTime

UNKNOWN = PredictedTime(first_token=None, total=None)
# 100 prompt tokens read in 1.0 s, and then a token every 0.1 s.
STEADY = Measurement(prompt_tokens=100, first_token=1.0, gap=0.1)


def seconds(first_token, total):
    """A predicted time, as exactly as floats allow."""
    return (pytest.approx(first_token), pytest.approx(total))


def on_device(measured, prompt_tokens, max_tokens):
    """The prediction for the device, first token and total."""
    predicted = predict_on_device(measured, prompt_tokens, max_tokens)
    return predicted.first_token, predicted.total


def in_cloud(measured, max_tokens):
    """The prediction for the cloud, first token and total."""
    predicted = predict_in_cloud(measured, max_tokens)
    return predicted.first_token, predicted.total


# The device.


@pytest.mark.parametrize(
    "measured",
    [[], [Measurement(prompt_tokens=9, first_token=1.0, gap=None)]],
    ids=["nothing", "single tokens only"],
)
def test_an_unmeasured_device_is_unknown(measured):
    """Without a measured gap between tokens nothing is predicted for the device."""
    assert predict_on_device(measured, 10, 10) == UNKNOWN


def test_a_measured_request_is_predicted_to_take_as_long_again():
    """The request that was measured is predicted as it was."""
    assert on_device([STEADY], 100, 11) == seconds(1.0, 2.0)


@pytest.mark.parametrize(
    ("prompt_tokens", "first_token"), [(50, 0.5), (100, 1.0), (101, 1.01), (1000, 10.0)]
)
def test_reading_takes_time_for_each_token_of_the_prompt(prompt_tokens, first_token):
    """The first token waits for all that is read before it."""
    assert on_device([STEADY], prompt_tokens, 1) == seconds(first_token, first_token)


@pytest.mark.parametrize("prompt_tokens", [1, 2, 10])
def test_reading_takes_one_step_at_least(prompt_tokens):
    """However short the prompt is, its first token takes as long as any."""
    assert on_device([STEADY], prompt_tokens, 1) == seconds(0.1, 0.1)


@pytest.mark.parametrize(("max_tokens", "total"), [(1, 1.0), (2, 1.1), (101, 11.0)])
def test_writing_takes_time_in_proportion_to_the_answer(max_tokens, total):
    """Every token after the first takes one more gap."""
    assert on_device([STEADY], 100, max_tokens) == seconds(1.0, total)


def test_one_slow_run_does_not_spoil_the_devices_prediction():
    """The median is predicted by: an outlier among three changes nothing."""
    slow = Measurement(prompt_tokens=100, first_token=99.0, gap=9.0)
    assert on_device([STEADY, slow, STEADY], 100, 11) == seconds(1.0, 2.0)


def test_short_prompts_do_not_spoil_the_devices_prediction():
    """What a step takes at least is no measure of a long prompt, however often it was seen."""
    short = Measurement(prompt_tokens=2, first_token=0.1, gap=0.1)
    assert on_device([short, short, short, STEADY, short], 1000, 1) == seconds(10.0, 10.0)


@pytest.mark.parametrize(("prompt_tokens", "per_token"), [(50, 0.015), (49, 0.01)])
def test_prompts_from_half_the_longest_on_count(prompt_tokens, per_token):
    """Their median, with the longest's; shorter ones are left aside."""
    half = Measurement(prompt_tokens=prompt_tokens, first_token=prompt_tokens * 0.02, gap=0.1)
    assert on_device([STEADY, half], 1000, 1) == seconds(1000 * per_token, 1000 * per_token)


def test_a_run_without_a_gap_tells_how_long_reading_takes():
    """A single token was read for, too."""
    longest = Measurement(prompt_tokens=1000, first_token=20.0, gap=None)
    assert on_device([STEADY, longest], 1000, 2) == seconds(20.0, 20.1)


def test_a_prompt_of_one_token_can_be_measured():
    """And predicts one as short."""
    single = Measurement(prompt_tokens=1, first_token=0.1, gap=0.1)
    assert on_device([single], 1, 2) == seconds(0.1, 0.2)


def test_a_prompt_of_nothing_in_the_file_divides_by_nothing(tmp_path):
    """Whoever wrote it: a prediction is a convenience."""
    path = tmp_path / "latency.json"
    rows = [{"prompt_tokens": 0, "first_token": 0.1, "gap": 0.1}]
    path.write_text(json.dumps({"side": rows}))
    predict_on_device(LatencyLog(path).measured("side"), 10, 10)


# The cloud.


def test_an_unmeasured_cloud_is_unknown():
    """Without measurements nothing is predicted for the cloud."""
    assert predict_in_cloud([], 10) == UNKNOWN


def test_a_cloud_that_sent_single_tokens_has_no_known_total():
    """Without a measured gap the first token is predicted, the whole answer is not."""
    measured = [Measurement(prompt_tokens=9, first_token=0.5, gap=None)]
    assert predict_in_cloud(measured, 10) == PredictedTime(first_token=0.5, total=None)


def test_the_clouds_first_token_is_predicted_late():
    """Of eleven first tokens all but the slowest come by the predicted time, in any order."""
    firsts = [0.5, 1.1, 0.1, 0.9, 0.3, 1.0, 0.7, 0.2, 0.8, 0.4, 0.6]
    measured = [Measurement(prompt_tokens=9, first_token=first, gap=0.1) for first in firsts]
    assert in_cloud(measured, 1) == seconds(1.0, 1.0)


def test_the_clouds_gap_is_the_median():
    """The rest of the cloud's answer takes the median gap for each token."""
    measured = [
        Measurement(prompt_tokens=9, first_token=1.0, gap=gap) for gap in (0.1, 9.0, None, 0.2)
    ]
    assert in_cloud(measured, 11) == seconds(1.0, 3.0)


@pytest.mark.parametrize("prompt_tokens", [1, 1000])
def test_the_clouds_first_token_does_not_depend_on_the_prompt(prompt_tokens):
    """A long measured prompt is no reason to expect a later first token, nor a short one less."""
    measured = [Measurement(prompt_tokens=prompt_tokens, first_token=1.0, gap=0.1)]
    assert in_cloud(measured, 1) == seconds(1.0, 1.0)


# The log.


def numbered(number: int) -> Measurement:
    """A measurement that can be told from others."""
    return Measurement(prompt_tokens=number, first_token=number / 10, gap=0.1)


def test_a_log_without_a_file_remembers():
    """What was added is there, oldest first."""
    log = LatencyLog()
    log.add("side", numbered(1))
    log.add("side", numbered(2))
    assert log.measured("side") == [numbered(1), numbered(2)]


def test_sides_are_kept_apart():
    """What was measured on one side says nothing about another."""
    log = LatencyLog()
    log.add("one", numbered(1))
    assert log.measured("another") == []


def test_what_is_told_is_a_copy():
    """Changing the list that was given changes nothing in the log."""
    log = LatencyLog()
    log.add("side", numbered(1))
    log.measured("side").clear()
    assert log.measured("side") == [numbered(1)]


@pytest.mark.parametrize("reopened", [False, True], ids=["in memory", "from the file"])
def test_the_oldest_are_forgotten(tmp_path, reopened):
    """At most 32 measurements of a side are kept: the latest."""
    path = tmp_path / "latency.json"
    log = LatencyLog(path)
    for number in range(40):
        log.add("side", numbered(number))
    if reopened:
        log = LatencyLog(path)
    assert log.measured("side") == [numbered(number) for number in range(8, 40)]


def test_a_file_with_too_many_is_cut(tmp_path):
    """Of a file that holds more than 32, the latest 32 are read."""
    path = tmp_path / "latency.json"
    rows = [{"prompt_tokens": number, "first_token": 0.1, "gap": 0.1} for number in range(40)]
    path.write_text(json.dumps({"side": rows}))
    assert [row.prompt_tokens for row in LatencyLog(path).measured("side")] == [*range(8, 40)]
    assert WINDOW == 32


def test_measurements_are_kept_across_runs(tmp_path):
    """Another log on the same file knows what the first was told, gaps unknown included."""
    path = tmp_path / "folder" / "that is made" / "latency.json"
    single = Measurement(prompt_tokens=3, first_token=0.25, gap=None)
    log = LatencyLog(path)
    log.add("one", numbered(1))
    log.add("another", single)
    reread = LatencyLog(path)
    assert reread.measured("one") == [numbered(1)]
    assert reread.measured("another") == [single]


def test_nothing_is_left_beside_the_file(tmp_path):
    """The file is written whole and alone: no half-written neighbour stays."""
    log = LatencyLog(tmp_path / "latency.json")
    for number in range(3):
        log.add("side", numbered(number))
    assert [path.name for path in tmp_path.iterdir()] == ["latency.json"]


def test_a_log_that_is_only_read_writes_nothing(tmp_path):
    """Opening a log and asking it makes no file."""
    LatencyLog(tmp_path / "latency.json").measured("side")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'{"side": 1}',
        b'{"side": [1]}',
        b'{"side": [{"prompt_tokens": 1}]}',
        b'{"side": [{"prompt_tokens": 1, "first_token": 1, "gap": 1, "more": 1}]}',
    ],
)
def test_a_corrupt_file_is_done_without(tmp_path, content):
    """A file that makes no sense is an empty log, and the next measurement replaces it."""
    path = tmp_path / "latency.json"
    path.write_bytes(content)
    log = LatencyLog(path)
    assert log.measured("side") == []
    log.add("side", numbered(1))
    assert LatencyLog(path).measured("side") == [numbered(1)]


def test_a_path_that_cannot_be_written_is_done_without(tmp_path):
    """Where no file can be made, measurements are remembered as long as the log lives."""
    parent = tmp_path / "a file, no folder"
    parent.write_text("in the way")
    log = LatencyLog(parent / "latency.json")
    log.add("side", numbered(1))
    assert log.measured("side") == [numbered(1)]
    assert parent.read_text() == "in the way"


def test_measurements_go_to_a_file_of_this_program():
    """Unless told otherwise, they are kept under the program's own name."""
    assert default_path().parts[-1] == "latency.json"
    assert "edgewise" in default_path().parts
