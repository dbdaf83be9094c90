"""Secrets: found in files, checked, and never part of a message. What is wrong is told by the file's and key's names.

They lie in `/run/secrets`, where containers have them (`PIPELINE_SECRETS` names another folder); elsewhere where BDRC
has them: `~/.aws/credentials` and `~/.config/bdrc/db_apps.config`.
"""

import configparser
import os
import string
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from pipeline import record
from pipeline.foundation import guarded
from pipeline.foundation.errors import SettingsError
from pipeline.foundation.work import DOOR_KEY_FILE, SCHEDULER_USER
from pipeline.replicate import Replica
from pipeline.settings.reading import content, from_project
from pipeline.settings.sections import Database, Source, name_of

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
DATABASE_KEY_FILE = "var/database.password"
_PLAIN = frozenset(f"{string.ascii_letters}{string.digits}-._~")
_LEVELS = {"prod": "prod", "dev": "qa"}


def secrets_folder() -> Path:
    """Where a container has its secrets."""
    return Path(os.environ.get("PIPELINE_SECRETS", "/run/secrets"))


def aws_credentials(sources: Sequence[Source | Replica], problems: list[str]) -> Path | None:
    """The AWS credentials file among the secrets, if there is one; boto3 is told of it.

    Every profile that a source or replica names has to be a section of it, or of boto3's own configuration file.
    """
    named = os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "")
    file = Path(named).expanduser() if named else secrets_folder() / "aws"
    profiles = [
        (name_of(source), name, profile)
        for source in sources
        for name in ("profile", "restore_profile")
        if (profile := getattr(source, name, ""))
    ]
    if not file.exists() and not (named and profiles):
        return None
    sections = _read(file, "AWS credentials", problems)
    if sections is None:
        return None
    own = configparser.ConfigParser(interpolation=None, strict=False)
    with suppress(configparser.Error, UnicodeDecodeError):  # boto3 will say so where it needs that file
        own.read(Path(os.environ.get("AWS_CONFIG_FILE", "~/.aws/config")).expanduser(), encoding="utf-8")
    there = ", ".join(sections.sections()) or "none"
    problems += [
        f"[{section}] {name} {profile!r} is no section of {file}; there: {there}"
        for section, name, profile in profiles
        if not sections.has_section(profile) and not own.has_section(f"profile {profile}")
    ]
    # boto3 makes clients in many places, and this is the only way to tell all of them.
    os.environ["AWS_SHARED_CREDENTIALS_FILE"] = str(file)
    return file


def database_url(data: Database, problems: list[str], *, make_password: bool = False) -> str:
    """The database's URL, with its password, from whichever of the settings holds it.

    A PostgreSQL of this host whose URL has none is `local-services`'s own, which makes the file where there is none.
    """
    given = [name for name in ("url_file", "db_config") if getattr(data, name)]
    if len(given) > 1:
        problems.append("[database] url_file and db_config are both set; one of them has to go")
    if data.db_config:
        return _of_db_config(data.db_config, problems)
    text = content(data.url_file, "[database] url_file", problems) if data.url_file else data.url
    try:
        url = record.parsed_url(text) if text else None
    except SettingsError as error:
        problems += error.problems
        return ""
    if url is None:
        return text
    file = data.password_file
    if url.get_backend_name() == "postgresql" and url.host in LOOPBACK and not url.password:
        path = from_project(file or DATABASE_KEY_FILE)
        if make_password:
            guarded.secret_of(path)
        file = str(path) if path.exists() else ""
    if not file:
        return text
    password = content(file, "[database] password_file", problems)
    return url.set(password=password).render_as_string(hide_password=False)


