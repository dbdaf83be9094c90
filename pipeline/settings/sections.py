"""The sections of `luigi.cfg` that are ours: one `luigi.Config` each, named as its class."""

import warnings

import luigi
from luigi.parameter import UnconsumedParameterWarning

from pipeline.foundation.work import DOOR_KEY_FILE

# Luigi takes its own settings in [core] for unknown ones of a task. Ours are checked by `_unknown`.
warnings.filterwarnings("ignore", category=UnconsumedParameterWarning)


class pipeline(luigi.Config):
    """`[pipeline]`: where things lie on this host, and how much runs at once."""

    environment = luigi.Parameter(default="dev", description="dev or prod; PIPELINE_ENV wins")
    lanes = luigi.IntParameter(default=2, description="works brought home at the same time on this host")
    host = luigi.Parameter(default="", description="name of this host in the record; empty: its own")
    staging = luigi.Parameter(default="var/staging", description="fast local disk for downloads and unpacked bags")
    quarantine = luigi.Parameter(default="var/quarantine", description="where refused bags are kept with their reports")
    logs = luigi.Parameter(default="var/logs", description="logs of the lanes and of the sync script")
    log_files = luigi.BoolParameter(
        default=True,
        parsing=luigi.BoolParameter.EXPLICIT_PARSING,
        description="lanes log to files too, and not to stderr alone",
    )
    log_format = luigi.ChoiceParameter(
        default="text", choices=["text", "json"], description="json: a JSON object a line, with work, step and attempt"
    )
    alive_file = luigi.Parameter(
        default="", description="touched while all lanes run, or `notify --watch` does, for health checks; empty: none"
    )
    scheduler_password_file = luigi.Parameter(
        default=DOOR_KEY_FILE,
        description="holds the password of luigid's door (a secret); the default is for a luigid on this host",
    )
    archive_root = luigi.Parameter(default="var/archive", description="folder of Archive0 to Archive3")
    margin_bytes = luigi.IntParameter(default=1 << 30, description="bytes of staging disk that always stay free")


class database(luigi.Config):
    """`[database]`: the progress database."""

    url = luigi.Parameter(default="sqlite:///var/pipeline.db", description="an SQLAlchemy URL")
    url_file = luigi.Parameter(default="", description="a file that holds the URL (a secret), instead of url")
    password_file = luigi.Parameter(default="", description="a file that holds the URL's password (a secret)")
    db_config = luigi.Parameter(
        default="", description="BDRC's level:file, as prod:/run/secrets/db_apps, instead of url"
    )


class queue(luigi.Config):
    """`[queue]`: how messages are taken and given back."""

    wait_seconds = luigi.IntParameter(default=20, description="long poll of watch mode, 1 to 20 s")
    lease_seconds = luigi.IntParameter(default=300, description="how long a lane that fell silent keeps its work")
    heartbeat_seconds = luigi.FloatParameter(default=60.0, description="how often lease and visibility are renewed")
    backoff_seconds = luigi.IntParameter(default=60, description="first delay after a failure; doubles each time")
    backoff_limit_seconds = luigi.IntParameter(default=3600, description="longest delay after a failure")
    retry_days = luigi.FloatParameter(default=10.0, description="what fails for longer is a dead letter, until `retry`")


class download(luigi.Config):
    """`[download]`: how zips come from S3."""

    connections = luigi.IntParameter(default=8, description="at once, for each lane; one brings 85 to 90 MB/s from S3")
    chunk_bytes = luigi.IntParameter(default=64 << 20, description="of a range, which one connection brings")
    bandwidth_bytes_per_second = luigi.IntParameter(
        default=0, description="what all lanes of this host together may take of the line; 0: all of it"
    )
    verify = luigi.BoolParameter(
        default=True,
        parsing=luigi.BoolParameter.EXPLICIT_PARSING,
        description="compare each zip with S3's digests before debag compares its files with the manifests",
    )


