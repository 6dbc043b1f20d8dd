"""From a compiled folder to a quantised one."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx_ir as ir

from seqc.backend import Quantized, Recipe
from seqc.errors import UserError

from ..builder import Array
from ..manifest import Manifest, QuantizationInfo
from ..write import INITIAL_FILE, save
from .editor import Editor
from .formats import Rewriting
from .matrices import Matrix, digest, find_matrices, find_tables
from .observe import Observer
from .rounding import Blocks, Channels, round_blocks, round_channels, round_rows, round_with_feedback
from .smooth import apply_factors, choose_factors, find_groups

BITS = {"4bit": 4, "8bit": 8}
GATE_BITS = 8
BLOCKS = (16, 32, 64, 128, 256)
DEFAULT_BLOCK = 32
SAMPLES = 256  # rows of inputs by which factors are chosen


def quantize(folder: Path, out: Path, recipe: Recipe) -> Quantized:
    """Write the folder's model in another format into an existing, empty one."""
    manifest = Manifest.model_validate_json((folder / "manifest.json").read_text(encoding="utf-8"))
    if manifest.quantization is not None:
        raise UserError(
            f"`{folder}` is quantised already ({manifest.quantization.format})",
            "quantise what it was made from",
        )
    return Quantizer(folder, manifest, recipe, _block(recipe)).write(out)


def _block(recipe: Recipe) -> int | None:
    if recipe.format not in BITS:
        if recipe.block is not None:
            raise UserError(
                f"the format `{recipe.format}` has no blocks", "leave out the block, or choose 4bit or 8bit"
            )
        return None
    if recipe.block is not None and recipe.block not in BLOCKS:
        known = ", ".join(map(str, BLOCKS))
        raise UserError(f"there are no blocks of {recipe.block}", f"a block has {known} inputs")
    return recipe.block or DEFAULT_BLOCK


