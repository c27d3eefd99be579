#!/usr/bin/env bash
# A real SLURM of one node on this machine, for the tests here: Debian's packages, as root, without systemd and cgroups.
#
#   tests/slurm/cluster.sh start [accounting]   install what is missing and start munged, slurmctld and slurmd;
#                                               with `accounting` MariaDB and slurmdbd too, so that sacct answers
#   tests/slurm/cluster.sh stop                 end what was started, by the ids that were kept
#   eval "$(tests/slurm/cluster.sh env)"        SLURM_CONF, for squeue and the others
#
# All of it lies in one folder ($SLURM_TEST_DIR). The node claims 16 CPUs, 512 GB and 4 GPUs that it need not have, so
# that the settings of conf/launcher/slurm.yaml are accepted. Written for SLURM 22.05 (Debian 12).
set -eEuo pipefail

DIR=${SLURM_TEST_DIR:-${TMPDIR:-/tmp}/anomaly_gan_slurm}
NODE=$(hostname -s)
export SLURM_CONF=$DIR/slurm.conf

installed() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }

# No package may start its daemon: policy-rc.d forbids it meanwhile.
install_missing() {
    local missing=() policy=/usr/sbin/policy-rc.d
    for package in "$@"; do installed "$package" || missing+=("$package"); done
    [ ${#missing[@]} -eq 0 ] && return
    local ours=no
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' > $policy
        chmod +x $policy
        ours=yes
    fi
    local code=0
    { apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 \
        install -y --no-install-recommends "${missing[@]}"; } > "$DIR/log/apt.out" 2>&1 || code=$?
    [ $ours = no ] || rm $policy
    return $code
}

wait_for() { # SECONDS COMMAND...
    local until=$((SECONDS + $1))
    shift
    until "$@" > /dev/null 2>&1; do
        [ $SECONDS -lt $until ] || { echo "cluster.sh: waited in vain for: $*" >&2; return 1; }
        sleep .3
    done
}

in_background() { # NAME COMMAND...
    local name=$1
    shift
    "$@" > "$DIR/log/$name.out" 2>&1 &
    echo "$! $name" >> "$DIR/pids"
}

configure() {
    mkdir -p "$DIR"/{state,spool,munge,db}
    chmod 755 "$DIR"
    touch "$DIR"/gpu{0,1,2,3} # GPUs are files, and these are empty; jobs get CUDA_VISIBLE_DEVICES all the same
    cat > "$DIR/slurm.conf" <<CONF
ClusterName=anomaly_gan_test
SlurmctldHost=$NODE(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# cred_expire is also the pause before a requeued job starts again
AuthInfo=socket=$DIR/munge/socket,cred_expire=5
StateSaveLocation=$DIR/state
SlurmdSpoolDir=$DIR/spool
SlurmctldPidFile=$DIR/slurmctld.pid
SlurmdPidFile=$DIR/slurmd.pid
SlurmctldLogFile=$DIR/log/slurmctld.log
SlurmdLogFile=$DIR/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0,sched_min_interval=0
# what a job has between SIGTERM and SIGKILL
KillWait=5
ReturnToService=2
DefMemPerCPU=1000
SlurmdParameters=config_overrides
PropagateResourceLimits=NONE
GresTypes=gpu
NodeName=$NODE NodeAddr=127.0.0.1 CPUs=16 Boards=1 SocketsPerBoard=1 CoresPerSocket=16 ThreadsPerCore=1 RealMemory=512000 Gres=gpu:4
PartitionName=main Nodes=$NODE Default=YES MaxTime=INFINITE State=UP
PartitionName=short Nodes=$NODE MaxTime=5 State=UP
CONF
    echo "NodeName=$NODE Name=gpu File=$DIR/gpu[0-3]" > "$DIR/gres.conf"
    echo "CgroupPlugin=cgroup/v1" > "$DIR/cgroup.conf" # used by none of the above, but loaded
}

configure_accounting() {
    cat >> "$DIR/slurm.conf" <<CONF
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=16819
AccountingStoragePass=$DIR/munge/socket
CONF
    cat > "$DIR/slurmdbd.conf" <<CONF
AuthType=auth/munge
AuthInfo=socket=$DIR/munge/socket
DbdHost=$NODE
DbdAddr=127.0.0.1
DbdPort=16819
SlurmUser=root
LogFile=$DIR/log/slurmdbd.log
PidFile=$DIR/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_accounting
CONF
    chmod 600 "$DIR/slurmdbd.conf"
}

start_munged() {
    [ -s "$DIR/munge/key" ] || head -c 1024 /dev/urandom > "$DIR/munge/key"
    chown -R munge: "$DIR/munge"
    chmod 400 "$DIR/munge/key"
    # --force: a folder above may be writable by others (/tmp)
    in_background munged setpriv --reuid munge --regid munge --clear-groups munged --force --foreground \
        --key-file="$DIR/munge/key" --socket="$DIR/munge/socket" --pid-file="$DIR/munge/pid" \
        --log-file="$DIR/munge/log" --seed-file="$DIR/munge/seed"
    wait_for 20 sh -c "munge -S '$DIR/munge/socket' -n | unmunge -S '$DIR/munge/socket'"
}

start_accounting() {
    [ -d "$DIR/db/data" ] || mariadb-install-db --user=mysql --datadir="$DIR/db/data" --skip-test-db \
        > "$DIR/log/mariadb_install.out" 2>&1
    chown -R mysql: "$DIR/db"
    in_background mariadbd mariadbd --no-defaults --user=mysql --datadir="$DIR/db/data" --socket="$DIR/db/socket" \
        --pid-file="$DIR/db/pid" --skip-networking --innodb-buffer-pool-size=64M --innodb-lock-wait-timeout=900
    wait_for 60 mariadb-admin --no-defaults --socket="$DIR/db/socket" ping
    mariadb --no-defaults --socket="$DIR/db/socket" -e "CREATE DATABASE IF NOT EXISTS slurm_accounting"
    in_background slurmdbd env MYSQL_UNIX_PORT="$DIR/db/socket" slurmdbd -D
    wait_for 60 sacctmgr -n list cluster
    for what in "cluster anomaly_gan_test" "account root cluster=anomaly_gan_test" \
        "user root account=root cluster=anomaly_gan_test"; do
        sacctmgr -i add $what >> "$DIR/log/sacctmgr.out" 2>&1 || true # known from before
    done
}

start() {
    if [ -s "$DIR/pids" ]; then
        echo "cluster.sh: $DIR/pids: it was started before; stop it first" >&2
        exit 1
    fi
    mkdir -p "$DIR/log"
    trap 'tail -n 3 "$DIR"/log/*.out >&2; stop' ERR
    install_missing slurmctld slurmd slurm-client munge
    configure
    [ "${1:-}" != accounting ] || { install_missing slurmdbd mariadb-server; configure_accounting; }
    start_munged
    [ "${1:-}" != accounting ] || start_accounting
    in_background slurmctld slurmctld -D -c
    wait_for 30 scontrol ping
    in_background slurmd slurmd -D -N "$NODE"
    wait_for 60 sh -c "sinfo -h -o %T | grep -q idle"
    wait_for 60 srun --quiet -n 1 true
}

stop() {
    [ -f "$DIR/pids" ] || return 0
    squeue -h -o %A 2>/dev/null | sort -u | xargs -r scancel 2>/dev/null || true
    tac "$DIR/pids" | while read -r pid name; do
        kill "$pid" 2>/dev/null || continue
        for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep .1; done
        kill -9 "$pid" 2>/dev/null && echo "cluster.sh: $name had to be killed" >&2 || true
    done
    rm -f "$DIR/pids"
}

case ${1:-} in
    start) start "${2:-}" ;;
    stop) stop ;;
    env) echo "export SLURM_CONF=$DIR/slurm.conf" ;;
    *) sed -n '2,10p' "$0" >&2; exit 2 ;;
esac
