#!/bin/sh
# Installs Chromium and its driver for the dashboard's tests where they are missing. Never fails: without them those
# tests fail and say what to do.
set -u
has() { command -v "$1" >/dev/null 2>&1; }

if has chromedriver && { has chromium || has chromium-browser || has google-chrome; }; then
    exit 0
fi
if ! has apt-get; then
    echo "The dashboard's tests need Chromium and chromedriver; install both with your package manager." >&2
    exit 0
fi
as_root=
if [ "$(id -u)" -ne 0 ]; then
    if ! has sudo || ! sudo -n true 2>/dev/null; then
        echo "The dashboard's tests need Chromium; as root, run: apt-get install chromium chromium-driver" >&2
        exit 0
    fi
    as_root='sudo -n'
fi
echo "Installing Chromium for the dashboard's tests …"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086  # nothing at all when we are root
{ $as_root apt-get update -qq && $as_root apt-get install -y -qq --no-install-recommends chromium chromium-driver fonts-dejavu-core; } >/dev/null ||
    echo "Chromium could not be installed; as root, run: apt-get install chromium chromium-driver" >&2
exit 0
