"""Whether this machine is fit for a scan: libraries, cores, memory, disk, and one small sum.

Nothing here names a person, a file of data or a host.
"""

from __future__ import annotations

import importlib.metadata
import locale
import math
import os
import re
import resource
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imgwas.cluster import available_cores
from imgwas.errors import ImgwasError, OpenError, explain

GOOD, NOTE, BAD = "good", "note", "bad"

#: Written to the folder to see how fast it is, at most this long.
_PROBE_BYTES, _PROBE_SECONDS = 64_000_000, 1.5
#: Programs that tests and films use where they are there.
_PROGRAMS = {"plink2": "comparison with PLINK 2", "ffmpeg": "films", "chromium": "tests of reports"}
#: Groups of requirements that are for work on imgwas itself.
_NOT_FOR_USERS = {"test", "lint", "docs"}
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
#: A self-test further from statsmodels than this, in standard errors, is wrong.
_APART = 1e-3


@dataclass(frozen=True)
class Finding:
    """One thing about the machine.

    Parameters
    ----------
    topic : str
        ``libraries``, ``processor``, ``memory``, ``device``, ``folder``, ``system``, ``programs``
        or ``arithmetic``.
    name : str
        What was looked at.
    value : str
        What was found.
    level : str
        ``good``, ``note`` (works, but know it) or ``bad`` (imgwas will not work).
    do : str
        What to do about it; empty where there is nothing to do.
    """

    topic: str
    name: str
    value: str
    level: str = GOOD
    do: str = ""


def examine(
    folder: str | Path = ".", *, torch: bool = False, arithmetic: bool = True
) -> list[Finding]:
    """Look at this machine as a scan would use it.

    Parameters
    ----------
    folder : path
        Where results would go; 64 MB are written there and removed.
    torch : bool
        Also import torch, which takes seconds, and list its devices.
    arithmetic : bool
        Also scan a simulated cohort and compare it with statsmodels.

    Returns
    -------
    list of Finding
    """
    looks: list[Callable[[], Iterator[Finding]]] = [
        _libraries,
        _extras,
        _processor,
        _memory,
        lambda: _device(torch),
        lambda: _folder(Path(folder)),
        _system,
        _programs,
    ]
    if arithmetic:
        looks.append(_arithmetic)
    return [finding for look in looks for finding in look()]


def is_fit(findings: list[Finding]) -> bool:
    """Whether nothing bad was found."""
    return all(finding.level != BAD for finding in findings)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _requirements() -> Iterator[tuple[str, str, str]]:
    """Name, lower bound and extra of every requirement of imgwas."""
    for line in importlib.metadata.requires("imgwas") or []:
        name, least = re.match(r"[\w.-]+", line), re.search(r">=\s*([\d.]+)", line)
        extra = re.search(r"""extra\s*==\s*['"]([\w-]+)""", line)
        if name:
            yield name[0], least[1] if least else "", extra[1] if extra else ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version.split("+")[0])[:3])


def _libraries() -> Iterator[Finding]:
    yield Finding("libraries", "imgwas", _version("imgwas") or "not installed")
    yield Finding("libraries", "Python", ".".join(map(str, sys.version_info[:3])))
    for name, least, extra in _requirements():
        if extra:
            continue
        found = _version(name)
        if found and _numbers(found) >= _numbers(least):
            yield Finding("libraries", name, found)
        else:
            value = f"{found or 'absent'}, at least {least} is needed" if least else "absent"
            yield Finding("libraries", name, value, BAD, f"pip install --upgrade {name}")


def _extras() -> Iterator[Finding]:
    groups: dict[str, list[str]] = {}
    for name, _, extra in _requirements():
        if extra and extra not in _NOT_FOR_USERS and name != "imgwas":
            groups.setdefault(extra, []).append(name)
    for extra, names in groups.items():
        absent = [name for name in names if not _version(name)]
        if absent:
            do = f"pip install 'imgwas[{extra}]'"
            yield Finding("libraries", f"[{extra}]", f"without {', '.join(absent)}", NOTE, do)
        else:
            yield Finding("libraries", f"[{extra}]", "installed")


def _processor() -> Iterator[Finding]:
    import threadpoolctl

    cores, quota = available_cores(), _quota()
    value = f"{cores} of {os.cpu_count() or cores}"
    if math.isfinite(quota):
        value += f", and a quota of {quota:g}"
    less = quota < cores
    do = f"--threads {max(1, math.floor(quota))}" if less else ""
    yield Finding("processor", "cores for this process", value, NOTE if less else GOOD, do)
    for pool in threadpoolctl.threadpool_info():
        names = (pool["internal_api"], pool.get("version"), pool.get("architecture"))
        value = f"{' '.join(str(n) for n in names if n)}, {pool['num_threads']} threads"
        many = pool["num_threads"] > cores
        do = f"export OMP_NUM_THREADS={cores}" if many else ""
        yield Finding("processor", pool["user_api"], value, NOTE if many else GOOD, do)
    yield _compiled()
    given = [f"{name}={os.environ[name]}" for name in _THREAD_VARIABLES if name in os.environ]
    yield Finding("processor", "threads by environment", ", ".join(given) or "not set")


