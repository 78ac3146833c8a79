"""The deployment files, checked by their own tools and against the service."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import promql_parser
import pytest
import typer
import yaml
from compose_spec import PyCompose

from edgewise_cloud.cli.app import app
from edgewise_cloud.serving.observe.metrics import Metrics
from edgewise_cloud.serving.observe.observers import ObserverSettings
from tests.support.service import serving

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "cloud/deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
DASHBOARD = json.loads((DEPLOY / "grafana/dashboard.json").read_text())


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile, each with its argument."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines) if word]


def argument(instruction: str) -> str:
    """The argument of the last instruction of that name."""
    return [rest for word, rest in instructions() if word == instruction][-1]


def command() -> list[str]:
    """The command line that compose runs."""
    return [*json.loads(argument("ENTRYPOINT")), *COMPOSE["services"]["cloud"]["command"]]


def options(arguments: list[str]) -> dict[str, object]:
    """The parsed options of `edgewise-cloud`; raises for unknown ones."""
    program, name, *rest = arguments
    assert program == "edgewise-cloud"
    return typer.main.get_command(app).commands[name].make_context(name, rest).params


def test_hadolint_finds_nothing() -> None:
    """In the Dockerfile."""
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_copied_files_build_the_service(tmp_path: Path) -> None:
    """The paths exist, and contain everything the packages are built from."""
    for word, rest in instructions():
        if word == "COPY" and not rest.startswith("--from"):
            source, target = (path.strip("/") for path in rest.split())
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, tmp_path / "source" / target, symlinks=True)
            else:
                shutil.copy(ROOT / source, tmp_path / "source" / target)
    shutil.rmtree(tmp_path / "source/cloud/deploy")  # as .dockerignore says
    runs = " ".join(rest for word, rest in instructions() if word == "RUN")
    for file in re.findall(r"requirements/\S+", runs):
        assert (tmp_path / "source" / file).is_file()
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("uv"), "pip", "install", "--offline", "--no-deps"),
            *("--python", sys.executable, "--no-build-isolation", "--target", tmp_path / "made"),
            *re.findall(r"\./\w+", runs),
        ],
        cwd=tmp_path / "source",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for file in ("edgewise_cloud/cli/app.py", "edgewise_edge/models/tales/model.safetensors"):
        assert (tmp_path / "made" / file).is_file()


def test_the_build_sees_no_secrets() -> None:
    """The build context has what is copied, and nothing else."""
    shown = [
        line[1:].partition("/")[0]
        for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    copied = {
        rest.split()[0].strip("/")
        for word, rest in instructions()
        if word == "COPY" and not rest.startswith("--from")
    }
    assert set(shown) == copied


def test_the_command_line_is_valid() -> None:
    """Its options exist, and its ports are those exposed, probed and scraped."""
    chosen = options(command())
    assert chosen["host"] == chosen["metrics_host"] == "0.0.0.0"
    ports = [str(chosen["port"]), str(chosen["metrics_port"])]
    assert argument("EXPOSE").split() == ports
    service = COMPOSE["services"]["cloud"]
    assert service["ports"] == [f"{ports[0]}:{ports[0]}"]
    assert service["expose"] == [ports[1]]
    assert f"127.0.0.1:{ports[1]}/metrics" in argument("HEALTHCHECK")
    (job,) = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text())["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"cloud:{ports[1]}"]}]
    assert int(service["stop_grace_period"].removesuffix("s")) > chosen["grace"]
    with pytest.raises(Exception, match="No such option"):
        options([*command(), "--no-such-option"])


def test_it_uses_tls_and_tokens() -> None:
    """Each secret is mounted where the command line expects it."""
    chosen = options(command())
    files = [str(chosen[name]) for name in ("tls_certificate", "tls_key", "tokens")]
    assert files == [f"/run/secrets/{name}" for name in COMPOSE["services"]["cloud"]["secrets"]]
    assert not chosen["insecure"]


def test_compose_follows_its_specification() -> None:
    """Every key is known, and every mounted file exists."""
    composed = PyCompose.from_yaml((DEPLOY / "compose.yaml").read_text())
    composed.validate()
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert (DEPLOY / source).is_file() or source in COMPOSE["volumes"]


def test_it_contains_no_password() -> None:
    """Passwords are in files that each operator writes."""
    environment = COMPOSE["services"]["grafana"]["environment"]
    (password,) = (key for key in environment if "PASSWORD" in key)
    assert password.endswith("__FILE")
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert "cloud/deploy/secrets/" in ignored
    for secret in COMPOSE["secrets"].values():
        assert secret["file"].startswith("./secrets/")


def test_the_health_check_fails_while_the_model_loads(exact_folder: Path) -> None:
    """And after the service has ended; the image's own probe, against a real service."""
    probe = json.loads(argument("HEALTHCHECK").partition("CMD ")[2])
    assert probe[0] == "python"

    def healthy(port: int | None) -> bool:
        script = probe[2].replace("9464", str(port))
        done = subprocess.run([sys.executable, probe[1], script], capture_output=True, check=False)
        return done.returncode == 0

    shown = ObserverSettings(metrics_port=0)
    with serving(str(exact_folder), load=False, observers=shown) as running:
        assert not healthy(running.server.observers.metrics_port)
    with serving(str(exact_folder), observers=shown) as running:
        assert healthy(running.server.observers.metrics_port)
        port = running.server.observers.metrics_port
    assert not healthy(port)


@pytest.mark.parametrize("panel", DASHBOARD["panels"], ids=lambda panel: panel["title"])
def test_a_panel_queries_existing_metrics(panel: dict) -> None:
    """Its expressions are PromQL over metrics of the service."""
    shown = {
        sample.name
        for family in Metrics(lambda: ()).registry.collect()
        for sample in family.samples
    }
    (provisioned,) = yaml.safe_load((DEPLOY / "grafana/datasources.yaml").read_text())[
        "datasources"
    ]
    assert panel["datasource"]["uid"] == provisioned["uid"]
    for target in panel["targets"]:
        named = set()

        def visit(node: object, named: set = named) -> None:
            if isinstance(node, promql_parser.VectorSelector):
                named.add(node.name)

        promql_parser.walk(
            promql_parser.parse(target["expr"].replace("$__rate_interval", "1m")), visit
        )
        assert named
        assert named <= shown


def test_panels_do_not_overlap() -> None:
    """Each has its own position."""
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]]
    assert len(set(places)) == len(places)
