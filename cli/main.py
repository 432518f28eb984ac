"""Entry point of the command ``imgwas``: commands, exit codes, and how errors look.

Commands live one to a file and are imported when they are called, so that ``imgwas --help`` is
instant.
"""

from __future__ import annotations

import atexit
import errno
import gc
import importlib
import logging
import os
import sys
from pathlib import Path

import click

#: command -> (module, one line for --help)
COMMANDS = {
    "doctor": ("imgwas_cli.doctor", "whether this machine is fit: libraries, cores, memory, disk"),
    "check": ("imgwas_cli.check", "read every input of a scan, tell every problem, write nothing"),
    "images": ("imgwas_cli.images", "find images, bring cines into a store, look at quality"),
    "preprocess": ("imgwas_cli.preprocess", "images -> images on one grid, by named steps"),
    "encoders": ("imgwas_cli.train", "list the encoders, or describe one"),
    "train": ("imgwas_cli.train", "images -> encoder"),
    "encode": ("imgwas_cli.encode", "images -> latents"),
    "reconstruct": ("imgwas_cli.encode", "latents -> images, beside the originals"),
    "weights": ("imgwas_cli.weights", "published checkpoints -> encoder"),
    "latents": ("imgwas_cli.latents", "transform, report, compare, predict"),
    "quality": ("imgwas_cli.quality", "genotypes -> missing calls, heterozygosity, sex"),
    "pca": ("imgwas_cli.pca", "genotypes -> principal components, as covariates"),
    "plan": ("imgwas_cli.plan", "time, memory, disk of a scan, before it runs"),
    "associate": (
        "imgwas_cli.associate",
        "latents -> statistics: scan every variant for every latent",
    ),
    "omnibus": ("imgwas_cli.omnibus", "statistics -> tests of all latents at once"),
    "heritability": (
        "imgwas_cli.heritability",
        "how much variants explain of each latent, and what latents share",
    ),
    "correlation": ("imgwas_cli.correlation", "genetic correlation of latents with other studies"),
    "loci": ("imgwas_cli.loci", "statistics -> loci, across all latents"),
    "condition": ("imgwas_cli.condition", "independent signals within loci, exactly"),
    "finemap": ("imgwas_cli.condition", "credible sets of loci"),
    "map": ("imgwas_cli.map", "hits -> regions of the brain or heart, with their uncertainty"),
    "traverse": ("imgwas_cli.traverse", "latents -> a page that shows what each of them moves"),
    "replicate": ("imgwas_cli.replicate", "leads in a scan of other people"),
    "interaction": ("imgwas_cli.replicate", "variants x sex or another environment"),
    "score": ("imgwas_cli.score", "polygenic scores: fit, apply, sum, evaluate, publish"),
    "traits": ("imgwas_cli.traits", "latents against traits: linear, logistic, Cox"),
    "export": ("imgwas_cli.export", "statistics -> GWAS-SSF, REGENIE, PLINK 2 or exchange tables"),
    "status": ("imgwas_cli.verify", "how far a scan is"),
    "verify": ("imgwas_cli.verify", "compare a folder of results with its checksums"),
    "repair": ("imgwas_cli.verify", "compute damaged parts of a scan again"),
    "plot": ("imgwas_cli.plot", "statistics -> Manhattan and QQ figures"),
    "report": ("imgwas_cli.report", "everything about a scan -> one HTML file"),
    "simulate": ("imgwas_cli.simulate", "write a cohort whose truth is known"),
    "demo": ("imgwas_cli.demo", "brains to loci to regions, beside the truth, in two minutes"),
}

OUT_OF_MEMORY, WRITE_ERROR, BROKEN_PIPE, INTERNAL_BUG, USAGE = 2, 5, 0, 60, 8


