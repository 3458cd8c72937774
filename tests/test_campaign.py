"""The campaign of `make campaign` in small: some faults, kills, power losses, flips and mutated images."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "campaign"))
import damage
import driver
import faults
import mutated

if sys.platform != "linux" or shutil.which("cc") is None:
    pytest.skip("needs LD_PRELOAD and a C compiler", allow_module_level=True)


@pytest.mark.slow
def test_faults_kills_power_losses_and_flips_end_in_the_same_rows(tmp_path: Path) -> None:
    report = driver.Report()
    with driver.Worker(tmp_path, training=True) as worker:
        campaign = driver.Campaign(worker, tmp_path, report, step=60)
        campaign.prepare(whole=False)
        for kind in ("write", "fsync", "link"):
            campaign.fail_every("extract", kind, faults.FROM_HERE)
        campaign.fail_every("extract", "any", faults.KILL)
        campaign.lose_power("extract")
        damage.flip_bits(campaign, 3, ("graph", "index", "key"))
    assert report.wrong == []
    assert {name.split()[-1] for name in report.trials} == {
        "write", "fsync", "link", "kill", "power", "graph", "index", "key"
    }  # fmt: skip


def test_mutated_images_are_read_or_refused(tmp_path: Path) -> None:
    report = driver.Report()
    mutated.decode_mutated(tmp_path, 300, report, apart=False)
    assert report.trials == {"mutated images": 300}
    assert report.wrong == []


def test_what_was_not_flushed_is_lost(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    disk = faults.Disk.of(tmp_path / "disk")
    one, two = f"{disk.root}/one", f"{disk.root}/two"
    for call in (
        ("C", one, "", 7, 0, b""),
        ("W", "", "", 7, 0, b"first"),
        ("F", one, "", 7, 0, b""),
        ("W", "", "", 7, 5, b" second"),
        ("R", one, two, 0, 0, b""),
    ):
        disk.apply(*call)
    disk.write(tmp_path / "renamed", "all")
    disk.write(tmp_path / "lost", "kept")
    disk.apply("D", disk.root, "", 0, 0, b"")
    disk.write(tmp_path / "kept", "kept")
    assert (tmp_path / "renamed" / "two").read_bytes() == b"first"
    assert list((tmp_path / "lost").iterdir()) == []
    assert (tmp_path / "kept" / "two").read_bytes() == b"first"
