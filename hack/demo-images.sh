# shellcheck shell=bash disable=SC2034
# The images of hack/demo and hack/bench.
# shellcheck source=lib.sh
. hack/lib.sh
demo=$PWD/target/demo
mkdir -p "$demo"
PATH="$PWD/$built:$PWD/$built/examples:$PATH"

build_release() {
	say "Building Bowline (the first time takes minutes)"
	cargo build --profile "$PROFILE" --locked --features testing --bin bowline --example mkimage &>>"$setup_log" </dev/null ||
		{ tail -n 30 "$setup_log" >&2; die "the build failed"; }
}

# Builds both versions once; again only when the recipe changes.
debian_images() {
	local key version
	key=$(find hack/{rootfs,mkimage.rs,demo-images.sh} image/base src/testing -type f | sort | xargs sha256sum | sha256sum)
	[[ $(cat "$demo/key" 2>/dev/null) != "$key" ]] || return 0
	say "Building two versions of a small Debian trixie system with mmdebstrap (about two minutes, once)"
	rm -rf "$demo" && mkdir -p "$demo"
	hack/rootfs nano "$demo/1" "less file nano-" "$demo/2" >>"$setup_log" 2>&1 || { tail -n 30 "$setup_log" >&2; die "mmdebstrap failed"; }
	for version in 1 2; do echo "Welcome to the Bowline demo, version $version" >"$demo/$version/usr/etc/motd"; done
	say "Turning them into images: an ostree commit each, a layer for each large package"
	mkimage rootfs "$demo/1" 1 "$demo/repo" "$demo/layout" 1
	say "Version 2 gets a layer on top, as a Containerfile's COPY and RUN rm would make it"
	mkimage rootfs "$demo/2" 2 "$demo/repo" "$demo/layout" 2 \
		$'file etc/issue 0 0 644 Bowline demo, version 2\\n\nwhiteout usr/bin/lesspipe'
	rm -rf "$demo/1" "$demo/2" "$demo/repo"
	echo "$key" >"$demo/key"
}

quick_images() {
	local version
	rm -rf "$demo/quick"
	for version in 1 2; do mkimage tiny "$version" "$demo/quick/layout-$version" stable; done
	# Bowline refuses images that no policy speaks about; a bare system has none.
	echo '{"default":[{"type":"insecureAcceptAnything"}]}' >"$demo/quick/policy.json"
	export CONTAINERS_POLICY_JSON=$demo/quick/policy.json
	image=oci:$demo/quick/layout:stable
}
