"""Every way in which the device's runtime can fail is a failure of that source: the cloud is asked."""

import importlib
from collections.abc import Callable

import pytest

from edgewise import ModelIncompatibleError, NoSourceError, Router, RuntimeFailedError, Source
from edgewise.testing import ScriptedCloud
from edgewise_edge import Tokenizer, find_model
from edgewise_edge.runtime.litert import CompiledBackend
from edgewise_edge.runtime.session import Runtime
from tests.router.routers import new_router

FAILURES = [
    ImportError("/lib/libc.so.6: version `GLIBC_2.38' not found"),
    OSError("cannot open shared object file"),
    AttributeError("module has no attribute"),
    RuntimeError(""),
    KeyError("signature"),
    TypeError("unexpected"),
    MemoryError(),
    OSError(12, "Cannot allocate memory"),
    SystemError("error return without exception set"),
]


def failing(error: Exception) -> Callable[..., object]:
    def fail(*_: object, **__: object) -> object:
        raise error

    return fail


def import_fails(patch: pytest.MonkeyPatch, error: Exception) -> type[Exception]:
    import_module = importlib.import_module

    def fail(name: str, package: str | None = None) -> object:
        if name.endswith("litert"):
            raise error
        return import_module(name, package)

    patch.setattr("importlib.import_module", fail)
    return ModelIncompatibleError


def loading_fails(patch: pytest.MonkeyPatch, error: Exception) -> type[Exception]:
    patch.setattr("edgewise_edge.runtime.session.open_model", failing(error))
    short = isinstance(error, MemoryError) or getattr(error, "errno", None) == 12
    return RuntimeFailedError if short else ModelIncompatibleError


def preparing_fails(patch: pytest.MonkeyPatch, error: Exception) -> type[Exception]:
    patch.setattr("edgewise_edge.model.default_folder", failing(error))
    return ModelIncompatibleError


def a_step_fails(patch: pytest.MonkeyPatch, error: Exception) -> type[Exception]:
    load = Runtime.load

    def load_and_break(*arguments: object, **options: object) -> Runtime:
        runtime = load(*arguments, **options)
        patch.setattr(CompiledBackend, "bind", failing(error))
        return runtime

    patch.setattr(Runtime, "load", load_and_break)
    return RuntimeFailedError


def sampling_fails(patch: pytest.MonkeyPatch, error: Exception) -> type[Exception]:
    patch.setattr("edgewise_edge.decoding.generate.sample", failing(error))
    return RuntimeFailedError


def acquiring_fails(patch: pytest.MonkeyPatch, error: Exception) -> type[Exception]:
    patch.setattr("edgewise_edge.runtime.prefix_cache.PrefixCache.acquire", failing(error))
    return RuntimeFailedError


def routers() -> tuple[Router, Router]:
    """One with a cloud, and one without."""
    folder = find_model("tales")
    cloud = ScriptedCloud("from the cloud", tokenizer=Tokenizer.from_folder(folder))
    return new_router(folder, cloud=cloud), new_router(folder)


@pytest.mark.parametrize(
    "fault",
    [import_fails, loading_fails, preparing_fails, acquiring_fails, a_step_fails, sampling_fails],
)
@pytest.mark.parametrize("error", FAILURES, ids=repr)
def test_the_cloud_is_asked(
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[pytest.MonkeyPatch, Exception], type[Exception]],
    error: Exception,
) -> None:
    """And without a cloud the error says what failed."""
    expected = fault(monkeypatch, error)
    with_cloud, alone = routers()
    with with_cloud, alone:
        assert with_cloud.generate("Once").text == "from the cloud"
        with pytest.raises(NoSourceError) as raised:
            alone.generate("Once")
    failure = raised.value.failures[Source.ON_DEVICE]
    assert type(failure) is expected
    assert (str(error) or type(error).__name__) in str(failure) or "memory" in str(failure)


def test_an_unreadable_model_is_a_failure_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fails, for example."""
    with_cloud, _ = routers()
    monkeypatch.setattr(
        "edgewise_edge.store.manifest.FileRecord.of", failing(OSError(5, "I/O error"))
    )
    with with_cloud:
        assert with_cloud.generate("Once").text == "from the cloud"
