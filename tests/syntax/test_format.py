"""`seqc fmt`: what it does, and that doing it twice does nothing more."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqc.bundled import folder
from seqc.syntax import format_text, parse_text
from tests.syntax.programs import FIVE, OTHER

MESSY = """\


# head
language 1   # one
use std
# about b
use "b.seq"
rule f( x [ d ] , a,; n=2*d , )  # c1
{ # c2

  # own
  memory S:n->m   # mem
  retention(1-a)*S # ret
  learner gd( rate=-a^2 , at=retained)


  let y = x
    - 1
  let z = foo(
     a, # first
     # own inside
     -b
  )
  S' =
     y
     + z
  return S'(x),-(y)
  # tail
}
block g(x[d]) { let a=x let bcd[w]=f(x)->[d] if a%2==0 {x=a} else if not a { x = -a } # k
 else { x = b } repeat layers as l { x = x } return x[n->e] }
# end
"""

NEAT = """\
# head
language 1  # one

use std
# about b
use "b.seq"

rule f(x[d], a; n = 2 * d) {
    # c1
    # c2

    # own
    memory    S: n -> m    # mem
    retention (1 - a) * S  # ret
    learner   gd(rate = -a^2, at = retained)

    let       y = x -
        1
    let       z = foo(
        a,  # first
        # own inside
        -b
    )
    S'        =
        y
        + z
    return    S'(x), -(y)
    # tail
}

block g(x[d]) {
    let a      = x
    let bcd[w] = f(x) -> [d]
    if a % 2 == 0 {
        x = a
    } else if not a {
        x = -a
    } else {
        # k
        x = b
    }
    repeat layers as l {
        x = x
    }
    return x[n -> e]
}
# end
"""


def test_a_messy_text_becomes_neat() -> None:
    assert format_text(MESSY) == NEAT


@pytest.mark.parametrize("text", [FIVE, OTHER, NEAT, "", "# only a comment\n"])
def test_a_neat_text_stays(text: str) -> None:
    assert format_text(text) == text


@pytest.mark.parametrize("path", sorted(folder("specs").rglob("*.seq")), ids=lambda path: path.stem)
def test_the_specs_are_formatted(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if os.environ.get("SEQC_ACCEPT"):
        path.write_text(format_text(text, path.name), encoding="utf-8")
        return
    assert format_text(text, path.name) == text, f"run `seqc fmt {path}`"


TOKEN = re.compile(r"#[^\n]*|\"[^\"]*\"|[A-Za-z_]\w*'?|[0-9][0-9.e-]*|[<>=!]=|->|[^\s\w]")
SPACES = ["", " ", "  ", "\n", "\n\n", "\n\n\n", "\t", "\r\n", " # note\n", "\n# note\n", "\n\n  # a # b\n\n"]


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_formatting_is_idempotent_and_keeps_the_tree_and_the_comments(data: st.DataObject) -> None:
    words = TOKEN.findall(data.draw(st.sampled_from([FIVE, OTHER])))
    choices = data.draw(st.lists(st.sampled_from(SPACES), min_size=8, max_size=40))
    text = ""
    for i, word in enumerate(words):
        # Two words that would run into one another keep a space between them.
        space = choices[i % len(choices)] or " "
        text += word + ("\n" if word.startswith("#") else "") + space
    once = format_text(text)
    assert format_text(once) == once
    assert parse_text(once) == parse_text(text)
    assert sorted(re.findall(r"#[^\r\n]*", once)) == sorted(
        found.rstrip() for found in re.findall(r"#[^\r\n]*", text)
    )
    assert max(len(line) - len(line.rstrip()) for line in once.split("\n")) == 0
