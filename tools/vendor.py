"""Fetch the page's two JavaScript libraries from npm: the versions of vendor.lock.json, checked by their hashes.

    python tools/vendor.py

Writes src/depthlight/app/page/vendor/, which is not committed but is part of the wheel. Does nothing where the folder
holds what the lock file says. Needs npm; nothing is installed, no script of a package runs. To take a newer version,
change the lock file: ``npm view NAME@VERSION dist.integrity`` prints the hash.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LOCK = Path(__file__).with_name("vendor.lock.json")
TARGET = ROOT / "src" / "depthlight" / "app" / "page" / "vendor"
MARK = "lock.json"  # a copy of the lock file, written last
# the only change to what npm sends: a page without an import map has no name "three"
EDITS = {"OrbitControls.js": (b"} from 'three';", b"} from './three.module.js';")}


def main() -> None:
    lock = LOCK.read_bytes()
    mark = TARGET / MARK
    if mark.is_file() and mark.read_bytes() == lock:
        print(f"{TARGET.relative_to(ROOT)} is up to date.")
        return
    with tempfile.TemporaryDirectory(dir=TARGET.parent, prefix="vendor-") as name:
        new = Path(name) / "new"
        new.mkdir()
        for package, wanted in json.loads(lock).items():
            fetch(package, wanted, Path(name), new)
        (new / MARK).write_bytes(lock)
        shutil.rmtree(TARGET, ignore_errors=True)
        new.rename(TARGET)
    size = sum(path.stat().st_size for path in TARGET.iterdir())
    print(f"{TARGET.relative_to(ROOT)}: {size / 1e6:.0f} MB.")


def fetch(package: str, wanted: dict[str, Any], folder: Path, target: Path) -> None:
    """The wanted files of one package, into ``target``; ends the program where the hash is another."""
    if shutil.which("npm") is None:
        sys.exit("npm is missing: install Node.js.")
    spec = f"{package}@{wanted['version']}"
    done = subprocess.run(
        ["npm", "pack", "--silent", "--pack-destination", str(folder), spec], capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"npm pack {spec} failed: {done.stderr.strip() or done.stdout.strip()}")
    archive = folder / done.stdout.split()[-1]
    found = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != wanted["integrity"]:
        sys.exit(f"{spec} is not what {LOCK.name} says: its hash is {found}.")
    with tarfile.open(archive) as held:
        for source, name in wanted["files"].items():
            member = held.extractfile(f"package/{source}")
            if member is None:
                sys.exit(f"{spec} has no file {source}.")
            content = member.read()
            if name in EDITS:
                before, after = EDITS[name]
                if content.count(before) != 1:
                    sys.exit(f"{name} is no longer what tools/vendor.py edits.")
                content = content.replace(before, after)
            (target / name).write_bytes(content)


if __name__ == "__main__":
    main()
