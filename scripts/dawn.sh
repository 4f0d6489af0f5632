#!/usr/bin/env bash
# dawn.sh [COMMAND...]: a Dawn of today in .vendor/dawn, for `--webgpu-library`, and the command run
# with it on a software driver, as tests are. Does nothing, quickly, when all of it is there.
#
# The folder .vendor/dawn can be carried to another machine: that one needs libpython3.MINOR.so.1.0 of
# a version that the folder has a _cffi_backend for (bench/providers/DawnFromPython.cpp).
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
  echo "dawn: $*" >&2
  exit 1
}

python_of_venv=$(.venv/bin/python -c 'import sys; print(sys.version_info.minor)') ||
  fail "there is no .venv; run make setup"
library=libpython3.$python_of_venv.so.1.0
ldconfig -p 2>/dev/null | grep -q "$library" || /sbin/ldconfig -p | grep -q "$library" ||
  scripts/setup.sh "libpython3.$python_of_venv"

# The extension, and what it needs of cffi for the Pythons of the systems that are supported.
dawn=.vendor/dawn
mkdir -p "$dawn"
wanted=$(grep -E '^(wgpudawn|cffi)==' scripts/vendors.txt)
if [ "$(cat "$dawn/stamp" 2>/dev/null || true)" != "$wanted" ]; then
  echo "dawn: fetching" $wanted
  folder=$(mktemp -d .vendor/fetch.XXXXXX)
  trap 'rm -rf "$folder"' EXIT
  fetch() {
    .venv/bin/pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
      -d "$folder" "$@" || fail "$1 could not be fetched; is there a network?"
  }
  fetch "$(grep '^wgpudawn==' scripts/vendors.txt)"
  for minor in 11 12 13; do
    fetch "$(grep '^cffi==' scripts/vendors.txt)" --python-version 3.$minor
  done
  .venv/bin/python - "$folder" "$dawn" <<'PYTHON'
import pathlib, re, sys, zipfile
folder, to = map(pathlib.Path, sys.argv[1:])
kept = 0
for wheel in folder.glob("*.whl"):
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            file = pathlib.PurePosixPath(entry.filename).name
            if re.fullmatch(r"(_wgpu_dawn|_cffi_backend)\.[\w.-]+\.so", file):
                (to / file).write_bytes(archive.read(entry))
                kept += 1
sys.exit(0 if kept == 4 else f"dawn: {kept} files where 4 are needed")
PYTHON
  echo "$wanted" >"$dawn/stamp"
fi

source=bench/providers/DawnFromPython.cpp
if [ ! "$dawn/libdawn-from-python.so" -nt "$source" ]; then
  headers=$(echo .venv/lib/python3*/site-packages/wgpu/resources)
  "${CXX:-clang++-19}" -std=c++20 -O1 -fPIC -shared -fvisibility=hidden -Wall -Wextra -Werror \
    -isystem "$headers" "$source" -o "$dawn/libdawn-from-python.so"
fi

[ $# -gt 0 ] || exit 0

# Lavapipe before Mesa 24 lacks what Dawn demands; Debian 12 has a newer one in its backports.
driver=$(ls /usr/share/vulkan/icd.d/lvp_icd*.json 2>/dev/null | head -1)
version=$(dpkg-query -W -f '${Version}' mesa-vulkan-drivers 2>/dev/null || echo 0)
if [ "${version%%.*}" -lt 24 ]; then
  mesa=$PWD/.vendor/mesa
  driver=$mesa/lvp_icd.json
  if [ ! -f "$driver" ]; then
    . /etc/os-release
    [ "${ID:-} ${VERSION_ID:-}" = "debian 12" ] || fail "Mesa $version is too old for Dawn, which needs 24"
    echo "dawn: fetching Lavapipe of bookworm-backports"
    fetched=$(mktemp -d)
    trap 'rm -rf "$fetched"' EXIT
    chmod 755 "$fetched"
    mkdir -p "$fetched"/{lists,cache/archives}/partial
    # Backports lie beside what this system is installed from.
    mirror=$(apt-get indextargets --format '$(RELEASE) $(REPO_URI)' | sed -n 's/^bookworm //p' | sort -u | head -1)
    [ -n "$mirror" ] || fail "apt knows no mirror of bookworm; run apt-get update"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bookworm-backports main" \
      >"$fetched/sources.list"
    own=(-qq -o "Dir::Etc::sourcelist=$fetched/sources.list" -o Dir::Etc::sourceparts=/dev/null
      -o "Dir::State::lists=$fetched/lists" -o "Dir::Cache=$fetched/cache"
      -o APT::Sandbox::User=root)
    (apt-get "${own[@]}" update && cd "$fetched" &&
      apt-get "${own[@]}" download mesa-vulkan-drivers libdrm2) ||
      fail "apt-get could not fetch them; is there a network?"
    for package in "$fetched"/*.deb; do
      dpkg-deb -x "$package" "$fetched/root"
    done
    mkdir -p "$mesa"
    cp -L "$fetched"/root/usr/lib/*/{libvulkan_lvp.so,libdrm.so.2} "$mesa"
    sed 's#"libvulkan_lvp.so"#"./libvulkan_lvp.so"#' \
      "$fetched/root/usr/share/vulkan/icd.d/lvp_icd.json" >"$driver"
    rm -rf "$fetched"
  fi
  export LD_LIBRARY_PATH=$mesa${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
fi
export VK_DRIVER_FILES=$driver XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/tmp} NODEVICE_SELECT=1
export KERNELFORGE_TEST_WEBGPU_LIBRARY=$PWD/$dawn/libdawn-from-python.so KERNELFORGE_REQUIRE_WEBGPU=1
"$@"
