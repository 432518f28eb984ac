"""Zip archives read in place: their members by name, nothing unpacked to disk."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from imgwas.checks import duplicates
from imgwas.errors import MalformedError, RefusedError, explain, redact
from imgwas.tables.recognise import explained

#: A member may be this large unpacked, and grow by this factor; an empty mask reaches 1,000.
MAX_BYTES, MAX_RATIO = 2_000_000_000, 1100
#: Below this size the factor is no danger.
_SMALL = 10_000_000
_ENCRYPTED = 0x1


def list_members(path: Path) -> list[zipfile.ZipInfo]:
    """List the files in a zip after looking for the tricks that zips can play.

    Raises
    ------
    RefusedError
        If a name leads out of the archive, a member is a link, or one would unpack to a bomb.
    MalformedError
        If the file is no whole zip, is encrypted, or names a member twice.
    """
    with explained(Path(redact(path.name))):
        try:
            with zipfile.ZipFile(path) as archive:
                members = [m for m in archive.infolist() if not m.is_dir()]
        except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise MalformedError(
                explain(f"{redact(path.name)} is no whole zip archive", do="Copy it again")
            ) from error
    for member in members:
        _check_member(member, path)
    if duplicates(m.filename for m in members):
        raise MalformedError(explain(f"{redact(path.name)} holds two members of one name"))
    return members


def _check_member(member: zipfile.ZipInfo, path: Path) -> None:
    check_member_name(member.filename, redact(path.name))
    if stat.S_ISLNK(member.external_attr >> 16):
        raise RefusedError(explain(f"{redact(path.name)} holds a symbolic link"))
    limit = max(_SMALL, MAX_RATIO * member.compress_size)
    if member.file_size > min(limit, MAX_BYTES):
        raise RefusedError(
            explain(
                f"{redact(path.name)} holds a member that unpacks to {member.file_size:,} bytes",
                expected=f"At most {MAX_BYTES:,} bytes and {MAX_RATIO} times its packed size",
            )
        )
    if member.flag_bits & _ENCRYPTED:
        raise MalformedError(
            explain(f"{redact(path.name)} is encrypted", do="Unpack it with its password first")
        )


def check_member_name(name: str, where: str) -> None:
    """Refuse the name of a member that is absolute or climbs out of its archive.

    Raises
    ------
    RefusedError
        Exit code 21: whoever made such an archive wanted a file written elsewhere.
    """
    parts = PurePosixPath(name.replace("\\", "/")).parts
    drive = len(name) > 1 and name[1] == ":"
    if not parts or parts[0] == "/" or ".." in parts or drive or "\0" in name:
        raise RefusedError(
            explain(
                f"{where} holds a member whose name leads out of it",
                expected="Names below the archive, without '..' or a leading '/'",
                do="Do not unpack this file; ask where it came from",
            )
        )


def find_member(members: Sequence[zipfile.ZipInfo], basename: str) -> str:
    """Name of the one member called ``basename`` in whatever folder; empty if there is none.

    Folders called ``unusable`` or ``incompatible``, where UK Biobank leaves scans that failed its
    own checks, are not looked into.

    Raises
    ------
    MalformedError
        If several folders hold it.
    """
    found = [m.filename for m in members if PurePosixPath(m.filename).name == basename]
    found = [name for name in found if not _FAILED & set(PurePosixPath(name).parts[:-1])]
    if len(found) > 1:
        raise MalformedError(explain(f"{len(found)} folders of the zip hold {basename}"))
    return found[0] if found else ""


_FAILED = {"unusable", "incompatible"}


def read_member(path: Path, member: str, limit: int = MAX_BYTES) -> bytes:
    """Read one member whole.

    Raises
    ------
    MalformedError
        If it is absent, damaged, or unpacks to more than ``limit`` bytes.
    """
    name = f"{redact(path.name)}:{redact(PurePosixPath(member).name)}"
    with explained(Path(redact(path.name))):
        try:
            with zipfile.ZipFile(path) as archive, archive.open(member) as stream:
                content = stream.read(limit + 1)
        except KeyError as error:
            raise MalformedError(explain(f"{name} is not in the archive")) from error
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise MalformedError(explain(f"{name} is damaged", do="Copy the zip again")) from error
    if len(content) > limit:
        raise MalformedError(explain(f"{name} unpacks to more than {limit:,} bytes"))
    return content
