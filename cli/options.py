"""Every option that more than one command takes, written once."""

from __future__ import annotations

import contextlib
import copy
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

#: Spellings of other programs and the option to type here.
ELSEWHERE = {
    "--phenoFile": "--pheno",
    "--phenoCol": "--latent-name",
    "--phenoColList": "--latent-name",
    "--pheno-col": "--latent-name",
    "--covarFile": "--covar",
    "--covarCol": "--covar-name",
    "--covarColList": "--covar-name",
    "--catCovarList": "--categorical",
    "--cat-covar": "--categorical",
    "--minMAC": "--mac",
    "--chrList": "--chr",
    "--apply-rint": "--rank-normal",
    "--int": "--rank-normal",
    "--pheno-quantile-normalize": "--rank-normal",
    "--glm": "associate",
    "--maxCatLevels": "--max-levels",
}


#: Marks the parsing of a command that a file has recorded.
_RECORDED = object()


class Command(click.Command):
    """A command whose help starts with an example and groups its options.

    An option of one value may be given once: nobody who has typed two means the last.
    """

    def __init__(
        self,
        *args: Any,
        example: str = "",
        groups: dict[str, list[str]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.example, self.groups = example, groups or {}
        for param in self.params:
            if isinstance(param, click.Option) and isinstance(param.type, CommaList):
                _may_repeat(param)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Name our option for the spelling of another program; refuse two values for one."""
        for argument in args:
            name = argument.split("=")[0]
            if name in ELSEWHERE and not any(name in p.opts for p in self.params):
                raise click.UsageError(
                    f"There is no option {name} here: use {ELSEWHERE[name]}.", ctx
                )
        repeated = [] if ctx.obj is _RECORDED else list(self._repeated(ctx, args))
        if repeated:
            raise click.UsageError(" ".join(repeated), ctx)
        return super().parse_args(ctx, args)

    def read_back(self, words: list[str]) -> dict[str, Any]:
        """Parse words that a file has recorded: older runs took the last of a repeated option."""
        return self.make_context(self.name, list(words), obj=_RECORDED).params

    def _repeated(self, ctx: click.Context, args: list[str]) -> Iterator[str]:
        """Say which options of one value are given more than once, unless help is asked for."""
        single: dict[click.Parameter, click.Parameter] = {
            param: _taking_all(param)
            for param in self.params
            if isinstance(param, click.Option)
            and not (param.multiple or param.is_flag or param.count)
        }
        params: list[click.Parameter] = [single.get(p, p) for p in self.params]
        twin = click.Command(self.name, params=params)
        with contextlib.suppress(click.UsageError):  # said by the parser itself
            given, _, order = twin.make_parser(ctx).parse_args(args=list(args))
            if any(param.is_eager for param in order):
                return
            for param in single:
                values = given.get(param.name, ())
                if len(values) > 1:
                    yield _refusal(max(param.opts, key=len), values)

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the text, then the example."""
        super().format_help_text(ctx, formatter)
        if self.example:
            with formatter.section("Example"):
                for line in self.example.strip().splitlines():
                    formatter.write(f"  {line}\n")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options group by group."""
        left = {p.name: p for p in self.get_params(ctx)}
        for title, names in self.groups.items():
            self._section(ctx, formatter, title, [left.pop(n) for n in names if n in left])
        self._section(ctx, formatter, "Other", list(left.values()))

    def _section(
        self,
        ctx: click.Context,
        formatter: click.HelpFormatter,
        title: str,
        params: list[click.Parameter],
    ) -> None:
        records = [record for p in params if (record := p.get_help_record(ctx)) is not None]
        if records:
            with formatter.section(title):
                formatter.write_dl(records)


class CommaList(click.ParamType):
    """Words separated by commas."""

    name = "a,b,c"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Split at commas."""
        if isinstance(value, (tuple, list)):
            return tuple(value)
        words = tuple(word.strip() for word in str(value).split(","))
        if not all(words):
            self.fail(f"{value!r} has an empty entry. Separate names by single commas.", param, ctx)
        return words


def _may_repeat(option: click.Option) -> None:
    """Let ``--variant a --variant b,c`` mean ``--variant a,b,c``, and not the last one alone.

    Options that are ``multiple`` themselves keep their lists apart.
    """
    if option.multiple:
        return
    after, single = option.callback, option.default
    option.multiple = True
    if isinstance(single, str):  # click has its own words for none
        option.default = (single,)

    def joined(ctx: click.Context, param: click.Parameter, lists: Any) -> Any:
        words = tuple(word for words in lists or () for word in words) or None
        return words if after is None else after(ctx, param, words)

    option.callback = joined


def _taking_all(option: click.Option) -> click.Option:
    option = copy.copy(option)
    option.multiple = True
    return option


def _refusal(name: str, values: Sequence[Any]) -> str:
    from imgwas.errors import explain

    words = [shlex.join(v if isinstance(v, tuple) else (v,)) for v in values]
    times = "twice" if len(words) == 2 else f"{len(words)} times"
    choices = " or ".join(f"{name} {word}" for word in dict.fromkeys(words))
    return explain(
        f"{name} is given {times}: {', '.join(words[:-1])} and {words[-1]}",
        expected="It takes one value",
        do=f"Keep the one that you mean: {choices}",
    )


FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(path_type=Path)


def stack(options: Sequence[Callable[[F], F]]) -> Callable[[F], F]:
    """Combine option decorators into one, first written first shown."""

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


out_folder = click.option("--out", type=FOLDER, required=True, help="Folder for the results.")
scan_device = click.option(
    "--device",
    default="cpu",
    show_default=True,
    help="cpu; cuda for every GPU; cuda:1 for one; auto for GPUs where there are any.",
)

threads = click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    show_default="the cores this process may use",
    help="Threads of this process.",
)
verbosity = stack(
    [
        click.option("--quiet", is_flag=True, help="Only warnings and errors on the terminal."),
        click.option(
            "--verbose", is_flag=True, help="Everything the log file gets, on the terminal."
        ),
    ]
)

genotype_input = stack(
    [
        click.option(
            "--bfile",
            metavar="PREFIX",
            help="PREFIX.bed, PREFIX.bim and PREFIX.fam; {chr} stands for every chromosome.",
        ),
        click.option(
            "--bed",
            metavar="FILE",
            help="A .bed file (or its prefix), with the .bim and .fam beside it.",
        ),
        click.option(
            "--pfile",
            metavar="PREFIX",
            help="PREFIX.pgen, PREFIX.pvar (or .pvar.zst) and PREFIX.psam of PLINK 2.",
        ),
        click.option("--bgen", metavar="FILE", help="A .bgen file of probabilities."),
        click.option("--vcf", metavar="FILE", help="A .vcf.gz or .bcf file, unpacked once."),
        click.option("--vcz", metavar="FOLDER", help="A VCF Zarr store (.vcz), unpacked once."),
        click.option("--bim", type=FILE, help="A .bim file of another name."),
        click.option("--fam", type=FILE, help="A .fam file of another name."),
        click.option(
            "--effect-allele",
            metavar="a1|a2|FILE",
            default="a1",
            show_default=True,
            help="Allele to count: column 5 or 6 of the .bim (ALT or REF), or a file of variant id "
            "and allele.",
        ),
        click.option(
            "--psam", type=FILE, help="A .psam file of another name; sexes for --vcf and --vcz."
        ),
        click.option(
            "--sample",
            metavar="FILE",
            help="The .sample file of --bgen; by default the one beside it, or its own ids.",
        ),
        click.option(
            "--multiallelic",
            type=click.Choice(["refuse", "skip", "split"]),
            default="refuse",
            show_default=True,
            help="Variants of three or more alleles (not of a .bed).",
        ),
        click.option(
            "--cache", type=FOLDER, help="Where --vcf or --vcz is unpacked; FILE.imgwas by default."
        ),
        click.option(
            "--allow-nonzero-padding",
            is_flag=True,
            help="Accept a .bed with set bits after the last person.",
        ),
        click.option(
            "--allow-constant-sample",
            is_flag=True,
            help="Accept last people who look like padding (zero bits in every variant).",
        ),
    ]
)
