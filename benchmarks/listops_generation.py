"""Generates ListOps of the Long Range Arena's length and prints seconds of CPU and peak memory as a Markdown row.

python benchmarks/listops_generation.py --samples 100000
"""

from __future__ import annotations

import argparse
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

from quincunx.recipes.long_range.data.listops import FILE_NAMES, Parameters, generate, read_tsv


def peak_mebibytes() -> float:
    """Return the largest resident size of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=100_000, help="examples in all, 2 %% each for dev and test")
    parser.add_argument("--out", type=Path, help="folder to keep the files in (default: a temporary one)")
    parser.add_argument("--min-length", type=int, default=500)
    parser.add_argument("--max-length", type=int, default=2000)
    parser.add_argument("--max-depth", type=int, default=10)
    parser.add_argument("--max-arguments", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--read", action="store_true", help="read and check the training file afterwards, and time it")
    chosen = parser.parse_args()

    held_out = max(1, chosen.samples // 50)
    counts = {"train": chosen.samples - 2 * held_out, "dev": held_out, "test": held_out}
    parameters = Parameters(chosen.min_length, chosen.max_length, chosen.max_depth, chosen.max_arguments, chosen.seed)
    folder = chosen.out or Path(tempfile.mkdtemp(prefix="listops-"))
    try:
        start_peak, start = peak_mebibytes(), time.process_time()
        manifest = generate(folder, counts, parameters)
        seconds, peak = time.process_time() - start, peak_mebibytes()
        size = sum(file["bytes"] for file in manifest.files.values()) / 1e6
        print("| samples | CPU s | ms a sample | files MB | peak memory MiB | of that before MiB |")
        print("|---|---|---|---|---|---|")
        print(
            f"| {chosen.samples:,} | {seconds:.1f} | {1000 * seconds / chosen.samples:.3f} | {size:.0f} | {peak:.0f} "
            f"| {start_peak:.0f} |"
        )
        if chosen.read:
            start = time.process_time()
            rows = len(read_tsv(folder / FILE_NAMES["train"]))
            print(
                f"\nread and checked {rows:,} training rows: {time.process_time() - start:.1f} s of CPU, "
                f"peak memory {peak_mebibytes():.0f} MiB"
            )
    finally:
        if chosen.out is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
