"""The public API as an app uses it: checked by mypy, never run."""

from edgewise import Decision, Generation, Limits, Mode, RequestOptions, Router

with Router("tales", cloud="127.0.0.1:50051", limits=Limits(min_battery=0.1)) as router:
    for chunk in router.stream("Once upon a time", max_tokens=10, stop=["\n"]):
        text: str = chunk.text
    generation: Generation = router.generate("Once", mode=Mode.ONLY_ON_DEVICE, privacy="private")
    seconds: float | None = generation.timings.time_to_first_token
    decision: Decision = router.route("Once", latency_budget=1.5)
    router.generate("Once", max_token=10)  # type: ignore[call-arg]  # misspelled
    router.generate("Once", temperature="hot")  # type: ignore[arg-type]
    router.generate("Once", mode="on_device")  # type: ignore[arg-type]  # no such mode
    router.route("Once", privacy="secret")  # type: ignore[arg-type]
    ids: Generation = router.generate([10, 11], logprobs=2, logit_bias={5: -100})
    likelihood: float | None = router.score("Once", top=3).tokens[0].logprob
    router.score("Once", max_tokens=3)  # type: ignore[call-arg]  # of a generation
    router.score(["Once"])  # type: ignore[list-item]
    options: RequestOptions = {"max_tokens": 10, "mode": "only_on_device"}
    router.generate("Once", **options)

Router(mode="prefer_in_cloud", default_privacy="private")
Router(mode="prefer_cloud")  # type: ignore[arg-type]
Router(default_privacy="Private")  # type: ignore[arg-type]
Limits(min_batery=0.1)  # type: ignore[call-arg]  # misspelled
