"""Prints the software bill of materials of the binary as CycloneDX 1.6 JSON: every crate that is linked into it.

    sbom.py [FEATURES]      such as "grpc,kafka"; all default features without it
"""

import json
import os
import subprocess
import sys
import tomllib

TREE = ["cargo", "tree", "--locked", "-p", "tally", "-e", "normal,build", "--prefix", "none", "-f", "{p}|{l}"]


def crates(features):
    """(name, version, license) of each crate, once."""
    chosen = [] if features is None else ["--no-default-features", "--features", features]
    lines = subprocess.run(TREE + chosen, check=True, capture_output=True, text=True).stdout.splitlines()
    found = set()
    for line in filter(None, lines):
        package, license = line.removesuffix(" (*)").split("|")
        name, version = package.split()[:2]
        found.add((name, version.removeprefix("v"), license.strip()))
    return sorted(found)


def component(name, version, license, checksums):
    found = {
        "type": "library",
        "name": name,
        "version": version,
        "bom-ref": f"{name}@{version}",
        "purl": f"pkg:cargo/{name}@{version}",
    }
    if license:
        found["licenses"] = [{"expression": license.replace("/", " OR ")}]
    if checksum := checksums.get((name, version)):
        found["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return found


def main():
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    with open("Cargo.lock", "rb") as file:
        locked = tomllib.load(file)["package"]
    checksums = {(package["name"], package["version"]): package.get("checksum") for package in locked}
    linked = crates(sys.argv[1] if len(sys.argv) > 1 else None)
    components = [component(*crate, checksums) for crate in linked]
    application = next(found for found in components if found["name"] == "tally")
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": application | {"type": "application"}},
        "components": [found for found in components if found is not application],
    }
    print(json.dumps(bom, indent=1))


if __name__ == "__main__":
    main()
