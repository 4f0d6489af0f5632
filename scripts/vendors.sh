#!/usr/bin/env bash
# vendors.sh openblas|mkl...: fetches the packages of scripts/vendors.txt into .vendor, only the
# shared libraries that the vendor variants open. Does nothing, quickly, when they are there.
set -euo pipefail
cd "$(dirname "$0")/.."

# What of a package is kept.
declare -A package=([openblas]=scipy-openblas64 [mkl]=mkl)
declare -A wanted=(
  [openblas]='libscipy_openblas64_'
  [mkl]='libmkl_(rt|core|intel_lp64|gnu_thread|def|avx2|avx512|avx10)'
)

for name in "$@"; do
  if [ -z "${package[$name]:-}" ]; then
    echo "vendors: $name is not one of ${!package[*]}" >&2
    exit 2
  fi
  pin=$(grep "^${package[$name]}==" scripts/vendors.txt)
  [ "$(cat ".vendor/$name.stamp" 2>/dev/null || true)" = "$pin" ] && continue
  echo "vendors: fetching $pin"
  mkdir -p .vendor
  folder=$(mktemp -d .vendor/fetch.XXXXXX)
  trap 'rm -rf "$folder"' EXIT
  .venv/bin/pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
    -d "$folder" "$pin" || { echo "vendors: $pin could not be fetched" >&2; exit 1; }
  .venv/bin/python - "$folder" "${wanted[$name]}" <<'PYTHON'
import pathlib, re, sys, zipfile
folder, wanted = pathlib.Path(sys.argv[1]), re.compile(sys.argv[2] + r"\.so(\.\d+)*$")
(wheel,) = folder.glob("*.whl")
kept = 0
with zipfile.ZipFile(wheel) as archive:
    for entry in archive.infolist():
        file = pathlib.PurePosixPath(entry.filename).name
        if wanted.match(file):
            (folder / file).write_bytes(archive.read(entry))
            (folder / file).rename(folder.parent / file)
            kept += 1
sys.exit(0 if kept else f"vendors: {wheel.name} has no library {wanted.pattern}")
PYTHON
  echo "$pin" >".vendor/$name.stamp"
  rm -rf "$folder"
done
