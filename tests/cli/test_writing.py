"""`seqc new`, `check` and `fmt` do what their help says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.parts import KEEP, Done, Seqc

BROKEN = "rule keep(x[d]) {\n    return y\n}\n"


@pytest.mark.parametrize("like", [(), ("--like", "griffin")])
def test_a_new_spec_is_right_and_laid_out(seqc: Seqc, like: tuple[str, ...]) -> None:
    assert seqc("new", "mine", *like).code == 0
    assert "model mine(" in Path("mine.seq").read_text()
    done = seqc("check", "mine.seq")
    assert (done.code, done.err) == (0, "")
    assert seqc("fmt", "--check", "mine.seq") == Done(0, "", "")


def test_a_copy_of_any_spec_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the name that is changed stands in rules, blocks and models alike."""
    import seqc
    from seqc import bundled
    from seqc.cli.new import command

    monkeypatch.chdir(tmp_path)
    for path in bundled.specs():
        name = f"own_{path.stem}"
        command(name, str(path))
        spec = seqc.load(f"{name}.seq")
        assert name in (*spec.rules, *spec.blocks, *spec.models)


def test_new_does_not_overwrite(seqc: Seqc, keep: Path) -> None:
    done = seqc("new", "keep")
    assert done.code == 1
    assert "`keep.seq` is there already" in done.err
    assert keep.read_text() == KEEP


@pytest.mark.parametrize("name", ["../escape", "a b", "1st", "", "x" * 61, "naïve"])
def test_new_takes_names_only(seqc: Seqc, name: str) -> None:
    assert seqc("new", name).code == 2
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("name", ["memory", "repeat", "swiglu"])
def test_new_leaves_the_language_its_names(seqc: Seqc, name: str) -> None:
    done = seqc("new", name)
    assert done.code == 2
    assert f"`{name}` has a meaning in the language already" in done.err
    assert list(Path().iterdir()) == []


def test_check_says_what_is_wrong(seqc: Seqc) -> None:
    Path("broken.seq").write_text(BROKEN)
    done = seqc("check", "broken.seq")
    assert done.code == 1
    assert "--> broken.seq:2:12" in done.err
    (diagnostic,) = seqc("check", "broken.seq", "--json").json
    assert (diagnostic["file"], diagnostic["line"], diagnostic["column"]) == ("broken.seq", 2, 12)
    assert diagnostic["severity"] == "error"


def test_check_of_a_right_spec_is_an_empty_list(seqc: Seqc, keep: Path) -> None:
    assert seqc("check", keep, "--format", "json").json == []


def test_check_knows_the_settings(seqc: Seqc) -> None:
    assert seqc("check", "griffin", "--set", "d=64").code == 0
    done = seqc("check", "griffin", "--set", "dd=64")
    assert done.code == 1
    assert "`dd`" in done.err


def test_fmt_rewrites_in_place(seqc: Seqc, keep: Path) -> None:
    keep.write_text(KEEP.replace("    ", "  ").replace("state  h", "state h"))
    assert seqc("fmt", "--check", keep).code == 1
    assert keep.read_text() != KEEP
    assert seqc("fmt", keep) == Done(0, "formatted keep.seq\n", "")
    assert seqc("fmt", "griffin").code == 1  # never the spec that comes with seqc
    assert keep.read_text() == KEEP


@pytest.mark.parametrize("command", ["check", "explain", "trace", "fmt", "conform", "run"])
@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "", ".", "\udcff", "nowhere/a.seq", "-"])
def test_strange_names_are_the_users_mistake(seqc: Seqc, command: str, name: str) -> None:
    if (command, name) == ("fmt", "-"):
        return
    more = ("--prompt", "x") if command == "run" else ()
    done = seqc(command, name, *more)
    assert done.code in (1, 2), done.err
    assert len(done.err) < 6000