class LazyCommands(click.Group):
    """A group that knows its commands by name and imports them when they run."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names, in the order of the work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the module of a command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name][0])
        command: click.Command = getattr(module, cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Refuse an unknown command with the nearest known one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from imgwas.checks import did_you_mean

            hint = did_you_mean(args[0], COMMANDS) or f"Commands: {', '.join(COMMANDS)}."
            ctx.fail(f"There is no command {args[0]!r}. {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


EPILOG = """Start here: imgwas demo demo

Exit codes follow PLINK 2: 0 done, 2 out of memory, 3 cannot open, 4 read error, 5 write error or
disk full, 6 malformed input, 7 inputs that do not belong together, 8 bad command line, 13 nothing
computable, 20 unfinished but resumable, 21 refused for safety, 60 a bug, 130/143 stopped by a
signal."""


@click.group(cls=LazyCommands, epilog=EPILOG, context_settings={"max_content_width": 96})
@click.version_option(package_name="imgwas", message="imgwas %(version)s")
def main() -> None:
    """Genome-wide association of imaging latents.

    Nothing is written outside --out. A run that was stopped continues when the same command is
    given again.
    """


def console() -> None:
    """Be the program ``imgwas``: run its command line, and vanish."""
    ended: list[int] = []
    atexit.register(_vanish, ended)  # first, so that it is called last
    try:
        app()
    except SystemExit as done:
        ended.append(int(done.code or 0))
        raise


def app(args: list[str] | None = None) -> None:
    """Run the command line and exit with a code that says how it went."""
    gc.set_threshold(50_000, 20, 20)  # long lists of ids are no cycles: look for those less often
    code = run(args)
    gc.freeze()  # and not at all in what is about to vanish
    sys.exit(code)


def _vanish(ended: list[int]) -> None:
    """End the process at once: taking Python apart piece by piece lasts as long as a short scan.

    Threads have ended by now, and what libraries wish to do at the end is done.
    """
    if not ended:
        return  # by an error that Python has to tell of
    logging.shutdown()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # as it is where it was closed before we began
                stream.flush()
    except (OSError, ValueError):
        return  # Python says that nobody listens
    os._exit(ended[0])


def run(args: list[str] | None = None) -> int:
    """Run the command line; return its exit code and never raise for a user's mistake."""
    debug = bool(os.environ.get("IMGWAS_DEBUG"))
    try:
        result = main.main(args=args, prog_name="imgwas", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Abort:
        click.echo("imgwas: stopped", err=True)
        return 130
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        error.show()
        return USAGE
    except BrokenPipeError:
        _silence_output()
        return BROKEN_PIPE
    except MemoryError as error:
        click.echo(f"imgwas: out of memory ({error}). Use fewer --threads.", err=True)
        return OUT_OF_MEMORY
    except KeyboardInterrupt:
        click.echo("imgwas: stopped; the same command resumes", err=True)
        return 130
    except Exception as error:
        if debug:
            raise
        return _explain_failure(error)


def _silence_output() -> None:
    """Keep the interpreter from writing what is left to an output that takes no more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _explain_failure(error: Exception) -> int:
    from imgwas.errors import ImgwasError
    from imgwas.files import write_error

    logger = logging.getLogger("imgwas")
    if isinstance(error, ImgwasError):
        click.echo(f"imgwas: error: {error}", err=True)
        logger.debug("traceback", exc_info=error)
        return error.exit_code
    if isinstance(error, OSError) and error.filename:
        known = write_error(Path(str(error.filename)), error)
        click.echo(f"imgwas: error: {known}", err=True)
        return known.exit_code
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        _silence_output()
        click.echo(f"imgwas: error: the output cannot be written ({error.strerror})", err=True)
        return WRITE_ERROR
    logger.error("internal error", exc_info=error)
    click.echo(
        f"imgwas: internal error: {type(error).__name__}: {error}\n"
        "This is a bug. Run again with IMGWAS_DEBUG=1 for the traceback and report it.",
        err=True,
    )
    return INTERNAL_BUG


if __name__ == "__main__":
    console()
