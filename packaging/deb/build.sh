#!/usr/bin/env bash
# Builds dist/excise_VERSION_amd64.deb from the working tree. Needs debhelper, python3-venv (`make deb` brings them), PyPI.
# DEB_COMPRESSION: options for dpkg-deb. gzip takes 3 s of CPU and gives 89 MB; "-Zxz -z1" takes 25 s and gives 64 MB.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
# the last commit's time: the same source makes the same package, as far as PyPI gives the same wheels
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH=$epoch DEB_COMPRESSION=${DEB_COMPRESSION:--Zgzip -z1}
build=build/deb
rm -rf "$build"
mkdir -p "$build/excise" dist

cp -a src agent probes docs pyproject.toml README.md LICENSE CHANGELOG.md "$build/excise/"
cp -a packaging/deb/debian "$build/excise/debian"
find "$build/excise" -name __pycache__ -type d -prune -exec rm -rf {} +
cp systemd/excise.service systemd/config.toml "$build/excise/debian/"
cat >"$build/excise/debian/changelog" <<END
excise ($version) unstable; urgency=medium

  * Version $version; see CHANGELOG.md.

 -- Excise developers <excise@localhost>  $(date --utc --rfc-email --date "@$epoch")
END

find "$build/excise" -exec touch --no-dereference --date="@$epoch" {} +

log=$build/build.log
if ! (cd "$build/excise" && dpkg-buildpackage --build=binary --no-sign) >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    exit 1
fi
rm -f dist/excise_*.deb
mv "$build"/excise_*.deb dist/
ls -sh dist/excise_*.deb
