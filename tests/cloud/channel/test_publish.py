"""Publishing: a revision is tried, measured and signed; deltas where they save; and no worse one."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from edgewise_cloud.channel.candidate import Candidate
from edgewise_cloud.channel.changes import revoke
from edgewise_cloud.channel.evaluation import make_evaluation, with_tolerance
from edgewise_cloud.channel.publish import make_deltas
from edgewise_cloud.console import SILENT
from edgewise_cloud.convert.evaluate import PASSAGE
from edgewise_cloud.errors import PublishFailedError
from edgewise_edge import DeviceModel
from edgewise_edge.agreement import Agreement, require_agreement
from edgewise_edge.errors import ModelRefusedError
from edgewise_edge.installed.delta import patched
from edgewise_edge.installed.evaluation import Evaluation, Window
from edgewise_edge.store.manifest import Manifest
from tests.cloud.channel.conftest import Channel, NewDevice
from tests.cloud.conftest import FullDisk
from tests.support.command_line import RunCommand
from tests.support.damaged_folder import copied_model, replace_model
from tests.support.revised_model import revised_model


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The bundled model's device files, a fine-tuned one's, and a ruined one's."""
    folder = tmp_path_factory.mktemp("models")
    return {
        "first": copied_model(folder / "first"),
        "second": revised_model(folder / "second", spread=0.3, every=4),
        "ruined": revised_model(folder / "ruined", spread=60),
    }


@pytest.fixture
def short_text(tmp_path: Path) -> Path:
    """A text of about sixty tokens: devices' tests are not about time."""
    path = tmp_path / "short.txt"
    path.write_text("Once upon a time there was a fisherman who lived with his wife. " * 4)
    return path


def test_a_device_gets_what_was_published(
    channel: Channel,
    new_device: NewDevice,
    models: dict[str, Path],
    short_text: Path,
    run_command: RunCommand,
) -> None:
    """By its evaluation, it refuses ruined weights.

    The second revision has a delta that makes its file of the first one's. A third, which predicts
    nothing any more, is refused with both figures, unless it is forced.
    """
    options = ["--channel", channel.folder, "--keys", channel.keys, "--text", short_text]
    done = run_command("publish", models["first"], *options, "--json")
    assert done.returncode == 0, done.stderr
    first = json.loads(done.stdout)
    assert (first["name"], first["number"], first["new"], first["deltas"]) == ("tales", 1, True, [])

    device = new_device(channel)
    published = Manifest.parse(device.read(f"tales/{first['revision']}/manifest.json"), "it")
    assert set(published.files) == {"model.tflite", "vocab.json", "merges.txt"}
    for file, record in published.files.items():
        content = device.read(f"blobs/{record.sha256}")
        assert content == (models["first"] / file).read_bytes()
    evaluation = Evaluation.parse(device.read(f"tales/{first['revision']}/evaluation.json"))
    assert evaluation.measured["top1"] == 1.0
    assert 0.7 < evaluation.least_top1 < 0.95
    assert evaluation.measured["bits_per_byte"] < evaluation.most_bits_per_byte

    ruined = DeviceModel.load(models["ruined"], threads=1)
    with pytest.raises(ModelRefusedError, match=r"agrees with its publisher on \d"):
        require_agreement(ruined.runtime, evaluation, models["ruined"])

    again = run_command("publish", models["first"], *options)
    assert "is published already, as number 1; nothing was changed" in again.stdout
    assert channel.read().roles.timestamp.signed.version == 2

    done = run_command("publish", models["second"], *options, "--rollout", "10")
    assert done.returncode == 0, done.stderr
    assert "number 2" in done.stdout
    assert f"delta from {first['revision']}: 0.1" in done.stdout
    assert "channel rollout" in done.stderr
    second = device.revisions()[-1]
    assert (second["number"], second["rollout"]) == (2, 10)
    (delta,) = second["deltas"]
    assert delta["size"] < 0.5 * published.files["model.tflite"].size
    path = channel.folder.parent / "delta"
    path.write_bytes(device.read(f"deltas/{delta['from']}-{delta['to']}.xz"))
    size = (models["second"] / "model.tflite").stat().st_size
    made = b"".join(patched(models["first"] / "model.tflite", path, size))
    assert sha256(made).hexdigest() == delta["to"]

    options += ["--delta-from", "0"]
    refused = run_command("publish", models["ruined"], *options)
    assert refused.returncode == 1
    assert "bits per byte, and the newest revision of 'tales'" in refused.stderr
    assert len(device.revisions()) == 2
    assert run_command("publish", models["ruined"], *options, "--force").returncode == 0
    assert len(device.revisions()) == 3


