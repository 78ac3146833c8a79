"""The Markdown documents: their commands and links lead somewhere."""

import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
PARTS = [ROOT / part for part in ("proto", "edge", "cloud", "router")]
FOLDERS = [*PARTS, *(ROOT / name for name in (".github", "benchmarks", "docs"))]
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(file for folder in FOLDERS for file in folder.rglob("*.md"))]
)
# Not published on a package index, where anyone could take the name.
OURS = re.compile(r"pip3? install [^\n#|&;]*(?<![\w./-])edgewise(-edge|-proto|-cloud)?(?![\w/.*-])")

in_each_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT))
)


def tokens(document: Path) -> list[Token]:
    """The document's Markdown tokens, inline ones in their places."""
    blocks = MarkdownIt().enable("table").parse(document.read_text(encoding="utf-8"))
    return [token for block in blocks for token in (block, *(block.children or ()))]


def code(document: Path) -> str:
    """Everything in it that is set as code."""
    kinds = {"code_inline", "code_block", "fence"}
    return "\n".join(token.content for token in tokens(document) if token.type in kinds)


def anchors(document: Path) -> set[str]:
    """The anchors of its headings, as code hosts make them."""
    found = tokens(document)
    titles = [
        "".join(part.content for part in found[n + 1].children or ())
        for n, token in enumerate(found)
        if token.type == "heading_open"
    ]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def is_broken(link: str, document: Path) -> bool:
    """Whether a relative link names no file, or no heading in it."""
    name, _, anchor = link.partition("#")
    target = document.parent / name if name else document
    return not target.exists() or bool(anchor and anchor not in anchors(target))


@in_each_document
def test_relative_links_resolve(document: Path) -> None:
    """To a file or folder, and to a heading in it."""
    links = [str(token.attrs["href"]) for token in tokens(document) if token.type == "link_open"]
    relative = [link for link in links if not re.match(r"[a-z]+:", link)]
    assert [link for link in relative if is_broken(link, document)] == []


@in_each_document
def test_make_targets_exist(document: Path) -> None:
    """Each `make X` that is set as code."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z-]+):", makefile, re.MULTILINE)
    assert set(re.findall(r"\bmake ([a-z][a-z-]*)", code(document))) <= set(targets)


@in_each_document
def test_our_packages_are_installed_from_files(document: Path) -> None:
    """From a checkout or dist/."""
    assert not OURS.search(code(document))


@pytest.mark.parametrize(
    ("command", "from_an_index"),
    [
        ("pip install edgewise", True),
        ("pip install 'edgewise-cloud[ray]'", True),
        ("pip install --no-deps edgewise-edge==0.1.0", True),
        ("pip install ./proto ./edge './cloud[ray]'", False),
        ("pip install -c dist/device.txt dist/edgewise-*.whl dist/edgewise_edge-*.whl", False),
    ],
)
def test_installing_by_name_is_recognized(command: str, from_an_index: bool) -> None:
    """With an extra or a version, too; paths and wheels are no names."""
    assert bool(OURS.search(command)) is from_an_index
