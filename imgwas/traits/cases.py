"""Who is a case: codes matched as written, dates, a window around imaging, and follow-up.

Whoever has the disease outside the window is neither a case nor a control. People without a record
of it are controls. Nothing is matched as a piece of a longer text.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from imgwas.checks import check_option, check_range
from imgwas.errors import DegenerateError, UsageError, explain
from imgwas.traits.dates import DAYS_A_YEAR, UNKNOWN, Dates, Diagnoses
from imgwas.traits.outcomes import Trait

logger = logging.getLogger(__name__)

MIN_CASES = 200
WHICH = ("all", "prevalent", "incident")


def code_matches(code: str, wanted: str) -> bool:
    """Whether a recorded code is one of a definition.

    Codes are compared as a whole, without dots and in capitals: ``I21`` is not ``I214``. A star at
    the end asks for a code with everything below it: ``I21*`` is ``I21``, ``I21.0``, ``I214``, and
    neither ``I2`` nor ``XI21``.
    """
    code, wanted = plain_code(code), plain_code(wanted)
    return code.startswith(wanted[:-1]) if wanted.endswith("*") else code == wanted


def plain_code(code: str) -> str:
    """Write a code without blanks around it and dots in it, in capitals."""
    return code.strip().replace(".", "").upper()


@dataclass(frozen=True)
class _First:
    """First dated record of one disease for each person with an imaging date, in days."""

    date: np.ndarray
    is_undated: np.ndarray
    imaging: np.ndarray


def define_cases(
    diagnoses: Diagnoses,
    definitions: Mapping[str, Sequence[str]],
    imaging: Dates,
    *,
    years_before: float = 5.0,
    years_after: float = 1.0,
    which: str = "all",
    min_cases: int = MIN_CASES,
) -> list[Trait]:
    """Make cases and controls of diseases from dated diagnoses.

    A case has the first diagnosis from ``years_before`` before imaging to ``years_after`` after it.
    People whose first diagnosis lies outside, or who have the code with no usable date, are neither
    case nor control. Everyone else with an imaging date is a control.

    Parameters
    ----------
    diagnoses : Diagnoses
        One row per person, code and date.
    definitions : mapping from name to codes
        See :func:`imgwas.traits.code_matches`.
    imaging : Dates
        The people who could be cases or controls, and when they were imaged.
    years_before, years_after : float
        The window; a year has 365.25 days.
    which : {"all", "prevalent", "incident"}
        Cases diagnosed in the whole window, up to the day of imaging, or after it. The others of
        the window are then neither.
    min_cases : int, default 200
        Diseases with fewer cases are left out and named in the log.

    Returns
    -------
    list of Trait
        With ``counts``: cases, controls, prevalent and incident cases, and who was left out.

    Raises
    ------
    DegenerateError
        If no disease has enough cases.

    References
    ----------
    .. [1] Ometto, Chatterjee et al. (2026), Nat Commun, s41467-026-74575-y: the window and the
       least number of cases.
    """
    check_option("which", which, WHICH)
    check_range("years_before", years_before, low=0)
    check_range("years_after", years_after, low=0)
    traits = []
    for name, codes in definitions.items():
        first = _first_dates(diagnoses, name, codes, imaging)
        trait = _cases(name, first, imaging, (years_before, years_after), which)
        if trait.n_cases < min_cases:
            logger.warning("%s has %d cases, fewer than %d: left out", name, trait.n_cases,
                           min_cases)  # fmt: skip
        else:
            traits.append(trait)
    return _some(traits, definitions, min_cases)


def _some(traits: list[Trait], definitions: Mapping[str, object], min_cases: int) -> list[Trait]:
    if traits:
        return traits
    raise DegenerateError(
        explain(
            f"none of {len(definitions):,} diseases has {min_cases:,} cases",
            do="Compare the codes of the definitions with those of the diagnoses; "
            "--min-cases lowers the limit",
        )
    )


def _cases(
    name: str, first: _First, imaging: Dates, window: tuple[float, float], which: str
) -> Trait:
    years = (first.date - first.imaging) / DAYS_A_YEAR
    has = np.isfinite(years)
    inside = has & (years >= -window[0]) & (years <= window[1])
    prevalent, incident = inside & (years <= 0), inside & (years > 0)
    is_case = {"all": inside, "prevalent": prevalent, "incident": incident}[which]
    is_control = ~has & ~first.is_undated
    values = np.where(is_case, 1.0, np.where(is_control, 0.0, np.nan))
    counts = {
        "cases": int(is_case.sum()),
        "controls": int(is_control.sum()),
        "prevalent in the window": int(prevalent.sum()),
        "incident in the window": int(incident.sum()),
        "outside the window": int((has & ~inside).sum()),
        "without a usable date": int((~has & first.is_undated).sum()),
    }
    logger.info("%s: %s", name, ", ".join(f"{what} {n:,}" for what, n in counts.items()))
    return Trait(name, "binary", values, imaging.sample_ids, counts=counts)


def follow_up(
    diagnoses: Diagnoses,
    definitions: Mapping[str, Sequence[str]],
    imaging: Dates,
    *,
    end: np.datetime64 | str,
    death: Dates | None = None,
    lost: Dates | None = None,
    horizon: float | None = None,
    min_cases: int = MIN_CASES,
) -> list[Trait]:
    """Make times from imaging to a first diagnosis, with every person's own censoring.

    A person is followed from the day of imaging to the first of: the diagnosis (an event), death,
    loss to follow-up, the end of the records, the horizon (all censored). People with the disease
    on or before the day of imaging are prevalent and left out, as are those with the code and no
    usable date, and those who were imaged on or after the day they are censored. Death without
    the disease is censoring: hazards are cause-specific.

    Parameters
    ----------
    diagnoses, definitions, imaging
        As in :func:`define_cases`.
    end : date
        Last day the records cover, ``"2024-03-31"``.
    death, lost : Dates, optional
        When people died or left.
    horizon : float, optional
        Years after which everyone is censored.
    min_cases : int, default 200
        Diseases with fewer events are left out and named in the log.

    Returns
    -------
    list of Trait
        Of kind ``survival``, time in years of 365.25 days.

    Raises
    ------
    DegenerateError
        If no disease has enough events.
    """
    last = _last_days(imaging, end, death, lost, horizon)
    traits = []
    for name, codes in definitions.items():
        trait = _followed(name, _first_dates(diagnoses, name, codes, imaging), imaging, last)
        if trait.n_cases < min_cases:
            logger.warning("%s has %d events, fewer than %d: left out", name, trait.n_cases,
                           min_cases)  # fmt: skip
        else:
            traits.append(trait)
    return _some(traits, definitions, min_cases)


def _last_days(
    imaging: Dates,
    end: np.datetime64 | str,
    death: Dates | None,
    lost: Dates | None,
    horizon: float | None,
) -> np.ndarray:
    """Day of censoring of each person, if no event comes first."""
    last = np.full(len(imaging.sample_ids), float(np.datetime64(end, "D").astype(np.int64)))
    for dates in (death, lost):
        if dates is not None:
            last = np.fmin(last, dates.of(imaging.sample_ids))
    if horizon is not None:
        last = np.fmin(last, imaging.days + check_range("horizon", horizon, low=0) * DAYS_A_YEAR)
    return last


def _followed(name: str, first: _First, imaging: Dates, last: np.ndarray) -> Trait:
    known = np.isfinite(imaging.days)
    prevalent = known & (first.date <= imaging.days)
    undated = known & ~np.isfinite(first.date) & first.is_undated
    too_late = known & (last <= imaging.days) & ~prevalent & ~undated
    followed = known & ~prevalent & ~undated & ~too_late
    event = followed & (first.date <= last)
    stop = np.where(event, first.date, last)
    time = np.where(followed, (stop - imaging.days) / DAYS_A_YEAR, np.nan)
    counts = {
        "events": int(event.sum()),
        "censored": int((followed & ~event).sum()),
        "prevalent": int(prevalent.sum()),
        "without a usable date": int(undated.sum()),
        "imaged after the end": int(too_late.sum()),
        "diagnosed after censoring": int((followed & ~event & np.isfinite(first.date)).sum()),
    }
    logger.info("%s: %s", name, ", ".join(f"{what} {n:,}" for what, n in counts.items()))
    values = np.where(followed, event.astype(np.float64), np.nan)
    return Trait(name, "survival", values, imaging.sample_ids, time, counts)


def _first_dates(diagnoses: Diagnoses, name: str, codes: Sequence[str], imaging: Dates) -> _First:
    if not codes or isinstance(codes, str):
        raise UsageError(explain(f"the definition of {name} holds no list of codes"))
    wanted = np.array(
        [any(code_matches(code, one) for one in codes) for code in diagnoses.codes], bool
    )
    records = wanted[diagnoses.code] if len(wanted) else np.zeros(0, bool)
    place = {one: row for row, one in enumerate(imaging.sample_ids)}
    person = np.array([place.get(one, -1) for one in diagnoses.sample_ids], np.int64)
    records = records & (person[diagnoses.person] >= 0)
    rows, days = person[diagnoses.person[records]], diagnoses.days[records]
    first = np.full(len(place), np.inf)
    dated = days != UNKNOWN
    np.minimum.at(first, rows[dated], days[dated].astype(np.float64))
    undated = np.zeros(len(place), bool)
    undated[rows[~dated]] = True
    return _First(np.where(np.isinf(first), np.nan, first), undated, imaging.days)
