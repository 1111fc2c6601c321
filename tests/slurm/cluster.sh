# A Slurm cluster of one node, this machine, for tests; to be sourced. Needs no cgroups, no service
# of the system and no root: it has daemons, ports and keys of its own, all in one folder.

# cluster_start FOLDER: returns when the node takes jobs. SLURM_CONF is set for squeue and others.
cluster_start() {
  local folder=$1 host port user attempt
  PATH=$PATH:/usr/sbin
  host=$(hostname -s)
  user=$(id -un)
  port=$((20000 + RANDOM % 20000))
  mkdir -p "$folder/state" "$folder/spool"
  chmod 755 "$folder"
  (umask 077 && head -c 128 /dev/urandom >"$folder/munge.key")
  munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" \
    --pid-file="$folder/munged.pid" --log-file="$folder/munged.log" --seed-file="$folder/munge.seed"
  export SLURM_CONF=$folder/slurm.conf
  {
    echo "ClusterName=test"
    echo "SlurmctldHost=$host(127.0.0.1)"
    echo "SlurmctldPort=$port"
    echo "SlurmdPort=$((port + 1))"
    echo "SlurmUser=$user"
    echo "SlurmdUser=$user"
    # A task that goes back into the queue waits until its credentials have expired.
    echo "AuthInfo=socket=$folder/munge.socket,cred_expire=5"
    echo "StateSaveLocation=$folder/state"
    echo "SlurmdSpoolDir=$folder/spool"
    echo "SlurmctldPidFile=$folder/slurmctld.pid"
    echo "SlurmdPidFile=$folder/slurmd.pid"
    echo "SlurmctldLogFile=$folder/slurmctld.log"
    echo "SlurmdLogFile=$folder/slurmd.log"
    echo "ProctrackType=proctrack/linuxproc"
    echo "TaskPlugin=task/none"
    echo "JobAcctGatherType=jobacct_gather/none"
    echo "AccountingStorageType=accounting_storage/none"
    echo "SelectType=select/cons_tres"
    echo "SelectTypeParameters=CR_Core"
    echo "SchedulerParameters=batch_sched_delay=0,sched_min_interval=100000"
    echo "KillWait=30"
    echo "ReturnToService=2"
    echo "NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN"
    echo "PartitionName=test Nodes=$host Default=YES MaxTime=INFINITE State=UP"
  } >"$SLURM_CONF"
  slurmctld
  slurmd
  for ((attempt = 0; attempt < 150; ++attempt)); do
    [[ $(sinfo --noheader --format=%T 2>/dev/null) != *idle* ]] || return 0
    sleep 0.2
  done
  tail "$folder"/*.log >&2
  echo "the cluster has not come up" >&2
  return 1
}

# cluster_stop FOLDER
cluster_stop() {
  local daemon id attempt
  for daemon in slurmd slurmctld munged; do
    [[ -s $1/$daemon.pid ]] || continue
    id=$(<"$1/$daemon.pid")
    kill "$id" 2>/dev/null || continue
    for ((attempt = 0; attempt < 100; ++attempt)); do
      kill -0 "$id" 2>/dev/null || break
      sleep 0.1
    done
  done
}
