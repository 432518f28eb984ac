"""Affine registration of a brain to a template: in process, or by a program that is installed.

Each function returns one matrix that maps millimetres of the image to millimetres of the template.
Nothing is interpolated here: the matrix is multiplied onto the image's affine and a later step
resamples once.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from imgwas.errors import DegenerateError, MissingLibraryError, UsageError, explain
from imgwas.images.nifti import Volume, write_volume
from imgwas.images.space import flirt_to_world, space_of

#: name -> program to look for; "simpleitk" runs in this process
TOOLS = {"simpleitk": "", "flirt": "flirt", "ants": "antsRegistration"}
#: A program that takes longer, in seconds, is stopped.
PATIENCE = 3600
#: LPS millimetres, as ITK counts, to RAS.
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def register(
    volume: Volume,
    template: Volume,
    *,
    tool: str = "simpleitk",
    dof: int = 12,
    finest_mm: float = 2,
) -> np.ndarray:
    """Find the affine that lays a volume onto a template.

    Parameters
    ----------
    volume, template : Volume
        Both with skull or both without.
    tool : {"simpleitk", "flirt", "ants"}
        In this process (extra ``register``), or a program that is installed.
    dof : {6, 12}
        Rigid, or affine with scales and shears.
    finest_mm : float
        Voxel size of the last level (simpleitk).

    Returns
    -------
    (4, 4) float array
        RAS+ millimetres of the volume to RAS+ millimetres of the template.

    Raises
    ------
    MissingLibraryError
        If the tool is not installed.
    DegenerateError
        If the images do not overlap or the optimiser found no answer.
    """
    if dof not in (6, 12):
        raise UsageError(explain(f"dof is {dof}", expected="6 (rigid) or 12 (affine)"))
    if tool == "simpleitk":
        return _simpleitk(volume, template, dof, finest_mm)
    program = shutil.which(TOOLS[tool])
    if program is None:
        raise MissingLibraryError(
            explain(
                f"{TOOLS[tool]} is not installed",
                do="Install it, or choose register.tool=simpleitk",
            )
        )
    with tempfile.TemporaryDirectory(prefix="imgwas-") as folder:
        return _by_program(program, tool, volume, template, dof, Path(folder))


def _simpleitk(volume: Volume, template: Volume, dof: int, finest_mm: float) -> np.ndarray:
    """Mattes mutual information, rigid and then affine, coarse to fine.

    Sampling is regular and each image uses one thread, so that a repetition gives the same matrix.
    """
    sitk = _import_simpleitk()
    fixed, moving = _to_itk(template, sitk), _to_itk(volume, sitk)
    by_mass = sitk.CenteredTransformInitializerFilter.MOMENTS
    try:
        first = sitk.CenteredTransformInitializer(fixed, moving, sitk.Euler3DTransform(), by_mass)
        rigid = sitk.Euler3DTransform(_optimise(fixed, moving, first, (8, 4), finest_mm, sitk))
        if dof == 6:
            found = rigid
        else:
            start = sitk.AffineTransform(3)
            start.SetCenter(rigid.GetCenter())
            start.SetMatrix(rigid.GetMatrix())
            start.SetTranslation(rigid.GetTranslation())
            levels = (4, finest_mm) if finest_mm < 4 else (4,)
            found = sitk.AffineTransform(_optimise(fixed, moving, start, levels, finest_mm, sitk))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1][:200]
        raise DegenerateError(explain(f"registration found no answer ({reason})")) from error
    matrix = np.linalg.inv(LPS @ _to_matrix(found) @ LPS)
    _check_plausible(matrix)
    return matrix


def _import_simpleitk() -> Any:
    try:
        import SimpleITK as sitk  # noqa: N813 - its own convention
    except ImportError as error:
        raise MissingLibraryError(
            explain("registration needs SimpleITK", do="pip install 'imgwas[register]'")
        ) from error
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)  # sums in one order: the same matrix
    return sitk


def _to_itk(volume: Volume, sitk: Any) -> Any:
    """Hand a volume to ITK, whose axes run z, y, x and whose world is LPS."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.values.T))
    affine = LPS @ volume.affine
    zooms = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(zooms.tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    direction, _ = np.linalg.qr(affine[:3, :3] / zooms)
    direction = direction * np.sign((direction * affine[:3, :3]).sum(axis=0))
    image.SetDirection(direction.ravel().tolist())
    return image


def _optimise(
    fixed: Any, moving: Any, start: Any, levels_mm: tuple[float, ...], finest_mm: float, sitk: Any
) -> Any:
    spacing = max(fixed.GetSpacing())
    levels = [mm for mm in levels_mm if mm >= finest_mm] or [finest_mm]
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentagePerLevel([min(1.0, 0.1 * mm) for mm in levels], seed=1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-4, 100, 0.5)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([max(1, round(mm / spacing)) for mm in levels])
    method.SetSmoothingSigmasPerLevel([mm / 2 if mm > spacing else 0.0 for mm in levels])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(start, inPlace=False)
    found = method.Execute(fixed, moving)
    return found.GetBackTransform() if hasattr(found, "GetBackTransform") else found


def _to_matrix(transform: Any) -> np.ndarray:
    """Matrix of an ITK transform: LPS of the template to LPS of the image."""
    linear = np.asarray(transform.GetMatrix()).reshape(3, 3)
    centre = np.asarray(transform.GetCenter())
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = np.asarray(transform.GetTranslation()) + centre - linear @ centre
    return matrix


def _check_plausible(matrix: np.ndarray) -> None:
    """Refuse a match that mirrors the head or changes its size beyond what heads differ."""
    scale = np.linalg.svd(matrix[:3, :3], compute_uv=False)
    if np.linalg.det(matrix[:3, :3]) <= 0 or scale.max() > 2 or scale.min() < 0.5:
        raise DegenerateError(
            explain(
                f"registration scales the head by {scale.min():.2f} to {scale.max():.2f}",
                expected="0.5 to 2",
                do="Look at the image: is it a head, is its orientation right?",
            )
        )


def _by_program(
    program: str, tool: str, volume: Volume, template: Volume, dof: int, folder: Path
) -> np.ndarray:
    moving, fixed, found = folder / "in.nii.gz", folder / "template.nii.gz", folder / "out"
    write_volume(moving, volume)
    write_volume(fixed, template)
    if tool == "flirt":
        matrix = found.with_suffix(".mat")
        run_program(
            [program, "-in", str(moving), "-ref", str(fixed), "-omat", str(matrix),
             "-dof", str(dof), "-cost", "mutualinfo"]
        )  # fmt: skip
        return flirt_to_world(read_matrix(matrix), space_of(volume), space_of(template))
    kind = "Rigid[0.1]" if dof == 6 else "Affine[0.1]"
    run_program(
        [program, "-d", "3", "-o", f"{found}_", "-r", f"[{fixed},{moving},1]", "-m",
         f"MI[{fixed},{moving},1,32,Regular,0.25]", "-t", kind, "-c", "[1000x500x250,1e-6,10]",
         "-f", "4x2x1", "-s", "2x1x0vox", "--random-seed", "1"]
    )  # fmt: skip
    sitk = _import_simpleitk()
    transform = sitk.AffineTransform(sitk.ReadTransform(f"{found}_0GenericAffine.mat"))
    return np.asarray(np.linalg.inv(LPS @ _to_matrix(transform) @ LPS))


def run_program(command: list[str]) -> None:
    """Run a program that is installed, without a shell; its last words go into the error.

    Raises
    ------
    MissingLibraryError
        If it is not installed.
    DegenerateError
        If it fails or takes longer than an hour.
    """
    try:
        done = subprocess.run(  # noqa: S603 - a list of words, no shell
            command, capture_output=True, text=True, timeout=PATIENCE, check=False, errors="replace"
        )
    except FileNotFoundError as error:
        raise MissingLibraryError(explain(f"{command[0]} is not installed")) from error
    except subprocess.TimeoutExpired as error:
        raise DegenerateError(explain(f"{Path(command[0]).name} ran over an hour")) from error
    if done.returncode:
        words = " ".join((done.stderr or done.stdout).split())[-300:]
        name = Path(command[0]).name
        raise DegenerateError(explain(f"{name} failed with code {done.returncode} ({words})"))


def read_matrix(path: Path) -> np.ndarray:
    """Read a 4 x 4 matrix of a FLIRT ``.mat`` file."""
    return parse_matrix(path.read_text(encoding="utf-8", errors="replace"), path.name)


def parse_matrix(text: str, name: str) -> np.ndarray:
    """Read 16 numbers in four rows.

    Raises
    ------
    MalformedError
        If it is no invertible 4 x 4 matrix whose last row is 0 0 0 1.
    """
    from imgwas.errors import MalformedError

    try:
        rows = [
            [float(word) for word in line.split()] for line in text.splitlines() if line.strip()
        ]
        matrix = np.array(rows, np.float64)
    except ValueError as error:
        raise MalformedError(explain(f"{name} holds more than numbers ({error})")) from error
    good = matrix.shape == (4, 4) and np.isfinite(matrix).all()
    if not good or np.abs(matrix[3] - [0, 0, 0, 1]).max() > 1e-6:
        raise MalformedError(
            explain(f"{name} is no affine matrix", expected="Four rows of four, the last 0 0 0 1")
        )
    if abs(np.linalg.det(matrix[:3, :3])) < 1e-9:
        raise MalformedError(explain(f"{name} holds a matrix that cannot be inverted"))
    return matrix


def correct_bias(volume: Volume, shrink: int) -> np.ndarray:
    """Divide a volume by its bias field (N4), estimated on every ``shrink``-th voxel.

    References
    ----------
    .. [1] Tustison et al. (2010), IEEE Transactions on Medical Imaging 29:1310.
    """
    sitk = _import_simpleitk()
    image = _to_itk(volume, sitk)
    mask = sitk.Cast(image > 0, sitk.sitkUInt8)
    corrector = sitk.N4BiasFieldCorrectionImageFilter()
    corrector.SetNumberOfThreads(1)
    corrector.SetMaximumNumberOfIterations([50, 50, 30])
    try:
        corrector.Execute(sitk.Shrink(image, [shrink] * 3), sitk.Shrink(mask, [shrink] * 3))
    except RuntimeError as error:
        raise DegenerateError(explain("the bias field has no answer for this image")) from error
    field = sitk.Exp(corrector.GetLogBiasFieldAsImage(image))
    return np.asarray(volume.values / sitk.GetArrayFromImage(field).T, np.float32)
