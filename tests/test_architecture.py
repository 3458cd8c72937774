"""The picture of docs/architecture.md, checked: who may import what, and in which direction."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import featx

PACKAGE = Path(featx.__file__).parent

# Data flows down this list: a room imports those of the lines above, and nothing of its neighbours.
FLOW = (
    ("errors",),
    ("io",),
    ("features",),
    ("config",),
    ("metrics",),
    ("images",),
    ("dataset",),
    ("backbones",),
    ("engines",),
    ("store",),
    ("extraction",),
    ("training",),
    ("heads",),
    ("selection",),
    ("bundle",),
    ("runs",),
    ("inference",),
    ("finetune", "baseline"),
    ("quality",),
    ("report",),
    ("card",),
    ("workflow",),
    ("comparing", "export", "first_look", "serve"),
    ("active",),
    ("api",),
    ("cli",),
    ("__main__",),
)
RANK = {name: rank for rank, line in enumerate(FLOW) for name in line}

# library -> the modules that may import it, wherever in the module
ALLOWED = {
    "h5py": {"store", "backbones"},
    "click": {"cli"},
    "sklearn": {"api", "dataset", "first_look", "heads", "metrics", "report"},
    "skops": {"heads"},
    "tensorflow": {"backbones", "engines", "export", "finetune", "heads", "inference", "training"},
    "keras": {"backbones", "baseline", "engines", "export", "finetune", "heads", "inference", "training"},
    "openvino": {"backbones", "engines"},
    "nncf": {"engines"},
    "onnx": {"export"},
    "onnxruntime": {"export"},
    "tf2onnx": {"export"},
    "ai_edge_litert": {"export"},
    "pydantic": {"config"},
    "yaml": {"config"},
    "ray": {"extraction"},
    "tqdm": {"io"},
    "pyarrow": {"inference", "io", "store"},
    "sqlite3": {"io"},
    "fsspec": {"io"},
    "matplotlib": {"images", "inference", "report"},
    "jinja2": {"report", "serve"},
    "mlflow": {"workflow"},
    "pandas": {"api"},
    "umap": {"metrics"},
    "fastapi": {"serve"},
    "starlette": {"serve"},
    "python_multipart": {"serve"},
    "uvicorn": {"serve"},
}
# nothing outside of a function may import these: they take from half a second to several
LAZY = {
    "tensorflow",
    "keras",
    "sklearn",
    "skops",
    "openvino",
    "nncf",
    "onnx",
    "onnxruntime",
    "tf2onnx",
    "ai_edge_litert",
    "scipy",
    "pydantic",
    "yaml",
    "tqdm",
    "matplotlib",
    "jinja2",
    "mlflow",
    "fsspec",
    "pandas",
    "umap",
    "ray",
    "fastapi",
    "starlette",
    "python_multipart",
    "uvicorn",
}
# A base class cannot wait: this module is imported only by who asks for `featx.FeatureExtractor`. Nor can the types in
# the signatures of routes, which FastAPI resolves in their module: `featx serve` imports these when it runs.
EAGER = {
    ("api", "sklearn"),
    ("serve", "fastapi"),
    ("serve", "starlette"),
    ("serve", "python_multipart"),
}


@cache
def modules() -> tuple[Path, ...]:
    return tuple(sorted(PACKAGE.rglob("*.py")))


@cache
def tree(path: Path) -> ast.Module:
    """What a module says, parsed once for all tests."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Every node of a module's tree."""
    return tuple(ast.walk(tree(path)))