def test_another_vocabulary_is_another_name(
    channel: Channel, models: dict[str, Path], run_command: RunCommand
) -> None:
    """The error says so, how to name it, and comes before anything takes long."""
    channel.add("first")  # with a vocabulary of its own
    done = run_command("publish", models["first"], "--channel", channel.folder, "-k", channel.keys)
    assert done.returncode == 2
    assert "another vocabulary than revision first of 'tales'" in done.stderr
    assert "--name tales-2" in done.stderr
    assert "trying" not in done.stderr


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder, keys: (keys / "targets.pem").unlink(), "'targets' must be signed with 1"),
        (lambda folder, keys: (folder / "merges.txt").unlink(), "merges.txt is missing"),
        (lambda folder, keys: (folder / "manifest.json").unlink(), "is not a model folder"),
        (lambda folder, keys: (folder / "model.tflite").write_bytes(b"x"), "cut short"),
        (lambda folder, keys: (keys / "targets.pem").write_text("x"), "and 0 of them are in"),
    ],
)
def test_what_is_missing_is_said_before_anything_takes_long(
    channel: Channel,
    models: dict[str, Path],
    tmp_path: Path,
    run_command: RunCommand,
    damage: Callable[[Path, Path], None],
    message: str,
) -> None:
    """One line, and the channel stays as it is."""
    folder = Path(shutil.copytree(models["first"], tmp_path / "model"))
    damage(folder, channel.keys)
    done = run_command("publish", folder, "--channel", channel.folder, "--keys", channel.keys)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert channel.read().index.models == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--name", "../up"], "give others with --name and --revision"),
        (["--revision", "a/b"], "give others with --name and --revision"),
        (["--requires", "litert=new"], "requires is"),
        (["--requires", "numpy=2"], "'numpy' is neither edgewise=VERSION"),
        (["--rollout", "101"], "--rollout"),
        (["--delta-from", "-1"], "--delta-from"),
        (["--text", "none.txt"], "cannot be read"),
    ],
)
def test_invalid_options_are_refused_before_anything_takes_long(
    channel: Channel,
    models: dict[str, Path],
    run_command: RunCommand,
    options: list[str],
    message: str,
) -> None:
    """With the option or its value in the message."""
    arguments = ["--channel", channel.folder, "--keys", channel.keys, *options]
    done = run_command("publish", models["first"], *arguments)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert "trying" not in done.stderr


def test_the_same_revision_with_other_settings_is_refused(
    channel: Channel, models: dict[str, Path], tmp_path: Path, run_command: RunCommand
) -> None:
    """A revision never changes; what merely differs with each conversion is no setting."""
    channel.publish_untried(models["first"])
    folder = Path(shutil.copytree(models["first"], tmp_path / "model"))
    replace(Manifest.read(folder), sampling={"temperature": 0.1}).write(folder)
    done = run_command("publish", folder, "--channel", channel.folder, "--keys", channel.keys)
    assert done.returncode == 2
    assert "was published with other settings, and a published revision never" in done.stderr
    assert "--revision 9410ac51ddc5-2" in done.stderr
    again = replace(Manifest.read(models["first"]), memory=7, conversion={"source": "again"})
    again.write(folder)  # as after another conversion of the same checkpoint
    done = run_command("publish", folder, "--channel", channel.folder, "--keys", channel.keys)
    assert "is published already" in done.stdout


