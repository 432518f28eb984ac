"""Where the latents come from, and how they relate."""

from __future__ import annotations

from typing import Any

from imgwas.errors import IncompleteError
from imgwas.report.markup import Html, join, tag
from imgwas.report.page_parts import Section, Study, paragraph
from imgwas.report.pictures import figure_block, plain
from imgwas.report.scan_numbers import correlation_spectrum
from imgwas.report.tables import facts, number


def encoder(study: Study) -> Section:
    """Training of the encoder if its run is given, and the correlation of the latents."""
    parts = [_training(study), _reconstructions(study), _correlation(study)]
    return Section("encoder", "Encoder and latents", join(parts))


def _training(study: Study) -> Html:
    about = study.sources.facts("encoder", "encoder/encoder.json")
    if not about:
        return paragraph(
            "The run that trained the encoder was not given (--encoder), so its learning curve and "
            "reconstructions are not shown."
        )
    blocks = [facts(_settings(about))]
    history = about.get("history") or []
    if len(history) > 1:
        from imgwas.plots import learning_curve

        ax = learning_curve(history)
        best = min(row["validation_loss"] for row in history)
        blocks.append(
            figure_block(
                ax, name="learning-curve",
                alt=f"Loss of training and held-out images over {len(history)} epochs; "
                f"best held-out loss {best:.4g}",
                caption="Learning curve: loss by epoch on training and on held-out images.",
            )
        )  # fmt: skip
    elif history:
        row = history[0]
        blocks.append(
            paragraph(f"Loss {number(row['train_loss'])} on training and "
                      f"{number(row['validation_loss'])} on held-out images (fitted in one step).")
        )  # fmt: skip
    return join(blocks)


def _settings(about: dict[str, Any]) -> list[tuple[str, str]]:
    training = about.get("training") or {}
    people = (f"{about.get('n_train', 0):,}", f"{about.get('n_validation', 0):,}")
    own = about.get("settings") or {}
    return [
        ("Architecture", str(about.get("encoder", ""))),
        ("Trained on", f"{people[0]} images, {people[1]} held out"),
        ("Latents", str(own.get("latents", ""))),
        ("Grid", " x ".join(map(str, own.get("grid", [])))),
        ("Seed", str(training.get("seed", ""))),
        ("imgwas, torch", f"{about.get('imgwas', '?')}, {about.get('torch', '?')}"),
    ]


def _reconstructions(study: Study) -> Html | None:
    """The sheet of ``imgwas reconstruct``; its images carry numbers, not ids."""
    if study.reconstructions is None:
        return None
    return figure_block(
        study.reconstructions,
        name="reconstructions",
        alt="Slices of original images and of their reconstructions",
        caption="Originals beside their reconstructions.",
    )


def _correlation(study: Study) -> Html:
    from imgwas.plots import correlation_heatmap, spectrum

    sumstats = study.sources.sumstats
    try:
        matrix = sumstats.latent_correlation()
    except IncompleteError:
        return paragraph("The scan holds no correlation of the latents: an older imgwas made it.")
    study.downloads.add(
        "latent_correlation.tsv", matrix.rename_axis("latent").reset_index(),
        "Correlation of the latents after the covariates",
    )  # fmt: skip
    if len(matrix) < 2:
        return paragraph("One latent was scanned; there is no correlation to show.")
    eigen = correlation_spectrum(sumstats)
    heatmap = figure_block(
        correlation_heatmap(matrix.set_axis(plain(matrix), axis=1), cluster=True),
        name="latent-correlation",
        alt=f"Heatmap of the absolute correlation of {len(matrix)} latents",
        caption="Correlation of the latents after the covariates, ordered by likeness. The sign of "
        "a latent is arbitrary.",
    )  # fmt: skip
    values = figure_block(
        spectrum(eigen, method="galwey"), name="latent-spectrum",
        alt=f"Eigenvalues of that correlation; the largest is {eigen.eigenvalues[0]:.2f}",
        caption=f"Eigenvalues of this correlation. This page uses 5e-8 over {len(matrix)} latents "
        "as the study-wide threshold: effective numbers count too few at small P.",
    )  # fmt: skip
    return tag("div", heatmap, values, class_="pair")
