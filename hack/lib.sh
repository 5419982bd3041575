# shellcheck shell=bash
# Shared by the scripts of hack/: where things are, how to say things, what to install.
[[ -z ${setup_log:-} ]] || return 0
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
mkdir -p target/tools
# Services and test runners start programs without it; programs that are built and run here need it.
export HOME=${HOME:-$(getent passwd "$UID" | cut -d: -f6)}
# System tools are no part of a user's PATH; target/tools holds what is unpacked, not installed.
PATH="$HOME/.cargo/bin:$PWD/target/tools/usr/bin:$PATH:/usr/local/sbin:/usr/sbin:/sbin"
export PATH DEBIAN_FRONTEND=noninteractive
setup_log=$PWD/target/setup.log
# The profile that programs are built with (tests take "dev"), and where they are then.
PROFILE=${PROFILE:-release}
export built=target/${PROFILE/#dev/debug}

say() { printf '%s\n' "$*"; }
die() { say "${0##*/}: $*" >&2; exit 1; }

# buildah and many tests make mount namespaces, which the kernel allows only where the root is a mount point: not in a plain
# chroot. There the script, whose arguments these are, runs once more, with such a root. Outside only an empty tmpfs is seen, and
# goes at the end.
with_mounted_root() {
	((UID == 0)) && ! mountpoint -q / || return 0
	# shellcheck disable=SC2016 # the inner shell's variables
	exec unshare --mount --propagation unchanged bash -ec '
		top=$(mktemp -d /run/bowline.XXXXXX)
		mount -t tmpfs none "$top"
		trap "umount -l $top && rmdir $top" EXIT
		mount --make-private "$top"
		mkdir "$top/root" && mount --rbind / "$top/root" && mount --make-rprivate "$top/root"
		chroot "$top/root" bash -c "cd \"\$0\" && exec \"\$@\"" "$@"
	' bash "$PWD" "hack/${0##*/}" "$@"
}

# Newer buildahs raise the limits of what a Containerfile runs, which not every machine allows.
keep_limits() {
	export CONTAINERS_CONF_OVERRIDE=$PWD/target/tools/containers.conf
	printf '[containers]\ndefault_ulimits = ["nofile=%s:%s", "nproc=%s:%s"]\n' \
		"$(ulimit -Sn)" "$(ulimit -Hn)" "$(ulimit -Su)" "$(ulimit -Hu)" >"$CONTAINERS_CONF_OVERRIDE"
}

# The packages of a purpose, each with what it is for.
packages() {
	case $1 in
	build) echo gcc libc6-dev pkg-config libostree-dev ca-certificates ;;
	demo) echo mmdebstrap skopeo zstd e2fsprogs ;;
	image) echo mmdebstrap buildah netavark binutils zstd e2fsprogs ;;
	test)
		echo systemd ostree skopeo gnupg python3 umoci buildah netavark flatpak attr openssl apache2-utils zstd libzstd-dev libssl-dev shellcheck strace \
			e2fsprogs btrfs-progs xfsprogs dosfstools mtools fdisk grub-common grub-pc-bin grub-efi-amd64-bin systemd-boot-efi ;;
	boot-test) echo qemu-system-x86 qemu-utils seabios ovmf skopeo buildah netavark ostree dosfstools mtools e2fsprogs fdisk openssl ;;
	bench) echo ostree skopeo podman buildah netavark mmdebstrap zstd e2fsprogs iproute2 libzstd-dev libssl-dev ;;
	esac
}

missing() {
	local package
	for package in "$@"; do
		[[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || echo "$package"
	done
}

# Installs packages quietly; without root, says what to install.
install() {
	local list=("$@")
	((${#list[@]})) || return 0
	((UID == 0)) || die "please install first: sudo apt-get install ${list[*]}"
	say "Installing with apt: ${list[*]} (log: ${setup_log#"$PWD"/})"
	{ apt-get update && apt-get install -y --no-install-recommends "${list[@]}"; } >>"$setup_log" 2>&1 </dev/null ||
		{ tail -n 20 "$setup_log" >&2; die "apt could not install ${list[*]}"; }
}

# Whether there is a cargo of at least the version in Cargo.toml.
have_cargo() {
	local want have
	want=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
	have=$({ rustc --version && cargo --version; } 2>/dev/null | awk '{print $2}' | sort -V | head -n 1)
	[[ -n $have && $(printf '%s\n' "$want" "$have" | sort -V | head -n 1) == "$want" ]]
}
