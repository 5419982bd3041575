# shellcheck shell=bash disable=SC2034
# The parts of hack/demo: a registry, a scratch sysroot, a step with its cost.
# shellcheck source=demo-images.sh
. hack/demo-images.sh
sysroot=target/demo/sysroot
registry_log=$demo/registry.log
registry_pid=

# A registry on a free port of loopback, until this script ends; its storage and its log are in $1.
start_registry() {
	local dir=$1
	registry_log=$dir/registry.log
	printf 'version: 0.1\nlog: {level: info, accesslog: {disabled: false}}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: "127.0.0.1:0"}\n' \
		"$dir/registry" >"$dir/registry.yml"
	# The log of the run before names another port.
	rm -f "$registry_log"
	docker-registry serve "$dir/registry.yml" >"$registry_log" 2>&1 </dev/null &
	registry_pid=$!
	local port='' tries
	for tries in {1..100}; do
		port=$(sed -n 's/.*listening on 127\.0\.0\.1:\([0-9]*\).*/\1/p' "$registry_log" 2>/dev/null || true)
		[[ -z $port ]] || break
		sleep 0.1
	done
	[[ $port ]] || die "the registry did not start: see $registry_log"
	registry=127.0.0.1:$port
	image=$registry/demo/os:stable
}

publish() {
	say
	if [[ ${quick:-} ]]; then
		say "(Somebody releases version $1: $image now is that.)"
		rm -rf "$demo/quick/layout" && cp -r "$demo/quick/layout-$1" "$demo/quick/layout"
	else
		say "(Somebody releases version $1: skopeo pushes it to $image.)"
		skopeo copy --quiet --dest-tls-verify=false "oci:$demo/layout:$1" "docker://$image"
	fi
}

remove_sysroot() {
	[[ -d $sysroot ]] || return 0
	# libostree makes deployments immutable, where it may.
	chattr -i "$sysroot"/ostree/deploy/*/deploy/*/ 2>/dev/null || true
	rm -rf "$sysroot"
}

new_sysroot() {
	remove_sysroot
	mkdir -p "$sysroot"
}

# However the script ends, nothing of it keeps running.
finish() {
	[[ -z $registry_pid ]] || kill "$registry_pid"
	remove_sysroot
}
trap finish EXIT

# The directory of the deployment that boots next.
deployment() {
	local entry
	entry=$(sed -n 's|^options.* ostree=\(/ostree/[^ ]*\).*|\1|p' "$(find "$sysroot"/boot/loader/entries/ -name '*.conf' | sort -V | tail -n 1)")
	realpath "$sysroot$entry"
}

# Says what happens, runs it, says what it cost.
step() {
	local words=$1 start=$EPOCHREALTIME before=0 cost
	shift
	say && say "== $words" && say "\$ $*"
	[[ -z $registry_pid ]] || before=$(wc -l <"$registry_log")
	"$@" </dev/null
	cost=$(awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f s", b - a }')
	[[ -z $registry_pid ]] || cost+=$(tail -n +$((before + 1)) "$registry_log" | awk '
		match($0, /" [0-9]+ [0-9]+ "/) { split(substr($0, RSTART, RLENGTH), f, " "); n++; sum += f[3] }
		END { printf ", %d requests, %.1f MB from the registry", n, sum / 1e6 }')
	say "   took $cost"
}
