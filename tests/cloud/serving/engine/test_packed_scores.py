"""Scores in the one tensor that a program returns."""

import numpy as np
import pytest

from edgewise_cloud.serving.model.packed_scores import unpack_scores
from edgewise_cloud.serving.model.scores import pack_scores
from edgewise_edge.decoding.logprobs import token_score


@pytest.mark.parametrize("vocabulary_size", [1, 3, 20, 65])
def test_scores_of_any_vocabulary_come_out_as_they_went_in(vocabulary_size: int) -> None:
    """Also of one with fewer tokens than the likeliest that are asked for."""
    logits = np.random.default_rng(0).normal(size=(vocabulary_size, 4)).astype(np.float32)
    following = np.arange(4, dtype=np.int32) % vocabulary_size
    packed = np.asarray(pack_scores(logits, following))
    for row, found in enumerate(unpack_scores(packed, following[:3].tolist(), 20)):
        expected = token_score(logits[:, row], int(following[row]), 20)
        assert found.logprob == pytest.approx(expected.logprob, abs=1e-5)
        assert [id_ for id_, _ in found.top] == [id_ for id_, _ in expected.top]
