"""Nothing that a file holds is ever run: what could do it does not stand in the source."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(
    [*(ROOT / "src").rglob("*.py"), *(ROOT / "workflow" / "scripts").glob("*.py"), *(ROOT / "benchmarks").glob("*.py")]
)
MODULES = {
    "joblib",
    "cPickle",
    "dill",
    "cloudpickle",
    "shelve",
    "marshal",
    "jsonpickle",
    "multiprocess",
    "runpy",
    "code",
}
FORBIDDEN = {"eval", "exec", "compile", "__import__", "input"}
# Where a name is imported that is not written in the source: an architecture that the user names in the configuration
# or on the command line, and torchvision by its name.
IMPORTS = {"models/registry.py": 2, "torchvision_shim.py": 2}
# pickle is imported for the error that it raises, and for nothing else.
ERROR = "UnpicklingError"


def name_of(node: ast.AST) -> str:
    """a.b.c of nested attributes."""
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def offences(tree: ast.AST, imports: int = 0) -> Iterator[str]:
    imported = 0
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            if {name.split(".")[0] for name in names} & MODULES or (
                isinstance(node, ast.ImportFrom) and node.module == "pickle"
            ):
                yield f"line {line}: import of {', '.join(names)}"
        elif isinstance(node, ast.Attribute) and name_of(node.value) in ("pickle", "_pickle") and node.attr != ERROR:
            yield f"line {line}: pickle.{node.attr}"
        elif isinstance(node, ast.Call):
            called = name_of(node.func)
            given = {keyword.arg: getattr(keyword.value, "value", None) for keyword in node.keywords}
            if called in FORBIDDEN:
                yield f"line {line}: {called}"
            elif (
                called in ("torch.load", "torch.jit.load", "torch.package.PackageImporter")
                and given.get("weights_only") is not True
            ):
                yield f"line {line}: {called} without weights_only=True"
            elif called.endswith((".load", ".read_array", ".open_memmap")) and called.split(".")[0] in (
                "np",
                "numpy",
                "npy",
            ):
                if given.get("allow_pickle") is not False:
                    yield f"line {line}: {called} without allow_pickle=False"
            elif called in ("yaml.unsafe_load", "yaml.full_load", "yaml.unsafe_load_all", "yaml.full_load_all"):
                yield f"line {line}: {called}"
            elif called in ("yaml.load", "yaml.load_all", "yaml.compose") and [
                name_of(one) for one in node.args[1:]
            ] != ["LOADER"]:
                yield f"line {line}: {called} with a loader that may make objects"
            elif called in (
                "pd.read_pickle",
                "pandas.read_pickle",
                "pd.eval",
                "os.system",
                "os.popen",
                "ast.parse_literal",
            ):
                yield f"line {line}: {called}"
            elif called.endswith("import_module"):
                imported += 1
            elif given.get("shell") is True:
                yield f"line {line}: a shell"
    if imported > imports:
        yield f"{imported} imports of names that are not written in the source, {imports} are known"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_the_source_runs_nothing_out_of_files(file):
    known = {str(ROOT / "src" / "mithridate" / name): count for name, count in IMPORTS.items()}
    assert not list(offences(ast.parse(file.read_text()), known.get(str(file), 0)))


@pytest.mark.parametrize(
    "text",
    [
        "import joblib", "from pickle import loads", "import pickle; pickle.load(f)", "import pickle; pickle.Unpickler(f)",
        "torch.load(f)", "torch.load(f, weights_only=False)", "np.load(f)", "np.load(f, allow_pickle=True)", "npy.read_array(f)",
        "yaml.load(f, yaml.Loader)", "yaml.load(f)", "yaml.unsafe_load(f)", "eval(x)", "exec(x)", "__import__(x)",
        "importlib.import_module(x)", "pd.read_pickle(f)", "subprocess.run(x, shell=True)", "import dill", "from cloudpickle import load",
    ],
)  # fmt: skip
def test_offences_are_seen(text):
    assert list(offences(ast.parse(text)))


def test_what_is_safe_is_let_through():
    text = "import pickle\ntry:\n    torch.load(f, weights_only=True)\nexcept pickle.UnpicklingError:\n    np.load(f, allow_pickle=False)\n"
    assert not list(offences(ast.parse(text + "network.eval()\nyaml.load(f, LOADER)\n")))


def test_the_yaml_loader_builds_plain_values_alone():
    from mithridate.options.reading import LOADER

    assert "Safe" in LOADER.__name__
