"""What Prometheus sees of a router."""

import sys
from importlib import import_module

import pytest
from prometheus_client import CollectorRegistry

from edgewise.errors import ConfigurationError
from edgewise.generation.events import (
    AttemptEnded,
    Completed,
    Decided,
    Event,
    HandedOver,
    Hedged,
    Refused,
)
from edgewise.generation.result import Segment, Timings
from edgewise.metrics import Metrics
from edgewise.policy.types import Reason, Source, VetoCode
from edgewise_edge import FinishReason, Usage
from tests.router.observe.sample_events import AFTER_FAILURE, CLOUD, DEVICE, happened


def samples(*events: Event) -> dict[str, float]:
    """After those events, by name and labels' values."""
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    for event in events:
        metrics(event)
    return {
        "/".join([sample.name.removeprefix("edgewise_router_"), *sample.labels.values()]): (
            sample.value
        )
        for family in registry.collect()
        for sample in family.samples
        if not sample.name.endswith(("_created", "_bucket"))
    }


def changed(*events: Event) -> dict[str, float]:
    """What is not zero after those events."""
    return {name: value for name, value in samples(*events).items() if value}


def test_a_choice_is_counted_by_its_side_and_reason() -> None:
    """The second one for the rest of a text as well."""
    decisions = [happened(Decided), happened(Decided), happened(Decided, decision=AFTER_FAILURE)]
    assert changed(*decisions) == {
        "decisions_total/on_device/preferred": 2,
        "decisions_total/on_device/other_vetoed": 1,
    }


def test_a_refusal_is_counted_by_each_sides_veto() -> None:
    """Since both had to refuse."""
    assert changed(happened(Refused)) == {
        "refusals_total/on_device/memory": 1,
        "refusals_total/in_cloud/offline": 1,
    }


def test_attempts_and_hedges_are_counted_by_side() -> None:
    """An attempt by its outcome, too."""
    lost = happened(AttemptEnded, source=CLOUD, outcome="lost")
    assert changed(happened(AttemptEnded), happened(Hedged), lost) == {
        "attempts_total/on_device/finished": 1,
        "attempts_total/in_cloud/lost": 1,
        "hedges_total/in_cloud": 1,
    }


def test_a_fallback_has_no_tokens_and_a_handoff_has() -> None:
    """Both are counted by the side that is left, and by why it is."""
    fallback = happened(HandedOver, tokens=0)
    handoff = happened(HandedOver, source=CLOUD, why=VetoCode.BATTERY)
    assert changed(fallback, handoff) == {
        "fallbacks_total/in_cloud/failed": 1,
        "handoffs_total/on_device/battery": 1,
    }


def test_a_text_of_one_side_has_all_times() -> None:
    """The time per token is the rate turned over."""
    assert changed(happened(Completed)) == {
        "requests_total/stop": 1,
        "generation_tokens_total/on_device": 5,
        "time_to_first_token_seconds_count/on_device": 1,
        "time_to_first_token_seconds_sum/on_device": 0.5,
        "request_time_per_output_token_seconds_count/on_device": 1,
        "request_time_per_output_token_seconds_sum/on_device": 0.25,
        "e2e_request_latency_seconds_count/on_device": 1,
        "e2e_request_latency_seconds_sum/on_device": 2.0,
    }


def test_a_text_of_both_sides_is_shared_out() -> None:
    """Tokens by who made them, the first one's time by who made it; the pace is nobody's."""
    both = (Segment(CLOUD, 0, 2), Segment(DEVICE, 2, 3))
    assert changed(happened(Completed, segments=both)) == {
        "requests_total/stop": 1,
        "generation_tokens_total/in_cloud": 2,
        "generation_tokens_total/on_device": 3,
        "time_to_first_token_seconds_count/in_cloud": 1,
        "time_to_first_token_seconds_sum/in_cloud": 0.5,
        "e2e_request_latency_seconds_count/on_device": 1,
        "e2e_request_latency_seconds_sum/on_device": 2.0,
    }


def test_a_text_without_a_token_has_no_times() -> None:
    """Nobody made it."""
    none = happened(
        Completed,
        finish_reason=FinishReason.CANCELLED,
        usage=Usage(7, 0),
        segments=(),
        timings=Timings(None, 0.1, None),
    )
    assert changed(none) == {"requests_total/cancelled": 1}


def test_zeros_stand_before_the_first() -> None:
    """A rate needs them."""
    shown = samples()
    assert not any(shown.values())
    for side in Source:
        assert {f"decisions_total/{side}/{reason}" for reason in Reason} <= shown.keys()
        for name in ("refusals", "handoffs", "fallbacks"):
            assert {f"{name}_total/{side}/{code}" for code in VetoCode} <= shown.keys()
        assert f"e2e_request_latency_seconds_count/{side}" in shown


def test_two_in_one_registry_are_refused() -> None:
    """With what to do instead."""
    registry = CollectorRegistry()
    Metrics(registry)
    with pytest.raises(ConfigurationError, match="make one Metrics"):
        Metrics(registry)


def test_without_the_extra_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a sentence, by the import."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "edgewise.metrics")
    with pytest.raises(ConfigurationError, match=r"pip install 'edgewise\[metrics\]'"):
        import_module("edgewise.metrics")
