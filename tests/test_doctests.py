"""The examples in docstrings run."""

import doctest
import importlib
import pkgutil

import pytest

import topographic

MODULES = [module.name for module in pkgutil.walk_packages(topographic.__path__, "topographic.")]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert doctest.testmod(importlib.import_module(name)).failed == 0, capsys.readouterr().out


def test_there_are_examples():
    found = [doctest.DocTestFinder().find(importlib.import_module(name)) for name in MODULES]
    assert sum(bool(test.examples) for tests in found for test in tests) >= 40
