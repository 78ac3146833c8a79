"""Prometheus metrics of a router."""

import sys
from importlib import import_module

import pytest
from prometheus_client import CollectorRegistry

from edgewise.delivery.events import (
    DownloadProgressed,
    RevisionRefused,
    RevisionRolledBack,
    UpdateChecked,
)
from edgewise.errors import ConfigurationError
from edgewise.generation.events import (
    AttemptEnded,
    Completed,
    Decided,
    Event,
    HandedOver,
    Hedged,
    Refused,
    Scored,
)
from edgewise.generation.result import Segment, Timings
from edgewise.metrics import Metrics
from edgewise.policy.types import Reason, Source, VetoCode
from edgewise_edge import FinishReason, Usage
from tests.router.observe.sample_events import AFTER_FAILURE, CLOUD, DEVICE, event


def samples(*events: Event) -> dict[str, float]:
    """The value of each sample after those events, by its name and labels."""
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    for one in events:
        metrics(one)
    return {
        "/".join([sample.name.removeprefix("edgewise_router_"), *sample.labels.values()]): (
            sample.value
        )
        for family in registry.collect()
        for sample in family.samples
        if not sample.name.endswith(("_created", "_bucket"))
    }


def changed(*events: Event) -> dict[str, float]:
    """The samples that are not zero after those events."""
    return {name: value for name, value in samples(*events).items() if value}


def test_scores_are_counted_by_source_and_outcome() -> None:
    """They are no requests for text, and no tokens."""
    assert changed(event(Scored), event(Scored, source=DEVICE, outcome="failed")) == {
        "scores_total/in_cloud/finished": 1,
        "scores_total/on_device/failed": 1,
    }


def test_decisions_are_counted_by_source_and_reason() -> None:
    """Also the one after a failure."""
    decisions = [event(Decided), event(Decided), event(Decided, decision=AFTER_FAILURE)]
    assert changed(*decisions) == {
        "decisions_total/on_device/preferred": 2,
        "decisions_total/on_device/other_vetoed": 1,
    }


def test_refusals_are_counted_by_each_veto() -> None:
    """One for each source."""
    assert changed(event(Refused)) == {
        "refusals_total/on_device/memory": 1,
        "refusals_total/in_cloud/offline": 1,
    }


def test_attempts_and_hedges_are_counted_by_source() -> None:
    """Attempts by outcome, too."""
    lost = event(AttemptEnded, source=CLOUD, outcome="lost")
    assert changed(event(AttemptEnded), event(Hedged), lost) == {
        "attempts_total/on_device/finished": 1,
        "attempts_total/in_cloud/lost": 1,
        "hedges_total/in_cloud": 1,
    }


def test_fallback_has_no_tokens_and_handoff_has() -> None:
    """Both are counted by the source that was left and the veto on it."""
    fallback = event(HandedOver, tokens=0)
    handoff = event(HandedOver, source=CLOUD, why=VetoCode.BATTERY)
    assert changed(fallback, handoff) == {
        "fallbacks_total/in_cloud/failed": 1,
        "handoffs_total/on_device/battery": 1,
    }


def test_generation_from_one_source_has_all_times() -> None:
    """The time per token is the inverse of the rate."""
    assert changed(event(Completed)) == {
        "requests_total/stop": 1,
        "generation_tokens_total/on_device": 5,
        "time_to_first_token_seconds_count/on_device": 1,
        "time_to_first_token_seconds_sum/on_device": 0.5,
        "request_time_per_output_token_seconds_count/on_device": 1,
        "request_time_per_output_token_seconds_sum/on_device": 0.25,
        "e2e_request_latency_seconds_count/on_device": 1,
        "e2e_request_latency_seconds_sum/on_device": 2.0,
    }


def test_generation_from_both_sources_is_divided() -> None:
    """Tokens and times count for the source that made them; the rate counts for neither."""
    both = (Segment(CLOUD, 0, 2), Segment(DEVICE, 2, 3))
    assert changed(event(Completed, segments=both)) == {
        "requests_total/stop": 1,
        "generation_tokens_total/in_cloud": 2,
        "generation_tokens_total/on_device": 3,
        "time_to_first_token_seconds_count/in_cloud": 1,
        "time_to_first_token_seconds_sum/in_cloud": 0.5,
        "e2e_request_latency_seconds_count/on_device": 1,
        "e2e_request_latency_seconds_sum/on_device": 2.0,
    }


def test_deliveries_are_counted_by_what_happened() -> None:
    """Progress is none of it."""
    fields = {"model": "tales", "revision": "r1", "time": 1.0}
    assert changed(
        UpdateChecked(current=None, **fields),
        DownloadProgressed(done=1, total=2, rate=None, **fields),
        RevisionRefused(reason="nonsense", **fields),
        RevisionRolledBack(reason="revoked", back_to=None, **fields),
    ) == {
        "model_deliveries_total/checked": 1,
        "model_deliveries_total/refused": 1,
        "model_deliveries_total/rolled_back": 1,
    }


def test_generation_without_a_token_has_no_times() -> None:
    """It has no source."""
    none = event(
        Completed,
        finish_reason=FinishReason.CANCELLED,
        usage=Usage(7, 0),
        segments=(),
        timings=Timings(None, 0.1, None),
    )
    assert changed(none) == {"requests_total/cancelled": 1}


def test_all_series_start_at_zero() -> None:
    """rate() needs that."""
    shown = samples()
    assert not any(shown.values())
    for source in Source:
        assert {f"decisions_total/{source}/{reason}" for reason in Reason} <= shown.keys()
        for name in ("refusals", "handoffs", "fallbacks"):
            assert {f"{name}_total/{source}/{code}" for code in VetoCode} <= shown.keys()
        assert f"e2e_request_latency_seconds_count/{source}" in shown


def test_two_in_one_registry_are_rejected() -> None:
    """The error says what to do."""
    registry = CollectorRegistry()
    Metrics(registry)
    with pytest.raises(ConfigurationError, match="make one Metrics"):
        Metrics(registry)


def test_import_without_the_extra_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one sentence."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "edgewise.metrics")
    with pytest.raises(ConfigurationError, match=r"pip install prometheus-client"):
        import_module("edgewise.metrics")
