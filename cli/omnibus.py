"""``imgwas omnibus``: test every variant of a finished scan against all latents at once."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from imgwas_cli import logs
from imgwas_cli.options import FILE, FOLDER, CommaList, Command
from imgwas_cli.running import bar

if TYPE_CHECKING:
    import numpy as np

    from imgwas.sumstats import SumStats
    from imgwas.sumstats.joint import OmnibusTest

EXAMPLE = """
imgwas omnibus results/ --out omnibus.parquet
imgwas omnibus results/ --test combined,acat --out omnibus.tsv.gz --fdr latents.tsv
"""


@click.command(
    cls=Command,
    example=EXAMPLE,
    groups={
        "What": ["tests", "latent", "out"],
        "Null distribution": ["calibrate", "seed"],
        "Correlation of the latents": ["shrink", "eig_keep"],
        "Latents of the variants found": ["fdr", "q", "threshold"],
    },
)
@click.argument("results", type=FOLDER)
@click.option(
    "--test", "tests", type=CommaList(), multiple=True,
    default=["combined,joint,minp,share_last"], show_default="combined,joint,minp,share_last",
    help="Of combined, joint, f, chi2, minp, acat, share_last; P is that of the first.",
)  # fmt: skip
@click.option("--latent", type=CommaList(), multiple=True, help="Only these latents.")
@click.option("--out", type=FILE, required=True, help="Table: .parquet, .tsv or .tsv.gz.")
@click.option(
    "--shrink", type=click.FloatRange(0, 1), default=0.0, show_default=True,
    help="d of (1 - d) R + d I in chi2.",
)  # fmt: skip
@click.option(
    "--eig-keep", type=click.IntRange(1), help="Only so many of the largest eigenvectors."
)
@click.option(
    "--calibrate", type=click.IntRange(1000), metavar="N",
    help="P by rank among N variants without effect, drawn from the correlation of the latents.",
)  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Decides those draws.")
@click.option("--fdr", type=FILE, help="Also write which latents each variant found moves, TSV.")
@click.option(
    "--q", type=click.FloatRange(0, 1), default=0.05, show_default=True,
    help="False discovery rate of both levels of --fdr.",
)  # fmt: skip
@click.option(
    "--threshold", type=click.FloatRange(0, 1),
    help="Variants of --fdr are those below this P, such as 5e-8, instead of --q.",
)  # fmt: skip
def omnibus(results: Path, out: Path, **given: Any) -> None:
    """Test every variant of a finished scan against all latents at once.

    No genotype is read: the F test of the variant on all latents follows exactly from the stored t
    statistics and the stored correlation of the latents. `combined` is twice the smaller P of that
    test and of the best single latent; it finds what either would.
    """
    from imgwas.sumstats import open_sumstats
    from imgwas.sumstats.omnibus_table import check_output, omnibus_test, write_omnibus

    logs.to_terminal()
    check_output(out)
    sumstats = open_sumstats(results)
    names = [name for words in given["latent"] for name in words] or None
    tests = _tests(given["tests"])
    test = omnibus_test(sumstats, latents=names, shrink=given["shrink"], eig_keep=given["eig_keep"])
    calibrate = None
    if given["calibrate"]:
        from imgwas.sumstats.omnibus_null import simulate_null

        null = simulate_null(test, n_draws=given["calibrate"], seed=given["seed"], tests=tests[:1])
        calibrate = partial(null.calibrated, test=tests[0])
    with bar(sumstats.n_variants, "omnibus", "variant") as progress:
        blocks = write_omnibus(
            sumstats, out, test, tests=tests, latents=names, calibrate=calibrate, progress=progress
        )
        found = _first(blocks)
    _report(test, found, out)
    if given["fdr"]:
        _write_latents(sumstats, found, given)


def _tests(given: tuple[tuple[str, ...] | str, ...]) -> list[str]:
    words = [
        word for group in given for word in (group.split(",") if isinstance(group, str) else group)
    ]
    return list(dict.fromkeys(words))


def _first(blocks: Any) -> np.ndarray:
    import numpy as np

    return np.concatenate([block["neg_log_10_p_value"].to_numpy() for block in blocks])


def _report(test: OmnibusTest, found: np.ndarray, out: Path) -> None:
    import numpy as np

    from imgwas.sumstats.effective_tests import study_wide_threshold

    directions = test.directions
    click.echo(
        f"{directions.n_latents:,} latents, {directions.rank:,} directions, condition number "
        f"{directions.condition_number:.3g}",
        err=True,
    )
    n_passing = int((found >= -np.log10(5e-8)).sum())
    click.echo(f"wrote {len(found):,} variants to {out}; {n_passing:,} have P < 5e-8", err=True)
    click.echo(
        "for single latents: P < "
        + ", ".join(
            f"{study_wide_threshold(test.correlation, method):.3g} ({method})"
            for method in ("bonferroni", "nyholt")
        ),
        err=True,
    )


def _write_latents(sumstats: SumStats, found: np.ndarray, given: dict[str, Any]) -> None:
    from imgwas.files import publish
    from imgwas.sumstats.two_level import two_level_fdr

    table = two_level_fdr(
        sumstats, found, q_variants=given["q"], q_latents=given["q"], threshold=given["threshold"]
    )
    with publish(given["fdr"], "w") as stream:
        table.to_csv(stream, sep="\t", index=False, na_rep="NA")
    click.echo(
        f"wrote {len(table):,} pairs of {table['variant_id'].nunique():,} variants and "
        f"{table['latent'].nunique():,} latents to {given['fdr']}",
        err=True,
    )
