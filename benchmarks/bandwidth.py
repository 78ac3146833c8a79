"""How fast this machine's memory is read: dot products of 256 MB with themselves, split by threads."""

import argparse
import json
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # the threads are those below

import numpy as np

BYTES, READS = 256 * 2**20, 15


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    threads = parser.parse_args().threads
    found = bandwidth(threads)
    print(f"{found / 1e9:.1f} GB/s with {threads} threads")
    print(json.dumps({"threads": threads, "bytes_per_second": found}))


def bandwidth(threads: int) -> float:
    """Bytes per second, the median of READS."""
    parts = np.array_split(np.ones(BYTES // 4, np.float32), threads)
    seconds = []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(READS):
            started = time.perf_counter()
            list(pool.map(np.dot, parts, parts))
            seconds.append(time.perf_counter() - started)
    return BYTES / statistics.median(seconds)


if __name__ == "__main__":
    main()
