# shellcheck shell=bash disable=SC2154
# The images of hack/bench, as the storage of a registry in target/bench-images: made once, in ten minutes.
bench_images=$PWD/target/bench-images

# Tags of bench/os: 1, 1-zstd, 2 (a commit in layers of its packages), derived (three layers of a Containerfile on 1),
# plain-1, plain-2 (a small commit below, ordinary layers above), chunked-1, chunked-2 (these as zstd:chunked).
bench_images() {
	local key tree=$bench_images/tree name
	key=$(find hack/{rootfs,mkimage.rs,bench-images.sh,bench-packages} image/base src/testing/{rootfs,encapsulate,objects,oci,tar}.rs \
		-type f | sort | xargs sha256sum | sha256sum)
	[[ $(cat "$bench_images/key" 2>/dev/null) != "$key" ]] || return 0
	(($(df --output=avail -BG . | tail -n 1 | tr -dc 0-9) >= 15)) || die "making the images takes 15 GB of disk"
	# A tree that an interrupted run has left is still good, until its files are changed for version 2.
	if [[ $(cat "$bench_images/tree-key" 2>/dev/null) == "$key" ]]; then
		rm -rf "$bench_images"/{registry,huge,repo-*,layout-*,derive}
	else
		rm -rf "$bench_images" && mkdir -p "$bench_images"
		say "Building a Debian trixie of 1.8 GB with mmdebstrap (some minutes, once; log: ${setup_log#"$PWD"/})"
		hack/rootfs "$(grep -v '^#' hack/bench-packages | tr '\n' ' ')" "$tree" >>"$setup_log" 2>&1 ||
			{ tail -n 30 "$setup_log" >&2; die "mmdebstrap failed"; }
		echo "$key" >"$bench_images/tree-key"
	fi
	start_registry "$bench_images"
	name=docker://$registry/bench/os
	bench_tags
	kill "$registry_pid" && registry_pid=
	rm -rf "$tree"
	echo "$key" >"$bench_images/key"
}

# From the tree to the tags of the registry.
bench_tags() {
	say "Turning it into images: $(find "$tree" -type f | wc -l) files, $(du -sm --apparent-size "$tree" | cut -f 1) MB"
	both "put rootfs 1 1 && derive" "put zstd 1 1-zstd && put ordinary 1 plain-1"
	say "Changing the files of a few packages, 5% of the bytes"
	rm -f "$bench_images/tree-key"
	change "$tree"
	# Below its ordinary layers nothing changes.
	both "put rootfs 2 2" "put ordinary 1 plain-2"
	rm -rf "$bench_images"/repo-*
	say "Compressing the ordinary layers as zstd:chunked"
	find_skopeo
	both "chunked 1" "chunked 2"
}

# Two jobs at a time.
both() {
	local job jobs=()
	for job in "$@"; do
		eval "$job" &
		jobs+=($!)
	done
	for job in "${jobs[@]}"; do wait "$job" || die "an image could not be made"; done
}

# mkimage's form $1 of the tree as version $2, to the registry under the tag $3.
put() {
	local layout=$bench_images/layout-$3
	mkimage "$1" "$tree" "$2" "$bench_images/repo-$1" "$layout" "$3" || return
	skopeo copy --quiet --dest-tls-verify=false "oci:$layout:$3" "$name:$3"
	rm -rf "$layout"
}

