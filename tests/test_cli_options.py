"""Options that more than one command takes."""

from __future__ import annotations

import ast

import click
import pytest
from click.testing import CliRunner
from imgwas_cli.associate import associate
from imgwas_cli.main import COMMANDS, main
from imgwas_cli.options import CommaList, Command

from tests.cli_cohort import imgwas as command_line


def commands(group=main, name=""):
    """Every command and sub-command."""
    ctx = click.Context(group)
    for one in group.list_commands(ctx):
        command = group.get_command(ctx, one)
        if isinstance(command, click.Group):
            yield from commands(command, f"{name}{one} ")
        else:
            yield pytest.param(command, id=f"{name}{one}")


def lists_of(command):
    return [p for p in command.params if isinstance(p.type, CommaList)]


@pytest.mark.parametrize("command", commands())
def test_lists_may_be_given_in_pieces(command):
    """``--variant a --variant b,c`` is ``--variant a,b,c``, in every command that takes a list."""
    assert isinstance(command, Command)
    for option in lists_of(command):
        name = option.opts[0]
        ctx = click.Context(command)
        both = command.make_parser(ctx).parse_args([name, "a", name, "b,c"])[0]
        once = command.make_parser(ctx).parse_args([name, "a,b,c"])[0]
        found = [option.handle_parse_result(ctx, given, [])[0] for given in (both, once)]
        assert flat(found[0]) == flat(found[1]) == ["a", "b", "c"]


def flat(value):
    return [w for one in value for w in (one if isinstance(one, tuple) else [one])]


def test_some_commands_take_lists():
    assert sum(len(lists_of(param.values[0])) for param in commands()) > 30
    assert len(COMMANDS) > 20


def test_a_callback_and_a_default_are_kept():
    seen = []

    @click.command(cls=Command)
    @click.option("--x", type=CommaList(), default="p,q", show_default=True,
                  callback=lambda ctx, param, value: seen.append(value) or value)  # fmt: skip
    def run(x):
        click.echo(",".join(x))

    def said(*words):
        return CliRunner().invoke(run, words).output

    assert said() == "p,q\n"
    assert said("--x", "a", "--x", "b") == "a,b\n"
    assert seen == [("p", "q"), ("a", "b")]
    assert "[default: p,q]" in said("--help")


def singles_of(command):
    return [
        p
        for p in command.params
        if isinstance(p, click.Option) and not (p.multiple or p.is_flag or p.count)
    ]


@pytest.mark.parametrize("command", commands())
def test_an_option_of_one_value_is_given_once(command):
    """The last of two would win, and who typed the first is not told."""
    others = [p for p in command.params if isinstance(p, click.Option) and p.multiple]
    for option in singles_of(command):
        for name in option.opts:
            first = [name, *(f"one{k}" for k in range(option.nargs))]
            second = [name, *(f"two {k}" for k in range(option.nargs))]
            with pytest.raises(click.UsageError) as caught:
                command.make_context("command", [*first, *second])
            words = " ".join(first[1:]), " ".join(f"'{word}'" for word in second[1:])
            assert caught.value.message == (
                f"{name} is given twice: {words[0]} and {words[1]}. It takes one value. "
                f"Keep the one that you mean: {name} {words[0]} or {name} {words[1]}."
            )
    for option in others:
        ctx = click.Context(command)
        words = [option.opts[0], *["x"] * option.nargs]
        assert list(command._repeated(ctx, [*words, *words, *words])) == []


def test_no_group_takes_an_option_that_would_not_be_looked_at():
    def groups(group):
        yield group
        ctx = click.Context(group)
        for name in group.list_commands(ctx):
            one = group.get_command(ctx, name)
            if isinstance(one, click.Group):
                yield from groups(one)

    found = list(groups(main))
    assert len(found) > 3
    assert [group.name for group in found if singles_of(group)] == []
    assert sum(len(singles_of(param.values[0])) for param in commands()) > 300


def test_a_repeated_option_on_the_command_line(tmp_path):
    scan = ("associate", "--bfile", "a", "--latents", "z.tsv", "--out", "x")
    done = command_line(*scan, "--maf", "0.01", "--quiet", "--maf=0.05", "--bfile", "a", "--quiet",
                        "--bfile", "b c", folder=tmp_path)  # fmt: skip
    assert done.code == 8
    assert "--bfile is given 3 times: a, a and 'b c'. It takes one value." in done.text
    assert "Keep the one that you mean: --maf 0.01 or --maf 0.05." in done.text
    assert list(tmp_path.iterdir()) == []


def test_what_may_be_repeated_or_looks_like_it():
    @click.command(cls=Command)
    @click.option("--way", "--by", "-w")
    @click.option("--on/--off")
    @click.option("--quiet", is_flag=True)
    @click.option("-v", count=True)
    @click.option("--keep", multiple=True)
    @click.argument("rest", nargs=-1)
    def run(**given):
        click.echo(given)

    def said(*words):
        done = CliRunner().invoke(run, words)
        return done.exit_code, done.output

    many = ("--on", "--off", "--quiet", "--quiet", "-vv", "-v", "--keep", "a", "--keep", "b")
    code, text = said(*many, "--way", "-w", "--", "--way", "c")
    assert code == 0, text
    assert ast.literal_eval(text) == {"on": False, "quiet": True, "v": 3, "keep": ("a", "b"),
                                      "way": "-w", "rest": ("--way", "c")}  # fmt: skip
    for one, two in (("--by", "-w"), ("-w", "--way"), ("--way", "--by")):
        code, text = said(one, "a", two, "b")
        assert code == 2
        assert "--way is given twice: a and b." in text
    assert said("--way", "a", "--way", "b", "--help")[0] == 0
    assert "No such option" in said("--way", "a", "--way", "b", "--nix")[1]


def test_a_recorded_command_is_understood_as_when_it_ran():
    """Runs of older versions took the last of a repeated option."""
    words = ["--bfile", "a", "--maf", "0.01", "--out", "x", "--maf", "0.05"]
    assert associate.read_back(words)["maf"] == 0.05
    with pytest.raises(click.UsageError, match=r"--maf is given twice: 0.01 and 0.05"):
        associate.make_context("associate", words)
