"""The sampler, on a few logits."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise_edge import RequestError, RuntimeFailedError, SamplingParams, sample
from edgewise_edge.decoding.sampling import uniform
from edgewise_edge.decoding.sampling_params import sampling_params

LOGITS = np.array([1.0, 4.0, 2.0, 3.0], np.float32)


def draws(params: SamplingParams, logits: np.ndarray = LOGITS, count: int = 400) -> set[int]:
    return {sample(logits, params, [], position) for position in range(count)}


def test_temperature_zero_takes_the_likeliest() -> None:
    """Greedy decoding is not random."""
    assert draws(SamplingParams(temperature=0)) == {1}


def test_a_temperature_near_zero_does_not_overflow() -> None:
    """It acts as zero."""
    assert draws(SamplingParams(temperature=1e-308), count=3) == {1}


def test_top_k_keeps_the_likeliest_few() -> None:
    """With top_k 2 only the two likeliest are drawn."""
    assert draws(SamplingParams(temperature=5, top_k=2)) == {1, 3}


@pytest.mark.parametrize("top_k", [1, 2, 40, 256, 257, 4096])
@pytest.mark.parametrize("size", [4095, 4096, 5000, 50_257])
@pytest.mark.parametrize("step", [0.001, 0.5])
def test_top_k_is_as_if_the_others_were_ruled_out(top_k: int, size: int, step: float) -> None:
    """In a vocabulary of any size, whether or not several tokens are equally likely."""
    generator = np.random.default_rng(size)
    logits = (generator.normal(0, 4, size) // step * step).astype(np.float32)
    kept = logits >= np.sort(logits)[-min(top_k, size)]
    alone = np.where(kept, logits, np.float32(-np.inf))
    for position in range(5):
        found = sample(logits, SamplingParams(temperature=1, top_k=top_k), [], position)
        assert found == sample(alone, SamplingParams(temperature=1, top_k=0), [], position)


def test_top_k_zero_sets_no_limit() -> None:
    """Every token is drawn."""
    assert draws(SamplingParams(temperature=5, top_k=0)) == {0, 1, 2, 3}


def test_top_p_keeps_the_nucleus() -> None:
    """The likeliest tokens stay, up to the one that reaches top_p, included."""
    # softmax of LOGITS: 0.03, 0.64, 0.09, 0.24
    assert draws(SamplingParams(temperature=1, top_k=0, top_p=0.6)) == {1}
    assert draws(SamplingParams(temperature=1, top_k=0, top_p=0.7)) == {1, 3}


@pytest.mark.parametrize(("min_p", "kept"), [(0.1, {1, 2, 3}), (0.3, {1, 3}), (0.4, {1}), (1, {1})])
def test_min_p_keeps_a_share_of_the_likeliest(min_p: float, kept: set[int]) -> None:
    """Of LOGITS at temperature 1, the others have 0.37, 0.14 and 0.05 of its probability."""
    assert draws(SamplingParams(temperature=1, top_k=0, min_p=min_p)) == kept


def test_min_p_is_taken_after_the_temperature() -> None:
    """So a high one adds tokens: at 5, all have more than half of the likeliest one's probability."""
    assert draws(SamplingParams(temperature=5, top_k=0, min_p=0.5)) == {0, 1, 2, 3}


def test_tokens_as_likely_as_the_likeliest_stay() -> None:
    """Also with the highest min_p."""
    assert draws(SamplingParams(min_p=1), np.array([2, 2, 1, 2], np.float32)) == {0, 1, 3}


def test_repetition_penalty_lowers_seen_tokens() -> None:
    """Whether their logits are positive or negative."""
    params = SamplingParams(temperature=0, repetition_penalty=2)
    assert sample(LOGITS, params, [1, 1], 0) == 3
    assert sample(-LOGITS, SamplingParams(temperature=0, repetition_penalty=3), [0], 0) == 2


@pytest.mark.parametrize("penalty", ["presence_penalty", "frequency_penalty"])
def test_openai_penalties_count_generated_tokens_only(penalty: str) -> None:
    """A token of the prompt is as likely as before; a negative penalty makes repetitions likelier."""
    params = SamplingParams(temperature=0, **{penalty: 1.5})
    assert sample(LOGITS, params, [1], 1, prompt_tokens=1) == 1
    assert sample(LOGITS, params, [0, 1], 2, prompt_tokens=1) == 3
    likelier = SamplingParams(temperature=0, **{penalty: -1.5})
    assert sample(LOGITS, likelier, [0, 3], 2, prompt_tokens=1) == 3