def owner(path: Path) -> str:
    """`backbones` of backbones/table.py, `fit` of fit.py."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def imports(path: Path, *, top: bool = False) -> tuple[str, ...]:
    """Full names of what a module imports: anywhere, types and functions included, or when it is imported (`top`)."""
    return tuple(_imports(tree(path).body, top))


def _imports(body: list[ast.stmt], top: bool) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif top and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            yield from _imports(node.orelse, top)
        elif not (top and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            for part in ("body", "orelse", "finalbody"):
                yield from _imports(getattr(node, part, []), top)
            for handler in getattr(node, "handlers", []):
                yield from _imports(handler.body, top)


def arrows() -> dict[str, set[str]]:
    """Room -> the rooms that it imports, every import counted; `featx` itself, which only re-exports, is none."""
    found: dict[str, set[str]] = {room: set() for room in RANK}
    for path in modules():
        here = owner(path)
        for name in imports(path) if here != "__init__" else ():
            if name.startswith("featx.") and name.split(".")[1] in RANK:
                found[here].add(name.split(".")[1])
    return {room: others - {room} for room, others in found.items()}


def test_every_module_has_its_room_in_the_flow() -> None:
    assert {owner(path) for path in modules()} - {"__init__"} == set(RANK)


def test_imports_point_down_the_flow() -> None:
    climbing = {(room, other) for room, others in arrows().items() for other in others if RANK[other] >= RANK[room]}
    assert not climbing


@pytest.mark.parametrize("library", sorted(ALLOWED))
def test_a_library_is_imported_only_where_it_belongs(library: str) -> None:
    users = {owner(path) for path in modules() for name in imports(path) if name.split(".")[0] == library}
    assert users <= ALLOWED[library]
    assert users, f"nothing imports {library} any more"


def test_heavy_libraries_are_imported_inside_functions() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in modules()
        for name in imports(path, top=True)
        if name.split(".")[0] in LAZY and (owner(path), name.split(".")[0]) not in EAGER
    ]
    assert not wrong


def test_every_engine_module_serves_one_library() -> None:
    users: dict[str, set[str]] = {"openvino": set(), "tensorflow": set()}
    for path in modules():
        for name in imports(path) if owner(path) == "engines" else ():
            users.get(name.split(".")[0], set()).add(path.name)
    assert users == {
        "openvino": {"openvino.py", "conversion.py", "fusing.py", "joining.py", "quantisation.py"},
        "tensorflow": {"tensorflow.py", "freeze.py", "precision.py"},
    }


def test_runs_alone_spell_what_is_inside_the_folder_of_a_run() -> None:
    spelled = {
        owner(path)
        for path in modules()
        for node in nodes(path)
        if isinstance(node, ast.Constant) and node.value in {"checkpoints", "terms.json"}
    }
    assert spelled == {"runs"}


def test_one_module_knows_ray() -> None:
    users = {
        path.relative_to(PACKAGE).as_posix()
        for path in modules()
        for name in imports(path)
        if name.split(".")[0] == "ray"
    }
    assert users == {"extraction/ray/session.py"}


def loaded(code: str) -> set[str]:
    """Top-level names of the modules that a fresh process has after running `code`."""
    code += "\nimport sys; print(*{name.split('.')[0] for name in sys.modules}, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split("\n"))


def test_the_command_line_starts_light() -> None:
    heavy = {"tensorflow", "keras", "sklearn", "h5py", "numpy", "openvino", "pydantic", "PIL", "scipy", "yaml"}
    assert not loaded("import featx.cli") & heavy


def test_importing_featx_loads_nothing() -> None:
    heavy = {"tensorflow", "keras", "sklearn", "h5py", "numpy", "openvino", "pydantic", "PIL", "scipy", "yaml", "click"}
    assert not loaded("import featx; featx.FeatxError; dir(featx)") & heavy


def test_the_public_functions_load_neither_networks_nor_scikit_learn() -> None:
    code = "import featx; featx.extract; featx.fit_head; featx.load; featx.read_features; featx.Model"
    assert not loaded(code) & {"tensorflow", "keras", "sklearn", "openvino", "pandas", "click"}


def test_help_starts_light() -> None:
    heavy = {"tensorflow", "keras", "sklearn", "h5py", "numpy", "openvino", "pydantic", "fastapi", "uvicorn"}
    code = "import contextlib, io\nfrom featx.cli import cli\n"
    code += "with contextlib.redirect_stdout(io.StringIO()):\n cli.main(['--help'], standalone_mode=False)\n"
    code += " cli.main(['fit-head', '--help'], standalone_mode=False)\n"
    code += " cli.main(['serve', '--help'], standalone_mode=False)"
    assert not loaded(code) & heavy


def test_no_stage_loads_a_network_before_it_needs_one() -> None:
    stages = (
        *("workflow.run", "inference.predict", "inference.judge", "finetune.flow", "extraction.repair"),
        *("inference.overlays", "export.flow", "comparing.flow"),
    )
    code = "import " + ", ".join(f"featx.{stage}" for stage in stages)
    assert not loaded(code) & {"tensorflow", "keras", "sklearn", "openvino"}


def test_the_rooms_are_no_more_than_can_be_kept_in_mind() -> None:
    entries = [path for path in PACKAGE.iterdir() if path.name not in {"__pycache__", "py.typed"}]
    assert len(entries) <= 32


def test_modules_functions_and_parameters_have_bounds() -> None:
    wrong = []
    for path in modules():
        text = path.read_text(encoding="utf-8")
        if text.count("\n") >= 350:
            wrong.append(f"{path.relative_to(PACKAGE)} has {text.count(chr(10)) + 1} lines")
        for node in nodes(path):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                wrong += _function_faults(path, node)
    assert not wrong


def _function_faults(path: Path, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    where = f"{path.relative_to(PACKAGE)}:{node.lineno} {node.name}"
    docstring = ast.get_docstring(node, clean=False) or ""
    lines = (node.end_lineno or node.lineno) - node.lineno + 1 - (docstring.count("\n") + 1 if docstring else 0)
    if lines > 60:
        yield f"{where} has {lines} lines"
    names = [one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    own = [name for name in names if name not in {"self", "cls"}]
    # click hands every option over as a parameter, and scikit-learn wants those of its constructors named
    framework = owner(path) == "cli" or path.name == "transformer.py" or node.name == "__init__"
    if len(own) > 6 and not framework:
        yield f"{where} has {len(own)} parameters"


def test_no_class_name_is_used_twice() -> None:
    names: dict[str, list[str]] = {}
    for path in modules():
        for node in nodes(path):
            if isinstance(node, ast.ClassDef):
                names.setdefault(node.name, []).append(str(path.relative_to(PACKAGE)))
    assert not {name: places for name, places in names.items() if len(places) > 1}


def test_inits_re_export_or_are_empty() -> None:
    wrong = []
    for path in modules():
        if path.name == "__init__.py" and owner(path) != "__init__":
            kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.For, ast.While, ast.Try)
            body = tree(path).body
            wrong += [f"{path.relative_to(PACKAGE)}:{node.lineno}" for node in body if isinstance(node, kinds)]
    assert not wrong


def test_untyped_values_are_rare() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in modules())
    assert len(re.findall(r"(?:dict|Mapping)\[str, (?:Any|object)\]", text)) < 60
    assert len(re.findall(r":\s*Any\b", text)) < 80


def test_one_module_names_what_lies_in_the_folders_on_disk() -> None:
    for name, place in (("index.sqlite", "io/index.py"), ("bundle.json", "bundle/sealing.py")):
        users = {
            path.relative_to(PACKAGE).as_posix()
            for path in modules()
            for node in nodes(path)
            if isinstance(node, ast.Constant) and node.value == name
        }
        assert users == {place}


def test_the_packages_that_are_installed_are_those_of_the_tree() -> None:
    import configparser

    config = configparser.ConfigParser()
    config.read(PACKAGE.parent / "setup.cfg")
    listed = config["options"]["packages"].split()
    found = {".".join(("featx", *path.parent.relative_to(PACKAGE).parts)) for path in PACKAGE.rglob("__init__.py")}
    assert sorted(listed) == sorted(found | {"featx.pipelines"})  # which lies beside the package


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_pages_name_modules_that_there_are(page: str) -> None:
    text = (PACKAGE.parent / page).read_text(encoding="utf-8")
    named = set(re.findall(r"`(?:featx/)?([a-z_0-9]+/[a-z_0-9/]+\.py)`", text))
    assert len(named) > 3
    roots = (PACKAGE, PACKAGE.parent)
    assert not {name for name in named if not any((root / name).is_file() for root in roots)}
