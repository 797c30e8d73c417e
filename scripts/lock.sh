#!/usr/bin/env bash
# Writes requirements.lock (what runs) and requirements-dev.lock (and what tests) from the newest
# versions that pyproject.toml admits. Read the difference before you commit it.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
pip=("$work/venv/bin/python" -m pip --quiet --disable-pip-version-check)
"${pip[@]}" install --upgrade 'pip>=25.1'
# torch 2.13.0: the version that the CPU build is at hand for; a newer one brings CUDA's packages.
"${pip[@]}" install torch==2.13.0 --editable .
freeze() { "${pip[@]}" freeze --exclude-editable --exclude pip | sed 's/^\(torch==[0-9.]*\)+.*/\1/'; }
{ echo "# Versions that run radloop; written by scripts/lock.sh."; freeze; } >requirements.lock
"${pip[@]}" install --group dev
{ echo "# Versions that run and test radloop; written by scripts/lock.sh."; freeze; } \
    >requirements-dev.lock
