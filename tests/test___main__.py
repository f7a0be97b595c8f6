import subprocess
import sys

import pytest

from topographic.cli import COMMANDS, main


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
