"""Options that more than one command takes."""

from __future__ import annotations

import click
import pytest
from imgwas_cli.main import COMMANDS, main
from imgwas_cli.options import CommaList, Command


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

    from click.testing import CliRunner

    def said(*words):
        return CliRunner().invoke(run, words).output

    assert said() == "p,q\n"
    assert said("--x", "a", "--x", "b") == "a,b\n"
    assert seen == [("p", "q"), ("a", "b")]
    assert "[default: p,q]" in said("--help")
