"""Import every module of the library in this process; a run with core dependencies only must succeed."""

import importlib
import pkgutil

import topographic


def main() -> None:
    """Import one module after another and say how many there were."""
    names = [module.name for module in pkgutil.walk_packages(topographic.__path__, "topographic.")]
    for name in names:
        importlib.import_module(name)
    assert len(names) > 20, names


if __name__ == "__main__":
    main()
