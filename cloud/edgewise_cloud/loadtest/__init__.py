"""Load tests of a running service. Needs neither TensorFlow nor a model.

from edgewise_cloud.loadtest.generator import run_load_test
from edgewise_cloud.loadtest.plan import LoadPlan

plan = LoadPlan(target="127.0.0.1:50051", streams=64, duration=60)
result = asyncio.run(run_load_test(plan))
print(result.summary().tokens_per_second)
"""
