"""`use`: files beside the spec, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

import seqc
from seqc.errors import UserError


def write(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        path = folder / name.replace("__", "/").replace("_seq", ".seq")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


RULE = "rule keep(x[d]) { return x }\n"


def test_a_file_brings_its_items(tmp_path: Path) -> None:
    write(
        tmp_path,
        main_seq='use "lib/a.seq"\nblock b(x[d]) { return keep(x) }',
        lib__a_seq=f'use "b.seq"\n{RULE}',
        lib__b_seq="",
    )
    spec = seqc.load(tmp_path / "main.seq")
    assert (spec.rules, spec.blocks) == ((), ("b",))
    assert spec.rule("keep", d=2).recurrence.name == "keep"


def test_a_file_is_read_once(tmp_path: Path) -> None:
    write(tmp_path, main_seq='use "a.seq"\nuse "./a.seq"', a_seq=RULE)
    assert seqc.load(tmp_path / "main.seq").rule("keep", d=2).name == "keep"


@pytest.mark.parametrize("path", ["../a.seq", "/etc/passwd", "lib/../../a.seq", "C:/a.seq", "\\a.seq"])
def test_no_path_leads_out(tmp_path: Path, path: str) -> None:
    write(tmp_path, spec__main_seq=f'use "{path}"\n{RULE}', a_seq=RULE)
    with pytest.raises(seqc.SpecError) as caught:
        seqc.load(tmp_path / "spec" / "main.seq")
    assert caught.value.codes == ("E0702",)


def test_no_link_leads_out(tmp_path: Path) -> None:
    write(tmp_path, spec__main_seq=f'use "a.seq"\n{RULE}', a_seq="")
    (tmp_path / "spec" / "a.seq").symlink_to(tmp_path / "a.seq")
    with pytest.raises(seqc.SpecError) as caught:
        seqc.load(tmp_path / "spec" / "main.seq")
    assert caught.value.codes == ("E0702",)


def test_a_name_that_two_files_have_is_shown_in_both(tmp_path: Path) -> None:
    write(tmp_path, main_seq=f'use "a.seq"\n{RULE}', a_seq=RULE)
    with pytest.raises(seqc.SpecError, match=r"(?s)E0203.*main\.seq:2:6.*a\.seq:1:6"):
        seqc.load(tmp_path / "main.seq")


def test_what_is_no_text_is_said(tmp_path: Path) -> None:
    (tmp_path / "main.seq").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="UTF-8"):
        seqc.load(tmp_path / "main.seq")
    with pytest.raises(UserError, match="there is no file"):
        seqc.load(tmp_path / "other.seq")


@pytest.mark.parametrize(
    "path", ["x" * 300 + ".seq", "x/" * 3000 + "a.seq", "loop.seq", "", ".", "std/", "std/../../x"]
)
def test_names_that_no_file_has(tmp_path: Path, path: str) -> None:
    write(tmp_path, main_seq=f'use "{path}"\n{RULE}')
    (tmp_path / "loop.seq").symlink_to(tmp_path / "loop.seq")
    with pytest.raises(seqc.SpecError) as caught:
        seqc.load(tmp_path / "main.seq")
    assert caught.value.codes[0] in ("E0701", "E0702")


def test_specs_that_come_with_seqc_can_be_used() -> None:
    spec = seqc.loads('use "std/hybrid/griffin.seq"\nblock b(x[d]) { return recurrent(x, 8) }')
    assert spec.blocks == ("b",)
    assert spec.models == ()
    assert spec.block(d=4).function.outputs
