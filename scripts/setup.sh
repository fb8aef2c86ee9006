#!/usr/bin/env bash
# Installs what turnpike needs on Debian 12, and for `run` reserves huge pages. Says what it does; does nothing twice.
# Usage: scripts/setup.sh run|test
set -euo pipefail

what=${1:-run}
min_rust=1.95
huge_pages=256   # of 2 MiB

say() { echo "==> $*"; }

build_packages="build-essential pkg-config libdpdk-dev libnuma-dev libpcap-dev clang libclang-dev"
test_packages="dpdk-dev frr bird2 gobgpd exabgp openbgpd tshark python3-scapy python3-prometheus-client iproute2 iputils-ping iputils-tracepath traceroute mtr-tiny tcpdump procps zstd valgrind"
packages=$build_packages
[ "$what" = test ] && packages="$packages $test_packages"

missing=
for package in $packages; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed' || missing="$missing $package"
done
if [ -n "$missing" ]; then
    if [ "$(id -u)" != 0 ]; then
        echo "turnpike: these packages are missing:$missing. Install them, or run this as root." >&2
        exit 1
    fi
    say "Installing packages:$missing"
    # A package's daemon must not start by itself: tests start their own, in their own namespaces.
    policy=/usr/sbin/policy-rc.d
    made_policy=
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' > "$policy"
        chmod +x "$policy"
        made_policy=1
    fi
    trap '[ -z "$made_policy" ] || rm -f "$policy"' EXIT
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # shellcheck disable=SC2086
    apt-get install -y -qq --no-install-recommends $missing > /dev/null
fi

export PATH="$HOME/.cargo/bin:$PATH"
have_rust=$(rustc --version 2>/dev/null | awk '{print $2}' || true)
if [ -z "$have_rust" ] || [ "$(printf '%s\n%s\n' "$min_rust" "$have_rust" | sort -V | head -n 1)" != "$min_rust" ]; then
    if ! command -v rustup > /dev/null; then
        say "Installing Rust with rustup (found: ${have_rust:-none}; needed: $min_rust or newer)"
        command -v curl > /dev/null || apt-get install -y -qq curl ca-certificates > /dev/null
        curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal --component clippy,rustfmt
    else
        say "Updating Rust (found: ${have_rust:-none}; needed: $min_rust or newer)"
        rustup toolchain install stable --profile minimal --component clippy,rustfmt
    fi
fi

pages=/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
have=$(cat "$pages" 2>/dev/null || echo 0)
free=$(cat "${pages%nr_hugepages}free_hugepages" 2>/dev/null || echo 0)
# Tests run without: what users meet there is tested too.
if [ "$what" = run ] && [ "$free" -lt "$huge_pages" ] && [ -w "$pages" ]; then
    say "Reserving $huge_pages huge pages of 2 MiB in $pages (there were $have)"
    echo $((have + huge_pages - free)) > "$pages" 2>/dev/null || true
    free=$(cat "${pages%nr_hugepages}free_hugepages")
fi
if [ "$what" = run ] && [ "$free" -eq 0 ]; then
    say "No huge pages here: turnpike runs on ordinary pages. Huge pages bring fewer TLB misses, and let NICs work without an IOMMU."
fi
