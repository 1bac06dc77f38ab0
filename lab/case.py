"""A finished case: a directory with truth.json and logs/, or the same in one CASE.tar.xz.

python lab/case.py pack CASEDIR...      writes CASEDIR.tar.xz beside each
python lab/case.py unpack ARCHIVE... DIR
"""

from __future__ import annotations

import json
import lzma
import sys
import tarfile
from pathlib import Path
from typing import Any

BIGGEST_BYTES = 512 << 20


def write_truth(case: Path, truth: dict[str, Any]) -> None:
    """truth.json, in a form that a person reads."""
    (case / "truth.json").write_text(json.dumps(truth, indent=1, sort_keys=False) + "\n")


def read_truth(case: Path) -> dict[str, Any]:
    """What write_truth wrote."""
    truth = json.loads((case / "truth.json").read_text())
    if not isinstance(truth, dict):
        raise TypeError(f"{case}/truth.json: an object was expected")
    return truth


def pack(case: Path) -> Path:
    """CASE.tar.xz beside the directory. Times of modification are kept: a log's year is resolved from them."""
    archive = case.with_name(case.name + ".tar.xz")
    with lzma.open(archive, "wb", preset=9) as packed, tarfile.open(fileobj=packed, mode="w|") as tar:
        for path in sorted(case.rglob("*")):
            if path.is_file():
                tar.add(path, str(Path(case.name) / path.relative_to(case)), filter=anonymous)
    return archive


def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without owners and modes, so that the same case gives the same archive."""
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mode = 0o644
    return member


def _unchanged(member: tarfile.TarInfo, _into: str) -> tarfile.TarInfo:
    return member


def unpack(archive: Path, into: Path) -> Path:
    """The case's directory, made below `into`. ValueError for more than files below one directory."""
    with lzma.open(archive) as packed, tarfile.open(fileobj=packed, mode="r|") as tar:
        tar.extraction_filter = getattr(tarfile, "data_filter", _unchanged)  # from Python 3.11.4 on
        names = set()
        left = BIGGEST_BYTES
        for member in tar:
            parts = Path(member.name).parts
            left -= member.size
            if not member.isfile() or ".." in parts or Path(member.name).is_absolute() or len(parts) < 2 or left < 0:
                raise ValueError(f"{archive}: {member.name} does not belong into a case")
            names.add(parts[0])
            tar.extract(member, into)
    if len(names) != 1:
        raise ValueError(f"{archive}: one case was expected, not {len(names)}")
    return into / names.pop()


def main(words: list[str]) -> int:
    """The command line."""
    if len(words) > 1 and words[0] == "pack":
        for each in words[1:]:
            print(pack(Path(each)))
        return 0
    if len(words) > 2 and words[0] == "unpack":
        for each in words[1:-1]:
            print(unpack(Path(each), Path(words[-1])))
        return 0
    print(__doc__)
    return 64


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
