import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tqdm import tqdm

from topographic.cli import COMMANDS, main
from topographic.cli import report as room
from topographic.objectives.config import expect


def test_python_dash_m_is_topo():
    done = subprocess.run([sys.executable, "-m", "topographic", "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert all(name in done.stdout for name in COMMANDS)


def test_words_that_name_no_command(capsys):
    assert main(["dance"]) == 2
    assert "unknown command 'dance'; expected one of" in capsys.readouterr().err
    assert main([]) == 2
    assert main(["--version"]) == 0


def test_a_traceback_on_demand(monkeypatch):
    monkeypatch.setenv("TOPO_TRACEBACK", "1")
    with pytest.raises(ValueError, match="no run folder given"):
        main(["report"])


def test_the_harness_gets_its_words_and_knows_our_models(monkeypatch):
    from transformers import AutoConfig

    from topographic import behaviour

    seen = []
    monkeypatch.setattr(
        behaviour, "harness_command", lambda words: seen.append((words, AutoConfig.for_model("topolm")))
    )
    assert main(["lm-eval", "--model", "hf"]) == 0
    assert seen[0][0] == ["--model", "hf"]
    assert seen[0][1].model_type == "topolm"


def test_a_missing_harness_is_one_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    assert main(["lm-eval"]) == 1
    line = capsys.readouterr().err.strip()
    assert line.startswith("topo lm-eval:")
    assert "topographic[eval]" in line


def failing(monkeypatch, fail):
    """`topo report` that fails."""
    monkeypatch.setattr(room, "report", lambda command: fail())
    return ["report", "somewhere"]


def refuse():
    expect(False, "width", "a\nb", "a number")


@pytest.mark.parametrize(
    ("fail", "line"),
    [
        (refuse, "topo report: width=a b; expected a number: change it in the configuration"),
        (lambda: Path("/absent").read_text(), "topo report: [Errno 2] No such file or directory: '/absent'"),
    ],
)
def test_what_somebody_can_mend_is_one_line(fail, line, monkeypatch, capsys):
    assert main(failing(monkeypatch, fail)) == 1
    assert capsys.readouterr().err == f"{line}\n"
    monkeypatch.setenv("TOPO_TRACEBACK", "1")
    with pytest.raises((ValueError, OSError)):
        main(["report", "somewhere"])


@pytest.mark.parametrize(
    ("fail", "error"),
    [
        (lambda: np.zeros(3).reshape(2), ValueError),
        (lambda: len(3), TypeError),
        (lambda: json.loads("{"), ValueError),
        (lambda: __import__("no_such_module"), ImportError),
        (lambda: {}["a"], KeyError),
        (lambda: np.float64(1.0).a, AttributeError),
    ],
)
def test_a_bug_keeps_its_traceback(fail, error, monkeypatch, capsys):
    with pytest.raises(error):
        main(failing(monkeypatch, fail))
    assert capsys.readouterr().err == ""


def test_a_bug_ends_with_status_1():
    code = (
        "import sys; from topographic import cli; from topographic.cli import report\n"
        "report.report = lambda command: len(3)\n"
        "sys.exit(cli.main(['report', 'somewhere']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith("TypeError: object of type 'int' has no len()\n")


@pytest.mark.parametrize("leave", [True, False])
def test_the_message_comes_last_on_a_line_of_its_own_below_the_bars(leave, monkeypatch, capsys):
    def fail():
        for _ in tqdm(range(3), desc="outer", leave=leave):
            for _ in tqdm(range(3), desc="inner", leave=False):
                refuse()

    assert main(failing(monkeypatch, fail)) == 1
    shown = capsys.readouterr().err
    *above, last = shown.splitlines()
    assert last == "topo report: width=a b; expected a number: change it in the configuration"
    assert "outer" in "".join(above)
    assert shown[: shown.index("topo report")][-1] == ("\n" if leave else "\r")


def test_bars_that_nobody_closes_end_before_the_message(monkeypatch, capsys):
    bars = []

    def fail():
        bars.extend([tqdm(total=3, desc="outer"), tqdm(total=3, desc="inner", leave=False)])
        bars[0].update(1)
        refuse()

    assert main(failing(monkeypatch, fail)) == 1
    *above, last = capsys.readouterr().err.splitlines()
    assert last.startswith("topo report: width=a b")
    assert "outer:  33%" in above[-1]


def test_an_interruption_says_how_to_go_on(monkeypatch, capsys):
    def fail():
        for _ in tqdm(range(3), leave=False):
            raise KeyboardInterrupt

    assert main(failing(monkeypatch, fail)) == 130
    assert capsys.readouterr().err.splitlines()[-1] == (
        "topo report: interrupted; the same command goes on where it stopped"
    )


@pytest.mark.parametrize("name", ["demo", "train", "convert", "report"])
@pytest.mark.parametrize("words", [["--help"], ["no.such.key=1"]])
def test_help_and_wrong_words_need_no_torch(name, words):
    code = (
        "import sys\n"
        "from topographic.cli import main\n"
        "try: status = main(sys.argv[1:])\n"
        "except SystemExit as left: status = left.code\n"
        "loaded = sorted({'torch', 'transformers', 'matplotlib'} & set(sys.modules))\n"
        "sys.exit(f'{status} {loaded}')"
    )
    done = subprocess.run([sys.executable, "-c", code, name, *words], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == f"{0 if words == ['--help'] else 2} []"
