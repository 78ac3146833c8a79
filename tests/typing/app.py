"""An app and its tests with edgewise.testing only: checked by mypy, never run."""

from collections.abc import Iterator

from edgewise import Generation, Mode, NoSourceError, RequestOptions, Router, Source
from edgewise.testing import (
    Attempt,
    ReceivedRequest,
    ScriptedCloud,
    ScriptedDevice,
    completes,
    fails_after,
)

OPTIONS: RequestOptions = {"max_tokens": 40, "temperature": 0.5, "stop": "\n"}


def tell(router: Router, prompt: str) -> Generation | None:
    try:
        return router.generate(prompt, **OPTIONS)
    except NoSourceError as error:
        print(error.vetoes[Source.ON_DEVICE].detail)
        return None


async def atell(prompt: str) -> str:
    async with Router(ScriptedDevice(str.upper)) as router:
        return "".join([chunk.text async for chunk in router.astream(prompt, **OPTIONS)])


def slow_start(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
    yield next(tokens)
    yield from completes(tokens, attempt)


def test_tell() -> None:
    device, cloud = ScriptedDevice("a fox", slow_start), ScriptedCloud("a fox", fails_after(2))
    with Router(device, cloud=cloud, mode=Mode.PREFER_IN_CLOUD) as router:
        answer = tell(router, "Once")
    assert answer is not None
    assert answer.text == "a fox"
    assert cloud.requests == [ReceivedRequest("Once", "", 40)]


Router(cloud=ScriptedDevice())  # type: ignore[arg-type]  # a device accepts it, but is no cloud
Router(ScriptedCloud())  # type: ignore[arg-type]
ScriptedDevice(3)  # type: ignore[arg-type]
bad: RequestOptions = {"max_token": 40}  # type: ignore[typeddict-unknown-key]
