"""`seqc explain`: a spec, or the code of a diagnostic."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqc.cli.common import (
    Json,
    Name,
    Settings,
    complete_spec,
    console,
    everything,
    find_spec,
    parse_settings,
    print_json,
    progress,
)
from seqc.diagnostics.base import SpecError
from seqc.errors import UserError

if TYPE_CHECKING:
    from seqc.spec import Handle
    from seqc.views.attention import Attention
    from seqc.views.uses import Use

_CODE = re.compile(r"[EW][0-9]{4}", re.IGNORECASE)


def command(
    what: Annotated[
        str,
        typer.Argument(
            metavar="SPEC|CODE",
            help="A .seq file, the name of a spec of `seqc list`, or a code such as E0201.",
            autocompletion=complete_spec,
        ),
    ],
    name: Name = None,
    settings: Settings = None,
    json: Json = False,
    attention: Annotated[
        bool, typer.Option("--attention", help="Show the matrix that takes a rule's values to its output.")
    ] = False,
    of: Annotated[
        str | None, typer.Option(metavar="INPUT", help="The input that --attention takes for the values.")
    ] = None,
    stability: Annotated[
        bool, typer.Option("--stability", help="Show what a state keeps: eigenvalues, half-lives.")
    ] = False,
    tokens: Annotated[
        int | None,
        typer.Option(min=2, max=4096, help="How many tokens --attention (16) and --stability (64) run."),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="For a model of bytes: run this text instead of noise.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", "-w", metavar="FILE", help="Trained weights, as safetensors.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Chooses the inputs, and the weights if none are given.")] = 0,
) -> None:
    """Show what a spec was understood to mean, or what a diagnostic's code means.

    For a spec: the derived recurrence, its class and why, the schedule, the parameters, the state and its growth,
    and the cost of a token; of all models if no --name is given, of all rules if there is no model. For a code: its
    page, with a wrong and a right example.

    --attention and --stability run the spec in the oracle instead. The implicit attention matrix of a rule that is
    linear in an input says what every past entry of that input adds to the output. The report of stability has the
    eigenvalues of what a token does to a state, the half-lives of the memory, and whether different pasts converge.

    Example:

      seqc explain griffin
      seqc explain mine.seq --name my_rule --set n=64 --json
      seqc explain retnet --attention --prompt "def f(x):"
      seqc explain retnet --stability
      seqc explain E0201
    """
    if _CODE.fullmatch(what):
        _explain_code(what)
        return
    handles = everything(find_spec(what), name, parse_settings(settings))
    if not attention and not stability:
        _explain(handles, json)
        return
    views = [_View(handle, tokens, prompt, weights, seed) for handle in handles]
    if json:
        facts = [_view_data(view, attention, of, stability) for view in views]
        print_json(facts[0] if len(facts) == 1 else facts)
        return
    for view in views:
        if attention:
            _show_attention(view, of)
        if stability:
            _show_stability(view)


def _explain(handles: list[Handle], json: bool) -> None:
    from seqc.explain import text
    from seqc.spec import reports

    facts = reports(handles)
    if json:
        print_json(facts[0] if len(facts) == 1 else facts)
    else:
        console().print("\n\n\n".join(map(text, facts)), markup=False, soft_wrap=True)


# --- views ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _View:
    """What is looked at, and what it is run with."""

    handle: Handle
    tokens: int | None
    prompt: str | None
    weights: Path | None
    seed: int

    def uses(self, default: int) -> list[Use]:
        from seqc.views.uses import uses
        from seqc.weights import read_weights

        whole = self.handle.whole
        given = None if self.weights is None else read_weights(self.weights, whole)
        with progress(f"running {whole.name} token by token"):
            return uses(whole, self.tokens or default, prompt=self.prompt, seed=self.seed, weights=given)

    def attentions(self, of: str | None) -> tuple[list[Attention], list[dict[str, str]]]:
        """The matrices of all rules that have one, and why the others have none; an error if none has."""
        from seqc.views.attention import attention

        found: list[Attention] = []
        refused: list[SpecError] = []
        why: list[dict[str, str]] = []
        for use in self.uses(16):
            try:
                found.append(attention(use, of, self.handle.place))
            except SpecError as error:
                refused.append(error)
                why.append({"use": use.path, "why": error.diagnostics[0].message})
        if not found and refused:
            raise refused[0]
        return found, why


def _view_data(view: _View, attention: bool, of: str | None, stability: bool) -> dict[str, Any]:
    from seqc.views.attention import data
    from seqc.views.stability import report

    facts: dict[str, Any] = {"version": 1, "name": view.handle.name}
    if attention:
        found, refused = view.attentions(of)
        facts |= {"attention": [data(each) for each in found], "refused": refused}
    if stability:
        facts["stability"] = [report(use) for use in view.uses(64)]
    return facts


def _show_attention(view: _View, of: str | None) -> None:
    """One use of every rule: those of further layers look alike, and the JSON has them."""
    from rich.columns import Columns

    from seqc.views.attention import lines, pictures

    screen = console()
    found, refused = view.attentions(of)
    shown = {each.use.rule: each for each in reversed(found)}
    for each in reversed(shown.values()):
        alike = sum(other.use.rule is each.use.rule for other in found) - 1
        first, *rest = lines(each)
        more = f" and {alike} more (--json)" if alike else ""
        screen.print("\n".join((first + more, *rest)), markup=False, soft_wrap=True)
        screen.print(Columns(pictures(each), padding=(0, 3)))
    for each_refused in refused:
        screen.print(f"{each_refused['use']}: {each_refused['why']}", markup=False, soft_wrap=True)


def _show_stability(view: _View) -> None:
    from seqc.views.stability import report, text

    said = [text(report(use)) for use in view.uses(64)]
    console().print("\n\n".join(said), markup=False, soft_wrap=True)


def _explain_code(code: str) -> None:
    from rich.markdown import Markdown

    from seqc.diagnostics.catalogue import explain_code, similar_codes

    page = explain_code(code)
    if page is None:
        near = ", ".join(similar_codes(code))
        raise UserError(
            f"there is no diagnostic `{code.upper()}`", f"the nearest are {near} (`seqc list codes`)"
        )
    screen = console()
    screen.print(Markdown(page) if screen.is_terminal else page, markup=False)
