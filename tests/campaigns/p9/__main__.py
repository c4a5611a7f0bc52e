"""Storms by hand: `python -m tests.campaigns.p9 --seeds 100`."""

from __future__ import annotations

import argparse
import sys

from tests.campaigns.p9.storms import STORMS, run


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.p9")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--storm", action="append", choices=STORMS, help="only this one; may be repeated")
    options = parser.parse_args(arguments)
    seeds = range(options.first, options.first + options.seeds)
    return 1 if run(seeds, options.storm or STORMS) else 0


if __name__ == "__main__":
    sys.exit(main())
