import dataclasses
import json
import os
import signal
import sys
import threading
import time

import pytest

from topographic.sweeps.workers import Work, last_words, run_in_processes, steps_done


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