def test_a_disk_that_fills_while_files_are_copied_changes_nothing(
    channel: Channel, models: dict[str, Path], new_device: NewDevice, full_disk: FullDisk
) -> None:
    """And what was copied before is used by the next attempt."""
    device = new_device(channel)
    with full_disk(100_000), pytest.raises(PublishFailedError, match="make room"):
        channel.publish_untried(models["first"])
    assert device.revisions() == []
    channel.publish_untried(models["first"])
    assert len(device.revisions()) == 1
    assert not list(channel.folder.rglob("partial*"))


def small_revision(folder: Path, base: Path, content: bytes) -> Path:
    """A model folder whose model file is `content`, which nobody could run."""
    shutil.copytree(base, folder)
    replace_model(folder, content)
    revision = sha256(content).hexdigest()[:12]
    replace(Manifest.read(folder), revision=revision).write(folder)
    return folder


def test_deltas_are_made_from_the_newest_revisions_and_kept_where_they_save(
    channel: Channel, models: dict[str, Path], tmp_path: Path
) -> None:
    """From as many as asked for, without revoked ones."""
    draw = np.random.default_rng(1)
    weights = draw.integers(0, 256, 100_000, np.uint8)
    alike = [(weights + np.uint8(step)).tobytes() for step in range(4)]
    other = draw.integers(0, 256, 100_000, np.uint8).tobytes()
    folders = [
        small_revision(tmp_path / str(number), models["first"], content)
        for number, content in enumerate([alike[0], other, *alike[1:]])
    ]
    for folder in folders[:4]:
        channel.publish_untried(folder)
    names = [Manifest.read(folder).revision for folder in folders]
    revoke(channel.read(), channel.ring, names[2], "bad")

    def made(count: int) -> list[tuple[str, bool]]:
        repository, candidate = channel.read(), Candidate.read(folders[4])
        deltas = make_deltas(repository, candidate, count, tmp_path, SILENT)
        return [(delta.from_revision, delta.kept) for delta in deltas]

    assert made(0) == []
    assert made(1) == [(names[3], True)]
    assert made(9) == [(names[0], True), (names[1], False), (names[3], True)]


def test_the_expected_tokens_are_keras_s_where_the_folder_has_them(exact_folder: Path) -> None:
    """The device model, unquantized, agrees; and so the limits are those for a model that does."""
    evaluation = make_evaluation(exact_folder)
    assert evaluation.measured["reference"] == "keras"
    assert evaluation.measured["top1"] > 0.99
    assert evaluation.tokens == 512
    assert {len(window.token_ids) for window in evaluation.windows[:-1]} == {192}
    text = b"".join(
        DeviceModel.load(exact_folder).tokenizer.token_bytes(token)
        for window in evaluation.windows
        for token in window.token_ids[1:]
    )
    assert PASSAGE.encode().startswith(text)
    assert len(text) == evaluation.text_bytes


def test_a_model_that_predicts_nan_is_refused() -> None:
    """No limit would hold for it."""
    evaluation = Evaluation(
        windows=(Window((1, 2), (2,)),), text_bytes=1, least_top1=0.0, most_bits_per_byte=1.0
    )
    with pytest.raises(PublishFailedError, match="predicts NaN"):
        with_tolerance(evaluation, Agreement(0.0, float("inf"), 1), "device")


def test_publishing_without_keras_weights_imports_no_tensorflow() -> None:
    """A publisher's machine need not wait for it, nor have it."""
    script = (
        "import sys; import edgewise_cloud.channel.publish, edgewise_cloud.channel.evaluation; "
        "print({'tensorflow', 'keras', 'jax'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
