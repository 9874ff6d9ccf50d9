"""Write what this program and its data consist of, and under which licences.

    python docs/licences.py            rewrite docs/licences.md and docs/sbom.json
    python docs/licences.py --check    say whether one is out of date (status 1)

Versions are those of constraints.txt, licences those that the installed packages state of themselves, hashes those of
requirements.lock; data come from the archives of conf/domain. docs/sbom.json is a bill of materials in CycloneDX 1.6
(ECMA-424), without a time stamp, so that equal pins give equal bytes.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import uuid
from collections import Counter
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

ROOT = Path(__file__).resolve().parent.parent
PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)==(\S+)", re.MULTILINE)
# What packages wrote before licences had names (PEP 639), by the name that SPDX gives it; of others the words stand.
SPDX = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache License Version 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "Apache Software License 2.0": "Apache-2.0",
    "BSD 3-Clause License": "BSD-3-Clause",
    "BSD-3-Clause License": "BSD-3-Clause",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "MIT license": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The MIT License": "MIT",
    "The Unlicense (Unlicense)": "Unlicense",
}
IDENTIFIERS = {  # of SPDX, as far as they occur
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "CNRI-Python", "EPL-2.0",
    "GPL-2.0-or-later", "ISC", "LGPL-3.0-only", "LLVM-exception", "MIT", "MIT-0", "MIT-CMU", "MPL-2.0", "PSF-2.0",
    "Unlicense", "ZPL-2.1", "Zlib",
}  # fmt: skip


@dataclass(frozen=True)
class Package:
    name: str
    version: str
    licence: str
    hashes: tuple[str, ...]  # SHA-256 of its files; none of torch, whose builds differ by index


def pins() -> dict[str, str]:
    """Every package and its version. torch's builds, for example 2.13.0+cpu, go by the version that they share."""
    return dict(PIN.findall((ROOT / "constraints.txt").read_text(encoding="utf-8")))


def locked() -> dict[str, tuple[str, ...]]:
    """The hashes of each package's files."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    parts = re.split(r"^(?=[A-Za-z0-9][\w.-]*==)", text, flags=re.MULTILINE)[1:]
    return {normal(PIN.findall(part)[0][0]): tuple(re.findall(r"sha256:([0-9a-f]{64})", part)) for part in parts}


def normal(name: str) -> str:
    """As PEP 503 writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def packages() -> list[Package]:
    """Raises SystemExit when one is not installed, or in another version."""
    hashes, found = locked(), []
    for name, version in pins().items():
        try:
            about = metadata(name)
        except PackageNotFoundError:
            sys.exit(f"{name}: not installed; install constraints.txt first")
        if about["Version"].split("+")[0] != version:
            sys.exit(f"{name}: {about['Version']} is installed, constraints.txt has {version}")
        found.append(Package(normal(name), version, licence(about), hashes.get(normal(name), ())))
    return sorted(found, key=lambda one: one.name)


def licence(about: Any) -> str:
    """What a package states, most exact first: an expression, classifiers, or the first line of a text."""
    if stated := about.get("License-Expression"):
        return str(stated)
    kinds = [line.split(" :: ")[-1] for line in about.get_all("Classifier") or [] if line.startswith("License ::")]
    names = [SPDX.get(kind, kind) for kind in kinds if kind != "OSI Approved"]
    text = (about.get("License") or "").strip()
    # A line of one's own is more exact than "BSD License", which leaves open which; a whole text is no name.
    if text and "\n" not in text and len(text) <= 60 and not (names and all(map(is_spdx, names))):
        return SPDX.get(text, text).replace("|", "or")
    return ", ".join(dict.fromkeys(names)) or "not stated"


def is_spdx(name: str) -> bool:
    """Whether it is an expression of identifiers that occur here."""
    words = re.split(r" (?:AND|OR|WITH) ", name.replace("(", "").replace(")", ""))
    return all(word in IDENTIFIERS for word in words)


def archives() -> dict[str, dict[str, Any]]:
    """The pinned archives of all domains, by SHA-256, each once."""
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs/tables.py")
    assert spec is not None
    assert spec.loader is not None
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((ROOT / "conf/domain").glob("*.yaml")):
        for part in tables.domain(path)["archives"].values():
            if part.get("sha256"):
                domains = found.get(part["sha256"], {}).get("domains", [])
                found[part["sha256"]] = part | {"domains": list(dict.fromkeys([*domains, path.stem]))}
    return dict(sorted(found.items(), key=lambda item: (item[1]["package"], item[1]["file"])))


