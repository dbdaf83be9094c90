"""Whose a folder is, and who else may write in it: groups too, unless nobody else is in them."""

import contextlib
import errno
import grp
import os
import pwd
import shlex
import stat
import uuid
from collections.abc import Collection
from pathlib import Path

_FIRST_PERSON = 1000


class NotOurs(PermissionError):
    """What is not used as it is: a link, or belongs to another user, or others may change it, or read its secret."""

    def __init__(self, why: str, folder: Path) -> None:
        super().__init__(errno.EPERM, f"{folder} {why}", str(folder))

    def __str__(self) -> str:
        """The sentence, which names the folder."""
        return str(self.strerror)


def trusted() -> set[int]:
    """Whose folders are as good as ours: root's, and those of whoever owns the program that runs here."""
    return {0, os.geteuid(), Path(__file__).stat().st_uid}


def see_ours(descriptor: int, path: Path) -> None:
    """See that an open folder is ours; `path` is for the sentence.

    Raises:
        NotOurs: it is not.
    """
    status = os.fstat(descriptor)
    open_to_all = status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX
    why = f"may be written to by every user: chmod o-w {shlex.quote(str(path))}"
    see(status, path, descriptor, wide=why if open_to_all else "")


def see(status: os.stat_result, path: Path, folder: int, *, wide: str) -> None:
    """See that something belongs to us, and that not more may be done with it than should be.

    Args:
        status: what it is said to be.
        path: for the sentence.
        folder: the descriptor of a folder of the same file system, it or the one that it lies in.
        wide: what is wrong with its mode; empty: nothing.

    Raises:
        NotOurs: it does not, or too much may be.
    """
    theirs = status.st_uid not in trusted()
    if not (theirs or wide):
        return
    made = _made_in(folder)  # some shares give all files one owner and one mode, whoever made them
    if theirs and (made is None or made.st_uid != status.st_uid):
        raise NotOurs(f"belongs to {named(status.st_uid)}, not to {named(os.geteuid())}", path)
    if wide and (made is None or not made.st_mode & (stat.S_IRWXG | stat.S_IRWXO)):
        raise NotOurs(wide, path)


def _made_in(descriptor: int) -> os.stat_result | None:
    """What a folder is said to be that we make just now, for us alone; it is gone again."""
    name = f".{uuid.uuid4().hex}"
    try:
        os.mkdir(name, 0o700, dir_fd=descriptor)
        try:
            return os.stat(name, dir_fd=descriptor, follow_symlinks=False)
        finally:
            os.rmdir(name, dir_fd=descriptor)
    except OSError:
        return None


def named(uid: int) -> str:
    """A user, for people."""
    try:
        return f"{pwd.getpwuid(uid).pw_name} (user {uid})"
    except KeyError:
        return f"user {uid}"


def see_way_is_ours(path: Path, *, uids: Collection[int] = (), gids: Collection[int] = ()) -> None:
    """See that no other user can put something else in the place of what a path leads to, there or not.

    Args:
        path: its last name is not looked at, the folders above are.
        uids: users who may, besides those who are trusted.
        gids: groups that may, besides those in which nobody else is.

    Raises:
        NotOurs: somebody can; the sentence names the folder that decides it.
        OSError: one cannot be looked at.
    """
    for above in path.absolute().parents:
        try:
            status = above.lstat()
        except FileNotFoundError:
            continue  # it is still to be made
        if status.st_uid not in {*trusted(), *uids}:
            raise NotOurs(f"belongs to {named(status.st_uid)}, who can put another folder in its place", above)
        if stat.S_ISLNK(status.st_mode):
            see_way_is_ours(above.parent / above.readlink() / path.name, uids=uids, gids=gids)
        elif not status.st_mode & stat.S_ISVTX and (who := others_who_write(status, but=gids)):
            mend = f"chmod +t {shlex.quote(str(above))}"  # those who share it go on writing there
            raise NotOurs(f"may be written to by {who}, who can put another folder in its place: {mend}", above)


def others_who_write(status: os.stat_result, *, but: Collection[int] = ()) -> str:
    """Who else may write in a folder, but for groups that may; empty: nobody."""
    if status.st_mode & stat.S_IWOTH:
        return "every user"
    gid = status.st_gid
    if not status.st_mode & stat.S_IWGRP or gid in but or gid in _trusted_groups() or _is_only_ours(gid):
        return ""
    with contextlib.suppress(KeyError):
        return f"group {grp.getgrgid(gid).gr_name}"
    return f"group {gid}"


def _trusted_groups() -> set[int]:
    """Root's, and those that can put another program in the place of this one."""
    way = [folder.stat() for folder in Path(__file__).resolve().parents]
    return {0, *(status.st_gid for status in way if status.st_mode & stat.S_IWGRP)}


def _is_only_ours(gid: int) -> bool:
    """Whether nobody else is in a group, as far as this host knows.

    Accounts of the system are programs and no persons: those below 1000, by the convention of Debian and Red Hat. On
    Ubuntu `/var/log` belongs to such a group, on Debian `/var/local` to an empty one.
    Any other group without a known member may be one of a directory service.
    """
    members = {user.pw_uid for user in pwd.getpwall() if user.pw_gid == gid}
    if gid == os.getegid():  # in a container neither may have a name
        members.add(os.geteuid())
    with contextlib.suppress(KeyError):
        for name in grp.getgrgid(gid).gr_mem:
            members.add(pwd.getpwnam(name).pw_uid)
    persons = {uid for uid in members if uid >= _FIRST_PERSON}
    return persons <= trusted() and (bool(members) or gid < _FIRST_PERSON)
