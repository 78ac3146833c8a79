"""A Ray cluster of two nodes on this machine, with a replica of the service on each.

`on_two_nodes` runs it as a program, which keeps Ray out of the tests' process.
"""

import logging
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from edgewise_cloud.serving.engine.settings import EngineSettings
from edgewise_cloud.serving.server.server import ServerSettings

SLOTS, QUEUE = 2, 8  # of each replica
MEGABYTE = 1 << 20
PATIENCE = 500  # seconds for what Ray waits for: on a busy machine its defaults are too short
ENVIRONMENT = {
    "RAY_SERVE_LOG_TO_STDERR": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_agent_register_timeout_ms": str(1000 * PATIENCE),
    "RAY_gcs_server_port_wait_time_s": str(PATIENCE),
    "RAY_gcs_server_request_timeout_seconds": str(PATIENCE),
    "RAY_worker_register_timeout_seconds": str(PATIENCE),
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": str(PATIENCE),
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": str(PATIENCE),
}


class TwoNodes:
    """The service's address, and a way to kill a node."""

    def __init__(self, address: str, process: "subprocess.Popen[str]", log: Path) -> None:
        self.address = address
        self._process, self._log = process, log

    def kill_one(self) -> None:
        """End the node without the proxy, as a power cut would."""
        self._process.stdin.write("kill\n")
        self._process.stdin.flush()
        _await(self._process, "killed", self._log)


@contextmanager
def on_two_nodes(model: Path, port: int, log: Path) -> Iterator[TwoNodes]:
    """Serve `model`; Ray's output goes to the file `log`."""
    environment = {
        **os.environ,
        **ENVIRONMENT,
        "RAY_AUTH_TOKEN": secrets.token_hex(32),  # or Ray writes one to the home folder
    }
    with (
        log.open("w", encoding="utf-8") as errors,
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.ray_cluster", str(model), str(port)],
            cwd=Path(__file__).parents[2],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            _await(process, "serving", log)
            yield TwoNodes(f"127.0.0.1:{port}", process, log)
        finally:
            family = psutil.Process(process.pid).children(recursive=True)
            process.stdin.close()  # which ends it
            try:
                process.wait(120)
            finally:
                for member in family:
                    if member.is_running():
                        member.kill()


def _await(process: "subprocess.Popen[str]", word: str, log: Path) -> None:
    # Ray prints to standard output as well.
    assert f"{word}\n" in process.stdout, log.read_text(encoding="utf-8")


def main(model: str, port: int) -> None:
    """Serve until standard input ends; a line 'kill' kills a node."""
    import ray
    from ray.cluster_utils import Cluster
    from ray.serve._private import api

    from edgewise_cloud.serving.on_ray.deploy import deployed
    from edgewise_cloud.serving.on_ray.replica import application

    node = {
        "num_cpus": 1,
        "object_store_memory": 100 * MEGABYTE,
        "resources": {"place": 1},
        "include_log_monitor": False,
    }
    api.HTTP_PROXY_TIMEOUT = PATIENCE  # 60 s for the proxies to start, and no setting for it
    # So Ray detects a lost node sooner than after its usual 15 s.
    health = {
        "health_check_initial_delay_ms": 0,
        "health_check_period_ms": 500,
        "health_check_failure_threshold": 4,
    }
    cluster = Cluster(
        initialize_head=True,
        head_node_args={**node, "include_dashboard": False, "_system_config": health},
    )
    try:
        other = cluster.add_node(**node)
        ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        app = application(
            ServerSettings(models=(model,), engine=EngineSettings(slots=SLOTS, queue=QUEUE)),
            replicas=(2, 2),
            resources={"num_cpus": 0.1, "resources": {"place": 1}},
        )
        with deployed(app, port, proxies="HeadOnly"):
            raylet = psutil.Process(other.all_processes["raylet"][0].process.pid)
            machine = [*raylet.children(recursive=True), raylet]
            print("serving", flush=True)
            for line in sys.stdin:
                if line == "kill\n":
                    for process in machine:
                        process.kill()
                    cluster.remove_node(other, allow_graceful=False)
                    print("killed", flush=True)
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
