"""What is done to latents between an encoder and a scan, and how good they are.

::

    transforms    rank-based normal scores, quantile normalisation
    residuals     covariates removed
    components    principal components, whitening
    quality       constant, repeated, saturated latents
    correlation   correlation with missing values, eigen-spectrum, effective number of latents
    nuisance      variance that covariates explain
    reliability   agreement of repeat visits
    tables        written as Parquet or TSV with what was done

Importing it costs NumPy only: the scan imports it too.
"""

from imgwas.latents.components import PrincipalComponents, fit_components
from imgwas.latents.correlation import EigenSpectrum, correlate, eigen_spectrum, latent_correlation
from imgwas.latents.joining import join_tables
from imgwas.latents.nuisance import NuisanceReport, variance_explained
from imgwas.latents.quality import Finding, findings_of, latent_quality
from imgwas.latents.reliability import visit_reliability
from imgwas.latents.residuals import residualize
from imgwas.latents.steps import STEPS, check_steps, transform_latents
from imgwas.latents.tables import open_latents, read_history, write_latents
from imgwas.latents.transforms import quantile_normalize, rank_normalize

__all__ = [
    "STEPS",
    "EigenSpectrum",
    "Finding",
    "NuisanceReport",
    "PrincipalComponents",
    "check_steps",
    "correlate",
    "eigen_spectrum",
    "findings_of",
    "fit_components",
    "join_tables",
    "latent_correlation",
    "latent_quality",
    "open_latents",
    "quantile_normalize",
    "rank_normalize",
    "read_history",
    "residualize",
    "transform_latents",
    "variance_explained",
    "visit_reliability",
    "write_latents",
]
