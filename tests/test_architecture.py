"""The house rules that a machine can check."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "topographic"
FILES = sorted(path for path in PACKAGE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
EXTRAS = {
    "accelerate": "training",
    "datasets": "training stimuli",
    "tokenizers": "training",
    "matplotlib": "drawing plots",
    "lm_eval": "behaviour",
    "himalaya": "brain",
    "nilearn": "brain",
    "nibabel": "brain",
    "h5py": "brain",
    "pyarrow": "training",
    "sklearn": "training brain maps",
    "PIL": "stimuli diffusion",
    "diffusers": "diffusion",
    "torchmetrics": "diffusion",
    "submitit": "sweeps",
    "jinja2": "pages",
    "brainsmash": "maps",
}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def run(*command: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)


def test_imports_go_down_only():
    script = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([script, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ignore_imports" not in (ROOT / "pyproject.toml").read_text()


def test_ruff_is_content():
    for command in (["check", "."], ["format", "--check", "."]):
        done = run("-m", "ruff", *command)
        assert done.returncode == 0, done.stdout + done.stderr


def test_importing_everything_is_silent_and_needs_no_network():
    closed = (
        "import socket, runpy\n"
        "def refuse(*_, **__): raise OSError('network at import')\n"
        "socket.socket.connect = refuse\n"
        "import random, numpy, torch\n"
        "before = random.getstate(), numpy.random.get_state()[1].sum(), torch.get_rng_state().sum()\n"
        "runpy.run_path('tests/import_every_module.py', run_name='__main__')\n"
        "after = random.getstate(), numpy.random.get_state()[1].sum(), torch.get_rng_state().sum()\n"
        "assert before == after, 'importing drew random numbers or set a seed'\n"
    )
    done = run("-W", "ignore", "-c", closed)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_rooms_import_with_core_dependencies_only():
    """Extras are blocked; every module must still import."""
    blocked = (
        "import sys, runpy\n"
        f"extras = {sorted(EXTRAS)!r} + ['tensorboard', 'esda', 'libpysal']\n"
        "class Wall:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        caller = sys._getframe(1)\n"
        "        while caller and 'importlib' in caller.f_code.co_filename: caller = caller.f_back\n"
        "        if name.split('.')[0] in extras and 'topographic' in (caller.f_globals.get('__name__') or ''):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Wall())\n"
        "runpy.run_path('tests/import_every_module.py', run_name='__main__')\n"
    )
    done = run("-W", "ignore", "-c", blocked)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_room_without_a_name(path):
    assert not {"utils", "helpers", "common", "misc"} & set(path.relative_to(PACKAGE).with_suffix("").parts)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_the_package_is_imported_at_the_top_of_a_file(path):
    """But for the front door and the commands, whose help must not load torch."""
    if path.relative_to(PACKAGE).parts[0] in ("__init__.py", "cli"):
        return
    for function in ast.walk(TREES[path]):
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for node in ast.walk(function):
                inner = isinstance(node, ast.ImportFrom) and (node.module or "").startswith("topographic")
                assert not inner, f"{name_of(path)}:{node.lineno} imports {node.module} inside {function.name}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_private_names_stay_in_their_file(path):
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("topographic"):
            private = [alias.name for alias in node.names if alias.name.startswith("_")]
            assert not private, f"{name_of(path)}:{node.lineno} imports {private} from {node.module}"


def test_no_circle_between_files():
    names = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in FILES
    }
    imports = {}
    for name, path in names.items():
        found = set()
        for node in ast.walk(TREES[path]):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("topographic"):
                found |= {
                    f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in names else node.module
                    for alias in node.names
                }
        imports[name] = found & set(names)
    seen: dict[str, str] = {}

    def visit(name: str, trail: list[str]) -> None:
        if seen.get(name) == "done":
            return
        assert name not in trail, "a circle: " + " -> ".join([*trail[trail.index(name) :], name])
        for other in sorted(imports[name]):
            visit(other, [*trail, name])
        seen[name] = "done"

    for name in sorted(names):
        visit(name, [])


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_tests_mirror_the_source(path):
    if path.name == "__init__.py" or path.parent.name == "sets":
        pytest.skip("package front")
    mirrored = ROOT / "tests" / path.relative_to(PACKAGE).parent / f"test_{path.name}"
    assert mirrored.is_file(), f"{name_of(path)} has no {mirrored.relative_to(ROOT)}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_extras_stay_in_their_rooms_and_inside_functions(path):
    top_level = {id(node) for node in TREES[path].body}
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        for name in names:
            extra = name.split(".")[0]
            if extra in EXTRAS:
                assert path.relative_to(PACKAGE).parts[0] in EXTRAS[extra].split(), f"{name_of(path)} imports {extra}"
                assert id(node) not in top_level, f"{name_of(path)} imports the extra {extra} at import time"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_pickle_no_eval_no_unseeded_randomness(path):
    for node in ast.walk(TREES[path]):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        keywords = {keyword.arg for keyword in node.keywords}
        assert called not in ("eval", "exec", "pickle.load", "pickle.loads", "torch.save"), f"{name_of(path)}: {called}"
        if called in ("torch.rand", "torch.randn", "torch.randperm", "torch.randint", "torch.multinomial"):
            assert "generator" in keywords, f"{name_of(path)}:{node.lineno} draws from the global generator"
        if re.match(r"(np|numpy)\.random\.", called) and not called.endswith((
            "default_rng",
            "SeedSequence",
            "Generator",
        )):
            raise AssertionError(f"{name_of(path)}:{node.lineno} draws from the global generator: {called}")
        if called.endswith("default_rng"):
            assert node.args or node.keywords, f"{name_of(path)}:{node.lineno} default_rng() without a seed"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_pictures_are_made_in_sheets_and_report_only(path):
    if path.relative_to(PACKAGE).parts[0] in ("sheets", "plots", "pages", "drawing"):
        return
    for node in ast.walk(TREES[path]):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("reshape", "view")
        ):
            grid_like = len(node.args) == 2 and all(
                re.search(r"rows|columns|side|height|width", ast.unparse(argument)) for argument in node.args
            )
            assert not grid_like, f"{name_of(path)}:{node.lineno} lays values out on a grid; use sheets.to_grid"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_lengths_and_times_carry_their_unit(path):
    for node in ast.walk(TREES[path]):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for argument in [*node.args.args, *node.args.kwonlyargs]:
                bare = re.fullmatch(
                    r"(fwhm|spacing|extent|positions|distance|max_distance|onset|onsets|tr|sigma)", argument.arg
                )
                assert not bare, f"{name_of(path)}:{node.lineno} {node.name}({argument.arg}): name the unit (_mm, _s)"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_public_functions_are_annotated(path):
    for node in TREES[path].body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            where = f"{name_of(path)}:{node.lineno} {node.name}"
            for argument in [*node.args.args, *node.args.kwonlyargs]:
                assert argument.annotation is not None, f"{where}: {argument.arg} has no annotation"
            assert node.returns is not None, f"{where} has no return annotation"


def test_every_dependency_is_used_and_every_import_declared():
    declared = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    names = {
        "PIL": "pillow",
        "yaml": "pyyaml",
        "sklearn": "scikit-learn",
        "lm_eval": "lm-eval",
        "huggingface_hub": "huggingface-hub",
    }
    imported = set()
    for tree in TREES.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                imported.add((node.module or "").split(".")[0])
    third_party = {name for name in imported if name not in sys.stdlib_module_names and name != "topographic"}
    for name in third_party:
        assert f'"{names.get(name, name)}' in declared, f"{name} is imported but not declared"
    core = declared.split("dependencies = [")[1].split("\n]")[0]
    for package in re.findall(r'"([a-z_]+)', core):
        module = {"pyyaml": "yaml", "huggingface": "huggingface_hub"}.get(package, package)
        assert module in third_party, f"{package} is declared but imported nowhere"


def doors() -> list[tuple[str, str, set[str]]]:
    """Room, name and named parameters of every signature in the document that shows the doors."""
    text = (ROOT / "docs" / "doors.md").read_text(encoding="utf-8")
    block = text.split("```python")[1].split("```")[0]
    found, room = [], ""
    for line in block.splitlines():
        if line.startswith("# "):
            room = line[2:].strip()
        for name, arguments in re.findall(r"(?<![.\w])([A-Za-z]\w+)\(((?:[^()]|\([^()]*\))*)\)", line.split("  #")[0]):
            found.append((room, name, set(re.findall(r"\b(\w+)=", arguments))))
    return found


@pytest.mark.parametrize(("room", "name", "named"), doors())
def test_doors_have_the_signatures_that_are_written_down(room, name, named):
    module = importlib.import_module(f"topographic.{room}")
    found = module.Objective.__call__ if name == "objective" else getattr(module, name, None)
    assert found is not None, f"docs/doors.md names {name}, which {room} does not have"
    missing = named - set(inspect.signature(found).parameters)
    assert not missing, f"docs/doors.md gives {name} the parameters {sorted(missing)}"
