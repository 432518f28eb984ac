"""What a locus is: presets with their numbers, and the MHC rule."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from imgwas.checks import check_option, check_range
from imgwas.errors import InconsistentError, UsageError, explain

#: The MHC as the Genome Reference Consortium delimits it: chromosome 6, by build.
MHC = {"GRCh37": (28_477_797, 33_448_354), "GRCh38": (28_510_120, 33_480_577)}
MHC_RULES = ("merge", "exclude", "keep")


@dataclass(frozen=True)
class LocusDefinition:
    """How significant variants become loci.

    Parameters
    ----------
    preset : {"fuma", "plink", "distance"}
        ``fuma``: variants with P up to ``p1`` are clumped at ``r2`` to independent significant
        variants; each spans a block from its leftmost to its rightmost partner (r² at least ``r2``,
        P up to ``p2``, within ``kb``); independent variants clumped at ``lead_r2`` give the lead
        variants, each with the blocks of its clump; what is at most ``merge_kb`` apart, edge to
        edge, is one locus. ``plink``: every clump
        of PLINK's ``--clump`` is a locus. ``distance``: the strongest variant takes every
        significant one within ``kb``, without LD.
    p1, p2 : float
        Largest P of an index variant, and of its partners.
    r2, lead_r2 : float
        Limits of LD.
    kb : float
        A partner is nearer than this to its index variant.
    merge_kb : float, optional
        Largest gap between blocks of one locus; None: blocks are not merged.
    mhc : {"merge", "exclude", "keep"}
        What touches the MHC is one locus, or is left out, or is treated like everything else.
    """

    preset: str
    p1: float = 5e-8
    p2: float = 0.05
    r2: float = 0.6
    lead_r2: float = 0.1
    kb: float = 1000
    merge_kb: float | None = 250
    mhc: str = "keep"

    def __post_init__(self) -> None:
        check_option("the preset", self.preset, PRESET_NAMES)
        check_option("the MHC rule", self.mhc, MHC_RULES)
        for name in ("p1", "p2"):
            check_range(name, getattr(self, name), low=1e-300, high=1)
        for name in ("r2", "lead_r2"):
            check_range(name, getattr(self, name), low=0, high=1)
        check_range("the window", self.kb, low=0.001, unit="kb")
        if self.merge_kb is not None:
            check_range("the gap", self.merge_kb, low=0, unit="kb")

    def describe(self) -> dict[str, Any]:
        """The numbers that this preset uses."""
        content = asdict(self)
        unused = {
            "plink": ("lead_r2",),
            "distance": ("lead_r2", "p2", "r2"),
            "fuma": (),
        }[self.preset]
        return {name: value for name, value in content.items() if name not in unused}


PRESET_NAMES = ("fuma", "plink", "distance")
PRESETS = {
    "fuma": LocusDefinition("fuma"),
    "plink": LocusDefinition("plink", p2=0.01, r2=0.5, kb=250, merge_kb=None),
    "distance": LocusDefinition("distance", kb=500, merge_kb=None),
}


def define(preset: str, mhc: str | None, build: str | None, **changes: Any) -> LocusDefinition:
    """Take a preset with some of its numbers changed; None changes nothing.

    Raises
    ------
    UsageError
        If a value is out of range, or the MHC rule needs a genome build that is not known.
    """
    check_option("the preset", preset, PRESET_NAMES)
    if mhc in ("merge", "exclude") and build is None:
        raise UsageError(
            explain(
                f"the MHC rule is {mhc!r} and the genome build of the results is not known",
                expected="The interval of the MHC depends on the build",
                do="Name it: --genome-build GRCh37 or GRCh38; or pass --mhc keep",
            )
        )
    rule = mhc or ("merge" if build in MHC else "keep")
    given = {name: value for name, value in changes.items() if value is not None}
    return replace(PRESETS[preset], mhc=rule, **given)


def agree_on_build(recorded: str | None, given: str | None) -> str | None:
    """Genome build of the results: what the scan recorded, or what the user says.

    Raises
    ------
    InconsistentError
        If the two differ.
    """
    if given is not None:
        check_option("the genome build", given, tuple(MHC))
    if recorded and given and recorded != given:
        raise InconsistentError(
            explain(
                f"the scan recorded the genome build {recorded} and {given} was given",
                do=f"Leave out --genome-build, or scan again with --genome-build {given}",
            )
        )
    return recorded or given
