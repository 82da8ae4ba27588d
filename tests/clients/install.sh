#!/bin/sh
# Installs the clients that the tests ask with into build/clients, an environment of their own: they need older
# versions of huggingface_hub and protobuf than the export and the server. Again only when their list changes. Where it
# cannot be done, the tests are skipped; with CI=true that is an error.
set -u
cd "$(dirname "$0")/../.." || exit 1
python=${PYTHON:-python3}
folder=build/clients
wanted="$("$python" -V) $(cat tests/clients/requirements.txt tests/clients/constraints.txt)"
mark=$folder/.installed

if [ -f "$mark" ] && [ "$(cat "$mark")" = "$wanted" ]; then
    exit 0
fi
echo "Installing the clients of the tests into $folder …"
rm -rf "$folder"
if "$python" -m venv "$folder" && "$folder/bin/pip" install --quiet --disable-pip-version-check \
    --constraint tests/clients/constraints.txt --requirement tests/clients/requirements.txt; then
    printf '%s\n' "$wanted" >"$mark"
    exit 0
fi
rm -rf "$folder"
echo "The clients could not be installed; tests/clients is skipped." >&2
[ "${CI:-}" != true ]
