import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from topographic.sweeps.executors import (
    CellJob,
    SlurmConfig,
    Work,
    last_words,
    run_here,
    run_in_processes,
    run_on_slurm,
    steps_done,
)

submitit = pytest.importorskip("submitit")


def work(folder, name, code, n_steps=10):
    return Work(name, [sys.executable, "-c", code], folder / name, n_steps)


def test_all_run_and_failures_are_told_by_their_last_words(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    code = "import os; print(os.environ['OMP_NUM_THREADS'])"
    failing = "import sys; print('topo sweep: too small\\n', file=sys.stderr); sys.exit(1)"
    jobs = [
        work(tmp_path, "a", code),
        work(tmp_path, "b", failing),
        work(tmp_path, "c", "import sys; sys.exit(3)"),
        work(tmp_path, "d", code),
    ]
    failed = run_in_processes(jobs, workers=2, threads=3)
    assert failed == {"b": "too small", "c": "ended with status 3"}
    assert [(tmp_path / name / "log.txt").read_text() for name in "ad"] == ["3\n", "3\n"]


def test_no_more_than_so_many_run_at_once(tmp_path):
    code = (
        "import os, pathlib, time; mine = pathlib.Path({0!r}) / str(os.getpid()); mine.touch(); time.sleep(0.3); "
        "print(len(list(mine.parent.iterdir()))); mine.unlink()"
    )
    (tmp_path / "running").mkdir()
    jobs = [work(tmp_path, name, code.format(str(tmp_path / "running"))) for name in "abcd"]
    assert run_in_processes(jobs, workers=1, threads=1) == {}
    assert {(tmp_path / name / "log.txt").read_text() for name in "abcd"} == {"1\n"}


def test_each_worker_has_accelerators_of_its_own(tmp_path, monkeypatch):
    code = "import os, time; time.sleep(1); print(os.environ['CUDA_VISIBLE_DEVICES'])"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    one = [dataclasses.replace(work(tmp_path, name, code), processes=2) for name in "ab"]
    assert run_in_processes(one, workers=2, threads=1) == {}
    assert {(tmp_path / name / "log.txt").read_text() for name in "ab"} == {"4,5\n", "6,7\n"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert run_in_processes([work(tmp_path, name, code) for name in "cd"], workers=2, threads=1) == {}
    assert {(tmp_path / name / "log.txt").read_text() for name in "cd"} == {"3\n"}


def test_an_interrupted_sweep_leaves_no_process_behind(tmp_path):
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    threading.Timer(2.0, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_in_processes([work(tmp_path, "a", code), work(tmp_path, "b", code)], workers=2, threads=1)
    assert time.monotonic() - started < 30
    for name in "ab":
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / name / "log.txt").read_text()), 0)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_steps_are_read_from_the_last_whole_line(tmp_path):
    assert steps_done(tmp_path) == 0
    lines = [json.dumps({"step": step, "loss": 1.0}) for step in (1, 20)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 30, "lo')
    assert steps_done(tmp_path) == 20
    (tmp_path / "metrics.jsonl").write_text("")
    assert steps_done(tmp_path) == 0


def test_last_words_skip_empty_lines_and_bars(tmp_path):
    assert last_words(tmp_path / "none") == ""
    (tmp_path / "log.txt").write_bytes(b"training: 10%\rtraining: 20%\nValueError: no\n\n")
    assert last_words(tmp_path / "log.txt") == "ValueError: no"


SBATCH = """#!{python}
# a cluster of one machine: every task of the array starts at once, in a session of its own
import os, pathlib, re, subprocess, sys
state = pathlib.Path({state!r})
number = 100 + len(list(state.glob("*.sbatch")))
script = pathlib.Path(sys.argv[1]).read_text()
(state / f"{{number}}.sbatch").write_text(script)
array = re.search(r"--array=0-(\\d+)", script)
for task in range(int(array.group(1)) + 1 if array else 1):
    name = f"{{number}}_{{task}}" if array else str(number)
    where = dict(SLURM_JOB_ID=str(number + task), SLURM_NTASKS="1", SLURM_PROCID="0", SLURM_LOCALID="0")
    where |= dict(SLURM_NODEID="0", SLURM_JOB_NUM_NODES="1", SLURM_NNODES="1", SLURM_JOB_NODELIST="here")
    if array:
        where |= dict(SLURM_ARRAY_JOB_ID=str(number), SLURM_ARRAY_TASK_ID=str(task))
    process = subprocess.Popen(["bash", sys.argv[1]], env={{**os.environ, **where}}, start_new_session=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    (state / f"{{name}}.pid").write_text(str(process.pid))
print(f"Submitted batch job {{number}}")
"""
SRUN = """#!{python}
import os, sys
words = sys.argv[1:]
start = next(index for index, word in enumerate(words) if "python" in word)
os.execvp(words[start], words[start:])
"""
SACCT = """#!{python}
import os, pathlib
print("JobID|State|NodeList")
for file in sorted(pathlib.Path({state!r}).glob("*.pid")):
    process = pathlib.Path("/proc") / file.read_text() / "stat"
    alive = process.exists() and process.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    print(f"{{file.stem}}|{{'RUNNING' if alive else 'FAILED'}}|here")
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch) -> Path:
    """Programs that answer as SLURM's do; what was submitted lies in the folder."""
    state, programs = tmp_path / "state", tmp_path / "programs"
    state.mkdir()
    programs.mkdir()
    for name, text in (("sbatch", SBATCH), ("srun", SRUN), ("sacct", SACCT), ("scancel", "#!/bin/sh\n")):
        (programs / name).write_text(text.format(python=sys.executable, state=str(state)))
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    yield state
    submitit.SlurmJob.watcher.clear()


THREADS = "import os; print(os.environ['OMP_NUM_THREADS'])"
FAILING = "import sys; print('topo sweep: too small', file=sys.stderr); sys.exit(1)"


def test_jobs_of_one_array_run_and_failures_are_told(cluster, tmp_path, capsys):
    jobs = [work(tmp_path, "a", THREADS), work(tmp_path, "b", FAILING), work(tmp_path, "c", THREADS)]
    config = SlurmConfig(partition="gpu", gpus_per_node=2, cpus_per_task=3, mem_gb=8.0, at_once=2, more={"qos": "long"})
    failed = run_on_slurm(jobs, config, folder=tmp_path / "submitit", every_s=0.2)
    assert failed == {"b": "too small"}
    assert [(tmp_path / name / "log.txt").read_text() for name in "ac"] == ["3\n", "3\n"]
    assert "3 jobs submitted, 0 found; scancel 100 stops them" in capsys.readouterr().err
    (script,) = cluster.glob("*.sbatch")
    asked = script.read_text()
    for flag in ("partition=gpu", "gpus-per-node=2", "cpus-per-task=3", "mem=8GB", "array=0-2%2", "qos=long"):
        assert f"#SBATCH --{flag}" in asked, flag
    assert "time=1440" in asked
    assert not list(tmp_path.rglob("job.json")), "nothing is left to wait for"


def test_a_second_call_waits_for_the_jobs_of_the_first(cluster, tmp_path, capsys):
    slow = work(tmp_path, "a", "import time; time.sleep(2); print('once')")
    code = (
        "from pathlib import Path; from topographic.sweeps.executors import *; "
        f"run_on_slurm([Work('a', {list(slow.words)!r}, Path({str(slow.run_folder)!r}), 10)], SlurmConfig(), "
        f"folder=Path({str(tmp_path / 'submitit')!r}), every_s=0.2)"
    )
    first = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while not (tmp_path / "a" / "job.json").is_file() and time.monotonic() < until:
        time.sleep(0.1)
    first.kill()  # whoever waited is gone, the job is not
    first.wait()
    assert run_on_slurm([slow], SlurmConfig(), folder=tmp_path / "submitit", every_s=0.2) == {}
    assert "0 jobs submitted, 1 found" in capsys.readouterr().err
    assert (tmp_path / "a" / "log.txt").read_text() == "once\n"


@pytest.mark.parametrize("known", [True, False])
def test_a_job_that_is_over_or_forgotten_is_submitted_anew(cluster, tmp_path, capsys, known):
    if known:
        (cluster / "99.pid").write_text("999999999")  # of no process: the scheduler calls it failed
    again = work(tmp_path, "a", "print('again')")
    again.run_folder.mkdir()
    (again.run_folder / "job.json").write_text(json.dumps({"job_id": "99"}))
    failed = run_on_slurm([again], SlurmConfig(), folder=tmp_path / "submitit", every_s=0.2)
    assert failed == {}, [path.read_text() for path in (tmp_path / "submitit").glob("*.err")]
    assert again.log.read_text() == "again\n"
    assert "1 jobs submitted, 0 found" in capsys.readouterr().err


def test_submitit_runs_the_same_jobs_on_this_machine(tmp_path):
    jobs = [work(tmp_path, "a", THREADS), work(tmp_path, "b", FAILING)]
    failed = run_on_slurm(jobs, SlurmConfig(), folder=tmp_path / "submitit", cluster="local", every_s=0.2)
    assert failed == {"b": "too small"}
    assert run_on_slurm([], SlurmConfig(), folder=tmp_path / "submitit") == {}


def test_a_job_that_runs_out_of_time_stops_its_command_and_comes_back(tmp_path):
    job = CellJob(work(tmp_path, "a", "import time; time.sleep(60)"), 1)
    job._process = subprocess.Popen(job.work.words)
    again = job.checkpoint()
    assert job._process.poll() is not None
    assert isinstance(again, submitit.helpers.DelayedSubmission)
    assert again.function.work == job.work


def test_without_a_cluster_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OSError, match=r"srun.*or with executor=local"):
        run_on_slurm([work(tmp_path, "a", THREADS)], SlurmConfig(), folder=tmp_path / "submitit")


def test_without_submitit_it_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ImportError, match=r"pip install 'topographic\[slurm\]'"):
        run_on_slurm([work(tmp_path, "a", THREADS)], SlurmConfig(), folder=tmp_path / "submitit")


@pytest.mark.parametrize("wrong", [{"time_min": 0}, {"cpus_per_task": 0}, {"at_once": 0}, {"requeues": -1}])
def test_what_no_scheduler_accepts(wrong):
    with pytest.raises(ValueError, match="expected at least 1 of the first three and 0 of the last"):
        SlurmConfig(**wrong)


def test_cells_run_here_one_after_another_and_a_bug_is_no_failure(tmp_path):
    work = [Work(name, [], tmp_path / name, 1) for name in ("a", "b", "c")]
    ran = []

    def run(name):
        ran.append(name)
        if name == "b":
            raise ValueError("no\nroom")

    assert run_here(work, run=run) == {"b": "no room"}
    assert ran == ["a", "b", "c"]
    with pytest.raises(ZeroDivisionError):
        run_here(work, run=lambda name: 1 / 0)
