"""Clients of S3 and SQS, and what their errors mean here."""

import gzip
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, InvalidStateError, wait
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import botocore.exceptions

from pipeline.foundation.errors import (
    AccessDenied,
    CredentialsExpired,
    NotRestored,
    ObjectGone,
    ObjectReplaced,
    PipelineError,
    StorageUnreachable,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

Answer = TypeVar("Answer")
TICK_SECONDS = 0.25
"""Who waits for a service asks so often whether it has to stop."""
_DENIED = frozenset(
    {
        "403",
        "AccessDenied",
        "AccessDeniedException",
        "AccountProblem",
        "AllAccessDisabled",
        "Forbidden",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "KMS.AccessDeniedException",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"})
_SKEWED = "RequestTimeTooSkewed"
_GONE = frozenset({"404", "405", "MethodNotAllowed", "NoSuchKey", "NoSuchUpload", "NoSuchVersion", "NotFound"})


class _DataFiles:
    """Reads botocore's data as its own reader does, but into plain dictionaries, which take half of time and memory."""

    def exists(self, path: str) -> bool:
        """Whether there is such a file; the ending is left out."""
        return any(os.path.isfile(path + ending) for ending in (".json", ".json.gz"))

    def load_file(self, path: str) -> Any:
        """What it holds; None where there is none."""
        if os.path.isfile(f"{path}.json"):
            return json.loads(Path(f"{path}.json").read_bytes())
        if os.path.isfile(f"{path}.json.gz"):
            return json.loads(gzip.decompress(Path(f"{path}.json.gz").read_bytes()))
        return None


@cache
def _loader() -> Any:
    """Botocore's descriptions of the services: pure data, large, and the same for every session of every lane."""
    return import_module("botocore.loaders").Loader(file_loader=_DataFiles())


def preload() -> None:
    """Import what clients need, and read the descriptions of S3 and SQS, so that processes forked afterwards share it.

    No session, client or connection is made.
    """
    import_module("boto3.s3.inject")  # what boto3 adds to every client of S3; it imports all else
    for service in ("s3", "sqs"):
        _loader().load_service_model(service, "service-2")
        _loader().load_service_model(service, "endpoint-rule-set-1")
    for name in ("endpoints", "partitions", "sdk-default-configuration", "_retry"):
        _loader().load_data(name)


# For what may take its time: three attempts, botocore's default, are over after 2.4 s of SlowDown; eight ride out some
# 45 s. What does not say that it throttles (a reset, a 500, a HEAD's 503) is given up after some 5 s.
_PATIENT = {"retries": {"mode": "standard", "max_attempts": 8}, "connect_timeout": 10, "read_timeout": 60}
_HASTY = {"retries": {"mode": "standard", "max_attempts": 1}, "connect_timeout": 2, "read_timeout": 2}


def s3_client(*, region: str, profile: str = "", endpoint_url: str = "", signs_bodies: bool = True) -> "S3Client":
    """A client of S3; empty values leave the choice to boto3's own search.

    Args:
        region: of the bucket.
        profile: whose credentials.
        endpoint_url: of another service than AWS.
        signs_bodies: False for what is sent with a SHA-256 in a header, which is signed: it is not made twice.

    Raises:
        PipelineError: there is no such profile, or no region.
    """
    options = _PATIENT if signs_bodies else {**_PATIENT, "s3": {"payload_signing_enabled": False}}
    return client("s3", region=region, profile=profile, endpoint_url=endpoint_url, options=options)  # type: ignore[no-any-return]  # one maker for both services


def sqs_client(*, region: str, profile: str = "", endpoint_url: str = "", hasty: bool = False) -> "SQSClient":
    """A client of SQS, as `s3_client`; a hasty one soon gives up, for who has other things to do."""
    options = _HASTY if hasty else _PATIENT
    return client("sqs", region=region, profile=profile, endpoint_url=endpoint_url, options=options)  # type: ignore[no-any-return]  # one maker for both services


def client(service: str, *, region: str, profile: str, endpoint_url: str, options: Mapping[str, Any] = _PATIENT) -> Any:
    """A client of any service, as `s3_client`; `options` are of botocore's `Config`."""
    # A tenth of a second, which only who makes a client is to pay.
    import boto3  # noqa: PLC0415  # as above
    from botocore.config import Config  # noqa: PLC0415  # as above
    from botocore.session import Session  # noqa: PLC0415  # as above

    with failures_named(f"{service} cannot be reached"):
        core = Session(profile=profile or None)
        core.register_component("data_loader", _loader())
        session = boto3.Session(botocore_session=core, region_name=region or None)
        config = Config(
            **options,
            max_pool_connections=64,  # as many as `[download] connections` may be
            # botocore would check single answers only, and by a wrapper that copies every byte: the download step
            # checks the whole object instead.
            response_checksum_validation="when_required",
        )
        return session.client(service, endpoint_url=endpoint_url or None, config=config)


def asked(ask: Callable[[], Answer], *, unwanted: Callable[[Answer], None] = lambda _answer: None) -> Future[Answer]:
    """A question to a service, asked in a thread that nobody has to wait for, not even the end of the process.

    Args:
        ask: the question.
        unwanted: given an answer that comes after the future was cancelled, to be cleared away.
    """
    future: Future[Answer] = Future()

    def work() -> None:
        try:
            answer = ask()
        except BaseException as error:  # noqa: BLE001  # it is raised again in the caller's thread
            with suppress(InvalidStateError):  # nobody waits any more
                future.set_exception(error)
            return
        try:
            future.set_result(answer)
        except InvalidStateError:
            unwanted(answer)

    threading.Thread(target=work, daemon=True, name="asking S3").start()
    return future


def answered(
    ask: Callable[[], Answer], *, waiting: Callable[[], None], unwanted: Callable[[Answer], None] = lambda _answer: None
) -> Answer:
    """What a question to S3 returns, or raises; it may be minutes in coming, and a stop need not wait for it.

    botocore rides out throttling and silence inside a call, for minutes, and nothing can be done about the thread that
    waits there. So it is never the caller's: that one asks its pulse, and leaves the thread behind when it has to end.

    Args:
        ask: the question.
        waiting: called a few times a second until the answer is there; what it raises is raised at once.
        unwanted: given an answer that comes after that, to be cleared away.
    """
    future = asked(ask, unwanted=unwanted)
    try:
        while not wait([future], TICK_SECONDS).done:
            waiting()
    except BaseException:
        if not future.cancel() and future.exception() is None:  # the answer has just come
            unwanted(future.result())
        raise
    return future.result()


def error_code(error: Exception) -> str:
    """The service's own code of a failure, such as `NoSuchKey`; empty for failures that are not the service's."""
    if isinstance(error, botocore.exceptions.ClientError):
        return str(error.response.get("Error", {}).get("Code", ""))
    return ""


def translated(error: Exception, what: str, *, work_rid: str = "", needs: str = "") -> PipelineError:
    """The named failure that a failure of boto3 means.

    Args:
        error: a ClientError, BotoCoreError, or an OSError from the body of an answer.
        what: what was tried, for the text: `download of s3://…`.
        work_rid: the work it was tried for.
        needs: the rights that it takes.
    """
    code = error_code(error)
    text = f"{what}: {code or type(error).__name__}: {error}"
    if code == "InvalidObjectState":
        return NotRestored(
            f"{what}: still frozen in Glacier", work_rid=work_rid, go_on=("restore", work_rid) if work_rid else ()
        )
    if code in _GONE:
        return ObjectGone(f"{what}: {code}: not in the bucket", work_rid=work_rid, facts={"code": code})
    if code in {"PreconditionFailed", "412"}:
        return ObjectReplaced(f"{what}: the object was overwritten", work_rid=work_rid, facts={"code": code})
    if code.endswith("NonExistentQueue") or code == "QueueDoesNotExist":
        by_hand = "look at queue, region, profile and endpoint_url of that source"
        return StorageUnreachable(f"{what}: there is no such queue", work_rid=work_rid, by_hand=by_hand)
    by_hand = "set this machine's clock: S3 refuses requests that are 15 minutes off" if code == _SKEWED else ""
    denied = _denied(error, text, work_rid=work_rid, needs=needs)
    return denied or StorageUnreachable(text, work_rid=work_rid, by_hand=by_hand)


@contextmanager
def failures_named(what: str) -> Iterator[None]:
    """While the block runs, a failure of boto3 is raised as the named one that it means; `what` is what was tried."""
    try:
        yield
    except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError, OSError) as error:
        raise translated(error, what) from error


def _denied(error: Exception, text: str, *, work_rid: str, needs: str) -> PipelineError | None:
    """The failure, if it is one of credentials or rights."""
    code = error_code(error)
    if isinstance(
        error,
        botocore.exceptions.NoCredentialsError
        | botocore.exceptions.PartialCredentialsError
        | botocore.exceptions.ProfileNotFound
        | botocore.exceptions.CredentialRetrievalError,
    ):
        by_hand = "put the credentials, with a section of that name for each profile, into /run/secrets/aws"
        return AccessDenied(
            text, work_rid=work_rid, by_hand=f"{by_hand} or ~/.aws/credentials (docs/settings.md, Secrets)"
        )
    if code in _EXPIRED:
        return CredentialsExpired(text, work_rid=work_rid, by_hand="renew the credentials")
    if code in _DENIED:
        told = needs and code in {"403", "AccessDenied", "AccessDeniedException"}
        missing = f"grant {needs}" if told else "grant the missing right"
        return AccessDenied(text, work_rid=work_rid, by_hand=f"{missing}, or renew the credentials")
    return None
