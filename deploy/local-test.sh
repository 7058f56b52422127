#!/usr/bin/env bash
# Tests deploy/local.yaml on one machine: a head and two workers, each with its own address, SSH server, home and
# processes, and a laptop that starts them (`ray up`), trains on them (`ray job submit`) and stops them. Everything
# runs in Linux namespaces that end with this script, however it ends. The machine's network does not change, and
# `ray stop` on a node sees only that node's processes. Needs root, and the `ray` of the environment to test.
#
#     PATH="$PWD/.venv/bin:$PATH" deploy/local-test.sh
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { echo "local-test: $1" >&2; exit 2; }

if [ "${1:-}" != inside ]; then
  [ "$(id -u)" = 0 ] || fail "needs root, for network namespaces"
  command -v ray > /dev/null || fail "no ray on the PATH: PATH=\"\$PWD/.venv/bin:\$PATH\" $0"
  for program in sshd ssh rsync ip curl unshare setpriv; do
    PATH="$PATH:/usr/sbin" command -v "$program" > /dev/null ||
      fail "no $program: apt-get install openssh-server openssh-client rsync iproute2 curl util-linux"
  done
  work=$(mktemp -d /tmp/faceae-XXXXXX)
  cluster=$(basename "$work")
  hashed() { printf %s "$1" | sha256sum | cut -c1-10; }
  sockets=/tmp/ray_ssh_$(hashed "$(id -un)")/$(hashed "$cluster")  # where `ray up` keeps its connections
  mkdir -p /tmp/ray
  setpriv --pdeathsig KILL unshare --net --pid --mount --fork --kill-child --mount-proc "$0" inside "$work" "$cluster" &
  world=$!
  # The first process inside is killed with its parent; all other processes, mounts and the network end with it.
  trap 'set +e; kill -KILL $world 2> /dev/null; wait $world 2> /dev/null; rm -rf "$work" "$sockets"
    rmdir --ignore-fail-on-non-empty /tmp/ray "$(dirname "$sockets")"' EXIT
  trap 'exit 130' INT TERM
  wait $world
  exit
fi

work=$2 cluster=$3
venv=$(dirname "$(dirname "$(command -v ray)")")
declare -A address=([head]=10.77.0.10 [worker1]=10.77.0.11 [worker2]=10.77.0.12)

say() { printf '%4d s  %s\n' $SECONDS "$*"; }
failed() { tail -n 60 "$work/log"; say "FAILED: $*"; exit 1; }
run() { "$@" > "$work/log" 2>&1 || failed "$*"; }
until_true() { for _ in $(seq 120); do "$@" > "$work/log" 2>&1 && return; sleep 1; done; failed "waited for $*"; }
count() { python -c "import json, sys; print(len({row['$1'] for row in json.load(sys.stdin)}))"; }

# A network of one switch: the laptop is on it, and each node is in its own namespace.
mount -t tmpfs tmpfs /run && mkdir /run/sshd
ip link set lo up
ip link add switch type bridge
ip address add 10.77.0.1/24 dev switch
ip link set switch up
ssh-keygen -q -t ed25519 -N '' -f "$work/key"
for node in "${!address[@]}"; do
  ip netns add "$node"
  ip link add "$node" type veth peer name eth0 netns "$node"
  ip link set "$node" master switch up
  ip -n "$node" link set lo up
  ip -n "$node" link set eth0 up
  ip -n "$node" address add "${address[$node]}/24" dev eth0
  ip -n "$node" route add default via 10.77.0.1
  mkdir -p "$work/$node/home" "$work/$node/ray"
  ssh-keygen -q -t ed25519 -N '' -f "$work/$node/host_key"
  cat > "$work/$node/sshd_config" <<END
ListenAddress ${address[$node]}
HostKey $work/$node/host_key
AuthorizedKeysFile $work/key.pub
StrictModes no
UsePAM no
PasswordAuthentication no
Subsystem sftp internal-sftp
END
  sed "s|^root:.*|root:x:0:0:root:$work/$node/home:/bin/bash|" /etc/passwd > "$work/$node/passwd"
  ip netns exec "$node" unshare --pid --mount --fork --kill-child --mount-proc bash -c "
    mount --bind '$work/$node/ray' /tmp/ray && mount --bind '$work/$node/passwd' /etc/passwd &&
    mount -t tmpfs tmpfs /dev/shm && cd / &&
    exec /usr/sbin/sshd -D -e -f '$work/$node/sshd_config'" 2> "$work/$node/sshd.log" &
