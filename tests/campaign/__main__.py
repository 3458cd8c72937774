"""The campaign in full: `make campaign`, or `python tests/campaign --help`.

Exit status 1 where something was found wrong.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import commands
import damage
import driver
import mutated


def _print_counts(report: driver.Report, seconds: float) -> None:
    for name, count in sorted(report.trials.items()):
        print(f"{count:7,}  {name}")
    total = sum(report.trials.values())
    print(f"{total:7,}  trials in {seconds:.0f} s, {len(report.wrong)} found wrong")
    print(f"{report.same:7,}  of these left what another one had left, from which the next run had been tried")


def main() -> int:
    """Run the parts that are asked for and print how many trials there were."""
    parser = argparse.ArgumentParser("campaign", description=__doc__)
    parser.add_argument("--commands", default=",".join(commands.COMMANDS), help="which are disturbed (default: all)")
    parser.add_argument("--step", type=int, default=1, help="every STEP-th call fails (default: every one)")
    parser.add_argument("--seconds", type=float, help="for each command at most (default: all that they take)")
    parser.add_argument(
        "--what",
        default="kills,power,faults",
        help="what disturbs them (default: all three); once or lasting: of the faults only these",
    )
    parser.add_argument("--kinds", default=",".join(driver.KINDS), help="of calls that fail (default: all)")
    parser.add_argument("--kills", type=int, default=200, help="SIGKILLs at random moments")
    parser.add_argument("--flips", type=int, default=1000, help="flipped bits")
    parser.add_argument("--images", type=int, default=10_000, help="mutated images")
    parser.add_argument("--seed", type=int, default=0, help="of the mutated images")
    shared = "/dev/shm"
    usual = shared if os.access(shared, os.W_OK) else None
    parser.add_argument("--folder", default=usual, help="where to work (default: %(default)s)")
    given = parser.parse_args()
    start, report = time.monotonic(), driver.Report()
    root = Path(tempfile.mkdtemp(prefix="campaign-", dir=given.folder))
    try:
        mutated.decode_mutated(root / "images", given.images, report, given.seed)
        names = list(filter(None, given.commands.split(",")))
        with driver.Worker(root, training=not commands.WITHOUT_TENSORFLOW.issuperset(names)) as worker:
            campaign = driver.Campaign(worker, root, report, given.step)
            campaign.prepare()
            driver.disturb(campaign, names, given.seconds, given.what, given.kinds.split(","))
            damage.flip_bits(campaign, given.flips)
            damage.kill_at_random(campaign, given.kills)
    except KeyboardInterrupt:
        print("Interrupted: what follows is a part", flush=True)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    _print_counts(report, time.monotonic() - start)
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
