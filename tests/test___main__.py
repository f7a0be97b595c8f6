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
