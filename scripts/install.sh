#!/usr/bin/env bash
# Installs what radloop needs and is missing: Debian packages, .venv from a lock file, OHIF.
# A run that finds everything in place needs no network and changes nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3}
packages=(orthanc orthanc-python orthanc-dicomweb orthanc-gdcm dcmtk)
lock=requirements.lock
if [[ ${1:-} == --dev ]]; then
    packages+=(dicom3tools chromium fonts-dejavu-core postgresql)
    packages+=(munge slurmctld slurmd slurm-client openssh-server)  # a cluster for the tests
    lock=requirements-dev.lock
fi

say() { printf '%s\n' "$*" >&2; }
stop() { say "radloop: $*"; exit 1; }

install_packages() {
    local missing=()
    for package in "${packages[@]}"; do
        dpkg-query --show --showformat='${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' \
            || missing+=("$package")
    done
    command -v npm >/dev/null || missing+=(npm)
    "$PYTHON" -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
    [[ ${#missing[@]} -eq 0 ]] && return
    local as_root=()
    if [[ $EUID -ne 0 ]]; then
        command -v sudo >/dev/null \
            || stop "needs root or sudo to install: ${missing[*]}"
        as_root=(sudo)
    fi
    say "installing Debian packages: ${missing[*]}"
    # Debian starts what it installs; only what we start, and what ran before, shall run.
    local service unwanted=()
    for service in orthanc munge slurmctld slurmd ssh; do
        [[ -e /lib/systemd/system/$service.service ]] || unwanted+=("$service.service")
    done
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    [[ -d /run/systemd/system ]] && command -v systemctl >/dev/null || return 0
    for service in "${unwanted[@]}"; do
        "${as_root[@]}" systemctl disable --now "$service" >/dev/null 2>&1 || true
    done
}

install_python() {
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
        || stop "needs Python 3.11 or newer; $("$PYTHON" --version) is installed (set PYTHON=...)"
    local stamp=.venv/.installed
    local wanted
    wanted=$(cat "$lock" pyproject.toml | sha256sum)
    # The larger set serves the smaller one.
    grep -qsxF "$wanted" "$stamp" && return
    [[ -x .venv/bin/python ]] || "$PYTHON" -m venv .venv
    say "installing Python packages from $lock"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement "$lock"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
    {
        echo "$wanted"
        if [[ $lock == requirements-dev.lock ]]; then
            cat requirements.lock pyproject.toml | sha256sum
        fi
    } >"$stamp"
}

# The package brings folders named `tests` and `logconfig` too: apart from ours, and thrown away.
install_clients() {
    [[ $lock == requirements-dev.lock ]] || return 0
    local folder=.venv/monailabel
    cmp -s requirements-clients.lock "$folder/.installed" && return
    say "installing MONAI Label's client from requirements-clients.lock"
    rm -rf "$folder"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
        --require-hashes --target "$folder" --requirement requirements-clients.lock
    rm -rf "$folder"/{tests,logconfig,bin}
    cp requirements-clients.lock "$folder/.installed"
}

command -v apt-get >/dev/null && command -v dpkg-query >/dev/null || stop \
    "installs itself on Debian 12 and its relatives; elsewhere install by hand: ${packages[*]} npm," \
    "then: python3 -m venv .venv; .venv/bin/pip install -r $lock; .venv/bin/pip install --no-deps -e ."
install_packages
install_python
install_clients
.venv/bin/python scripts/install_ohif.py