# Appends a byte to each file of some packages of the tree $1: in an order that looks like chance, none of more than 1% of all
# bytes, until 5% are reached.
change() {
	local file
	(cd "$1" && find usr -type f -printf '%s %p\n') >"$bench_images/sizes"
	# shellcheck disable=SC2016
	(cd "$1/usr/lib/sysimage/dpkg/info" && printf '%s\n' *.list) |
		while read -r file; do printf '%s %s\n' "$(md5sum <<<"$file")" "$1/usr/lib/sysimage/dpkg/info/$file"; done |
		sort | cut -d ' ' -f 4- | xargs awk '
			function flush() { if (bytes && bytes < total / 100 && sum < total / 20) { sum += bytes; printf "%s", files }; bytes = 0; files = "" }
			FILENAME == ARGV[1] { size = $1; sub(/^[0-9]+ /, ""); sizes[$0] = size; total += size; next }
			FNR == 1 { flush() }
			{ path = substr($0, 2); if (path ~ /^(bin|sbin|lib|lib64|etc)\//) path = "usr/" path }
			path in sizes { bytes += sizes[path]; files = files path "\n" }
			END { flush() }' "$bench_images/sizes" >"$bench_images/changed"
	while read -r file; do printf 2 >>"$1/$file"; done <"$bench_images/changed"
	# What would have to cross the wire at least, each file compressed by itself.
	(cd "$1" && tr '\n' '\0' <"$bench_images/changed" | xargs -0 -n 1 zstd -q -c) | wc -c >"$bench_images/changed-bytes"
}

# Three layers on version 1, as a Containerfile makes them.
derive() {
	local work=$bench_images/derive
	local buildah=(buildah --root "$work/root" --runroot "$work/run")
	mkdir -p "$work/context"
	cp -a "$tree/usr/lib/python3" "$work/context/app"
	cp -a "$tree/usr/etc/ssl" "$work/context/settings"
	printf '%s\n' "FROM ${name#docker://}:1" "COPY app /usr/lib/app" "COPY settings /etc/app" \
		"RUN rm -r /usr/share/fonts/truetype/dejavu && echo derived >/usr/share/derived" >"$work/context/Containerfile"
	"${buildah[@]}" build --layers --isolation chroot --tls-verify=false --tag derived "$work/context" >>"$setup_log" 2>&1 </dev/null ||
		{ tail -n 30 "$setup_log" >&2; die "buildah failed"; }
	"${buildah[@]}" push --quiet --tls-verify=false localhost/derived "$name:derived"
	"${buildah[@]}" rmi --all --force >>"$setup_log" 2>&1 || true
	umount "$work/root/overlay" 2>/dev/null || true
	rm -rf "$work"
}

# Debian 12's skopeo leaves out of zstd:chunked what is needed to put the layer's tar together again (before 1.14).
find_skopeo() {
	local chroot=$PWD/target/tools/trixie have
	have=$(skopeo --version | awk '{ print $3 }')
	newer_skopeo=(skopeo)
	[[ $(printf '%s\n' 1.14 "$have" | sort -V | head -n 1) != 1.14 ]] || return 0
	newer_skopeo=(chroot "$chroot" skopeo)
	[[ -x $chroot/usr/bin/skopeo ]] || mmdebstrap --mode=root --variant=apt --include=skopeo trixie "$chroot" >>"$setup_log" 2>&1 </dev/null ||
		{ tail -n 30 "$setup_log" >&2; die "mmdebstrap failed"; }
}

# By way of a layout: within one registry skopeo would take the layers as they are there.
chunked() {
	local layout=/var/tmp/bowline-bench-$1 copy=("${newer_skopeo[@]}" --insecure-policy copy --quiet)
	"${copy[@]}" --src-tls-verify=false --dest-compress-format zstd:chunked "$name:plain-$1" "oci:$layout:chunked" &&
		"${copy[@]}" --dest-tls-verify=false "oci:$layout:chunked" "$name:chunked-$1" &&
		rm -rf "$layout" "target/tools/trixie$layout" # skopeo may have run in the chroot
}

# An image of a million small files, for the peak memory; 5 GB when it is pulled.
huge_image() {
	[[ ! -e $bench_images/huge ]] || return 0
	say "Making an image of a million files"
	mkimage many 1000000 "$bench_images/layout" huge
	skopeo copy --quiet --dest-tls-verify=false "oci:$bench_images/layout:huge" "docker://$registry/bench/os:huge"
	rm -rf "$bench_images/layout"
	touch "$bench_images/huge"
}