def scheduler_url(url: str, password_file: str, problems: list[str]) -> str:
    """The scheduler's URL with the password of its door; as it is, where it has one, or where there is none.

    The file that nobody named is that of this host's own luigid: its password is told to no other.
    """
    try:
        place = urlsplit(url)
        here = place.hostname in LOOPBACK
    except ValueError:
        return url  # which is told as no URL
    file = from_project(password_file) if password_file else None
    if file is None or place.username:
        return url
    if (here and not file.exists()) or (password_file == DOOR_KEY_FILE and not here):
        return url  # on this host luigid's door makes it, when it first starts
    what = "[pipeline] scheduler_password_file"
    password = content(str(file), what, problems)
    if set(password) - _PLAIN:
        problems.append(f"{what}: {file}: a password of letters, digits, - . _ ~ alone is needed: Luigi takes no other")
        return url
    return place._replace(netloc=f"{SCHEDULER_USER}:{password}@{place.netloc}").geturl()


def db_config_default(environment: str) -> str:
    """`DB_CONFIG` of the sync script when no setting says it: BDRC's file, where there is one."""
    level = _LEVELS.get(environment, "qa")
    for file in (secrets_folder() / "db_apps", Path.home() / ".config" / "bdrc" / "db_apps.config"):
        if file.is_file() and file.stat().st_size:  # `deploy` makes an empty one, where compose asks for one
            return f"{level}:{file}"
    return ""


def _of_db_config(text: str, problems: list[str]) -> str:
    """BDRC's form, `level:file`: the file's section `[level]` names a section of the MySQL option file it points to.

    ```
    [mysql]
    mySqlCnfPath = /run/secrets/drs_cnf
    [prod]
    server = drs_production
    ```
    A section that holds user, password, host and database itself will do as well.
    """
    level, _, name = text.partition(":")
    where = f"[database] db_config {text}"
    if not name:
        problems.append(f"{where}: not of the form level:file, as prod:/run/secrets/db_apps")
        return ""
    sections = _read(Path(name).expanduser(), where, problems)
    section = _section(sections, level, where, problems)
    if sections and section and (server := section.get("server", "")):
        options = sections.get("mysql", "mySqlCnfPath", fallback="").strip("\"'")
        if not options:
            problems.append(f"{where}: section [mysql] has no mySqlCnfPath")
            return ""
        level, sections = server, _read(Path(options).expanduser(), f"{where}: mySqlCnfPath", problems)
        section = _section(sections, level, where, problems)
    if section is None:
        return ""
    where += f": section [{level}]"
    missing = [key for key in ("user", "password", "host", "database") if not section.get(key)]
    if missing:
        problems.append(f"{where} has no {', '.join(missing)}")
        return ""
    port = section.get("port", "3306")
    if not port.isdigit():
        problems.append(f"{where}: port is no number")
        return ""
    url = record.parsed_url("mysql+pymysql://?charset=utf8mb4").set(
        username=section["user"],
        password=section["password"],
        host=section["host"],
        port=int(port),
        database=section["database"],
    )
    return url.render_as_string(hide_password=False)


def _section(
    sections: configparser.ConfigParser | None, name: str, where: str, problems: list[str]
) -> dict[str, str] | None:
    if sections is None:
        return None
    if not sections.has_section(name):
        problems.append(f"{where}: no section [{name}]; there: {', '.join(sections.sections()) or 'none'}")
        return None
    return {key: (value or "").strip("\"'") for key, value in sections.items(name)}


def _read(file: Path, what: str, problems: list[str]) -> configparser.ConfigParser | None:
    """The sections of an ini file; None when it cannot be read. Its lines are secrets, so none is quoted."""
    sections = configparser.ConfigParser(interpolation=None, allow_no_value=True, strict=False)
    try:
        sections.read_string(file.read_text(encoding="utf-8"))
    except OSError as error:
        problems.append(f"{what}: {file} cannot be read: {error.strerror}")
    except (configparser.Error, UnicodeDecodeError) as error:
        line = getattr(error, "lineno", None) or next((at for at, _ in getattr(error, "errors", [])), None)
        problems.append(f"{what}: {file} is no ini file" + (f": see its line {line}" if line else ""))
    else:
        return sections
    return None
