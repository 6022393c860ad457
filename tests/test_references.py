"""What docstrings and comments name as `module.name` exists, so a rename cannot leave a stale name behind."""

import ast
import io
import re
import tokenize

from test_architecture import FILES

REFERENCE = re.compile(r"`([a-z_]\w*)\.([A-Za-z_]\w*)(?:\.\w+)*(?:\([^`]*\))?`")
# Endings of files, which look like names: `config.json`.
ENDINGS = {
    "bin",
    "csv",
    "flags",
    "h5",
    "html",
    "json",
    "jsonl",
    "keras",
    "md",
    "npz",
    "onnx",
    "pb",
    "py",
    "tflite",
    "txt",
    "xml",
}
# Modules of others, and made-up ones of examples.
OTHERS = {"kerasft", "keras", "keras_tuner", "kserve", "mine", "models", "package", "tf"}


def _names(tree: ast.Module) -> set[str]:
    """What a module defines or imports at its top."""
    found = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in node.names}
    return found


def _texts(source: str, tree: ast.Module) -> list[str]:
    """The docstrings and comments of a module."""
    documented = [node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = [token.string for token in tokens if token.type == tokenize.COMMENT]
    return [*(ast.get_docstring(node) or "" for node in documented), *comments]


def _variables(tree: ast.Module) -> set[str]:
    """The names and attributes that a module uses: `name.x` may be an attribute of a variable."""
    fields = {ast.Name: "id", ast.arg: "arg", ast.Attribute: "attr"}
    return {getattr(node, fields[type(node)]) for node in ast.walk(tree) if type(node) in fields}


def test_every_module_and_name_in_docstrings_and_comments_exists():
    trees = {name: ast.parse(path.read_text()) for name, path in FILES.items()}
    defined: dict[str, set[str]] = {}
    for name, tree in trees.items():
        *parents, last = name.split(".")
        defined.setdefault(last, set()).update(_names(tree))
        for parent in parents[-1:]:
            defined.setdefault(parent, set()).add(last)
    stale = []
    for name, tree in trees.items():
        variables = _variables(tree)
        for text in _texts(FILES[name].read_text(), tree):
            for module, what in REFERENCE.findall(text):
                is_other = what in ENDINGS or module in OTHERS or module in variables
                if not is_other and what not in defined.get(module, ()):
                    stale.append(f"{name}: {module}.{what}")
    assert not stale, stale
