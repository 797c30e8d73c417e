#!/usr/bin/env bash
# Writes docker/secrets/: passwords and tokens of the site, made here, each once; prints the first login.
# Containers run as users of their own and must read the files; the folder keeps everybody else out.
set -euo pipefail
umask 077
folder=${1:-$(dirname "$0")/secrets}
mkdir -p "$folder"

random() { head -c 32 /dev/urandom | base64 | tr -d '\n=' | tr '+/' '-_'; }
keep() { # NAME TEXT: written once, so that a second run changes nothing
    [[ -e $folder/$1 ]] || printf '%s' "$2" >"$folder/$1"
    chmod 0444 "$folder/$1"
}

keep postgres_password "$(random)"
keep RADLOOP_DATABASE__URL "postgresql://radloop:$(<"$folder/postgres_password")@postgres/radloop"
keep RADLOOP_ORTHANC__CLINICAL_PASSWORD "$(random)"
keep RADLOOP_ORTHANC__RESEARCH_PASSWORD "$(random)"
keep RADLOOP_WORKER__WAKE_TOKEN "$(random)"
keep RADLOOP_AUDIT_KEY "$(random)"
if [[ ! -e $folder/RADLOOP_ADMIN_PASSWORD ]]; then
    keep RADLOOP_ADMIN_PASSWORD "$(random)"
    printf 'first login: admin / %s\n' "$(<"$folder/RADLOOP_ADMIN_PASSWORD")"
fi
for name in tls_certificate tls_key; do
    [[ -e $folder/$name ]] || printf 'missing: %s (the certificate for browsers, PEM)\n' "$folder/$name"
done