def _compiled() -> Finding:
    from imgwas import native

    if native.library() is not None:
        return Finding("processor", "integer products", "compiled, AVX-512 VNNI")
    if native.is_current():
        return Finding("processor", "integer products", "not on this processor: NumPy multiplies")
    why = "compiled for another imgwas" if native.is_installed() else "not compiled"
    do = "Install imgwas again where there is a C compiler, for scans a third faster"
    return Finding("processor", "integer products", f"{why}: NumPy multiplies", NOTE, do)


def _cgroup_files(name: str, older: str) -> Iterator[str]:
    """Contents of a limit of this process's control groups, innermost first."""
    places = [Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup/cpu")]
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        path = Path(line.rpartition(":")[2].lstrip("/"))
        places += [Path("/sys/fs/cgroup") / one for one in (path, *path.parents)]
    for place in places:
        for file in (place / name, place / older):
            try:
                yield file.read_text(encoding="ascii").strip()
            except (OSError, ValueError):
                continue


def _quota() -> float:
    """Cores' worth of time that control groups allow."""
    quotas = [math.inf]
    for text in _cgroup_files("cpu.max", "cpu.cfs_quota_us"):
        words = text.split()
        if words and words[0].isdigit():
            quotas.append(int(words[0]) / (int(words[1]) if len(words) > 1 else 100_000))
    return min(quotas)


def _memory() -> Iterator[Finding]:
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        text = ""
    for key, name in (("MemTotal", "of the machine"), ("MemAvailable", "free now")):
        found = re.search(rf"{key}:\s+(\d+) kB", text)
        if found:
            yield Finding("memory", name, _size(1024 * int(found[1])))
    limits = [int(t) for t in _cgroup_files("memory.max", "memory.limit_in_bytes") if t.isdigit()]
    limits += [n for n in resource.getrlimit(resource.RLIMIT_AS) if n != resource.RLIM_INFINITY]
    least = min((n for n in limits if n < 1 << 50), default=0)
    little = 0 < least < 1_000_000_000
    do = "Ask for at least 1 GB" if little else ""
    value = _size(least) if least else "none"
    yield Finding("memory", "limit of this process", value, NOTE if little else GOOD, do)


def _size(n: float) -> str:
    return f"{n / 1e9:,.1f} GB" if n >= 1e9 else f"{n / 1e6:,.0f} MB"


def _device(use_torch: bool) -> Iterator[Finding]:
    if not _version("torch"):
        do = "pip install torch"
        yield Finding("device", "torch", "absent: no encoders, no GPU", NOTE, do)
        return
    if not use_torch:
        seen = any(Path("/dev").glob("nvidia[0-9]*")) or sys.platform == "darwin"
        value = "perhaps one, --torch looks closer" if seen else "none"
        yield Finding("device", "GPU", value)
        return
    import torch

    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    value = f"{torch.__version__}, {torch.get_num_threads()} threads"
    yield Finding("device", "torch", value)
    yield Finding("device", "GPU", ", ".join(names) or "none")


def _folder(folder: Path) -> Iterator[Finding]:
    place = next((one for one in (folder, *folder.absolute().parents) if one.is_dir()), None)
    if place is None:
        raise OpenError(explain(f"{folder} is no folder"))
    usage = shutil.disk_usage(place)
    full = usage.free < 1_000_000_000
    value = f"{_size(usage.free)} free of {_size(usage.total)}"
    do = "Free some space, or choose another --out" if full else ""
    yield Finding("folder", "space", value, NOTE if full else GOOD, do)
    system = os.statvfs(place)
    if system.f_files:
        few = system.f_favail < 10_000
        yield Finding("folder", "new files", f"{system.f_favail:,}", NOTE if few else GOOD)
    try:
        seconds, n_bytes, skew = _probe(place)
    except OSError as error:
        value = f"cannot be written ({error.strerror})"
        yield Finding("folder", "writing", value, BAD, "Choose another folder")
        return
    slow = n_bytes / seconds < 20e6
    value = f"{n_bytes / seconds / 1e6:,.0f} MB/s with sync and rename"
    do = "Results are written more slowly than computed: a local disk is better" if slow else ""
    yield Finding("folder", "writing", value, NOTE if slow else GOOD, do)
    odd = abs(skew) > 5
    do = "Set the clocks: locks and changes of files are told by time" if odd else ""
    value = f"{skew:+.1f} s from this machine's"
    yield Finding("folder", "clock", value, NOTE if odd else GOOD, do)


def _probe(folder: Path) -> tuple[float, int, float]:
    """Seconds for some bytes written, synced and renamed; how far the file's clock is ahead."""
    path = folder / f".imgwas-doctor.{uuid.uuid4().hex}.tmp"
    renamed = path.with_suffix(".done")
    block = np.random.default_rng(0).bytes(4_000_000)
    start, done = time.monotonic(), 0
    try:
        with path.open("xb") as stream:
            while done < _PROBE_BYTES and time.monotonic() - start < _PROBE_SECONDS:
                done += stream.write(block)
                stream.flush()
                os.fsync(stream.fileno())
        path.replace(renamed)
        skew = renamed.stat().st_mtime - time.time()
        return time.monotonic() - start, done, skew
    finally:
        path.unlink(missing_ok=True)
        renamed.unlink(missing_ok=True)


def _system() -> Iterator[Finding]:
    encodings = {sys.getfilesystemencoding(), locale.getpreferredencoding(False)}
    names = sorted({name.lower().replace("utf8", "utf-8") for name in encodings})
    other = names != ["utf-8"]
    do = "export PYTHONUTF8=1; tables are read as UTF-8 in any case" if other else ""
    yield Finding("system", "text", ", ".join(names), NOTE if other else GOOD, do)
    yield Finding("system", "clock", time.strftime("%Y-%m-%dT%H:%M:%S%z (%Z)"))
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    few = 0 <= soft < 1024
    do = "ulimit -n 4096" if few else ""
    yield Finding("system", "open files", f"at most {soft:,}", NOTE if few else GOOD, do)
    shared = Path("/dev/shm")  # noqa: S108 - only looked at
    if shared.is_dir():
        free = shutil.disk_usage(shared).free
        little = free < 1_000_000_000
        do = "In a container: --shm-size 2g, for training with --workers" if little else ""
        value = f"{_size(free)} free"
        yield Finding("system", "shared memory", value, NOTE if little else GOOD, do)


def _programs() -> Iterator[Finding]:
    for name, use in _PROGRAMS.items():
        found = shutil.which(name) is not None
        yield Finding("programs", name, "found" if found else f"not found (only for {use})")


def _arithmetic() -> Iterator[Finding]:
    start = time.monotonic()
    try:
        apart = _scan_and_compare()
    except ImgwasError as error:
        value = f"{type(error).__name__}: {error}"
        yield Finding("arithmetic", "a small scan", value, BAD, "Report it with this page")
        return
    good = apart < _APART
    value = f"within {apart:.1e} standard errors of statsmodels ({time.monotonic() - start:.1f} s)"
    do = "" if good else "Report it with this page: a library computes wrongly here"
    yield Finding("arithmetic", "a small scan", value, GOOD if good else BAD, do)


def _scan_and_compare() -> float:
    """Largest difference between a scan of random numbers and statsmodels, in standard errors."""
    import logging

    from imgwas.association import associate
    from imgwas.association.selfcheck import check_scan
    from imgwas.types import Covariates, Latents

    rng = np.random.default_rng(1)
    genotypes, ids = _random_genotypes(rng, 60, 200)
    latents = Latents(rng.standard_normal((len(ids), 3)), ids, ("a", "b", "c"))
    covariates = Covariates(rng.standard_normal((len(ids), 2)), ids, ("u", "v"))
    logger = logging.getLogger("imgwas")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with tempfile.TemporaryDirectory() as folder:
            results = associate(genotypes, latents, covariates, out=folder, threads=1)
            table = check_scan(results, genotypes, latents, covariates, pairs=20)
    finally:
        logger.setLevel(level)
    return float(np.nan_to_num(table["difference"], nan=np.inf).max())


def _random_genotypes(rng: np.random.Generator, m: int, n: int) -> tuple[Any, tuple[str, ...]]:
    import pyarrow as pa

    from imgwas.genotypes import ArrayGenotypes
    from imgwas.types import VARIANT_SCHEMA, Samples

    ids = tuple(f"i{k}" for k in range(n))
    dosage = rng.binomial(2, 0.3, (m, n)).astype(np.float32)
    dosage[rng.random((m, n)) < 0.02] = np.nan
    names = [f"v{k}" for k in range(m)]
    columns = [["1"] * m, list(range(1, m + 1)), names, ["A"] * m, ["G"] * m]
    variants = pa.table(columns, schema=VARIANT_SCHEMA)
    samples = Samples(ids, ("0",) * n, np.ones(n, np.int8), np.ones(n, bool))
    return ArrayGenotypes(dosage, variants, samples), ids