def markdown(code: list[Package], data: dict[str, dict[str, Any]]) -> str:
    counts = sorted(Counter(one.licence for one in code).items(), key=lambda pair: (-pair[1], pair[0]))
    sources = [[one[key] for key in ("package", "version", "registry", "licence")] for one in data.values()]
    domains = [", ".join(one["domains"]) for one in data.values()]
    lines = [
        "# Licences",
        "",
        "Written by `python docs/licences.py` from constraints.txt, the installed packages' own words and conf/domain.",
        "seqlab itself is under the MIT licence ([LICENSE](../LICENSE)). [sbom.json](sbom.json) says the same in",
        "CycloneDX, with the hashes of [requirements.lock](../requirements.lock). For known vulnerabilities of these:",
        "",
        "    pipx run pip-audit --require-hashes --disable-pip --requirement requirements.lock",
        "",
        "## Data",
        "",
        "Fetched by their package managers, checked by SHA-256, unpacked and read: nothing is installed or run.",
        "",
        "| package | version | registry | licence | domains |",
        "|---|---|---|---|---|",
        *(f"| {' | '.join([*source, names])} |" for source, names in zip(sources, domains, strict=True)),
        "",
        f"## Code: {len(code)} packages",
        "",
        ", ".join(f"{count} × {name}" for name, count in counts) + ".",
        "",
        "| package | version | licence |",
        "|---|---|---|",
        *(f"| {one.name} | {one.version} | {one.licence} |" for one in code),
    ]
    return "\n".join(lines) + "\n"


def bom(code: list[Package], data: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """CycloneDX 1.6."""

    def stated(name: str) -> list[dict[str, Any]]:
        if not is_spdx(name):
            return [{"license": {"name": name}}]
        return [{"expression": name}] if " " in name else [{"license": {"id": name}}]

    components: list[dict[str, Any]] = []
    for one in code:
        address = f"pkg:pypi/{one.name}@{one.version}"
        part = {
            "type": "library",
            "bom-ref": address,
            "name": one.name,
            "version": one.version,
            "purl": address,
            "licenses": stated(one.licence),
        }
        if one.hashes:
            # A package has a file a platform, of which an installation takes one.
            hashes = [{"alg": "SHA-256", "content": content} for content in one.hashes]
            part["externalReferences"] = [{"type": "distribution", "url": address, "hashes": hashes}]
        components.append(part)
    for sha256, archive in data.items():
        kind = {"debian": "deb/debian"}.get(archive["registry"], archive["registry"])
        address = f"pkg:{kind}/{quote(archive['package'], safe='/')}@{quote(archive['version'], safe='')}"
        components.append(
            {
                "type": "data",
                "bom-ref": f"{address}#{archive['file']}",
                "name": archive["package"],
                "version": archive["version"],
                "purl": address,
                "description": f"data of {', '.join(archive['domains'])}: {archive['file']}",
                "licenses": stated(archive["licence"]),
                "hashes": [{"alg": "SHA-256", "content": sha256}],
            }
        )
    content = json.dumps(components, sort_keys=True)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, content)}",
        "version": 1,
        "metadata": {"component": {"type": "application", "bom-ref": "seqlab", "name": "seqlab"}},
        "components": components,
    }


def lines(tree: dict[str, Any]) -> str:
    """JSON with a component a line, so that a change of one is a line's change."""
    parts = [json.dumps(part, ensure_ascii=False) for part in tree["components"]]
    head = json.dumps(tree | {"components": []}, indent=1, ensure_ascii=False)
    return head.replace('"components": []', '"components": [\n' + ",\n".join(parts) + "\n ]") + "\n"


def main(check: bool) -> None:
    code, data = packages(), archives()
    wanted = {
        ROOT / "docs/licences.md": markdown(code, data),
        ROOT / "docs/sbom.json": lines(bom(code, data)),
    }
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if check and stale:
        sys.exit(f"out of date: {', '.join(path.name for path in stale)}; run python docs/licences.py")
    for path in stale:
        path.write_text(wanted[path], encoding="utf-8")


if __name__ == "__main__":
    main(check="--check" in sys.argv[1:])
