"""A real Slurm of one node on this machine, for the tests: own key, ports and folders, nothing of /etc/slurm.

Needs root, for process tracking by cgroup as real clusters have it: with the other kinds, processes survive or get
signals that they would not get there. The node has two cores. Slurm's clock runs ten times as fast, so
that it looks at time limits every 3 seconds instead of every 30; what it says of times is of little use.
"""

import contextlib
import datetime
import glob
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

FREEZER = Path("/sys/fs/cgroup/freezer")  # of cgroup v1: Slurm 22.05 can't use a v1 that is mixed with v2
FASTER = 10
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
AuthType=auth/munge
# cred_expire is also the time in seconds that a requeued job waits
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/cgroup
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
PropagateResourceLimits=NONE
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
# the node may claim more than the machine has
SlurmdParameters=config_overrides
GresTypes=gpu
ReturnToService=2
MailProg=/bin/true
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=1,bf_interval=1
PriorityType=priority/basic
KillWait=30
MinJobAge=86400
SlurmctldTimeout=3000
SlurmdTimeout=3000
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={slurmd_port} CPUs=2 RealMemory=70000 Gres=gpu:4
PartitionName=normal Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=INFINITE PriorityTier=9
"""
CGROUP_CONF = """
CgroupPlugin=cgroup/v1
CgroupMountpoint=/sys/fs/cgroup
CgroupAutomount=no
ConstrainCores=no
ConstrainRAMSpace=no
ConstrainDevices=no
"""


def why_not() -> str:
    """Return why no cluster can be started here; "" if one can."""
    if os.geteuid() != 0:
        return "not root"
    if not all(shutil.which(command) for command in ("slurmctld", "slurmd", "sbatch", "munged")):
        return "no Slurm: bash tests/run.sh --with-slurm installs it"
    if not (FREEZER / "cgroup.procs").exists():
        return f"no {FREEZER}"
    if socket.gethostbyname(socket.gethostname()) != "127.0.0.1":
        return f"{socket.gethostname()}, this machine's name, is not 127.0.0.1, where the daemons are to listen"
    return ""


class Cluster:
    """A running cluster; its variables are in `variables`, for the environment of sbatch and squeue."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.node = f"node{random.randrange(10**6)}"  # names cgroups: no two clusters of a machine may share it
        self.variables = {"SLURM_CONF": str(folder / "slurm.conf")}
        self.daemons: dict[str, subprocess.Popen] = {}

    # ---- start and stop ----

    def up(self) -> None:
        for name in ("state", "spool"):
            (self.folder / name).mkdir(parents=True)
        self.folder.chmod(0o755)
        ports = free_ports(2)
        self.host = socket.gethostname().partition(".")[0]
        conf = CONF.format(folder=self.folder, host=self.host, node=self.node, port=ports[0], slurmd_port=ports[1])
        (self.folder / "slurm.conf").write_text(conf)
        (self.folder / "cgroup.conf").write_text(CGROUP_CONF)
        for number in range(4):  # a GPU is a character device
            (self.folder / f"gpu{number}").symlink_to("/dev/null")
        (self.folder / "gres.conf").write_text(f"Name=gpu File={self.folder}/gpu[0-3]\n")
        key = self.folder / "munge.key"
        key.touch(0o600)
        key.write_bytes(random.randbytes(1024))
        self.start(
            "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={self.folder}/munge.socket",
            f"--log-file={self.folder}/munged.log", f"--pid-file={self.folder}/munged.pid",
            f"--seed-file={self.folder}/munged.seed", "--num-threads=2",
        )  # fmt: skip
        wait_until("munged's socket", (self.folder / "munge.socket").exists)
        faketime = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
        self.began = datetime.datetime.now()
        self.start(
            "slurmctld", "-D", "-f", f"{self.folder}/slurm.conf",
            variables={"LD_PRELOAD": faketime[0], "FAKETIME": f"+0 x{FASTER}"},
        )  # fmt: skip
        self.start_slurmd()
        wait_until("the node", lambda: "idle" in self.ask("sinfo", "-h", "-o", "%T"))

    def start(self, command: str, *options: str, variables: dict[str, str] | None = None) -> None:
        with open(self.folder / "daemons.log", "ab") as log:
            self.daemons[command] = subprocess.Popen(
                [command, *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
                env={**os.environ, **self.variables, **(variables or {})}, start_new_session=True,
            )  # fmt: skip

    def start_slurmd(self) -> None:
        self.start("slurmd", "-D", "-N", self.node, "-f", f"{self.folder}/slurm.conf")

    def down(self) -> None:
        with contextlib.suppress(subprocess.SubprocessError):
            self.ask("scancel", "--quiet", "--full", "--signal=KILL", "--user=root")
            self.ask("scancel", "--quiet", "--user=root")
            wait_until("the end of all jobs", lambda: not self.ask("squeue", "-h"), seconds=10, forgive=True)
        for name in ("slurmd", "slurmctld", "munged"):
            if name in self.daemons:
                self.daemons[name].terminate()
                self.daemons[name].wait(timeout=30)
        for process in self.processes():  # slurmstepd outlives slurmd
            os.kill(process, signal.SIGKILL)
        cgroup = FREEZER / f"slurm_{self.node}"
        wait_until("empty cgroups", lambda: self.remove_cgroups(cgroup), seconds=10, forgive=True)

    @staticmethod
    def remove_cgroups(cgroup: Path) -> bool:
        for folder in sorted(cgroup.rglob("*/"), reverse=True):
            with contextlib.suppress(OSError):
                folder.rmdir()
        with contextlib.suppress(OSError):
            cgroup.rmdir()
        return not cgroup.exists()

    def processes(self, of_jobs: bool = False) -> list[int]:
        """Return the processes whose environment names this cluster, or only those of jobs; this one left out."""
        mine = f"SLURM_CONF={self.folder}/slurm.conf".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                variables = (process / "environ").read_bytes().split(b"\0")
                is_of_job = b"slurmstepd" in (process / "comm").read_bytes() or any(
                    variable.startswith(b"SLURM_JOB_ID=") for variable in variables
                )
                if mine in variables and int(process.name) != os.getpid() and (is_of_job or not of_jobs):
                    found.append(int(process.name))
        return found

    def kill_slurmd(self) -> None:
        self.daemons["slurmd"].kill()
        self.daemons["slurmd"].wait()

    def crash_node(self) -> None:
        """Kill slurmd and every process of the node's jobs, as when its power fails."""
        self.kill_slurmd()
        while processes := self.processes(of_jobs=True):
            for process in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)

    # ---- use ----

    def ask(self, *command: str) -> str:
        """Return what one of Slurm's commands prints; CalledProcessError if it fails."""
        done = subprocess.run(
            command, env={**os.environ, **self.variables}, capture_output=True, text=True, timeout=60, check=True
        )
        return done.stdout.strip()

    def now(self) -> datetime.datetime:
        """Return the time as slurmctld sees it."""
        return self.began + FASTER * (datetime.datetime.now() - self.began)

    def job(self, number: str) -> dict[str, str]:
        """Return what Slurm knows of a job, of one that has ended too: JobState, Restarts, ExitCode…"""
        words = self.ask("scontrol", "--oneliner", "show", "job", number).split()
        return dict(word.partition("=")[::2] for word in words if "=" in word)


def free_ports(n: int) -> list[int]:
    """Return n free TCP ports below those that the system hands out by itself."""
    while True:
        first = random.randrange(20_000, 32_000 - n)
        try:
            for port in range(first, first + n):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
            return list(range(first, first + n))
        except OSError:
            continue


def wait_until(what: str, is_so, seconds: float = 60, forgive: bool = False) -> None:
    """Wait until is_so() is true; TimeoutError that names `what` after so many seconds, unless forgiven."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(subprocess.SubprocessError):
            if is_so():
                return
        if time.monotonic() > deadline:
            if forgive:
                return
            raise TimeoutError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.05)
