"""What the commands of ``imgwas latents`` write: tables, figures, and JSON that lists them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from imgwas.latents import PrincipalComponents
    from imgwas.prediction import Target
    from imgwas.types import Covariates, Latents


class Results:
    """Files of one command in its folder, and a JSON file, written last, that lists them."""

    def __init__(self, out: Path) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.out = out
        self.files: dict[str, str] = {}

    def table(self, name: str, frame: pd.DataFrame) -> None:
        """Write a DataFrame as TSV."""
        from imgwas.files import publish

        with publish(self.out / name, "w") as stream:
            frame.to_csv(stream, sep="\t", index=False, na_rep="NA", lineterminator="\n")
        self._note(name)

    def latents(self, name: str, table: Latents, history: Mapping[str, Any]) -> None:
        """Write latents as Parquet."""
        from imgwas.latents import write_latents

        self.files[name] = write_latents(table, self.out / name, history=history)

    def figure(self, name: str, ax: Axes) -> None:
        """Write a figure as pdf and png."""
        from imgwas.plots import save_figure

        for kind in ("pdf", "png"):
            self._note(save_figure(ax.figure, self.out / f"{name}.{kind}").name)

    def finish(self, name: str, content: Mapping[str, Any]) -> None:
        """Write what was found, with the digests of all files."""
        from imgwas._version import __version__
        from imgwas.files import publish_json

        made = {"imgwas": __version__, "command": ["imgwas", *sys.argv[1:]]}
        publish_json(self.out / name, plain({**made, **content, "files": self.files}))
        click.echo(f"wrote {len(self.files) + 1} files to {self.out}", err=True)

    def _note(self, name: str) -> None:
        from imgwas.files import sha256_of

        self.files[name] = sha256_of(self.out / name)


def plain(value: Any) -> Any:
    """Turn what is no number into null, and NumPy's scalars into Python's, for JSON."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value


def source_of(table: Latents) -> dict[str, Any]:
    """File, size, digest and history of a table."""
    keys = ("file", "bytes", "sha256", "history")
    return {key: table.source[key] for key in keys if key in table.source}


def describe(
    results: Results,
    table: Latents,
    covariates: Covariates | None,
    *,
    method: str,
    cluster: bool,
    individuals: bool,
) -> None:
    """Write the report on one table of latents."""
    import pandas as pd

    from imgwas.latents import eigen_spectrum, fit_components, latent_correlation
    from imgwas.plots.latents import correlation_heatmap, spectrum

    quality = _quality(table)
    results.table("quality.tsv", quality)
    matrix = pd.DataFrame(latent_correlation(table), list(table.names), list(table.names))
    results.table("correlation.tsv", matrix.rename_axis("latent").reset_index())
    results.figure("correlation", correlation_heatmap(matrix, cluster=cluster))
    eigen = eigen_spectrum(table)
    numbers = np.arange(1, len(eigen.names) + 1)
    results.table("eigenvalues.tsv", pd.DataFrame({"component": numbers,
                                                   "eigenvalue": eigen.eigenvalues}))  # fmt: skip
    results.figure("spectrum", spectrum(eigen, method=method))
    found: dict[str, Any] = {
        "input": source_of(table),
        "people": len(table.sample_ids),
        "latents": len(table.names),
        "odd_latents": int((quality["problem"] != "").sum()),
        "missing_values": int(np.isnan(table.values).sum()),
        "effective_number": {m: eigen.effective_number(m) for m in _METHODS},
        "study_wide_p": eigen.study_wide(method),
        "components_for_95_percent": eigen.n_components(0.95),
    }
    if len(eigen.names) > 1:
        components = fit_components(_without(table, eigen.left_out), n_components=2)
        _draw_components(results, table, components, covariates, individuals)
    if covariates is not None:
        found["nuisance"] = _nuisance(results, table, covariates)
    results.finish("report.json", found)
    click.echo(
        f"{len(table.names)} latents, {eigen.effective_number(method):.1f} effective; study-wide P "
        f"{eigen.study_wide(method):.2e}"
    )


_METHODS = ("li-ji", "cheverud", "galwey")


def _quality(table: Latents) -> pd.DataFrame:
    import pandas as pd

    from imgwas.latents import latent_quality

    odd: dict[str, list[str]] = {}
    for finding in latent_quality(table):
        odd.setdefault(finding.latent, []).append(finding.problem)
    frame = pd.DataFrame(table.values, columns=list(table.names))
    return pd.DataFrame(
        {
            "latent": list(table.names),
            "n": frame.notna().sum().to_numpy(),
            "n_missing": frame.isna().sum().to_numpy(),
            "mean": frame.mean().to_numpy(),
            "sd": frame.std().to_numpy(),
            "skewness": frame.skew().to_numpy(),
            "problem": ["; ".join(odd.get(name, [])) for name in table.names],
        }
    )


