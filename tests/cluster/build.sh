#!/usr/bin/env bash
# What the cluster is made of, built into the cache. Called by `cluster`; nothing here needs a running cluster.
#
#   build.sh programs      Debian packages, Kubernetes, etcd, helm and kwok as Go modules, and the pause image
#   build.sh base-image    Debian with Python as an image to build others from; prints the path of its archive
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly HERE CACHE=${CLUSTER_CACHE:-$HOME/.cache/testcluster}
readonly BIN=$CACHE/bin
readonly KUBERNETES=v1.34.4 HELM=v3.22.0 KWOK=v0.8.0 # etcd: go.mod
readonly PACKAGES=(
    containerd runc containernetworking-plugins # the node
    buildah mmdebstrap                          # images
    iptables nftables conntrack iproute2        # the network: kube-proxy, the pods' bridge, enforcer.py
    openssl curl ca-certificates procps util-linux mount findutils mawk
)
readonly BASE_IMAGE=localhost/debian-python:bookworm
readonly BASE_PACKAGES=python3,python3-pip,python3-venv,ca-certificates

export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot # no Docker, and no overlay file system within another

say() { printf '%s\n' "$*" >&2; }

packages() {
    ! dpkg -s "${PACKAGES[@]}" >/dev/null 2>&1 || return 0
    say "installing Debian packages: ${PACKAGES[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${PACKAGES[@]}" >/dev/null
}

programs() {
    local version=k8s.io/component-base/version wanted="$KUBERNETES $HELM $KWOK"
    [[ $(cat "$BIN/.versions" 2>/dev/null) != "$wanted" ]] || return 0
    command -v go >/dev/null || { say "There is no Go here to build with: install Go 1.26 or newer."; exit 1; }
    say "building Kubernetes $KUBERNETES, helm $HELM, kwok $KWOK (once: 7 minutes on 2 idle cores)"
    mkdir -p "$BIN"
    export CGO_ENABLED=0 GOFLAGS="-buildvcs=false -trimpath" GOBIN=$BIN
    (cd "$HERE" && go install -ldflags "-s -w -X $version.gitVersion=$KUBERNETES \
        -X $version.gitMajor=1 -X $version.gitMinor=34" tool)
    mv "$BIN/server" "$BIN/etcd" # Go names it after its folder
    go install -ldflags "-s -w" "helm.sh/helm/v3/cmd/helm@$HELM"
    go install -ldflags "-s -w" "sigs.k8s.io/kwok/cmd/kwok@$KWOK"
    echo "$wanted" >"$BIN/.versions"
}

# The image that holds a pod's namespaces: there is no registry to pull it from.
pause_image() {
    [[ ! -f $CACHE/pause.tar ]] || return 0
    local folder
    folder=$(mktemp -d)
    cat >"$folder/pause.go" <<'GO'
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGCHLD)
	for s := range signals {
		if s != syscall.SIGCHLD {
			return
		}
		for pid := 1; pid > 0; {
			pid, _ = syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		}
	}
}
GO
    CGO_ENABLED=0 GOFLAGS=-buildvcs=false go build -ldflags "-s -w" -o "$folder/pause" "$folder/pause.go"
    printf 'FROM scratch\nCOPY pause /pause\nENTRYPOINT ["/pause"]\n' >"$folder/Dockerfile"
    image localhost/pause:1 "$folder" "$CACHE/pause.tar"
    rm -r "$folder"
}

# Never a half-written archive under the name that the next run looks for.
image() { # image NAME FOLDER ARCHIVE
    buildah build -q -t "$1" "$2" >/dev/null
    buildah push -q "$1" "oci-archive:$3.part:$1"
    mv "$3.part" "$3"
}

base_image() {
    local archive=$CACHE/images/base.tar folder
    packages
    mkdir -p "$CACHE/images"
    if [[ ! -f $archive ]]; then
        folder=$(mktemp -d)
        say "building $BASE_IMAGE (a minute)"
        mmdebstrap --quiet --variant=minbase --include="$BASE_PACKAGES" bookworm "$folder/root.tar"
        printf 'FROM scratch\nADD root.tar /\nCMD ["python3"]\n' >"$folder/Dockerfile"
        image "$BASE_IMAGE" "$folder" "$archive"
        rm -r "$folder"
    fi
    # For others to build FROM, also where the storage of buildah did not live as long as the cache.
    buildah inspect --type image "$BASE_IMAGE" >/dev/null 2>&1 || buildah pull -q "oci-archive:$archive" >/dev/null
    echo "$archive"
}

[[ $(id -u) = 0 ]] || { say "The test cluster needs root: it makes network namespaces and mounts."; exit 1; }
case ${1:-} in
programs) packages; programs; pause_image ;;
base-image) base_image ;;
*) sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
