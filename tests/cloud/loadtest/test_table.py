"""The tables of a load test."""

import pytest

from edgewise_cloud.console import console
from edgewise_cloud.loadtest.generator import LoadTestResult
from edgewise_cloud.loadtest.plan import LoadPlan
from edgewise_cloud.loadtest.table import final_table


@pytest.mark.parametrize("name", ["[/b]", "[red]a", "[link=http://127.0.0.1]a"])
def test_the_name_of_the_services_model_is_no_markup(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Rich would fail, leave a part out, or make a link of it."""
    result = LoadTestResult(
        plan=LoadPlan(target="127.0.0.1:1"),
        model=name,
        records=(),
        started=0.0,
        ended=1.0,
        not_sent=0,
        client_cpu=0.0,
    )
    console.print(final_table(result))
    assert f"{name} at" in " ".join(capsys.readouterr().err.split())
