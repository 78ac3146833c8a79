"""Training in two phases: the second text, and what --resume makes of it."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgewise_cloud.corpus import HELD_OUT_FILE, HELD_OUT_THEN_FILE, Corpus, read_documents
from edgewise_cloud.errors import TextError, TrainingError
from edgewise_cloud.train.data import RandomRows
from edgewise_cloud.train.pretrain import pretrain
from edgewise_cloud.train.progress import TrainingProgress
from edgewise_cloud.train.tokenized import TokenizedCorpus
from edgewise_edge.decoding.tokenizer import Tokenizer
from tests.cloud.conftest import STORIES
from tests.cloud.train.conftest import SCHEDULE, SIZE, Trained, eager, weights

PHASES = replace(SCHEDULE, steps=8, then_share=0.5)
THEN = [story.upper() for story in STORIES]  # other tokens

pytestmark = pytest.mark.usefixtures("uncompiled")


@pytest.fixture(scope="module")
def then(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The second phase's text."""
    path = tmp_path_factory.mktemp("then") / "then.txt"
    path.write_text("<|endoftext|>".join(THEN), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def phased(text: Path, then: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A training in two phases that was not interrupted."""
    made = Trained(tmp_path_factory.mktemp("phased") / "model", [])
    with eager():
        pretrain([text], made.folder, SIZE, PHASES, then=[then], report=made.reports.append)
    return made


def stop_after(step: int, reports: list[str]) -> Callable[..., None]:
    """Ctrl-C in the middle of the round after `step`."""

    def stop(progress: TrainingProgress, batch: int, logs: object = None) -> None:
        if reports[-1].startswith(f"step {step}/8 "):
            raise KeyboardInterrupt

    return stop


def test_a_training_resumed_in_either_phase_ends_with_the_same_weights(
    phased: Trained, text: Path, then: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted in the first phase, at the start of the second one, and within it."""
    out, reports = tmp_path / "model", list[str]()
    for step in (2, 4, 6):
        with monkeypatch.context() as patch:
            patch.setattr(TrainingProgress, "on_train_batch_end", stop_after(step, reports))
            with pytest.raises(KeyboardInterrupt):
                pretrain([text], out, SIZE, PHASES, then=[then], resume=True, report=reports.append)
    pretrain([text], out, SIZE, PHASES, then=[then], resume=True, report=reports.append)
    resumed = [line for line in reports if line.startswith("resuming")]
    assert resumed == [f"resuming after step {step}" for step in (2, 4, 6)]
    assert weights(out) == weights(phased.folder)


def test_each_phase_reads_its_own_text(
    text: Path, then: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the steps each, in this order."""
    read = list[np.ndarray]()

    def remember(rows: RandomRows, tokens: np.ndarray, *shape: int) -> None:
        if len(shape) == 5:  # training, not a preview
            read.append(tokens)
        original(rows, tokens, *shape)

    original = RandomRows.__init__
    monkeypatch.setattr(RandomRows, "__init__", remember)
    schedule = replace(PHASES, steps=4)
    pretrain([text], tmp_path, SIZE, schedule, then=[then], report=lambda _: None)
    texts = [Tokenizer.from_folder(tmp_path).decode(tokens.tolist()) for tokens in read]
    assert [sample.isupper() for sample in texts] == [False, True]


def test_the_vocabulary_is_learned_from_both_texts(phased: Trained, trained: Trained) -> None:
    """Tokens of capital letters are in the second one only."""
    both, first = (Tokenizer.from_folder(made.folder) for made in (phased, trained))
    assert len(both.encode("THE")) < len(first.encode("THE"))


def test_of_each_text_a_share_is_held_out(phased: Trained) -> None:
    """Each in its own file, and measured by itself."""
    for name, stories in ((HELD_OUT_FILE, STORIES), (HELD_OUT_THEN_FILE, THEN)):
        held_out = read_documents([phased.folder / name])
        assert set(held_out) < set(stories)
    first, second, _ = phased.reports[-3:]
    assert re.fullmatch(r"held-out loss \d\.\d{3}, \d\.\d{3} bits per byte", first)
    assert re.match(r"held-out loss of the second phase's text \d\.\d{3}, ", second)


def test_what_one_text_holds_out_is_in_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second text is a part of the first one, with other line breaks."""
    first, second = tmp_path / "first.txt", tmp_path / "second.txt"
    first.write_text("\n\n".join(STORIES))
    second.write_text("<|endoftext|>".join(story.replace(" ", "\n  ", 2) for story in STORIES))
    seen = list[str]()

    def remember(corpus: Corpus, tokenizer: Tokenizer) -> TokenizedCorpus:
        seen.extend(" ".join(document.split()) for document in corpus.train)
        return original(corpus, tokenizer)

    original = TokenizedCorpus.of
    monkeypatch.setattr(TokenizedCorpus, "of", remember)
    out = tmp_path / "model"
    pretrain([first], out, SIZE, replace(PHASES, steps=4), then=[second], report=lambda _: None)
    held_out = read_documents([out / HELD_OUT_THEN_FILE])
    assert held_out
    for story in held_out:
        assert " ".join(story.split()) not in " ".join(seen)


def test_progress_says_which_phase_runs(phased: Trained) -> None:
    """At the start what each reads, and then in each round's line."""
    bounds = [re.match(r"steps (\d) to (\d): [\d,]+ tokens", line) for line in phased.reports[:2]]
    assert [found and found.groups() for found in bounds] == [("1", "4"), ("5", "8")]
    rounds = [line.split(" · ")[:2] for line in phased.reports if line.startswith("step ")]
    assert rounds == [
        ["step 2/8", "first phase"],
        ["step 4/8", "first phase"],
        ["step 6/8", "second phase"],
        ["step 8/8", "second phase"],
    ]


def test_resuming_with_other_phases_is_refused(phased: Trained, text: Path, then: Path) -> None:
    """Another share or second text, or none, as for other changes."""
    cases = [
        ([then], replace(PHASES, then_share=0.25), r"then_share was 0\.5, is 0\.25"),
        ([text], PHASES, r"then was \w+, is \w+"),
        (
            [],
            replace(PHASES, then_share=None),
            r"then_share was 0\.5, is None, then was \w+, is None",
        ),
    ]
    for texts, schedule, differences in cases:
        with pytest.raises(TrainingError, match=f"with another plan: {differences}; give"):
            pretrain([text], phased.folder, SIZE, schedule, then=texts, resume=True)


def test_a_training_in_one_phase_does_not_become_one_in_two(
    trained: Trained, text: Path, then: Path
) -> None:
    """Its learning rate has fallen by another schedule."""
    schedule = replace(SCHEDULE, then_share=0.5)
    with pytest.raises(TrainingError, match=r"then_share was None, is 0\.5, then was None, is"):
        pretrain([text], trained.folder, SIZE, schedule, then=[then], resume=True)


def test_one_option_of_the_second_phase_without_the_other_is_refused(
    text: Path, tmp_path: Path
) -> None:
    """Before any text is read."""
    for texts, share, words in (
        ([tmp_path / "none"], None, "--then is given without --then-share; give"),
        ([], 0.2, r"--then-share is 0\.2 without --then; give"),
    ):
        with pytest.raises(TrainingError, match=words):
            pretrain([text], tmp_path / "out", SIZE, replace(PHASES, then_share=share), then=texts)
    assert not (tmp_path / "out").exists()


def test_a_second_text_that_is_too_short_is_a_text_error(text: Path, tmp_path: Path) -> None:
    """The message names its option."""
    short = tmp_path / "short.txt"
    short.write_text("what was")
    with pytest.raises(TextError, match="the text of --then is too short"):
        pretrain([text], tmp_path / "out", SIZE, PHASES, then=[short], report=lambda _: None)
