"""Whether a spec, what is made of it, or what judges that, is still what was examined."""

from __future__ import annotations

import ast
import hashlib
import re
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from seqc import bundled
from seqc.backend import examined
from seqc.conformance import lengths
from seqc.diagnostics import SpecError
from seqc.errors import UserError
from seqc.spec import Handle, load

_COMMENT = re.compile(r"#.*$", re.MULTILINE)


def of_text(path: Path) -> str:
    """A spec without its comments and its layout."""
    return _digest(" ".join(_COMMENT.sub("", path.read_text(encoding="utf-8")).split()).encode())


@cache
def of_judge() -> str:
    """The oracle, the checks, and how the backends are run by them, wherever they import things from."""
    package = Path(bundled.__file__).parent
    parts = [*package.glob("oracle/*.py"), *package.glob("conformance/**/*.py")]
    parts += (bundled.folder("backends") / name / "conform.py" for name in examined())
    return _digest(*(of_code(path.read_text(encoding="utf-8")) for path in sorted(parts) if path.is_file()))


def of_code(text: str) -> bytes:
    """Lines of Python without imports, comments and empty lines."""
    found = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]
    imports = {line for node in found for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)}
    lines = (
        _COMMENT.sub("", line).rstrip() for n, line in enumerate(text.splitlines(), 1) if n not in imports
    )
    return "\n".join(line for line in lines if line).encode()


def of_emitted(path: Path) -> str:
    """What the backends that are examined write for every rule and model, without comments and weights."""
    spec = load(path)
    handles: list[Handle] = [spec.rule(name, **lengths(spec, name)) for name in spec.rules]
    handles += [spec.model(name) for name in spec.models]
    return _digest(*(part for handle in handles for part in _written(handle)))


def _written(handle: Handle) -> Iterator[bytes]:
    for name in sorted(examined()):
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / "out"
            try:
                handle.write(name, folder)
            except (SpecError, UserError) as refusal:
                yield str(refusal).encode()
                continue
            for file in sorted(folder.iterdir()):
                if file.suffix == ".py":
                    yield _COMMENT.sub("", file.read_text(encoding="utf-8")).encode()
                elif file.suffix == ".onnx":
                    yield _graph(file)


def _graph(file: Path) -> bytes:
    """The operations of a graph, without its weights: another machine may round those otherwise."""
    import onnx

    model = onnx.load(file, load_external_data=False)
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
        tensor.ClearField("float_data")
    model.ClearField("producer_version")
    text: bytes = model.SerializeToString(deterministic=True)
    return text


def _digest(*parts: bytes) -> str:
    total = hashlib.sha256()
    for part in parts:
        total.update(hashlib.sha256(part).digest())
    return total.hexdigest()[:16]
