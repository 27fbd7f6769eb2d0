#!/usr/bin/env bash
# A throw-away SLURM cluster on this one host, for tests: Debian's own packages, no
# systemd, loopback only, one slurmd for each pretended node.
#
#   cluster.sh up              install what is missing, start, wait for idle nodes
#   cluster.sh down [--wipe]   cancel jobs, stop what `up` started; remove the state
#   cluster.sh status          daemons, nodes and jobs
#   cluster.sh crash NAME      kill a daemon, and with a node all that runs on it
#   cluster.sh strand NODE     kill a node's daemon alone: its jobs go on, unseen
#   cluster.sh start NAME      start a crashed daemon again
#
# Exit status 3: this host cannot have such a cluster (not root, no packages, not ours).
#
# Settings (environment):
#   CLUSTER_HOME        state folder, in reach of all users (phantomscope-slurm in TMPDIR)
#   CLUSTER_NODES       compute nodes                             (3)
#   CLUSTER_CPUS        CPUs that each node claims                (2)
#   CLUSTER_MEMORY      MB that each node claims                  (8000)
#   CLUSTER_GPUS        GPUs that each node but the first claims  (2)
#   CLUSTER_ACCOUNTING  1: accounts and sacct, through MariaDB    (0)
#   CLUSTER_PORT        first of the TCP ports                    (36900)
#
# Partitions: `main` (default), `gpu`, and `spare`, whose jobs the others preempt.
set -euo pipefail

home=${CLUSTER_HOME:-${TMPDIR:-/tmp}/phantomscope-slurm}
nodes=${CLUSTER_NODES:-3}
cpus=${CLUSTER_CPUS:-2}
memory=${CLUSTER_MEMORY:-8000}
gpus=${CLUSTER_GPUS:-2}
accounting=${CLUSTER_ACCOUNTING:-0}
port=${CLUSTER_PORT:-36900}
standard=/etc/slurm/slurm.conf
host=$(hostname -s)
socket=$home/munge/socket
export SLURM_CONF=$home/etc/slurm.conf
export PATH=$PATH:/usr/sbin:/sbin

say() { printf 'cluster: %s\n' "$*" >&2; }
die() { say "error: $*"; exit "${status:-1}"; }
refuse() { status=3 die "$*"; }

# ---- processes -------------------------------------------------------------
# A recorded process is ours only while its start time is the recorded one: the number
# alone may belong to somebody else by now. A zombie counts as gone.
birth() {
    awk '{sub(/^.*\) /, ""); if ($1 != "Z") print $20}' "/proc/$1/stat" 2>/dev/null || true
}

alive() { # NAME; sets pid
    local born
    read -r pid born 2>/dev/null <"$home/pid/$1" || return 1
    [ -n "$born" ] && [ "$(birth "$pid")" = "$born" ]
}

launch() { # NAME COMMAND...
    local name=$1 pid; shift
    alive "$name" && return 0
    setsid "$@" >>"$home/log/$name.out" 2>&1 </dev/null 9>&- &
    pid=$!
    printf '%s %s\n' "$pid" "$(birth "$pid")" >"$home/pid/$name"
}

await() { # SECONDS NAME CHECK...: until the check succeeds, while the daemon lives
    local name=$2 end=$((SECONDS + $1)); shift 2
    until "$@" >/dev/null 2>&1 9>&-; do
        if ! alive "$name" || [ $SECONDS -ge $end ]; then
            tail -n 15 "$home/log/$name"* >&2 || true
            alive "$name" || die "$name has stopped; its log: $home/log"
            die "$name is not ready in time; its log: $home/log"
        fi
        sleep 0.1
    done
}

halt() { # NAME: politely, then not
    local pid i
    if alive "$1"; then
        kill -TERM "$pid" 2>/dev/null || true
        for ((i = 0; i < 100; i++)); do alive "$1" || break; sleep 0.1; done
        ! alive "$1" || kill -KILL "$pid" 2>/dev/null || true
    fi
    rm -f "$home/pid/$1"
}

