#!/usr/bin/env bash
# A real SLURM with two nodes on this machine, to try batch scripts and for the tests:
#   scripts/local_slurm.sh start     needs root and Debian's slurm-wlm and munge; prints the environment to use
#   scripts/local_slurm.sh stop
# Everything lies under LOCAL_SLURM (default /var/tmp/local_slurm); an installed SLURM and its configuration are left alone.
set -euo pipefail

base=${LOCAL_SLURM:-/var/tmp/local_slurm}
host=$(hostname -s)

stop() {
    for name in slurmd-n1 slurmd-n2 slurmctld munged; do
        if [[ -f $base/$name.pid ]]; then
            kill "$(cat "$base/$name.pid")" 2>/dev/null || true
        fi
    done
    # slurmd answers a signal only once its steps are gone.
    for _ in $(seq 50); do
        pgrep -f "$base/slurm.conf" >/dev/null || break
        sleep 0.1
    done
    pkill -9 -f "$base/slurm.conf" 2>/dev/null || true
    rm -rf "$base"
}

start() {
    [[ $(id -u) == 0 ]] || { echo "local_slurm: only root can start it" >&2; exit 1; }
    for program in slurmctld slurmd munged; do
        command -v "$program" >/dev/null || { echo "local_slurm: no $program; apt-get install slurm-wlm munge" >&2; exit 1; }
    done
    stop
    mkdir -p "$base"/{state,n1,n2,log}
    chmod 755 "$base"
    # A munge of its own, so that no key of this machine is touched.
    mkdir -m 700 "$base/munge"
    head -c 1024 /dev/urandom >"$base/munge/key"
    chmod 400 "$base/munge/key"
    chown -R munge: "$base/munge"
    mkdir -m 755 "$base/socket"
    chown munge: "$base/socket"
    setpriv --reuid munge --regid munge --clear-groups munged --key-file "$base/munge/key" --socket "$base/socket/munge" \
        --pid-file "$base/socket/munged.pid" --log-file "$base/munge/log" --seed-file "$base/munge/seed"
    ln -s "$base/socket/munged.pid" "$base/munged.pid"
    cat >"$base/slurm.conf" <<EOF
ClusterName=local
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=${LOCAL_SLURM_PORT:-17000}
SlurmUser=root
SlurmdUser=root
# A requeued job waits until its credential has expired, two minutes unless told otherwise.
AuthInfo=socket=$base/socket/munge,cred_expire=5
StateSaveLocation=$base/state
SlurmdSpoolDir=$base/%n
SlurmctldPidFile=$base/slurmctld.pid
SlurmdPidFile=$base/slurmd-%n.pid
SlurmctldLogFile=$base/log/slurmctld
SlurmdLogFile=$base/log/%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MpiDefault=none
KillWait=5
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=17001 CPUs=1 RealMemory=4000 State=UNKNOWN
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=17002 CPUs=1 RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP OverSubscribe=YES
EOF
    export SLURM_CONF=$base/slurm.conf
    slurmctld -c -f "$SLURM_CONF"
    slurmd -N n1 -f "$SLURM_CONF"
    slurmd -N n2 -f "$SLURM_CONF"
    for _ in $(seq 100); do
        if [[ $(sinfo --noheader --format=%t 2>/dev/null) == idle ]]; then
            # The nodes have no addresses of their own, which ranks would look up to find each other.
            echo "export SLURM_CONF=$base/slurm.conf MASTER_ADDR=127.0.0.1"
            return
        fi
        sleep 0.2
    done
    echo "local_slurm: the nodes did not come up; see $base/log" >&2
    exit 1
}

case ${1:-} in
start) start ;;
stop) stop ;;
*)
    echo "usage: scripts/local_slurm.sh start|stop" >&2
    exit 2
    ;;
esac