def _without(table: Latents, left_out: Sequence[str]) -> Latents:
    from dataclasses import replace

    kept = [i for i, name in enumerate(table.names) if name not in left_out]
    values = np.asarray(table.values)[:, kept]
    return replace(table, values=values, names=tuple(table.names[i] for i in kept))


def _draw_components(
    results: Results,
    table: Latents,
    components: PrincipalComponents,
    covariates: Covariates | None,
    individuals: bool,
) -> None:
    """Draw the first two components, once per covariate."""
    from imgwas.errors import DegenerateError
    from imgwas.latents.joining import aligned_values
    from imgwas.plots.components import component_scatter

    scores = components.apply(_without(table, [n for n in table.names
                                               if n not in components.latents]))  # fmt: skip
    if covariates is None:
        try:
            results.figure("components", component_scatter(scores, individuals=individuals))
        except DegenerateError as nobody:
            click.echo(f"components are not drawn: {nobody}", err=True)
        return
    values = aligned_values(table, covariates)
    for term, (colour, classes) in _colours(covariates, values).items():
        try:
            ax = component_scatter(scores, colour, label=term, classes=classes,
                                   individuals=individuals)  # fmt: skip
        except DegenerateError as nobody:
            click.echo(f"components by {term} are not drawn: {nobody}", err=True)
            continue
        results.figure(f"components_{_file_name(term)}", ax)


def _colours(
    covariates: Covariates, values: np.ndarray
) -> dict[str, tuple[np.ndarray, tuple[str, ...]]]:
    """Give each term that can be seen a colour: a number, or which class a person is."""
    from imgwas.plots.style import COLOURS

    columns: dict[str, list[int]] = {}
    for index, term in enumerate(covariates.terms or covariates.names):
        columns.setdefault(term, []).append(index)
    found: dict[str, tuple[np.ndarray, tuple[str, ...]]] = {}
    for term, own in columns.items():
        names = [covariates.names[i] for i in own]
        if len(own) == 1 and "[" not in names[0]:
            found[term] = values[:, own[0]], ()
        elif len(own) < len(COLOURS) and all(name.endswith("]") for name in names):
            levels = [name[name.index("[") + 1 : -1] for name in names]
            number = values[:, own] @ np.arange(1, len(own) + 1)
            found[term] = number, ("reference", *levels)
    return found


def _file_name(term: str) -> str:
    return "".join(c if c.isalnum() or c in "_-" else "_" for c in term)[:60]


def _nuisance(results: Results, table: Latents, covariates: Covariates) -> dict[str, Any]:
    from imgwas.latents import variance_explained
    from imgwas.plots.latents import nuisance_heatmap

    nuisance = variance_explained(table, covariates)
    results.table("nuisance_terms.tsv", nuisance.terms)
    results.table("nuisance_joint.tsv", nuisance.joint)
    results.figure("nuisance", nuisance_heatmap(nuisance))
    joint = nuisance.joint.dropna()
    if joint.empty:
        return {}
    worst = joint.iloc[int(joint["r2"].to_numpy().argmax())]
    click.echo(f"covariates explain {joint['r2'].median():.1%} of a latent (median), "
               f"{worst['r2']:.1%} of {worst['latent']}")  # fmt: skip
    return {"median_r2": float(joint["r2"].median()), "largest_r2": float(worst["r2"]),
            "most_explained": str(worst["latent"])}  # fmt: skip


def compare(results: Results, tables: Mapping[str, Latents], **how: Any) -> None:
    """Write the agreement of several seeds."""
    from imgwas.consensus import compare_seeds, join_latents, reproduced_latents
    from imgwas.plots.agreement import agreement_matrix

    found = compare_seeds(tables, **how)
    results.table("matches.tsv", found.matches)
    results.table("pairs.tsv", found.pairs)
    results.table("spaces.tsv", found.spaces)
    inputs = {name: source_of(table) for name, table in tables.items()}
    results.latents("shared.parquet", found.shared.scores, {"shared_by": inputs, "how": how})
    n = int(found.matches["is_reproduced"].sum())
    if n:
        joined = join_latents(tables, min_overlap=how["min_overlap"])
        table = reproduced_latents(joined, found.matches)
        results.latents("reproduced.parquet", table, {"reproduced_by": inputs, "how": how})
    results.figure("cka", agreement_matrix(found.matrix("cka_debiased"),
                                           label="debiased linear CKA"))  # fmt: skip
    results.figure("matched_r", agreement_matrix(found.matrix("mean_abs_r"),
                                                 label="mean |r| of matched latents"))  # fmt: skip
    results.finish("consensus.json", {"inputs": inputs, **found.summary()})
    click.echo(f"{n} of {len(found.matches)} latents are found again by another seed "
               f"(|r| above {found.threshold:g}) and explain {found.explained:.1%} of the "
               f"variance of all")  # fmt: skip


