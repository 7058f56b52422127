#!/usr/bin/env bash
# Waits on a spot instance for EC2's notice, two minutes ahead, that the instance will be taken away, and tells Ray: the
# node takes no new work, and Ray Train has its workers write a checkpoint. cluster.yaml starts it on every worker.
#
#     spot-notice.sh [NODE_IP]    # NODE_IP picks one of several Ray nodes on a machine
set -u

metadata=${AWS_EC2_METADATA_SERVICE_ENDPOINT:-http://169.254.169.254}
interval=${SPOT_NOTICE_INTERVAL_S:-5}
node_ip=${1:-}

# Only one runs on a node, however often it is started. Beside Ray's token, where no other user can put a file.
mkdir -p ~/.ray
exec 9> ~/.ray/"spot-notice-$HOSTNAME-$node_ip.lock"
flock --nonblock 9 || exit 0

# Prints the notice as JSON; fails while there is none (404), and where there is no EC2 metadata service.
notice() {
  local token
  token=$(curl --fail --silent --max-time 2 --request PUT "$metadata/latest/api/token" \
    --header "X-aws-ec2-metadata-token-ttl-seconds: 60") || return
  curl --fail --silent --max-time 2 --header "X-aws-ec2-metadata-token: $token" \
    "$metadata/latest/meta-data/spot/instance-action"
}

# Prints an option of this node's raylet. `ray drain-node` does not find its own node: without --node-id it starts Ray.
raylet() {
  ps -ww -C raylet -o args= | grep -F -- "--node_ip_address=$node_ip${node_ip:+ }" |
    grep -o -- "--$1=[^ ]*" | head -n 1 | cut -d= -f2
}

until notice=$(notice); do sleep "$interval"; done
echo "$(date --utc +%FT%TZ) $notice"
ends=$(date --date "$(grep -o '"time" *: *"[^"]*"' <<< "$notice" | cut -d'"' -f4)" +%s)

until left=$((ends - $(date +%s))); ray drain-node --address "$(raylet gcs-address)" --node-id "$(raylet node_id)" \
  --reason DRAIN_NODE_REASON_PREEMPTION --reason-message "EC2 takes this spot instance back" \
  --deadline-remaining-seconds $((left > 0 ? left : 0)); do
  [ "$left" -gt 0 ] || exit 1
  sleep 2
done
echo "Ray knows, ${left} s ahead"
