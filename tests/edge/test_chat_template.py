"""Chat templates, in a manifest and at work."""

import dataclasses
import json
from pathlib import Path

import pytest

from edgewise_edge import Manifest, ModelCorruptError
from edgewise_edge.store.catalog import find_model
from edgewise_edge.store.chat_template import ChatTemplate

TEMPLATE = {"system": "{content}\n", "user": "Q: {content}\n", "assistant": "A: {content}\n"}


def test_each_message_takes_the_text_of_its_role() -> None:
    """A message that holds {content} itself stays as it is."""
    template = ChatTemplate(**TEMPLATE, answer="A:")
    messages = [("system", "Be brief."), ("user", "{content}?"), ("assistant", "Yes.")]
    assert template.render(messages) == "Be brief.\nQ: {content}?\nA: Yes.\nA:"


def test_template_survives_in_the_manifest(tmp_path: Path) -> None:
    """One without it has no such field: older versions read it, too."""
    plain = Manifest.read(find_model("tales"))
    for template in (ChatTemplate(**TEMPLATE, stop=("\nQ:",)), None):
        manifest = dataclasses.replace(plain, chat_template=template)
        manifest.write(tmp_path)
        assert Manifest.read(tmp_path) == manifest
    assert "chat_template" not in json.loads((tmp_path / "manifest.json").read_text())


@pytest.mark.parametrize(
    "broken",
    [
        [],
        "{content}",
        {"user": "{content}"},
        {**TEMPLATE, "user": "no place for the message"},
        {**TEMPLATE, "user": "{content}{content}"},
        {**TEMPLATE, "user": 1},
        {**TEMPLATE, "answer": 1},
        {**TEMPLATE, "stop": "\n"},
        {**TEMPLATE, "stop": [""]},
        {**TEMPLATE, "jinja": "{{ 1 }}"},
    ],
)
def test_broken_template_is_a_broken_manifest(tmp_path: Path, broken: object) -> None:
    """Found when the manifest is read."""
    Manifest.read(find_model("tales")).write(tmp_path)
    file = tmp_path / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"chat_template": broken}))
    with pytest.raises(ModelCorruptError, match="missing, unknown or invalid fields"):
        Manifest.read(tmp_path)
