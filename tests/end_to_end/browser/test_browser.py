"""The page in a real browser, and what other pages in that browser may not do: see checks/."""

from pathlib import Path

from tests.support.http.clients import run_checks

CHECKS = Path(__file__).parent / "checks"


def test_page(server: str, chromium: str) -> None:
    """All checks pass, in one browser."""
    files = sorted(CHECKS.glob("check_*.py"))
    run_checks(
        "apps",
        *files,
        EDGEWISE_URL=server,
        CHROMIUM=chromium,
        PYTEST_PLUGINS="pages",
        PYTHONPATH=str(CHECKS),
    )