done

# The laptop: a home with the cluster's token and configuration.
export HOME=$work/laptop TMPDIR=$work/laptop/tmp RAY_AUTH_MODE=token RAY_ADDRESS=http://localhost:8265
mkdir -p "$HOME" "$TMPDIR"
(umask 077; ray get-auth-token --generate > /dev/null 2>&1)
python - "$work" "$cluster" "$venv" "${address[head]}" "${address[worker1]}" "${address[worker2]}" <<'END'
"""Writes deploy/local.yaml with these addresses and key. It uses the existing environment instead of installing one,
and gives each node one CPU, so that two training workers need two nodes."""
import sys, yaml
work, cluster, venv, head, *workers = sys.argv[1:]
config = yaml.safe_load(open("deploy/local.yaml"))
config["cluster_name"] = cluster
config["provider"] |= {"head_ip": head, "worker_ips": workers}
config["auth"] = {"ssh_user": "root", "ssh_private_key": f"{work}/key"}
kept = [command for command in config["setup_commands"] if "uv" not in command]
config["setup_commands"] = [f"ln -sfn {venv} ~/faceae/venv", *kept]
for key in ("head_start_ray_commands", "worker_start_ray_commands"):
    config[key] = [command.replace("ray start", "ray start --num-cpus=1") for command in config[key]]
yaml.safe_dump(config, open(f"{work}/cluster.yaml", "w"))
END
for node in "${!address[@]}"; do
  until_true ssh -i "$work/key" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null "${address[$node]}" true
done
say "three machines with SSH: ${address[*]}"

nodes() { [ "$(ray list nodes --filter state=ALIVE --format json | count node_id)" = 3 ]; }
up() {
  run ray up --yes "$work/cluster.yaml"
  say "ray up: the head runs"
  ray dashboard "$work/cluster.yaml" > "$work/dashboard.log" 2>&1 &
  dashboard=$!
  until_true nodes
  say "ray dashboard: three nodes are alive, seen through the tunnel"
}
gone() { ! ps -eo args= | grep -q '[r]aylet --raylet_socket_name'; }
down() {
  run ray down --yes "$work/cluster.yaml"
  kill $dashboard 2> /dev/null || true
  until_true gone
  say "ray down: no node of Ray is left"
}
train=(--data.source synthetic:300 --data.image-size 64 --scale.workers 2 --scale.gpu off --run.storage "$work/runs")

up
code=$(curl --silent --output /dev/null --write-out '%{http_code}' http://localhost:8265/api/jobs/)
[ "$code" = 401 ] || failed "without the token the job server answers $code"
say "the job server refuses requests without the token"

run ray job submit --working-dir . -- python jobs/train.py "${train[@]}" --train.epochs 1 --run.name local
[ -f "$work/runs/local/summary.json" ] || failed "the job left no summary.json"
hosts=$(ray list actors --filter class_name=RayTrainWorker --format json | count node_id)
[ "$hosts" = 2 ] || failed "the training workers ran on $hosts node(s)"
say "ray job submit: trained, with workers on two nodes"

run ray job submit --no-wait --working-dir . -- python jobs/train.py "${train[@]}" --train.epochs 1000 --run.name down
trained() { compgen -G "$work/runs/down/checkpoints/*/progress.json"; }
until_true trained
say "a run of 1000 epochs has its first checkpoint"
down
epochs=$(wc -l < "$work/runs/down/metrics.jsonl")

up
run ray job submit --working-dir . -- python jobs/train.py --run.storage "$work/runs" --run.name down --run.resume \
  --train.epochs $((epochs + 2))
grep -q "resumed   in epoch" "$work/log" || failed "the run began anew"
[ "$(wc -l < "$work/runs/down/metrics.jsonl")" = $((epochs + 2)) ] || failed "epochs are missing"
say "--run.resume: the run went on after epoch $epochs"
down
