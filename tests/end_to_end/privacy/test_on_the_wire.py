"""Private prompts in a network of their own, whose frames are all captured."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# A wire with nobody at the far end: what is sent is captured, and never answered. Nothing sends by
# itself, so each frame has a cause.
NETWORK = """
set -e
ip link set lo up
ip link add wire type veth peer name far
ip link set wire arp off multicast off addrgenmode none
ip link set far multicast off addrgenmode none
ip link set wire up
ip link set far up
ip -4 address add 192.0.2.1/24 dev wire
ip -4 route add default dev wire
ip -6 address add 2001:db8::1/64 dev wire nodad
ip -6 route add default dev wire
mount --bind "$1" /etc/resolv.conf
shift
exec "$@"
"""
NAME_SERVER = "nameserver 203.0.113.53\noptions timeout:1 attempts:1\n"


@pytest.fixture
def network(tmp_path: Path) -> list[str]:
    """The arguments before a command that run it in such a network."""
    for tool in ("unshare", "ip"):
        if not shutil.which(tool):
            pytest.skip(f"no network to capture can be made: there is no `{tool}` here")
    resolv = tmp_path / "resolv.conf"
    resolv.write_text(NAME_SERVER)
    own = ["unshare", "--map-root-user", "--net", "--mount"]
    words = [*own, "sh", "-c", NETWORK, "network", str(resolv)]
    tried = subprocess.run([*words, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no network to capture can be made: {tried.stderr.strip()}")
    return words


def test_private_prompts_put_nothing_on_the_wire(
    network: list[str], exact_folder: Path, tmp_path: Path
) -> None:
    """1,000 of them, with every trouble, cause no frame; a prompt that may leave does."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    script = [sys.executable, "-m", "tests.end_to_end.privacy.ask_in_network"]
    done = subprocess.run(
        [*network, *script, str(exact_folder), str(scratch)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    result = json.loads(done.stdout)
    assert result["unexpected"] == []
    assert result["asked"] >= 1000
    assert result["to_reachable"] > 0  # other requests had made connections
    assert result["frames"] == []
    assert set(result["control"].values()) == {True}