def test_only_the_frequency_penalty_counts_repetitions() -> None:
    """Four times 0.4 outweigh the difference of 1, once 0.4 does not."""
    frequency = SamplingParams(temperature=0, frequency_penalty=0.4)
    assert [sample(LOGITS, frequency, [1] * n, n) for n in (1, 2, 4)] == [1, 1, 3]
    presence = SamplingParams(temperature=0, presence_penalty=0.4)
    assert sample(LOGITS, presence, [1] * 4, 4) == 1


def test_bias_is_added_before_anything_is_drawn() -> None:
    """100 makes a token certain, -100 rules it out, at any temperature."""
    assert draws(SamplingParams(temperature=1, logit_bias={0: 100})) == {0}
    assert draws(SamplingParams(temperature=5, top_k=0, logit_bias={1: -100, 3: -100})) == {0, 2}


@pytest.mark.parametrize(
    ("bias", "words"),
    [
        ([1, 2], "must be a dict"),
        ({"7": 1}, "names '7'; it must be a token id"),
        ({True: 1}, "names True"),
        ({-1: 1}, "names -1"),
        ({7: 101}, "of token 7 is 101; it must be a number, from -100 to 100"),
        ({7: math.nan}, "of token 7 is nan"),
        (dict.fromkeys(range(1025), 1), "has 1025 tokens; at most 1024"),
    ],
)
def test_bias_that_is_none_is_refused(bias: object, words: str) -> None:
    """With a RequestError that says what was wrong with which token."""
    with pytest.raises(RequestError, match=f"logit_bias {words}|logit_bias is .*{words}"):
        SamplingParams(logit_bias=bias)


def test_bias_takes_numbers_of_numpy_and_shows_no_token() -> None:
    """As other options do; it may tell of the text, as a stop string may."""
    params = SamplingParams(logit_bias={np.int64(7): np.float32(2)})
    assert params.logit_bias == {7: 2.0}
    assert "7" not in repr(params)


@pytest.mark.parametrize("given", [{}, {7: 2.0}])
def test_bias_is_not_changed_by_who_gave_it(given: dict[int, object]) -> None:
    """Later, when it has been checked."""
    params = SamplingParams(logit_bias=given)
    given[7] = "more"
    assert params.logit_bias.get(7) in {None, 2.0}


def test_seed_and_position_determine_the_draw() -> None:
    """The same seed and position repeat a draw; other seeds and positions vary it."""
    logits = np.zeros(1000, np.float32)
    params = SamplingParams(temperature=1, top_k=0, seed=5)
    first = [sample(logits, params, [], position) for position in range(20)]
    assert first == [sample(logits, params, [], position) for position in range(20)]
    other = SamplingParams(temperature=1, top_k=0, seed=6)
    assert first != [sample(logits, other, [], position) for position in range(20)]
    assert len(set(first)) > 10


@given(
    logits=st.lists(st.integers(-20, 20), min_size=1, max_size=50, unique=True),
    temperature=st.floats(0.1, 3),
    top_k=st.integers(0, 50),
    top_p=st.floats(0.01, 1),
    min_p=st.floats(0, 1),
    seed=st.integers(0, 100),
)
def test_tokens_are_drawn_as_by_the_plain_definition(
    logits: list[int], temperature: float, top_k: int, top_p: float, min_p: float, seed: int
) -> None:
    """Softmax at the temperature, then top_k, top_p and min_p, each over what is left."""
    params = SamplingParams(
        temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, seed=seed
    )
    order = sorted(range(len(logits)), key=lambda token: -logits[token])[: top_k or None]
    weights = [math.exp((logits[token] - max(logits)) / temperature) for token in order]
    total, reached, kept = sum(weights), 0.0, list[int]()
    for token, weight in zip(order, weights, strict=True):
        if (not kept or reached < top_p) and weight >= min_p * weights[0]:
            kept.append(token)
        reached += weight / total
    wanted = uniform(seed, 0) * sum(math.exp((logits[t] - max(logits)) / temperature) for t in kept)
    for token in sorted(kept):
        wanted -= math.exp((logits[token] - max(logits)) / temperature)
        if wanted < 0:
            break
    assert sample(np.array(logits, np.float32), params, [], 0) == token