@dataclass(slots=True)
class Quantizer:
    """One folder's graphs on their way into a format."""

    folder: Path
    manifest: Manifest
    recipe: Recipe
    block: int | None
    models: dict[str, ir.Model] = field(init=False)
    matrices: dict[str, list[Matrix]] = field(init=False)
    gates: set[bytes] = field(default_factory=set[bytes])
    rounded: dict[bytes, Channels | Blocks] = field(default_factory=dict[bytes, Channels | Blocks])
    scaled: set[str] = field(default_factory=set[str])
    smoothed: int = 0

    def __post_init__(self) -> None:
        files = [file for file in (self.manifest.prefill, self.manifest.step) if file is not None]
        self.models = {file: ir.load(self.folder / file) for file in files}
        self.matrices = {
            file: find_matrices(model.graph, self.manifest) for file, model in self.models.items()
        }

    def write(self, out: Path) -> Quantized:
        if self.recipe.tokens is not None and self.recipe.format in ("int8", *BITS):
            self._smooth(np.asarray(self.recipe.tokens, np.int64))
        # In the prefill a gate may be inside a loop: the step says which matrices decide one.
        every = [matrix for found in self.matrices.values() for matrix in found]
        self.gates = {digest(matrix.weight) for matrix in every if matrix.gate}
        if self.recipe.tokens is not None and self.recipe.format in BITS:
            self._feed_back(np.asarray(self.recipe.tokens, np.int64))
        held = {file: self._rewrite(file) for file in self.models}[self.manifest.prefill]
        external = save({Path(file).stem: model for file, model in self.models.items()}, out, inside=0)
        if (self.folder / INITIAL_FILE).exists():
            shutil.copy(self.folder / INITIAL_FILE, out)
        text = self._manifest(held, external).model_dump_json(indent=2)
        (out / "manifest.json").write_text(text + "\n", encoding="utf-8")
        return Quantized(held, self.smoothed)

    def _manifest(self, held: dict[str, str], external: str | None) -> Manifest:
        """What changed is no longer a parameter as it is."""
        kept = self.models[self.manifest.prefill].graph.initializers
        weights = {
            name: info
            for name, info in self.manifest.weights.items()
            if info.name in kept and info.name not in self.scaled
        }
        info = QuantizationInfo(
            format=self.recipe.format,
            block=self.block,
            calibrated=self.recipe.tokens is not None,
            smoothed=self.smoothed,
            held=held,
        )
        changes = {
            "weights": weights,
            "folded": (
                *self.manifest.folded,
                *(name for name in self.manifest.weights if name not in weights),
            ),
            "external_data": external,
            "quantization": info,
        }
        return self.manifest.model_copy(update=changes)

    # --- calibration ------------------------------------------------------------------------------------------

    def _observer(self, tokens: Array) -> Observer:
        return Observer(self.models[self.manifest.prefill], self.manifest, self.folder, tokens)

    def _smooth(self, tokens: Array) -> None:
        """Move outliers of the inputs into the matrices, in both graphs alike."""
        groups = {file: find_groups(found) for file, found in self.matrices.items()}
        seen = self._observer(tokens).samples(
            [group.input for group in groups[self.manifest.prefill]], SAMPLES
        )
        factors: dict[frozenset[bytes], Array] = {}
        for group in groups[self.manifest.prefill]:
            chosen = choose_factors(group, seen[group.input], self._product)
            if chosen is not None:
                factors[group.key] = chosen
        self.smoothed = len(factors)
        for own in groups.values():
            self.scaled |= apply_factors(own, factors)

    def _product(self, rows: Array, matrix: Array) -> Array:
        """Rows times a matrix as the format computes it."""
        weights = self._plainly(matrix, BITS.get(self.recipe.format))
        return round_rows(rows, self.block) @ weights.matrix()

    def _feed_back(self, tokens: Array) -> None:
        """Round the matrices of few bits by what the inputs have in common."""
        takers: dict[ir.Value, list[Matrix]] = {}
        for matrix in self.matrices[self.manifest.prefill]:
            if self._bits(matrix) == BITS["4bit"]:
                takers.setdefault(matrix.input, []).append(matrix)
        widths = {value: len(own[0].array()) for value, own in takers.items()}
        for value, moments in self._observer(tokens).moments(widths):
            for matrix in takers[value]:
                assert self.block is not None
                self.rounded[digest(matrix.weight)] = round_with_feedback(
                    matrix.array(), BITS["4bit"], self.block, moments
                )

    # --- rounding and writing ---------------------------------------------------------------------------------

    def _bits(self, matrix: Matrix) -> int | None:
        bits = BITS.get(self.recipe.format)
        return bits and (GATE_BITS if digest(matrix.weight) in self.gates else bits)

    def _plainly(self, matrix: Array, bits: int | None) -> Channels | Blocks:
        if bits is None or self.block is None:
            return round_channels(matrix)
        return round_blocks(matrix, bits, self.block)

    def _rounded(self, matrix: Matrix) -> Channels | Blocks:
        key = digest(matrix.weight)
        if key not in self.rounded:
            self.rounded[key] = self._plainly(matrix.array(), self._bits(matrix))
        return self.rounded[key]

    def _rewrite(self, file: str) -> dict[str, str]:
        """Bring a graph into the format; how each weight is held, by name."""
        model, narrow = self.models[file], self.recipe.format if "float" in self.recipe.format else None
        work, held = Rewriting(Editor(model)), dict[str, str]()
        for matrix in self.matrices[file]:
            name = str(matrix.weight.name)
            if narrow is None:
                held[name] = work.product(matrix, self._rounded(matrix))
            elif work.narrow(matrix.node, 1, narrow):
                held[name] = narrow
        for node in find_tables(model.graph):
            name = str(node.inputs[0].name) if node.inputs[0] else ""
            if work.narrow(node, 0, narrow or "float16"):
                held[name] = narrow or "float16"
        work.finish()
        return held
