"""A recipe of preparation: named steps in an order, read from words or from a file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgwas import settings
from imgwas._version import __version__
from imgwas.checks import did_you_mean, duplicates
from imgwas.errors import ImgwasError, UsageError, explain
from imgwas.images.listing import ImageFile
from imgwas.images.nifti import Volume
from imgwas.images.space import space_of
from imgwas.images.steps import STEPS, Work
from imgwas.images.stored import read_image


@dataclass(frozen=True)
class Recipe:
    """Steps in the order in which they are applied.

    Examples
    --------
    >>> recipe = Recipe.of(["reorient", "zscore"], {"zscore.background": "zero"})
    >>> [step.name for step in recipe.steps]
    ['reorient', 'zscore']
    """

    steps: tuple[Any, ...]

    @classmethod
    def of(cls, names: Sequence[str], given: Mapping[str, Any] | None = None) -> Recipe:
        """Choose steps by name and set their fields by ``step.field``.

        Raises
        ------
        UsageError
            If a step or a setting is unknown, a step comes twice, or a setting has no step.
        """
        twice = duplicates(names)
        if twice:
            raise UsageError(explain(f"the step {twice[0]} is named twice"))
        chosen = {name: _step(name)() for name in names}
        for key, value in (given or {}).items():
            name, _, field = key.partition(".")
            if name not in chosen or not field:
                raise UsageError(
                    explain(
                        f"there is no step for the setting {key}",
                        expected=f"Steps of this recipe: {', '.join(chosen)}",
                        do=did_you_mean(name, chosen),
                    )
                )
            chosen[name] = settings.override(chosen[name], {field: value}, where=name)
        return cls(tuple(chosen.values()))

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """Read a YAML list of steps: ``- reorient`` or ``- zscore: {background: zero}``."""
        content = settings.read_yaml(path)
        items = content.get("steps") if isinstance(content, dict) else content
        if not isinstance(items, list) or not items:
            raise UsageError(explain(f"{path} lists no steps", expected="steps:\n  - reorient"))
        names, given = [], {}
        for item in items:
            fields = item if isinstance(item, dict) else {str(item): {}}
            if len(fields) != 1:
                what = f"{path} has a step with {len(fields)} names"
                raise UsageError(explain(what, expected="- zscore: {background: zero}"))
            ((name, values),) = fields.items()
            names.append(name)
            more = settings.mapping(values, f"{path}: {name}")
            given.update({f"{name}.{key}": value for key, value in more.items()})
        return cls.of(names, given)

    def as_json(self) -> list[dict[str, Any]]:
        """Return names and settings; a template is named by its file and digest."""
        return [{"step": step.name, **_plain(settings.as_json(step))} for step in self.steps]

    def digest(self) -> str:
        """Identity of what the recipe does."""
        return hashlib.sha256(json.dumps(self.as_json(), sort_keys=True).encode()).hexdigest()


def _step(name: str) -> type:
    if name not in STEPS:
        raise UsageError(
            explain(
                f"there is no step {name!r}",
                expected=f"Steps: {', '.join(STEPS)}",
                do=did_you_mean(name, STEPS),
            )
        )
    return STEPS[name]


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Replace the path of a template by what identifies it wherever it lies."""
    from imgwas.files import sha256_of

    template = values.get("template")
    if template:
        path = Path(template)
        known = sha256_of(path) if path.is_file() else "absent"
        values = {**values, "template": {"file": path.name, "sha256": known}}
    return values


def prepare_image(
    file: ImageFile, recipe: Recipe, *, dimensions: tuple[int, ...] = (3, 4)
) -> tuple[Volume, dict[str, Any]]:
    """Read one image and apply a recipe.

    Returns
    -------
    Volume
        The prepared image.
    dict
        What was done: source, steps with settings, what was measured, version.

    Raises
    ------
    ImgwasError
        Of the reader or a step, with the name of the step in front.
    """
    volume = read_image(file, dimensions=dimensions)
    work = Work(volume, file, space_of(volume))
    for step in recipe.steps:
        try:
            work = step.apply(work)
        except ImgwasError as error:
            raise type(error)(f"{step.name}: {error}") from error
    space = space_of(work.volume)
    record = {
        "source": file.name,
        "steps": recipe.as_json(),
        "measured": work.notes,
        "world_to_world": work.moved.tolist(),
        "grid": list(space.grid),
        "affine": space.affine.tolist(),
        "imgwas": __version__,
    }
    return work.volume, record