def test_draws_follow_the_distribution() -> None:
    """Over many positions, each token's share is its probability."""
    params = SamplingParams(temperature=1, top_k=0)
    counts = np.bincount([sample(LOGITS, params, [], p) for p in range(4000)], minlength=4)
    expected = np.exp(LOGITS) / np.exp(LOGITS).sum()
    assert np.abs(counts / 4000 - expected).max() < 0.03


def test_nan_logits_are_a_runtime_failure() -> None:
    """They never become a token."""
    with pytest.raises(RuntimeFailedError, match="NaN"):
        sample(np.array([0, math.nan], np.float32), SamplingParams(), [], 0)


@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize("top_k", [0, 1, 40])
@pytest.mark.parametrize("value", [math.inf, math.nan])
@pytest.mark.parametrize("size", [100, 5000])
def test_a_logit_that_is_no_number_is_a_runtime_failure(
    temperature: float, top_k: int, value: float, size: int
) -> None:
    """However the token is chosen: a revision on probation is left for it."""
    logits = np.zeros(size, np.float32)
    logits[size // 2] = value
    params = SamplingParams(temperature=temperature, top_k=top_k)
    with pytest.raises(RuntimeFailedError, match="NaN or infinite logits"):
        sample(logits, params, [], 0)


@pytest.mark.parametrize("temperature", [0, 1])
def test_tokens_that_are_ruled_out_are_no_failure(temperature: float) -> None:
    """Minus infinity is a chance of 0, as long as one token has another."""
    logits = np.full(100, -math.inf, np.float32)
    logits[50] = 1
    assert sample(logits, SamplingParams(temperature=temperature), [], 0) == 50
    with pytest.raises(RuntimeFailedError):
        sample(logits - math.inf, SamplingParams(temperature=temperature), [], 0)


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": math.nan},
        {"temperature": -1},
        {"temperature": math.inf},
        {"top_k": -1},
        {"top_p": 0},
        {"top_p": math.nan},
        {"min_p": -0.1},
        {"min_p": 1.1},
        {"repetition_penalty": 0},
        {"presence_penalty": 2.1},
        {"frequency_penalty": -2.1},
        {"seed": -1},
        {"seed": 2**63},
    ],
)
def test_values_out_of_range_are_refused(bad: dict[str, float]) -> None:
    """With a RequestError that names the parameter."""
    with pytest.raises(RequestError, match=next(iter(bad))):
        SamplingParams(**bad)


def test_parameters_not_chosen_have_recommended_values() -> None:
    """None means not chosen; without a seed, a random one is drawn."""
    params = sampling_params({"temperature": 0.5, "top_k": 7}, {"top_k": 3, "temperature": None})
    assert (params.temperature, params.top_k) == (0.5, 3)
    assert params.seed != sampling_params({}, {}).seed


def test_unknown_parameters_are_refused() -> None:
    """A misspelled one is not ignored."""
    with pytest.raises(RequestError, match="warmth"):
        sampling_params({}, {"warmth": 1})


@given(
    logits=st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=50),
    temperature=st.floats(0, 100),
    top_k=st.integers(0, 60),
    top_p=st.floats(0.001, 1),
    min_p=st.floats(0, 1),
    penalty=st.floats(0.01, 100),
    presence=st.floats(-2, 2),
    bias=st.floats(-100, 100),
    seed=st.integers(0, 2**63 - 1),
    position=st.integers(0, 10_000),
)
def test_valid_parameters_give_a_token_of_the_vocabulary(
    logits: list[float],
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
    penalty: float,
    presence: float,
    bias: float,
    seed: int,
    position: int,
) -> None:
    """For any logits, which are left unchanged."""
    array = np.array(logits, np.float32)
    before = array.copy()
    params = SamplingParams(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=penalty,
        presence_penalty=presence,
        logit_bias={0: bias},
        seed=seed,
    )
    assert 0 <= sample(array, params, [0], position) < len(logits)
    assert (array == before).all()
