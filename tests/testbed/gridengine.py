"""A private Grid Engine cell: sge_qmaster and one sge_execd on this machine, with a root folder of its own.

The settings follow the manual pages of Grid Engine 8.1.9: bootstrap(5), sge_conf(5), sched_conf(5), complex(5).
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Literal

from tests.testbed import scratch
from tests.testbed.daemon import Daemon, run
from tests.testbed.errors import MissingProgram, program
from tests.testbed.ports import free_ports
from tests.testbed.server import Server
from tests.testbed.waiting import wait_for

PROGRAMS = Path("/usr/lib/gridengine")
SHARE = Path("/usr/share/gridengine")

HOST = """\
hostname              {host}
load_scaling          NONE
complex_values        gpu={gpus}
user_lists            NONE
xuser_lists           NONE
projects              NONE
xprojects             NONE
usage_scaling         NONE
report_variables      NONE
"""

QUEUE = """\
qname                 {name}
hostlist              @allhosts
seq_no                {seq_no}
load_thresholds       NONE
suspend_thresholds    NONE
nsuspend              1
suspend_interval      00:05:00
priority              0
min_cpu_interval      00:05:00
processors            UNDEFINED
qtype                 BATCH INTERACTIVE
ckpt_list             NONE
pe_list               smp
rerun                 FALSE
slots                 {slots}
tmpdir                {tmpdir}
shell                 /bin/sh
prolog                NONE
epilog                NONE
shell_start_mode      unix_behavior
starter_method        NONE
suspend_method        NONE
resume_method         NONE
terminate_method      NONE
notify                00:00:02
owner_list            NONE
user_lists            NONE
xuser_lists           NONE
subordinate_list      NONE
complex_values        NONE
projects              NONE
xprojects             NONE
calendar              NONE
initial_state         default
s_rt                  INFINITY
h_rt                  {h_rt}
s_cpu                 INFINITY
h_cpu                 INFINITY
s_fsize               INFINITY
h_fsize               INFINITY
s_data                INFINITY
h_data                INFINITY
s_stack               INFINITY
h_stack               INFINITY
s_core                INFINITY
h_core                INFINITY
s_rss                 INFINITY
h_rss                 INFINITY
s_vmem                INFINITY
h_vmem                INFINITY
"""

PARALLEL_ENVIRONMENT = """\
pe_name               smp
slots                 9999
user_lists            NONE
xuser_lists           NONE
start_proc_args       NONE
stop_proc_args        NONE
allocation_rule       $pe_slots
control_slaves        FALSE
job_is_first_task     TRUE
urgency_slots         min
accounting_summary    FALSE
qsort_args            NONE
"""


class GridEngineCell(Server):
    """A Grid Engine cell with `slots` slots and `gpus` of the consumable `gpu`, in two queues.

    all.q has no time limit, debug.q one of ten minutes; the parallel environment is `smp`.

    A context manager. Blocks for some 3 s to start. Jobs of any user of this machine may run on it.
    """

    def __init__(self, slots: int = 4, gpus: int = 2) -> None:
        self.slots, self.gpus = slots, gpus
        self._folder = Path()
        self._ports: list[int] = []
        self._qmaster: Daemon | None = None
        self._execd: Daemon | None = None

    @property
    def root(self) -> Path:
        """SGE_ROOT."""
        return self._folder / "root"

    @property
    def bin(self) -> Path:
        """A folder that stands first in PATH: empty, but for what `break_qstat` puts there."""
        return self._folder / "bin"

    def login_env(self) -> dict[str, str]:
        """What a login server must set for its users (see `ssh.SshServer`)."""
        return {
            "SGE_ROOT": str(self.root),
            "SGE_CELL": "default",
            "SGE_QMASTER_PORT": str(self._ports[0]),
            "SGE_EXECD_PORT": str(self._ports[1]),
            "TESTBED_PATH": str(self.bin),
        }

    def env(self) -> dict[str, str]:
        """The environment in which the Grid Engine commands find this cell, with everything else as it is here."""
        return {**os.environ, **self.login_env(), "PATH": f"{self.bin}:{os.environ['PATH']}"}

    def command(self, *argv: str) -> str:
        """Runs a Grid Engine command as root, a manager of this cell, and returns its stdout."""
        return run(argv, what=f"{argv[0]} in the private cell", env={**os.environ, **self.login_env()})

    def start(self) -> None:
        """Makes the cell, starts its two servers and waits until its queues take jobs."""
        if not (PROGRAMS / "spooldefaults").exists():
            raise MissingProgram(
                f"Grid Engine's master ({PROGRAMS}/spooldefaults) is not installed. "
                "Run scripts/install-system-packages as root (make test does), then run the tests again."
            )
        self._folder = scratch.folder("gridengine")
        self._ports = free_ports(2)
        self._make_cell()
        self._qmaster = self._daemon("sge_qmaster")
        self._qmaster.start()
        self._configure()
        self._execd = self._daemon("sge_execd")
        self._execd.start()
        wait_for(self._takes_jobs, "the queues to take jobs", deadline_s=60, story=self._story)

    def stop(self) -> None:
        """Kills every job and server of this cell. May be called again."""
        for daemon in (self._execd, self._qmaster):
            if daemon is not None:
                daemon.kill()  # asked to end, the master takes 5 s of leave
                daemon.close()
        self._execd = self._qmaster = None
        if self._folder.name:
            shutil.rmtree(self._folder, ignore_errors=True)

    def break_qstat(self, how: Literal["error", "garbage"] = "error") -> None:
        """Has qstat fail or print nonsense for those who run with `env` or have logged in with `login_env`."""
        body = {
            "error": "echo 'error: commlib error: got select error (Connection refused)' >&2; exit 1",
            "garbage": r"printf '<?xml version=\0\377'; exit 0",
        }[how]
        script = self.bin / ".qstat"
        script.write_text(f"#!/bin/sh\n{body}\n")
        script.chmod(0o755)
        script.rename(self.bin / "qstat")

    def mend(self) -> None:
        """Undoes `break_qstat`. May be called again."""
        (self.bin / "qstat").unlink(missing_ok=True)

    def stop_qmaster(self) -> None:
        """Stops the master: commands fail, jobs go on."""
        assert self._qmaster is not None, "the cell is not started"
        self._qmaster.stop()

    def start_qmaster(self) -> None:
        """Starts the master again with the jobs it knew."""
        assert self._qmaster is not None, "the cell is not started"
        self._qmaster.start()

    # How it is made

    def _make_cell(self) -> None:
        common = self.root / "default" / "common"
        spool = self._folder / "spool"
        for folder in (common, spool / "qmaster" / "job_scripts", spool / "db", spool / "execd", self.bin):
            folder.mkdir(parents=True)
        (self._folder / "tmp").mkdir()
        (self._folder / "tmp").chmod(0o1777)
        arch = run([str(SHARE / "util" / "arch")], what="asking Grid Engine for its name of this machine").strip()
        for name in ("bin", "lib", "utilbin"):
            (self.root / name).mkdir()
            (self.root / name / arch).symlink_to(PROGRAMS)
        (self.root / "util").symlink_to(SHARE / "util")
        (common / "bootstrap").write_text(
            "admin_user none\ndefault_domain none\nignore_fqdn true\nspooling_method berkeleydb\n"
            f"spooling_lib libspoolb\nspooling_params {spool}/db\nbinary_path {PROGRAMS}\n"
            f"qmaster_spool_dir {spool}/qmaster\nsecurity_mode none\n"
            "listener_threads 2\nworker_threads 2\nscheduler_threads 1\n"
        )
        host = socket.gethostname()
        (common / "act_qmaster").write_text(f"{host}\n")
        # Where this machine's name stands for 127.0.0.1, the way back gives another name, and Grid Engine refuses it.
        (common / "host_aliases").write_text(" ".join(dict.fromkeys([host, *_other_names(host)])) + "\n")
        (self._folder / "configuration").write_text(self._configuration())
        env = {**os.environ, **self.login_env()}
        run([str(PROGRAMS / "spoolinit"), "berkeleydb", "libspoolb", f"{spool}/db", "init"], what="spoolinit", env=env)
        resources = SHARE / "util" / "resources"
        for words in (
            ("configuration", f"{self._folder}/configuration"),
            ("complexes", str(resources / "centry")),
            ("usersets", str(resources / "usersets")),
            ("managers", "root"),
        ):
            run([str(PROGRAMS / "spooldefaults"), *words], what="filling Grid Engine's database", env=env)

    def _configuration(self) -> str:
        first_gid = random.Random(os.urandom(8)).randrange(100_000, 900_000, 100)
        ours = {
            "execd_spool_dir": f"{self._folder}/spool/execd",
            "load_report_time": "00:00:01",
            # What ended stands in the accounting file at once (the default is up to 15 s later).
            "reporting_params": "accounting=true accounting_flush_time=00:00:00 reporting=false flush_time=00:00:01 "
            "joblog=false sharelog=00:00:00",
            # Grid Engine finds a job's processes by a group that it gives them: other cells must have other groups.
            "gid_range": f"{first_gid}-{first_gid + 99}",
            "min_uid": "0",
            "min_gid": "0",
        }
        lines = []
        for line in (SHARE / "default-configuration").read_text().splitlines():
            words = line.split()
            if words and not line.startswith("#"):
                lines.append(f"{words[0]} {ours.get(words[0], ' '.join(words[1:]))}")
        return "\n".join(lines) + "\n"

    def _configure(self) -> None:
        host = socket.gethostname()
        self.command("qconf", "-as", host)
        complexes = self.command("qconf", "-sc") + "gpu gpu INT <= YES YES 0 0\n"
        self.command("qconf", "-Mc", self._file("complexes", complexes))
        self.command("qconf", "-Ae", self._file("host", HOST.format(host=host, gpus=self.gpus)))
        self.command("qconf", "-Ahgrp", self._file("group", f"group_name @allhosts\nhostlist {host}\n"))
        self.command("qconf", "-Ap", self._file("pe", PARALLEL_ENVIRONMENT))
        for seq_no, (name, h_rt) in enumerate((("all.q", "INFINITY"), ("debug.q", "00:10:00"))):
            tmpdir = self._folder / "tmp"
            text = QUEUE.format(name=name, h_rt=h_rt, slots=self.slots, seq_no=seq_no, tmpdir=tmpdir)
            self.command("qconf", "-Aq", self._file(name, text))
        quick = {"schedule_interval": "0:0:1", "flush_submit_sec": "1", "flush_finish_sec": "1"}
        scheduler = [line.split(None, 1) for line in self.command("qconf", "-ssconf").splitlines()]
        text = "".join(f"{name} {quick.get(name, value)}\n" for name, value in scheduler)
        self.command("qconf", "-Msconf", self._file("scheduler", text))

    def _file(self, name: str, text: str) -> str:
        path = self._folder / name
        path.write_text(text)
        return str(path)

    def _daemon(self, name: str) -> Daemon:
        return Daemon(
            name,
            [str(PROGRAMS / name)],
            folder=self._folder,
            # SGE_ND: not a daemon, stay in the foreground.
            env={"PATH": os.defpath, "LD_LIBRARY_PATH": str(PROGRAMS), "SGE_ND": "1", **self.login_env()},
            ready=self._qmaster_answers,
            deadline_s=60,
        )

    def _qmaster_answers(self) -> bool:
        done = subprocess.run(
            [program("qconf"), "-sh"],
            env={**os.environ, **self.login_env()},
            capture_output=True,
            check=False,
            timeout=60,
        )
        return done.returncode == 0

    def _takes_jobs(self) -> bool:
        # The state column is empty once the node has reported its load; `au` until then.
        lines = [line.split() for line in self.command("qstat", "-f").splitlines() if "@" in line]
        return bool(lines) and all(len(words) == 5 and words[3] != "-NA-" for words in lines)

    def _story(self) -> str:
        messages = self._folder / "spool" / "qmaster" / "messages"
        return self.command("qstat", "-f") + (messages.read_text() if messages.exists() else "")


def _other_names(host: str) -> list[str]:
    """The names that a look-up of this machine's address gives back."""
    try:
        name, aliases, _ = socket.gethostbyaddr(socket.gethostbyname(host))
    except OSError:
        return ["localhost"]
    return [name, *aliases]
