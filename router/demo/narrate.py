"""Shows a text while it is generated, and says in English which source wrote it and why."""

from collections.abc import Callable

from rich.console import Console
from rich.live import Live
from rich.text import Text

from edgewise import Decision, Generation, Privacy, Reason, Router, Source

STYLES = {Source.ON_DEVICE: "green", Source.IN_CLOUD: "cyan"}
NAMES = {Source.ON_DEVICE: "the device", Source.IN_CLOUD: "the cloud"}
HOW = {
    Reason.PREFERRED: ", as preferred",
    Reason.OTHER_VETOED: " instead",
    Reason.BUDGET: " instead",
    Reason.BUDGET_MISSED: ", as the faster one",
    Reason.HEDGED: " first",
    Reason.LAST_RESORT: " as a last resort",
}
MARK = "|"  # where another source continues
MAX_TOKENS, PARAGRAPH_END = 120, "\n\n"  # a paragraph reads better than a fixed length
MIDWAY = 24  # tokens

console = Console(highlight=False)


def show(
    router: Router,
    prompt: str,
    *,
    seed: int,
    privacy: Privacy = Privacy.ALLOW_CLOUD,
    latency_budget: float | None = None,
    meanwhile: Callable[[int], object] | None = None,
) -> Generation:
    """Show a paragraph that continues `prompt`, each source in its colour, and explain it.

    `meanwhile` is called after each piece of the text, with the number of tokens so far.
    """
    text, source, tokens = Text(prompt), None, 0
    with (
        Live(text, console=console, transient=True),
        router.stream(
            prompt,
            max_tokens=MAX_TOKENS,
            stop=PARAGRAPH_END,
            seed=seed,
            privacy=privacy,
            latency_budget=latency_budget,
        ) as stream,
    ):
        for chunk in stream:
            if source not in {None, chunk.source}:
                text.append(MARK, style="bold red")
            source = chunk.source
            text.append(chunk.text, style=STYLES[source])
            tokens += len(chunk.token_ids)
            if meanwhile:
                meanwhile(tokens)
    console.print(text)
    for sentence in explain(stream.generation):
        tell(sentence)
    return stream.generation


def tell(sentence: str) -> None:
    """Print a sentence that explains."""
    console.print(f"→ {sentence}", style="dim", markup=False)


def explain(generation: Generation) -> list[str]:
    """Why which source answered, and how fast: a few sentences."""
    parts = _handoffs(generation) or _reasons(generation.decision)
    return [f"{part[0].upper()}{part[1:]}." for part in (*parts, _figures(generation))]


def _handoffs(generation: Generation) -> list[str]:
    first, *others = generation.segments
    if not others:
        return []
    return [
        f"{NAMES[first.source]} wrote {first.tokens} tokens, then stopped answering",
        *(
            f"{NAMES[part.source]} continued at the very next token: the {MARK} in the text is there"
            for part in others
        ),
    ]


def _reasons(decision: Decision) -> list[str]:
    if decision.reason is Reason.PREFERRED:
        reasons = []
    elif decision.reason in {Reason.BUDGET, Reason.BUDGET_MISSED}:
        reasons = [
            f"{NAMES[source]} was expected to take up to {time.total:,.1f} s"
            for source, time in decision.predicted.items()
            if time.total is not None
        ]
    else:
        reasons = [veto.detail for veto in decision.vetoes.values()]
    return [*reasons, f"{NAMES[decision.source]} answered{HOW[decision.reason]}"]


def _figures(generation: Generation) -> str:
    timings, parts = generation.timings, [f"{generation.usage.completion_tokens} tokens"]
    if timings.time_to_first_token is not None:
        # Each scene has a router of its own, whose device loads the model when it is first needed.
        loading = " (loading the model included)" if _device_began(generation) else ""
        parts.append(f"the first after {timings.time_to_first_token * 1000:,.0f} ms{loading}")
    if timings.tokens_per_second is not None:
        parts.append(f"{timings.tokens_per_second:,.0f} tokens/s")
    return ", ".join(parts)


def _device_began(generation: Generation) -> bool:
    return bool(generation.segments) and generation.segments[0].source is Source.ON_DEVICE