kill_jobs() { # NODE-PATTERN: step daemons, and all that they started there
    local step found
    for step in $(pgrep -x slurmstepd); do
        # They log as their node.
        found=$(find "/proc/$step/fd" -lname "$home/log/$1" -print -quit)
        [ -z "$found" ] || kill -KILL "$step" 2>/dev/null || true
    done 2>/dev/null
    # By their environment: a parent may have gone before its child.
    for step in $(grep -lzxF "SLURM_CONF=$SLURM_CONF" /proc/[0-9]*/environ 2>/dev/null); do
        grep -qzx "SLURMD_NODENAME=$1" "$step" 2>/dev/null || continue
        step=${step#/proc/}
        kill -KILL "${step%/environ}" 2>/dev/null || true
    done
}

# ---- installation ----------------------------------------------------------
install_packages() {
    command -v dpkg-query >/dev/null || refuse "no Debian packages here"
    local want=(munge slurm-client slurmctld slurmd) missing=() package guard rc=0
    [ "$accounting" = 0 ] || want+=(slurmdbd mariadb-server)
    for package in "${want[@]}"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null \
            | grep -q 'install ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "installing ${missing[*]}"
    # The packages must not start daemons of their own.
    guard=/usr/sbin/policy-rc.d
    if [ -e "$guard" ]; then guard=
    else printf '#!/bin/sh\nexit 101\n' >"$guard"; chmod 755 "$guard"; fi
    export DEBIAN_FRONTEND=noninteractive
    { apt-get -qq -o Acquire::http::Timeout=20 update \
        && apt-get -qq install -y --no-install-recommends "${missing[@]}"
    } >"$home/log/apt" 2>&1 </dev/null || rc=$?
    [ -z "$guard" ] || rm -f "$guard"
    [ $rc = 0 ] || { tail -n 5 "$home/log/apt" >&2; refuse "cannot install ${missing[*]}"; }
}

# ---- configuration ---------------------------------------------------------
node_names() { [ "$1" = "$nodes" ] && echo "node$1" || echo "node[$1-$nodes]"; }

write_slurm_conf() {
    local first=$((nodes > 1 ? 2 : 1)) i
    cat <<CONF
ClusterName=phantomscope
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$socket,cred_expire=5
SlurmctldPort=$port
StateSaveLocation=$home/controller
SlurmctldPidFile=$home/controller/slurmctld.pid
SlurmctldLogFile=$home/log/slurmctld
SlurmdSpoolDir=$home/spool/%n
SlurmdPidFile=$home/spool/%n.pid
SlurmdLogFile=$home/log/%n
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
MpiDefault=none
SwitchType=switch/none
# The claimed hardware is not there.
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
GresTypes=gpu
# Without cgroups: memory is sampled each second, a job over its request is killed.
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
# Short clocks, so that tests of failure need not wait long.
SlurmctldTimeout=10
SlurmdTimeout=10
KillWait=5
UnkillableStepTimeout=30
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,sched_min_interval=0,batch_sched_delay=0,bf_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
# Finished jobs stay in view for the whole test.
MinJobAge=3600
ReturnToService=2
EnforcePartLimits=ALL
MaxArraySize=1001
DefMemPerCPU=500
CONF
    if [ "$accounting" = 1 ]; then
        cat <<CONF
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$((port + 1))
AccountingStoragePass=$socket
AccountingStorageEnforce=associations,limits
AccountingStorageTRES=gres/gpu
AccountingStoreFlags=job_comment
CONF
    else
        echo AccountingStorageType=accounting_storage/none
    fi
    for ((i = 1; i <= nodes; i++)); do
        echo "NodeName=node$i NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 10 + i))" \
            "CPUs=$cpus RealMemory=$memory$( ((i < first || gpus == 0)) || echo " Gres=gpu:$gpus")"
    done
    cat <<CONF
PartitionName=main Nodes=$(node_names 1) Default=YES PriorityTier=10 PreemptMode=OFF
PartitionName=gpu Nodes=$(node_names $first) PriorityTier=10 PreemptMode=OFF
PartitionName=spare Nodes=$(node_names 1) PriorityTier=1 PreemptMode=REQUEUE
CONF
}

# A GPU without a device file does not survive in SLURM 22.05, so each gets a second
# /dev/null of ours or, where mknod is forbidden, a device that is there anyway. Nothing
# opens them: SLURM counts them and hands them out.
write_gres_conf() {
    local stock=(/dev/null /dev/zero /dev/full /dev/random /dev/urandom) device i g
    for ((i = nodes > 1 ? 2 : 1; i <= nodes; i++)); do
        for ((g = 0; g < gpus; g++)); do
            device=$home/dev/gpu$g
            [ -c "$device" ] || mknod -m 666 "$device" c 1 3 2>/dev/null || true
            [ -c "$device" ] || device=${stock[g]:-}
            [ -n "$device" ] || die "no more than ${#stock[@]} GPUs where mknod is forbidden"
            echo "NodeName=node$i Name=gpu File=$device"
        done
    done
}

write_slurmdbd_conf() { # PASSWORD
    cat <<CONF
AuthType=auth/munge
AuthInfo=socket=$socket,cred_expire=5
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=$((port + 1))
SlurmUser=root
PidFile=$home/controller/slurmdbd.pid
LogFile=$home/log/slurmdbd
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$((port + 2))
StorageUser=slurm
StoragePass=$1
StorageLoc=slurm
CONF
}

# ---- daemons ---------------------------------------------------------------
start_munge() {
    install -d -o munge -g munge -m 755 "$home/munge"
    if [ ! -s "$home/munge/key" ]; then
        (umask 077; head -c 1024 /dev/urandom >"$home/munge/key")
        chown munge:munge "$home/munge/key"
    fi
    launch munged setpriv --reuid=munge --regid=munge --init-groups munged --foreground \
        --force --socket="$socket" --key-file="$home/munge/key" \
        --pid-file="$home/munge/pid" --seed-file="$home/munge/seed" \
        --log-file="$home/munge/log"
    await 20 munged munge -n --socket="$socket"
}

start_accounting() {
    local database=$home/database password
    chown mysql:mysql "$database"
    [ -d "$database/data/mysql" ] || mariadb-install-db --no-defaults --user=mysql \
        --datadir="$database/data" --skip-test-db \
        --auth-root-authentication-method=socket >"$home/log/install-db" 2>&1 </dev/null \
        || die "mariadb-install-db failed: $home/log/install-db"
    launch mariadbd mariadbd --no-defaults --user=mysql --datadir="$database/data" \
        --socket="$database/socket" --pid-file="$database/pid" --bind-address=127.0.0.1 \
        --port=$((port + 2)) --innodb-flush-log-at-trx-commit=2
    await 60 mariadbd mariadb-admin --no-defaults --socket="$database/socket" ping
    [ -s "$database/password" ] || (umask 077
        head -c 18 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$database/password")
    password=$(cat "$database/password")
    mariadb --no-defaults --socket="$database/socket" -u root <<SQL
CREATE DATABASE IF NOT EXISTS slurm;
CREATE OR REPLACE USER slurm@'127.0.0.1' IDENTIFIED BY '$password';
CREATE OR REPLACE USER slurm@localhost IDENTIFIED BY '$password';
GRANT ALL ON slurm.* TO slurm@'127.0.0.1', slurm@localhost;
SQL
    (umask 077; write_slurmdbd_conf "$password" >"$home/etc/slurmdbd.conf")
    start_daemon slurmdbd
    if ! sacctmgr -n -P show assoc account=laboratory user=root format=user | grep -q .; then
        sacctmgr -i add cluster phantomscope >/dev/null 2>&1 || true
        { sacctmgr -i add account laboratory cluster=phantomscope
          sacctmgr -i add user root cluster=phantomscope account=laboratory
        } >"$home/log/sacctmgr" 2>&1 || { cat "$home/log/sacctmgr" >&2; die "no account"; }
    fi
}

start_daemon() { # NAME
    case $1 in
        slurmctld) launch slurmctld slurmctld -D; await 30 slurmctld scontrol ping ;;
        slurmdbd) launch slurmdbd slurmdbd -D; await 60 slurmdbd sacctmgr -n show cluster ;;
        node*) mkdir -p "$home/spool/$1"; launch "$1" slurmd -D -N "$1" ;;
        *) die "no such daemon: $1" ;;
    esac
}