def repeat(results: Results, tables: Mapping[str, Latents], *, level: float) -> None:
    """Write the reliability of latents between visits."""
    from imgwas.latents import visit_reliability
    from imgwas.plots.agreement import reliability_dots

    found = visit_reliability(list(tables.values()), names=list(tables), level=level)
    results.table("reliability.tsv", found)
    medians = {kind: float(found[kind].median()) for kind in ("icc_2_1", "icc_3_1", "pearson_r")}
    if found["icc_2_1"].notna().any():
        results.figure("reliability", reliability_dots(found))
    results.finish(
        "reliability.json",
        {"inputs": {name: source_of(table) for name, table in tables.items()},
         "level": level, "median": medians, "people": found.attrs["people"],
         "people_at_all_visits": found.attrs["people_at_all_visits"]},
    )  # fmt: skip
    people = ", ".join(f"{name} {n:,}" for name, n in found.attrs["people"].items())
    click.echo(f"{found.attrs['people_at_all_visits']:,} people came to all visits ({people}); "
               f"median ICC(2,1) {medians['icc_2_1']:.2f}")  # fmt: skip


def predict(results: Results, features: Sequence[str], given: Mapping[str, Any]) -> None:
    """Write prediction tables and their figures."""
    from imgwas.plots.prediction import prediction_bars
    from imgwas.prediction import predict_targets

    tables = _features(features, given["id_column"])
    targets, groups = _targets(given)
    threads = given["threads"] or _cores()
    common = {"n_folds": given["folds"], "groups": groups, "seed": given["seed"],
              "threads": threads}  # fmt: skip
    found = predict_targets(
        tables, targets, models=given["models"], schemes=given["schemes"], **common
    )
    results.table("prediction.tsv", found)
    for metric in dict.fromkeys(found["metric"]):
        results.figure(f"prediction_{metric}", prediction_bars(found, metric=metric))
    if given["importance"]:
        _importance(results, tables, targets, given["models"][0], common)
    inputs = {name: source_of(table) for name, table in tables.items()}
    rows = found.to_dict("records")
    results.finish("prediction.json", {"inputs": inputs, "seed": given["seed"], "rows": rows})
    shown = found[["target", "features", "scheme", "model", "metric", "score", "chance"]]
    marks = np.where(found["is_degenerate"], "DEGENERATE", "")
    click.echo(shown.assign(note=marks).to_string(index=False, float_format="{:.3f}".format))


def _cores() -> int:
    """Count the cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _importance(
    results: Results,
    tables: Mapping[str, Latents],
    targets: Sequence[Target],
    model: str,
    common: Mapping[str, Any],
) -> None:
    import pandas as pd

    from imgwas.prediction import feature_importance

    parts = []
    for name, table in tables.items():
        for target in targets:
            part = feature_importance(table, target, model=model, **common)
            part.insert(0, "target", target.name)
            part.insert(1, "features", name)
            parts.append(part)
    results.table("importance.tsv", pd.concat(parts, ignore_index=True))


def _features(words: Sequence[str], id_column: str | None) -> dict[str, Latents]:
    from imgwas.errors import UsageError, explain
    from imgwas.latents import open_latents

    tables: dict[str, Latents] = {}
    for word in words:
        name, equals, path = word.partition("=")
        if not equals or Path(word).exists():
            name, path = Path(word).stem, word
        if not name or name in tables:
            raise UsageError(
                explain(f"the features {word!r} have no name of their own",
                        expected="NAME=FILE, each name once")
            )  # fmt: skip
        tables[name] = open_latents(path, id_column=id_column)[0]
    return tables


def _targets(given: Mapping[str, Any]) -> tuple[list[Target], Target | None]:
    """Targets in the order classes, bins, numbers; and the groups, if asked for."""
    from imgwas.errors import UsageError
    from imgwas.prediction import bin_target, read_target

    common = {"id_column": given["id_column"], "neg9": given["neg9"]}
    path = given["targets"]
    targets = [read_target(path, name, **common) for name in given["classes"] or ()]
    for words in given["bins"]:
        column, edges = _edges(words)
        targets.append(bin_target(read_target(path, column, kind="number", **common), edges))
    targets += [read_target(path, name, kind="number", **common) for name in given["number"] or ()]
    if not targets:
        raise UsageError("Say what to predict: --classes, --bins or --number.")
    groups = given["groups"]
    if groups is None:
        return targets, None
    return targets, read_target(path, groups, max_classes=None, **common)


def _edges(words: str) -> tuple[str, list[float]]:
    from imgwas.errors import UsageError, explain

    column, _, edges = words.partition(":")
    try:
        return column, [float(edge) for edge in edges.split(",")]
    except ValueError:
        raise UsageError(
            explain(f"--bins {words!r} cannot be read", expected="COLUMN:EDGES, as age:22,26,31,36")
        ) from None