class debag(luigi.Config):
    """`[debag]`: what a bag may be."""

    threads = luigi.IntParameter(default=0, description="threads a bag; 0: the CPUs available to the process")
    max_ratio = luigi.FloatParameter(default=50.0, description="largest expansion of a compressed member over 8 MB")
    max_members = luigi.IntParameter(default=200_000, description="most members of a zip")
    allow_weak_digests = luigi.BoolParameter(
        default=True, parsing=luigi.BoolParameter.EXPLICIT_PARSING, description="accept bags with md5 or sha1 alone"
    )
    require_tag_manifest = luigi.BoolParameter(
        default=False, parsing=luigi.BoolParameter.EXPLICIT_PARSING, description="refuse bags without a tag manifest"
    )
    rid_mismatch = luigi.ChoiceParameter(
        default="refuse", choices=["warn", "refuse"], description="when BDRC-RID, folder and key name different works"
    )


class sync(luigi.Config):
    """`[sync]`: the sync script and what it is told."""

    copier = luigi.ChoiceParameter(
        default="script", choices=["script", "builtin"], description="who copies: the script, or the pipeline itself"
    )
    mount_marker = luigi.Parameter(
        default="", description="name of a file in each Archive{n} of the mounted archive; empty: not looked for"
    )
    script = luigi.Parameter(default="bin/syncOneWork.sh", description="the site's script, or the one shipped")
    path = luigi.Parameter(
        default="",
        description="folders, joined by colons, for the script's PATH, after its own and before the system's",
    )
    web_parent = luigi.Parameter(default="", description="S3 prefix for images/; empty: no web copy")
    db_config = luigi.Parameter(default="", description="DB_CONFIG of the script: level:file of database connections")
    debug = luigi.BoolParameter(
        default=False, parsing=luigi.BoolParameter.EXPLICIT_PARSING, description="DEBUG_SYNC of the script"
    )
    time_limit_seconds = luigi.IntParameter(default=0, description="the script is ended after this; 0: never")
    audit_limit_seconds = luigi.IntParameter(
        default=0, description="so long may each run of the audit tool take; 0: any"
    )
    options_file = luigi.Parameter(default="", description="the site's options; empty: ~/.config/bdrc/site-sync.yml")
    work_options = luigi.ChoiceParameter(
        default="heed", choices=["heed", "ignore"], description="config/sync.yml in works; it can only narrow"
    )


class notify(luigi.Config):
    """`[notify]`: how operators are told of trouble; without a channel nobody is."""

    smtp_host = luigi.Parameter(default="", description="the mail server; empty: no mail")
    smtp_port = luigi.IntParameter(default=587, description="its port")
    smtp_security = luigi.ChoiceParameter(
        default="starttls", choices=["starttls", "tls", "none"], description="how the connection is protected"
    )
    smtp_user = luigi.Parameter(default="", description="who sends; empty: the server asks nobody")
    smtp_password_file = luigi.Parameter(default="", description="a file that holds the password (a secret)")
    mail_from = luigi.Parameter(default="", description="the sender's address")
    mail_to = luigi.Parameter(default="", description="the receivers' addresses, with commas")
    webhook_url_file = luigi.Parameter(default="", description="a file that holds the webhook's address (a secret)")
    webhook_format = luigi.ChoiceParameter(
        default="slack", choices=["slack", "json"], description="slack: text alone; json: the facts too"
    )
    interval_seconds = luigi.IntParameter(default=900, description="least time between two messages of a channel")
    patience = luigi.IntParameter(default=3, description="so often may a passing failure happen to a bag unheard")
    expiry_hours = luigi.IntParameter(default=48, description="warn when a restored copy goes away within this")
    digest_hour = luigi.IntParameter(default=7, description="hour (UTC) of the daily digest; -1: none")


SECTIONS = (pipeline, database, queue, download, debag, sync, notify)