all_ready() {
    local ready
    ready=$(sinfo -h -N -p main -o '%N %T' | grep -cE ' (idle|mixed|allocated)$')
    [ "$ready" = "$nodes" ]
}

# ---- commands --------------------------------------------------------------
take_lock() {
    exec 9>"$home/lock"
    flock -w 120 9 || die "another cluster.sh holds $home/lock"
}

up() {
    [ "$(id -u)" = 0 ] || refuse "needs root: munge and MariaDB run as their own users"
    if [ -e $standard ] && [ "$(readlink -f $standard)" != "$(readlink -f "$SLURM_CONF")" ]
    then refuse "$standard is not ours: this host belongs to another cluster"; fi
    mkdir -p "$home"
    [ -O "$home" ] || refuse "$home belongs to somebody else"
    mkdir -p "$home"/{etc,pid,log,controller,spool,database,dev}
    chmod 755 "$home"
    take_lock
    install_packages
    start_munge
    write_slurm_conf >"$SLURM_CONF"
    write_gres_conf >"$home/etc/gres.conf"
    # Snakemake clears SLURM_CONF inside a job: the file must be at the default place.
    mkdir -p "${standard%/*}"
    ln -sfn "$SLURM_CONF" $standard
    [ "$accounting" = 0 ] || start_accounting
    start_daemon slurmctld
    local i
    for ((i = 1; i <= nodes; i++)); do start_daemon "node$i"; done
    await 60 slurmctld all_ready
    say "up: $(sinfo -h -p main -o '%D nodes, %c CPUs, %m MB, %G' | paste -sd';')"
}

