#!/usr/bin/env bash
# Installs uv as ~/faceae/bin/uv: this version, from its wheel on PyPI, checked against its SHA-256 before anything of it
# runs. cluster.yaml and local.yaml run it on every machine; it needs curl and python3. For another version of uv, take
# URL and digest of its two manylinux wheels from https://pypi.org/simple/uv/.
set -euo pipefail

version=0.13.9
case $(uname -m) in
  x86_64)
    wheel=3d/aa/26d64642d808de4a652579ef950d7cd2d37f080a8babf9c67c6b75fc4c3f/uv-$version-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl
    sha256=d7f459fe4fd247d830351c75686d3996ace3c6f3f728eb0e85a30b7ada0cef19
    ;;
  aarch64)
    wheel=57/15/94b6cd62ac3ff6550288328e8035288875197cbc183f51554b266a69877b/uv-$version-py3-none-manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64.whl
    sha256=5435c5ce14a56431208ca0996416d310f1598e8c2c8ba707688985a16bb82dbe
    ;;
  *) echo "install-uv: there is no uv for $(uname -m) here" >&2; exit 2 ;;
esac

[[ $(~/faceae/bin/uv --version 2> /dev/null) != "uv $version"* ]] || exit 0
folder=$(mktemp --directory)
trap 'rm -rf "$folder"' EXIT
curl --fail --silent --show-error --location --retry 3 --output "$folder/uv.whl" \
  "${PYPI_FILES:-https://files.pythonhosted.org/packages}/$wheel"
echo "$sha256  $folder/uv.whl" | sha256sum --check --quiet
python3 -m zipfile --extract "$folder/uv.whl" "$folder"
install -D --mode 755 "$folder/uv-$version.data/scripts/uv" ~/faceae/bin/uv
