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
from imgwas.latents.tables import read_history, write_latents
from imgwas.latents.transforms import quantile_normalize, rank_normalize

__all__ = [
    "EigenSpectrum",
    "Finding",
    "NuisanceReport",
    "PrincipalComponents",
    "correlate",
    "eigen_spectrum",
    "findings_of",
    "fit_components",
    "join_tables",
    "latent_correlation",
    "latent_quality",
    "quantile_normalize",
    "rank_normalize",
    "read_history",
    "residualize",
    "variance_explained",
    "visit_reliability",
    "write_latents",
]