down() {
    [ -d "$home/pid" ] || { say "nothing at $home"; return 0; }
    take_lock
    local name i
    if alive slurmctld; then
        timeout 10 scancel --user=root 9>&- 2>/dev/null || true
        for ((i = 0; i < 80; i++)); do
            [ -n "$(timeout 5 squeue -h 2>/dev/null)" ] || break
            sleep 0.1
        done
    fi
    for name in "$home"/pid/node*; do [ ! -e "$name" ] || halt "${name##*/}"; done
    kill_jobs 'node[0-9]*'
    for name in slurmctld slurmdbd mariadbd munged; do halt $name; done
    [ "$(readlink $standard || true)" != "$SLURM_CONF" ] || rm -f $standard
    [ "${1:-}" != --wipe ] || rm -rf "$home"
    say down
}

status() {
    local name pid
    for name in "$home"/pid/*; do
        [ -e "$name" ] || die "nothing at $home"
        name=${name##*/}
        if alive "$name"; then echo "$name $pid"; else echo "$name stopped"; fi
    done
    alive slurmctld || return 0
    sinfo -N -o '%N %P %T %C %m %G'
    squeue -o '%i %T %N %k'
}

crash() { # NAME
    local pid
    alive "$1" && kill -KILL "$pid"
    while alive "$1"; do sleep 0.05; done
    case $1 in node*) kill_jobs "$1" ;; esac
}

strand() { # NODE
    local pid
    alive "$1" && kill -KILL "$pid"
}

case ${1:-} in
    status | crash | strand | start) [ -d "$home/pid" ] || die "nothing at $home" ;;
esac
case ${1:-} in
    up) up ;;
    down) down "${2:-}" ;;
    status) status ;;
    crash | strand) "$1" "$2" ;;
    start) take_lock; start_daemon "$2" ;;
    *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
esac
