"""The options of one request."""

from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from edgewise import Privacy
from edgewise.cli.options.groups import ROUTING, SAMPLING
from edgewise.cli.options.values import parse_bias
from edgewise.options import DEFAULT_MAX_TOKENS

_MODELS = "the model's"

Prompt = Annotated[
    str | None,
    typer.Argument(
        metavar="PROMPT",
        help="The text; '' begins a new one, '-' reads standard input.",
        show_default="standard input",
    ),
]
Json = Annotated[
    bool, typer.Option("-j", "--json", help="Print one JSON object.", show_default="text")
]


Private = Annotated[
    bool,
    typer.Option(
        "--private", help="Never leave the device.", show_default="off", rich_help_panel=ROUTING
    ),
]


@dataclass(frozen=True, kw_only=True)
class ScoreOptions:
    """What a request for a score takes."""

    top: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Show the N likeliest tokens in each place too, up to 20.",
            show_default="0",
        ),
    ] = None
    private: Private = False
    first_token_budget: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Prefer a source that can have it by then; above 0.",
            show_default="none",
            rich_help_panel=ROUTING,
        ),
    ] = None

    def request(self) -> dict[str, Any]:
        """The ScoreOptions of Router.score."""
        return _with_privacy(asdict(self))


@dataclass(frozen=True, kw_only=True)
class RouteOptions:
    """What decides about one request."""

    max_tokens: Annotated[
        int | None,
        typer.Option(
            "-n",
            "--max-tokens",
            metavar="N",
            help="New tokens at most, 1 or more.",
            show_default=f"{DEFAULT_MAX_TOKENS}, or what fits",
        ),
    ] = None
    private: Private = False
    first_token_budget: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Prefer a source that has the first token by then; above 0.",
            show_default="none",
            rich_help_panel=ROUTING,
        ),
    ] = None
    latency_budget: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Prefer a source that has the whole answer by then; above 0.",
            show_default="none",
            rich_help_panel=ROUTING,
        ),
    ] = None
    sliding_window: Annotated[
        bool,
        typer.Option(
            "--sliding-window",
            show_default="off",
            help="Let the device continue past its context window, forgetting the start.",
            rich_help_panel=ROUTING,
        ),
    ] = False

    def request(self) -> dict[str, Any]:
        """The RequestOptions of Router.stream and Router.route."""
        return _with_privacy(asdict(self))


@dataclass(frozen=True, kw_only=True)
class GenerateOptions(RouteOptions):
    """What a request for text takes."""

    hedge_after: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Start the other source too if there is no token by then; above 0.",
            show_default="never",
            rich_help_panel=ROUTING,
        ),
    ] = None
    temperature: Annotated[
        float | None,
        typer.Option(
            "-t",
            "--temperature",
            metavar="NUMBER",
            help="From 0 (always the likeliest token) to 100; 1 samples as the model predicts.",
            show_default=_MODELS,
            rich_help_panel=SAMPLING,
        ),
    ] = None
    top_k: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Choose among the N likeliest tokens; 0: all.",
            show_default=_MODELS,
            rich_help_panel=SAMPLING,
        ),
    ] = None
    top_p: Annotated[
        float | None,
        typer.Option(
            metavar="0..1",
            help="Choose among the likeliest tokens that make up this probability, "
            "above 0; 1: all.",
            show_default=_MODELS,
            rich_help_panel=SAMPLING,
        ),
    ] = None
    min_p: Annotated[
        float | None,
        typer.Option(
            metavar="0..1",
            help="Choose among tokens with at least this share of the likeliest one's probability; "
            "0: all.",
            show_default=_MODELS,
            rich_help_panel=SAMPLING,
        ),
    ] = None
    repetition_penalty: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER",
            help="Above 1 makes earlier tokens less likely, from 0.01 to 100; 1: none.",
            show_default=_MODELS,
            rich_help_panel=SAMPLING,
        ),
    ] = None
    presence_penalty: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER",
            help="Above 0 makes tokens of the answer less likely to come again, from -2 to 2; 0: none.",
            show_default=_MODELS,
            rich_help_panel=SAMPLING,
        ),
    ] = None
    frequency_penalty: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER",
            help="The same, for each time that the answer has the token, from -2 to 2; 0: none.",
            show_default=_MODELS,
            rich_help_panel=SAMPLING,
        ),
    ] = None
    logit_bias: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID=BIAS",
            help="Make the token with this ID likelier or less likely, from -100 (never) to 100; may "
            "be given several times.",
            show_default="none",
            rich_help_panel=SAMPLING,
        ),
    ] = None
    seed: Annotated[
        int | None,
        typer.Option(
            "-s",
            "--seed",
            metavar="N",
            help="The same seed gives the same text, up to near-ties; 0 or more.",
            show_default="random",
            rich_help_panel=SAMPLING,
        ),
    ] = None
    stop: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="End before this text; may be given several times.",
            show_default="none",
            rich_help_panel=SAMPLING,
        ),
    ] = None

    logprobs: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="With --json: each token's log-probability, and those of the N likeliest, up to 20.",
            show_default="none",
        ),
    ] = None

    def request(self) -> dict[str, Any]:
        """The RequestOptions of Router.stream. Raises RequestError for an invalid --logit-bias."""
        biases = self.logit_bias and dict(map(parse_bias, self.logit_bias))
        return RouteOptions.request(self) | {"logit_bias": biases}


def _with_privacy(options: dict[str, Any]) -> dict[str, Any]:
    private = options.pop("private")
    return options | {"privacy": Privacy.PRIVATE if private else None}
