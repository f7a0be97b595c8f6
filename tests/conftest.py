"""Fixtures shared by all tests lie in `fixtures`."""

FIXTURES = ("everywhere", "ctranslate2_files", "diffusion_runs", "heard_stories", "trained_runs", "written_runs")


def pytest_configure(config):
    """Load the fixtures where tests run: the process that hands them out to workers waits for no import of theirs."""
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        for name in FIXTURES:
            config.pluginmanager.import_plugin(f"fixtures.{name}")
