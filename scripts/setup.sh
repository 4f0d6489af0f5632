#!/usr/bin/env bash
# Installs what building and testing need: Debian packages through apt, and pinned Python packages
# into the private environment .venv. Does nothing, quickly, when all of it is there.
#
#   setup.sh [PACKAGE...]    these Debian packages, too
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
  echo "setup: $*" >&2
  exit 1
}

. /etc/os-release
case "${ID:-} ${VERSION_ID:-}" in
  "debian 12" | "debian 13" | "ubuntu 24.04") ;;
  *) fail "this is ${PRETTY_NAME:-an unknown system}; supported are Debian 12, Debian 13 and Ubuntu 24.04" ;;
esac

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    fail "installing packages needs root or sudo; as root, run: $*"
  fi
}

mapfile -t packages < <(grep -v '^#' scripts/packages.txt)
packages+=("$@")
installed=$(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' "${packages[@]}" 2>/dev/null |
  sed -n 's/^ii *//p' || true)
mapfile -t missing < <(comm -23 <(printf '%s\n' "${packages[@]}" | sort -u) \
  <(printf '%s\n' "$installed" | sort -u))
apt_install() {
  [ $# -gt 0 ] || return 0
  echo "setup: installing with apt: $*"
  as_root env DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes \
    apt-get -o Dpkg::Use-Pty=0 install -y -qq --no-install-recommends "$@" >/dev/null ||
    fail "apt-get could not install: $*"
}

# The private environment, and a peer to measure against, without which all else works.
python_packages() {
  # The stamp holds everything the environment was made from, so a changed pin makes it anew.
  local wanted
  wanted="$(/usr/bin/python3 --version) $(sha256sum scripts/requirements.txt)"
  if [ ! -x .venv/bin/python ] || [ "$(cat .venv/stamp 2>/dev/null || true)" != "$wanted" ]; then
    echo "setup: installing Python packages of scripts/requirements.txt into .venv"
    rm -rf .venv
    /usr/bin/python3 -m venv .venv || fail "python3 could not make .venv"
    .venv/bin/pip install --quiet --disable-pip-version-check -r scripts/requirements.txt ||
      fail "pip could not install scripts/requirements.txt; is there a network?"
    echo "$wanted" >.venv/stamp
  fi
  scripts/vendors.sh openblas || echo "setup: going on without OpenBLAS"
}

# What pip needs comes first: it then works beside apt, each of which mostly waits.
mapfile -t first < <(printf '%s\n' "${missing[@]}" | grep -E '^(ca-certificates|python3-venv)$' || true)
mapfile -t rest < <(printf '%s\n' "${missing[@]}" | grep -vE '^(ca-certificates|python3-venv|)$' || true)
if [ ${#missing[@]} -gt 0 ]; then
  as_root apt-get update -qq || fail "apt-get update failed; is there a network?"
fi
apt_install "${first[@]}"
python_packages &
beside=$!
trap 'kill $beside 2>/dev/null || true' EXIT
apt_install "${rest[@]}"
wait $beside || exit 1
trap - EXIT
echo "setup: ${PRETTY_NAME}: ${#packages[@]} packages and .venv are there"
