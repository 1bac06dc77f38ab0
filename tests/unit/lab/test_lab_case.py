"""The lab's cases survive packing, and an archive that is no case is refused."""

from __future__ import annotations

import io
import os
import sys
import tarfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "lab"))

import lzma

from case import pack, read_truth, unpack, write_truth


def test_a_case_comes_back_with_its_times(tmp_path: Path) -> None:
    case = tmp_path / "quiet-7"
    log = case / "logs/var/log/syslog"
    log.parent.mkdir(parents=True)
    log.write_bytes(b"Nov  2 09:41:02 web1 CRON[77]: (root) CMD (true)\n\xff\n")
    os.utime(log, (1_700_000_000, 1_700_000_000))
    write_truth(case, {"scenario": "quiet", "seed": 7})
    back = unpack(pack(case), tmp_path / "elsewhere")
    assert back == tmp_path / "elsewhere/quiet-7"
    assert read_truth(back) == {"scenario": "quiet", "seed": 7}
    assert (back / "logs/var/log/syslog").read_bytes() == log.read_bytes()
    assert (back / "logs/var/log/syslog").stat().st_mtime == 1_700_000_000


@pytest.mark.parametrize("name", ["../escaped", "/etc/escaped", "loose", "case/../../escaped"])
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    archive = tmp_path / "bad.tar.xz"
    with lzma.open(archive, "wb") as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size = 1
        tar.addfile(member, io.BytesIO(b"x"))
    with pytest.raises(ValueError, match="does not belong"):
        unpack(archive, tmp_path / "into")
